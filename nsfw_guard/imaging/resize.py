"""Pillow's resize as two matrix products, so that an image is resized on the device where it is.

Pillow resizes 8-bit images in fixed point: weights rounded to 22 bits, one pass an axis, with rounding and
clipping to 8 bits after each. A sum of products of 8-bit pixels and 22-bit weights does not fit into one float32
product, but split into pieces of 11 (or 8) bits each partial sum stays below 2**24 and is exact, whatever order
the device adds in; an 11-bit piece also survives TF32 inputs. The sums meet again in int32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from PIL import __version__ as pillow_version
from torch import Tensor
from torch.nn import functional

from nsfw_guard.errors import ConfigError, ImageError
from nsfw_guard.imaging.views import Filter

Method = Literal["auto", "pillow", "matrix", "float64", "fast"]

BITS = 22
EXACT = 1 << 24  # float32 holds every integer up to here


def resize(
    pixels: Tensor, size: tuple[int, int], *, interpolation: Filter = "bicubic", method: Method = "auto"
) -> Tensor:
    """Resize 8-bit images to exactly the pixels that `PIL.Image.resize` gives.

    Args:
        pixels: uint8, Shape: (N, C, H, W), on any device.
        size: (height, width).
        interpolation: "bicubic" or "bilinear", both antialiased.
        method: "pillow" goes through the host; "matrix" sums float32 products of weight pieces; "float64" is the
            plain form. "auto" takes Pillow on the CPU and the matrix elsewhere, and Pillow where the matrix would
            leave its exact range. "fast" is near, not exact: torch's own resize on the CPU (at most 2 levels off),
            one float32 product an axis elsewhere (at most 1).

    Shape: (N, C, height, width), uint8, same device.
    """
    if pixels.dtype != torch.uint8 or pixels.ndim != 4:
        raise ImageError(f"resize expects uint8 images (N, C, H, W), got {pixels.dtype} {tuple(pixels.shape)}")
    if (pixels.shape[-2], pixels.shape[-1]) == size:
        return pixels
    if method == "auto":
        method = effective_method(pixels.device, tuple(pixels.shape[-2:]), size, interpolation=interpolation)
    if method == "pillow":
        return _pillow(pixels, size, interpolation)
    if method == "fast" and pixels.device.type == "cpu":
        return _torchs_own(pixels, size, interpolation)
    if height_first(tuple(pixels.shape[-2:]), size):
        tall = _apply(pixels.transpose(-1, -2), size[0], interpolation, method).transpose(-1, -2)
        return _apply(tall, size[1], interpolation, method)
    wide = _apply(pixels, size[1], interpolation, method)
    return _apply(wide.transpose(-1, -2), size[0], interpolation, method).transpose(-1, -2)


def effective_method(
    device: torch.device, source: tuple[int, ...], size: tuple[int, int], *, interpolation: Filter = "bicubic"
) -> Method:
    """Return what "auto" means for this device and these sizes."""
    if device.type == "cpu" or not matrix_is_pillow():
        return "pillow"
    fits = all(weights(a, b, interpolation).pieces for a, b in zip(source, size, strict=True))
    return "matrix" if fits else "pillow"


def height_first(source: tuple[int, ...], size: tuple[int, int]) -> bool:
    """Return whether the installed Pillow shrinks the height before the width.

    Up to 12 the width always came first; since 13.0 the height does where it loses more than twice as many pixels.
    """
    lost = source[0] - size[0], source[1] - size[1]
    return int(pillow_version.split(".")[0]) >= 13 and lost[0] > max(0, 2 * lost[1])


@lru_cache(maxsize=1)
def matrix_is_pillow() -> bool:
    """Return whether the matrix form gives what the installed Pillow gives, tried on small noise, once per process.

    Pillow changed the order of its passes once; if it changes again, images go through Pillow itself.
    """
    noise = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 3, 61, 53), dtype=np.uint8))
    bicubic, bilinear = ((24, 22), (12, 40), (30, 80)), ((40, 12), (90, 30))
    cases: list[tuple[tuple[int, int], Filter]] = [(size, "bicubic") for size in bicubic]
    cases += [(size, "bilinear") for size in bilinear]
    return all(
        torch.equal(_pillow(noise, size, kind), resize(noise, size, interpolation=kind, method="matrix"))
        for size, kind in cases
    )


@dataclass(frozen=True)
class Weights:
    """Pillow's weights for one axis, Shape: (out, in), and the exact pieces that they split into, coarse first."""

    whole: npt.NDArray[np.int32]
    pieces: tuple[npt.NDArray[np.float32], ...]
    bits: int


@lru_cache(maxsize=64)
def weights(source: int, target: int, interpolation: Filter) -> Weights:
    """Return the weights of one axis, made once per (in, out, filter)."""
    whole = fixed_point(source, target, interpolation)
    for bits, count in ((11, 2), (8, 3)):
        pieces = _split(whole, bits, count)
        if all(255 * np.abs(p).sum(axis=1).max() < EXACT for p in pieces):
            return Weights(whole, tuple(p.astype(np.float32) for p in pieces), bits)
    return Weights(whole, (), 0)


def fixed_point(source: int, target: int, interpolation: Filter) -> npt.NDArray[np.int32]:
    """Pillow's weights rounded to 22 bits, Shape: (target, source)."""
    kernel, reach = _KERNELS[interpolation]
    scale = source / target
    stretch = max(scale, 1.0)
    support = reach * stretch
    matrix = np.zeros((target, source), dtype=np.int32)
    for row in range(target):
        center = (row + 0.5) * scale
        first = max(int(center - support + 0.5), 0)
        last = min(int(center + support + 0.5), source)
        taps = [kernel((x + first - center + 0.5) * (1.0 / stretch)) for x in range(last - first)]
        total = sum(taps)
        scaled = np.array([t / total for t in taps]) * (1 << BITS)
        matrix[row, first:last] = np.trunc(scaled + np.where(scaled < 0, -0.5, 0.5)).astype(np.int32)
    return matrix


def _bicubic(x: float) -> float:
    a, x = -0.5, abs(x)
    if x < 1.0:
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    return (((x - 5) * x + 8) * x - 4) * a if x < 2.0 else 0.0


def _bilinear(x: float) -> float:
    return max(1.0 - abs(x), 0.0)


_KERNELS: dict[str, tuple[Callable[[float], float], float]] = {"bicubic": (_bicubic, 2.0), "bilinear": (_bilinear, 1.0)}


def _split(whole: npt.NDArray[np.int32], bits: int, count: int) -> list[npt.NDArray[np.int64]]:
    """Signed digits in base 2**bits, coarse first: the nearest digit is taken, so that pieces stay small."""
    rest, digits = whole.astype(np.int64), []
    for _ in range(count - 1):
        high = (rest + (1 << (bits - 1))) >> bits
        digits.append(rest - (high << bits))
        rest = high
    return [rest, *reversed(digits)]


@lru_cache(maxsize=64)
def _on_device(source: int, target: int, interpolation: Filter, device: torch.device) -> tuple[Tensor, ...]:
    pieces = weights(source, target, interpolation).pieces
    return tuple(torch.from_numpy(p).to(device).t().contiguous() for p in pieces)


@lru_cache(maxsize=64)
def _plain(source: int, target: int, interpolation: Filter, device: torch.device) -> Tensor:
    whole = weights(source, target, interpolation).whole
    return torch.from_numpy(whole.astype(np.float32) / np.float32(1 << BITS)).to(device).t().contiguous()


def _apply(pixels: Tensor, target: int, interpolation: Filter, method: Method) -> Tensor:
    """Resizes the last axis of uint8 images, with Pillow's rounding and clipping."""
    source = pixels.shape[-1]
    if source == target:
        return pixels
    if method == "fast":
        plain = (pixels.to(torch.float32) @ _plain(source, target, interpolation, pixels.device)).round_()
        return plain.clamp_(0, 255).to(torch.uint8)
    if method == "float64":
        whole = torch.from_numpy(weights(source, target, interpolation).whole).to(pixels.device, torch.float64)
        total = (pixels.to(torch.float64) @ whole.t()).to(torch.int32)
    else:
        total = _sum_of_pieces(pixels, target, interpolation)
    return ((total + (1 << (BITS - 1))) >> BITS).clamp_(0, 255).to(torch.uint8)


def _sum_of_pieces(pixels: Tensor, target: int, interpolation: Filter) -> Tensor:
    source = pixels.shape[-1]
    matrix = weights(source, target, interpolation)
    if not matrix.pieces:
        raise ConfigError(f"method='matrix' is not exact for {source} -> {target} pixels: use method='pillow'")
    values = pixels.to(torch.float32)
    first, *rest = _on_device(source, target, interpolation, pixels.device)
    total = (values @ first).to(torch.int32)
    for piece in rest:
        total = (total << matrix.bits) + (values @ piece).to(torch.int32)
    return total


def _pillow(pixels: Tensor, size: tuple[int, int], interpolation: Filter) -> Tensor:
    mode = Image.Resampling.BICUBIC if interpolation == "bicubic" else Image.Resampling.BILINEAR
    box = size[1], size[0]
    host = pixels.cpu()
    if pixels.shape[1] == 3:
        resized = [np.asarray(_rgb(frame).resize(box, mode)) for frame in host]
        return torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2).to(pixels.device)
    planes = [np.asarray(Image.fromarray(p.contiguous().numpy()).resize(box, mode)) for p in host.flatten(0, 1)]
    return torch.from_numpy(np.stack(planes)).reshape(*host.shape[:2], *size).to(pixels.device)


def _torchs_own(pixels: Tensor, size: tuple[int, int], interpolation: Filter) -> Tensor:
    """torch's resize of bytes, quickest on four-byte pixels. It does the width first unless told otherwise."""
    whole = _whole_pixels(pixels)
    if height_first(tuple(pixels.shape[-2:]), size):
        whole = functional.interpolate(whole, (size[0], pixels.shape[-1]), mode=interpolation, antialias=True)
    return functional.interpolate(whole, size, mode=interpolation, antialias=True)[:, : pixels.shape[1]]


def _rgb(frame: Tensor) -> Image.Image:
    """A Pillow image of one frame, Shape: (3, H, W), read from where it lies when it is packed as RGBX."""
    whole = _whole_pixels(frame[None])[0].permute(1, 2, 0)
    height, width, channels = whole.shape
    if channels == 4:
        return Image.frombytes("RGB", (width, height), whole.numpy().reshape(-1), "raw", "RGBX")
    return Image.fromarray(whole.contiguous().numpy())


def _whole_pixels(pixels: Tensor) -> Tensor:
    """The four-byte pixels of which `pixels` are the first three, where it is such a view; else `pixels`."""
    count, channels, height, width = pixels.shape
    strides = (4 * height * width, 1, 4 * width, 4)
    if channels != 3 or pixels.stride()[1:] != strides[1:] or (count > 1 and pixels.stride(0) != strides[0]):
        return pixels
    end = pixels.storage_offset() + 4 * count * height * width
    if end > pixels.untyped_storage().nbytes():
        return pixels
    return pixels.as_strided((count, 4, height, width), strides)
