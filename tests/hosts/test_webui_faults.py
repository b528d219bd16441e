"""Whatever fails, and wherever: no image leaves uncovered, and no hook raises."""

from __future__ import annotations

import importlib.abc
import logging
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from nsfw_guard.errors import WeightsMissingError
from nsfw_guard.hosts.webui import job_images
from nsfw_guard.testing import FaultyBackend
from tests.hosts.fake_webui import KINDS, FakeHost, Job, Params, floats
from tests.hosts.webui_worlds import World, holds, leaks, red, safe
from tests.matrix import latin

FAMILIES = ["sdnext", "a1111"]


def everything(host: FakeHost, *images: np.ndarray) -> None:
    """Sends images by every way at once."""
    for payload in ({"previews": True, "grid": True}, {"save": False}, {"interrupt": True}, {"hires": images[0]},
                 {"scripts": None}, {"overlay": images[0]}, {"graded": images[0]}, {"extra": True},
                 {"pipeline_previews": True}, {"control": True}, {"mask_composite": True}):  # fmt: skip
        host.process_images(Job(*(one.copy() for one in images), **payload))
    for save in (True, False):
        host.extras(Image.fromarray(images[0]), save=save)
    if host.family == "sdnext":
        for video in (lambda: host.framepack(*images), lambda: host.files.save_video(None, list(images))):
            try:
                video()
            except RuntimeError:  # a writer may refuse to write
                continue


def reached(host: FakeHost, *images: np.ndarray) -> list[str]:
    """The sinks that one of these images reached."""
    return [
        sink for sink in host.sinks if sink not in {"metadata", "drawn"} and any(holds(host, sink, p) for p in images)
    ]


@pytest.mark.parametrize("fault", ["raises", "nan", "infinite", "few", "none", "wrong kind"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_that_fails_covers_safe_images_too(family, fault, monkeypatch):
    world = World(family, monkeypatch, FaultyBackend(fault))
    everything(world.host, safe(1), safe(2))
    assert reached(world.host, safe(1), safe(2)) == []
    assert world.host.errors == []


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_that_hangs_is_not_waited_for(family, monkeypatch):
    world = World(family, monkeypatch, FaultyBackend("hangs", seconds=5.0), nsfw_guard_timeout=0.2)
    world.host.process_images(Job(safe(1)))
    assert reached(world.host, safe(1)) == []


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_that_is_not_there_covers_everything_and_says_how_to_mend_it(family, monkeypatch, caplog):
    world = World(family, monkeypatch, WeightsMissingError("no weights: run nsfw-guard fetch marqo"))
    everything(world.host, safe(1), safe(2))
    assert reached(world.host, safe(1), safe(2)) == []
    assert "nsfw-guard fetch marqo" in world.adapter.guard.startup_error
    assert "nsfw-guard fetch marqo" in caplog.text


class Hidden(importlib.abc.MetaPathFinder):
    """The package is not installed."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "nsfw_guard":
            raise ModuleNotFoundError(f"No module named {name!r}")


def hide(monkeypatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "nsfw_guard"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Hidden(), *sys.meta_path])


@pytest.mark.parametrize("family", FAMILIES)
def test_without_the_package_the_script_alone_covers_everything(family, monkeypatch, caplog):
    host = KINDS[family](monkeypatch)
    with monkeypatch.context() as patch:
        hide(patch)
        for _ in range(3):
            host.load()
        everything(host, safe(1), safe(2))
    assert host.sinks["disk"]
    assert host.sinks["preview"]
    assert reached(host, safe(1), safe(2)) == []
    assert "pip install nsfw-guard" in caplog.text


@pytest.fixture
def shown(monkeypatch):
    """What sdnext shows: the lines of its own logger; those of all others go nowhere."""
    adapter_file, lines = logging.getLogger("sd"), []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    monkeypatch.setattr(adapter_file, "handlers", [handler])
    monkeypatch.setattr(adapter_file, "propagate", False)
    monkeypatch.setattr(logging.getLogger("nsfw_guard"), "parent", logging.getLogger())
    return lines


def test_sdnext_shows_in_one_line_that_the_model_is_missing(shown, monkeypatch):
    World("sdnext", monkeypatch, WeightsMissingError("no weights: run nsfw-guard fetch marqo"))
    (line,) = shown
    assert line.endswith("every image is covered: WeightsMissingError: no weights: run nsfw-guard fetch marqo")


def test_sdnext_shows_in_one_line_that_the_package_is_missing(shown, monkeypatch):
    host = KINDS["sdnext"](monkeypatch)
    with monkeypatch.context() as patch:
        hide(patch)
        host.load()
    (line,) = shown
    assert "EVERY image is covered until you run" in line


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "I;16", "I", "F", "CMYK", "1"])
def test_without_the_package_every_kind_of_image_is_covered(family, mode, monkeypatch):
    host = KINDS[family](monkeypatch)
    with monkeypatch.context() as patch:
        hide(patch)
        host.load()
        image = Image.fromarray(red()).convert("L" if mode == "I;16" else "RGB").convert(mode)
        params = Params(image=image.copy(), p=None, filename="a.png", pnginfo={})
        host.tell("before_image_saved", params)
        pp = Params(image=image)
        host.run_scripts("postprocess_image", Job(script_args=(False,)), pp)
    for one in (params.image, pp.image):
        assert len(set(np.asarray(one.convert("RGB") if mode not in {"I;16", "I", "F"} else one).ravel().tolist())) == 1
    assert not host.errors


class Broken:
    """A settings object of which every use fails."""

    def __getattr__(self, name):
        raise RuntimeError("broken")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_fault_inside_any_hook_covers_what_it_was_handed(family, monkeypatch):
    world = World(family, monkeypatch)
    monkeypatch.setattr(job_images, "layout_of", Broken().__getattr__)
    world.adapter.guard.settings = Broken()
    host, p = world.host, Job()
    saved = Params(image=Image.fromarray(safe()), p=p, filename="", pnginfo={})
    grid = Params(imgs=[Image.fromarray(safe())], cols=1, rows=1)
    one, listed = Params(image=Image.fromarray(safe())), Params(images=[Image.fromarray(safe())])
    batch = [floats(safe())]
    result = Params(images=[Image.fromarray(safe())], extra_images=[Image.fromarray(safe())], bytes=b"video")
    host.tell("before_image_saved", saved)
    host.tell("image_grid", grid)
    host.run_scripts("postprocess_image", p, one)
    host.run_scripts("postprocess_batch", p, images=batch)
    host.run_scripts("postprocess_batch_list", p, listed)
    host.run_scripts("postprocess", p, result)
    held = [saved.image, *grid.imgs, one.image, *listed.images, *batch, *result.images, *result.extra_images]
    for image in held:
        assert len({tuple(c) for c in np.asarray(image).reshape(-1, 3).tolist()}) == 1
    assert result.bytes is None
    assert not host.errors


@pytest.mark.parametrize("family", FAMILIES)
def test_the_end_of_a_process_is_not_swallowed_and_nothing_leaves(family, monkeypatch):
    class Ends(FaultyBackend):
        def score(self, *args, **kwargs):
            raise KeyboardInterrupt

    world = World(family, monkeypatch, Ends("raises"))
    params = Params(image=Image.fromarray(safe()), p=None, filename="", pnginfo={})
    with pytest.raises(KeyboardInterrupt):
        world.adapter.before_image_saved(params)
    assert not np.array_equal(np.asarray(params.image), safe())


MODES = ["L", "LA", "RGB", "RGBA", "P", "PA", "CMYK", "YCbCr", "HSV", "LAB", "1", "I", "F", "I;16"]


@pytest.mark.parametrize(("family", "mode", "size"), latin(FAMILIES, MODES, [(1, 1), (24, 24)], share=2))
def test_every_mode_and_size_is_covered_or_left_as_it_is(family, mode, size, monkeypatch):
    world = World(family, monkeypatch)
    image = Image.fromarray(red()).resize(size)
    image = image.convert("L").convert(mode) if mode in {"LA", "PA", "I", "F", "I;16"} else _in(image, mode)
    image.info["thumbnail"] = "of what was here"
    before = image.copy()
    params = Params(image=image, p=None, filename="", pnginfo={})
    world.host.tell("before_image_saved", params)
    assert not world.host.errors
    if params.pnginfo["nsfw_guard"].startswith("allow"):
        assert params.image is image
        assert params.image.tobytes() == before.tobytes()
    else:
        assert not leaks(world.host)
        assert len(set(np.asarray(params.image).reshape(size[0] * size[1], -1)[:, 0].tolist())) == 1
        assert "thumbnail" not in params.image.info


def _in(image: Image.Image, mode: str) -> Image.Image:
    if mode == "LAB":
        from PIL import ImageCms

        srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        return ImageCms.profileToProfile(image, srgb, lab, outputMode="LAB")
    return image.convert(mode)


@pytest.mark.parametrize("kind", ["nan", "inf", "above", "below"])
def test_tensors_that_are_no_image_are_covered(kind, monkeypatch):
    world = World("a1111", monkeypatch)
    value = {"nan": float("nan"), "inf": float("inf"), "above": 3.0, "below": -3.0}[kind]
    batch = torch.full((2, 3, 24, 24), 0.5)
    batch[1, :, 3, 3] = value
    world.host.run_scripts("postprocess_batch", Job(), images=batch)
    assert torch.isfinite(batch).all()
    assert (batch[0] == 0.5).all()
    assert len(batch[1].unique()) <= 3
    listed = Params(images=[torch.full((3, 24, 24), value), torch.full((3, 24, 24), 0.5)])
    world.host.run_scripts("postprocess_batch_list", Job(), listed)
    assert torch.isfinite(listed.images[0]).all()
    assert (listed.images[1] == 0.5).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_no_image_is_exchanged(family, monkeypatch):
    world = World(family, monkeypatch)
    pp = Params(images=["a.png", None, Image.fromarray(safe())])
    world.host.run_scripts("postprocess_batch_list", Job(), pp)
    assert isinstance(pp.images[0], Image.Image)
    assert pp.images[1] is None
    assert np.array_equal(np.asarray(pp.images[2]), safe())


def test_read_only_arrays_and_inference_tensors_are_exchanged_in_their_list(monkeypatch):
    world = World("sdnext", monkeypatch)
    frozen = floats(red())
    frozen.flags.writeable = False
    with torch.inference_mode():
        tensor = torch.from_numpy(floats(red())).permute(2, 0, 1).clone()
    images = [frozen, tensor]
    world.host.run_scripts("postprocess_batch", Job(), images=images)
    assert float(np.asarray(images[0]).max()) == 0.0
    assert float(images[1].max()) == 0.0


@pytest.mark.parametrize("family", FAMILIES)
def test_a_fault_is_said_once_a_job_with_its_trace_the_first_time(family, monkeypatch, caplog):
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a guard that raises")

    world = World(family, monkeypatch)
    monkeypatch.setattr(world.adapter.guard, "_verdicts", broken)
    caplog.clear()
    for _ in range(3):
        world.host.process_images(Job(safe(1), safe(2), previews=True, grid=True))
    said = [record for record in caplog.records if "a hook failed" in record.message]
    assert len(said) == 3
    assert [bool(record.exc_info) for record in said] == [True, False, False]
    assert len(caplog.records) == 3
    assert reached(world.host, safe(1), safe(2)) == []


@pytest.mark.parametrize("family", FAMILIES)
def test_missing_weights_are_not_called_a_refused_prompt(family, monkeypatch, caplog):
    world = World(family, monkeypatch, WeightsMissingError("fetch them"))
    caplog.clear()
    world.host.process_images(Job(safe(1)))
    assert "nothing is drawn: WeightsMissingError: fetch them" in caplog.text
    assert "a prompt is refused" not in caplog.text
    counts = world.adapter.guard.counts
    assert (counts["jobs stopped by a fault"], counts["prompts refused"]) == (1, 0)
    assert reached(world.host, safe(1)) == []
