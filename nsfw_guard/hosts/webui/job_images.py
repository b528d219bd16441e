"""What a hook of a web UI found, whatever holds it: judged as the bytes that will be saved, painted where it stands."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from PIL import Image
from torch import Tensor

from nsfw_guard.hosts import host_images
from nsfw_guard.hosts.host_images import Layout
from nsfw_guard.hosts.session import GuardedImages, HostGuard
from nsfw_guard.verdict import Outcome, Verdict

Hook = TypeVar("Hook", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is said of one job; it can only tighten.

    Args:
        solid: what is blocked is covered by one colour, whatever the action.
        review: what is under review is covered too.
        refused: why its prompt was refused; then every image of it is covered.
    """

    solid: bool = False
    review: bool = False
    refused: Verdict | None = None


def guard_job_images(guard: HostGuard, images: Sequence[Any], job: Job, where: str) -> GuardedImages[Verdict | None]:
    """Return the images as they may leave, in place where that can be. None stays None. Never raises an Exception.

    There is one verdict for each image: None where nothing was checked.
    """
    safe: list[Any] = list(images)
    judged: list[Verdict | None] = [None] * len(safe)
    covered = [False] * len(safe)
    groups: dict[Layout | None, list[int]] = {}
    for index, image in enumerate(safe):
        if image is not None:
            groups.setdefault(layout_of(image), []).append(index)
    for layout, places in groups.items():
        group = _guard_group(guard, [safe[i] for i in places], layout, job, where)
        for n, i in enumerate(places):
            safe[i] = group.images[n]
            judged[i] = group.verdicts[n] if group.verdicts else None
            covered[i] = group.covered[n]
    return GuardedImages(safe, judged, covered)


def layout_of(image: Any) -> Layout | None:
    """Return where the channels of an array or a tensor are."""
    if not isinstance(image, (np.ndarray, Tensor)) or image.ndim != 3:
        return None
    first, last = image.shape[0] in {1, 3, 4}, image.shape[-1] in {1, 3, 4}
    if first and last:
        return "chw" if isinstance(image, Tensor) else "hwc"
    return "chw" if first else "hwc"


def as_image_list(images: Any) -> list[Any]:
    """Return the images of a list, or of a batch: views of it, so that what is painted there is painted in the
    batch.
    """
    if isinstance(images, (np.ndarray, Tensor)):
        return [images] if images.ndim < 4 else [one for part in images for one in as_image_list(part)]
    if isinstance(images, (list, tuple)):
        return list(images)
    return [images]


def levels(image: Any, layout: Layout | None) -> Image.Image | None:
    """Return an image of floats as the bytes that hosts will make of it (cut off, not rounded), or None.

    So an image is checked once, though one hook sees floats and the next bytes. What is not finite or out of range is
    left to the guard, which refuses it.
    """
    if not isinstance(image, (np.ndarray, Tensor)) or image.ndim != 3:
        return None
    array = image.detach().float().cpu().numpy() if isinstance(image, Tensor) else image
    if array.dtype.kind != "f" or not np.isfinite(array).all() or array.min() < 0.0 or array.max() > 1.0:
        return None
    array = np.moveaxis(array, 0, -1) if layout == "chw" else array
    if array.shape[-1] != 3:
        return None
    return Image.fromarray(np.ascontiguousarray((255.0 * array).astype(np.uint8)))


def _guard_group(
    guard: HostGuard, images: list[Any], layout: Layout | None, job: Job, where: str
) -> GuardedImages[Verdict]:
    if job.refused is not None:
        return guard.cover(images, job.refused, layout=layout)
    shown = [_levels(guard, image, layout) for image in images]
    before = [None if one is None else one.tobytes() for one in shown]
    kept = [image if one is None else one for image, one in zip(images, shown, strict=True)]
    guarded = guard.guard_images(kept, layout=layout, where=where)
    out, covered = [], list(guarded.covered)
    for image, seen, old, new in zip(images, shown, before, guarded.images, strict=True):
        if seen is None:
            out.append(new)
        else:
            same = new is seen and new.tobytes() == old
            out.append(image if same else _paint(guard, image, new, layout))
    for i, verdict in enumerate(guarded.verdicts):
        if (job.solid and verdict.flagged) or (job.review and verdict.outcome is not Outcome.ALLOW):
            (out[i],) = guard.cover([out[i]], verdict, layout=layout).images
            covered[i] = True
    return GuardedImages(out, guarded.verdicts, covered)


def _levels(guard: HostGuard, image: Any, layout: Layout | None) -> Image.Image | None:
    try:
        return levels(image, layout)
    except Exception as error:  # noqa: BLE001
        guard.faults.say("an image could not be read as bytes: the guard is handed it as it is", error)
        return None


def _paint(guard: HostGuard, image: Any, cover: Image.Image, layout: Layout | None) -> Any:
    try:
        return host_images.paint(image, cover, layout)
    except Exception as error:  # noqa: BLE001
        guard.faults.say("an image could not be painted: a solid one stands in", error)
        return host_images.solid(64, 64)


def paint_all(*values: Any) -> None:
    """Paint everything that holds pixels in these objects solid: the last resort of a hook that failed."""
    for one in values:
        for name in ("image", "images", "imgs", "extra_images"):
            held = getattr(one, name, None)
            if held is not None and not host_images.is_image(one):
                solids = [_solid(image) for image in as_image_list(held)]
                value = solids if isinstance(held, (list, tuple)) else (held if len(solids) != 1 else solids[0])
                if isinstance(held, list):
                    held[:] = solids
                else:
                    setattr(one, name, value)
        if getattr(one, "bytes", None) is not None and not callable(one.bytes):
            one.bytes = None
        if isinstance(one, list):
            one[:] = [_solid(image) for image in one]
        elif host_images.is_image(one):
            for image in as_image_list(one):
                _solid(image)


def _solid(image: Any) -> Any:
    if image is None:
        return None
    try:
        return host_images.paint(image, None, layout_of(image))
    except Exception:  # noqa: BLE001  (what cannot be painted is not handed on)
        return host_images.solid(64, 64)


def covers_on_failure(hook: Hook) -> Hook:
    """Return a hook that paints everything it was handed when it fails."""

    @functools.wraps(hook)
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return hook(self, *args, **kwargs)
        except BaseException as error:
            self.guard.faults.say(f"{hook.__name__} failed: every image of it is covered", error)
            paint_all(*args, *kwargs.values(), self.processed())
            if not isinstance(error, Exception):
                raise
            return None

    return run  # type: ignore[return-value]
