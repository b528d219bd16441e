"""Records a model's answers to the self-test on this machine, so that from then on they are compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from nsfw_guard.backends import registry
from nsfw_guard.backends.files.answers import remove_answers, write_answers
from nsfw_guard.backends.files.inside import is_path
from nsfw_guard.backends.judges.judge import Judge
from nsfw_guard.backends.nets.network import NetBackend
from nsfw_guard.backends.spec import ModelSpec
from nsfw_guard.errors import ConfigError, SelfTestError
from nsfw_guard.verdict import SelfTest


@dataclass(frozen=True)
class Verified:
    """A model whose answers are recorded.

    Args:
        model, version: which one.
        answers: to each synthetic image, by label.
        path: the file that was written; None where they were recorded before.
    """

    model: str
    version: str
    answers: Mapping[str, Mapping[str, float]]
    path: Path | None


def verify(ref: str, *, weights: str | Path | None = None, local_files_only: bool = False) -> Verified:
    """Load a model of the catalogue or of the hub, and record its answers, unless they are recorded.

    It is trusted as it is now: what changes later, such as its weights, its library or its preprocessing, is noticed.

    Args:
        ref: as in `load_model`, but no folder: the answers of a folder belong into its own record.
        weights: the folder of a catalogue model's files.
        local_files_only: download nothing.

    Raises:
        ConfigError: it is a folder, or nobody knows its version.
        SelfTestError: its answers are not those that were recorded, or change between two loads.

    Example:
        ```python
        verify("demo-shapes").path is None  # it comes with its answers
        ```
    """
    _no_folder(ref)
    backend = registry.load_model(ref, weights=weights, local_files_only=local_files_only)
    if not isinstance(backend, (NetBackend, Judge)):
        known = getattr(backend.spec, "known_answers", {})
        if known and backend.state()["self_test"] == SelfTest.PASSED.value:
            return Verified(backend.spec.name, backend.spec.version, known, None)
        raise ConfigError(f"{backend.spec.name!r} is no network of its own: verify the models that it is made of")
    if backend.spec.known_answers:
        return Verified(backend.spec.name, backend.spec.version, backend.spec.known_answers, None)
    record = _record(ref, backend.spec)
    answers = backend.known_answers()
    path = write_answers(record, answers)
    try:
        state = registry.load_model(ref, weights=weights, local_files_only=local_files_only).state()["self_test"]
    except SelfTestError:
        path.unlink()
        raise
    if state != SelfTest.PASSED.value:
        path.unlink()
        raise SelfTestError(f"{record.name!r} is still {state!r} after its answers were recorded: report this")
    return Verified(record.name, record.version, answers, path)


def forget(ref: str) -> list[Path]:
    """Remove the answers that were recorded here for a model, of all its versions, and return their files.

    Args:
        ref: a name of the catalogue, or "hf:owner/name@commit".
    """
    _no_folder(ref)
    name = ref.partition("@")[0]
    return remove_answers(name, registry.spec(ref) if ref in registry.list_models() else None)


def _no_folder(ref: str) -> None:
    if is_path(ref):
        raise ConfigError(f"{ref!r} is a folder: its answers belong into its own record, write it with save_pretrained")


def _record(ref: str, spec: ModelSpec) -> ModelSpec:
    """The record by which the answers are found again: a judge's own one leaves out what it was not asked."""
    if ref.partition(":")[0] in {"hf", "timm"}:
        return spec
    record = registry.spec(ref)
    return record if record.revision else replace(record, revision=spec.revision)
