"""Images as hosts hold them: PIL, arrays and tensors, told apart by kind, painted where they stand.

Hosts share one object between disk, gallery, grid and API, so a covered image must be the same object as before. This
is the one place of the package that edits what it was given.
"""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nsfw_guard.actions import Pixelate
from nsfw_guard.imaging.appearances import appearances
from nsfw_guard.verdict import Outcome, Verdict

Layout = Literal["chw", "hwc"]
GROUND = (32, 35, 42)  # of a solid cover
OPAQUE_ALPHA = 254  # an alpha from here on
PREVIEW_SIDE = 96  # pixels from which a preview's blocks are made


def is_image(value: object) -> bool:
    """Return whether this is something that holds pixels."""
    return isinstance(value, (Image.Image, np.ndarray, Tensor))


def fingerprint(image: Any) -> str:
    """Return the hash of what is in an image, whatever object holds it."""
    if isinstance(image, Image.Image):
        head = f"{image.mode} {image.size} {image.getpalette() if image.mode == 'P' else ''}"
        return hashlib.sha256(head.encode() + image.tobytes()).hexdigest()
    shape = tuple(image.shape)
    if isinstance(image, Tensor):
        # A copy in plain order: torch calls some tensors contiguous whose last stride is not 1.
        plain = image.detach().cpu().clone(memory_format=torch.contiguous_format).reshape(-1)
        data = plain.view(torch.uint8).numpy().tobytes()
    else:
        data = np.ascontiguousarray(image).tobytes()
    return hashlib.sha256(f"{image.dtype} {shape}".encode() + data).hexdigest()


def judged_as(image: Any) -> str:
    """Return the hash of what the guard is shown of an image, so that a verdict is never taken for that of another.

    Profile, transparency, palette and orientation count as far as they are seen. An alpha that nobody can see does not:
    Forge writes the prompt into its lowest bit. What moves has no hash twice: it is judged each time.
    """
    if not isinstance(image, Image.Image):
        return fingerprint(image)
    if moves(image):
        return f"moves {uuid.uuid4().hex}"
    if image.mode == "RGBA" and not any(image.getchannel("A").histogram()[:OPAQUE_ALPHA]):
        image = image.convert("RGB")
    try:
        frames = list(appearances(image))
    except Exception:  # noqa: BLE001  (the guard will say what is wrong with it)
        return f"unreadable {fingerprint(image)}"
    # What only a file says is judged too: declared colours, and thumbnails in metadata.
    beside = [image.info.get(name) for name in ("exif", "gamma", "chromaticity", "xmp", "photoshop")]
    digest = hashlib.sha256(repr(beside).encode())
    for frame in frames:
        digest.update(repr(frame.shape).encode() + frame.tobytes())
    return f"seen {digest.hexdigest()}"


def moves(image: Image.Image) -> bool:
    """Return whether an image of a file may hold more frames. Nobody counts them: that would drop what was drawn on
    it.
    """
    return hasattr(type(image), "n_frames") or vars(image).get("n_frames", 1) > 1


def readable(image: Any, layout: Layout | None = None) -> Any:
    """Return an image as the guard takes it: PIL as it is, floats and bytes as (3, H, W) tensors or (H, W, 3) arrays.

    `layout` says where the channels of arrays and tensors are; without it arrays have them last, tensors first.
    """
    if isinstance(image, Tensor):
        channels_last = layout == "hwc"
        return image.permute(2, 0, 1) if channels_last and image.ndim == 3 else image
    if isinstance(image, np.ndarray):
        return np.moveaxis(image, 0, -1) if layout == "chw" and image.ndim == 3 else image
    return image


def paint(image: Any, cover: Image.Image | None, layout: Layout | None = None) -> Any:
    """Return the image with the cover painted over all of it, in place where its kind allows it; a new one where not.

    `cover` is RGB of the same size; None paints a solid ground. What was in metadata or alpha is gone.
    """
    if isinstance(image, Image.Image):
        return _paint_pil(image, cover)
    if not is_image(image) or image.ndim not in {2, 3}:
        return solid(64, 64)
    height, width = _sides(image, layout)
    flat = np.asarray(solid(width, height) if cover is None else cover.convert("RGB").resize((width, height)))
    return _paint_values(image, flat, layout)


def solid(width: int, height: int) -> Image.Image:
    """Return an image of one colour."""
    return Image.new("RGB", (max(1, width), max(1, height)), GROUND)


def _paint_pil(image: Image.Image, cover: Image.Image | None) -> Image.Image:
    painted = solid(*image.size) if cover is None else cover.convert("RGB").resize(image.size)
    try:
        image.load()
        image.info.clear()
        if image.mode in {"P", "PA"}:
            image.putpalette([value for index in range(256) for value in GROUND])
            image.paste(0, (0, 0, *image.size))
        elif image.mode in {"RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB", "L", "LA", "RGBa", "La", "1"}:
            image.paste(painted.convert(image.mode, dither=Image.Dither.NONE), (0, 0))
        else:  # I;16, I, F and whatever comes: a value that is in range everywhere
            image.paste(0, (0, 0, *image.size))
    except Exception:  # noqa: BLE001  (a closed file, a mode that cannot be painted: the caller gets another object)
        return painted
    return painted if moves(image) else image  # its other frames are still behind it


def size_of(image: Any, layout: Layout | None) -> tuple[int, int]:
    """Return width and height of an image of any kind."""
    return image.size if isinstance(image, Image.Image) else _sides(image, layout)[::-1]


def _sides(image: Any, layout: Layout | None) -> tuple[int, int]:
    shape = tuple(image.shape)
    first = layout == "chw" or (layout is None and isinstance(image, Tensor))
    return (int(shape[-2]), int(shape[-1])) if first or len(shape) == 2 else (int(shape[0]), int(shape[1]))


def _paint_values(image: Any, flat: np.ndarray[Any, np.dtype[np.uint8]], layout: Layout | None) -> Any:
    """Writes RGB bytes into an array or a tensor, in its own range and channels."""
    first = layout == "chw" or (layout is None and isinstance(image, Tensor))
    floats = image.is_floating_point() if isinstance(image, Tensor) else image.dtype.kind == "f"
    values = flat.astype(np.float32) / 255 if floats else flat.astype(np.int64)
    if image.ndim == 2:
        channels = values.mean(-1)
    else:
        count = int(image.shape[0] if first else image.shape[-1])
        rows = [
            values[..., i % 3] if i < 3 else np.full(values.shape[:2], 1.0 if floats else 255) for i in range(count)
        ]
        channels = np.stack(rows, 0 if first else -1)
    if isinstance(image, Tensor):
        tensor = torch.from_numpy(np.ascontiguousarray(channels)).to(image.device, image.dtype)
        with torch.no_grad():
            if image.is_inference() and not torch.is_inference_mode_enabled():
                return tensor.reshape(image.shape)
            image.copy_(tensor.reshape(image.shape))
        return image
    told_array = channels.astype(image.dtype).reshape(image.shape)
    if not image.flags.writeable:
        return told_array
    image[...] = told_array
    return image


def as_pil(image: Any, layout: Layout | None) -> Image.Image:
    """Return an image of any kind as a PIL one, of the same pixels."""
    if isinstance(image, Image.Image):
        return image
    source = readable(image, layout)
    if isinstance(source, Tensor):
        values = source.detach().float().cpu()
        source = (values if values.ndim == 2 else values.permute(1, 2, 0)).numpy()
    array = np.asarray(source)
    levels = array if array.dtype == np.uint8 else (np.nan_to_num(array.astype(np.float32)).clip(0, 1) * 255).round()
    levels = levels.astype(np.uint8)
    if levels.ndim == 2:
        levels = levels[..., None]
    return Image.fromarray(np.ascontiguousarray(np.repeat(levels, 3, -1) if levels.shape[-1] == 1 else levels[..., :3]))


def pixelated(image: Image.Image) -> Image.Image:
    """Return an image of which only blocks are left: drawn small, since a step of a job must not wait for it."""
    small = image.convert("RGB").resize(_at_most(image.size, PREVIEW_SIDE), Image.Resampling.BOX)
    values = torch.from_numpy(np.array(small)).permute(2, 0, 1).float() / 255
    covered = Pixelate(strength=0.25).cover(values, Verdict(Outcome.REVIEW, "preview"))
    blocks = Image.fromarray((covered * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())
    return blocks.resize(image.size, Image.Resampling.NEAREST)


def _at_most(size: tuple[int, int], side: int) -> tuple[int, int]:
    """A size of the same shape whose shorter side is no longer than that."""
    share = min(1.0, side / min(size))
    return max(1, round(size[0] * share)), max(1, round(size[1] * share))


def keep(image: Any, layout: Layout | None, folder: Path) -> None:
    """Writes an image into a folder, under the hash of what is in it."""
    folder.mkdir(parents=True, exist_ok=True)
    as_pil(image, layout).convert("RGB").save(folder / f"{fingerprint(image)[:24]}.png")
