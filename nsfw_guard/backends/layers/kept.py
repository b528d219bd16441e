"""Keeps the network of a package in our own layout, beside its files in the cache, since that layout is read sooner.

A copy counts only when all of its files have the recorded SHA-256, and is written only when they will have it. So it
can hold nothing but what the package's files, whose hashes are recorded too, say themselves.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from nsfw_guard.backends.files import weights
from nsfw_guard.backends.files.cache import put
from nsfw_guard.backends.files.inside import no_links_out
from nsfw_guard.backends.files.packages import folder_of, read_sound
from nsfw_guard.backends.layers.topology import Plain, read_layers
from nsfw_guard.backends.spec import ModelSpec, PackageFile
from nsfw_guard.errors import NsfwGuardError, WeightsUnfitError
from nsfw_guard.jsonfile import parse_json

log = logging.getLogger(__name__)


def read(spec: ModelSpec, source: Path | Mapping[str, bytes]) -> Plain | None:
    """Return the layers and weights that are kept for a package's folder, or None when it has to be converted."""
    from safetensors.torch import load

    files = _files(spec, source)
    try:
        contents = {path.name: data for path, file in files.items() if (data := read_sound(path, file)) is not None}
        if set(contents) != {weights.CONFIG, weights.WEIGHTS}:
            return None
        no_links_out(next(iter(files)).parent)
        config = parse_json(contents[weights.CONFIG], weights.CONFIG, error=WeightsUnfitError)
        return read_layers(config.get("layers")), load(contents[weights.WEIGHTS])
    except (NsfwGuardError, OSError) as error:
        log.info("the kept network of %s is not used: %s", spec.name, error)
        return None


def write(spec: ModelSpec, source: Path | Mapping[str, bytes], make: Callable[[], Mapping[str, bytes]]) -> None:
    """Keep a network for the next time, where its record knows the hashes; a cache that cannot be written is no error.

    Args:
        spec: the record.
        source: the folder that it was read from. Only in our cache something is kept.
        make: returns the contents of the files by name, in float32.
    """
    files = _files(spec, source)
    if not files:
        return
    contents = make()
    try:
        if other := [f.name for f in files.values() if hashlib.sha256(contents[f.name]).hexdigest() != f.sha256]:
            # Another release of safetensors, or a record that was changed by the caller.
            log.info("the network of %s is not kept: %s is not the recorded one here", spec.name, other[0])
            return
        for path, file in files.items():
            put(path, contents[file.name])
    except OSError as error:
        log.info("the network of %s is not kept: %s", spec.name, error)


def _files(spec: ModelSpec, source: Path | Mapping[str, bytes]) -> dict[Path, PackageFile]:
    """Where each file is kept; none for a folder outside the cache, and for a record without their hashes."""
    if spec.package is None or not isinstance(source, Path) or source != folder_of(spec.package):
        return {}
    return {source / file.path: file for file in spec.package.converted}
