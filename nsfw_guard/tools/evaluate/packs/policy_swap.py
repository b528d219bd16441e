"""Whether a judge goes by its rules: the same images under two policies that differ in one rule."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nsfw_guard.backends.judges.judge import Judge
from nsfw_guard.backends.spec import ScoreSpec
from nsfw_guard.errors import ConfigError, suggest
from nsfw_guard.guard import Guard
from nsfw_guard.tools.evaluate.highest import default_block, highest_scores
from nsfw_guard.tools.evaluate.labelled.counts import truth_of
from nsfw_guard.tools.evaluate.packs.pack import Pack
from nsfw_guard.tools.evaluate.page import percent
from nsfw_guard.tools.evaluate.summary import Rate
from nsfw_guard.tools.teaching.labelled import LabelledImage

BATCH = 8  # images that are asked about at a time
MEANING = (
    "The same images under two policies that differ in one rule. The verdict follows the rule where an image with the "
    "category is blocked under the first and not under the second, and one without it under neither."
)
HEADER = ("model", "category", "the other rule", "with it: follows", "without it: follows", "not judged")


@dataclass(frozen=True)
class Followed:
    """How often the verdicts of a category follow its rule.

    Args:
        having: of images with the category: blocked under the first rule, and not under the other.
        without: of images without it: blocked under neither.
        not_judged: images that got no score under one of both, and are in neither rate.
    """

    having: Rate
    without: Rate
    not_judged: int


def swapped(guard: Guard, category: str, rule: str) -> Guard:
    """Return a guard of the same judge with another rule for one category.

    Raises:
        ConfigError: the model is no judge, is calibrated, or has no such category.
    """
    backend = guard.backend
    if not isinstance(backend, Judge):
        inside = getattr(backend, "backend", None)
        cure = "leave the calibration out" if isinstance(inside, Judge) else "name a judge (see `nsfw-guard models`)"
        raise ConfigError(f"{guard.spec.name!r} does not go by written rules that could be swapped: {cure}")
    if category not in backend.spec.questions:
        raise ConfigError(f"the judge has no rule for {category!r}: {suggest(category, backend.spec.questions)}")
    return Guard(backend.with_questions({**backend.spec.questions, category: rule}), limits=guard.limits)


def followed(
    before: Sequence[Mapping[str, float]],
    after: Sequence[Mapping[str, float]],
    images: Sequence[LabelledImage],
    category: str,
    spec: ScoreSpec,
) -> Followed:
    """Count verdicts that follow the rule.

    Args:
        before, after: the scores of each image under both policies.
        images: the images, in the same order.
        category: whose rule differs.
        spec: the record, whose threshold `default` decides.
    """
    block = default_block(spec, category)
    counts = {True: [0, 0], False: [0, 0]}
    not_judged = 0
    for image, first, second in zip(images, before, after, strict=True):
        truth = truth_of(image, category, None, spec)
        if truth is None:
            continue
        if math.isnan(first[category]) or math.isnan(second[category]):
            not_judged += 1
            continue
        verdicts = not first[category] < block, not second[category] < block
        counts[truth][0] += verdicts == (truth, False)
        counts[truth][1] += 1
    return Followed(Rate(*counts[True]), Rate(*counts[False]), not_judged)


def twins_of(guards: Mapping[str, Guard], swaps: Mapping[str, str]) -> dict[tuple[str, str], Guard]:
    """Return a guard with another rule for each guard and category, before anything is measured.

    Raises:
        ConfigError: a model takes no rules, or has no such category.
    """
    return {(name, c): swapped(guard, c, rule) for name, guard in guards.items() for c, rule in swaps.items()}


def pack_of(
    guards: Mapping[str, Guard],
    twins: Mapping[tuple[str, str], Guard],
    swaps: Mapping[str, str],
    images: Sequence[LabelledImage],
) -> Pack:
    """Return the section of the report.

    Args:
        guards: judges by name.
        twins: what `twins_of` returns.
        swaps: by category the other rule, which images with the category must not break.
        images: what is judged under both.
    """
    texts, content = [], []
    for name, guard in guards.items():
        before = _scores(guard, images)
        for category, rule in swaps.items():
            one = followed(before, _scores(twins[name, category], images), images, category, guard.spec)
            texts.append(
                (name, category, rule, percent(one.having), percent(one.without), str(one.not_judged))
            )  # fmt: skip
            content.append({
                "model": name, "category": category, "other_rule": rule, "follows_with": one.having.to_dict(),
                "follows_without": one.without.to_dict(), "not_judged": one.not_judged,
            })  # fmt: skip
    return Pack("Policy swap", MEANING, HEADER, tuple(texts), tuple(content))


def _scores(guard: Guard, images: Sequence[LabelledImage]) -> list[dict[str, float]]:
    paths = [image.path for image in images]
    parts = (highest_scores(guard, paths[start : start + BATCH]) for start in range(0, len(paths), BATCH))
    return [row for part in parts for row in part]
