"""The nodes that a user wires, and the words of a request."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from nsfw_guard.errors import ImageError, UncoveredError, UnknownNameError
from nsfw_guard.hosts.comfyui import nodes, session
from nsfw_guard.hosts.comfyui.enforce import Enforcement
from nsfw_guard.hosts.comfyui.node_guard import NodeGuard
from nsfw_guard.hosts.comfyui.nodes import NAMES, NODES, NSFWGuard, NSFWGuardVideo
from nsfw_guard.hosts.comfyui.prompts import texts
from nsfw_guard.hosts.comfyui.session import Comfy
from nsfw_guard.testing import FakeBackend, FaultyBackend
from tests.hosts.fake_comfy import GREEN, RED, Components, FakeComfy, VideoFromComponents, eight, graph, plain, red

POLICY = """
name = "words"
[rules."*"]
block = "default"
[prompts]
words = ["dragon"]
"""


@pytest.fixture(autouse=True)
def comfy(monkeypatch):
    """A session of this test, with nothing in the environment."""
    import os

    for name in list(os.environ):
        if name.startswith("NSFW_GUARD_"):
            monkeypatch.delenv(name)
    result = Comfy(load=lambda settings: result.loads.append(settings) or FakeBackend())
    result.loads = []
    result.guard.configure(replace(result.guard.settings, action="block"))
    monkeypatch.setattr(session, "_comfy", result)
    return result


def renew(monkeypatch, **payload):
    """A session whose owner locked something."""
    for name, value in payload.items():
        monkeypatch.setenv(f"NSFW_GUARD_{name.upper()}", value)
    result = Comfy(load=lambda settings: FakeBackend())
    monkeypatch.setattr(session, "_comfy", result)
    return result


def half_red(share, *, side=40):
    """An image of which this share is red."""
    result = plain(GREEN, height=side, width=side)
    result[:, : round(side * share)] = plain(RED, height=side, width=side)[:, : round(side * share)]
    return result


def video(frames, **more):
    return VideoFromComponents(Components(frames, Fraction(8), **more))


def test_a_safe_batch_is_the_same_object():
    images = plain(GREEN, count=3)
    result, payload, mask, flagged = NSFWGuard().check(images)
    assert result is images
    assert [one["outcome"] for one in json.loads(payload)] == ["allow"] * 3
    assert mask.shape == (3, 24, 32)
    assert not mask.any()
    assert flagged is False


@pytest.mark.parametrize("inference", [False, True])
def test_the_bad_one_is_covered_in_a_copy(inference):
    with torch.inference_mode(inference):
        images = torch.cat([plain(GREEN), plain(RED)])
        before = images.clone()
    with torch.inference_mode(not inference):
        result, payload, mask, flagged = NSFWGuard().check(images)
    assert torch.equal(images, before)
    assert torch.equal(result[0], before[0])
    assert red(result[1]) == 0.0
    assert [one["outcome"] for one in json.loads(payload)] == ["allow", "block"]
    assert mask[1].all()
    assert not mask[0].any()
    assert flagged is True


def test_it_protects_its_own_branch_only():
    host = FakeComfy(given={"x": plain(RED)}, nodes=dict(NODES))
    host.post({**graph("NSFWGuard", "SaveImage"), "3": {"class_type": "PreviewImage", "inputs": {"images": ["0", 0]}}})
    assert not host.errors
    assert red(host.sinks["disk"][0]) == 0.0
    assert red(host.sinks["temp"][0]) > 0.9  # what enforcement is for


def test_node_and_enforcement_check_an_image_once(monkeypatch):
    backend = FakeBackend()
    result = Comfy(load=lambda settings: backend)
    monkeypatch.setattr(session, "_comfy", result)
    host = FakeComfy(given={"x": plain(GREEN)}, nodes=dict(NODES))
    result.start({"NSFW_GUARD_ENFORCE": "1"}, find=host.find)
    host.post(graph("NSFWGuard", "SaveImage"))
    assert host.left() == 1
    assert backend.frames == 1


@pytest.mark.parametrize("images", [None, "x", torch.zeros(4, 4, 3), [plain(GREEN)]])
def test_what_is_no_image_is_refused(images):
    with pytest.raises(ImageError, match="connect one"):
        NSFWGuard().check(images)


def test_no_images_at_all():
    images = torch.zeros(0, 8, 8, 3)
    result, payload, mask, flagged = NSFWGuard().check(images)
    assert result is images
    assert (json.loads(payload), mask.shape, flagged) == ([], (0, 8, 8), False)


@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (1, 9, 9, 4), (2, 5, 5, 1)])
def test_odd_images(shape):
    images = torch.full(shape, 0.5)
    assert NSFWGuard().check(images)[0] is images
    images = images.clone()
    images[0, 0, 0, 0] = float("nan")
    result, payload, mask, flagged = NSFWGuard().check(images)
    assert not result.isnan().any()
    assert json.loads(payload)[0]["outcome"] == "error"
    assert flagged
    assert mask[0].any()
    assert images.isnan().any()


@pytest.mark.parametrize("fault", ["raises", "nan", "few", "none", "hangs"])
def test_a_model_that_fails_covers(fault, monkeypatch):
    monkeypatch.setenv("NSFW_GUARD_TIMEOUT", "0.05")
    result = Comfy(load=lambda settings: FaultyBackend(fault, seconds=0.3))
    monkeypatch.setattr(session, "_comfy", result)
    images = plain(GREEN, count=2)
    out, payload, _, flagged = NSFWGuard().check(images)
    assert not torch.equal(out, images)
    assert {one["outcome"] for one in json.loads(payload)} == {"error"}
    assert flagged


def test_off_is_said_and_is_not_called_safe(comfy):
    comfy.guard.configure(replace(comfy.guard.settings, enabled=False))
    images = plain(RED)
    result, payload, _, flagged = NSFWGuard().check(images)
    assert result is images
    assert json.loads(payload)[0]["outcome"] == "not evaluated"
    assert flagged is False


def test_widgets_change_the_node_alone(comfy):
    images = half_red(0.4)  # under review by the policy, not blocked
    assert NSFWGuard().check(images)[0] is images
    result, *_ = NSFWGuard().check(images, threshold=0.3)
    assert red(result[0]) == 0.0
    assert NSFWGuard().check(images, policy="strict")[0] is not images
    assert NSFWGuard().check(plain(RED), action="flag")[0] is not None
    assert NSFWGuard().check(images)[0] is images
    assert comfy.guard.settings.action == "block"
    assert len(comfy._others) == 3
    assert len(comfy.loads) == 1  # one model for all of them


def test_many_widgets_do_not_fill_the_memory(comfy):
    for i in range(1, 20):
        NSFWGuard().check(plain(GREEN), threshold=i / 20)
    assert len(comfy._others) <= 8


def test_widgets_can_only_tighten_what_is_locked(monkeypatch):
    result = renew(monkeypatch, action="block", policy="strict", thresholds="red=0.2")
    assert result.guard_for(action="flag", policy="default", strength=0.1) is result.guard
    bad, edge = plain(RED), half_red(0.225)
    for widgets in (
        {"action": "flag"},
        {"policy": "lenient"},
        {"threshold": 0.99},
        {"action": "flag", "policy": "default"},
    ):
        assert red(NSFWGuard().check(bad, **widgets)[0][0]) == 0.0
        assert red(NSFWGuard().check(edge, **widgets)[0][0]) == 0.0
    low = half_red(0.1)
    assert NSFWGuard().check(low)[0] is low
    assert red(NSFWGuard().check(low, threshold=0.05)[0][0]) == 0.0


def test_a_widget_that_is_none_is_refused():
    with pytest.raises(UnknownNameError, match="choose from"):
        NSFWGuard().check(plain(GREEN), action="nothing at all")
    result, payload, *_ = NSFWGuard().check(plain(GREEN), policy="nowhere.toml")
    assert json.loads(payload)[0]["outcome"] == "error"
    assert not torch.equal(result, plain(GREEN))


@pytest.mark.parametrize("node", NODES.values())
def test_the_host_finds_what_it_asks_for(node):
    payload = node.INPUT_TYPES()
    assert {"action", "strength", "threshold", "policy"} <= set(payload["optional"])
    assert callable(getattr(node, node.FUNCTION))
    assert len(node.RETURN_TYPES) == len(node.RETURN_NAMES)
    assert set(NAMES) == set(NODES)
    assert not getattr(node, "OUTPUT_NODE", False)


def test_a_clip_that_may_leave_is_the_same_object():
    clip = video(plain(GREEN, count=5))
    result, payload, flagged = NSFWGuardVideo().check(clip)
    assert result is clip
    assert (len(json.loads(payload)), flagged) == (5, False)


@pytest.mark.parametrize(("cover", "margin", "same"), [
    ("whole clip", 4, []), ("frames", 2, [0, 1, 2, 8, 9]), ("frames", 0, [0, 1, 2, 3, 4, 6, 7, 8, 9]), ("what?", 0, []),
])  # fmt: skip
def test_a_clip_with_a_bad_frame(cover, margin, same):
    frames = plain(GREEN, count=10)
    frames[5] = plain(RED)[0]
    before, sound = frames.clone(), {"waveform": torch.ones(1, 2, 9), "sample_rate": 8}
    result, payload, flagged = NSFWGuardVideo().check(video(frames, audio=sound), cover=cover, margin=margin)
    parts = result.get_components()
    assert torch.equal(frames, before)
    assert [i for i in range(10) if torch.equal(parts.images[i], before[i])] == same
    assert max(map(red, parts.images)) == 0.0
    assert parts.audio is sound
    assert parts.frame_rate == 8
    assert (len(json.loads(payload)), flagged) == (10, True)


def test_alpha_is_judged_and_goes_with_what_is_covered(comfy):
    bad = torch.full((3, 24, 32), float("nan"))
    for cover in NSFWGuardVideo.WHOLE:
        parts = NSFWGuardVideo().check(video(plain(GREEN, count=3), alpha=bad), cover=cover)[0].get_components()
        assert parts.alpha is None
        assert not any(torch.equal(frame, plain(GREEN)[0]) for frame in parts.images)
    good = video(plain(GREEN, count=3), alpha=torch.ones(3, 24, 32))
    assert NSFWGuardVideo().check(good)[0] is good


def test_a_clip_that_cannot_be_made_anew_is_stopped():
    class Parts:
        images = plain(RED)

    class Strange:
        def get_components(self):
            return Parts()

    Strange.__module__ = "nowhere"
    with pytest.raises(UncoveredError, match="VideoFromComponents"):
        NSFWGuardVideo().check(Strange())
    Parts.images = "frames"
    with pytest.raises(UncoveredError, match="not a tensor"):
        NSFWGuardVideo().check(Strange())


def test_what_does_not_fit_in_the_place_of_a_frame_leaves_it_empty(comfy, monkeypatch):
    from nsfw_guard.hosts.session import GuardedImages

    def strange(matches, **_):
        return GuardedImages([torch.ones(1) for _ in matches], [], [])

    monkeypatch.setattr(comfy.guard, "guard_images", strange)
    assert not NSFWGuard().check(plain(GREEN))[0].any()
    monkeypatch.setattr(comfy.guard, "guard_images", lambda matches, **_: GuardedImages([], [], []))
    with pytest.raises(ValueError, match="zip"):
        NSFWGuard().check(plain(GREEN))


def test_a_list_in_itself_is_refused(comfy):
    ring: list = [1]
    ring.append(ring)
    with pytest.raises(ImageError, match="themselves"):
        NodeGuard(comfy.guard).value(ring)


def test_one_session_a_process(monkeypatch):
    monkeypatch.setattr(session, "_comfy", None)
    monkeypatch.setenv("NSFW_GUARD_ENFORCE", "0")
    assert session.session() is session.session()
    assert session.start() is False
    assert {row["host"] for row in session.coverage()} == {"comfyui"}
    assert nodes.session is session.session


GRAPH = {
    "1": {"class_type": "CLIPTextEncode", "inputs": {"text": "a dragon", "clip": ["9", 1]}},
    "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "ugly", "clip": ["9", 1]}},
    "3": {"class_type": "KSampler", "inputs": {"positive": ["1", 0], "negative": ["2", 0], "sampler_name": "euler"}},
    "4": {"class_type": "PrimitiveString", "inputs": {"value": "a lake"}},
    "5": {"class_type": "SomeEncode", "inputs": {"anything": ["4", 0], "negative_prompt": "bad"}},
    "6": {"class_type": "PrimitiveString", "inputs": {"value": "blurry"}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": ["6", 0]}},
    "8": {"class_type": "KSampler", "inputs": {"negative": ["7", 0]}},
    "9": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "dragon.safetensors"}},
}


def test_texts_of_a_graph():
    assert texts(GRAPH) == ["a dragon", "a lake"]
    assert texts({"1": {"class_type": "CLIPTextEncode", "inputs": {"text": "x", "a": ["1", 0]}}}) == ["x"]
    assert texts({}) == []


def refusing(monkeypatch, tmp_path, given=None):
    file = tmp_path / "words.toml"
    file.write_text(POLICY)
    result = renew(monkeypatch, policy=str(file), enforce="1")
    host = FakeComfy(given={"x": plain(GREEN) if given is None else given})
    host.nodes["CLIPTextEncode"] = type("CLIPTextEncode", (host.nodes["Given"],), {"run": lambda self, text: (text,)})
    result.start(find=host.find)
    return host, result


def with_text(text):
    return {**graph("SaveImage"), "9": {"class_type": "CLIPTextEncode", "inputs": {"text": text}}}


def test_a_refused_prompt_is_answered_with_400_and_nothing_runs(monkeypatch, tmp_path, caplog):
    host, result = refusing(monkeypatch, tmp_path)
    assert host.post(with_text("a DRAGON in a cave")) == 400
    assert host.runs == 0
    assert result.guard.counts["prompts refused"] == 1
    assert "cave" not in caplog.text  # the words of a user are nobody's to keep
    assert host.post(with_text("a lake")) == 200
    assert np.array_equal(host.sinks["disk"][0], eight(plain(GREEN)[0]))


@pytest.mark.parametrize("request_", [{}, {"prompt": None}, {"prompt": {"1": None}}, {"prompt": [1]}, [], None])
def test_a_request_that_cannot_be_read_is_refused_without_an_exception(request_, comfy):
    payload = Enforcement(comfy.guard).on_prompt(request_)
    assert not payload.get("prompt")


def test_a_fault_in_the_prompt_check_refuses(monkeypatch, tmp_path):
    host, result = refusing(monkeypatch, tmp_path)

    def breaks(prompts):
        raise RuntimeError("broken")

    monkeypatch.setattr(result.guard, "refuse", breaks)
    assert host.post(with_text("a lake")) == 400
    assert not [one for one in host.events if one[0] == "swallowed"]


def test_prompts_can_be_let_alone(monkeypatch, tmp_path):
    monkeypatch.setenv("NSFW_GUARD_PROMPTS", "false")
    host, _ = refusing(monkeypatch, tmp_path)
    assert host.post(with_text("a dragon")) == 200
