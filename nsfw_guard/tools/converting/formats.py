"""The door to all formats: one scan, one new target."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from nsfw_guard.errors import ConfigError, UnknownNameError
from nsfw_guard.tools.converting import arrays, faiss_file, fiftyone, label_studio, tables
from nsfw_guard.tools.converting.target import appearing, check_target

FormatName = Literal["npy", "parquet", "fiftyone", "label-studio", "faiss"]
FORMATS: tuple[FormatName, ...] = get_args(FormatName)


def convert(scan: Path, out: Path, *, to: FormatName, url_prefix: str | None = None) -> dict[str, Any]:
    """Write a finished scan in the format of another program, and return JSON-ready facts about what was written.

    Args:
        scan: the output of a finished scan.
        out: a new folder (npy, fiftyone, label-studio) or a new file (parquet, faiss). It appears when it is whole.
        to: the format.
        url_prefix: for label-studio, what comes before the key of each image, such as "https://images.example/".

    Raises:
        ConfigError: the scan is not finished, it has no embeddings and the format needs them, or `out` is there.
        MissingExtraError: the format needs a library that is not installed.

    Example:
        ```python
        facts = convert(Path("scanned"), Path("arrays"), to="npy")
        vectors = np.load("arrays/embeddings.npy", mmap_mode="r", allow_pickle=False)
        ```
    """
    if to not in FORMATS:
        raise UnknownNameError("format", to, FORMATS)
    if url_prefix is not None and to != "label-studio":
        raise ConfigError(f"a prefix of addresses is of no use to {to!r}: leave it out, or convert to 'label-studio'")
    check_target(out, scan)
    if to == "faiss":  # writes three files, each of which appears whole
        return faiss_file.write(scan, out)
    writers: dict[str, Callable[[Path, Path], dict[str, Any]]] = {
        "npy": arrays.write,
        "parquet": tables.write,
        "fiftyone": fiftyone.write,
        "label-studio": partial(label_studio.write, url_prefix=url_prefix),
    }
    with appearing(out) as part:
        return writers[to](scan, part)
