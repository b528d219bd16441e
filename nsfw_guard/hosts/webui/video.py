"""The frames of a video, in the forms in which web UIs hand them to their writers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nsfw_guard.errors import ImageError
from nsfw_guard.hosts.webui.job_images import guard_job_images

if TYPE_CHECKING:
    from nsfw_guard.hosts.webui.adapter import Adapter

AT_ONCE = 16  # frames that are checked together


def clean_frames(adapter: Adapter, frames: Any, *, signed: bool, where: str) -> Any:
    """Return the frames as they may be written; the same object where none of them had to be covered.

    Args:
        frames: a list of images, an array (T, H, W, C), or a tensor: floats (N, C, T, H, W) or (C, T, H, W), bytes
            (T, H, W, C).
        signed: floats of tensors are in [-1, 1], else in [0, 1].
        where: the writer, for the counters.

    Raises:
        ImageError: the frames come in another form. Then nothing may be written.
    """
    if isinstance(frames, (list, tuple)):
        return _of_list(adapter, list(frames), where)
    if isinstance(frames, Tensor) and frames.is_floating_point() and frames.ndim in {4, 5}:
        return _of_floats(adapter, frames, signed, where)
    if isinstance(frames, (np.ndarray, Tensor)) and frames.ndim == 4 and frames.shape[-1] in {1, 3, 4}:
        return _of_array(adapter, frames, where)
    raise ImageError(f"unsupported type of frames ({type(frames).__name__}): nothing is written; report this")


def _of_list(adapter: Adapter, frames: list[Any], where: str) -> list[Any]:
    safe: list[Any] = []
    for start in range(0, len(frames), AT_ONCE):
        safe += guard_job_images(adapter.guard, frames[start : start + AT_ONCE], adapter.jobs.current, where).images
    return safe


def _of_array(adapter: Adapter, frames: Any, where: str) -> Any:
    """(T, H, W, C): what is painted is painted in a copy, since an array may be shared or read-only."""
    out = frames
    for start in range(0, len(frames), AT_ONCE):
        part = [_copy(frames[i]) for i in range(start, min(start + AT_ONCE, len(frames)))]
        guarded = guard_job_images(adapter.guard, [_image(one) for one in part], adapter.jobs.current, where)
        for i, one in enumerate(guarded.images):
            if _differs(one, frames[start + i]):
                out = _copy(frames) if out is frames else out
                out[start + i] = _like(one, frames[start + i])
    return out


def _of_floats(adapter: Adapter, frames: Tensor, signed: bool, where: str) -> Tensor:
    out = frames
    five = frames if frames.ndim == 5 else frames[None]
    places = list(_places(five))
    for start in range(0, len(places), AT_ONCE):
        part = places[start : start + AT_ONCE]
        seen = [_bytes(five[n, :, t], signed) for n, t in part]
        guarded = guard_job_images(adapter.guard, seen, adapter.jobs.current, where)
        for (n, t), old, new in zip(part, seen, guarded.images, strict=True):
            if isinstance(old, Image.Image) and not _differs(new, np.asarray(_bytes(five[n, :, t], signed))):
                continue
            if out is frames:
                out = frames.clone()
            view = out if out.ndim == 5 else out[None]
            flat = torch.from_numpy(np.array(_rgb(new, five.shape[-2:]))).permute(2, 0, 1).to(out.device, out.dtype)
            scaled = flat / 127.5 - 1.0 if signed else flat / 255.0
            view[n, :, t] = scaled[: view.shape[1]] if view.shape[1] <= 3 else scaled[:1].expand(view.shape[1], -1, -1)
    return out


def _places(five: Tensor) -> Iterator[tuple[int, int]]:
    for n in range(five.shape[0]):
        for t in range(five.shape[2]):
            yield n, t


def _bytes(frame: Tensor, signed: bool) -> Any:
    """A frame (C, H, W) as the bytes that the writer makes of it; as it is where it is not finite, which is refused."""
    values = frame.detach().float().cpu()
    if not torch.isfinite(values).all() or values.shape[0] != 3:
        return values.clone()
    levels = values.clamp(-1, 1) * 127.5 + 127.5 if signed else values.clamp(0, 1) * 255.0
    return Image.fromarray(np.ascontiguousarray(levels.to(torch.uint8).permute(1, 2, 0).numpy()))


def _image(frame: Any) -> Any:
    """A frame (H, W, C) of bytes as PIL, of floats as it is."""
    array = frame.cpu().numpy() if isinstance(frame, Tensor) else frame
    return Image.fromarray(array) if array.dtype == np.uint8 and array.shape[-1] == 3 else array


def _copy(one: Any) -> Any:
    return one.clone() if isinstance(one, Tensor) else one.copy()


def _differs(safe: Any, frame: Any) -> bool:
    old = frame.cpu().numpy() if isinstance(frame, Tensor) else np.asarray(frame)
    new = safe.cpu().numpy() if isinstance(safe, Tensor) else np.asarray(safe)
    return new.shape != old.shape or not np.array_equal(new, old)


def _rgb(safe: Any, size: Any) -> Image.Image:
    """What stands in for a frame, as RGB of its size."""
    height, width = int(size[0]), int(size[1])
    if isinstance(safe, Image.Image):
        return safe.convert("RGB").resize((width, height))
    from nsfw_guard.hosts.host_images import solid

    return solid(width, height)


def _like(safe: Any, frame: Any) -> Any:
    """What stands in for a frame (H, W, C), in its own kind."""
    new = np.asarray(safe)
    if new.shape != tuple(frame.shape):
        new = np.asarray(_rgb(safe, frame.shape[:2]))[..., : frame.shape[-1]]
    return torch.from_numpy(np.array(new)).to(frame.device, frame.dtype) if isinstance(frame, Tensor) else new
