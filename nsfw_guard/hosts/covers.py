"""What stands in the place of an image that must not be seen, on whatever holds it, with its label."""

from __future__ import annotations

from typing import Any

from PIL import Image

from nsfw_guard.hosts import host_images
from nsfw_guard.hosts.host_images import Layout
from nsfw_guard.hosts.label import labelled
from nsfw_guard.verdict import Verdict


def stand_in(size: tuple[int, int], verdict: Verdict, *, label: bool) -> Image.Image:
    """Gives an image of one colour that says why it stands there."""
    cover = host_images.solid(*size)
    return labelled(cover, verdict) if label else cover


def cover(image: Any, by: Image.Image, verdict: Verdict, layout: Layout | None, *, label: bool) -> Any:
    """Paints a cover over an image, in place where its kind allows it."""
    flat = by.convert("RGB")
    return host_images.paint(image, labelled(flat, verdict) if label else flat, layout)


def cover_solid(image: Any, verdict: Verdict, layout: Layout | None, *, label: bool) -> Any:
    """Paints one colour over an image. Never raises: what cannot be painted is not handed on."""
    try:
        by = stand_in(host_images.size_of(image, layout), verdict, label=label)
        return host_images.paint(image, by, layout)
    except Exception:  # noqa: BLE001  (another image is a cover as well)
        return host_images.solid(64, 64)
