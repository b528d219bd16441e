"""The error tree is what its docstring draws, and every message names its cure."""

from __future__ import annotations

import ast
import builtins
import copy
import inspect
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import nsfw_guard
from nsfw_guard import errors
from nsfw_guard.errors import BlockedError, MissingExtraError, NsfwGuardError, UnknownNameError, suggest
from nsfw_guard.verdict import Outcome, Verdict

CLASSES = {
    name: kind
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and issubclass(kind, BaseException) and kind.__module__ == errors.__name__
}
SOURCES = sorted(Path(nsfw_guard.__file__).parent.rglob("*.py"))
KNOWN = ("default", "lenient", "strict")


def drawn() -> Iterator[tuple[str, str, str]]:
    """Each class of the docstring's tree: its name, its parent's name, and the builtin that stands beside it."""
    parents: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"([│├└─ ]*)([A-Z]\w*Error)\b(?: \((\w+)\))?", line)
        if match:
            depth = len(match[1]) // 4
            parents[depth:] = [match[2]]
            yield match[2], parents[depth - 1] if depth else "Exception", match[3] or ""


TREE = list(drawn())


def test_the_tree_is_drawn_whole() -> None:
    assert [name for name, _, _ in TREE] == list(CLASSES)


@pytest.mark.parametrize(("name", "parent", "builtin"), TREE)
def test_each_error_stands_where_it_is_drawn(name: str, parent: str, builtin: str) -> None:
    bases = [base.__name__ for base in CLASSES[name].__bases__]
    assert bases == [parent, *([builtin] if builtin else [])]


@pytest.mark.parametrize(("name", "builtin"), [(name, builtin) for name, _, builtin in TREE if builtin])
def test_each_error_is_caught_as_the_builtin_it_names(name: str, builtin: str) -> None:
    kind = getattr(builtins, builtin)
    assert issubclass(kind, Exception)
    assert issubclass(CLASSES[name], kind)


def test_one_clause_catches_all_of_them() -> None:
    assert all(issubclass(kind, NsfwGuardError) for kind in CLASSES.values())


def test_every_error_is_public() -> None:
    assert [name for name in CLASSES if name not in nsfw_guard.__all__] == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("strickt", "did you mean 'strict'?"),
        ("Lenient", "did you mean 'lenient'?"),
        ("", "choose from default, lenient, strict"),
        ("zebra", "choose from default, lenient, strict"),
        (3, "choose from default, lenient, strict"),
        (None, "choose from default, lenient, strict"),
    ],
)
def test_the_nearest_spelling_is_named_or_all_there_are(name: object, said: str) -> None:
    assert suggest(name, KNOWN) == said
    assert str(UnknownNameError("policy", name, KNOWN)) == f"unknown policy {name!r}: {said}"


def test_known_names_are_sorted_and_may_be_none_at_all() -> None:
    assert suggest("zebra", iter(("b", "a"))) == "choose from a, b"
    assert suggest("zebra", ()) == "no names are available"


def test_an_unknown_name_cannot_write_to_the_terminal() -> None:
    assert "\x1b" not in str(UnknownNameError("policy", "\x1b[31m", KNOWN))


def test_a_missing_library_names_the_command_that_installs_it() -> None:
    error = MissingExtraError("diffusers", "pipelines")
    assert str(error) == "diffusers is not installed: run `pip install 'nsfw-guard[pipelines]'`"


def test_a_block_says_every_reason_and_carries_the_verdicts() -> None:
    verdicts = Verdict(Outcome.BLOCK, "too red"), Verdict(Outcome.ERROR, "broken")
    assert str(BlockedError(*verdicts)) == "too red; broken"
    assert BlockedError(*verdicts).verdicts == verdicts
    assert str(BlockedError()) == "blocked"


@pytest.mark.parametrize("again", [lambda e: pickle.loads(pickle.dumps(e)), copy.deepcopy], ids=["pickle", "deepcopy"])  # noqa: S301
@pytest.mark.parametrize(
    "error",
    [
        UnknownNameError("policy", "strickt", KNOWN),
        MissingExtraError("diffusers", "diffusers"),
        BlockedError(Verdict(Outcome.BLOCK, "too red")),
        *(kind("a reason") for name, kind in CLASSES.items() if "__init__" not in vars(kind)),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_cross_processes(error: NsfwGuardError, again: object) -> None:
    copied = again(error)  # type: ignore[operator]
    assert type(copied) is type(error)
    assert str(copied) == str(error)
    assert getattr(copied, "verdicts", None) == getattr(error, "verdicts", None)


def raises(tree: ast.AST) -> Iterator[ast.expr]:
    """What is raised, both arms of a conditional."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and node.exc is not None:
            yield from (node.exc.body, node.exc.orelse) if isinstance(node.exc, ast.IfExp) else (node.exc,)


def speechless(source: str) -> list[str]:
    """Our errors that are raised without a message."""
    places = []
    for raised in raises(ast.parse(source)):
        name = ast.unparse(raised.func if isinstance(raised, ast.Call) else raised).rpartition(".")[2]
        if name in CLASSES and not (isinstance(raised, ast.Call) and raised.args):
            places.append(f"line {raised.lineno}: {name}")
    return places


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_nothing_is_raised_without_a_message(path: Path) -> None:
    assert speechless(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source", ["raise ModelError", "raise errors.ModelError()", "raise (ModelError('a') if x else ModelError())"]
)
def test_a_raise_without_a_message_would_be_found(source: str) -> None:
    assert speechless(source) == ["line 1: ModelError"]
