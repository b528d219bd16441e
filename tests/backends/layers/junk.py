"""Every place of a JSON value with something else in it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

JUNK = (None, True, -1, 0, 1e9, 2.5, "x", "", [], {}, [[{}]], {"a": []}, [None, None])


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of everything in a value."""
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in below:
        yield (*path, key)
        yield from places(inner, (*path, key))


def spoiled(value: Any) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Copies of a value, each with one place left out, or with junk in it."""
    for path in places(value):
        for junk in (*JUNK, "left out"):
            copied = copy.deepcopy(value)
            inner = copied
            for key in path[:-1]:
                inner = inner[key]
            if junk == "left out":
                del inner[path[-1]]
            else:
                inner[path[-1]] = copy.deepcopy(junk)
            yield path, copied
