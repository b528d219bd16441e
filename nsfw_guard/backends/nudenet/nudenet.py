"""NudeNet v3 in ONNX Runtime: body parts and faces as regions, without NudeNet's code and without OpenCV.

Its license is disputed: AGPL-3.0 in its repository and in the weights' own metadata, MIT on PyPI. No part of it is in
this package: its wheel is the optional extra `nudenet`, and installing it is the user's decision.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nsfw_guard.backends.base import Options
from nsfw_guard.backends.batches import in_batches
from nsfw_guard.backends.files.onnx_file import hashes_of
from nsfw_guard.backends.nets.exported import FLOAT, fits
from nsfw_guard.backends.nets.onnx_model import OnnxRunner
from nsfw_guard.backends.nudenet import yolo
from nsfw_guard.backends.selftest import TOLERANCE, canaries, compare
from nsfw_guard.backends.spec import ModelSpec
from nsfw_guard.errors import ConfigError, MissingExtraError, ScoringError, WeightsMissingError, WeightsUnfitError
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.scores import Region, Scores, View, ViewScores

log = logging.getLogger(__name__)

PACKAGE = "nudenet"
STRIDES = (8, 16, 32)  # pixels between the places of boxes


@dataclass(frozen=True)
class Weights:
    """A published file: its hash, and the side of its input."""

    sha256: str
    side: int


FILES: Mapping[str, Weights] = {
    "320n.onnx": Weights("c15d8273adad2d0a92f014cc69ab2d6c311a06777a55545f2c4eb46f51911f0f", 320),
    "640m.onnx": Weights("04fe3d77980780c1f8297dc6d7f942fd5b3abe6942a188f742a85241e4f634eb", 640),
}


class NudeNet:
    """Boxes of body parts and faces. A category's score is that of its surest box, or 0.0 without a box.

    The whole image is looked at once, in any shape. There is no embedding.
    """

    def __init__(self, runner: OnnxRunner, spec: ModelSpec, options: Options) -> None:
        self.spec, self.options, self.runner = spec, options, runner
        self.side = spec.net_input.size
        self.labels = list(spec.labels.items())
        self.places = sum((self.side // stride) ** 2 for stride in STRIDES)
        try:
            self.home = torch.zeros(1, device=options.device or "cpu").device
        except (AssertionError, NotImplementedError, RuntimeError) as error:
            raise ConfigError(f"the device '{options.device}' is not available: use 'cpu', or omit device") from error
        self._self_test = compare(spec, self._answer, TOLERANCE[torch.float32])

    def score(self, stacks: Sequence[Frames], *, embeddings: bool = False, digests: bool = False) -> list[Scores]:
        """Return one Scores per frame, in order, over all stacks."""
        if not stacks:
            return []
        device = self.home if self.options.device else stacks[0].pixels.device
        shown, sizes, faults, blank = [], [], [], []
        for stack in stacks:
            levels, extremes = stack.quantise()
            shown.append(yolo.letterbox(levels, self.side).to(device))
            sizes += [(int(levels.shape[2]), int(levels.shape[3]))] * len(stack)
            faults += [""] * len(stack) if extremes is None else [stack.fault(*pair) for pair in extremes.tolist()]
            flat = levels.flatten(1)
            blank += (flat.amin(1) == flat.amax(1)).tolist()
        pixels = torch.cat(shown)
        numbers = self.numbers(pixels)
        digest = _digest if digests else lambda frame: ""
        rows = zip(numbers, sizes, faults, blank, map(digest, pixels), strict=True)
        return [self._read(row, *size, fault, flat, of_pixels) for row, size, fault, flat, of_pixels in rows]

    def numbers(self, shown: Tensor) -> yolo.Floats:
        """Return the network's numbers for 8-bit squares: four of each box, and one per label.

        Shape: (R, 4 + labels, places).
        """
        batch = 1 if self._one_by_one else self.options.batch_size
        parts = in_batches(lambda a, b: self._pass(shown[a:b]), len(shown), batch, self.spec.name)
        array: yolo.Floats = torch.cat(parts).cpu().numpy()
        return array

    def state(self) -> Mapping[str, str]:
        """Return the settings in effect."""
        return {
            "self_test": self._self_test.value,
            "runtime": f"{self.runner.name}, {self.runner.path.name} {self.spec.sha256[:12]}",
            "device": str(self.home) if self.options.device else "follows the image",
            "dtype": "float32",
            "resize": "as OpenCV, on a black square",
            "views": "the whole image",
        }

    def save_pretrained(self, folder: Path) -> None:
        """Refuse: the weights are NudeNet's, under a disputed license."""
        raise ConfigError(
            f"the weights of {self.spec.name!r} cannot be copied, since their license is disputed: save the policy in "
            "a file, and load the model by name"
        )

    @property
    def _one_by_one(self) -> bool:
        return (self.runner.inputs[0].shape or (None,))[0] == 1

    def _pass(self, shown: Tensor) -> Tensor:
        # NudeNet 3.4.2 swaps red and blue twice, so that its network gets files as blue, green, red.
        values = shown.flip(1).float().mul_(1 / 255)
        outputs = self.runner.run(values)
        wanted = (len(shown), 4 + len(self.labels), self.places)
        if not outputs or tuple(outputs[0].shape) != wanted or outputs[0].dtype != torch.float32:
            shapes = [tuple(out.shape) for out in outputs]
            raise ScoringError(
                f"{self.spec.name!r} returned {shapes}, expected {wanted} in float32: fetch its weights again"
            )
        return outputs[0]

    def _read(self, numbers: yolo.Floats, height: int, width: int, fault: str, blank: bool, digest: str) -> Scores:
        """The scores and regions in the numbers of one image."""
        classes = numbers[4:]
        if not (np.isfinite(numbers).all() and (classes >= 0).all() and (classes <= 1).all()):
            # NudeNet takes a NaN for no box. Here it must not become a score.
            nothing = {c: dict.fromkeys(levels, float("nan")) for c, levels in self.spec.levels.items()}
            why = fault or "not evaluated: the model returned NaN or a value outside [0, 1]"
            return Scores.single(nothing, digest=digest, blank=blank, fault=why)
        boxes = yolo.boxes(numbers, height, width, self.side)
        levels = {c: dict.fromkeys(ls, 0.0) for c, ls in self.spec.levels.items()}
        details = {name: 0.0 for name, _ in self.labels}
        for box in boxes:
            name, label = self.labels[box.label]
            details[name] = max(details[name], box.score)
            for level in levels[label.category] if label else ():
                if label and level <= label.severity:
                    levels[label.category][level] = max(levels[label.category][level], box.score)
        view = ViewScores(View("full"), levels, details)
        return Scores((view,), regions=self._regions(boxes, height, width), digest=digest, blank=blank, fault=fault)

    def _regions(self, boxes: list[yolo.Box], height: int, width: int) -> tuple[Region, ...]:
        """The boxes of mapped labels, in fractions. One without any area in the image counts, but covers nothing: where
        it is the only one of its category, the whole image is covered."""
        regions = []
        for box in boxes:
            label = self.labels[box.label][1]
            left, right = (min(x / width, 1.0) for x in (box.left, box.left + box.width))
            top, bottom = (min(y / height, 1.0) for y in (box.top, box.top + box.height))
            if label is not None and left < right and top < bottom:
                regions.append(Region(left, top, right, bottom, category=label.category, score=box.score))
        return tuple(regions)

    def _answer(self) -> dict[str, tuple[float, ...]]:
        """The highest score of each label on each canary, before any box is left out."""
        images = canaries()
        shown = yolo.letterbox(torch.stack(list(images.values())), self.side).to(self.home)
        best = self.numbers(shown)[:, 4:].max(2)
        return dict(zip(images, (tuple(map(float, row)) for row in best), strict=True))


def _digest(frame: Tensor) -> str:
    return hashlib.sha256(frame.cpu().numpy().tobytes()).hexdigest()


def load_installed(spec: ModelSpec, options: Options) -> NudeNet:
    """Load NudeNet with the weights of its installed wheel, which is not imported."""
    package = importlib.util.find_spec(PACKAGE)
    if package is None or not package.submodule_search_locations:
        raise MissingExtraError(PACKAGE, spec.pip_extra)
    return load_files(spec, Path(next(iter(package.submodule_search_locations))), options)


def load_files(spec: ModelSpec, path: Path, options: Options) -> NudeNet:
    """Load NudeNet with the weights in a file, or in a folder under the recorded name."""
    _check_options(spec, options)
    path = path / spec.files[0] if path.is_dir() else path
    if path.suffix != ".onnx":
        raise WeightsUnfitError(f"{path.name!r} is not an .onnx file: pass NudeNet's 320n.onnx or 640m.onnx")
    if not path.is_file():
        raise WeightsMissingError(f"{path.name} does not exist in {str(path.parent)!r}: download it first")
    known = FILES.get(path.name)
    sha256 = hashes_of(path.parent, path.name, {path.name: known.sha256} if known else None)[path.name]
    runner = OnnxRunner(path, extra=spec.pip_extra)
    mine = replace(
        spec,
        input=replace(spec.net_input, size=_side(runner, sha256)),
        sha256=sha256,
        download_bytes=path.stat().st_size,
        known_answers=spec.known_answers if sha256 == spec.sha256 else {},
    )
    _check_labels(runner, mine)
    return NudeNet(runner, mine, options)


def _check_options(spec: ModelSpec, options: Options) -> None:
    """Refuse options that NudeNet does not have, instead of ignoring them."""
    for what, asked, only in (
        ("views", options.views, ("cover",)),
        ("resize", options.resize, ("exact",)),
        ("dtype", options.dtype, (torch.float32,)),
        ("runtime", options.runtime, (None, "onnx")),
    ):
        if asked not in only:
            raise ConfigError(f"{spec.name!r} does not support {what}={asked!r}: omit {what}")
    if spec.details:
        raise ConfigError(f"{spec.name!r} keeps every label as a detail already: leave details out of its record")


def _side(runner: OnnxRunner, sha256: str) -> int:
    """The side of the input: that of a published file, or from the file's metadata."""
    for file in FILES.values():
        if file.sha256 == sha256:
            return file.side
    log.warning("%s is not one of NudeNet's published files: it is used without verification", runner.path.name)
    try:
        height, width = ast.literal_eval(runner.metadata["imgsz"])
        side = int(height)
    except (KeyError, TypeError, ValueError, SyntaxError) as error:
        raise WeightsUnfitError(
            f"{runner.path.name} is not one of NudeNet's files ({', '.join(FILES)}) and its metadata have no imgsz: "
            "export it with imgsz"
        ) from error
    if width != height or side < STRIDES[-1] or side % STRIDES[-1]:
        raise WeightsUnfitError(
            f"the input of {runner.path.name} is {height}x{width}: export it with a square of 32, 64, ..."
        )
    return side


def _check_labels(runner: OnnxRunner, spec: ModelSpec) -> None:
    """Check that a file has the inputs, outputs and classes of the record, in order."""
    side, path = spec.net_input.size, runner.path
    takes, gives = runner.inputs, runner.outputs
    good = len(takes) == 1 and takes[0].dtype == FLOAT and fits(takes[0], (None, 3, side, side))
    if not good or not gives or gives[0].dtype != FLOAT or not fits(gives[0], (None, 4 + len(spec.labels), None)):
        raise WeightsUnfitError(f"{path.name} is not a NudeNet model (inputs {takes}, outputs {gives}): use 320n.onnx")
    if (takes[0].shape or (None,))[0] not in {None, 1}:
        raise WeightsUnfitError(f"the input of {path.name} is {takes[0]}: export it for any number of images")
    try:
        names = ast.literal_eval(runner.metadata.get("names", "None"))
    except (ValueError, SyntaxError) as error:
        raise WeightsUnfitError(f"the names in {path.name} are unreadable: export it again") from error
    if names is not None and list(dict(names).values()) != list(spec.labels):
        raise WeightsUnfitError(
            f"{path.name} has other classes than the record, {list(dict(names).values())}: use the recorded file"
        )
