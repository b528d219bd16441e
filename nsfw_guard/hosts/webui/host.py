"""Which web UI this is and what of it exists: one probe, and wraps that can be put on twice without nesting."""

from __future__ import annotations

import functools
import importlib
import logging
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, Literal

from nsfw_guard.errors import ConfigError

log = logging.getLogger(__name__)

Family = Literal["sdnext", "a1111"]
WRAPPED_ATTR = "__nsfw_guard__"  # on everything that was wrapped


class Host:
    """The modules of a running web UI, found when they are asked for."""

    def __init__(self) -> None:
        callbacks = self.module("modules.script_callbacks")
        if callbacks is None:
            raise ConfigError(
                "no web UI runs here: load this from the scripts folder of an extension of sdnext or A1111"
            )
        both = hasattr(callbacks, "on_before_process") and hasattr(callbacks, "on_after_process")
        self.family: Family = "sdnext" if both else "a1111"

    def module(self, name: str, *, load: bool = True) -> Any:
        """Return a module of the host, or None. `load`: it may be imported where it is not yet."""
        if name in sys.modules or not load:
            return sys.modules.get(name)
        try:
            return importlib.import_module(name)
        except Exception as error:  # noqa: BLE001  (another version of the host: its absence is what is asked for)
            log.debug("%s is not there: %s", name, error)
            return None

    def get(self, module: str, name: str) -> Any:
        """Return something of a module, or None."""
        return getattr(self.module(module), name, None)

    @property
    def state(self) -> Any:
        """`shared.state`."""
        return self.get("modules.shared", "state")

    @property
    def options(self) -> Any:
        """`shared.opts`."""
        return self.get("modules.shared", "opts")


def wrap(owner: Any, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> str:
    """Puts a wrap around a function, also where other modules imported it by name. Gives why not, or nothing.

    One that is wrapped already stays as it is.
    """
    old = getattr(owner, name, None)
    if old is None:
        return f"this version has no {name}"
    if getattr(old, WRAPPED_ATTR, False):
        return ""
    new = functools.wraps(old)(make(old))
    setattr(new, WRAPPED_ATTR, True)
    setattr(owner, name, new)
    if isinstance(owner, ModuleType):
        _rebind(old, new)
    return ""


def _rebind(old: Any, new: Any) -> None:
    """Hands the new function to every module that had imported the old one."""
    for module in list(sys.modules.values()):
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if value is old and name != "__wrapped__":
                setattr(module, name, new)
