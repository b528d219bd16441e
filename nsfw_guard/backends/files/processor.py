"""transformers' preprocessor_config.json as an InputSpec, from its values: no class is looked up by name."""

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
# What a processor does where its file is silent.
DEFAULTS: Mapping[str, InputSpec] = {
    "vit": VIT,
    "deit": replace(VIT, interpolation="bicubic"),
    "siglip": replace(VIT, interpolation="bicubic"),
    "clip": CLIP,
}


def read_processor(folder: Path) -> InputSpec:
    """Return the input of the model in a folder."""
    path = folder / PROCESSOR
    if not path.is_file():
        raise WeightsMissingError(f"{folder.name!r} has no {PROCESSOR}: fetch it too, it says what the model is shown")
    try:
        return input_of_processor(read_json(path, error=WeightsUnfitError))
    except (TypeError, KeyError, AttributeError, ValueError, ArithmeticError) as error:
        if isinstance(error, ConfigError):
            raise
        raise WeightsUnfitError(f"{PROCESSOR} in {folder.name!r} is unreadable: {error}") from error


def input_of_processor(settings: Mapping[str, Any]) -> InputSpec:
    """Return what a processor of this configuration does; what we cannot reproduce is refused."""
    kind = str(settings.get("image_processor_type") or settings.get("feature_extractor_type") or "")
    base = DEFAULTS.get(kind.lower().partition("imageprocessor")[0].partition("featureextractor")[0])
    if not settings.get("do_resize", True) or not settings.get("do_rescale", True):
        raise ConfigError("a processor that does not resize or rescale is not supported: export the model with one")
    if not math.isclose(settings.get("rescale_factor", 1 / 255), 1 / 255, rel_tol=1e-6):
        raise ConfigError(f"rescale_factor {settings['rescale_factor']} is not 1/255: export the model with it")
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
        raise ConfigError(f"size {size!r} is no square, and no shortest edge: say what the model is shown")
    if "shortest_edge" in size:
        if not crops:
            raise ConfigError("a shortest edge without a centre crop gives pictures that are not square: not supported")
        return int(crop or 0), _share(int(crop or 0), int(size["shortest_edge"])), "center"
    if size["height"] != size["width"] or (crops and crop != size["height"]):
        raise ConfigError(f"size {dict(size)} with crop {crop} is not one square: not supported")
    return int(size["height"]), 1.0, "squash"


def _share(crop: int, edge: int) -> float:
    """The crop_pct whose floor(crop / crop_pct) is the edge."""
    share = crop / edge
    return share if math.floor(crop / share) == edge else math.nextafter(share, 0.0)


def _number_of(base: InputSpec | None) -> int | None:
    return next((n for n, name in RESAMPLE.items() if base and name == base.interpolation), None)


def _filter(resample: object) -> Filter:
    if not isinstance(resample, int) or resample not in RESAMPLE:
        raise ConfigError(f"resample {resample!r} is neither 2 (bilinear) nor 3 (bicubic): not supported")
    return RESAMPLE[resample]


def _three(
    settings: Mapping[str, Any], key: str, default: tuple[float, float, float] | None
) -> tuple[float, float, float]:
    values = settings.get(key, default)
    if values is None or len(values) != 3:
        raise ConfigError(f"{PROCESSOR} says no {key} and its kind is unknown: add the three numbers")
    red, green, blue = (float(value) for value in values)
    return red, green, blue
