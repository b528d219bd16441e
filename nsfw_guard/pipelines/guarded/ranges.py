"""Whether the tensors that a class returns for `output_type="pt"` are in [0, 1], from the source of its call."""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

from nsfw_guard.imaging.quantise import ValueRange
from nsfw_guard.pipelines.seams import cached_per_class, classify

# Calls that convert a decoder's result to [0, 1], or pass it to code that does.
_TO_UNIT = ("postprocess", "denormalize", "decode_latents", "numpy_to_pil", "convert_vae", "_vae_decoder")
_KIND = "output_type"


@cached_per_class
def tensor_range(cls: Any) -> ValueRange:
    """Return the range of the tensors that a class returns: signed where no step towards "pt" converts them to [0, 1].

    Where the source cannot be read, it is the usual [0, 1]; values beyond it then become an ERROR.
    """
    parts = [part for name in _made_of(cls) if (part := vars(_module(cls)).get(name)) and classify(part).seam]
    if parts:  # it returns the results of these
        return "signed" if "signed" in map(tensor_range, parts) else "unit"
    steps = list(_on_the_way(_call(cls)))
    return "signed" if steps and not any(map(_moves, steps)) else "unit"


def _call(cls: Any) -> list[ast.stmt]:
    """The statements of a class's call, or of the first base that generates and handles "pt"; else none."""
    for base in cls.__mro__:
        try:
            source = textwrap.dedent(inspect.getsource(inspect.unwrap(vars(base)["__call__"])))
            call = ast.parse(source).body[0]
        except (KeyError, OSError, TypeError, SyntaxError):
            continue
        draws = '"pt"' in source and "scheduler.step(" in source  # not one that only returns another call's result
        if draws and isinstance(call, ast.FunctionDef):
            return call.body
    return []


def _made_of(cls: Any) -> set[str]:
    """The pipeline classes of a class's parts."""
    try:
        text = inspect.getsource(cls.__init__)
    except (OSError, TypeError):
        return set()
    return set(re.findall(r"self\.\w+_pipe = (\w+)\(", text))


def _module(cls: Any) -> Any:
    return sys.modules[cls.__module__]


def _on_the_way(statements: list[ast.stmt]) -> Iterator[ast.AST]:
    """Every expression that runs, or may run, for "pt"."""
    for statement in statements:
        if isinstance(statement, ast.If):
            yield statement.test
            truth = _truth(statement.test)
            yield from _on_the_way(statement.body) if truth is not False else ()
            yield from _on_the_way(statement.orelse) if truth is not True else ()
            taken = [] if truth is None else statement.body if truth else statement.orelse
            if taken and isinstance(taken[-1], ast.Return):
                return
            continue
        inner = [part for name in ("body", "orelse", "finalbody") for part in getattr(statement, name, [])]
        if inner:
            yield from _on_the_way(inner)
        else:
            yield statement


def _truth(test: ast.expr) -> bool | None:
    """The value of a condition for "pt"; None where it depends on something else."""
    if isinstance(test, ast.BoolOp):
        parts = [_truth(value) for value in test.values]
        decisive = isinstance(test.op, ast.Or)
        if decisive in parts:
            return decisive
        return None if None in parts else not decisive
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        inner = _truth(test.operand)
        return None if inner is None else not inner
    if not (isinstance(test, ast.Compare) and isinstance(test.left, ast.Name) and test.left.id == _KIND):
        return None
    try:
        wanted = ast.literal_eval(test.comparators[0])
    except ValueError:
        return None
    says = {ast.Eq: wanted == "pt", ast.NotEq: wanted != "pt"}
    if not isinstance(wanted, str):
        says = {ast.In: "pt" in wanted, ast.NotIn: "pt" not in wanted}
    return says.get(type(test.ops[0]))


def _moves(step: ast.AST) -> bool:
    """Whether a step converts an image to [0, 1]."""
    return any(_call_to_unit(node) or _half_and_shift(node) or _clamp(node) for node in ast.walk(step))


def _call_to_unit(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and any(name in node.attr for name in _TO_UNIT)


def _half_and_shift(node: ast.AST) -> bool:
    """Whether it is `x * 0.5 + 0.5` or `x / 2 + 0.5`."""
    return (
        isinstance(node, ast.BinOp)
        and isinstance(node.op, ast.Add)
        and isinstance(node.right, ast.Constant)
        and node.right.value == 0.5
    )


def _clamp(node: ast.AST) -> bool:
    """`x.clamp(0, 1)`."""
    called = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "clamp"
    return called and [getattr(a, "value", None) for a in node.args] == [0, 1]  # type: ignore[attr-defined]
