"""An exported network (model.onnx, or OpenVINO's model.xml) as a `Net`; its inputs and outputs are checked here."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from nsfw_guard.backends.base import Options
from nsfw_guard.backends.files import weights
from nsfw_guard.backends.files.folder import check_against_record, read_spec
from nsfw_guard.backends.files.onnx_file import hashes_of
from nsfw_guard.backends.files.processor import PROCESSOR
from nsfw_guard.backends.nets.network import Net, NetBackend
from nsfw_guard.backends.spec import ModelSpec
from nsfw_guard.errors import ConfigError, ScoringError, WeightsMissingError, WeightsUnfitError, first_line

ONNX = "model.onnx"
EMBEDDING = "embedding"
FLOAT = "float32"


@dataclass(frozen=True)
class Port:
    """An input or output of an exported network; a dynamic side is None."""

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None

    def __str__(self) -> str:
        sides = "?" if self.shape is None else ", ".join("any" if s is None else str(s) for s in self.shape)
        return f"{self.name} {self.dtype} ({sides})"


class Runner(Protocol):
    """A loaded file in some library: its ports, and a thread-safe call."""

    name: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    def run(self, values: Tensor) -> list[Tensor]:
        """Return every output for an input, on the device of the input."""
        ...


class ExportedNet(Net):
    """The logits of an exported network, and its embedding if it has one."""

    place: Tensor

    def __init__(self, runner: Runner, spec: ModelSpec, folder: Path, hashes: Mapping[str, str]) -> None:
        super().__init__()
        self.file = next(iter(hashes))
        # There are no weights here to move; this buffer shows whether the device can be used.
        self.register_buffer("place", torch.zeros(1), persistent=False)
        self.runner, self.folder, self.hashes = runner, folder, dict(hashes)
        self.labels, self.side = len(spec.labels), spec.net_input.size
        self.runtime = f"{runner.name}, {self.file} {self.hashes[self.file][:12]}"
        self._check_ports()
        self.width = 0
        try:
            outputs = self._run(torch.zeros(1, 3, self.side, self.side))
        except (ScoringError, MemoryError) as error:
            raise WeightsUnfitError(
                f"{self.file} of {spec.name!r} does not run ({first_line(error)}): export it again"
            ) from error
        if len(outputs) > 1:
            self.width = int(outputs[1].shape[1])

    def __deepcopy__(self, memo: dict[int, Any]) -> ExportedNet:
        """Return the net itself: it has one session per device, and sessions are thread-safe."""
        return self

    def forward_with_embedding(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and embedding; the embedding has width 0 where the export has none."""
        outputs = self._run(values)
        return outputs[0], outputs[1] if len(outputs) > 1 else outputs[0].new_empty(len(values), 0)

    def forward(self, values: Tensor) -> Tensor:
        """Return the logits: an export has only one forward."""
        return self._run(values)[0]

    def save(self, folder: Path, spec: ModelSpec) -> None:
        """Copy the files that it was loaded from."""
        if folder.resolve() == self.folder.resolve():
            return
        if (folder / weights.WEIGHTS).exists():
            raise ConfigError(f"{folder.name!r} contains {weights.WEIGHTS} of another model: use an empty folder")
        try:
            if {name: weights.sha256_of(self.folder / name) for name in self.hashes} != self.hashes:
                raise ConfigError(f"the files of {spec.name!r} changed after loading: load it again, then save it")
            beside = [PROCESSOR] if (self.folder / PROCESSOR).is_file() else []
            for name in (weights.CONFIG, *beside, *self.hashes):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self.folder / name, folder / name)
        except OSError as error:
            raise ConfigError(f"the files of {spec.name!r} cannot be copied ({error}): load it again first") from error

    def _check_ports(self) -> None:
        """Check the declared inputs and outputs."""
        takes, gives = self.runner.inputs, self.runner.outputs
        square = (3, self.side, self.side)
        if len(takes) != 1 or takes[0].dtype != FLOAT or not fits(takes[0], (None, *square)):
            raise WeightsUnfitError(
                f"{self.file} must take one {FLOAT} (any, 3, {self.side}, {self.side}) of normalised pixels, but takes "
                f"{', '.join(map(str, takes)) or 'nothing'}: export it with the size in its configuration"
            )
        if not gives or gives[0].dtype != FLOAT or not fits(gives[0], (None, self.labels)):
            raise WeightsUnfitError(
                f"the first output of {self.file} must be {FLOAT} logits (any, {self.labels}), one for each label, but "
                f"it returns {', '.join(map(str, gives)) or 'nothing'}: export the logits first, or correct the labels"
            )
        self.batch = (takes[0].shape or (None,))[0] or 0
        self.embeds = len(gives) > 1 and gives[1].name == EMBEDDING
        if self.embeds and (gives[1].dtype != FLOAT or not fits(gives[1], (None, None))):
            raise WeightsUnfitError(
                f"the second output of {self.file} must be {FLOAT} embeddings (any, width), got {gives[1]}: export it "
                "again"
            )

    def _run(self, values: Tensor) -> list[Tensor]:
        """Logits, and the embedding if there is one, for any number of rows."""
        if values.dtype != torch.float32:
            raise ConfigError(f"an exported network expects float32, got {values.dtype}: omit dtype")
        step = self.batch or len(values)
        parts = [self._rows(values[i : i + step], step) for i in range(0, len(values), step)]
        return [torch.cat(column) for column in zip(*parts, strict=True)]

    def _rows(self, values: Tensor, step: int) -> list[Tensor]:
        """Outputs for at most `step` rows; an export for a fixed number is padded with copies of the last row."""
        count = len(values)
        fed = values if count == step else torch.cat([values, values[-1:].expand(step - count, -1, -1, -1)])
        outputs = self.runner.run(fed.contiguous())[: 1 + self.embeds]
        shapes = [tuple(out.shape) for out in outputs]
        width = shapes[1][1] if len(shapes) > 1 and len(shapes[1]) == 2 else 0
        wanted = [(step, self.labels), (step, self.width or width)][: 1 + self.embeds]
        if shapes != wanted or (self.embeds and not width):
            raise ScoringError(f"{self.file} returned {shapes} for {step} images, expected {wanted}: export it again")
        return [out[:count] for out in outputs]


def load_exported(open_file: Callable[[Path], Runner], spec: ModelSpec, folder: Path, options: Options) -> NetBackend:
    """Load the exported network in a folder, run by `open_file(path)`. Its record must fit the folder."""
    if not (folder / ONNX).is_file():
        raise WeightsMissingError(
            f"{ONNX} does not exist in {str(folder)!r}: export the model into a new folder (nsfw-guard export), or "
            "omit runtime"
        )
    return load_hashed(open_file, spec, folder, options, lambda known: hashes_of(folder, ONNX, known))


def load_hashed(
    open_file: Callable[[Path], Runner],
    spec: ModelSpec,
    folder: Path,
    options: Options,
    hashes_by: Callable[[Mapping[str, str]], dict[str, str]],
) -> NetBackend:
    """Load an exported network after its files were hashed.

    Args:
        open_file: opens the network's first file.
        spec: the record, which must fit the folder.
        folder: where the files are.
        options: how it is run.
        hashes_by: returns the hashes of the files, the one to open first, checked against the recorded ones.
    """
    check_against_record(spec, folder)
    if options.dtype != torch.float32:
        raise ConfigError("an exported network runs in the dtype that it was exported with: omit dtype")
    hashes = hashes_by({**_recorded(spec, folder), **spec.hashes})
    file = next(iter(hashes))
    runner = open_file(folder / file)
    # The hash in the record is that of torch's weights, which these files may differ from.
    mine = replace(spec, sha256=hashes[file], hashes=hashes)
    return NetBackend(ExportedNet(runner, mine, folder, hashes), mine, options)


def _recorded(spec: ModelSpec, folder: Path) -> Mapping[str, str]:
    """The hashes in a folder's record. Its thresholds are not used: those of `spec` apply."""
    return read_spec(folder, labels=dict(spec.labels), trust_guard=True).hashes


def fits(port: Port, wanted: tuple[int | None, ...]) -> bool:
    """Return whether a port's shape fits the wanted one."""
    if port.shape is None:
        return True
    return len(port.shape) == len(wanted) and all(
        has is None or want is None or has == want for has, want in zip(port.shape, wanted, strict=True)
    )
