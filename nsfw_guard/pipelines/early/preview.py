"""Clean latents as pixels: by the pipe's own decoder, by a small decoder of the user, or by a linear map."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, pad, pixel_shuffle, pixel_unshuffle, unfold

from nsfw_guard.errors import ConfigError, UncoveredError

PATCH_LATENTS = 3  # latent pixels along the side of the area that a patch of colour is computed from
MAX_PATCH_PIXELS = 4  # pixels along the side of that patch: a model needs no more
Preview = Callable[[Any, Tensor, Mapping[str, Any]], Tensor]


@dataclass(frozen=True)
class LinearPreview:
    """A map from a latent pixel and its neighbours to a few pixels of colour, fitted by least squares, nearly free.

    It is linear in them and in `relu_features`, the positive parts of a few fixed random projections of them, since the
    decoders of small models are far from linear; without these it is a plain linear map.

    Args:
        weights: colours of a patch from the inputs, (3 * grow * grow, channels * PATCH_LATENTS**2 + 1 + relu_features).
        relu_features: per feature its projection, (channels * PATCH_LATENTS**2 + 1).
        grow: pixels along the side of the patch for one latent pixel.
    """

    weights: tuple[tuple[float, ...], ...]
    relu_features: tuple[tuple[float, ...], ...]
    grow: int

    def __call__(self, pipe: Any, x0: Tensor, arguments: Mapping[str, Any]) -> Tensor:
        """Return pixels, `grow` times as large as the latents. Shape: (N, 3, h * grow, w * grow) in [0, 1]."""
        latents = to_spatial(pipe, x0, arguments).float()
        weights, relu_features = (torch.tensor(v, device=latents.device) for v in (self.weights, self.relu_features))
        around = _neighbours(latents)
        if weights.shape[1] != around.shape[-1] + 1 + len(relu_features):
            raise ConfigError(
                f"this LinearPreview does not fit latents of {latents.shape[1]} channels: fit one for this pipeline"
            )
        patches = (_with_features(around, relu_features) @ weights.t()).transpose(1, 2)
        return pixel_shuffle(patches.reshape(*patches.shape[:2], *latents.shape[-2:]), self.grow).clamp(0, 1)

    @classmethod
    def fit(cls, latents: Tensor, images: Tensor, *, relu_features: int = 128) -> LinearPreview:
        """Fit a map from latents to images.

        Shape: latents (N, C, h, w); images (N, 3, H, W) in [0, 1].
        """
        grow = max(1, min(MAX_PATCH_PIXELS, images.shape[-1] // latents.shape[-1]))
        small = adaptive_avg_pool2d(images.float().cpu(), (latents.shape[-2] * grow, latents.shape[-1] * grow))
        colours = pixel_unshuffle(small, grow).flatten(2).transpose(1, 2).flatten(0, 1)
        around = _neighbours(latents.float().cpu()).flatten(0, 1)
        if len(around) < 2 * (around.shape[1] + relu_features):
            raise ConfigError(f"{len(around)} latent pixels are too few to fit a LinearPreview: pass more prompts")
        planes = _half_planes(around, relu_features)
        rows = _with_features(around, planes)
        # A little ridge, so that nearly equal inputs do not get large opposite weights.
        square = rows.t() @ rows + 0.1 * torch.eye(rows.shape[1])
        solution = torch.linalg.solve(square, rows.t() @ colours).t()
        return cls(_rows(solution), _rows(planes), grow)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {name: [list(r) for r in getattr(self, name)] for name in ("weights", "relu_features")} | {
            "grow": self.grow
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> LinearPreview:
        """Return the map from the values of `to_dict`."""
        weights, relu_features = (tuple(tuple(row) for row in content[name]) for name in ("weights", "relu_features"))
        return cls(weights, relu_features, int(content["grow"]))


def _with_features(around: Tensor, relu_features: Tensor) -> Tensor:
    """The inputs of the map: neighbours, a one, and the positive parts of the half-planes."""
    inputs = torch.cat([around, torch.ones_like(around[..., :1])], -1)
    return torch.cat([inputs, torch.relu(inputs @ relu_features.t())], -1) if relu_features.numel() else inputs


def _half_planes(around: Tensor, count: int) -> Tensor:
    """Fixed random half-planes through the range of the inputs. Shape: (count, inputs + 1)."""
    generator = torch.Generator().manual_seed(0)
    tilt = (
        torch.randn(count, around.shape[1], generator=generator)
        / around.shape[1] ** 0.5
        / around.std(0).clamp(min=1e-6)
    )
    shift = torch.randn(count, 1, generator=generator) - (tilt @ around.mean(0))[:, None]
    return torch.cat([tilt, shift], 1)


def _rows(values: Tensor) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in values.tolist())


def _neighbours(latents: Tensor) -> Tensor:
    """Each latent pixel with its neighbours, the border repeated. Shape: (N, C, h, w) to (N, h * w, C * REACH**2)."""
    edge = PATCH_LATENTS // 2
    padded = pad(latents, (edge,) * 4, mode="replicate")
    return unfold(padded, PATCH_LATENTS).transpose(1, 2)


def preview_of(decoder: Literal["vae"] | Any) -> Preview:
    """Return a function from latents to pixels for "vae", an AutoencoderTiny, or a callable (pipe, x0, arguments)."""
    if decoder == "vae":
        return by_vae
    if hasattr(decoder, "decode") and hasattr(decoder, "config"):
        return lambda pipe, x0, arguments: _unit(_decoded(decoder, to_spatial(pipe, x0, arguments)))
    if callable(decoder):
        preview: Preview = decoder
        return preview
    raise ConfigError(f"decoder must be 'vae', an AutoencoderTiny, a LinearPreview or a callable, got {decoder!r}")


def by_vae(pipe: Any, x0: Tensor, arguments: Mapping[str, Any]) -> Tensor:
    """Return pixels from the pipe's own decoder; for a clip, its first latent frame. Shape: (N, 3, H, W) in [0, 1]."""
    vae = next((getattr(pipe, name) for name in ("vae", "movq") if getattr(pipe, name, None) is not None), None)
    if vae is None:
        # Only without a decoder: three channels of latents are not colours.
        if x0.ndim == 4 and x0.shape[1] in {3, 6} and not hasattr(pipe, "vqvae"):
            return _unit(x0[:, :3])
        raise UncoveredError(f"{type(pipe).__name__} has no vae to decode previews: pass a decoder to EarlyStop")
    latents = to_spatial(pipe, x0, arguments)
    if _clips(vae) and not _framewise(vae):
        latents = latents[:, :, None]
    pixels = _decoded(vae, _denormalised(pipe, vae, latents))
    return _unit(pixels[:, :, 0] if pixels.ndim == 5 else pixels)


def to_spatial(pipe: Any, x0: Tensor, arguments: Mapping[str, Any]) -> Tensor:
    """Return latents in spatial layout; for a clip, the first frame. Shape: (N, C, h, w)."""
    if x0.ndim == 5:
        # Most have frames after channels, some before them, some have channels last: the decoder gives their number.
        wanted = _channels(pipe)
        if x0.shape[1] == wanted or wanted not in {x0.shape[2], x0.shape[4]}:
            return x0[:, :, 0]
        return x0[:, 0] if x0.shape[2] == wanted else x0[:, 0].permute(0, 3, 1, 2)
    if x0.ndim == 4:
        return x0
    if x0.ndim == 3:
        return _unpacked(pipe, x0, arguments)
    raise UncoveredError(
        f"latents of shape {tuple(x0.shape)} cannot be decoded for a preview: pass a decoder to EarlyStop"
    )


def _unpacked(pipe: Any, x0: Tensor, arguments: Mapping[str, Any]) -> Tensor:
    """Rows of tokens in spatial layout, as the pipe itself unpacks them."""
    try:
        if hasattr(pipe, "transformer_spatial_patch_size"):
            return _unpacked_clip(pipe, x0, arguments)
        factor = int(pipe.vae_scale_factor)
        height, width = _asked(pipe, arguments, factor)
        if hasattr(pipe, "_unpack_latents_with_ids"):  # FLUX.2: rows of the image, each token a patch of two by two
            return x0.reshape(len(x0), height // factor // 2, width // factor // 2, -1).permute(0, 3, 1, 2)
        unpacked: Tensor = pipe._unpack_latents(x0, height, width, factor)
    except (AttributeError, TypeError, RuntimeError) as error:
        raise UncoveredError(
            f"the latents of {type(pipe).__name__} cannot be unpacked ({error}): pass a decoder to EarlyStop"
        ) from error
    return unpacked[:, :, 0] if unpacked.ndim == 5 else unpacked


def _unpacked_clip(pipe: Any, x0: Tensor, arguments: Mapping[str, Any]) -> Tensor:
    """The first frame of a clip in rows of tokens (LTX). Shape: (N, C, h, w)."""
    height, width = (side // int(pipe.vae_spatial_compression_ratio) for side in _asked(pipe, arguments, 1))
    frames = (int(arguments.get("num_frames") or 1) - 1) // int(pipe.vae_temporal_compression_ratio) + 1
    patches = pipe.transformer_spatial_patch_size, pipe.transformer_temporal_patch_size
    unpacked: Tensor = pipe._unpack_latents(x0, frames, height, width, *patches)
    return unpacked[:, :, 0]


def _asked(pipe: Any, arguments: Mapping[str, Any], factor: int) -> tuple[int, int]:
    """Height and width of the image: as requested, else the pipe's default."""
    usual = int(getattr(pipe, "default_sample_size", 0)) * factor
    height, width = (int(arguments.get(name) or usual) for name in ("height", "width"))
    if not (height and width):
        raise UncoveredError("the image size is unknown for packed latents: call the pipeline with height and width")
    return height, width


def _denormalised(pipe: Any, vae: Any, latents: Tensor) -> Tensor:
    """Latents in the scale of the decoder, by its own configuration."""
    config, kept = vae.config, dict(vae.named_buffers())
    if vae is getattr(pipe, "movq", None):  # Kandinsky's latents are already in this scale
        return latents
    if "bn.running_mean" in kept:  # FLUX.2
        mean, spread = kept["bn.running_mean"], (kept["bn.running_var"] + config["batch_norm_eps"]).sqrt()
        scaled = latents * spread.to(latents).view(1, -1, 1, 1) + mean.to(latents).view(1, -1, 1, 1)
        unpatched: Tensor = pipe._unpatchify_latents(scaled)
        return unpatched
    data = getattr(pipe.scheduler, "config", {}).get("sigma_data") if hasattr(pipe, "scheduler") else None
    latents = latents / (data or 1.0)  # Cosmos
    mean, std = (config.get(name, kept.get(name)) for name in ("latents_mean", "latents_std"))
    scale = config.get("scaling_factor") or 1.0
    if mean is not None and std is not None:
        shape = (1, -1, *[1] * (latents.ndim - 2))
        centre, spread = (torch.as_tensor(v).to(latents).view(shape) for v in (mean, std))
        return latents * spread / scale + centre
    return latents / scale + (config.get("shift_factor") or 0.0)


@torch.no_grad()
def _decoded(vae: Any, latents: Tensor) -> Tensor:
    """The decoded latents, with the extra arguments that some decoders need."""
    weights, wants = next(vae.parameters()), _arguments_of(vae.decode)
    options: dict[str, Any] = {"num_frames": 1} if "num_frames" in wants else {}
    if "force_not_quantize" in wants:
        options["force_not_quantize"] = True
    if vae.config.get("timestep_conditioning"):
        options["temb"] = torch.zeros(len(latents), device=weights.device, dtype=weights.dtype)
    decoded: Tensor = vae.decode(latents.to(weights.device, weights.dtype), return_dict=False, **options)[0]
    return decoded


def _framewise(vae: Any) -> bool:
    """Whether a decoder of clips takes single frames, and the number of frames in a clip."""
    return "num_frames" in _arguments_of(vae.decode)


def _clips(vae: Any) -> bool:
    """Whether a decoder returns clips, also of one frame. Some have a convolution over time."""
    return any(isinstance(m, torch.nn.Conv3d) or "Conv3d" in type(m).__name__ for m in vae.modules())


def _channels(pipe: Any) -> int:
    config = getattr(getattr(pipe, "vae", None), "config", {})
    return int(config.get("z_dim") or config.get("latent_channels") or 0)


def _unit(pixels: Tensor) -> Tensor:
    return pixels[:, :3].float().mul(0.5).add(0.5).clamp(0, 1)


def _arguments_of(method: Any) -> Collection[str]:
    """The names of a decoder's arguments. Before diffusers 0.42 its offload hook hides them."""
    parameters = inspect.signature(method).parameters
    if all(one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD) for one in parameters.values()):
        hidden = [cell.cell_contents for cell in getattr(method, "__closure__", None) or ()]
        return inspect.signature(next(filter(inspect.isfunction, hidden), method)).parameters
    return parameters
