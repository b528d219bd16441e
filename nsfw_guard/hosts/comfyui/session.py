"""ComfyUI: one guard a process, whether it is enforced on every graph, and guards for single nodes.

Nothing of the host is imported before `start`.
"""

from __future__ import annotations

import importlib
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from nsfw_guard.backends.base import Backend
from nsfw_guard.guard import Guard
from nsfw_guard.hosts.build import build_guard, load_from
from nsfw_guard.hosts.comfyui.enforce import HELPER, Enforcement
from nsfw_guard.hosts.comfyui.exits import COMFYUI
from nsfw_guard.hosts.comfyui.routes import add_status
from nsfw_guard.hosts.session import HostGuard
from nsfw_guard.hosts.settings import Settings
from nsfw_guard.policy.policy import Policy

log = logging.getLogger(__name__)

ENFORCE = "NSFW_GUARD_ENFORCE"
LATENTS = "NSFW_GUARD_ALLOW_LATENTS"
AS_SET = "as set"
MAX_GUARDS = 8
OFF = {"0", "false", "no", "off"}
Load = Callable[[Settings], Backend]


class Comfy:
    """The guard of this process and what hangs on it.

    Args:
        load: makes the model; called when the first image comes.
    """

    def __init__(self, *, load: Load = load_from) -> None:
        self._load, self._lock = load, threading.RLock()
        self._models: dict[tuple[str, str, str], Backend] = {}
        self._others: OrderedDict[str, HostGuard] = OrderedDict()
        self.guard = HostGuard("comfyui", COMFYUI, build=self._build)
        self.enforced = False

    def start(self, environment: Mapping[str, str] | None = None, *, find: Callable[[str], Any] | None = None) -> bool:
        """Enforces, unless its owner wants the nodes alone (`NSFW_GUARD_ENFORCE=0`); says whether it does.

        Locked settings are enforced in any case.

        Args:
            environment: in place of the process's own.
            find: gives a module of the host by name.

        Raises:
            UncoveredError: this host cannot be covered: all its nodes are stopped.
        """
        environ = os.environ if environment is None else environment
        load = find or importlib.import_module
        self._tell(load)
        if self.guard.locked_settings is None and environ.get(ENFORCE, "").strip().lower() in OFF:
            return False
        modules = [_module(name, load) for name in ("execution", "latent_preview", "server", HELPER)]
        Enforcement(self.guard, latents=_on(environ, LATENTS)).install(*modules)
        self.enforced = True
        self.guard.warm_up()
        if self.guard.coverage.open:
            log.error("not covered on this version of ComfyUI: %s", "; ".join(self.guard.coverage.open))
        return True

    def coverage(self) -> list[dict[str, str]]:
        """Return each way out of this host with its state."""
        return self.guard.coverage.rows()

    def status(self) -> dict[str, Any]:
        """Return what is in effect, and whether it is on every graph."""
        return {**self.guard.status(), "enforced": self.enforced, "coverage": self.coverage()}

    def _tell(self, find: Callable[[str], Any]) -> None:
        """Adds the route by which one can ask; images are judged without it as well."""
        try:
            add_status(_module("server", find), self.status)
        except Exception as error:  # noqa: BLE001
            log.error("NSFW guard: no route for its state: %s", error)

    def guard_for(
        self, *, action: str = AS_SET, strength: float = 0.0, threshold: float = 0.0, policy: str = AS_SET
    ) -> HostGuard:
        """Return a guard for one node. Where the owner locked the settings a node can only tighten them.

        Args:
            action, policy: as in Settings, or "as set".
            strength, threshold: as in Settings, for all categories; 0 is as set.
        """
        main = self.guard
        wanted = replace(
            main.settings,
            action=main.settings.action if action == AS_SET else action,
            policy=main.settings.policy if policy == AS_SET else policy,
            strength=strength or main.settings.strength,
        )
        if main.locked_settings is not None:
            wanted = main.locked_settings.tightened(wanted)
        if wanted == main.settings and not threshold:
            return main
        key = f"{wanted!r} {threshold!r}"
        with self._lock:
            if key not in self._others:
                host_guard = HostGuard("comfyui", build=partial(self._build, threshold=threshold))
                host_guard.configure(wanted)
                self._others[key] = host_guard
            self._others.move_to_end(key)
            while len(self._others) > MAX_GUARDS:
                self._others.popitem(last=False)
            return self._others[key]

    def _build(self, settings: Settings, only_tighter: bool, *, threshold: float = 0.0) -> Guard:
        """A guard on the model that all guards of this process share."""
        key = (settings.model, settings.device, settings.weights)
        with self._lock:
            if key not in self._models:
                self._models[key] = self._load(settings)
            backend = self._models[key]
        if threshold:
            spec = backend.spec
            rules = Policy.load(settings.policy).bind(spec).rules
            thresholds = settings.thresholds if only_tighter else {}
            settings = replace(
                settings,
                thresholds={c: min(threshold, thresholds.get(c, threshold)) for c in {**thresholds, **dict(rules)}},
            )
        return build_guard(settings, only_tighter, backend=backend)


def _on(environ: Mapping[str, str], name: str) -> bool:
    return environ.get(name, "").strip().lower() not in {"", *OFF}


def _module(name: str, find: Callable[[str], Any]) -> Any:
    try:
        return find(name)
    except ImportError:
        return None


_comfy: Comfy | None = None
_lock = threading.Lock()


def session() -> Comfy:
    """Return the one of this process, however often the host loads the custom node."""
    global _comfy  # noqa: PLW0603  (the host may load the entry file twice: the guard must outlive it)
    with _lock:
        if _comfy is None:
            _comfy = Comfy()
        return _comfy


def start() -> bool:
    """Start the adapter for the custom node's entry file, and say in one line of the log what is in effect."""
    enforced = session().start()
    if enforced:
        session().guard.announce("on every graph")
    else:
        log.warning("NSFW guard: OFF but for its own nodes, since %s is 0", ENFORCE)
    return enforced


def coverage() -> list[dict[str, str]]:
    """Return each way out of this host with its state."""
    return session().coverage()
