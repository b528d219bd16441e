"""Calibration on labelled images: what it writes is what a guard then does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nsfw_guard.calibration import Calibration
from nsfw_guard.errors import ConfigError, UnknownNameError
from nsfw_guard.guard import Guard
from nsfw_guard.testing import FakeBackend
from nsfw_guard.tools.teaching.calibrate import CalibrationResult, Wanted, calibrate
from nsfw_guard.tools.teaching.copies import Look
from nsfw_guard.tools.teaching.labelled import LabelledImage, read_labelled
from nsfw_guard.tools.teaching.promise import TooFewImagesError
from nsfw_guard.tools.teaching.scored import ScoredImage, groups_of, score_images
from nsfw_guard.verdict import Outcome

SAME = Look("ab" * 32, np.zeros((8, 8, 3), np.uint8))
UNSAFE, HARMLESS = frozenset({"red"}), frozenset[str]()


def scored(count: int, *, seed: int = 0, kinds: tuple[str, ...] = ("full",), shift: float = 0.0) -> list[ScoredImage]:
    """Images whose scores are too sure of themselves."""
    rng = np.random.default_rng(seed)
    images = []
    for number in range(count):
        true = rng.beta(0.4, 0.4)
        unsafe = rng.random() < true
        views = {}
        for at, kind in enumerate(kinds):
            odds = 3 * np.log((true + 1e-6) / (1 - true + 1e-6)) - at * shift
            views[kind] = {"red": float(1 / (1 + np.exp(-odds)))}
        images.append(ScoredImage(LabelledImage(f"{seed}/{number}.png", UNSAFE if unsafe else HARMLESS), views))
    return images


def run(images: list[ScoredImage], **wanted: float) -> CalibrationResult:
    return calibrate(FakeBackend(), images, Wanted(**wanted))


def missed(images: list[ScoredImage], result: CalibrationResult, *, unsafe: bool = True) -> float:
    """The share of images below the threshold, of unsafe ones, or at or above it, of harmless ones."""
    block = result.calibration.thresholds["default"].block_of("red")
    chosen = [one for one in images if bool(one.image.categories) == unsafe]
    high = [
        max(result.calibration.moved("red", view["red"], kind=kind) for kind, view in one.views.items()) >= block
        for one in chosen
    ]
    return sum(flag != unsafe for flag in high) / len(chosen)


def test_scores_become_frequencies_and_the_promise_holds_on_other_images() -> None:
    result = run(scored(3000), misses=0.05)
    found = result.categories["red"]
    assert found.error_before > 0.05 > found.error_after
    assert found.error_after <= found.error_perfect
    assert found.promise is not None
    assert found.promise.bound <= 0.05
    assert missed(scored(20_000, seed=1), result) <= 0.05
    assert result.calibration.maps["red"][0] == pytest.approx(1 / 3, rel=0.2)


def test_a_budget_of_false_alarms_holds_on_other_images_and_leaves_a_band_for_review() -> None:
    result = run(scored(3000), alarms=0.02, review=0.05)
    assert missed(scored(20_000, seed=1), result, unsafe=False) <= 0.02
    threshold = result.calibration.thresholds["default"]
    assert threshold.review is not None
    assert threshold.review < threshold.block
    assert (threshold.block_of("red"), threshold.review_of("red")) == (threshold.block, threshold.review)
    assert threshold.source == "at most 0.02 of harmless images blocked, 95% sure"


def test_kinds_of_view_have_maps_of_their_own() -> None:
    result = run(scored(3000, kinds=("full", "side"), shift=2.0))
    assert set(result.calibration.views) == {"full", "side"}
    assert result.calibration.views["side"]["red"][1] > result.calibration.views["full"]["red"][1] + 0.4


def test_cells_have_a_map_of_their_own_though_few_images_have_any() -> None:
    images = scored(3000, kinds=("center", "content"), shift=2.0)
    for one in images[::2]:
        del one.views["content"]
    result = run(images, misses=0.05)
    assert set(result.calibration.views) == {"center", "content"}
    assert result.calibration.views["content"]["red"][1] > result.calibration.views["center"]["red"][1] + 0.4
    few = scored(3000, kinds=("center", "content"))
    for one in few[40:]:
        del one.views["content"]
    assert set(run(few).calibration.views) == {"center"}


def test_a_kind_of_view_that_says_nothing_does_not_lift_every_image() -> None:
    """As the middle of images with wide borders, beside a view that sees what is inside them."""
    images, rng = scored(160), np.random.default_rng(5)
    for one in images:
        unsafe = float("red" in one.image.categories)
        one.views["center"] = {"red": float(0.001 + 0.001 * rng.random() + 0.0001 * unsafe)}
    result = run(images)
    assert result.calibration.views == {}
    assert result.categories["red"].error_after < result.categories["red"].error_before + 0.03


def test_too_few_images_are_refused_with_the_number_that_is_needed() -> None:
    with pytest.raises(TooFewImagesError, match=r"'at most 0\.01 missed, 95% sure' needs 299 independent images"):
        run(scored(300), misses=0.01)


def test_copies_count_once() -> None:
    images = scored(2000)
    copy = images[0].views
    same = [ScoredImage(LabelledImage(f"copy {i}", HARMLESS), copy, look=SAME) for i in range(500)]
    assert len(set(groups_of(same))) == 1
    result = run([*images, *same])
    assert "499 copies and near-duplicates of other images were left out" in result.notes
    assert result.categories["red"].unsafe + result.categories["red"].harmless < 1600


def test_copies_with_different_labels_are_an_error_that_names_both() -> None:
    views = {"full": {"red": 0.5}}
    images = [
        ScoredImage(LabelledImage("a.png", UNSAFE), views, look=SAME),
        ScoredImage(LabelledImage("b.png", HARMLESS), views, look=SAME),
    ]
    with pytest.raises(ConfigError, match=r"b\.png \(harmless\) and a\.png \(red\) are the same image"):
        run(images)


def test_what_was_not_judged_is_left_out_and_named() -> None:
    broken = ScoredImage(LabelledImage("broken.png", UNSAFE), fault="no image")
    result = run([*scored(600), broken])
    assert result.faults == {"broken.png": "no image"}
    assert result.categories["red"].unsafe + result.categories["red"].harmless < 601


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ({"misses": 0.01, "alarms": 0.01}, "not both"),
        ({"review": 0.1}, "promise misses or alarms, too"),
    ],
)
def test_promises_that_exclude_each_other_are_refused(wanted: Mapping[str, float], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        Wanted(**wanted)


def painted(folder: Path, count: int, *, seed: int = 0) -> None:
    """Images by label whose share of red says how likely they are unsafe."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        columns = int(rng.integers(0, 33))
        label = "red" if rng.random() < columns / 32 else "safe"
        pixels = rng.integers(0, 60, (32, 32, 3), dtype=np.uint8)
        pixels[:, :columns] = (255, 0, 0)
        (folder / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / label / f"{number}.png")


def test_a_guard_uses_what_was_written(tmp_path: Path) -> None:
    painted(tmp_path / "in", 500)
    backend = FakeBackend()
    images = read_labelled([str(tmp_path / "in")], ["red"], {})
    result = calibrate(backend, list(score_images(backend, images)), Wanted(misses=0.1), source="painted images")
    result.calibration.save(tmp_path / "calibration.json")
    assert Calibration.load(tmp_path / "calibration.json") == result.calibration
    from nsfw_guard.backends.wrappers.calibrated import Calibrated

    guard = Guard(Calibrated(backend, Calibration.load(tmp_path / "calibration.json")), policy="default")
    assert guard.state["calibration"] == "painted images"
    block = result.calibration.thresholds["default"].block
    for verdict in guard.check([image.path for image in images[:50]]):
        assert verdict.threshold == block
        assert (verdict.outcome is Outcome.BLOCK) == (verdict.score is not None and verdict.score >= verdict.threshold)


def test_labels_come_from_folders_and_lists(tmp_path: Path) -> None:
    painted(tmp_path / "in", 30)
    paths = sorted((tmp_path / "in").rglob("*.png"))
    (tmp_path / "list.csv").write_text("path,label\n" + "".join(f"{p},{p.parent.name}\n" for p in paths))
    (tmp_path / "list.jsonl").write_text(
        "".join(json.dumps({"path": f"in/{p.parent.name}/{p.name}", "label": p.parent.name}) + "\n" for p in paths)
    )
    by_folder = read_labelled([str(tmp_path / "in")], ["red"], {})
    assert {image.path for image in by_folder} == set(map(str, paths))
    for name in ("list.csv", "list.jsonl"):
        assert set(read_labelled([str(tmp_path / name)], ["red"], {})) == set(by_folder)


@pytest.mark.parametrize(
    ("text", "labels", "why"),
    [
        (
            "path,label\na.png,zebra\n",
            {},
            "the label 'zebra' of .* means nothing yet: write --label zebra=CATEGORY",
        ),
        ("path,label\na.png,red\na.png,safe\n", {}, "labelled as harmless and as red"),
        ("path,kind\na.png,red\n", {}, "row 1 of list.csv has no texts 'path' and 'label'"),
        ("path,label\n", {}, "hold no labelled image"),
        ("path,label\na.png,x\n", {"x": "rad"}, "does not score 'rad': did you mean 'red'"),
    ],
)
def test_labels_that_mean_nothing_are_refused(text: str, labels: dict[str, str], why: str, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(ConfigError, match=why):
        read_labelled([str(tmp_path / "list.csv")], ["red"], labels)


def test_a_calibration_of_another_revision_is_refused() -> None:
    from nsfw_guard.backends.wrappers.calibrated import Calibrated

    with pytest.raises(ConfigError, match="at 'abc', not at"):
        Calibrated(FakeBackend(), Calibration(model="red", maps={"red": (1.0, 0.0)}, revision="abc"))
    with pytest.raises(UnknownNameError, match="kind of view"):
        Calibration(model="red", maps={"red": (1.0, 0.0)}, views={"sidde": {}})
