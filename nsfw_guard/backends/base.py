"""What a backend is, how its answers are checked, and how it is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, get_args, runtime_checkable

import torch
from torch import Tensor

from nsfw_guard.backends.spec import ModelSpec, ScoreSpec
from nsfw_guard.errors import ConfigError, ScoringError, UnknownNameError
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.imaging.preprocess import Resize
from nsfw_guard.scores import Scores

Runtime = Literal["torch", "onnx", "openvino"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@runtime_checkable
class Backend(Protocol):
    """One method that scores, one record, one state. Whatever has them can stand in a guard."""

    @property
    def spec(self) -> ScoreSpec:
        """The record of what answers."""
        ...

    def score(self, stacks: Sequence[Frames], *, embeddings: bool = False, digests: bool = False) -> list[Scores]:
        """Return one Scores a frame, in order, over all stacks."""
        ...

    def state(self) -> Mapping[str, str]:
        """Return what is really in effect, `self_test` among it."""
        ...


def checked_scores(
    backend: Backend, stacks: Sequence[Frames], frames: int, *, embeddings: bool, digests: bool
) -> list[Scores]:
    """Ask a backend, and return its scores when they are a list of the right length and kind and no pixel was changed.

    Whatever the backend says of it, a frame of NaN or of values out of range has a fault. This is the one door to
    every backend, and so where nothing is left to its care.

    Raises:
        ScoringError: they are not.
    """
    if not stacks:
        return []
    before = [_mark(stack.pixels) for stack in stacks]
    scores = backend.score(stacks, embeddings=embeddings, digests=digests)
    if not (isinstance(scores, list) and all(isinstance(s, Scores) for s in scores)):
        raise ScoringError(
            f"{backend.spec.name!r} returned {type(scores).__name__}, not a list of Scores: fix its score()"
        )
    if len(scores) != frames:
        raise ScoringError(
            f"{backend.spec.name!r} returned {len(scores)} scores for {frames} frames: it must return one a frame"
        )
    same, faults = _seen(stacks, before)
    if not same:
        raise ScoringError(f"{backend.spec.name!r} wrote into the pixels it was given: it must work on a copy")
    return [replace(s, fault=s.fault or fault) if fault else s for s, fault in zip(scores, faults, strict=True)]


def _mark(pixels: Tensor) -> tuple[int, Tensor]:
    """What shows that somebody wrote into pixels: the version that torch counts, and a grid of them.

    The version misses nothing that goes through torch, but inference tensors have none, and who writes through
    NumPy's memory or `.data` does not raise it. The grid (49 by 49 at most) shows such a write where it is as careless
    as those are: all over the image.
    """
    rows, columns = (max(1, -(-side // 49)) for side in pixels.shape[-2:])
    version = -1 if pixels.is_inference() else pixels._version
    return version, pixels.detach()[..., ::rows, ::columns].clone(memory_format=torch.contiguous_format)


def _seen(stacks: Sequence[Frames], before: Sequence[tuple[int, Tensor]]) -> tuple[bool, list[str]]:
    """Whether the pixels are what they were, and each frame's fault. One read from the device, of a few numbers."""
    numbers, versions = [], True
    for stack, (version, grid) in zip(stacks, before, strict=True):
        now, again = _mark(stack.pixels)
        versions &= now == version
        # Compared as bytes: a NaN is not equal to itself.
        equal = (again.view(torch.uint8) == grid.view(torch.uint8)).all().float()[None]
        low_high = stack.extremes()
        numbers.append(equal if low_high is None else torch.cat([equal, low_high.flatten()]))
    values = iter(torch.cat([part.to(numbers[0].device) for part in numbers]).tolist())
    same, faults = versions, []
    for stack in stacks:
        same &= next(values) == 1.0
        floats = stack.pixels.dtype != torch.uint8
        faults += [stack.fault(next(values), next(values)) if floats else "" for _ in range(len(stack))]
    return same, faults


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a model is run.

    Args:
        device: None follows the image: the model runs where the images are.
        dtype: of the network; scores are computed in float32 whatever it is.
        views: which parts of an image are looked at: "cover", "center", "squash", "content", "tiles(n)".
        resize: "exact" or "fast".
        batch_size: views a forward pass.
        runtime: what runs the network: "torch", "onnx" or "openvino"; None for what the folder's files say.
        local_files_only: weights that are not in the cache are an error; else they are fetched from the hub.
        trust_guard: what a folder relaxes of its own guard holds; else it is an error.

    Example:
        ```python
        backend = loaders.load_folder(folder, Options(device="cpu", views="tiles(2)", batch_size=8))
        ```
    """

    device: str | torch.device | None = None
    dtype: str | torch.dtype = "float32"
    views: str = "cover"
    resize: Resize = "exact"
    batch_size: int = 32
    runtime: Runtime | None = None
    local_files_only: bool = False
    trust_guard: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.dtype, str):
            if self.dtype not in DTYPES:
                raise UnknownNameError("dtype", self.dtype, DTYPES)
            object.__setattr__(self, "dtype", DTYPES[self.dtype])
        if isinstance(self.device, str):
            try:
                object.__setattr__(self, "device", torch.device(self.device))
            except RuntimeError as error:
                raise ConfigError(f"unknown device {self.device!r}: use 'cpu', 'cuda', 'cuda:1' or 'mps'") from error
        if self.runtime is not None and self.runtime not in get_args(Runtime):
            raise UnknownNameError("runtime", self.runtime, get_args(Runtime))
        if self.batch_size < 1:
            raise ConfigError(f"batch_size must be 1 or more, got {self.batch_size}")


Build = Callable[[ModelSpec, Options], Backend]  # makes a backend from a record
Register = Callable[[ModelSpec, Build], None]  # adds a record and its builder; what a plug-in is handed
