"""What differs between hosts and versions: what is not there is told, what cannot be changed is gone round."""

from __future__ import annotations

import functools
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from nsfw_guard.errors import ConfigError
from nsfw_guard.hosts.webui import adapter, wraps
from nsfw_guard.hosts.webui.host import Host, wrap
from nsfw_guard.hosts.webui.job_images import Job as Told
from nsfw_guard.hosts.webui.jobs import JOB
from tests.hosts.fake_webui import KINDS, Job, Params
from tests.hosts.webui_worlds import World, holds, leaks, red, safe

FAMILIES = ["sdnext", "a1111"]


def test_without_a_host_there_is_no_adapter():
    with pytest.raises(ConfigError, match="no web UI runs here"):
        Host()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_families_are_told_apart(family, monkeypatch):
    KINDS[family](monkeypatch)
    assert Host().family == family


@pytest.mark.parametrize("family", FAMILIES)
def test_one_adapter_a_process(family, monkeypatch):
    world = World(family, monkeypatch)
    assert world.host.load().GUARD is world.adapter is adapter.adapter()


def test_what_a_version_lacks_is_open_and_said(monkeypatch, caplog):
    world = World("sdnext", monkeypatch, load=False)
    for name in ("modules.framepack.framepack_vae", "modules.video", "installer"):
        monkeypatch.delitem(__import__("sys").modules, name)
    del world.host.modules["modules.script_callbacks"].on_image_grid
    world.host.load()
    opened = world.adapter.guard.coverage.open
    assert "live previews of FramePack" in opened
    assert "Control tab, scripts" in opened
    assert "live previews by grid" in opened
    assert "not closed on this version of the host: live previews of FramePack" in caplog.text
    assert "samples on disk" not in opened
    world.host.process_images(Job(red(), previews=True))
    assert not leaks(world.host)


def test_a_callback_that_cannot_be_registered_is_said(monkeypatch):
    world = World("a1111", monkeypatch, load=False)

    def refuses(method):
        raise TypeError("another signature")

    world.host.modules["modules.script_callbacks"].on_before_image_saved = refuses
    world.host.load()
    assert "samples on disk" in world.adapter.guard.coverage.open


@pytest.mark.parametrize("family", FAMILIES)
def test_when_the_adapter_cannot_register_the_script_covers_everything(family, monkeypatch):
    world = World(family, monkeypatch, load=False)
    monkeypatch.setattr(world.adapter, "register", lambda: 1 / 0)
    world.host.load()
    world.host.process_images(Job(safe(), previews=True))
    assert not any(holds(world.host, sink, safe()) for sink in ("disk", "gallery", "api", "preview"))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_host_that_serves_its_api_only_uses_the_saved_options(family, monkeypatch):
    world = World(family, monkeypatch, load=False, nsfw_guard_action="replace")
    monkeypatch.setattr(world.host, "callbacks", {**world.host.callbacks, "ui_settings": []})
    world.host.load()
    assert world.adapter.guard.settings.action == "replace"


def test_a_host_without_a_page_keeps_the_defaults(monkeypatch, caplog):
    world = World("a1111", monkeypatch, load=False)
    monkeypatch.setattr(world.host.modules["modules.shared"], "opts", object())
    world.host.load()
    assert world.adapter.guard.settings.enabled
    assert "no settings page" in caplog.text


def test_a_function_is_wrapped_once_wherever_it_was_imported(monkeypatch):
    host = KINDS["sdnext"](monkeypatch)
    old = host.writer.save_video
    for _ in range(3):
        assert wrap(host.writer, "save_video", functools.partial) == ""
    assert host.worker.save_video is host.writer.save_video
    assert host.writer.save_video.__wrapped__ is old
    assert "no gone" in wrap(host.writer, "gone", lambda f: f)


def test_a_writer_that_names_its_frames_otherwise_writes_nothing(monkeypatch):
    world, written = World("sdnext", monkeypatch, load=False), []
    world.host.writer.save_video = lambda p, frames=None, binary=None: written.append(frames)
    world.host.load()
    with pytest.raises(ValueError, match="takes no argument 'pixels', so no video is written"):
        world.host.writer.save_video(None, frames=[Image.fromarray(red())])
    assert written == []


@pytest.mark.parametrize("kind", [(), ("Preview",), ("Sketch",)], ids=str)
def test_what_framepack_decodes_for_anything_but_the_video_is_covered(kind, monkeypatch):
    world = World("sdnext", monkeypatch, nsfw_guard_previews="hide")
    assert not np.array_equal(world.host.vae.vae_decode(safe(), *kind), safe())
    assert np.array_equal(world.host.vae.vae_decode(safe(), "Full"), safe())


def test_a_state_whose_class_cannot_be_changed_is_wrapped_at_its_method(monkeypatch):
    world = World("a1111", monkeypatch, load=False)

    class Fixed(type):
        def __setattr__(cls, name, value):
            raise TypeError("fixed")

    class State(metaclass=Fixed):
        current_image = None

        def assign_current_image(self, image):
            self.current_image = image

    state = State()
    monkeypatch.setattr(world.host.modules["modules.shared"], "state", state)
    world.host.load()
    state.assign_current_image(Image.fromarray(red()))
    assert np.asarray(state.current_image).max() == 0


def test_a_preview_that_was_shown_before_the_guard_came_is_covered(monkeypatch):
    world = World("sdnext", monkeypatch, load=False)
    world.host.state.current_image = Image.fromarray(red())
    world.host.load()
    assert not np.array_equal(np.asarray(world.host.state.current_image), red())
    world.host.state.current_image = Image.fromarray(red())
    assert np.asarray(world.host.state.current_image).max() == 0
    world.host.state.current_image = None
    assert world.host.state.current_image is None


def test_previews_of_many_frames_and_of_no_kind_that_is_known(monkeypatch):
    world = World("sdnext", monkeypatch)
    result = wraps.shown(world.adapter, np.stack([red(), safe()]))
    assert np.asarray(result[0]).max() == 0
    assert np.array_equal(result[1], safe())
    assert isinstance(wraps.shown(world.adapter, "a.png"), Image.Image)


def test_a_preview_that_cannot_be_covered_is_not_shown(monkeypatch):
    world = World("sdnext", monkeypatch)
    monkeypatch.setattr(world.adapter, "preview", lambda image: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        world.host.state.current_image = Image.fromarray(red())
    assert world.host.state.current_image is None


def test_a_job_within_a_job_is_as_tight_as_the_outer_one(monkeypatch):
    world = World("sdnext", monkeypatch, nsfw_guard_action="flag")
    jobs = world.adapter.jobs
    outer, inner = Job(), Job()
    jobs.start(outer, True, running=True)
    jobs.start(inner, running=True)
    assert jobs.of(inner).solid
    assert jobs.of(None) == jobs.of(inner)
    jobs.end(inner)
    assert jobs.of(None) == jobs.of(outer)
    jobs.end(outer)
    assert jobs.of(None) == Told()


def test_jobs_that_never_ended_are_forgotten(monkeypatch):
    world = World("sdnext", monkeypatch)
    world.adapter.jobs.start(Job(prompt="a dragon"), True)
    assert world.adapter.jobs.current == Told()  # a host may break off before it really begins
    for _ in range(20):
        world.adapter.jobs.start(Job(), running=True)
    assert len(world.adapter.jobs._running) == 8


def test_a_job_that_holds_no_attributes_is_known_while_it_runs(monkeypatch):
    world = World("a1111", monkeypatch)

    class Slots:
        __slots__ = ("prompt",)

    p = Slots()
    p.prompt = "a dragon"
    world.adapter.before_process(p)
    assert not hasattr(p, JOB)
    assert world.adapter.jobs.of(p).refused is not None
    assert world.adapter.jobs.instead(p) is None  # it has no size: it is drawn, and covered
    pp = Params(image=Image.fromarray(safe()))
    world.adapter.postprocess_image(p, pp)
    assert not np.array_equal(np.asarray(pp.image), safe())


@pytest.mark.parametrize("prompt", [3, object(), ["a lighthouse", 5], {"a": 1}])
@pytest.mark.parametrize("family", FAMILIES)
def test_prompts_of_no_kind_that_is_known_are_refused(family, prompt, monkeypatch):
    world = World(family, monkeypatch)
    world.adapter.before_process(p := Job(prompt=prompt))
    assert world.adapter.jobs.of(p).refused is not None


def test_prompts_that_cannot_even_be_compared_are_refused(monkeypatch):
    world = World("sdnext", monkeypatch)
    world.adapter.before_process(p := Job(prompt=np.zeros(3)))
    assert world.adapter.jobs.of(p).refused is not None


@pytest.mark.parametrize("family", FAMILIES)
def test_a_guard_that_is_off_touches_nothing(family, monkeypatch):
    world = World(family, monkeypatch, nsfw_guard_enabled=False)
    world.host.process_images(Job(red(), previews=True, prompt="a dragon", script_args=(True, True)))
    assert all(holds(world.host, sink, red()) for sink in ("disk", "gallery", "api", "preview"))
    assert "nsfw_guard" not in world.host.sinks["metadata"][0]
    assert world.backend.frames == 0
    if family == "sdnext":
        world.host.framepack(red())
        world.host.files.save_video(None, [Image.fromarray(red())])
        assert all(np.array_equal(one, red()) for one in world.host.sinks["video"])


def test_extra_images_of_the_extras_tab_are_swept(monkeypatch):
    world = World("a1111", monkeypatch)
    more = SimpleNamespace(image=Image.fromarray(red()))
    raw = Image.fromarray(red())
    pp = Params(image=Image.fromarray(safe()), info={}, extra_images=[more, raw])
    world.adapter.postprocess_extras(pp)
    assert np.asarray(more.image).max() == np.asarray(raw).max() == 0
    assert np.array_equal(np.asarray(pp.image), safe())
    assert pp.info["NSFW guard"].startswith("allow: ")


def test_a_result_that_is_a_tuple_of_images_is_exchanged(monkeypatch):
    world = World("a1111", monkeypatch)
    held = Params(images=(Image.fromarray(red()),), extra_images=None, bytes=None)
    assert world.adapter.returned(Job(), held) is held
    assert np.asarray(held.images[0]).max() == 0
    assert world.adapter.returned(Job(), None) is None


def test_a_result_that_cannot_be_swept_is_painted(monkeypatch):
    world = World("a1111", monkeypatch)
    monkeypatch.setattr(world.adapter, "_result", lambda *args: 1 / 0)
    world.host.process_images(Job(safe(), save=False))
    assert not holds(world.host, "api", safe())
