"""What comes to a node of ComfyUI, as it may leave. Its tensors are shared and cached: they are never written to."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nsfw_guard.errors import ImageError, UncoveredError
from nsfw_guard.hosts import host_images
from nsfw_guard.hosts.comfyui.types import Holds, declared
from nsfw_guard.hosts.session import GuardedImages, HostGuard
from nsfw_guard.verdict import Verdict

MAX_IMAGES_A_CALL = 8  # a clip must not be copied as a whole, and the time limit is meant for a few
MAX_NESTING = 64
FRAME_MARGIN = 4  # frames on both sides of one that was covered
CHANNELS = {1, 3, 4}
DARKEST, CLIPPED, BRIGHTEST = 0.5, 1.5, 100.0  # below black; highlights that files clip; light of HDR images
VIDEOS = (
    "comfy_api.latest._input_impl.video_types",
    "comfy_api.input_impl.video_types",
    "comfy_api.input_impl",
)


class NodeGuard:
    """Guards whatever an output node is handed; what it cannot judge raises, and that stops the node.

    Args:
        guard: what judges and covers.
        latents: let latents through unjudged, because the owner said so.
        where: the name under which the guard counts.
    """

    def __init__(self, guard: HostGuard, *, latents: bool = False, where: str = "output node") -> None:
        self.guard, self.latents, self.where = guard, latents, where

    def inputs(self, node: Any, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a node is handed, by the name of each input: only what is declared as images is ever edited.

        Raises:
            UncoveredError: an input of another kind holds something that must not leave.
        """
        holds = declared(node)
        return {name: self._input(name, value, holds.get(name, Holds.ANYTHING)) for name, value in data.items()}

    def _input(self, name: str, value: Any, holds: Holds) -> Any:
        if holds is Holds.NO_IMAGES:
            return value
        guarded = self.value(value)
        if holds is Holds.ANYTHING and guarded is not value:
            raise UncoveredError(
                f"{name!r} holds images that must not leave, in an input of another type: "
                "connect an IMAGE, a MASK or a VIDEO"
            )
        return guarded

    def value(self, value: Any, above: tuple[int, ...] = ()) -> Any:
        """Return the value, the same object where nothing had to be covered."""
        if value is None or isinstance(value, (str, bytes, int, float)) or not self.guard.settings.enabled:
            return value
        if id(value) in above or len(above) > MAX_NESTING:
            raise ImageError(
                "inputs that contain themselves, or are nested too deeply, cannot be judged: pass a plain list"
            )
        if isinstance(value, (Tensor, np.ndarray, Image.Image)):
            return self._image(value)
        if callable(getattr(value, "get_components", None)):
            return self.video(value)[0]
        below = (*above, id(value))
        if isinstance(value, Mapping):
            return self._mapping(value, below)
        if isinstance(value, (list, tuple)):
            return self._items(value, below)
        return value

    def images(self, images: Tensor) -> GuardedImages[Verdict]:
        """Return a batch of images. Shape: (..., H, W, C) in [0, 1]; the result is the same tensor where all may
        leave.
        """
        frames = images.detach().reshape(-1, *images.shape[-3:])
        verdicts: list[Verdict] = []
        covered: list[bool] = []
        safe = frames
        for start in range(0, len(frames), MAX_IMAGES_A_CALL):
            judged, news = self._batch(frames[start : start + MAX_IMAGES_A_CALL])
            verdicts += judged
            covered += [new is not None for new in news]
            for index, new in enumerate(news, start):
                if new is not None:
                    safe = frames.clone() if safe is frames else safe
                    safe[index] = new
        return GuardedImages(images if safe is frames else safe.reshape(images.shape), verdicts, covered)

    def _batch(self, frames: Tensor) -> tuple[list[Verdict], list[Tensor | None]]:
        """The verdicts, and for each frame what stands in its place, or None where it may leave."""
        verdicts: list[Verdict] = []
        news: list[Tensor | None] = [None] * len(frames)
        for shown in _appearances(frames):
            # The guard paints in place: it gets copies.
            guarded = self.guard.guard_images([frame.clone() for frame in shown], layout="hwc", where=self.where)
            held = [new is None and not _same(a, b) for new, a, b in zip(news, shown, guarded.images, strict=True)]
            news = [
                _fitted(safe, old) if bad else new
                for new, bad, safe, old in zip(news, held, guarded.images, frames, strict=True)
            ]
            if len(verdicts) == len(guarded.verdicts):  # a second look decides where it is the one that holds
                verdicts = [b if bad else a for a, b, bad in zip(verdicts, guarded.verdicts, held, strict=False)]
            else:
                verdicts = list(guarded.verdicts)
        return verdicts, news

    def video(self, video: Any, *, whole: bool = False, margin: int = FRAME_MARGIN) -> tuple[Any, list[Verdict]]:
        """Return a VIDEO, the same object where every frame may leave.

        Args:
            video: has `get_components()`.
            whole: one bad frame covers the clip.
            margin: so many frames before and after a bad one are covered too.
        """
        parts = video.get_components()
        if not isinstance(parts.images, Tensor) or parts.images.ndim != 4:
            raise UncoveredError("the frames of a VIDEO are not a tensor (T, H, W, C): update nsfw-guard")
        done = self.images(parts.images)
        alpha = getattr(parts, "alpha", None)
        clear = alpha is None or self._image(alpha) is alpha
        if clear and not any(done.covered):
            return video, done.verdicts
        frames = done.images.clone()
        for index in _beside(done.covered, whole=whole or not clear, margin=margin):
            frames[index] = _fitted(host_images.paint(frames[index].clone(), None, "hwc"), frames[index])
        replaced = {"images": frames, **({} if alpha is None else {"alpha": None})}
        return _video_of(video, parts, replaced), done.verdicts

    def _image(self, value: Any) -> Any:
        if isinstance(value, Image.Image):
            (safe,) = self.guard.guard_images([value.copy()], where=self.where).images
            return value if _same(value, safe) else safe
        if isinstance(value, np.ndarray):
            tensor = torch.from_numpy(np.ascontiguousarray(value))
            safe = self._tensor(tensor)
            return value if safe is tensor else safe.numpy()
        return self._tensor(value)

    def _tensor(self, value: Tensor) -> Tensor:
        if value.numel() == 0 or value.ndim < 2:
            return value
        if not (value.is_floating_point() or value.dtype == torch.uint8):
            raise ImageError(f"a tensor of {value.dtype} cannot be judged: connect an IMAGE to the output node")
        current = value
        for channels in _readings(value):
            frames = current[..., None] if channels is None else current.movedim(channels, -1)
            safe = self.images(frames)
            if any(safe.covered):
                current = safe.images[..., 0] if channels is None else safe.images.movedim(-1, channels)
        return current

    def _mapping(self, value: Mapping[Any, Any], below: tuple[int, ...]) -> Any:
        samples = value.get("samples")
        if isinstance(samples, Tensor) or hasattr(samples, "is_nested"):
            if not self.latents:
                raise UncoveredError(
                    "a LATENT cannot be judged, so output nodes get none: decode it first (VAEDecode), or let the "
                    "owner of this host set NSFW_GUARD_ALLOW_LATENTS=1"
                )
            return value
        is_sound = "sample_rate" in value and getattr(value.get("waveform"), "ndim", 9) <= 3
        sound = {"waveform"} if is_sound else set()
        guarded = {key: one if key in sound else self.value(one, below) for key, one in value.items()}
        if all(guarded[key] is value[key] for key in guarded):
            return value
        out: Any = copy.copy(value)
        for key, one in guarded.items():
            out[key] = one
        return out

    def _items(self, value: Any, below: tuple[int, ...]) -> Any:
        guarded = [self.value(one, below) for one in value]
        if all(new is old for new, old in zip(guarded, value, strict=True)):
            return value
        return value._make(guarded) if hasattr(value, "_make") else type(value)(guarded)


def _appearances(frames: Tensor) -> list[Tensor]:
    """A batch as a file of 8 bits shows it, and where it is far brighter, dimmed too: some files keep all of it.

    What is further outside than any light is left as it is, and is a fault then.
    """
    if not frames.is_floating_point():
        return [frames]
    low, high = float(frames.min()), float(frames.max())
    if not (low >= -DARKEST and high <= BRIGHTEST):  # NaN among them
        return [frames]
    clipped = frames if low >= 0 and high <= 1 else frames.clamp(0, 1)
    if high <= CLIPPED:
        return [clipped]
    brightest = frames.amax((1, 2, 3), keepdim=True).clamp(min=1)
    return [clipped, (frames / brightest).clamp(0, 1)]


def _readings(value: Tensor) -> list[int | None]:
    """Where the channels of a tensor may stand; None for masks, which have none.

    Where a shape can be read in two ways it is judged in both: an image must not pass as something else.
    """
    axes: list[int | None] = [at for at in (-1, -3) if value.ndim >= 3 and value.shape[at] in CHANNELS]
    if value.ndim in {2, 3} and -1 not in axes:
        axes.append(None)
    if not axes:
        raise ImageError(f"a tensor of shape {tuple(value.shape)} is not an image: connect an IMAGE (B, H, W, C)")
    return axes


def _same(old: Any, new: Any) -> bool:
    """Whether the pixels are those that came. NaN is never the same, so that it is never let go by mistake."""
    if isinstance(old, Image.Image):
        return isinstance(new, Image.Image) and host_images.fingerprint(old) == host_images.fingerprint(new)
    return isinstance(new, Tensor) and new.shape == old.shape and torch.equal(new, old)


def _fitted(new: Any, old: Tensor) -> Tensor:
    """What the guard gave in place of a frame, as a frame; nothing but zeros where that is none."""
    fits = isinstance(new, Tensor) and new.shape == old.shape
    return new.to(old.device, old.dtype) if fits else torch.zeros_like(old)


def _beside(covered: list[bool], *, whole: bool, margin: int) -> list[int]:
    """The frames that are covered because of their neighbours."""
    bad = [index for index, one in enumerate(covered) if one]
    near = set(range(len(covered))) if whole else {i for b in bad for i in range(b - margin, b + margin + 1)}
    return sorted(index for index in near if 0 <= index < len(covered) and not covered[index])


def _video_of(video: Any, parts: Any, changes: dict[str, Any]) -> Any:
    """A VIDEO of these parts with other frames, by the host's own class."""
    if dataclasses.is_dataclass(parts) and not isinstance(parts, type):
        parts = dataclasses.replace(parts, **changes)
    else:
        parts = copy.copy(parts)
        for name, value in changes.items():
            setattr(parts, name, value)
    for name in (type(video).__module__, *VIDEOS):
        try:
            module = sys.modules.get(name) or importlib.import_module(name)
        except ImportError:
            continue
        kind = getattr(module, "VideoFromComponents", None)
        if kind is not None:
            return kind(parts)
    raise UncoveredError("this host has no VideoFromComponents: a VIDEO that must be covered is stopped; update it")
