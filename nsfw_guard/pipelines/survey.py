"""Every pipeline class of the installed diffusers, with its seam or the reason why it has none."""

from __future__ import annotations

import importlib
import pkgutil
import warnings
from collections.abc import Iterator

from nsfw_guard.pipelines.seams import SeamInfo, classify, library


def survey() -> dict[str, SeamInfo]:
    """Return the seam of each callable class, by name."""
    return {cls.__name__: classify(cls) for cls in classes()}


def classes() -> list[type]:
    """Return the classes, sorted by name."""
    roots = (getattr(library(), name, None) for name in ("DiffusionPipeline", "ModularPipeline"))
    bases = tuple(base for base in roots if base is not None)
    return sorted(set(_classes(bases)), key=lambda cls: cls.__name__)


def _classes(bases: tuple[type, ...]) -> Iterator[type]:
    for part in ("pipelines", "modular_pipelines"):
        try:
            package = importlib.import_module(f"diffusers.{part}")
        except ImportError:  # releases without modular pipelines
            continue
        for module in pkgutil.walk_packages(package.__path__, f"diffusers.{part}."):
            for value in _names(module.name):
                if isinstance(value, type) and value.__module__ == module.name and _called(value, bases):
                    yield value


def _called(cls: type, bases: tuple[type, ...]) -> bool:
    return issubclass(cls, bases) and cls not in bases and "__call__" in dir(cls)


def _names(module: str) -> list[object]:
    """The names that a module of diffusers defines, or none where it needs a library that is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of these modules are deprecated
        try:
            return list(vars(importlib.import_module(module)).values())
        except (ImportError, RuntimeError):
            return []
