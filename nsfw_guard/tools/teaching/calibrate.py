"""Calibrates a model on labelled images, and sets thresholds by what they promise."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nsfw_guard.backends.base import Backend
from nsfw_guard.calibration import Calibration
from nsfw_guard.errors import ConfigError
from nsfw_guard.policy.rules import Threshold
from nsfw_guard.tools.evaluate.intervals import clopper_pearson
from nsfw_guard.tools.teaching.fitting import calibration_error, curve, fit, log_loss, perfect_error
from nsfw_guard.tools.teaching.promise import CONFIDENCE, Promise, alarm_promise, miss_promise
from nsfw_guard.tools.teaching.scored import ScoredImage, by_kind, groups_of

LEAST_PER_KIND = 30  # images of each label that a map for one kind of view needs
FOR_MAPS = 0.5  # of the images
WORSE = 0.01  # by how much maps for kinds of view may raise the mean loss, which they should lower
LEAST_SCORE = 1e-6  # a threshold of 0 would block everything, and is none


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What thresholds must promise. One of `misses` and `alarms`, or neither, which only calibrates.

    Args:
        misses: the share of unsafe images that may be missed.
        alarms: the share of harmless images that may be blocked.
        review: the share of harmless images that may be held for review besides.
        confidence: how sure a promise must be.
    """

    misses: float | None = None
    alarms: float | None = None
    review: float | None = None
    confidence: float = CONFIDENCE

    def __post_init__(self) -> None:
        if self.misses is not None and self.alarms is not None:
            raise ConfigError("a threshold can promise few misses or few false alarms, not both: give one of them")
        if self.review is not None and self.misses is None and self.alarms is None:
            raise ConfigError("a review band lies below a threshold: promise misses or alarms, too")


@dataclass(frozen=True)
class Calibrated:
    """What was found for one category.

    Args:
        unsafe, harmless: images that thresholds were set on.
        error_before, error_after: the expected calibration error there.
        error_perfect: what a perfectly calibrated model with these scores exceeds in one case of twenty.
        promise: of the threshold; None where none was wanted.
        review: the review threshold; None where none was wanted.
        missed, flagged: how many unsafe images were missed, and harmless ones flagged, each with its 95% interval.
    """

    unsafe: int
    harmless: int
    error_before: float
    error_after: float
    error_perfect: float
    promise: Promise | None = None
    review: float | None = None
    missed: tuple[int, float, float] | None = None
    flagged: tuple[int, float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {**vars(self), "promise": None if self.promise is None else vars(self.promise)}


@dataclass(frozen=True)
class CalibrationResult:
    """A calibration, and how it came about."""

    calibration: Calibration
    categories: Mapping[str, Calibrated]
    faults: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def calibrate(
    backend: Backend, images: Sequence[ScoredImage], wanted: Wanted, *, source: str = ""
) -> CalibrationResult:
    """Fit maps on one half of the images, and set thresholds on the other.

    Copies and near-duplicates count once: what is promised is promised for independent images. Images that were not
    judged are left out, and named in the result.

    Args:
        backend: the model, without a calibration.
        images: what `score_images` yields.
        wanted: what the thresholds must promise.
        source: where the images are from, in words.

    Raises:
        TooFewImagesError: there are too few images for a promise; it says how many are needed.
        ConfigError: a category has images of one kind only, or its scores do not rise with the label.
    """
    judged = [one for one in images if not one.fault]
    groups = groups_of(judged)
    first_of = [at for at, group in enumerate(groups) if group == at]
    kept = [judged[at] for at in first_of]
    rest = np.array([not _for_maps(judged[at].image.path) for at in first_of], dtype=bool)
    spec, notes = backend.spec, []
    if copies := len(judged) - len(kept):
        notes.append(f"{copies} copies and near-duplicates of other images were left out")
    maps, views, results = {}, dict[str, dict[str, tuple[float, float]]](), {}
    for category in spec.positives:
        unsafe = np.array([category in one.image.categories for one in kept], dtype=bool)
        if not unsafe.any():
            notes.append(f"no image of {category}: it stays as it is")
            maps[category] = (1.0, 0.0)
            continue
        fitted = dict(_fitted(kept, category, unsafe, ~rest))
        maps[category] = fitted.pop("")
        for kind, one in fitted.items():
            views.setdefault(kind, {})[category] = one
    plain = Calibration(model=spec.name, maps=maps, revision=spec.version, source=source)
    plain = replace(plain, views=_helpful(kept, replace(plain, views=views), plain, ~rest))
    curves = dict(_curves(kept, plain, ~rest))
    plain = replace(plain, curves=curves)
    for category in spec.positives:
        unsafe = np.array([category in one.image.categories for one in kept], dtype=bool)
        if unsafe.any():
            results[category] = _set(kept, category, unsafe, rest, plain, wanted)
    calibration = replace(plain, thresholds=_thresholds(results, wanted, source))
    return CalibrationResult(
        calibration, results, {one.image.path: one.fault for one in images if one.fault}, tuple(notes)
    )


def _for_maps(path: str) -> bool:
    """Whether maps are fitted on an image: the same answer whenever and in whatever order images are given."""
    return hashlib.sha256(path.encode("utf-8", "surrogateescape")).digest()[0] < FOR_MAPS * 256


def _fitted(
    images: Sequence[ScoredImage], category: str, unsafe: NDArray[np.bool_], half: NDArray[np.bool_]
) -> Iterator[tuple[str, tuple[float, float]]]:
    """The map of all views, under an empty name, and those of kinds of view that have enough images."""
    scores = np.array([max(view[category] for view in one.views.values()) for one in images])
    whole = fit(scores[half], unsafe[half])
    yield "", (whole.slope, whole.shift)
    kinds = by_kind(images, category)
    if len(kinds) < 2:
        return
    for kind, members in kinds.items():
        chosen = np.array([at for at in members if half[at]], dtype=int)
        enough = min(int(unsafe[chosen].sum()), int((~unsafe[chosen]).sum())) >= LEAST_PER_KIND
        if enough:
            of_kind = fit(np.array([images[at].views[kind][category] for at in chosen]), unsafe[chosen])
            yield kind, (of_kind.slope, of_kind.shift)


def _helpful(
    images: Sequence[ScoredImage], split: Calibration, plain: Calibration, part: NDArray[np.bool_]
) -> dict[str, dict[str, tuple[float, float]]]:
    """The maps of kinds of view of those categories that they do not make worse.

    A guard decides by the highest score. A kind of view that says little, such as the middle of images with wide
    borders, is mapped to how often the category comes, and would lift every image to that.
    """
    useful = set[str]()
    for category in plain.maps:
        unsafe = np.array([category in one.image.categories for one in images], dtype=bool)[part]
        losses = [log_loss(_mapped(images, category, one)[part], unsafe) for one in (split, plain)]
        useful |= {category} if losses[0] <= losses[1] + WORSE else set()
    chosen = {kind: {c: m for c, m in maps.items() if c in useful} for kind, maps in split.views.items()}
    return {kind: maps for kind, maps in chosen.items() if maps}


def _curves(
    images: Sequence[ScoredImage], calibration: Calibration, part: NDArray[np.bool_]
) -> Iterator[tuple[str, tuple[tuple[float, float], ...]]]:
    """The curve of each category that has enough images."""
    for category in calibration.maps:
        unsafe = np.array([category in one.image.categories for one in images], dtype=bool)[part]
        if points := curve(_mapped(images, category, calibration)[part], unsafe):
            yield category, points


def _mapped(images: Sequence[ScoredImage], category: str, calibration: Calibration) -> NDArray[np.float64]:
    """The highest calibrated score of each image over its views, by which a guard decides."""
    return np.array([
        max(calibration.moved(category, view[category], kind=kind) for kind, view in one.views.items())
        for one in images
    ])  # fmt: skip


def _set(
    images: Sequence[ScoredImage], category: str, unsafe: NDArray[np.bool_], half: NDArray[np.bool_],
    calibration: Calibration, wanted: Wanted,
) -> Calibrated:  # fmt: skip
    """Measure and set thresholds on the images that nothing was fitted on."""
    raw = np.array([max(view[category] for view in one.views.values()) for one in images])[half]
    scores = _mapped(images, category, calibration)[half]
    there = unsafe[half]
    counts = int(there.sum()), int((~there).sum())
    if not all(counts):
        raise ConfigError(f"{category}: one part of the images has none of a kind, of {len(images)} in all: add some")
    errors = (calibration_error(raw, there), calibration_error(scores, there), perfect_error(scores))
    promise: Promise | None = None
    if wanted.misses is not None:
        promise = miss_promise(scores[there].tolist(), most=wanted.misses, confidence=wanted.confidence)
    elif wanted.alarms is not None:
        promise = alarm_promise(scores[~there].tolist(), most=wanted.alarms, confidence=wanted.confidence)
    if promise is None:
        return Calibrated(*counts, *errors)
    missed, flagged = int((scores[there] < promise.threshold).sum()), int((scores[~there] >= promise.threshold).sum())
    review = None
    if wanted.review is not None:
        most = flagged / counts[1] + wanted.review
        review = min(promise.threshold, float(np.quantile(scores[~there], max(0.0, 1.0 - most), method="higher")))
    rates = [(n, *clopper_pearson(n, of)) for n, of in ((missed, counts[0]), (flagged, counts[1]))]
    return Calibrated(*counts, *errors, promise, review, rates[0], rates[1])


def _thresholds(results: Mapping[str, Calibrated], wanted: Wanted, source: str) -> dict[str, Threshold]:
    """The thresholds that every preset uses: those of each category; for one without a promise, the strictest."""
    blocks = {c: min(1.0, max(LEAST_SCORE, one.promise.threshold)) for c, one in results.items() if one.promise}
    if not blocks:
        return {}
    reviews = {c: min(blocks[c], max(LEAST_SCORE, one.review)) for c, one in results.items() if one.review is not None}
    words = _words(wanted) + (f"; {source}" if source else "")
    threshold = Threshold(
        block=min(blocks.values()), review=min(reviews.values(), default=None), source=words,
        blocks=blocks, reviews=reviews,
    )  # fmt: skip
    return {"default": threshold, "strict": threshold, "lenient": threshold}


def _words(wanted: Wanted) -> str:
    if wanted.misses is not None:
        return f"at most {wanted.misses:g} of unsafe images missed, {wanted.confidence:.0%} sure"
    return f"at most {wanted.alarms:g} of harmless images blocked, {wanted.confidence:.0%} sure"
