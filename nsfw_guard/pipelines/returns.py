"""Lists what each pipeline class of diffusers returns, from the source of its call, and how each part is treated.

`leaving` decides on values when they are returned; this module lists them beforehand, so that a class of a new release
that returns something else is noticed before it runs.
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
    """How one part of a call's result is treated."""

    JUDGED = "judged"
    HELD = "held back if something was flagged"
    MARK = "released if it contains flags, numbers or words; else judged"
    OTHER = "released as sound, text or numbers; judged if it looks like images"
    REFUSED = "the class is refused"
    SILENT = "the class makes no images"


@dataclass(frozen=True, order=True)
class Part:
    """One part of the result of a class.

    Args:
        cls: the class.
        place: the field of an output, or the index in a tuple; 0 for a bare value.
        source: the source of its expression.
        name: the name by which the part is treated.
    """

    cls: str
    place: str
    source: str
    name: str
    fate: Fate


def returns() -> list[Part]:
    """Return every part of the results of every class in the installed diffusers."""
    return [part for cls in classes() for part in parts_of(cls)]


def parts_of(cls: Any) -> list[Part]:
    """Return the parts of the result of one class; modular classes return a state, which is judged as a whole."""
    if seams.is_modular(cls):
        return [Part(cls.__name__, "state", "", "", _fate(cls, ""))]
    seen = {}
    for value in _returned(cls):
        for place, source, name in _taken_apart(cls, value):
            seen[place, name, source] = Part(cls.__name__, place, source, name, _fate(cls, name))
    return list(seen.values())


def _returned(cls: Any) -> Iterator[ast.expr]:
    """The expression of each `return` in a class's own call."""
    try:
        call = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(cls.__call__)))).body[0]
    except (OSError, TypeError, SyntaxError):
        return
    yield from _values(call)


def _values(node: ast.AST) -> Iterator[ast.expr]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Return) and child.value is not None:
            yield child.value
        elif not isinstance(child, (ast.FunctionDef, ast.Lambda)):  # not those of inner functions
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
