"""Images on pages that are one file: small, behind a blur, and only where they are still those that were judged."""

from __future__ import annotations

import hashlib

from PIL import Image

from nsfw_guard.errors import ConfigError, ImageError, MissingExtraError
from nsfw_guard.imaging.clips.clip import Clip
from nsfw_guard.imaging.decode import Stream
from nsfw_guard.imaging.limits import Limits
from nsfw_guard.imaging.thumbnails import data_url, thumbnail

SIDE = 180  # of an image on a page, in pixels
GONE = "no longer there as it was"


def small_copy(content: object, *, sha256: str | None, is_clip: bool, limits: Limits) -> Image.Image | None:
    """Return a small copy of the first frame of a file; None where it cannot be decoded or is another.

    Args:
        content: the bytes of the file; anything else has no copy.
        sha256: of the file that was judged, so that no other is shown in its place; None is any.
        is_clip: whether it is a video file.
        limits: for decoding.
    """
    if not isinstance(content, bytes) or sha256 not in (None, hashlib.sha256(content).hexdigest()):
        return None
    try:
        clip = next(iter(Clip.open(content))).pixels if is_clip else None
        frame = Image.fromarray(next(iter(Stream(content, limits=limits))) if clip is None else clip)
    except (ConfigError, ImageError, MissingExtraError):
        return None
    return thumbnail(frame, SIDE)


def small_copy_of(path: str, *, blurred: bool, limits: Limits) -> Image.Image | None:
    """Return a small copy of the first frame of an image file; None where it cannot be read or decoded.

    Args:
        path: the file.
        blurred: whether nothing but a few patches of colour is kept.
        limits: for decoding.
    """
    try:
        frame = Image.fromarray(next(iter(Stream(path, limits=limits))))
    except ImageError:
        return None
    return thumbnail(frame, SIDE, blurred=blurred)


def figure(image: Image.Image | None, caption: str, *, covered: bool = True) -> str:
    """Return an image and its caption (HTML) as HTML.

    Args:
        image: a small copy; None says that it is no longer there as it was.
        caption: HTML.
        covered: behind a blur until it is clicked.
    """
    if image is None:
        return f"<figure><p class=muted>{GONE}</p><figcaption>{caption}</figcaption></figure>"
    tag = f'<img alt="" src="{data_url(image)}">'
    if covered:
        tag = f'<label class=cover><input type="checkbox"><span>{tag}</span></label>'
    return f"<figure>{tag}<figcaption>{caption}</figcaption></figure>"
