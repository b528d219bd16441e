"""The two ways to teach: the last layer on embeddings, and blocks or all of a network by steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from nsfw_guard.backends.nets.network import Net
from nsfw_guard.tools.finetuning import curve
from nsfw_guard.tools.finetuning.images import Decoded
from nsfw_guard.tools.finetuning.learning.lesson import Lesson, table
from nsfw_guard.tools.finetuning.learning.probe import probe
from nsfw_guard.tools.finetuning.learning.student import Student, embed, numbers
from nsfw_guard.tools.finetuning.learning.training import train
from nsfw_guard.tools.finetuning.processes import processes
from nsfw_guard.tools.finetuning.recipe import Recipe
from nsfw_guard.tools.finetuning.split import Split, split
from nsfw_guard.tools.finetuning.watching import Stage, Watch


@dataclass(frozen=True)
class Shown:
    """The images that can be used.

    Args:
        decoded: all images.
        sound: the positions of those that can be used.
        classes: their classes. Shape: (n,).
        groups: copies have the same number.
        learnt: how many of them are to be learnt from; the others are the caller's validation images.
    """

    decoded: Decoded
    sound: tuple[int, ...]
    classes: Tensor
    groups: tuple[int, ...]
    learnt: int


@dataclass(frozen=True)
class Course:
    """How a run went: the network, its answers to images that it did not learn from, and what is written of it."""

    net: Net
    answers: tuple[tuple[int, ...], ...]
    epochs: int
    resumed: int
    curve: Image.Image
    facts: Mapping[str, Any]


def teach_head(student: Student, shown: Shown, recipe: Recipe, *, cpu: bool, watch: Watch) -> Course:
    """Teach the last layer on embeddings."""
    total = len(shown.sound)
    features = embed(
        student, shown.decoded.pixels, list(shown.sound), device=processes(cpu=cpu).device,
        batch_size=recipe.batch_size, tick=lambda done: watch(Stage.EMBEDDING, done, total, ""),
    )  # fmt: skip
    head = student.net.cpu().head()
    mine = slice(0, shown.learnt)
    result = probe(
        features[mine], shown.classes[mine], head, student.rows, groups=shown.groups[mine], balance=recipe.balance,
        seed=recipe.seed,
    )  # fmt: skip
    with torch.no_grad():
        head.weight.copy_(result.head.weight)
        head.bias.copy_(result.head.bias)
    answers = result.answers
    if shown.learnt < total:
        others = slice(shown.learnt, total)
        answers = table(result.head(features[others]).argmax(1), shown.classes[others], len(student.rows))
    image = curve.draw("Accuracy by images learnt from", "images", [("other images", result.curve)])
    facts = {"pull": result.pull, "loss": result.loss, "curve": [list(point) for point in result.curve]}
    return Course(student.net, answers, 0, 0, image, facts)


def teach_steps(
    student: Student, shown: Shown, recipe: Recipe, *, cpu: bool, watch: Watch, work: Path,
    seconds: float,
) -> Course:  # fmt: skip
    """Teach blocks, or all of the network."""
    if shown.learnt < len(shown.sound):
        sides = Split(tuple(range(shown.learnt)), tuple(range(shown.learnt, len(shown.sound))))
    else:
        sides = split(
            shown.groups, shown.classes.tolist(), tuple(student.spec.labels), share=recipe.validation, seed=recipe.seed
        )
    lesson = Lesson(shown.decoded.pixels, torch.tensor(shown.sound), shown.classes, sides, shown.decoded.hash)
    result = train(student, lesson, recipe, cpu=cpu, folder=work, seconds=seconds, watch=watch)
    lines = [
        ("training loss", [(at, epoch.training) for at, epoch in enumerate(result.epochs, 1)]),
        ("validation loss", [(at, epoch.validation) for at, epoch in enumerate(result.epochs, 1)]),
        ("wrong on validation", [(at, 1 - epoch.accuracy) for at, epoch in enumerate(result.epochs, 1)]),
    ]
    image = curve.draw("The course of the run", "epochs", lines, mark=result.best + 1)
    facts = {"epochs": [asdict(epoch) for epoch in result.epochs], "best": result.best + 1,
             "trained_numbers": numbers(student.net, trained=True)}  # fmt: skip
    return Course(result.net, result.epochs[result.best].answers, len(result.epochs), result.resumed, image, facts)
