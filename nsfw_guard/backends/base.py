"""What a backend is, and the record that describes a model."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import torch
from torch import Tensor

from nsfw_guard.errors import ConfigError, ScoringError, UnknownNameError
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.imaging.preprocess import Resize
from nsfw_guard.imaging.views import InputSpec
from nsfw_guard.policy.rules import Threshold
from nsfw_guard.scores import Scores, Severity

Runtime = Literal["torch", "onnx", "openvino"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Label:
    """What a model's class means: a category at a severity.

    Example:
        ```python
        backend = load_model("demo-shapes", labels={"red-disc": Label("shapes"), "other": None})
        ```
    """

    category: str
    severity: Severity = Severity.HIGH


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A model as a record. Adding a model is adding one of these.

    Args:
        name: what it is called here.
        kind: which loader takes it, by its name in `loaders.KINDS`.
        architecture: the library's name of the network, `model_args` its arguments.
        input: what its authors fed it.
        labels: what each of its classes means, by name; None for a harmless one.
        thresholds: where its scores are cut, by name ("default", "strict", "lenient"), with the source of each number.
        positive: the level it calls positive itself; its lowest one unless said.
        neutral: categories that are no fault in themselves, such as a face: judged by a policy that names them only.
        band: where a second opinion is asked for, which must hold every threshold; None where nobody else is asked.
        repo, revision, sha256: where the weights are, at which commit, and their hash where it is known.
        hashes: the hashes of an exported network's files, by name, where they are known.
        subfolder, files: what of the repository is needed. model.safetensors stands for its shards too.
        optional_files: files that are fetched where the repository has them.
        license, gated: of the weights, and whether their authors hand them out on request only.
        pip_extra: the optional extra of this package that it needs.
        embedding_dim: numbers in an embedding, as published; 0 where there is none, or nobody said.
        known_answers: per synthetic picture the probability it gave to each label, by name, when it was recorded.
        questions: of a judge, per label the written rule that it judges by.
        metrics: what was published about how good it is, with the source.
        source: where the facts of this record come from.
    """

    name: str
    architecture: str
    input: InputSpec
    labels: Mapping[str, Label | None]
    thresholds: Mapping[str, Threshold] = field(default_factory=dict)
    model_args: Mapping[str, Any] = field(default_factory=dict)
    positive: Severity | None = None
    neutral: tuple[str, ...] = ()
    band: tuple[float, float] | None = None
    kind: str = "timm"
    repo: str = ""
    revision: str = ""
    sha256: str = ""
    hashes: Mapping[str, str] = field(default_factory=dict)
    subfolder: str = ""
    files: tuple[str, ...] = ("config.json", "model.safetensors")
    optional_files: tuple[str, ...] = ()
    license: str = "unknown"
    gated: bool = False
    pip_extra: str = ""
    download_bytes: int = 0
    embedding_dim: int = 0
    known_answers: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    questions: Mapping[str, str] = field(default_factory=dict)
    metrics: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        if not self.labels or not any(self.labels.values()):
            raise ConfigError(f"no label of {self.name!r} has a category: map one, such as labels={{'NSFW': 'sexual'}}")

    @property
    def levels(self) -> dict[str, tuple[Severity, ...]]:
        """The categories that it scores, each with its levels."""
        grades: dict[str, set[Severity]] = {}
        for label in self.labels.values():
            if label is not None:
                grades.setdefault(label.category, set()).add(label.severity)
        return {category: tuple(sorted(levels)) for category, levels in grades.items()}

    @property
    def positives(self) -> dict[str, Severity]:
        """Per category the level that the model itself calls positive; neutral categories have none."""
        judged = {c: levels for c, levels in self.levels.items() if c not in self.neutral}
        return {c: self.positive if self.positive in levels else levels[0] for c, levels in judged.items()}

    def with_labels(self, labels: Mapping[str, str | Label | None] | None) -> ModelSpec:
        """Return this record with classes mapped by the caller: {"NSFW": "sexual", "SFW": None}."""
        if labels is None:
            return self
        unknown = [name for name in labels if name not in self.labels]
        if unknown:
            raise UnknownNameError("label", unknown[0], self.labels)
        relabelled = {name: Label(to) if isinstance(to, str) else to for name, to in labels.items()}
        return replace(self, labels={name: relabelled.get(name, label) for name, label in self.labels.items()})


@runtime_checkable
class Backend(Protocol):
    """One method that scores, one record, one state. Whatever has them can stand in a guard."""

    @property
    def spec(self) -> ModelSpec:
        """The record of the model that answers."""
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
        raise ScoringError(f"{backend.spec.name!r} gave {type(scores).__name__}, not a list of Scores")
    if len(scores) != frames:
        raise ScoringError(f"{backend.spec.name!r} gave {len(scores)} scores for {frames} frames")
    same, faults = _seen(stacks, before)
    if not same:
        raise ScoringError(f"{backend.spec.name!r} wrote into the pixels it was given: it must work on a copy")
    return [replace(s, fault=s.fault or fault) if fault else s for s, fault in zip(scores, faults, strict=True)]


def _mark(pixels: Tensor) -> tuple[int, Tensor]:
    """What shows that somebody wrote into pixels: the version that torch counts, and a grid of them.

    The version misses nothing that goes through torch, but inference tensors have none, and who writes through
    NumPy's memory or `.data` does not raise it. The grid (49 by 49 at most) shows such a write where it is as careless
    as those are: all over the picture.
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
        device: None follows the picture: the model runs where the pictures are.
        dtype: of the network; scores are computed in float32 whatever it is.
        views: which parts of a picture are looked at: "cover", "center", "squash", "tiles(n)".
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
                raise ConfigError(f"unknown device {self.device!r}: say 'cpu', 'cuda', 'cuda:1', 'mps'") from error
        if self.runtime is not None and self.runtime not in get_args(Runtime):
            raise UnknownNameError("runtime", self.runtime, get_args(Runtime))
        if self.batch_size < 1:
            raise ConfigError(f"batch_size must be 1 or more, got {self.batch_size}")


def is_commit(revision: str) -> bool:
    """Return whether a revision is a full commit, which cannot move."""
    return re.fullmatch(r"[0-9a-f]{40}", revision) is not None


Build = Callable[[ModelSpec, Options], Backend]  # makes a backend from a record
Register = Callable[[ModelSpec, Build], None]  # adds a record and its builder; what a plug-in is handed
