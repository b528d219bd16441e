"""What each pipeline class of diffusers returns, read from its call, and what becomes of every part of it.

The other side of `leaving`: that module decides by what a thing is when it leaves; this one lists what there is to
leave, so that a class of a new release which returns something else is seen before it runs.
"""

from __future__ import annotations

import ast
import enum
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nsfw_guard.pipelines import seams
from nsfw_guard.pipelines.survey import classes


class Fate(enum.Enum):
    """What becomes of one part of what a call returns."""

    JUDGED = "judged"
    HELD = "held back where something was flagged"
    MARK = "passes where it holds flags, numbers or words; judged else"
    OTHER = "passes as sound, text or numbers; judged where it looks like pictures"
    REFUSED = "the class is refused"
    SILENT = "the class makes no pictures"


@dataclass(frozen=True, order=True)
class Part:
    """One part of what a class returns.

    Args:
        cls: the class.
        place: the field of an output, or the number of the place in a tuple; 0 for a bare value.
        source: the expression that stands there.
        name: what the part is taken for.
    """

    cls: str
    place: str
    source: str
    name: str
    fate: Fate


def returns() -> list[Part]:
    """Gives every part of what every class of the installed diffusers returns."""
    return [part for cls in classes() for part in parts_of(cls)]


def parts_of(cls: Any) -> list[Part]:
    """Gives the parts of what one class returns; modular ones hand on a state, which is judged whole."""
    if seams.is_modular(cls):
        return [Part(cls.__name__, "state", "", "", _fate(cls, ""))]
    seen = {}
    for value in _returned(cls):
        for place, source, name in _taken_apart(cls, value):
            seen[place, name, source] = Part(cls.__name__, place, source, name, _fate(cls, name))
    return list(seen.values())


def _returned(cls: Any) -> Iterator[ast.expr]:
    """What stands behind each `return` of a class's own call."""
    try:
        call = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(cls.__call__)))).body[0]
    except (OSError, TypeError, SyntaxError):
        return
    yield from _values(call)


def _values(node: ast.AST) -> Iterator[ast.expr]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Return) and child.value is not None:
            yield child.value
        elif not isinstance(child, (ast.FunctionDef, ast.Lambda)):  # what functions inside of it return stays inside
            yield from _values(child)


def _taken_apart(cls: Any, value: ast.expr) -> Iterator[tuple[str, str, str]]:
    """The place, the source and the name of each part of one returned expression."""
    if isinstance(value, ast.Tuple):
        names = seams.tuple_fields(cls, len(value.elts))
        for index, element in enumerate(value.elts):
            yield str(index), ast.unparse(element), names[index] if index < len(names) else ""
    elif isinstance(value, ast.Call) and ast.unparse(value.func).endswith("Output"):
        fields = next((f for f in seams.outputs_of(cls) if len(f) >= len(value.args)), ())
        for name, element in zip(fields, value.args, strict=False):
            yield name, ast.unparse(element), name
        for keyword in value.keywords:
            yield str(keyword.arg), ast.unparse(keyword.value), str(keyword.arg)
    else:
        yield "0", ast.unparse(value), ""


def _fate(cls: Any, name: str) -> Fate:
    seam = seams.classify(cls)
    if not seam.visual:
        return Fate.SILENT
    if not seam.seam:
        return Fate.REFUSED
    if name in seams.WITHHELD_FIELDS:
        return Fate.HELD
    if name in seams.MARKS:
        return Fate.MARK
    return Fate.OTHER if name in seams.OTHER else Fate.JUDGED
