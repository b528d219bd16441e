"""What ComfyUI sends to its page: previews, finished files as bytes, and words that may hold an image."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nsfw_guard.hosts.session import HostGuard
from nsfw_guard.verdict import Outcome

FILE, IMAGE, TEXT, WITH_METADATA = 1, 2, 3, 4  # the binary events of the host
HEADER_BYTES = 4  # bytes before a file: its kind
SHOWN_ATTR = "_nsfw_guard_shown"
# How files of images and clips begin; an ISO one (AVIF, HEIC, MP4) has its mark behind a length.
STARTS = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*", b"\x1aE\xdf\xa3")
MIN_BASE64_CHARS = 64  # characters: no image is shorter in base64


class Messages:
    """Lets a message to the page go as it may be seen.

    Args:
        guard: what judges and covers.
        was_judged: whether an image is one of those that the running output node was handed.
    """

    def __init__(self, guard: HostGuard, was_judged: Callable[[Image.Image], bool]) -> None:
        self.guard, self._was_judged = guard, was_judged

    def guard_message(self, event: Any, data: Any, *, is_judged: bool) -> Any:
        """Return what may be sent in place of a message, or None. Never raises.

        Args:
            event: the host's number of a binary event, or the name of a JSON one.
            data: what is sent.
            is_judged: an output node runs whose images were judged: the bytes that it sends are made of them.
        """
        if not self.guard.settings.enabled:
            return data
        try:
            return self._guarded(event, data, is_judged)
        except Exception as error:  # noqa: BLE001
            self.guard.faults.say("an image on its way to the browser could not be covered: it is not sent", error)
            return None

    def _guarded(self, event: Any, data: Any, is_judged: bool) -> Any:
        kind = int(event) if isinstance(event, int) else 0
        if kind == IMAGE:
            return self.shown(data)
        if kind == WITH_METADATA and isinstance(data, tuple):
            image, metadata = data
            seen = self.shown(image)
            return None if seen is None else (seen, metadata)
        if isinstance(data, (bytes, bytearray, memoryview)):
            if is_judged or (kind == TEXT and not _starts(bytes(data[:16])) and not self._hides(bytes(data))):
                return data
            return self._file(bytes(data)) if kind == FILE else None  # nobody can say what is in it
        return None if self._hides(data) else data

    def shown(self, preview: Any) -> Any:
        """Return (format, image, largest side), with the image as it may be shown; None for anything else."""
        if not isinstance(preview, tuple) or len(preview) < 2:
            return None
        image = preview[1]
        if isinstance(image, Tensor) and image.dtype == torch.uint8 and image.ndim == 3:  # as SwarmUI has it
            covered = self.guard.preview(Image.fromarray(image.cpu().numpy()))
            seen: Any = torch.from_numpy(np.array(covered.convert("RGB")))
        elif isinstance(image, Image.Image):
            seen = self._seen(image)
        else:
            return None
        return None if seen is None else (preview[0], seen, *preview[2:])

    def _seen(self, image: Image.Image) -> Image.Image | None:
        if hasattr(image, SHOWN_ATTR) or self._was_judged(image):
            return image
        preview = self.guard.preview(image)
        if not isinstance(preview, Image.Image):
            return None
        setattr(preview, SHOWN_ATTR, True)
        return preview

    def _file(self, data: bytes) -> bytes | None:
        """A finished file behind its header, shown as a preview is."""
        with Image.open(io.BytesIO(data[HEADER_BYTES:])) as image:
            if getattr(image, "n_frames", 1) > 1:
                return None
            kind, seen = image.format, self._seen(image.convert("RGB"))
        if seen is None:
            return None
        file = io.BytesIO()
        seen.save(file, kind)
        return data[:HEADER_BYTES] + file.getvalue()

    def _hides(self, data: Any) -> bool:
        """Whether words hold an image that may not be seen."""
        return any(self.guard.judge(raw).outcome is not Outcome.ALLOW for raw in _images(data))


def _images(data: Any) -> Iterator[bytes]:
    """The images that texts hold as base64 or as data URLs."""
    if isinstance(data, (bytes, bytearray)):
        yield from _images(bytes(data).decode("utf-8", "replace"))
    elif isinstance(data, str):
        text = data.partition(",")[2] if data.startswith("data:") else data
        raw = _decoded(text) if len(text) >= MIN_BASE64_CHARS else b""
        if _starts(raw):
            yield raw
    elif isinstance(data, Mapping):
        for one in data.values():
            yield from _images(one)
    elif isinstance(data, (list, tuple)):
        for one in data:
            yield from _images(one)


def _decoded(text: str) -> bytes:
    try:
        if not _starts(base64.b64decode(text[:MIN_BASE64_CHARS])):
            return b""
        return base64.b64decode(text)
    except (binascii.Error, ValueError):
        return b""


def _starts(data: bytes) -> bool:
    return data.startswith(STARTS) or data[4:8] == b"ftyp"
