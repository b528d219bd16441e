"""Who in a host draws, saves, encodes or sends images, and which routes it serves: read from its source.

The rows of the exits say what our hooks close. This asks the other way round: each caller that there is must stand in a
row, as closed or as open, so that a new one in a new version of the host is not missed.
"""

from __future__ import annotations

import ast
import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any

from nsfw_guard.errors import ConfigError, UnknownNameError
from nsfw_guard.policy.toml import read_toml

RULES = Path(__file__).parent / "callers.toml"
ADDERS = frozenset({
    "add_api_route", "add_api_websocket_route", "add_delete", "add_get", "add_head", "add_post", "add_put",
    "add_route", "add_static", "add_view", "add_websocket_route", "mount", "static",
})  # fmt: skip
VERBS = ADDERS | {"api_route", "delete", "get", "head", "options", "patch", "post", "put", "route", "view", "websocket"}
OUTPUT_FLAGS = frozenset({"OUTPUT_NODE", "is_output_node"})  # of a node of ComfyUI: what it is handed was cleaned
OUTPUT_NODE = "(an output node)"


class State(enum.Enum):
    """What is known of a caller."""

    IN_A_ROW = "row"
    HARMLESS = "harmless"
    NEW = "new"


@dataclass(frozen=True, order=True)
class Caller:
    """A place in a host's source, by the file, the function around it and what is called there, or the route.

    Example:
        >>> str(Caller("modules/api/process.py", "APIProcess.post_detail", "encode_pil_to_base64"))
        'modules/api/process.py: APIProcess.post_detail calls encode_pil_to_base64'
    """

    file: str
    function: str
    callee: str
    route: str = ""

    def __str__(self) -> str:
        return f"{self.file}: " + (f"route {self.route}" if self.route else f"{self.function} calls {self.callee}")


@dataclass(frozen=True)
class Placed:
    """A caller with its row of the exits, or why it needs none."""

    caller: Caller
    state: State
    text: str = ""


def placed(checkout: Path, host: str) -> list[Placed]:
    """Gives every caller and route of a checkout with the row that it stands in.

    Raises:
        ConfigError: there is no such host in the table, or no such folder.
    """
    table = _table()
    if host not in table:
        raise UnknownNameError("host", host, table)
    if not checkout.is_dir():
        raise ConfigError(f"{checkout} is not a folder: give the checkout of {host}")
    rules = table[host]
    callers = {
        caller: None for file in _files(checkout, rules["folders"]) for caller in _callers(checkout, file, rules)
    }
    return [_place(caller, rules) for caller in sorted(callers)]


def new_callers(checkout: Path, host: str) -> list[str]:
    """Return the callers and routes that stand in no row."""
    return [str(one.caller) for one in placed(checkout, host) if one.state is State.NEW]


@lru_cache(maxsize=1)
def _table() -> Mapping[str, Any]:
    return read_toml(RULES)


def _files(checkout: Path, folders: list[str]) -> Iterator[Path]:
    for name in folders:
        path = checkout / name
        yield from [path] if path.is_file() else sorted(path.rglob("*.py"))


def _callers(checkout: Path, file: Path, rules: Mapping[str, Any]) -> Iterator[Caller]:
    """What one file calls of the names that are looked for; one that cannot be read is a caller of its own."""
    where = file.relative_to(checkout).as_posix()
    calls = frozenset(rules["calls"])
    try:
        source = file.read_text(encoding="utf-8", errors="replace")
        if any(f"{name}(" in source for name in (*calls, *VERBS)):
            yield from _walk(ast.parse(source), where, (), calls, frozenset(rules.get("not_images", ())))
    except (OSError, SyntaxError, ValueError, RecursionError) as error:
        yield Caller(where, "the file", f"what cannot be read ({type(error).__name__})")


def _walk(
    node: ast.AST, file: str, within: tuple[str, ...], calls: frozenset[str], others: frozenset[str]
) -> Iterator[Caller]:
    decorators = getattr(node, "decorator_list", ())
    for child in ast.iter_child_nodes(node):
        inside = within
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            inside = (*within, child.name)
            if isinstance(child, ast.ClassDef) and _is_output(child):
                inside = (*within, child.name, OUTPUT_NODE)
        if isinstance(child, ast.Call):
            owner, callee = _names(child.func)
            if callee in calls and (owner is None or ast.unparse(owner) not in others):
                yield Caller(file, ".".join(inside) or "the module", callee)
            elif callee in VERBS and (
                route := _route(
                    child, sure=callee in ADDERS - set(within) or child in decorators
                )  # who hands on is asked
            ):
                yield Caller(file, "", "", route)
        yield from _walk(child, file, inside, calls, others)


def _names(function: ast.expr) -> tuple[ast.expr | None, str]:
    """What stands before the last point of what is called, and the name behind it."""
    if isinstance(function, ast.Attribute):
        return function.value, function.attr
    return None, function.id if isinstance(function, ast.Name) else ""


def _is_output(node: ast.ClassDef) -> bool:
    """Whether a class says that it is a node that shows or saves."""
    for one in ast.walk(node):
        if isinstance(one, ast.Assign) and any(getattr(name, "id", "") in OUTPUT_FLAGS for name in one.targets):
            return getattr(one.value, "value", False) is True
        if isinstance(one, ast.keyword) and one.arg in OUTPUT_FLAGS:
            return getattr(one.value, "value", False) is True
    return False


def _route(call: ast.Call, *, sure: bool) -> str:
    """The path that a route is added under, where this call adds one; what is not written out is an ellipsis.

    Args:
        sure: the call adds a route, whatever it is handed, and is no part of a function that hands on what adds one.
    """
    named = {one.arg: one.value for one in call.keywords}
    first = call.args[0] if call.args else named.get("path")
    path = _text(first) if first is not None else ""
    return path if (path.startswith("/") and "?" not in path) or (sure and path.startswith("…")) else ""


def _text(expression: ast.expr) -> str:
    """The text that an expression makes, as far as it can be read; nothing where it is a value of another kind."""
    if isinstance(expression, ast.Constant):
        return expression.value if isinstance(expression.value, str) else ""
    if isinstance(expression, ast.JoinedStr):
        return "".join(_text(part) for part in expression.values)
    if isinstance(expression, ast.BinOp) and isinstance(expression.op, ast.Add):
        return _text(expression.left) + _text(expression.right)
    return "…"


def _place(caller: Caller, rules: Mapping[str, Any]) -> Placed:
    """The first rule that fits."""
    for rule in rules["rules"]:
        if _fits(caller, rule):
            state = State.IN_A_ROW if "way" in rule else State.HARMLESS
            return Placed(caller, state, rule.get("way") or rule["harmless"])
    return Placed(caller, State.NEW)


def _fits(caller: Caller, rule: Mapping[str, Any]) -> bool:
    if caller.route or "routes" in rule:
        return bool(caller.route) and any(fnmatchcase(caller.route, one) for one in rule.get("routes", ()))
    asked = (("calls", caller.callee), ("files", caller.file), ("within", caller.function))
    return all(name not in rule or any(fnmatchcase(value, one) for one in rule[name]) for name, value in asked)
