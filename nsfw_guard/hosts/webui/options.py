"""Options of a web UI that would take the guard out at the next start: refused while its owner has locked it."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nsfw_guard.hosts.webui.host import Host, wrap

log = logging.getLogger(__name__)

ONE_BY_ONE, ALL = "disabled_extensions", "disable_all_extensions"


def keep_loaded(host: Host, is_locked: Callable[[], bool], script: str) -> str:
    """Lets no page, API or job set an option that unloads the extension of this script. Gives why not, or nothing."""
    if host.options is None:
        return "this version has no shared.opts"
    folder = Path(script).parent.parent.name if script else ""
    return wrap(type(host.options), "__setattr__", functools.partial(_kept, is_locked, folder))


def unloads(option: str, value: Any, folder: str) -> bool:
    """Return whether an option takes the extension in this folder out; of an unknown folder, whether it
    takes any out.
    """
    if option == ALL:
        return bool(value != "none")
    if option != ONE_BY_ONE:
        return False
    if not isinstance(value, (list, tuple)):
        return True
    return folder.lower() in {str(name).lower() for name in value} if folder else bool(value)


def _kept(is_locked: Callable[[], bool], folder: str, old: Callable[..., None]) -> Callable[..., None]:
    def __setattr__(self: Any, key: str, value: Any) -> None:  # noqa: N807
        if is_locked() and unloads(key, value, folder):
            log.error("NSFW guard: %s stays as it is: the owner of this machine locked the guard", key)
            raise RuntimeError(f"{key}: locked by the owner of this machine")  # hosts answer that it was not updated
        old(self, key, value)

    return __setattr__
