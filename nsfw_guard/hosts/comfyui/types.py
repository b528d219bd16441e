"""What the inputs of a node of ComfyUI are declared to hold: images, no images, or nobody knows what."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

IMAGES = frozenset({"IMAGE", "MASK", "VIDEO", "LATENT"})  # a latent is refused, or let through, as its owner said
# Weights, what steers a drawing, sound, shapes, numbers, texts: what they hold is written as it is.
NO_IMAGES = frozenset({
    "AUDIO", "AUDIO_ENCODER", "AUDIO_ENCODER_OUTPUT", "BBOX", "BOOLEAN", "BOUNDING_BOX", "CLIP", "CLIP_VISION",
    "CLIP_VISION_OUTPUT", "COLOR", "COMBO", "CONDITIONING", "CONTROL_NET", "CURVE", "FILE_3D", "FLOAT", "FLOATS",
    "GEOMETRY_INPUTS", "GLIGEN", "GUIDER", "HOOKS", "HOOK_KEYFRAMES", "INT", "LATENT_OPERATION", "LATENT_UPSCALE_MODEL",
    "LOAD3D_CAMERA", "LOAD_3D", "LOAD_3D_ANIMATION", "LORA_MODEL", "LOSS_MAP", "MESH", "MODEL", "MODEL_PATCH", "NOISE",
    "PHOTOMAKER", "POINT", "SAMPLER", "SIGMAS", "STRING", "STYLE_MODEL", "SVG", "TIMESTEPS_RANGE", "TRACKS",
    "UPSCALE_MODEL", "VAE", "VOXEL", "WAN_CAMERA_EMBEDDING",
})  # fmt: skip


class Holds(enum.Enum):
    """What an input may hold."""

    IMAGES = enum.auto()
    NO_IMAGES = enum.auto()
    ANYTHING = enum.auto()


def declared(node: Any) -> Mapping[str, Holds]:
    """Return what each input of a node is declared to hold, by its name. One that is not declared is not among
    them.
    """
    try:
        inputs = node.INPUT_TYPES()
    except Exception:  # noqa: BLE001  (other people's code: what it does not declare may be anything)
        return {}
    if not isinstance(inputs, Mapping):
        return {}
    groups = [
        group for name, group in inputs.items() if name in {"required", "optional"} and isinstance(group, Mapping)
    ]
    return {name: _holds(kind) for group in groups for name, kind in group.items()}


def _holds(kind: Any) -> Holds:
    """What stands first is the type, several of them with commas between, or the list that is chosen from."""
    first = kind[0] if isinstance(kind, (list, tuple)) and kind else kind
    if isinstance(first, (list, tuple)):
        return Holds.NO_IMAGES
    kinds = {one.strip() for one in str(first).split(",")}
    if kinds <= IMAGES:
        return Holds.IMAGES
    return Holds.NO_IMAGES if kinds <= NO_IMAGES else Holds.ANYTHING
