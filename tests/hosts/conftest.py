"""A guard for hosts that knows strong red, and counts what it is asked."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nsfw_guard.guard import Guard
from nsfw_guard.hosts.build import _action
from nsfw_guard.hosts.session import HostGuard
from nsfw_guard.hosts.settings import Settings
from nsfw_guard.testing import FakeBackend


@pytest.fixture(autouse=True)
def unlocked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of this machine reach a test."""
    import os

    for name in [name for name in os.environ if name.startswith("NSFW_GUARD_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def make() -> Callable[..., tuple[HostGuard, FakeBackend]]:
    """A HostGuard with its backend."""

    def result(backend: FakeBackend | None = None, **settings: object) -> tuple[HostGuard, FakeBackend]:
        asked = backend or FakeBackend()

        def build(payload: Settings, only_tighter: bool) -> Guard:
            return Guard(asked, policy=payload.policy, action=_action(payload), timeout=payload.timeout)

        host = HostGuard("test", build=build)
        host.configure(Settings(**{"action": "block", **settings}))
        return host, asked

    return result
