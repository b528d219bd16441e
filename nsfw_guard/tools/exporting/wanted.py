"""The settings of an export, checked before anything is done."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from nsfw_guard.errors import ConfigError, UnknownNameError
from nsfw_guard.tools.exporting.result import Precision, Target

LOADED = ("onnx", "openvino")  # targets that load_model runs; torch's own files hold code, and are never opened by it


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The settings of an export.

    Args:
        target: what it is exported to.
        precision: of the weights.
        with_preprocessing: whether a second file takes images of any size.
        parity: folders of images on which it is compared besides drawn ones.
        images: how many drawn images it is compared on.
        trust_guard: accept thresholds of the model that relax its guard.
    """

    target: Target
    precision: Precision = "fp32"
    with_preprocessing: bool = False
    parity: tuple[Path, ...] = ()
    images: int = 240
    trust_guard: bool = False

    def __post_init__(self) -> None:
        for what, value, known in (
            ("target", self.target, get_args(Target)), ("precision", self.precision, get_args(Precision)),
        ):  # fmt: skip
            if value not in known:
                raise UnknownNameError(what, value, known)
        if self.images < 1:
            raise ConfigError(f"the number of drawn images must be at least 1, got {self.images}")
        if self.target not in LOADED and self.precision != "fp32":
            raise ConfigError(
                f"{self.target} is exported in fp32 only, got {self.precision}: use --to {' or --to '.join(LOADED)}"
            )
        if self.with_preprocessing and self.target != "onnx":
            raise ConfigError(f"--with-preprocessing is for --to onnx, got {self.target}: leave it out")
