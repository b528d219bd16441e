"""A guard for every pipeline of this process, opt-in. Pipes are guarded when they run, so `from_pipe` keeps it."""

from __future__ import annotations

import functools
import logging
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from nsfw_guard.errors import ConfigError
from nsfw_guard.guard import Guard
from nsfw_guard.pipelines import seams
from nsfw_guard.pipelines.attach import attach, detach
from nsfw_guard.pipelines.guarded.classes import BASE
from nsfw_guard.pipelines.guarded.inputs import Latents
from nsfw_guard.pipelines.guarded.processors import GUARD_ATTR, vars_of
from nsfw_guard.pipelines.guarded.run import Clips

log = logging.getLogger(__name__)


@dataclass
class _Installed:
    """Everything that was put in place, to remove it again."""

    settings: dict[str, Any]
    calls: dict[type, Any] = field(default_factory=dict)
    pipes: weakref.WeakSet[Any] = field(default_factory=weakref.WeakSet)


_installed: _Installed | None = None
_lock = threading.RLock()


def attach_all(
    guard: Guard, *, latents: Latents, clips: Clips = "whole", margin: int = 8, check_inputs: bool = False
) -> None:
    """Guard every diffusers pipeline of this process from its next call on, including later ones.

    Args:
        guard: the guard.
        latents: required, since it applies to all: "refuse" breaks a base that passes latents to a refiner; "allow"
            lets every pipeline return latents.
        clips, margin, check_inputs: as in `attach`.

    Example:
        ```python
        attach_all(guard, latents="refuse")
        try:
            out = pipe("a blue star on grey", num_inference_steps=10, guidance_scale=3.0)
        finally:
            detach_all()
        ```
    """
    global _installed  # noqa: PLW0603 - one a process is what it is for
    if _installed is not None:
        raise ConfigError("every pipeline already has a guard: call detach_all() first")
    if not isinstance(guard, Guard):
        raise ConfigError(
            f"attach_all expects a Guard, got {type(guard).__name__}: make one with Guard.from_pretrained('marqo')"
        )
    if latents not in {"refuse", "allow"}:
        raise ConfigError(f"latents must be 'refuse' or 'allow', got {latents!r}")
    settings = {"guard": guard, "latents": latents, "clips": clips, "margin": margin, "check_inputs": check_inputs}
    _installed = _Installed(settings)
    for handler in logging.getLogger("diffusers").handlers:
        handler.addFilter(_STANDS_IN)
    for root in _roots():
        _hook(root, _installed)
        for cls in _below(root):
            _wrap(cls, _installed)


def detach_all() -> None:
    """Remove the installed guard from all pipelines.

    Example:
        ```python
        attach_all(guard, latents="refuse")
        detach_all()
        ```
    """
    global _installed
    if _installed is None:
        raise ConfigError("there is no installed guard to detach: call attach_all(guard, latents=...) first")
    gone, _installed = _installed, None
    for handler in logging.getLogger("diffusers").handlers:
        handler.removeFilter(_STANDS_IN)
    for root in _roots():
        del root.__init_subclass__
    for cls, original in gone.calls.items():
        setattr(cls, "__call__", original)  # noqa: B010 - mypy knows no class whose call may change
    for pipe in list(gone.pipes):
        if GUARD_ATTR in vars_of(pipe):
            detach(pipe)


class _StandsIn(logging.Filter):
    """A filter for the warning of diffusers that a safety checker was disabled, while the installed guard judges."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("You have disabled the safety checker")


_STANDS_IN = _StandsIn()


def _roots() -> list[Any]:
    bases = (getattr(seams.library(), name, None) for name in ("DiffusionPipeline", "ModularPipeline"))
    return [root for root in bases if root is not None]


def _below(root: Any) -> Iterator[Any]:
    yield root
    for cls in root.__subclasses__():
        yield from _below(cls)


def _hook(root: Any, installed: _Installed) -> None:
    """Wrap classes when they are defined: diffusers loads its own when they are first used."""

    def __init_subclass__(cls: Any, **kwargs: Any) -> None:  # noqa: N807
        super(root, cls).__init_subclass__(**kwargs)
        _wrap(cls, installed)

    hook: Any = __init_subclass__
    root.__init_subclass__ = classmethod(hook)


def _wrap(cls: Any, installed: _Installed) -> None:
    """Make the call of a class attach the guard first."""
    original = vars(cls).get("__call__")
    if original is None or BASE in vars(cls) or cls in installed.calls:
        return

    @functools.wraps(original)
    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
        if _installed is not installed or GUARD_ATTR in vars(self) or not seams.classify(type(self)).visual:
            return original(self, *args, **kwargs)
        with _lock:
            if GUARD_ATTR not in vars(self):
                attach(self, **installed.settings)
                installed.pipes.add(self)
                log.info("the installed guard was attached to this %s", type(self).__name__)
        return self(*args, **kwargs)

    installed.calls[cls] = original
    cls.__call__ = __call__
