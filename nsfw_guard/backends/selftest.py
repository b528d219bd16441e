"""The self-test: a model whose answers to a few synthetic images differ from its record is refused."""

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
# The least difference of log-odds for two answers to differ: one in a thousand at even odds.
ALIKE, EDGE = 4e-3, 1e-12
# Between machines float32 moves a probability by about 1e-6, bfloat16 by up to 0.02 (measured on the demo models).
TOLERANCE = {torch.float32: 2e-3, torch.float16: 2e-2, torch.bfloat16: 6e-2}


def canaries() -> dict[str, Tensor]:
    """Return synthetic images, the same bits on every machine. Shape: (3, SIDE, SIDE), uint8."""
    y, x = np.mgrid[0:CANARY_SIDE, 0:CANARY_SIDE]
    disc = ((x - 44) ** 2 + (y - 52) ** 2 < 30**2)[..., None]
    images = {
        "ramp": np.stack(
            [x * 255 // (CANARY_SIDE - 1), y * 255 // (CANARY_SIDE - 1), (x + y) * 255 // (2 * CANARY_SIDE - 2)], -1
        ),
        "stripes": np.stack([(x // 8 % 2) * 255, (y // 12 % 2) * 200, ((x + y) // 16 % 2) * 255], -1),
        "disc": np.where(disc, (220, 40, 30), (255, 255, 255)),
    }
    return {name: torch.from_numpy(p.astype(np.uint8)).permute(2, 0, 1).contiguous() for name, p in images.items()}


def more_images() -> list[Tensor]:
    """Return the canaries as negatives and with rotated channels, to test whether a model reacts to its input."""
    plain = list(canaries().values())
    return [255 - image for image in plain] + [image.roll(1, 0).flip(2) for image in plain]


def compare(
    spec: ModelSpec,
    ask: Callable[[], Mapping[str, tuple[float, ...]]],
    tolerance: float,
    more: Callable[[], list[tuple[float, ...]]] | None = None,
) -> SelfTest:
    """Compare a model's answers to the canaries, asked for twice, with its record.

    Args:
        spec: the record.
        ask: returns the answers to the canaries.
        tolerance: the largest difference to the recorded answers.
        more: returns the answers to more images, used where none are recorded. Without it a model of lower precision
            need not tell the canaries apart, since its answers may be rounded to the same number.

    Raises:
        SelfTestError: the answers are not probabilities, change between calls, differ from the record, or are the same
            for every image.
    """
    first = ask()
    flat = [p for answers in first.values() for p in answers]
    if any(len(a) != len(spec.labels) for a in first.values()) or not all(0.0 <= p <= 1.0 for p in flat):
        raise SelfTestError(
            f"the answers of {spec.name!r} are not probabilities: its weights are damaged, fetch them again"
        )
    if not _apart(first, ask()) <= 1e-3:
        raise SelfTestError(
            f"{spec.name!r} gives different answers to the same image: use a deterministic model or runtime"
        )
    if not spec.known_answers:
        if more is not None or tolerance <= TOLERANCE[torch.float32]:
            _looks(spec, [*first.values(), *(more() if more else ())])
        return SelfTest.UNRECORDED
    apart = _apart_by_name(spec, by_label(spec, first))
    if not apart <= tolerance:
        raise SelfTestError(
            f"the answers of {spec.name!r} differ from its record by {apart:.3f}: use the weights, labels and "
            "preprocessing of the record"
        )
    return SelfTest.PASSED


def _looks(spec: ModelSpec, rows: list[tuple[float, ...]]) -> None:
    """Raise an error when different images get the same answer, as with weights of zeros or an overwhelming bias.

    Answers are compared as log-odds: a model may be sure about all images, as long as it is not equally sure.
    """
    odds = [[_log_odds(p) for p in label] for label in zip(*rows, strict=True)]
    if not max(max(label) - min(label) for label in odds) >= ALIKE:
        raise SelfTestError(
            f"{spec.name!r} gives the same answer to {len(rows)} different images: its weights or its preprocessing "
            "are damaged, fetch them again"
        )


def _log_odds(p: float) -> float:
    inside = min(max(p, EDGE), 1 - EDGE)
    return math.log(inside / (1 - inside))


def by_label(spec: ModelSpec, rows: Mapping[str, tuple[float, ...]]) -> dict[str, dict[str, float]]:
    return {image: dict(zip(spec.labels, row, strict=True)) for image, row in rows.items()}


def _apart_by_name(spec: ModelSpec, answers: Mapping[str, Mapping[str, float]]) -> float:
    """The largest difference to the recorded answers, compared by label."""
    recorded = spec.known_answers
    if set(recorded) != set(answers) or any(set(recorded[name]) != set(answers[name]) for name in answers):
        raise SelfTestError(
            f"the record of {spec.name!r} must have one answer for each label ({', '.join(spec.labels)}) and each of "
            f"{', '.join(answers)}: record the answers again"
        )
    return max(abs(p - recorded[name][label]) for name, row in answers.items() for label, p in row.items())


def _apart(one: Mapping[str, tuple[float, ...]], other: Mapping[str, tuple[float, ...]]) -> float:
    return max(abs(a - b) for name in one for a, b in zip(one[name], other[name], strict=True))
