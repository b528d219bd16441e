"""Guards from settings, on a real model: actions, strengths, and cuts that a lock lets lie only lower."""

from __future__ import annotations

import pytest
from PIL import Image

from nsfw_guard.actions import Blur, Pixelate
from nsfw_guard.demo import pixels
from nsfw_guard.demo.shapes import draw, parse
from nsfw_guard.errors import ConfigError, WeightsMissingError
from nsfw_guard.hosts.build import build_guard
from nsfw_guard.hosts.session import HostGuard
from nsfw_guard.hosts.settings import Settings

DEMO = {"model": "demo-shapes"}


def image(caption: str) -> Image.Image:
    return draw(parse(caption), side=128)


@pytest.mark.parametrize("action", ["block", "blur", "pixelate", "replace"])
def test_an_unsafe_shape_is_covered_and_a_safe_one_stays_bit_for_bit(action):
    host = HostGuard("test")
    host.configure(Settings(**DEMO, action=action))
    bad, good = image("a large red disc on white"), image("a large blue star on white")
    before = good.tobytes()
    out = host.guard_images([bad, good])
    assert [v.outcome.name for v in out.verdicts] == ["BLOCK", "ALLOW"]
    assert good.tobytes() == before
    assert not any((one.colour, one.kind) == ("red", "disc") for one in pixels.find(bad.resize((64, 64))))


def test_strength_goes_into_the_action():
    for action, kind in (("blur", Blur), ("pixelate", Pixelate)):
        assert build_guard(Settings(**DEMO, action=action, strength=0.8)).action == kind(strength=0.8)


def test_a_cut_of_ones_own_replaces_the_policys_in_every_view():
    rule = build_guard(Settings(**DEMO, thresholds={"red-disc": 0.9})).policy.rules["red-disc"]
    assert (rule.block, rule.review, dict(rule.views)) == (0.9, 0.2, {})
    low = build_guard(Settings(**DEMO, thresholds={"red-disc": 0.1})).policy.rules["red-disc"]
    assert (low.block, low.review) == (0.1, None)


def test_under_a_lock_a_cut_only_lies_lower():
    above = build_guard(Settings(**DEMO, thresholds={"red-disc": 0.9}), True).policy.rules["red-disc"]
    assert above.block == 0.5
    below = build_guard(Settings(**DEMO, thresholds={"red-disc": 0.3}), True).policy.rules["red-disc"]
    assert (below.block, dict(below.views)) == (0.3, {"side": 0.3, "tile": 0.3, "content": 0.3})


def test_a_category_that_is_not_judged_is_named():
    with pytest.raises(ConfigError, match="the policy does not judge 'red-disk': did you mean 'red-disc'"):
        build_guard(Settings(**DEMO, thresholds={"red-disk": 0.3}))


@pytest.mark.parametrize("model", ["marqo", f"hf:some/one@{'ab' * 20}"])
def test_no_job_makes_a_host_download_a_model(model, monkeypatch):
    asked = []
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *args, **_: asked.append(args))
    with pytest.raises(
        WeightsMissingError, match=r"downloads are turned off \(local_files_only\)\. Run `nsfw-guard fetch"
    ):
        build_guard(Settings(model=model))
    assert asked == []


def test_a_model_that_is_not_here_names_its_cure():
    with pytest.raises(WeightsMissingError, match="nsfw-guard fetch marqo"):
        build_guard(Settings())
    host = HostGuard("test")
    seen = image("a blue star on white")
    host.guard_images([seen])
    assert "nsfw-guard fetch marqo" in host.status()["fault"]
    assert seen.getpixel((64, 64)) == seen.getpixel((0, 0))


def test_one_model_serves_several_guards():
    first = build_guard(Settings(**DEMO))
    assert build_guard(Settings(**DEMO, action="replace"), backend=first.backend).spec is first.spec
