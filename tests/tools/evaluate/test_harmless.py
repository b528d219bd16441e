"""What is counted as covered: exactly what a guard would cover, and never what could not be judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nsfw_guard.backends.spec import Label, ScoreSpec
from nsfw_guard.errors import ConfigError
from nsfw_guard.guard import Guard
from nsfw_guard.imaging.limits import Limits
from nsfw_guard.policy.policy import Policy
from nsfw_guard.policy.rules import Rule, Threshold
from nsfw_guard.scores import Scores, Severity
from nsfw_guard.testing import FakeBackend, Fault, FaultyBackend
from nsfw_guard.tools.evaluate.harmless import ANY, Answer, criteria_of, measure
from nsfw_guard.tools.evaluate.images import ImageFile
from nsfw_guard.verdict import Outcome

SIZE = 20


def paint(path: Path, red: int, size: tuple[int, int] = (SIZE, SIZE)) -> ImageFile:
    """An image of which `red` columns of 20 are red."""
    image = Image.new("RGB", size, (0, 0, 255))
    image.paste((255, 0, 0), (0, 0, red * size[0] // SIZE, size[1]))
    image.save(path)
    return ImageFile(str(path))


def answers(backend: Any, files: Sequence[ImageFile], **settings: Any) -> list[Answer]:
    guard = Guard(backend, limits=settings.pop("limits", None))
    measured = measure({"m": guard}, {"m": criteria_of(guard)}, files, **settings)
    return [image.answers["m"] for image in measured]


class TwoCategories(FakeBackend):
    """Scores violence by blue, in one level, and sexual in two, by red."""

    spec: Any = ScoreSpec(
        name="two",
        labels={"soft": Label("sexual", Severity.LOW), "hard": Label("sexual"), "fight": Label("violence"),
                "face": Label("face"), "none": None},
        thresholds={"default": Threshold(block=0.5, source="chosen"), "strict": Threshold(block=0.2, source="chosen")},
        neutral=("face",),
        positive=Severity.HIGH,
    )  # fmt: skip

    def score(self, stacks: Sequence[Any], **wants: bool) -> list[Scores]:
        scores = []
        for stack in stacks:
            for frame in stack.quantise()[0]:
                red = float((frame[0] > 128).float().mean())
                levels = {
                    "sexual": {Severity.LOW: red, Severity.HIGH: red / 2}, "violence": {Severity.HIGH: 1 - red},
                    "face": {Severity.HIGH: 1.0},
                }  # fmt: skip
                scores.append(Scores.single(levels))
        return scores


def test_every_threshold_of_the_record_is_a_criterion_from_the_most_lenient_on() -> None:
    criteria = criteria_of(Guard(FakeBackend()))
    assert [(c.label, c.threshold, c.block) for c in criteria] == [
        ("red (high)", "lenient", 0.9),
        ("red (high)", "default", 0.5),
        ("red (high)", "strict", 0.25),
    ]


def test_levels_and_all_categories_are_criteria_and_neutral_categories_are_none() -> None:
    criteria = criteria_of(Guard(TwoCategories()), Policy(rules={"violence": Rule(block=0.7)}, name="mine"))
    assert [(c.label, c.threshold) for c in criteria] == [
        ("sexual (low)", "default"), ("sexual (high)", "default"), ("violence (high)", "default"), (ANY, "default"),
        ("sexual (low)", "strict"), ("sexual (high)", "strict"), ("violence (high)", "strict"), (ANY, "strict"),
        (ANY, "policy mine"),
    ]  # fmt: skip
    assert criteria[3].block is None
    assert criteria[-1].block == 0.7


def test_a_record_without_thresholds_needs_a_policy() -> None:
    class Bare(FakeBackend):
        spec = ScoreSpec(name="bare", labels={"red": Label("red"), "other": None})

    rule = {"red": Rule(block=0.5)}
    guard = Guard(Bare(), policy=Policy(rules=rule))
    with pytest.raises(ConfigError, match="names no threshold"):
        criteria_of(guard)
    assert [c.threshold for c in criteria_of(guard, Policy(rules=rule, name="p"))] == ["policy p"]


def test_outcomes_and_scores_are_those_of_the_guard(tmp_path: Path) -> None:
    files = [paint(tmp_path / f"{red}.png", red) for red in (0, 3, 5, 10, 19)]
    result = answers(FakeBackend(), files)
    assert [one.scores["red", Severity.HIGH] for one in result] == pytest.approx([0.0, 0.15, 0.25, 0.5, 0.95])
    a, r, b = Outcome.ALLOW, Outcome.REVIEW, Outcome.BLOCK
    assert [one.outcomes for one in result] == [(a, a, a), (a, a, r), (a, r, b), (r, b, b), (b, b, b)]
    for index, policy in enumerate(("lenient", "default", "strict")):
        verdicts = Guard(FakeBackend(), policy=policy).check([file.path for file in files])
        assert [one.outcomes[index] for one in result] == [verdict.outcome for verdict in verdicts]


def test_scores_do_not_depend_on_the_criteria(tmp_path: Path) -> None:
    """A record without thresholds is judged by a policy only, and has scores all the same."""
    backend = TwoCategories()
    backend.spec = replace(TwoCategories.spec, thresholds={})
    policy = Policy(rules={"sexual": Rule(block=0.9)}, name="mine")
    guard = Guard(backend, policy=policy)
    files = [paint(tmp_path / "a.png", 15)]
    (image,) = measure({"m": guard}, {"m": criteria_of(guard, policy)}, files)
    assert image.answers["m"].scores == pytest.approx(
        {("sexual", Severity.LOW): 0.75, ("sexual", Severity.HIGH): 0.375, ("violence", Severity.HIGH): 0.25}
    )


def test_all_categories_together_are_decided_by_the_preset(tmp_path: Path) -> None:
    files = [paint(tmp_path / f"{red}.png", red) for red in (0, 12, 20)]
    result = answers(TwoCategories(), files)
    for index, policy in ((3, "default"), (7, "strict")):
        verdicts = Guard(TwoCategories(), policy=policy).check([file.path for file in files])
        assert [one.outcomes[index] for one in result] == [verdict.outcome for verdict in verdicts]
    assert [one.outcomes[3] for one in result] == [Outcome.BLOCK, Outcome.ALLOW, Outcome.BLOCK]


@pytest.mark.parametrize("fault", ["raises", "nan", "infinite", "above one", "few", "many", "none", "wrong kind"])
def test_a_model_that_fails_has_judged_nothing(fault: Fault, tmp_path: Path) -> None:
    (answer,) = answers(FaultyBackend(fault), [paint(tmp_path / "a.png", 0)])
    assert answer.outcomes == ()
    assert answer.scores == {}
    assert answer.fault


def test_a_file_that_cannot_be_read_is_not_judged_and_the_others_are(tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(b"\x89PNG nothing")
    files = [paint(tmp_path / "a.png", 20), ImageFile(str(tmp_path / "b.png")), paint(tmp_path / "c.png", 0)]
    result = answers(FakeBackend(), files)
    assert [bool(one.fault) for one in result] == [False, True, False]
    assert [one.outcomes[1] for one in result if one.outcomes] == [Outcome.BLOCK, Outcome.ALLOW]


def test_the_worst_frame_of_an_animation_counts(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("blue", "red", "green")]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:], duration=50)
    (answer,) = answers(FakeBackend(), [ImageFile(str(tmp_path / "a.png"))])
    assert answer.scores["red", Severity.HIGH] == 1.0
    assert set(answer.outcomes) == {Outcome.BLOCK}


def test_an_image_that_was_partly_seen_is_held_for_review(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = [Image.fromarray(rng.integers(0, 90, (16, 16, 3), dtype=np.uint8)) for _ in range(6)]
    path = tmp_path / "a.png"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=50)
    limits = Limits(frames=2, unseen="review")
    (answer,) = answers(FakeBackend(), [ImageFile(str(path))], limits=limits)
    (verdict,) = Guard(FakeBackend(), limits=limits).check([str(path)])
    assert verdict.outcome is Outcome.REVIEW
    assert set(answer.outcomes) == {Outcome.REVIEW}


def test_a_file_is_decoded_once_for_all_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nsfw_guard.imaging import frames

    opened: list[str] = []

    class Counting(frames.Stream):
        def __init__(self, source: Any, **settings: Any) -> None:
            opened.append(str(source))
            super().__init__(source, **settings)

    monkeypatch.setattr(frames, "Stream", Counting)
    guards = {"red": Guard(FakeBackend()), "dull": Guard(FakeBackend(0.0)), "broken": Guard(FaultyBackend("raises"))}
    files = [paint(tmp_path / f"{red}.png", red) for red in (0, 20)]
    images = list(measure(guards, {n: criteria_of(g) for n, g in guards.items()}, files, batch_size=1))
    assert opened == [file.path for file in files]
    assert [image.answers["red"].outcomes[1] for image in images] == [Outcome.ALLOW, Outcome.BLOCK]
    assert [image.answers["dull"].outcomes[1] for image in images] == [Outcome.ALLOW, Outcome.ALLOW]
    assert {image.answers["broken"].fault for image in images} == {"RuntimeError: the model broke"}


def test_images_come_with_their_slices_and_times(tmp_path: Path) -> None:
    file = paint(tmp_path / "a.png", 0, (40, 20))
    guard = Guard(FakeBackend())
    (image,) = measure({"m": guard}, {"m": criteria_of(guard)}, [ImageFile(file.path, ("icon",))])
    assert image.slices == ("", "icon", "aspect long (2:1 or more)", "size up to 256")
    assert image.seconds["m"] > 0.0
    assert image.decode_seconds > 0.0
