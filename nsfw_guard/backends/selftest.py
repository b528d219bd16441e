"""A few synthetic pictures with known answers: a model that does not answer as recorded never starts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from nsfw_guard.backends.spec import ModelSpec
from nsfw_guard.errors import SelfTestError
from nsfw_guard.verdict import SelfTest

CANARY_SIDE = 96
# How far log-odds must lie apart for two answers to differ: one in a thousand at even odds.
ALIKE, EDGE = 4e-3, 1e-12
# Between machines float32 moves a probability by about 1e-6, bfloat16 by up to 0.02 (measured on the demo models).
TOLERANCE = {torch.float32: 2e-3, torch.float16: 2e-2, torch.bfloat16: 6e-2}


def canaries() -> dict[str, Tensor]:
    """Return synthetic pictures, the same bits everywhere. Shape: (3, SIDE, SIDE), uint8."""
    y, x = np.mgrid[0:CANARY_SIDE, 0:CANARY_SIDE]
    disc = ((x - 44) ** 2 + (y - 52) ** 2 < 30**2)[..., None]
    pictures = {
        "ramp": np.stack(
            [x * 255 // (CANARY_SIDE - 1), y * 255 // (CANARY_SIDE - 1), (x + y) * 255 // (2 * CANARY_SIDE - 2)], -1
        ),
        "stripes": np.stack([(x // 8 % 2) * 255, (y // 12 % 2) * 200, ((x + y) // 16 % 2) * 255], -1),
        "disc": np.where(disc, (220, 40, 30), (255, 255, 255)),
    }
    return {name: torch.from_numpy(p.astype(np.uint8)).permute(2, 0, 1).contiguous() for name, p in pictures.items()}


def more_pictures() -> list[Tensor]:
    """Return the canaries as negatives and with their channels turned round: to see whether a model looks at all."""
    plain = list(canaries().values())
    return [255 - picture for picture in plain] + [picture.roll(1, 0).flip(2) for picture in plain]


def compare(
    spec: ModelSpec,
    ask: Callable[[], Mapping[str, tuple[float, ...]]],
    tolerance: float,
    more: Callable[[], list[tuple[float, ...]]] | None = None,
) -> SelfTest:
    """Hold the answers to the canaries, asked for twice, against the record.

    Args:
        spec: the record.
        ask: the answers to the canaries.
        tolerance: how far they may lie from the recorded ones.
        more: the answers to more pictures, where nothing is recorded. Without them a model of lower precision is not
            held to tell the canaries apart: its few levels may round three answers to one.

    Raises:
        SelfTestError: the answers are no probabilities, change from one call to the next, are not the recorded ones, or
            are the same for every picture.
    """
    first = ask()
    flat = [p for answers in first.values() for p in answers]
    if any(len(a) != len(spec.labels) for a in first.values()) or not all(0.0 <= p <= 1.0 for p in flat):
        raise SelfTestError(
            f"{spec.name!r} does not answer with probabilities: its weights are damaged, fetch them again"
        )
    if not _apart(first, ask()) <= 1e-3:
        raise SelfTestError(f"{spec.name!r} gives different answers to the same picture: it is not deterministic")
    if not spec.known_answers:
        if more is not None or tolerance <= TOLERANCE[torch.float32]:
            _looks(spec, [*first.values(), *(more() if more else ())])
        return SelfTest.UNRECORDED
    apart = _apart_by_name(spec, by_label(spec, first))
    if not apart <= tolerance:
        raise SelfTestError(
            f"{spec.name!r} does not answer as recorded (off by {apart:.3f}): the weights, the labels or the "
            "preprocessing are not those of the record"
        )
    return SelfTest.PASSED


def _looks(spec: ModelSpec, rows: list[tuple[float, ...]]) -> None:
    """Raises when unlike pictures get one and the same answer: weights of zeros, a bias that drowns all else.

    Compared as log-odds: a model that is sure of all three is not blind, as long as it is not equally sure.
    """
    odds = [[_log_odds(p) for p in label] for label in zip(*rows, strict=True)]
    if not max(max(label) - min(label) for label in odds) >= ALIKE:
        raise SelfTestError(
            f"{spec.name!r} gives one answer to {len(rows)} pictures that are not alike: its weights or its "
            "preprocessing are damaged, fetch them again"
        )


def _log_odds(p: float) -> float:
    inside = min(max(p, EDGE), 1 - EDGE)
    return math.log(inside / (1 - inside))


def by_label(spec: ModelSpec, rows: Mapping[str, tuple[float, ...]]) -> dict[str, dict[str, float]]:
    return {picture: dict(zip(spec.labels, row, strict=True)) for picture, row in rows.items()}


def _apart_by_name(spec: ModelSpec, answers: Mapping[str, Mapping[str, float]]) -> float:
    """The largest difference to the recorded answers, each held against the label of its name."""
    recorded = spec.known_answers
    if set(recorded) != set(answers) or any(set(recorded[name]) != set(answers[name]) for name in answers):
        raise SelfTestError(
            f"the known answers of {spec.name!r} are not one for each label ({', '.join(spec.labels)}) on each of "
            f"{', '.join(answers)}: record them again"
        )
    return max(abs(p - recorded[name][label]) for name, row in answers.items() for label, p in row.items())


def _apart(one: Mapping[str, tuple[float, ...]], other: Mapping[str, tuple[float, ...]]) -> float:
    return max(abs(a - b) for name in one for a, b in zip(one[name], other[name], strict=True))
