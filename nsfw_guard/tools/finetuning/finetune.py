"""From a model and labelled images to a folder with a model that knows them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from nsfw_guard.backends.base import Backend, Options
from nsfw_guard.backends.files.folder import relaxed_record
from nsfw_guard.backends.files.weights import sha256_of, verify
from nsfw_guard.backends.loaders import load_folder
from nsfw_guard.backends.spec import Label
from nsfw_guard.errors import ConfigError
from nsfw_guard.relaxed import refuse
from nsfw_guard.tools.evaluate.summary import Rate
from nsfw_guard.tools.finetuning.classes import Classes, classes_of
from nsfw_guard.tools.finetuning.folder import recalls, write
from nsfw_guard.tools.finetuning.images import Decoded, decode
from nsfw_guard.tools.finetuning.learning.courses import Course, Shown, teach_head, teach_steps
from nsfw_guard.tools.finetuning.learning.lesson import hash_of
from nsfw_guard.tools.finetuning.learning.student import Student, from_architecture, student_of
from nsfw_guard.tools.finetuning.processes import processes
from nsfw_guard.tools.finetuning.recipe import Part, Recipe
from nsfw_guard.tools.finetuning.split import leaks
from nsfw_guard.tools.finetuning.watching import Watch, quiet
from nsfw_guard.tools.finetuning.workspace import appear, model_in, workspace
from nsfw_guard.tools.teaching.copies import grouped
from nsfw_guard.version import __version__


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A network of timm to begin with, instead of a model.

    Args:
        name: in timm, such as "vit_tiny_patch16_384".
        arguments: of the network, such as {"img_size": 64}.
        size: side of its input, in pixels; None for the usual one.
        weights: a file of weights in safetensors; None for random ones.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    size: int | None = None
    weights: Path | None = None


@dataclass(frozen=True)
class Finetuned:
    """A taught model, and how good it is on images that it did not learn from.

    Args:
        model: the model, read from its folder.
        recalls: by class, how many of its images got its name.
        counts: by class, how many images there were.
        epochs: how many there were; 0 for the last layer alone.
        resumed: the step at which an earlier run was taken up; 0 for none.
        weights_hash: of all weights.
        faults: by path, why an image was left out.
        notes: what else should be known.
    """

    model: Backend
    recalls: Mapping[str, Rate]
    counts: Mapping[str, int]
    epochs: int
    resumed: int
    weights_hash: str
    faults: Mapping[str, str]
    notes: tuple[str, ...]

    @property
    def accuracy(self) -> Rate:
        """How many of all images got the right answer."""
        return Rate(sum(rate.hits for rate in self.recalls.values()), sum(rate.count for rate in self.recalls.values()))


def finetune(
    start: Backend | Architecture, images: Sequence[tuple[str, str]], out: str | Path, recipe: Recipe, *,
    validation: Sequence[tuple[str, str]] = (), meanings: Mapping[str, Label | None] | None = None,
    fresh: bool = False, views: str = "center", half: bool = False, cpu: bool = False, trust_guard: bool = False,
    seconds: float = 30.0, watch: Watch = quiet,
) -> Finetuned:  # fmt: skip
    """Teach a model from labelled images, and write it into a folder. A run that was stopped goes on.

    Args:
        start: a model, or an architecture.
        images: pairs of a path and a label.
        out: the folder of the model.
        recipe: how it is taught.
        validation: other pairs to measure on; by default a share of the images.
        meanings: what a label means, where its name does not say it.
        fresh: forget the classes of the model that are no labels of these images.
        views: "center", what the model's authors show it, or "squash", the whole image in one.
        half: store weights in float16.
        cpu: teach on the CPU, whatever accelerate finds.
        trust_guard: accept that labels such as NSFW count as harmless.
        seconds: between two checkpoints.
        watch: is called as work is done.

    Raises:
        ConfigError: the images cannot teach that, or the folder holds something else.

    Example:
        ```python
        pairs = [("a.png", "red-disc"), ("b.png", "other")]
        result = finetune(load_model("demo-shapes"), pairs, "mine", Recipe(part=Part.HEAD))
        ```
    """
    out, state = Path(out).absolute(), processes(cpu=cpu)
    pairs = [*images, *validation]
    classes = _classes(start, pairs, meanings or {}, fresh=fresh)
    student = _student(start, classes, out.name, recipe)
    refuse([] if trust_guard else relaxed_record(student.spec), out.name)
    paths = [path for path, _ in pairs]
    facts = {"recipe": recipe.to_dict(), "start": _start(start), "views": views}
    identity = [facts, classes.rows, _words(classes), pairs, len(images), half]
    with workspace(out, identity, alone=state.is_main_process) as work:
        state.wait_for_everyone()
        with state.main_process_first():  # the others then read what it has decoded
            decoded = decode(paths, student.spec.net_input, views=views, folder=work, watch=watch)
        shown, notes = _checked(decoded, classes, pairs, len(images), recipe)
        course = _taught(student, shown, recipe, cpu=cpu, watch=watch, work=work, seconds=seconds)
        weights_hash, counts = hash_of(course.net), _counts(shown, classes)
        if state.is_main_process:
            known = {**facts, "images": counts, "pixels_hash": decoded.hash, "weights_hash": weights_hash}
            _save(model_in(out), course, student, known, half=half, trust_guard=trust_guard)
    if state.is_main_process:
        appear(out)
    state.wait_for_everyone()
    model = load_folder(out, Options(trust_guard=trust_guard))
    return Finetuned(
        model, recalls(classes.names, course.answers), counts, course.epochs, course.resumed, weights_hash,
        {paths[at]: why for at, why in decoded.faults.items()}, notes,
    )  # fmt: skip


def _taught(
    student: Student, shown: Shown, recipe: Recipe, *, cpu: bool, watch: Watch, work: Path, seconds: float
) -> Course:
    if recipe.part is Part.HEAD:
        return teach_head(student, shown, recipe, cpu=cpu, watch=watch)
    return teach_steps(student, shown, recipe, cpu=cpu, watch=watch, work=work, seconds=seconds)


def _checked(
    decoded: Decoded, classes: Classes, pairs: Sequence[tuple[str, str]], learnt: int, recipe: Recipe
) -> tuple[Shown, tuple[str, ...]]:
    """The images that can be used, and what should be known of them."""
    numbered, paths = [classes.numbers[label] for _, label in pairs], [path for path, _ in pairs]
    shown, leaked = _usable(decoded, numbered, classes.names, paths, learnt)
    return shown, (*_check(shown, classes, recipe), *leaked)


def _counts(shown: Shown, classes: Classes) -> dict[str, int]:
    counts = torch.bincount(shown.classes, minlength=len(classes.names)).tolist()
    return dict(zip(classes.names, counts, strict=True))


def _words(classes: Classes) -> dict[str, str]:
    """What each class means, in words, for the identity of a run."""
    return {name: f"{to.category}:{to.severity.name}" if to else "" for name, to in classes.meanings.items()}


def _classes(
    start: Backend | Architecture,
    pairs: Sequence[tuple[str, str]],
    meanings: Mapping[str, Label | None],
    *,
    fresh: bool,
) -> Classes:
    before = {} if isinstance(start, Architecture) else dict(getattr(start.spec, "labels", {}))
    if twice := [path for path, count in Counter(path for path, _ in pairs).items() if count > 1]:
        raise ConfigError(f"{twice[0]} is listed more than once: an image has one label")
    return classes_of((label for _, label in pairs), before, meanings, fresh=fresh)


def _save(
    folder: Path, course: Course, student: Student, facts: Mapping[str, Any], *, half: bool, trust_guard: bool
) -> None:
    """Write the model where it is not seen yet."""
    facts = {
        **facts, "course": course.facts,
        "versions": {"nsfw_guard": __version__, "torch": torch.__version__},
    }  # fmt: skip
    write(
        folder, course.net, student.spec, answers=course.answers, facts=facts, curve=course.curve, half=half,
        trust_guard=trust_guard,
    )  # fmt: skip


def _student(start: Backend | Architecture, classes: Classes, name: str, recipe: Recipe) -> Student:
    if not isinstance(start, Architecture):
        return student_of(start, classes, name=name)
    if recipe.part is Part.HEAD and start.weights is None:
        raise ConfigError(f"{start.name} has random weights, whose embeddings hold nothing: teach all of it")
    return from_architecture(
        start.name, classes, name=name, arguments=start.arguments, size=start.size, file=start.weights, seed=recipe.seed
    )


def _usable(
    decoded: Decoded, classes: Sequence[int], names: Sequence[str], paths: Sequence[str], learnt: int
) -> tuple[Shown, tuple[str, ...]]:
    """The images that can be used, without validation images that are copies of what is learnt from; and a note."""
    sound = [at for at in range(len(paths)) if at not in decoded.faults]
    groups = grouped(
        [decoded.looks[at] for at in sound], [names[classes[at]] for at in sound], [paths[at] for at in sound]
    )
    count = sum(at < learnt for at in sound)
    copies = leaks(groups, count)
    if learnt < len(paths) and count == len(sound):
        raise ConfigError(f"no validation image can be used: {decoded.faults[learnt]}")
    if copies and len(copies) == len(sound) - count:
        raise ConfigError("every validation image is a copy of one to learn from: give others")
    kept = [position for position in range(len(sound)) if position not in copies]
    usable = tuple(sound[position] for position in kept)
    shown = Shown(
        decoded, usable, torch.tensor([classes[at] for at in usable]), tuple(groups[at] for at in kept), count
    )
    if not copies:
        return shown, ()
    one, other = next(iter(copies.items()))
    words = f"{len(copies)} validation images were left out, which are copies of images to learn from"
    return shown, (f"{words}: {paths[sound[one]]} of {paths[sound[other]]}, for one",)


def _start(start: Backend | Architecture) -> dict[str, Any]:
    if not isinstance(start, Architecture):
        return {"model": start.spec.name, "version": start.spec.version}
    weights = sha256_of(verify(start.weights)) if start.weights else "random"
    return {
        "architecture": start.name, "arguments": dict(start.arguments), "size": start.size, "weights": weights
    }  # fmt: skip


def _check(shown: Shown, classes: Classes, recipe: Recipe) -> tuple[str, ...]:
    """Refuse to unlearn a class, and note what is scarce."""
    counts = Counter(shown.classes[: shown.learnt].tolist())
    missing = classes.without_images(counts)
    known = [name for name in missing if classes.rows[classes.names.index(name)] is not None]
    if len(missing) > len(known):
        raise ConfigError(f"no image of {next(n for n in missing if n not in known)!r} can be used: add some")
    if known and recipe.part is not Part.HEAD:
        raise ConfigError(
            f"no image is labelled {known[0]!r}, which the network would unlearn: add some, teach only the head, which "
            "leaves it as it is, or begin with fresh classes"
        )
    notes = [f"{counts[at]} images of {name!r}: twenty are a beginning" for at, name in enumerate(classes.names)
             if 0 < counts[at] < 20]  # fmt: skip
    if copies := len(shown.groups) - len(set(shown.groups)):
        notes.append(f"{copies} copies and near-duplicates were kept on one side of the split")
    return tuple(notes)
