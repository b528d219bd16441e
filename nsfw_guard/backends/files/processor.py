"""Reads an InputSpec from the values of transformers' preprocessor_config.json; no class is looked up by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from nsfw_guard.errors import ConfigError, WeightsMissingError, WeightsUnfitError
from nsfw_guard.imaging.views import Filter, InputSpec
from nsfw_guard.jsonfile import read_json

PROCESSOR = "preprocessor_config.json"
RESAMPLE: Mapping[int, Filter] = {2: "bilinear", 3: "bicubic"}
OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
CLIP = InputSpec(size=224, mean=OPENAI_MEAN, std=OPENAI_STD, crop_rounding="floor")
VIT = InputSpec(size=224, interpolation="bilinear", crop_mode="squash", crop_rounding="floor")
# The defaults of each processor.
DEFAULTS: Mapping[str, InputSpec] = {
    "vit": VIT,
    "deit": replace(VIT, interpolation="bicubic"),
    "siglip": replace(VIT, interpolation="bicubic"),
    "clip": CLIP,
}


def read_processor(folder: Path) -> InputSpec:
    """Read the input of the model in a folder."""
    path = folder / PROCESSOR
    if not path.is_file():
        raise WeightsMissingError(
            f"{folder.name!r} has no {PROCESSOR}, which describes the model's input: fetch it too"
        )
    try:
        return input_of_processor(read_json(path, error=WeightsUnfitError))
    except (TypeError, KeyError, AttributeError, ValueError, ArithmeticError) as error:
        if isinstance(error, ConfigError):
            raise
        raise WeightsUnfitError(f"{PROCESSOR} in {folder.name!r} is unreadable ({error}): fetch it again") from error


def input_of_processor(settings: Mapping[str, Any]) -> InputSpec:
    """Return the input that a processor of this configuration makes; others than these are refused."""
    kind = str(settings.get("image_processor_type") or settings.get("feature_extractor_type") or "")
    base = DEFAULTS.get(kind.lower().partition("imageprocessor")[0].partition("featureextractor")[0])
    if not settings.get("do_resize", True) or not settings.get("do_rescale", True):
        raise ConfigError("the processor must resize and rescale: export the model with such a processor")
    if not math.isclose(settings.get("rescale_factor", 1 / 255), 1 / 255, rel_tol=1e-6):
        raise ConfigError(f"rescale_factor must be 1/255, got {settings['rescale_factor']}: export the model with it")
    size, crop_pct, crop_mode = _geometry(settings, base)
    plain = not settings.get("do_normalize", True)
    return InputSpec(
        size=size,
        interpolation=_filter(settings.get("resample", _number_of(base))),
        crop_pct=crop_pct,
        crop_mode=crop_mode,
        mean=(0.0,) * 3 if plain else _three(settings, "image_mean", base.mean if base else None),
        std=(1.0,) * 3 if plain else _three(settings, "image_std", base.std if base else None),
        crop_rounding="floor",
    )


def _geometry(settings: Mapping[str, Any], base: InputSpec | None) -> tuple[int, float, Literal["center", "squash"]]:
    """Side, crop_pct and crop mode."""
    size = settings.get("size", base.size if base else None)
    crops = settings.get("do_center_crop", bool(base) and base is CLIP)
    if isinstance(size, int):
        size = {"shortest_edge": size} if crops else {"height": size, "width": size}
    crop = settings.get("crop_size", size)
    crop = crop if isinstance(crop, int) or crop is None else crop.get("height", crop.get("shortest_edge"))
    if not isinstance(size, Mapping) or not ({"shortest_edge"} <= set(size) or {"height", "width"} <= set(size)):
        raise ConfigError(f"size must be a number, a height and width, or a shortest_edge, got {size!r}: correct it")
    if "shortest_edge" in size:
        if not crops:
            raise ConfigError("a shortest_edge needs a centre crop, else images are not square: set do_center_crop")
        return int(crop or 0), _share(int(crop or 0), int(size["shortest_edge"])), "center"
    if size["height"] != size["width"] or (crops and crop != size["height"]):
        raise ConfigError(f"size {dict(size)} with crop {crop} does not give one square: correct size or crop_size")
    return int(size["height"]), 1.0, "squash"


def _share(crop: int, edge: int) -> float:
    """The crop_pct for which floor(crop / crop_pct) is the edge."""
    share = crop / edge
    return share if math.floor(crop / share) == edge else math.nextafter(share, 0.0)


def _number_of(base: InputSpec | None) -> int | None:
    return next((n for n, name in RESAMPLE.items() if base and name == base.interpolation), None)


def _filter(resample: object) -> Filter:
    if not isinstance(resample, int) or resample not in RESAMPLE:
        raise ConfigError(f"resample must be 2 (bilinear) or 3 (bicubic), got {resample!r}")
    return RESAMPLE[resample]


def _three(
    settings: Mapping[str, Any], key: str, default: tuple[float, float, float] | None
) -> tuple[float, float, float]:
    values = settings.get(key, default)
    if values is None or len(values) != 3:
        raise ConfigError(f"{PROCESSOR} has no {key}, and its type has no known default: add the three numbers")
    red, green, blue = (float(value) for value in values)
    return red, green, blue
