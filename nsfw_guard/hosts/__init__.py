"""The contract between nsfw_guard and a user interface: what an adapter imports, and nothing else of this folder.

An adapter makes one `HostGuard` a process, hands it every image before the host saves, shows or sends it, and names its
ways out as `Exit`s, so that `status()` can say which of them are closed. `HostGuard` raises no Exception: hosts swallow
them, so a fault covers the images instead.

Example:
    ```python
    from nsfw_guard.hosts import Exit, HostGuard

    guard = HostGuard("my-ui", [Exit("my-ui", "saved files", ("save_hook",), "each image before it is written")])
    guard.warm_up()
    guard.coverage.installed("save_hook")
    (safe,) = guard.guard_images([image], where="save_hook").images
    ```
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nsfw_guard.hosts.coverage import Coverage, Exit
    from nsfw_guard.hosts.session import GuardedImages, HostGuard
    from nsfw_guard.hosts.settings import Settings

_HOME_OF = {
    "Coverage": "coverage",
    "Exit": "coverage",
    "GuardedImages": "session",
    "HostGuard": "session",
    "Settings": "settings",
}

__all__ = ["Coverage", "Exit", "GuardedImages", "HostGuard", "Settings"]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'nsfw_guard.hosts' has no attribute {name!r}")
    return getattr(import_module(f"nsfw_guard.hosts.{_HOME_OF[name]}"), name)
