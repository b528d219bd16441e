"""Every way out of a web UI: the marker reaches no sink, a safe image all of them, no row is for nothing."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from PIL import Image

from nsfw_guard.hosts.webui.exits import A1111, SDNEXT
from tests.hosts.fake_webui import FakeHost, Job, Params, floats
from tests.hosts.webui_worlds import World, holds, leaks, red, safe

EXITS = {"sdnext": SDNEXT, "a1111": A1111}
Pixels = np.ndarray


@dataclass(frozen=True)
class Way:
    """How an image is sent out by one row of the table, and which sinks it reaches.

    `beside`: hooks that stay in place when the others are taken out, since the row lets them run.
    `released`: whether a safe image leaves by it at all.
    """

    run: Callable[[FakeHost, Pixels], object]
    sinks: tuple[str, ...]
    beside: tuple[str, ...] = ()
    released: bool = True


def job(**payload):
    """A job that draws two of the image, with these marks."""
    return lambda host, image: host.process_images(Job(image.copy(), image.copy(), **payload))


def bytes_of(image: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def over(**payload):
    """A job that draws something harmless; the image comes in later."""
    return lambda host, image: host.process_images(Job(safe(9), **dict.fromkeys(payload, image)))


def video(host: FakeHost, image: Pixels) -> None:
    pixels = torch.from_numpy(image).permute(2, 0, 1).float()[None, :, None].repeat(1, 1, 2, 1, 1) / 127.5 - 1.0
    host.writer.save_video(None, pixels=pixels, mp4_frames=True)


def video_file(host: FakeHost, image: Pixels) -> None:
    host.files.save_video(None, [Image.fromarray(image), Image.fromarray(image)])


def video_bytes(host: FakeHost, image: Pixels) -> None:
    host.process_images(Job(safe(9), video_bytes=bytes_of(image)))
    host.writer.save_video(None, binary=bytes_of(image))


def extras(host: FakeHost, image: Pixels) -> None:
    host.extras(Image.fromarray(image), save=False)


def xyz(host: FakeHost, image: Pixels) -> None:
    """Each cell is a job of its own; the grid is saved as an image."""
    cells = [host.process_images(Job(image.copy())).images[0] for _ in range(2)]
    host.save_image(host.image_grid(cells))


def dragon(host: FakeHost, image: Pixels) -> None:
    host.process_images(Job(image, prompt="a dragon"))


def both(*runs):
    return lambda host, image: [run(host, image) for run in runs]


def neighbour(host: FakeHost, image: Pixels) -> None:
    """Another extension whose callbacks run behind the guard's, and put this image in the place of each."""
    host.callbacks["before_image_saved"].append(lambda params: setattr(params, "image", Image.fromarray(image)))
    if host.family == "sdnext":
        shown = Image.fromarray(image)
        host.callbacks["after_process"].append(lambda p: setattr(host.processing.processed, "images", [shown]))
    host.process_images(Job(safe(9)))


RESULT = ("gallery", "api")
WAYS: dict[str, dict[str, Way]] = {
    "sdnext": {
        "samples on disk": Way(job(), ("disk",)),
        "result list, gallery and API answer": Way(job(), RESULT),
        "samples while they are worked on": Way(job(), ("disk", "api")),
        "batches of arrays": Way(job(), ("disk", "api")),
        "live previews by grid": Way(job(previews=True), ("preview",)),
        "live previews set by a pipeline": Way(job(pipeline_previews=True), ("preview",)),
        "live previews of FramePack": Way(lambda host, image: host.framepack(image), ("preview",)),
        "interrupted or skipped jobs": Way(job(interrupt=True), ("disk", *RESULT)),
        "jobs without scripts, such as LTX": Way(job(scripts=None, as_pil=True), ("disk", *RESULT)),
        "routes that call the inner function: /sdapi/v1/detail": Way(lambda host, image: host.detail(image), ("api",)),
        "video: frames, thumbnails, tensors, files": Way(video, ("video",)),
        "video of FramePack": Way(lambda host, image: host.framepack(image, image), ("video",)),
        "video of the Video, XYZ and AnimateDiff scripts": Way(video_file, ("video",)),
        "video as bytes": Way(video_bytes, ("video",), released=False),
        "Control tab": Way(job(control=True), ("disk", *RESULT)),
        "Control tab, scripts": Way(job(control=True), ("disk",), beside=("Script.postprocess_image",)),
        "inpainting: what is pasted back": Way(over(overlay=1), ("disk", *RESULT)),
        "grading, resize and detailer after the hooks": Way(over(graded=1), ("disk", *RESULT)),
        "steps between on disk: hires, detailer, colour": Way(over(hires=1), ("disk",)),
        "Process tab and API": Way(extras, ("extras",)),
        "jobs that save nothing": Way(job(save=False), RESULT),
        "grids, also of XYZ": Way(both(job(grid=True), xyz), ("disk", "gallery", "api")),
        "what a script of the menu puts together": Way(lambda host, image: host.selected(image), RESULT),
        "temporary files of the gallery, history": Way(job(save=False), ("temp",)),
        "prompts that the policy refuses": Way(dragon, ("drawn",), released=False),
        "what another extension's callback makes of an image": Way(neighbour, ("disk", *RESULT)),
        "metadata": Way(job(), ("disk",)),
    },
    "a1111": {
        "samples on disk": Way(job(), ("disk",)),
        "result list, gallery and API answer": Way(job(), RESULT),
        "extra images of a result": Way(job(extra=True), ("api",)),
        "samples while they are worked on": Way(job(), ("disk", "api")),
        "batches of tensors": Way(job(), ("disk", "api")),
        "inpainting: what is pasted back": Way(over(overlay=1), ("disk", "api")),
        "mask composites": Way(job(mask_composite=True), RESULT),
        "live previews": Way(job(previews=True), ("preview",)),
        "interrupted jobs": Way(job(interrupt=True), ("disk", *RESULT)),
        "jobs without scripts": Way(job(scripts=None), RESULT),
        "steps between on disk: hires, faces, colour": Way(over(hires=1), ("disk",)),
        "Extras tab and API": Way(extras, ("extras",)),
        "jobs that save nothing": Way(job(save=False), RESULT),
        "grids, also of XYZ": Way(both(job(grid=True), xyz), ("disk", "gallery", "api")),
        "what a script of the menu puts together": Way(lambda host, image: host.selected(image), RESULT),
        "pipelines of its own in Forge Neo": Way(lambda host, image: host.own_pipeline(image), ("api",)),
        "video of Forge Neo": Way(lambda host, image: host.images.save_video(None, [image.copy()] * 2), ("video",)),
        "temporary files of the gallery": Way(job(save=False), ("temp",)),
        "prompts that the policy refuses": Way(dragon, ("drawn",), released=False),
        "what another extension's callback makes of an image": Way(neighbour, ("disk",)),
        "metadata": Way(job(), ("disk",)),
    },
}
# What these close is no image: test_webui_locks.py.
WORDS = {"arguments of the script by API", "options by API, override_settings"}
TABLE = [(family, way) for family, ways in WAYS.items() for way in ways]
DRAWN = {(family, "prompts that the policy refuses") for family in WAYS}


def hooks_of(family: str, way: str) -> tuple[str, ...]:
    (row,) = [row for row in EXITS[family] if row.way == way]
    return row.hooks


def left(host: FakeHost, *sinks: str) -> list[str]:
    """The sinks that something reached that should not have: the marker, or a prompt that was drawn."""
    return [
        s for s in sinks if (any("dragon" in one for one in host.sinks.get(s, [])) if s == "drawn" else leaks(host, s))
    ]


@pytest.mark.parametrize("family", WAYS)
def test_every_row_that_can_be_closed_is_tried_here(family):
    assert set(WAYS[family]) | WORDS == {row.way for row in EXITS[family] if row.coverable}


@pytest.mark.parametrize(("family", "way"), TABLE)
def test_the_marker_reaches_no_sink(family, way, monkeypatch):
    world = World(family, monkeypatch)
    WAYS[family][way].run(world.host, red())
    assert not leaks(world.host)
    assert not left(world.host, *WAYS[family][way].sinks)
    assert not world.host.errors


@pytest.mark.parametrize(("family", "way"), [pair for pair in TABLE if WAYS[pair[0]][pair[1]].released])
def test_a_safe_image_reaches_all_sinks_as_it_is(family, way, monkeypatch):
    world = World(family, monkeypatch)
    WAYS[family][way].run(world.host, safe())
    assert [sink for sink in WAYS[family][way].sinks if not holds(world.host, sink, safe())] == []
    assert not world.host.errors


@pytest.mark.parametrize(("family", "way"), TABLE)
def test_the_hooks_of_a_row_close_it_alone_and_without_them_it_leaks(family, way, monkeypatch):
    one = WAYS[family][way]
    kept = {*hooks_of(family, way), *one.beside}
    for also, leaking in ((set(), False), (set(hooks_of(family, way)), True)):
        world = World(family, monkeypatch)
        installed = {hook for hook, why in world.adapter.guard.coverage._found.items() if not why}
        for hook in installed - kept | also:
            world.host.take_out(hook)
        one.run(world.host, red())
        matches = left(world.host, *one.sinks)
        assert matches == (list(one.sinks) if leaking else []), f"without {also or 'the others'}"


@pytest.mark.parametrize("family", WAYS)
def test_every_way_is_closed_on_a_host_that_has_everything(family, monkeypatch):
    world = World(family, monkeypatch)
    assert world.adapter.guard.coverage.open == []
    states = {row["state"] for row in world.adapter.coverage()}
    assert states == {"closed", "cannot be closed"}


def test_a_route_that_calls_the_inner_function_is_asked_for_its_prompt(monkeypatch):
    world = World("sdnext", monkeypatch)
    world.host.detail(red(), prompt="a dragon")
    assert "drawn" not in world.host.sinks
    assert not leaks(world.host, "api")
    world.host.detail(safe())
    assert holds(world.host, "api", safe())
    assert not world.adapter.jobs._running


def test_a_caption_of_another_pipeline_is_asked(monkeypatch):
    world = World("a1111", monkeypatch)
    world.host.own_pipeline(safe(), caption='{"description": "a dragon"}')
    assert "drawn" not in world.host.sinks
    assert not holds(world.host, "api", safe())
    assert not world.adapter.jobs._running


@pytest.mark.parametrize("family", WAYS)
@pytest.mark.parametrize(("prompt", "leaves"), [("a dragon", False), ("a lighthouse", True)])
def test_a_script_that_draws_past_the_jobs_is_asked_for_its_prompt(family, prompt, leaves, monkeypatch):
    """Nothing of its result leaves; that it draws cannot be kept from it."""
    result = World(family, monkeypatch).host.runner.run(Job(safe(), prompt=prompt))
    assert np.array_equal(np.asarray(result.images[0]), safe()) is leaves


@pytest.mark.parametrize("family", WAYS)
def test_an_image_is_checked_once_however_many_hooks_see_it(family, monkeypatch):
    world = World(family, monkeypatch, nsfw_guard_previews="hide")
    world.host.process_images(Job(safe(1), safe(2), previews=True))
    assert world.backend.frames == 2
    world.host.process_images(Job(red(1), red(2)))
    assert world.backend.frames == 4


@pytest.mark.parametrize("family", WAYS)
def test_three_reloads_of_the_page_change_nothing(family, monkeypatch):
    world = World(family, monkeypatch)
    before = {name: dict(vars(module)) for name, module in world.host.modules.items()}
    for _ in range(3):
        world.host.load()
    for name, members in before.items():
        assert all(vars(world.host.modules[name]).get(key) is value for key, value in members.items()), name
    assert len(world.host.app.routes) == 2
    world.host.process_images(Job(safe(), previews=True))
    assert world.backend.frames <= 2  # the image, and the preview, which is an image of its own
    world.host.process_images(Job(red(), previews=True))
    assert not leaks(world.host)


@pytest.mark.parametrize("previews", ["pixelate", "hide", "check"])
@pytest.mark.parametrize("family", WAYS)
def test_previews_show_what_the_settings_let_them_show(family, previews, monkeypatch):
    world = World(family, monkeypatch, nsfw_guard_previews=previews)
    image = safe()
    world.host.process_images(Job(image, previews=True))
    assert holds(world.host, "preview", image) is (previews == "check")
    if previews == "hide":
        assert len({tuple(c) for c in np.asarray(world.host.sinks["preview"][0]).reshape(-1, 3)}) == 1


@pytest.mark.parametrize("family", WAYS)
def test_disk_gallery_and_api_share_one_object(family, monkeypatch):
    world = World(family, monkeypatch)
    image = Image.fromarray(red())
    params = Params(image=image, p=Job(), filename="a.png", pnginfo={})
    world.host.tell("before_image_saved", params)
    assert params.image is image
    assert not np.array_equal(np.asarray(image), red())


@pytest.mark.parametrize("family", WAYS)
def test_the_verdict_is_in_the_metadata(family, monkeypatch):
    world = World(family, monkeypatch)
    world.host.process_images(Job(safe()))
    (payload,) = world.host.sinks["metadata"]
    assert payload["nsfw_guard"].startswith("allow: ")
    assert "allow: " in payload["extra"] or "NSFW guard: " in payload["parameters"]
    quiet = World(family, monkeypatch, nsfw_guard_metadata=False)
    quiet.host.process_images(Job(safe()))
    assert "nsfw_guard" not in quiet.host.sinks["metadata"][0]


def test_a_refused_prompt_draws_nothing_and_the_next_one_does(monkeypatch, caplog):
    for family in WAYS:
        caplog.clear()
        world = World(family, monkeypatch)
        again = Job(safe(), prompt="a dragon")
        world.host.process_images(again)
        assert "drawn" not in world.host.sinks
        assert world.adapter.guard.counts["prompts refused"] == 1
        assert [record.message for record in caplog.records] == [
            "NSFW guard: a prompt is refused: prompt: word 'dragon'"
        ]
        again.prompt = "a lighthouse"
        world.host.process_images(again)
        assert world.host.sinks["drawn"] == ["a lighthouse"]
        assert holds(world.host, "disk", safe())


def test_a_host_that_draws_a_refused_prompt_all_the_same_shows_nothing_of_it(monkeypatch):
    world = World("sdnext", monkeypatch)

    class Stubborn(Job):
        dummy = property(lambda self: self.no_such_thing, lambda self, value: None)

    world.host.process_images(Stubborn(safe(), prompt="a dragon", previews=True, prompts=()))
    assert not holds(world.host, "disk", safe())
    assert not holds(world.host, "preview", safe())


def test_a_prompt_that_only_comes_out_of_a_wildcard_is_refused_too(monkeypatch):
    for family in WAYS:
        world = World(family, monkeypatch)
        p = Job(safe(), all_prompts=["a dragon"])
        world.host.process_images(p)
        assert not holds(world.host, "disk", safe())
        assert not holds(world.host, "api", safe())


def test_negative_prompts_are_not_read(monkeypatch):
    world = World("sdnext", monkeypatch)
    world.host.process_images(Job(safe(), negative_prompt="a dragon"))
    assert holds(world.host, "disk", safe())


def test_video_frames_of_every_form_are_cleaned_and_safe_ones_untouched(monkeypatch):
    world = World("sdnext", monkeypatch)
    write, video = world.host.writer.save_video, world.host.sinks.setdefault("video", [])
    for make in (
        lambda frames: [Image.fromarray(one) for one in frames],
        lambda frames: np.stack([floats(one) for one in frames]),
        lambda frames: torch.from_numpy(np.stack(frames)).permute(3, 0, 1, 2).float() / 127.5 - 1.0,
    ):
        write(None, pixels=make([safe(1), red(), safe(2)]))
        assert not leaks(world.host)
        assert len(video) == 3
        video.clear()
        write(None, make([safe(1), safe(2)]))
        payload = make([safe(1), safe(2)])
        plain = write.__wrapped__
        plain(None, payload)
        assert all(np.array_equal(video[i], video[i + 2]) for i in range(2))
        video.clear()
    world.host.writer.save_video(None, pixels=torch.full((3, 2, 24, 24), float("nan")))
    assert len({int(one.sum()) for one in video}) == 1
    assert video[0].sum() > 0  # a solid cover, no black of a cast
    with pytest.raises(ValueError, match="nothing is written"):
        world.host.writer.save_video(None, pixels="frames")


def test_a_late_script_that_puts_its_own_image_back_is_swept_in_a1111(monkeypatch):
    world = World("a1111", monkeypatch)
    world.host.process_images(Job(red(), pastes_late=True))
    assert not leaks(world.host)
