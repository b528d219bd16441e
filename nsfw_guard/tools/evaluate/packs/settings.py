"""The same model under the other settings that this machine has: other numbers, and the verdicts that they change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nsfw_guard.backends.base import Runtime
from nsfw_guard.backends.files.inside import folder_of, is_path
from nsfw_guard.backends.files.weights import WEIGHTS
from nsfw_guard.backends.nets.exported import ONNX
from nsfw_guard.errors import ConfigError, NsfwGuardError
from nsfw_guard.guard import Guard
from nsfw_guard.tools.evaluate.highest import highest_scores
from nsfw_guard.tools.evaluate.packs.pack import Pack
from nsfw_guard.tools.evaluate.page import percent
from nsfw_guard.tools.evaluate.parity import Parity, compare
from nsfw_guard.tools.evaluate.summary import Rate

BATCH = 16  # images that are asked about at a time
MEANING = (
    "The same images by the same model under other settings. A flip is an image with another outcome at a threshold of "
    "the record; an image that becomes allowed where it was blocked breaks parity."
)
HEADER = ("model", "setting", "images", "largest difference", "flips", "block to allow")


@dataclass(frozen=True)
class Setting:
    """How a model is run."""

    dtype: str = "float32"
    device: str = "cpu"
    runtime: Runtime | None = None

    @property
    def name(self) -> str:
        """The setting in words."""
        return f"{self.runtime or 'torch'} {self.dtype} on {self.device}"


Load = Callable[[Setting], Guard]


def settings_of(ref: str) -> list[Setting]:
    """Return the settings that a model can be run under here, the reference first.

    Args:
        ref: a model's name or folder; a folder with model.onnx also runs in ONNX Runtime and OpenVINO.
    """
    folder = folder_of(ref) if is_path(ref) else None
    exported = [Setting(runtime="onnx"), Setting(runtime="openvino")] if _has(folder, ONNX) else []
    if exported and not _has(folder, WEIGHTS):
        return exported
    dtypes = ("float32", "bfloat16", "float16")
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    return [*(Setting(dtype, device) for device in devices for dtype in dtypes), *exported]


def _has(folder: Path | None, name: str) -> bool:
    return folder is not None and (folder / name).is_file()


def pack_of(name: str, load: Load, images: Sequence[Any], *, settings: Sequence[Setting]) -> Pack:
    """Return the section of the report on one model.

    Args:
        name: of the model in the report.
        load: builds a guard of it under a setting.
        images: what a guard takes.
        settings: the reference first, as `settings_of` returns them.

    Raises:
        ConfigError: the reference does not run.
    """
    reference, *others = settings
    guard = load(reference)
    before = list(_scores(guard, images))
    texts, content, notes, broken = [], [], [], []
    for setting in others:
        try:
            after = list(_scores(load(setting), images))
        except (NsfwGuardError, OSError, RuntimeError) as error:
            notes.append(f"{name}: {setting.name} does not run here: {str(error).splitlines()[0]}")
            content.append({"model": name, "setting": setting.name, "fault": str(error)})
            continue
        result = compare(before, after, guard.spec.thresholds)
        texts.append(_text(name, setting, result))
        content.append({"model": name, "setting": setting.name, "reference": reference.name, **result.to_dict()})
        if result.released:
            names = ", ".join(str(images[at]) for at in result.released[:3])
            broken.append(f"{name}: {setting.name} allows {len(result.released)} images that are blocked: {names}")
    return Pack("Parity", f"{MEANING} The reference is {reference.name}.", HEADER, tuple(texts), tuple(content),
                (*broken, *notes), broken=bool(broken))  # fmt: skip


def joined(packs: Sequence[Pack]) -> Pack:
    """Return the sections on several models as one."""
    if not packs:
        raise ConfigError("there is no model to compare: name one")
    first = packs[0]
    return Pack(
        first.title, first.meaning, first.header, tuple(row for pack in packs for row in pack.rows),
        tuple(row for pack in packs for row in pack.content), tuple(note for pack in packs for note in pack.notes),
        broken=any(pack.broken for pack in packs),
    )  # fmt: skip


def _scores(guard: Guard, images: Sequence[Any]) -> Iterator[dict[str, float]]:
    for start in range(0, len(images), BATCH):
        yield from highest_scores(guard, images[start : start + BATCH])


def _text(name: str, setting: Setting, result: Parity) -> tuple[str, ...]:
    flips = "; ".join(
        f"{threshold} {len(one.changed)}: {percent(Rate(len(one.changed), result.images))}"
        for threshold, one in result.flips.items()
    )
    return name, setting.name, str(result.images), f"{result.largest:.2g}", flips, str(len(result.released))
