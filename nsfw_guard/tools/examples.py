"""Makes banks of examples: from images, from ordinary images that are like none, and from lists of hashes."""

from __future__ import annotations

import csv
import datetime
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nsfw_guard.backends.base import Backend, checked_scores
from nsfw_guard.backends.examples.bank import Bank
from nsfw_guard.backends.examples.example import Example, Kind
from nsfw_guard.backends.examples.likeness import BUDGET, SAME, Likeness
from nsfw_guard.backends.examples.matching import Like, Matcher, hash_of_pixels, said_of
from nsfw_guard.errors import ConfigError, ImageError
from nsfw_guard.guard import Guard
from nsfw_guard.imaging.frames import Frames, in_groups
from nsfw_guard.imaging.limits import Limits
from nsfw_guard.imaging.pdq import LEAST_QUALITY, MATCH, pdq
from nsfw_guard.tools.screen import find
from nsfw_guard.tools.screening.results import rows_of

MAX_FRAMES = 16  # of one image, such as its appearances on black and on white
MAX_ORDINARY = 10_000
BATCH = 64  # files that are decoded at a time
COLUMNS = ("kind", "pdq", "distance", "pixels", "label", "ticket", "reason", "expires")


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What is said of images that are added: block or allow, why, and for how long."""

    kind: Kind
    reason: str
    label: str = ""
    ticket: str = ""
    expires: str = ""


def add_images(
    bank: Bank, guard: Guard, images: Sequence[Any], decision: Decision, *, hash_only: bool = False
) -> tuple[Bank, list[Example]]:
    """Add images to a bank, and return it with the examples that were made of them.

    Args:
        bank: the bank.
        guard: whose model makes the embeddings; a bank that it has is left out.
        images: what `Guard.check` takes, one each.
        decision: what is said of them.
        hash_only: keep hashes and no embedding, for images that must not be kept in any form.

    Raises:
        ImageError: an image cannot be read or judged.
    """
    examples: list[Example] = []
    embeddings: dict[str, Tensor] = {}
    for image in images:
        for frame, scores in _judged(guard, image):
            example = _example(frame, decision, said_of(scores))
            examples.append(example)
            if not hash_only and scores.embedding is not None:
                embeddings[example.id] = scores.embedding.float().cpu()
    _fits(bank, guard)
    if not bank.of_model:
        bank = replace(bank, model=guard.spec.name, revision=guard.spec.version)
    bank = _apart(bank.with_examples(examples, embeddings))
    _fits(bank, guard)
    return bank if bank.of_model else replace(bank, model="", revision=""), examples


def with_ordinary(bank: Bank, guard: Guard, ordinary: Sequence[str], *, budget: float = BUDGET) -> Bank:
    """Return the bank with the sample by which likeness is measured.

    Args:
        bank: the bank.
        guard: whose model makes the embeddings.
        ordinary: images, folders of images, or the outputs of scans, of which the allowed images are taken.
        budget: the share of them that may be like an example.
    """
    vectors: list[Tensor] = []
    for source in ordinary:
        scanned = any(Path(source).glob("part-*")) if Path(source).is_dir() else False
        vectors += _of_scan(guard, Path(source)) if scanned else _of_images(guard, source)
    if not vectors:
        raise ConfigError("no ordinary image with an embedding: give a folder of harmless images, or a scan of one")
    chosen = torch.randperm(len(vectors), generator=torch.Generator().manual_seed(0))[:MAX_ORDINARY]
    if not bank.of_model:
        bank = replace(bank, model=guard.spec.name, revision=guard.spec.version)
    bank = _apart(replace(bank, budget=budget, ordinary=torch.stack([vectors[at] for at in chosen.tolist()])))
    _fits(bank, guard)
    return bank


def with_list(bank: Bank, examples: Sequence[Example]) -> Bank:
    """Return the bank with the examples of a list. One that is there already keeps what no list holds.

    That is its embedding, and the scores that an allow-example had itself.
    """
    there = {example.id: example for example in bank.examples}
    merged = [replace(one, ceiling=there[one.id].ceiling) if one.id in there else one for one in examples]
    return bank.with_examples(merged, {one.id: bank.embeddings[one.id] for one in merged if one.id in bank.embeddings})


def matches(matcher: Matcher, guard: Guard, image: Any) -> list[Like]:
    """Return the example that each frame of an image is like, without those that are like none."""
    likes: list[Like | None] = []
    for frame, scores in _judged(guard, image):
        likes.append(matcher.compared(frame.to_array(), scores.embedding, said_of(scores))[0])
    return [like for like in likes if like is not None]


def read_list(path: Path, decision: Decision, *, distance: int = MATCH) -> list[Example]:
    """Read a list of hashes: CSV with a header, or JSON, a list of objects, with the columns of `write_list`.

    Args:
        path: the file.
        decision: what holds where the list says nothing. Where it is to block, a list may not allow.
        distance: the bits by which a copy may differ, where the list says nothing.

    Raises:
        ConfigError: the file is no such list.
    """
    usual = {**vars(decision), "distance": distance}
    examples = []
    for number, row in enumerate(_rows(path), 1):
        known = {name.strip().lower(): value for name, value in row.items() if isinstance(name, str)}
        if "hash" in known and "pdq" not in known:
            known["pdq"] = known.pop("hash")
        given = {name: value for name, value in known.items() if name in COLUMNS and value not in (None, "")}
        try:
            given |= {"pdq": str(given["pdq"]).strip().lower()} if "pdq" in given else {}
            given |= {"distance": int(given["distance"])} if "distance" in given else {}
            if not given.get("pdq") and not given.get("pixels"):
                raise ConfigError("it has neither pdq nor pixels")
            examples.append(Example(**{**usual, **given}))
            if decision.kind == "block" and examples[-1].kind == "allow":
                raise ConfigError("it allows, in a list that is to block: remove it, or import the list to allow")
        except (ValueError, TypeError, ArithmeticError) as error:
            raise ConfigError(f"row {number} of {path.name}: {error}") from error
    return examples


def write_list(bank: Bank, path: Path) -> int:
    """Write the hashes of a bank as CSV or JSON, by the name of the file, and return how many there are."""
    rows = [{name: getattr(example, name) for name in COLUMNS} for example in bank.examples]
    if path.suffix.lower() == ".json":
        path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    else:
        text = io.StringIO(newline="")
        table = csv.DictWriter(text, COLUMNS)
        table.writeheader()
        table.writerows(rows)
        path.write_text(text.getvalue(), encoding="utf-8", newline="")
    return len(rows)


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name} cannot be read: {error}") from error
    if path.suffix.lower() != ".json":
        try:
            return list(csv.DictReader(io.StringIO(text)))
        except csv.Error as error:
            raise ConfigError(f"{path.name} is not CSV ({error}): write one with `nsfw-guard bank export`") from error
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path.name} is not JSON: {error}") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ConfigError(f"{path.name} must be a list of objects: write one with `nsfw-guard bank export`")
    return rows


def _model(guard: Guard) -> Backend:
    """The model of a guard without a bank of its own, whose examples would count for others."""
    backend: Any = guard.backend
    while hasattr(backend, "bank"):
        backend = backend.backend
    model: Backend = backend
    return model


def _judged(guard: Guard, image: Any) -> Iterator[tuple[Frames, Any]]:
    """The frames of an image, each with its scores."""
    count = 0
    for group in in_groups([image], limits=guard.limits or Limits()):
        if group.faults:
            raise ImageError(f"{str(image)[:200]}: {next(iter(group.faults.values()))}")
        frames = [frame for stack in group.stacks for frame in stack.split()]
        count += len(frames)
        if count > MAX_FRAMES:
            raise ImageError(f"{str(image)[:200]} has more than {MAX_FRAMES} frames: add some of them as images")
        for frame, scores in zip(
            frames, checked_scores(_model(guard), frames, len(frames), embeddings=True, digests=False), strict=True
        ):
            if scores.fault or not scores.finite:
                raise ImageError(f"{str(image)[:200]} cannot be judged: {scores.fault or 'scores that are no numbers'}")
            yield frame, scores


def _example(frame: Frames, decision: Decision, scores: dict[str, float]) -> Example:
    pixels = frame.to_array()
    hashed = pdq(pixels)
    return Example(
        **vars(decision),
        pixels=hash_of_pixels(pixels),
        pdq=hashed.hex if hashed.quality >= LEAST_QUALITY else "",
        ceiling=scores if decision.kind == "allow" else {},
    )


def _fits(bank: Bank, guard: Guard) -> None:
    if bank.of_model and (bank.model, bank.revision) != (guard.spec.name, guard.spec.version):
        raise ConfigError(
            f"the bank holds {bank.of_model} of {bank.model!r} {bank.revision!r}: use this model, or begin another bank"
        )
    Matcher(bank, datetime.date.min)  # a budget that the ordinary images cannot hold is an error now


def _apart(bank: Bank) -> Bank:
    """The bank without ordinary images that are block-examples: nothing would be nearer than they, or block."""
    blocking = [bank.embeddings[e.id] for e in bank.examples if e.kind == "block" and e.id in bank.embeddings]
    if bank.ordinary is None or not blocking or len(bank.ordinary) < 2:
        return bank
    likeness = Likeness.measure(bank.ordinary)
    # Both in float16, in which ordinary ones are kept.
    nearest = (likeness(bank.ordinary) @ likeness(torch.stack(blocking).half()).T).amax(1)
    return replace(bank, ordinary=bank.ordinary[nearest < SAME])


def _of_images(guard: Guard, source: str) -> Iterator[Tensor]:
    paths = [one.path for one in find([source]).sources]
    for start in range(0, len(paths), BATCH):
        for group in in_groups(paths[start : start + BATCH], limits=guard.limits or Limits()):
            count = len(group.owners)
            for scores in checked_scores(_model(guard), group.stacks, count, embeddings=True, digests=False):
                if scores.embedding is not None and not scores.fault:
                    yield scores.embedding.float().cpu()


def _of_scan(guard: Guard, folder: Path) -> Iterator[Tensor]:
    for row in rows_of(folder, ["outcome", "embedding", "model", "revision"]):
        if row["outcome"] == "allow" and row["embedding"]:
            if (row["model"], row["revision"]) != (guard.spec.name, guard.spec.version):
                raise ConfigError(f"the scan in {str(folder)!r} is by {row['model']!r}: scan with {guard.spec.name!r}")
            yield torch.tensor(row["embedding"])
