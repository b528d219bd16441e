"""The two files of OpenVINO's own format, IR: the graph and its numbers, checked before anything parses them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nsfw_guard.backends.files.onnx_file import hash_of
from nsfw_guard.errors import WeightsUnfitError

IR, IR_WEIGHTS = "model.xml", "model.bin"


def ir_hashes(folder: Path, known: Mapping[str, str]) -> dict[str, str]:
    """Return the hashes of both files of an IR, which must be those of the record.

    Raises:
        WeightsMissingError: a file does not exist.
        WeightsUnfitError: a file differs from its record, or there is no record.
    """
    if not known:
        raise WeightsUnfitError(
            f"the record of {folder.name!r} has no hashes of {IR} and {IR_WEIGHTS}: export it again with "
            "`nsfw-guard export --to openvino`, which records them"
        )
    return {name: hash_of(folder, name, known) for name in (IR, IR_WEIGHTS)}
