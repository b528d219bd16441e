"""The supported formats, and opening a file in one of them."""

from __future__ import annotations

import importlib
import re
from contextlib import suppress

import PIL
from PIL import Image

from nsfw_guard.errors import DecodeError
from nsfw_guard.imaging.files.sources import Reader, whole_files_only

# MPO has no opener of its own: it is opened as JPEG.
_PLUGINS = {"JPEG": "Jpeg", "PNG": "Png", "WEBP": "WebP", "GIF": "Gif", "BMP": "Bmp", "TIFF": "Tiff", "AVIF": "Avif"}
for _plugin in _PLUGINS.values():
    with suppress(ImportError):  # Pillow before 11.3 has no AVIF
        importlib.import_module(f"PIL.{_plugin}ImagePlugin")
FORMATS = tuple(name for name in _PLUGINS if name in Image.OPEN)


def pillow_is_old() -> bool:
    """Return whether Pillow is older than 13.0.0, which fixed CVE-2026-112403 in its JPEG decoder."""
    major = re.match(r"\d+", PIL.__version__)
    return major is None or int(major[0]) < 13


def opened(data: bytes) -> Image.Image:
    """Open the image of a file without decoding its pixels."""
    try:
        with whole_files_only():
            return Image.open(Reader(data), formats=FORMATS)
    except PIL.UnidentifiedImageError as error:
        raise DecodeError(f"not a readable {', '.join(FORMATS)} file: save it in one of these formats") from error
