"""Reads images of a scan again, to show them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from PIL import Image

from nsfw_guard.imaging.clips.clip import CLIP_LIMITS
from nsfw_guard.imaging.limits import Limits
from nsfw_guard.imaging.thumbnails import thumbnail
from nsfw_guard.tools.pages import text
from nsfw_guard.tools.screening.reporting.findings import Shown
from nsfw_guard.tools.screening.rows import as_text
from nsfw_guard.tools.screening.sources.readers import readers_of
from nsfw_guard.tools.sheets import SIDE, figure, small_copy

Sheets = Literal["hidden", "shown", "blurred", "none"]


class Looker:
    """Reads images again for the sheets."""

    def __init__(self, run: Mapping[str, Any], sheets: Sheets) -> None:
        self.readers = readers_of(run["sources"], column=run.get("column"))
        self.sheets, self.limits = sheets, Limits(**run["settings"]["limits"])

    def figure(self, one: Shown, what: str = "") -> str:
        """Return an image with its outcome and score, or with what else is to be said of it, as HTML."""
        title = what or f"{one.outcome.upper()} {one.score:.3f}"
        caption = f"<b>{text(title)}</b><br><small>{text(as_text(one.entry.key))}</small>"
        return figure(self.thumbnail(one), caption, covered=self.sheets == "hidden")

    def thumbnail(self, one: Shown) -> Image.Image | None:
        """Return a small copy of an image that is still the one that was judged."""
        most = CLIP_LIMITS.bytes if one.entry.is_clip else self.limits.bytes
        (content,) = self.readers[one.entry.reader].read([one.entry], most)
        # Another image must not be shown under the score of the one that was judged.
        image = small_copy(content, sha256=one.sha256, is_clip=one.entry.is_clip, limits=self.limits)
        return thumbnail(image, SIDE, blurred=True) if image is not None and self.sheets == "blurred" else image
