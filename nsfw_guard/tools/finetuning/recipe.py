"""How a model is taught: one frozen value, which a run must keep when it goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from nsfw_guard.errors import ConfigError, UnknownNameError
from nsfw_guard.tools.finetuning.learning.varied import KINDS

PRECISIONS = ("no", "bf16", "fp16")
RATES: Mapping[str, float] = {"last": 5e-4, "full": 2e-4}
LEAST_STEPS = 50  # of an epoch: a small set is shown several times


class Part(Enum):
    """Which part of a network is taught."""

    HEAD = "head"
    LAST = "last"
    FULL = "full"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a model is taught.

    Args:
        part: the last layer on embeddings that are computed once, the last blocks, or the whole network.
        blocks: how many of the last blocks are taught with `Part.LAST`.
        epochs: how often the images are shown at most; an epoch has at least 50 steps.
        batch_size: images per step, over all processes.
        learning_rate: the highest one; None for the usual one of the part.
        weight_decay, warmup: of AdamW; the share of all steps in which the rate rises.
        label_smoothing: how much of each label is spread over all classes.
        mixup: images of a batch are mixed in pairs by a share from Beta(mixup, mixup); 0 for never.
        ema: decay of the mean of the weights that is kept as the result; 0 for the last weights.
        patience: epochs without a lower validation loss after which it stops; 0 for never.
        balance: from 0, images as they come, to 1, all classes as often.
        keep: weight of staying with the answers of the model that it begins with, on classes that both have.
        vary: how images are varied while training, of `varied.KINDS`.
        validation: the share of images that is kept for validation.
        precision: "no" for float32, "bf16" or "fp16" for mixed precision.
        seed: of everything that is drawn.

    Example:
        ```python
        recipe = Recipe(part=Part.FULL, epochs=5, vary=("mirror", "shade"))
        ```
    """

    part: Part = Part.HEAD
    blocks: int = 2
    epochs: int = 10
    batch_size: int = 32
    learning_rate: float | None = None
    weight_decay: float = 0.03
    warmup: float = 0.05
    label_smoothing: float = 0.0
    mixup: float = 0.0
    ema: float = 0.99
    patience: int = 3
    balance: float = 0.5
    keep: float = 1.0
    vary: tuple[str, ...] = ("mirror", "move", "shade")
    validation: float = 0.2
    precision: str = "no"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low in (("blocks", 1), ("epochs", 1), ("batch_size", 1), ("patience", 0)):
            if getattr(self, name) < low:
                raise ConfigError(f"{name} must be at least {low}, got {getattr(self, name)}")
        for name, most in (("label_smoothing", 0.5), ("ema", 0.9999), ("balance", 1.0), ("warmup", 1.0),
                           ("weight_decay", 1.0), ("mixup", 10.0), ("keep", 100.0)):  # fmt: skip
            if not 0.0 <= getattr(self, name) <= most:
                raise ConfigError(f"{name} must be from 0 to {most:g}, got {getattr(self, name)}")
        if not 0.05 <= self.validation <= 0.5:
            raise ConfigError(f"validation must be from 0.05 to 0.5, got {self.validation}")
        if self.learning_rate is not None and not 0.0 < self.learning_rate <= 1.0:
            raise ConfigError(f"learning_rate must be above 0 and up to 1, got {self.learning_rate}")
        if self.precision not in PRECISIONS:
            raise UnknownNameError("precision", self.precision, PRECISIONS)
        for kind in self.vary:
            if kind not in KINDS:
                raise UnknownNameError("way to vary images", kind, KINDS)

    @property
    def rate(self) -> float:
        """The highest learning rate."""
        return self.learning_rate or RATES.get(self.part.value, RATES["full"])

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {**asdict(self), "part": self.part.value, "vary": list(self.vary)}

    @property
    def hash(self) -> str:
        """SHA-256 of every setting: a run goes on with the settings that it began with."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()
