"""Labelled images as a network takes them: decoded once, and kept in a file beside the run."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nsfw_guard.backends.files.cache import put
from nsfw_guard.backends.files.inside import short
from nsfw_guard.backends.files.weights import sha256_of
from nsfw_guard.errors import ConfigError, first_line
from nsfw_guard.imaging.frames import in_groups
from nsfw_guard.imaging.preprocess import Preprocess
from nsfw_guard.imaging.views import InputSpec
from nsfw_guard.jsonfile import read_json
from nsfw_guard.tools.finetuning.watching import Stage, Watch, quiet
from nsfw_guard.tools.teaching.copies import Look, look_at

PIXELS, FACTS = "pixels.u8", "pixels.json"
CHUNK = 16  # files that are decoded by one thread at a time
LEFT = 256 << 20  # bytes of the disk that stay free


@dataclass(frozen=True)
class Decoded:
    """Images of one size.

    Args:
        pixels: 8-bit levels; of an image with a fault, zeros. Shape: (N, 3, S, S).
        looks: what each image looks like; None for one with a fault.
        faults: by number, why an image cannot be used.
        hash: of all pixels.
    """

    pixels: Tensor
    looks: tuple[Look | None, ...]
    faults: dict[int, str]
    hash: str


def decode(
    paths: Sequence[str], shown: InputSpec, *, views: str = "center", folder: Path, watch: Watch = quiet
) -> Decoded:
    """Decode images to what the network is shown of them, the first frame of each, into a file in a folder.

    Images that this folder holds already, of the same files, are not decoded again.

    Args:
        paths: of the images.
        shown: the input of the network.
        views: "center" for the view of the model's authors, or "squash" for the whole image in one.
        folder: where the pixels are kept; it needs 3 * size * size bytes an image.
        watch: is called as images are done.
    """
    size = 3 * shown.size**2
    stamp = _stamp(paths, shown, views)
    if (kept := _kept(folder, stamp, len(paths))) is not None:
        return _opened(folder, kept, len(paths), shown.size)
    free = shutil.disk_usage(folder).free
    if size * len(paths) > free - LEFT:
        raise ConfigError(
            f"{len(paths)} images of {shown.size} x {shown.size} take {size * len(paths) >> 20} MB, and "
            f"{free >> 20} MB are free: use another --out, or fewer images"
        )
    (folder / FACTS).unlink(missing_ok=True)
    preprocess = Preprocess(spec=shown, views=views)
    facts: dict[str, Any] = {"stamp": stamp, "looks": [], "faults": {}}
    summed, done = hashlib.sha256(), 0
    part = folder / f"{PIXELS}.new"  # the old one may be open somewhere
    with part.open("wb") as file:
        for rows in _rows(paths, preprocess):
            for row in rows:
                data = bytes(size) if row.pixels is None else row.pixels.numpy().tobytes()
                summed.update(data)
                file.write(data)
                if row.fault:
                    facts["faults"][str(done)] = row.fault
                look = row.look
                facts["looks"].append(None if look is None else [look.hashed, look.colours.tobytes().hex()])
                done += 1
            watch(Stage.DECODING, done, len(paths), "")
    part.replace(folder / PIXELS)
    put(folder / FACTS, json.dumps({**facts, "hash": summed.hexdigest()}).encode())
    return _opened(folder, read_json(folder / FACTS, most=1 << 30), len(paths), shown.size)


@dataclass(frozen=True)
class _Row:
    pixels: Tensor | None = None
    look: Look | None = None
    fault: str = ""


def _rows(paths: Sequence[str], preprocess: Preprocess) -> Iterator[list[_Row]]:
    """The images in order; threads decode ahead, as many as there are processors."""
    chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        waiting = deque[Future[list[_Row]]]()
        for chunk in chunks:
            waiting.append(pool.submit(_chunk, chunk, preprocess))
            if len(waiting) > 2 * (os.cpu_count() or 1):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _chunk(paths: Sequence[str], preprocess: Preprocess) -> list[_Row]:
    rows = [_Row(fault="it holds no image")] * len(paths)
    seen = set[int]()
    for group in in_groups(list(paths)):
        frames = [frame for stack in group.stacks for frame in stack.split()]
        for owner, frame in zip(group.owners, frames, strict=True):
            if owner not in seen:
                seen.add(owner)
                rows[owner] = _Row(preprocess.prepare(frame).pixels[0, 0].to(torch.uint8), look_at(frame.to_array()))
        for owner, fault in {**group.partial, **group.faults}.items():
            rows[owner] = _Row(fault=fault)
    return rows


def _stamp(paths: Sequence[str], shown: InputSpec, views: str) -> str:
    """What the pixels depend on: the files as they are now, and how they are shown."""
    whole = hashlib.sha256(f"{shown} {views}".encode())
    for path in paths:
        try:
            facts = Path(path).stat()
            whole.update(
                f"\n{path} {facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns}".encode("utf-8", "surrogateescape")
            )
        except (OSError, ValueError) as error:
            raise ConfigError(f"{short(path)} cannot be read ({first_line(error)}): correct the list") from error
    return whole.hexdigest()


def _kept(folder: Path, stamp: str, count: int) -> dict[str, Any] | None:
    """What is known of the images that were decoded, if they are all there as they were."""
    try:
        facts = read_json(folder / FACTS, most=1 << 30)
        if facts["stamp"] != stamp or len(facts["looks"]) != count:
            return None
        return facts if sha256_of(folder / PIXELS) == facts["hash"] else None
    except (ConfigError, OSError, LookupError, TypeError):
        return None


def _opened(folder: Path, facts: dict[str, Any], count: int, side: int) -> Decoded:
    pixels = np.memmap(folder / PIXELS, np.uint8, "r+", shape=(count, 3, side, side))
    looks = tuple(
        None if one is None else Look(one[0], np.frombuffer(bytes.fromhex(one[1]), np.uint8).reshape(8, 8, 3))
        for one in facts["looks"]
    )
    return Decoded(
        torch.from_numpy(pixels), looks, {int(at): why for at, why in facts["faults"].items()}, facts["hash"]
    )
