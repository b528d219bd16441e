"""What is sent to the page of ComfyUI: finished files, words that hold images, and events that nobody knows."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from nsfw_guard.hosts.comfyui.messages import Messages
from tests.hosts.comfyui.test_session import ENFORCED, comfy_of
from tests.hosts.fake_comfy import GREEN, RED, FakeComfy, eight, graph, plain


def messages(previews: str = "check") -> Messages:
    comfy = comfy_of()
    comfy.guard.configure(type(comfy.guard.settings)(action="block", previews=previews, label=False))
    return Messages(comfy.guard, lambda image: False)


def image(colour: tuple[float, float, float]) -> Image.Image:
    return Image.fromarray(eight(plain(colour)[0]))


def encoded(colour: tuple[float, float, float], kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    image(colour).save(file, kind)
    return file.getvalue()


def test_a_finished_file_is_judged_behind_its_header():
    header = b"\0\0\0\2"
    good, bad = header + encoded(GREEN), header + encoded(RED)
    seen = messages().guard_message(1, good, is_judged=False)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(seen[4:]))), np.asarray(image(GREEN)))
    held = messages().guard_message(1, bad, is_judged=False)
    assert held[:4] == header
    assert not np.array_equal(np.asarray(Image.open(io.BytesIO(held[4:]))), np.asarray(image(RED)))
    for junk in (b"", header, header + b"no image", bytearray(b"\xff" * 40)):
        assert messages().guard_message(1, junk, is_judged=False) is None


def test_a_clip_as_bytes_is_not_sent_unless_its_node_was_judged():
    file = io.BytesIO()
    image(GREEN).save(file, "WEBP", save_all=True, append_images=[image(RED)], lossless=True)
    clip = b"\0\0\0\3" + file.getvalue()
    assert messages().guard_message(1, clip, is_judged=False) is None
    assert messages().guard_message(1, clip, is_judged=True) is clip


@pytest.mark.parametrize("event", [0, 5, 10, 9999123, -1])
def test_bytes_of_an_unknown_event_are_not_sent(event):
    for data in (encoded(GREEN), b"anything", memoryview(b"anything")):
        assert messages().guard_message(event, data, is_judged=False) is None
        assert messages().guard_message(event, data, is_judged=True) is data


@pytest.mark.parametrize("wrap", [
    lambda text: text,
    lambda text: {"output": {"images": [text]}},
    lambda text: [1, {"a": (None, "data:image/png;base64," + text)}],
    lambda text: text.encode(),
])  # fmt: skip
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP"])
def test_words_that_hold_an_image_go_as_far_as_it_may(wrap, kind):
    good, bad = (wrap(base64.b64encode(encoded(colour, kind)).decode()) for colour in (GREEN, RED))
    event = 3 if isinstance(good, bytes) else "executed"
    assert messages().guard_message(event, good, is_judged=False) is good
    assert messages().guard_message(event, bad, is_judged=False) is None


@pytest.mark.parametrize("data", [
    None, 1, "words", {"value": 1, "max": 20}, {"output": {"images": [{"filename": "a.png", "type": "temp"}]}},
    b"progress: 4 of 20", "x" * 10_000, "iVBORw0KGgo" + "!" * 90, json.dumps({"a": "b" * 400}),
])  # fmt: skip
def test_words_without_images_are_sent_as_they_are(data):
    event = 3 if isinstance(data, bytes) else "progress"
    assert messages().guard_message(event, data, is_judged=False) is data


def test_raw_bytes_of_an_image_are_no_words():
    assert messages().guard_message(3, encoded(GREEN), is_judged=False) is None


def test_previews_as_tensors_stay_tensors():
    """As SwarmUI's sampler wants them."""
    for colour, same in ((GREEN, True), (RED, False)):
        levels = torch.from_numpy(eight(plain(colour)[0]))
        name, seen, side = messages().shown(("JPEG", levels, 512))
        assert (name, side, seen.dtype, seen.shape) == ("JPEG", 512, torch.uint8, levels.shape)
        assert torch.equal(seen, levels) is same


def test_a_guard_that_is_off_sends_everything():
    off = messages()
    off.guard.configure(type(off.guard.settings)(enabled=False))
    data = encoded(RED)
    assert off.guard_message(10, data, is_judged=False) is data


def test_what_fails_is_not_sent(monkeypatch, caplog):
    broken = messages()
    monkeypatch.setattr(broken.guard, "judge", lambda raw: 1 / 0)
    assert broken.guard_message("x", base64.b64encode(encoded(GREEN)).decode(), is_judged=False) is None
    assert "could not be covered: it is not sent" in caplog.text


@pytest.mark.parametrize(("colour", "same"), [(GREEN, True), (RED, False)])
def test_the_files_of_a_judged_node_are_sent_and_made_of_clean_images(colour, same):
    result = FakeComfy(given={"x": plain(colour, count=2)})
    assert comfy_of().start(ENFORCED, find=result.find)
    result.post(graph("SendsFiles"))
    assert not result.errors
    assert [event for event, _ in result.files] == [10, 1]
    clip = Image.open(io.BytesIO(result.files[1][1][4:]))
    assert np.array_equal(np.asarray(clip.convert("RGB")), eight(plain(colour)[0])) is same
