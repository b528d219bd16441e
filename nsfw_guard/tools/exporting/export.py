"""Exports a model into a folder, which appears whole, and only where its verdicts are those of the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nsfw_guard.backends.base import Backend
from nsfw_guard.backends.registry import list_models, load_model
from nsfw_guard.backends.registry import spec as record_of
from nsfw_guard.errors import ConfigError
from nsfw_guard.tools.converting.target import appearing
from nsfw_guard.tools.exporting.card import write_card
from nsfw_guard.tools.exporting.formats.network import check_kind, exportable
from nsfw_guard.tools.exporting.preprocessing import check_input
from nsfw_guard.tools.exporting.result import ExportResult, Precision, Target
from nsfw_guard.tools.exporting.wanted import Wanted
from nsfw_guard.tools.exporting.writing import write_network


def source_model(ref: str, *, trust_guard: bool = False) -> Backend:
    """Load the model to export. One of a kind that cannot be exported is refused before its weights are asked for."""
    if ref in list_models():
        check_kind(ref, record_of(ref).kind)
    return load_model(ref, trust_guard=trust_guard)


def export(
    backend: Backend,
    folder: str | Path,
    *,
    target: Target,
    precision: Precision = "fp32",
    with_preprocessing: bool = False,
    parity: Sequence[str | Path] = (),
    images: int = 240,
    trust_guard: bool = False,
) -> ExportResult:
    """Export a model into a new folder that `load_model` reads, after comparing it with the model.

    Args:
        backend: the model, loaded in float32 by torch.
        folder: a new or empty folder.
        target, precision, with_preprocessing, parity, images, trust_guard: see `Wanted`.

    Raises:
        ConfigError: the model, the folder or the settings cannot be used.
        MissingExtraError: a library is not installed.
        SelfTestError: the export gives other verdicts; nothing is written.
    """
    wanted = Wanted(
        target=target, precision=precision, with_preprocessing=with_preprocessing, parity=tuple(map(Path, parity)),
        images=images, trust_guard=trust_guard,
    )  # fmt: skip
    model, out = exportable(backend), Path(folder)
    _check_folder(out)
    if with_preprocessing:
        check_input(model.spec.net_input)
    with appearing(out) as part:
        part.mkdir()
        result = replace(write_network(model, part, wanted), folder=out)
        write_card(part, result, model.spec)
        if out.is_dir():
            out.rmdir()  # an empty one makes place for the whole
    return result


def _check_folder(out: Path) -> None:
    if out.is_symlink() or (out.exists() and not (out.is_dir() and not any(out.iterdir()))):
        raise ConfigError(f"{str(out)!r} is not an empty folder: name a new one")
    if not out.resolve().parent.is_dir():
        raise ConfigError(f"{str(out.parent)!r} is no folder: make it, or name a target in another one")
