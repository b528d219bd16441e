"""What an export is: its settings, what was measured, and what was written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

Target = Literal["onnx", "openvino", "torch-export", "aoti", "torchscript"]
Precision = Literal["fp32", "fp16", "int8"]
EXACT_CHANGE = 1e-5  # the most that a probability may move in float32
# And in a reduced precision. Rounding that moved scores of demo-shapes by 0.045 here moved some by 0.084 elsewhere.
REDUCED_CHANGE = 0.02
MAX_FLIPS = 0.001  # the share of images whose verdict may change at a threshold


@dataclass(frozen=True, kw_only=True)
class Parity:
    """An export compared with the float32 network on the same inputs of the model.

    Args:
        images: the images, drawn ones and those of the user.
        inputs: the model's inputs: every view of every image, and the steered ones.
        steered: inputs that were moved towards and across the thresholds.
        blocked: inputs that the float32 network holds back at some threshold.
        max_change: the largest change of a score.
        margin: what the thresholds of the export are lowered by: twice the largest change, in a reduced precision.
        flips: images with another verdict at the network's own thresholds, at the one where most have; without the
            steered inputs.
        stricter: images that are held back only by the lowered thresholds, at the one where most are.
        released: inputs that the float32 network holds back at a threshold and the export, at its own, does not.
    """

    images: int
    inputs: int
    steered: int
    blocked: int
    max_change: float
    margin: float
    flips: int
    stricter: int
    released: int

    @property
    def flip_share(self) -> float:
        """The share of images with another verdict at one threshold."""
        return self.flips / max(self.images, 1)

    def __str__(self) -> str:
        return (
            f"scores move by up to {self.max_change:.2g}, {self.flips} of {self.images} images get another verdict, "
            f"{self.released} of {self.blocked} blocked inputs would be released with thresholds lowered by "
            f"{self.margin:g}"
        )


@dataclass(frozen=True, kw_only=True)
class PreprocessingParity:
    """The graph with the resize in it, compared with this package's own preprocessing.

    Args:
        images: the drawn images, of many sizes.
        levels_off: the largest difference of a level of the model's input.
        share_off: the share of the levels that differ.
        max_change: the largest change of a probability.
        pillow: the release of Pillow whose order of passes the graph has.
    """

    images: int
    levels_off: int
    share_off: float
    max_change: float
    pillow: str


@dataclass(frozen=True, kw_only=True)
class ExportResult:
    """An export as it was written.

    Args:
        folder: where it is.
        model: the name in its record.
        source: the name of the model that was exported.
        target: what it was exported to.
        precision: of its weights.
        method: how they were reduced; empty for float32.
        opset: the version of ONNX's operators; 0 for targets that are not made from ONNX.
        files: the hash of each file that holds the network.
        bytes: the size of these files.
        parity: how it compares with the float32 network.
        preprocessing: how the graph with the resize compares; None where there is none.
        versions: the libraries that wrote it.
        notes: what whoever uses it must know.
    """

    folder: Path
    model: str
    source: str
    target: Target
    precision: Precision
    method: str
    opset: int
    files: Mapping[str, str]
    bytes: int
    parity: Parity
    preprocessing: PreprocessingParity | None
    versions: Mapping[str, str]
    notes: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values, without the folder, whose name may change."""
        content = asdict(self)
        del content["folder"]
        return content
