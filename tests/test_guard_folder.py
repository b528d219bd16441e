"""A guard as a folder comes back as it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from nsfw_guard.actions import Blur, Pixelate, Replace
from nsfw_guard.calibration import Calibration
from nsfw_guard.errors import ConfigError
from nsfw_guard.guard import Guard
from nsfw_guard.testing import FakeBackend, tiny_model
from tests.images import smooth


def test_a_guard_comes_back_as_it_was(tiny, tmp_path) -> None:
    guard = Guard.from_pretrained(
        tiny, policy={"name": "mine", "rules": {"sexual": {"block": 0.4, "review": 0.2}}},
        action=Blur(strength=0.3), on_review="pixelate",
    )  # fmt: skip
    guard.save_pretrained(tmp_path / "guard")

    again = Guard.from_pretrained(tmp_path / "guard")

    assert again.policy == guard.policy
    assert (again.policy.name, again.policy.hash) == ("mine", guard.policy.hash)
    assert (again.action, again.on_review) == (Blur(strength=0.3), Pixelate())
    pixels = smooth(2, 40, 70)
    assert [v.score for v in again.check(pixels)] == [v.score for v in guard.check(pixels)]


def test_settings_given_on_loading_override_the_saved_ones(tiny, tmp_path) -> None:
    Guard.from_pretrained(tiny, action="blur").save_pretrained(tmp_path / "guard")
    again = Guard.from_pretrained(tmp_path / "guard", action="replace", policy={"rules": {"*": {"block": 0.9}}})
    assert again.action == Replace()
    assert again.policy.rules["sexual"].block == 0.9


def test_a_folder_that_calls_the_cover_image_a_picture_is_still_read(tiny, tmp_path) -> None:
    folder = tmp_path / "guard"
    Guard.from_pretrained(tiny, action=Replace(image=tmp_path / "cover.png")).save_pretrained(folder)
    saved = (folder / "guard.json").read_text()
    assert '"image": ' in saved
    (folder / "guard.json").write_text(saved.replace('"image": ', '"picture": '))
    again = Guard.from_pretrained(folder, trust_guard=True)
    assert again.action == Replace(image=str(tmp_path / "cover.png"))


def test_the_requested_policy_is_named_in_the_verdict(tiny, tmp_path) -> None:
    from nsfw_guard.policy.policy import Policy

    def asked(**settings) -> str:
        return Guard.from_pretrained(tiny, **settings).check(smooth(1, 9, 9))[0].requested["policy"]

    policy = {"name": "mine", "rules": {"*": {"block": 0.5}}}
    assert [asked(), asked(policy=policy), asked(policy=Policy.load(policy))] == ["default", "mine", "mine"]
    Guard.from_pretrained(tiny, policy=policy).save_pretrained(tmp_path / "guard")
    verdict = Guard.from_pretrained(tmp_path / "guard").check(smooth(1, 9, 9))[0]
    assert (verdict.requested["policy"], verdict.policy) == ("as saved", "mine")


def test_a_calibration_travels_along(tiny, tmp_path) -> None:
    name = Guard.from_pretrained(tiny).spec.name
    calibration = Calibration(model=name, maps={"sexual": (2.0, -1.0)}, source="40 shapes")
    guard = Guard.from_pretrained(tiny, calibration=calibration)
    guard.save_pretrained(tmp_path / "guard")

    again = Guard.from_pretrained(tmp_path / "guard")

    pixels = smooth(2, 40, 40)
    plain = Guard.from_pretrained(tiny).check(pixels)
    assert [v.score for v in again.check(pixels)] == [v.score for v in guard.check(pixels)]
    assert [v.score for v in again.check(pixels)] != [v.score for v in plain]
    assert again.state["calibration"] == "40 shapes"


def test_a_calibration_file_is_taken(tiny, tmp_path) -> None:
    name = Guard.from_pretrained(tiny).spec.name
    Calibration(model=name, maps={"sexual": (1.0, 3.0)}).save(tmp_path / "c.json")
    (plain,) = Guard.from_pretrained(tiny).check(smooth(1, 40, 40))
    (moved,) = Guard.from_pretrained(tiny, calibration=tmp_path / "c.json").check(smooth(1, 40, 40))
    assert moved.score > plain.score


def test_a_backend_without_weights_cannot_be_saved(tmp_path) -> None:
    with pytest.raises(ConfigError, match="FakeBackend cannot be saved"):
        Guard(FakeBackend()).save_pretrained(tmp_path / "guard")


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", json.dumps({"policy": {"rules": {"*": {"block": 0.5}}}, "action": {"name": "melt"}})]
)
def test_a_guard_file_that_cannot_be_read_is_refused(tiny, tmp_path, content) -> None:
    Guard.from_pretrained(tiny).save_pretrained(tmp_path / "guard")
    (tmp_path / "guard" / "guard.json").write_text(content)
    with pytest.raises(ConfigError):
        Guard.from_pretrained(tmp_path / "guard")


def test_requested_and_effective_settings_are_both_reported(tiny) -> None:
    verdict = Guard.from_pretrained(tiny, dtype=torch.float32, resize="fast", timeout=60).check(smooth(1, 9, 9))[0]
    assert verdict.requested["model"] == str(tiny)
    assert (verdict.requested["dtype"], verdict.state["dtype"]) == ("float32", "float32")
    assert (verdict.requested["resize"], verdict.state["resize"]) == ("fast", "fast")
    assert verdict.state["timeout"] == "60 s"


def test_warm_up_runs_the_model_at_the_sizes_named(tiny) -> None:
    backend = FakeBackend()
    Guard(backend).warm_up([(300, 200), (64, 64)])
    assert (backend.calls, backend.frames) == (2, 2)
    Guard.from_pretrained(tiny).warm_up()


def test_a_saved_rule_for_clips_comes_back_with_trust_only(tiny, tmp_path) -> None:
    policy = {"rules": {"sexual": {"block": 0.4}}, "clips": {"rule": "k-of-n", "k": 3, "n": 5}}
    guard = Guard.from_pretrained(tiny, policy=policy)
    guard.save_pretrained(tmp_path / "guard")
    with pytest.raises(
        ConfigError, match="a clip is flagged by 3 flagged frames among 5 neighbouring ones, not by one"
    ):
        Guard.from_pretrained(tmp_path / "guard")
    again = Guard.from_pretrained(tmp_path / "guard", trust_guard=True)
    assert again.policy == guard.policy
    assert "3 flagged frames among 5" in again.check(smooth(1, 9, 9))[0].requested["trusted"]
    assert Guard.from_pretrained(tmp_path / "guard", policy="default").policy.clips.rule == "worst"


def test_a_guard_is_not_saved_over_the_calibration_of_another(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "model")
    calibration = Calibration(model=Guard.from_pretrained(model).spec.name, maps={"sexual": (1.0, 0.5)})
    Guard.from_pretrained(model, calibration=calibration).save_pretrained(tmp_path / "saved")
    before = {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()}
    with pytest.raises(ConfigError, match="holds the calibration of another guard, and this one has none"):
        Guard.from_pretrained(model).save_pretrained(tmp_path / "saved")
    assert {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()} == before
