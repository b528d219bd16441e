"""Plans which parts of an image a model is shown. Geometry only: no pixels, no torch.

The first look of every plan is the model authors' own; the others make sure that every part is seen.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

from nsfw_guard.errors import ConfigError, ImageError, UnknownNameError
from nsfw_guard.scores import View

MAX_ASPECT = 100.0
VIEWS = ("center", "cover", "squash", "content", "tiles(n)")
PLAIN = VIEWS[:-1]  # without a number
MAX_TILES = 8
# Looks at one image: cover needs 101 at 100:1, tiles(4) 397 at 20:1; tiles(8) at 100:1 would be 6,825, 80 s of work.
MAX_LOOKS = 400
MAX_CELL_LOOKS = 64  # at the cells of one image, beside those of cover

Filter = Literal["bicubic", "bilinear"]  # Pillow's
Interpolation = Literal["bicubic", "bilinear", "bilinear-aligned"]  # the last is TensorFlow's: see aligned.py

MAX_SIDE, MIN_CROP = 2048, 0.1
# For values in [0, 1]. Beyond these bounds every image gives the model nearly the same input.
MEANS, DEVIATIONS = (-1.0, 2.0), (1e-3, 10.0)


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """A model's input as its authors prepare it: a square of `size` pixels, resized, cropped and normalised.

    `crop_mode` is timm's: "center" cuts the middle of the image resized by its shorter side, "squash" resizes it
    without keeping its shape, "border" fits it in and fills up with `mean`. `odd` says where a centre crop begins when
    one pixel more lies on one side: timm rounds to the even number, transformers cuts it off. `interpolation` is a
    filter of Pillow, or "bilinear-aligned": TensorFlow's resize with aligned corners, which does not round to 8 bits.

    Example:
        ```python
        spec = InputSpec(size=384, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), interpolation="bicubic")
        ```
    """

    size: int
    interpolation: Interpolation = "bicubic"
    crop_pct: float = 1.0
    crop_mode: Literal["center", "squash", "border"] = "center"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    crop_rounding: Literal["half_even", "floor"] = "half_even"

    def __post_init__(self) -> None:
        if self.interpolation not in get_args(Interpolation):
            raise UnknownNameError("interpolation", self.interpolation, get_args(Interpolation))
        if self.crop_mode not in {"center", "squash", "border"}:
            raise UnknownNameError("crop mode", self.crop_mode, ("center", "squash", "border"))
        if self.crop_rounding not in {"half_even", "floor"}:
            raise UnknownNameError("crop_rounding", self.crop_rounding, ("floor", "half_even"))
        if type(self.size) is not int or not 1 <= self.size <= MAX_SIDE:
            raise ConfigError(f"size must be a whole number from 1 to {MAX_SIDE}, got {str(self.size)[:40]}")
        if not (_is_number(self.crop_pct) and MIN_CROP <= self.crop_pct <= 1.0):
            raise ConfigError(f"crop_pct must be a number from {MIN_CROP} to 1, got {str(self.crop_pct)[:40]}")
        object.__setattr__(self, "mean", _three("mean", self.mean, *MEANS))
        object.__setattr__(self, "std", _three("std", self.std, *DEVIATIONS))

    @property
    def scale_size(self) -> int:
        """The side that an image is resized to before it is cropped."""
        return math.floor(self.size / self.crop_pct)


@dataclass(frozen=True)
class Look:
    """One way to make the model's input: cut `region` (pixels), resize it to `size`, cut `size` window at `at`.

    `at` is negative where the resized image is smaller than the window and is filled up.
    """

    view: View
    region: tuple[int, int, int, int]
    size: tuple[int, int]
    at: tuple[int, int]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _three(name: str, values: object, low: float, high: float) -> tuple[float, float, float]:
    """Three numbers, one per channel, checked against the bounds."""
    if isinstance(values, (tuple, list)) and len(values) == 3 and all(map(_is_number, values)):
        red, green, blue = values
        if all(low <= value <= high for value in values):
            return red, green, blue
    raise ConfigError(f"{name} must be three numbers from {low:g} to {high:g}, one per channel, got {str(values)[:80]}")


def check_views(views: str) -> str:
    """Return `views` if it is a known plan, else raise an error that lists them."""
    if views in PLAIN or 1 < _tiles(views) <= MAX_TILES:
        return views
    raise UnknownNameError("views", views, (*PLAIN, f"tiles(2) to tiles({MAX_TILES})"))


@lru_cache(maxsize=256)
def plan(height: int, width: int, spec: InputSpec, views: str = "cover") -> tuple[Look, ...]:
    """Return the looks at an image of this size, the authors' own first.

    "content" begins as "cover" does; `cell_looks` adds those that depend on what is in the image.

    Raises:
        ImageError: there would be more than `MAX_LOOKS`.
    """
    if views == "squash":
        return (_look("squash", (0, 0, height, width), (spec.size, spec.size), (0, 0), spec.size),)
    covers = views in {"cover", "content"}
    main = _main(height, width, spec, whole=covers)
    if covers and spec.crop_mode == "center":
        return (main, *_sides(height, width, spec))
    return (main, *_grid(height, width, spec.size, _tiles(views))) if _tiles(views) else (main,)


@lru_cache(maxsize=256)
def cell_looks(
    cells: tuple[tuple[int, int, int, int], ...], height: int, width: int, spec: InputSpec
) -> tuple[Look, ...]:
    """Return looks of the kind "content" that cover each cell of an image of this size, at most `MAX_CELL_LOOKS`."""
    looks: list[Look] = []
    for top, left, bottom, right in cells:
        high, wide = bottom - top, right - left
        if max(high, wide) > MAX_ASPECT * min(high, wide):
            continue
        for look in plan(high, wide, spec):
            x0, y0, x1, y1 = look.view.box
            start = (left + x0 * wide) / width, (top + y0 * high) / height
            end = (left + x1 * wide) / width, (top + y1 * high) / height
            looks.append(Look(View("content", (*start, *end)), (top, left, bottom, right), look.size, look.at))
        if len(looks) >= MAX_CELL_LOOKS:
            break
    return tuple(looks[:MAX_CELL_LOOKS])


def _tiles(views: str) -> int:
    match = re.fullmatch(r"tiles\((\d+)\)", str(views))
    return int(match[1]) if match else 0


def _main(height: int, width: int, spec: InputSpec, *, whole: bool) -> Look:
    """The authors' own look; with `whole` nothing is cut off the shorter side, so that a square is seen entirely."""
    window, region = spec.size, (0, 0, height, width)
    side = window if whole else spec.scale_size
    if spec.crop_mode == "squash":
        return _look("full", region, (side, side), (_middle(side, window),) * 2, window)
    if spec.crop_mode == "border":
        ratio = max(height, width) / side
        size = round(height / ratio) or 1, round(width / ratio) or 1
        return _look("full", region, size, (_middle(size[0], window), _middle(size[1], window)), window)
    size = shorter_side_to(side, height, width)
    at = _middle(size[0], window, spec.crop_rounding), _middle(size[1], window, spec.crop_rounding)
    return _look("center", region, size, at, window)


def _sides(height: int, width: int, spec: InputSpec) -> Iterator[Look]:
    """Looks at the parts of the longer side outside the centre view, in as few windows as possible."""
    window = spec.size
    size = shorter_side_to(window, height, width)
    length = max(size)
    first = _middle(length, window, spec.crop_rounding)
    last = length - first - window
    starts = [round(i * first / n) for n in [math.ceil(first / window)] for i in range(n)]
    starts += [length - window - round(i * last / n) for n in [math.ceil(last / window)] for i in range(n)]
    for start in starts:
        at = (start, 0) if height > width else (0, start)
        yield _look("side", (0, 0, height, width), size, at, window)


def _grid(height: int, width: int, window: int, count: int) -> Iterator[Look]:
    """Square tiles, `count` along the shorter side, overlapping by about half."""
    side = max(1, math.ceil(2 * min(height, width) / (count + 1)))
    tops, lefts = _starts(height, side, count), _starts(width, side, count)
    if 1 + len(tops) * len(lefts) > MAX_LOOKS:
        raise ImageError(
            f"tiles({count}) needs {1 + len(tops) * len(lefts)} looks at {width}x{height}, more than the limit of "
            f"{MAX_LOOKS}: crop the image, use fewer tiles, or views='cover', which also sees every pixel"
        )
    for top in tops:
        for left in lefts:
            yield _look(
                "tile", (top, left, top + side, left + side), (window, window), (0, 0), window, of=(height, width)
            )


def _starts(length: int, side: int, at_least: int) -> list[int]:
    gaps = max(at_least - 1, math.ceil(2 * (length - side) / side))
    return sorted({round(i * (length - side) / gaps) for i in range(gaps + 1)})


def _look(
    kind: str,
    region: tuple[int, int, int, int],
    size: tuple[int, int],
    at: tuple[int, int],
    window: int,
    *,
    of: tuple[int, int] | None = None,
) -> Look:
    """A look with its box in fractions of the whole image."""
    top, left, bottom, right = region
    height, width = of or (bottom - top, right - left)
    edges = []
    for low, high, whole, target, start in (
        (left, right, width, size[1], at[1]),
        (top, bottom, height, size[0], at[0]),
    ):
        scale = (high - low) / target
        seen = max(start, 0), min(start + window, target)
        edges.append(((low + seen[0] * scale) / whole, (low + seen[1] * scale) / whole))
    (x0, x1), (y0, y1) = edges
    return Look(View(kind, (x0, y0, x1, y1)), region, size, at)


def shorter_side_to(side: int, height: int, width: int) -> tuple[int, int]:
    """Return (height, width) when the shorter side becomes `side`, cut as torchvision and timm cut it."""
    if height <= width:
        return side, int(side * width / height)
    return int(side * height / width), side


def _middle(length: int, window: int, rounding: str = "half_even") -> int:
    """Where a centre crop begins, rounded as its authors round it; negative where there is too little to crop."""
    if length < window:
        return -((window - length) // 2)
    return round((length - window) / 2.0) if rounding == "half_even" else (length - window) // 2
