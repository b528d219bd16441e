"""The forms in which pipelines return images (PIL, arrays, tensors, lists, clips): split into frames and rebuilt."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nsfw_guard.errors import UncoveredError
from nsfw_guard.verdict import Verdict

CHANNELS = {1, 3, 4}
MIN_IMAGE_SIDE = 8  # of an image under another name: poses are matrices of four by four
MAX_PLAIN_NUMBERS = 256  # more numbers than this could be the pixels of an image


def split_entries(value: Any, *, clips: bool) -> list[list[Any]]:
    """Return the frames of each entry of an output; an entry is released as a whole or not at all.

    An image is an entry of one frame; a clip, or a list inside a list, one of many. Nothing is copied.

    Args:
        value: PIL, an array (..., H, W, C), a tensor (..., C, H, W), or a list of them.
        clips: a flat list, or one more axis, is one clip instead of many images.
    """
    if is_data(value):
        return []
    if isinstance(value, Mapping):
        return [entry for part in value.values() for entry in split_entries(part, clips=clips)]
    if isinstance(value, (list, tuple)):
        if clips and all(_single(v) for v in value):
            return [[f for v in value for f in frames(v)]] if value else []
        return [frames(v) for v in _parts(value)]
    if _axes(value) == 5 or (_axes(value) == 4 and not clips):
        return [frames(part) for part in _clips_of(value)]
    return [frames(value)]


def frames(value: Any) -> list[Any]:
    """Return every frame in an output, in reading order."""
    if is_data(value):
        return []
    if isinstance(value, Mapping):
        return frames(list(value.values()))
    if isinstance(value, (list, tuple)):
        return [frame for part in _parts(value) for frame in frames(part)]
    if _single(value):
        return [value]
    if _axes(value) in {4, 5}:
        return [frame for part in _clips_of(value) for frame in frames(part)]
    raise _no_image(value)


def _parts(value: Sequence[Any]) -> list[Any]:
    """The parts of a list that may be images; an error where it has so many numbers that they could be pixels."""
    if _numbers([part for part in value if is_data(part)]) > MAX_PLAIN_NUMBERS:
        raise _no_image(value)
    return [part for part in value if not is_data(part)]


def _no_image(value: Any) -> UncoveredError:
    return UncoveredError(
        f"the pipeline returns {_told(value)}, which cannot be judged as an image: use output_type 'pil', 'np' or 'pt'"
    )


def replace_frames(value: Any, news: Iterator[Any]) -> Any:
    """Return an output with frames replaced: one new frame each, in reading order, or None to keep it.

    An object without a replaced frame is returned itself; nothing is changed in place.
    """
    if is_data(value):
        return value
    if isinstance(value, (list, tuple, Mapping)):
        olds = list(value.values()) if isinstance(value, Mapping) else value
        parts = [replace_frames(part, news) for part in olds]
        same = all(new is old for new, old in zip(parts, olds, strict=True))
        return value if same else rebuilt(value, parts)
    if _single(value):
        new = next(news)
        return value if new is None else new
    safe = [next(news) for _ in frames(value)]
    if all(new is None for new in safe):
        return value
    out = value.clone(memory_format=torch.contiguous_format) if isinstance(value, Tensor) else np.array(value)
    turned = _clips_of(out)
    for place, new in zip(np.ndindex(*turned.shape[:-3]), safe, strict=True):
        if new is not None:
            turned[place] = new
    return out


def rebuilt(value: Any, parts: Sequence[Any]) -> Any:
    """Return a list, tuple, named tuple or mapping of the same type with other parts."""
    if isinstance(value, Mapping):
        twin = copy.copy(value)
        for key, part in zip(value, parts, strict=True):
            twin[key] = part  # type: ignore[index]
        return twin
    return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)


def is_data(value: Any) -> bool:
    """Return whether it cannot contain an image: None, a flag, a few numbers, a text, or a list of these."""
    if value is None or isinstance(value, (bool, int, float, complex, str, Enum, np.generic, Verdict)):
        return True
    if isinstance(value, Mapping):
        return is_data(list(value.values()))
    if isinstance(value, (list, tuple, set, frozenset)):
        return all(map(is_data, value)) and _numbers(value) <= MAX_PLAIN_NUMBERS
    return (
        _axes(value) < 2 and _numbers(value) <= MAX_PLAIN_NUMBERS if isinstance(value, (np.ndarray, Tensor)) else False
    )


def _numbers(value: Any) -> int:
    """The count of numbers in a value, at any depth."""
    if isinstance(value, Mapping):
        return _numbers(list(value.values()))
    if isinstance(value, (list, tuple, set, frozenset)):
        return sum(map(_numbers, value))
    if isinstance(value, (np.ndarray, Tensor)):
        return int(np.prod(value.shape))
    return int(isinstance(value, (int, float, complex, np.generic)))


def looks_like_images(value: Any) -> bool:
    """Return whether a value named as sound, text or poses may nevertheless contain images."""
    if isinstance(value, (list, tuple)):
        return any(looks_like_images(part) for part in value)
    if isinstance(value, Mapping):
        return looks_like_images(list(value.values()))
    if isinstance(value, Image.Image):
        return True
    if _axes(value) < 3:
        return False
    turned = channels_for_guard(value)
    channels, *sides = turned.shape[-3:] if isinstance(value, Tensor) else np.moveaxis(turned, -1, -3).shape[-3:]
    return channels in CHANNELS and min(sides) >= MIN_IMAGE_SIDE


def channels_for_guard(frame: Any) -> Any:
    """Return a frame with its channels first in a tensor and last in an array, as a guard expects them."""
    if _axes(frame) < 3:
        return frame
    first, last = frame.shape[-3] in CHANNELS, frame.shape[-1] in CHANNELS
    if isinstance(frame, Tensor):
        return frame.movedim(-1, -3) if last and not first else frame
    return np.moveaxis(frame, -3, -1) if first and not last else frame


def restore_layout(new: Any, like: Any) -> Any:
    """`planes` undone: a frame in the layout of another."""
    if channels_for_guard(like) is like:
        return new
    return new.movedim(-3, -1) if isinstance(new, Tensor) else np.moveaxis(new, -1, -3)


def stack(images: Sequence[Any], device: torch.device | None) -> Any:
    """Return frames of one kind and size as one tensor, those of the host on a device; else the list itself.

    Shape: (N, C, H, W).
    """
    first = images[0]
    if len({_kind(f) for f in images}) > 1 or _kind(first) is None:
        return list(images)
    if isinstance(first, Tensor):
        return torch.stack([channels_for_guard(f) for f in images])
    stacked = torch.from_numpy(np.stack([channels_for_guard(np.asarray(f)) for f in images])).permute(0, 3, 1, 2)
    return stacked if device is None else stacked.to(device)


def _kind(frame: Any) -> tuple[Any, ...] | None:
    """The properties that frames of one stack share; None for frames that only a decoder can read."""
    if isinstance(frame, Image.Image):
        return ("pil", frame.size) if frame.mode == "RGB" and not frame.info else None
    whole = frame.ndim == 3 and (isinstance(frame, Tensor) or frame.dtype.kind == "f" or frame.dtype == np.uint8)
    return (type(frame).__name__, tuple(frame.shape), str(frame.dtype)) if whole else None


def _single(value: Any) -> bool:
    return isinstance(value, Image.Image) or _axes(value) in {2, 3}


def _clips_of(value: Any) -> Any:
    """An array or tensor with the channels next to the rows: some clips have them before the frames."""
    if _axes(value) != 5 or not isinstance(value, Tensor):
        return value
    usual = {value.shape[-3], value.shape[-1]} & CHANNELS
    return value if usual or value.shape[1] not in CHANNELS else value.transpose(1, 2)


def _axes(value: Any) -> int:
    return value.ndim if isinstance(value, (np.ndarray, Tensor)) else 0


def _told(value: Any) -> str:
    shape = f" of shape {tuple(value.shape)}" if hasattr(value, "shape") else ""
    return f"a {type(value).__name__}{shape}"
