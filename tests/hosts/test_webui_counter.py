"""What a user reads on the page: the counter, and two fields that only tighten."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from types import ModuleType

import pytest
from PIL import Image

from nsfw_guard.hosts.session import HostGuard
from nsfw_guard.hosts.settings import Settings
from nsfw_guard.hosts.webui.settings import counted, job_fields


def test_the_counter_says_what_was_done(make):
    host, _ = make()
    host.guard_images([Image.new("RGB", (8, 8), (220, 30, 30)), Image.new("RGB", (8, 8), (30, 30, 220))])
    assert counted(host) == "on, marqo, block: 2 checked, 1 covered, 0 prompts refused"
    host.configure(Settings(enabled=False))
    assert counted(host) == "**off**: nothing is checked"


def test_the_counter_says_that_the_owner_locked_it_and_what_is_broken(monkeypatch):
    monkeypatch.setenv("NSFW_GUARD_ACTION", "block")

    def missing(settings, only_tighter):
        raise RuntimeError("run `nsfw-guard fetch marqo`")

    host = HostGuard("test", build=missing)
    assert "locked by the owner" in counted(host)
    host.warm_up()
    assert counted(host).startswith("**every image is covered until this is mended: RuntimeError: run `nsfw-guard")


def test_the_fields_stand_under_the_counter_and_are_off(monkeypatch):
    said: list[str] = []
    gradio = ModuleType("gradio")
    vars(gradio).update(
        Checkbox=dict, Accordion=lambda *_, **__: nullcontext(), Markdown=lambda value: said.append(value())
    )
    monkeypatch.setitem(sys.modules, "gradio", gradio)
    fields = job_fields(lambda: "7 checked")
    assert said == ["7 checked"]
    assert [field["value"] for field in fields] == [False, False]


def test_without_gradio_there_are_no_fields_and_the_hook_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(ImportError):
        job_fields(lambda: "")
