"""Compares an export with the float32 network, input by input and threshold by threshold."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from nsfw_guard.errors import SelfTestError
from nsfw_guard.tools.exporting.columns import Columns
from nsfw_guard.tools.exporting.pack import Inputs
from nsfw_guard.tools.exporting.result import EXACT_CHANGE, MAX_FLIPS, REDUCED_CHANGE, Parity, Precision

Answer = Callable[[Tensor], Tensor]  # from what the model is shown (uint8) to probabilities
BATCH = 32  # inputs that are judged at a time
STEP = 1e-4  # margins are rounded up to a multiple of this
BAND = 2.0  # times what was measured: on other images float16 has moved scores by 1.3 times as much


def compare(float32: Answer, export: Answer, inputs: Iterable[Inputs], columns: Columns, *, exact: bool) -> Parity:
    """Return how an export compares.

    Args:
        float32: answers of the network that was exported.
        export: answers of the export.
        inputs: what both are shown.
        columns: the scores, and the thresholds that they are compared with.
        exact: whether the thresholds stay; else they are lowered by twice the largest change of a score.
    """
    expected, given, images = [], [], []
    for pixels, numbers in _batches(inputs):
        expected.append(columns.of(float32(pixels)))
        given.append(columns.of(export(pixels)))
        images += numbers
    one, other, owners = torch.cat(expected), torch.cat(given), torch.tensor(images)
    change = float((one - other).abs().max())  # NaN where any is
    margin = 0.0 if exact or not math.isfinite(change) else round(math.ceil(BAND * change / STEP) * STEP, 6)
    before, after = columns.held(one), columns.held(other, margin)
    verdicts = by_image(before, owners)
    return Parity(
        images=len(verdicts),
        inputs=len(owners),
        steered=int((owners < 0).sum()),
        blocked=int(before.any(1).sum()),
        max_change=change,
        margin=margin,
        flips=most(verdicts != by_image(columns.held(other), owners)),
        stricter=most(~verdicts & by_image(after, owners)),
        released=int((before & ~after).any(1).sum()),
    )


def by_image(held: Tensor, owners: Tensor) -> Tensor:
    """Return which images are held back at each threshold, in any view. Shape: (images, thresholds)."""
    numbers = sorted(set(owners.tolist()) - {-1})
    return torch.stack([held[owners == number].any(0) for number in numbers]) if numbers else held[:0]


def most(flags: Tensor) -> int:
    """Return at how many images a flag is set, at the threshold where it is at most."""
    return int(flags.sum(0).max()) if len(flags) else 0


def why_refused(parity: Parity, precision: Precision) -> str:
    """Return why an export must not be written, or an empty text."""
    limit = EXACT_CHANGE if precision == "fp32" else REDUCED_CHANGE
    if not parity.max_change <= limit:
        return f"at most {limit:g} is allowed"
    if parity.released:
        return "every input that is blocked must stay blocked"
    if precision != "fp32" and not parity.blocked:
        return "no input is blocked, so that nothing is shown: name images that the model blocks (--parity FOLDER)"
    if not parity.flip_share <= MAX_FLIPS:
        return f"at most {MAX_FLIPS:.1%} of the images may get another verdict"
    return ""


def refusal(what: str, parities: dict[str, Parity], precision: Precision) -> SelfTestError:
    """Return the error that says what was measured of each way, and what helps."""
    said = "; ".join(f"{way or what}: {parity} ({why_refused(parity, precision)})" for way, parity in parities.items())
    cure = "update torch and the runtime" if precision == "fp32" else "use a higher precision (--precision fp32)"
    return SelfTestError(
        f"{what} gives other verdicts than the float32 network, and nothing was written. {said}: {cure}"
    )


def _batches(inputs: Iterable[Inputs]) -> Iterable[tuple[Tensor, list[int]]]:
    """The inputs in batches of about the same size, so that images with few views are not judged one by one."""
    held: list[Tensor] = []
    numbers: list[int] = []
    for one in inputs:
        held.append(one.pixels)
        numbers += one.images
        if len(numbers) >= BATCH:
            yield torch.cat(held), numbers
            held, numbers = [], []
    if held:
        yield torch.cat(held), numbers
