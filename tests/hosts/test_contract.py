"""What an adapter of another user interface may rely on."""

from __future__ import annotations

import pytest
from PIL import Image

from nsfw_guard import hosts
from nsfw_guard.guard import Guard
from nsfw_guard.testing import FakeBackend


def test_every_name_of_the_contract_is_there_and_no_other_is() -> None:
    assert hosts.__all__ == sorted(hosts._HOME_OF)
    assert all(isinstance(getattr(hosts, name), type) for name in hosts.__all__)
    with pytest.raises(AttributeError, match="no attribute 'HostGard'"):
        _ = hosts.HostGard


def test_an_adapter_of_six_lines_covers_and_says_what_is_closed() -> None:
    exits = [
        hosts.Exit("my-ui", "saved files", ("save_hook",), "each image before it is written"),
        hosts.Exit("my-ui", "previews", ("preview_hook",), "each preview before it is sent"),
    ]
    guard = hosts.HostGuard("my-ui", exits, build=lambda *_: Guard(FakeBackend()))
    guard.coverage.installed("save_hook")
    red, blue = Image.new("RGB", (16, 16), "red"), Image.new("RGB", (16, 16), "blue")
    guarded = guard.guard_images([red, blue], where="save_hook")
    assert isinstance(guarded, hosts.GuardedImages)
    assert guarded.covered == [True, False]
    assert guarded.images[1] is blue
    assert [row["state"] for row in guard.coverage.rows()] == ["closed", "open: preview_hook (not installed)"]
