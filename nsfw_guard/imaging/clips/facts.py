"""What the structure of a video file says, read before any library decodes a byte of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nsfw_guard.errors import DecodeError, MissingExtraError
from nsfw_guard.imaging.files.metadata import sweep
from nsfw_guard.imaging.limits import Limits

REMUX = "copy it into a new file with `ffmpeg -i IN -map 0:v:0 -map 0:a? -c copy OUT`"
MAX_PARTS = 1_000_000  # boxes or elements: about two seconds


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The format of a video file, its number of tracks, and what it says of its only track of images.

    `samples` are the coded images that the file holds, counted by us.
    """

    format: str
    width: int
    height: int
    samples: int
    seconds: float
    tracks: int


def refuse(what: str, cure: str = REMUX) -> DecodeError:
    """Make the error for a clip that players may show in different ways."""
    return DecodeError(f"a clip with {what} is not supported: {cure}")


def check_count(samples: int, limits: Limits) -> None:
    """Raise an error for a number of images that no clip within the limits has."""
    if samples < 1:
        raise DecodeError("the clip holds no image: save it again")
    if samples > limits.frames:
        raise DecodeError(f"{samples} frames are more than {limits.frames}: cut it into parts, or raise limits.frames")


def check_notes(block: bytes) -> None:
    """Raise an error for a part without frames that holds an image file, which programs show beside the clip."""
    if next(sweep(block, None), None) is not None:
        raise refuse("an image in its notes (a cover or a thumbnail)", f"{REMUX} with -map_metadata -1")


def name_of(kind: bytes) -> str:
    """Return the name of a box or of a kind of video, for a message."""
    return ascii(kind.decode("latin-1"))


def load_av() -> Any:
    """Return PyAV, or raise an error that says how to install it."""
    try:
        import av
    except ImportError as error:
        raise MissingExtraError("av", "video") from error
    return av
