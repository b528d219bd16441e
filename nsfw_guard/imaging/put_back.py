"""Returns images in the type that was given, with covers in place of those held back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nsfw_guard.errors import ImageError
from nsfw_guard.imaging.arrays import is_odd, refuse_odd
from nsfw_guard.imaging.channels import with_channels
from nsfw_guard.imaging.frames import Frames, is_batch
from nsfw_guard.imaging.quantise import ValueRange


def put_back(images: Any, covers: Mapping[int, Tensor], *, value_range: ValueRange = "unit") -> Any:
    """Return the images in the type that was given: covered ones replaced, the others bit for bit.

    Args:
        images: the images as they were given; never changed.
        covers: the new image per index. Shape: (3, H, W) in [0, 1]. A path or bytes become a PIL image.
        value_range: the range of `images`, and of the covers in the result.
    """
    refuse_odd(images)
    if not covers:
        return images
    if isinstance(images, Frames):
        return Frames(put_back(images.pixels, covers, value_range=images.value_range), images.value_range)
    if isinstance(images, (list, tuple)):
        items = [_like(old, covers[i], value_range) if i in covers else old for i, old in enumerate(images)]
        return _as_list(items, type(images))
    if is_batch(images):
        out = images.clone() if isinstance(images, Tensor) else images.copy()
        for index, cover in covers.items():
            out[index] = _like(images[index], cover, value_range)
        return out
    return _like(images, covers[0], value_range)


def _as_list(items: list[Any], kind: type) -> Any:
    """Images in the list type that was given; a type that changes its items is refused."""
    try:
        out = kind(items)
        if len(out) == len(items) and all(a is b for a, b in zip(out, items, strict=True)):
            return out
    except Exception as error:
        raise ImageError(f"{kind.__name__} cannot be built from a list: pass list(it)") from error
    raise ImageError(f"{kind.__name__} changes the items it is built from: pass list(it)")


def _like(old: Any, cover: Tensor, value_range: ValueRange) -> Any:
    """`cover` in the type of `old`."""
    levels = cover.detach().float().clamp(0, 1).mul_(255).round_().to(torch.uint8)
    if isinstance(old, Tensor) and not is_odd(old) and old.ndim == 3:
        channels = with_channels(levels, old.shape[0]).to(old.device)
        if old.dtype == torch.uint8:
            return channels
        unit = channels.float() / 255
        return (unit * 2 - 1 if value_range == "signed" else unit).to(old.dtype)
    if isinstance(old, np.ndarray) and old.ndim in {2, 3}:
        channels = with_channels(levels, 1 if old.ndim == 2 else old.shape[2]).permute(1, 2, 0).cpu()
        array = channels.numpy() if old.ndim == 3 else channels.numpy()[..., 0]
        if old.dtype.kind == "f":
            unit_array = array.astype(np.float32) / 255
            return (unit_array * 2 - 1 if value_range == "signed" else unit_array).astype(old.dtype)
        deep = old.dtype.kind == "u" and old.dtype.itemsize == 2  # in either byte order
        return (array * np.uint16(257) if deep else array).astype(old.dtype)
    image = Image.fromarray(levels.permute(1, 2, 0).cpu().numpy())
    return image.convert(old.mode) if isinstance(old, Image.Image) and old.mode in {"L", "LA", "RGBA"} else image
