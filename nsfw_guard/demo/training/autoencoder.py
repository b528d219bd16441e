"""The pipeline's first half: a small AutoencoderKL that turns 64x64 images into 16x16x4 latents and back."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nsfw_guard.demo import shapes
from nsfw_guard.demo.training import tensors
from nsfw_guard.tools.finetuning.learning.average import Average, rate_at, set_rate


def build() -> Any:
    """Return an untrained autoencoder of the demo's size."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        block_out_channels=(16, 32, 48),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        norm_num_groups=8,
        sample_size=tensors.SIDE,
        mid_block_add_attention=False,
    )


def train(*, steps: int, seed: int, batch: int = 16, peak: float = 2e-3) -> Any:
    """Train first on crowded images, where every pixel teaches, then on scenes; scale the latents to unit spread."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    vae = build().to(memory_format=torch.channels_last)
    _start_sharp(vae)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=peak, betas=(0.9, 0.99), weight_decay=1e-4)
    print(f"autoencoder: {tensors.size([vae]) / 1e6:.2f} M parameters, {steps} steps", flush=True)
    start, recent = time.perf_counter(), []
    for step in range(steps):
        set_rate(optimizer, rate_at(step, steps, peak=peak))
        images = tensors.stack(_lesson(rng, batch, crowded=1.0 - step / (0.7 * steps)))
        loss, error = _loss(vae, images.contiguous(memory_format=torch.channels_last))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        recent.append(error)
        if step % 100 == 99 or step == steps - 1:
            spent = time.perf_counter() - start
            print(f"  step {step:5d}  l1 {np.mean(recent[-100:]):.4f}  {spent:.0f} s", flush=True)
    vae.eval()
    latents = encode(vae, _lesson(rng, 256, crowded=0.0), scaled=False)
    vae.register_to_config(scaling_factor=round(1.0 / float(latents.std()), 5))
    print(f"  latents: mean {float(latents.mean()):.3f}, scaling factor {vae.config.scaling_factor}", flush=True)
    return vae


def sharpen(vae: Any, *, steps: int, seed: int, batch: int = 16, peak: float = 1.5e-3) -> None:
    """Train the decoder further, alone, on latents as imprecise as a UNet's: crisper shapes from the same latents."""
    torch.manual_seed(seed + 3)
    rng = np.random.default_rng(seed + 3)
    learner = [vae.post_quant_conv, vae.decoder]
    weights = [weight for part in learner for weight in part.parameters()]
    average = Average(torch.nn.ModuleList(learner), decay=0.995)
    optimizer = torch.optim.AdamW(weights, lr=peak, betas=(0.9, 0.99), weight_decay=1e-4)
    print(f"decoder: {steps} steps", flush=True)
    start, recent = time.perf_counter(), []
    for step in range(steps):
        set_rate(optimizer, rate_at(step, steps, peak=peak))
        images = tensors.stack(_lesson(rng, batch, crowded=0.15)).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            latents = vae.encode(images).latent_dist.mode()
        spread = 0.15 / vae.config.scaling_factor * torch.rand(batch, 1, 1, 1)
        gap = vae.decode(latents + spread * torch.randn_like(latents)).sample - images
        loss = _by_shape(gap, images)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        average.update(torch.nn.ModuleList(learner))
        recent.append(gap.abs().mean().item())
        if step % 100 == 99 or step == steps - 1:
            print(f"  step {step:5d}  l1 {np.mean(recent[-100:]):.4f}  {time.perf_counter() - start:.0f} s", flush=True)
    torch.nn.ModuleList(learner).load_state_dict(average.module.state_dict())


@torch.no_grad()
def encode(vae: Any, images: list[Any], *, scaled: bool = True, batch: int = 128) -> Tensor:
    """Return the latents of images, without sampling noise. Shape: [n, 4, 16, 16]."""
    factor = vae.config.scaling_factor if scaled else 1.0
    parts = [images[start : start + batch] for start in range(0, len(images), batch)]
    return torch.cat([vae.encode(tensors.stack(part)).latent_dist.mode() for part in parts]) * factor


@torch.no_grad()
def roundtrip(vae: Any, images: list[Any], *, batch: int = 128) -> list[Any]:
    """Return images as they come back from the autoencoder."""
    parts = [images[start : start + batch] for start in range(0, len(images), batch)]
    return [back for part in parts for back in tensors.images(vae(tensors.stack(part)).sample)]


def _start_sharp(vae: Any) -> None:
    """Start with almost no sampling noise: at the usual start it drowns the colours for most of a short training."""
    with torch.no_grad():
        vae.quant_conv.bias[4:] = -6.0


def _lesson(rng: np.random.Generator, count: int, *, crowded: float) -> list[Any]:
    return [
        _crowd(rng) if rng.random() < crowded else shapes.draw(scene, rng=rng) for scene in tensors.scenes(rng, count)
    ]


def _crowd(rng: np.random.Generator) -> Any:
    """Three to eight shapes anywhere, over one another."""
    marks = []
    for _ in range(int(rng.integers(3, 9))):
        tint = shapes.shade(shapes.COLOURS[str(rng.choice(list(shapes.COLOURS)))], rng=rng, spread=12)
        x, y = rng.uniform(0.1, 0.9, 2)
        marks.append(
            shapes.Mark(str(rng.choice(shapes.KINDS)), tint, float(x), float(y), float(rng.uniform(0.11, 0.3)))
        )
    ground = shapes.BACKGROUNDS[str(rng.choice(list(shapes.BACKGROUNDS)))]
    return shapes.paint(marks, background=shapes.shade(ground, rng=rng, spread=6))


def _loss(vae: Any, images: Tensor) -> tuple[Tensor, float]:
    """L1 that counts shapes five times as much as plain background, squares against bold errors, and a light KL."""
    posterior = vae.encode(images).latent_dist
    gap = vae.decode(posterior.sample()).sample - images
    weight = 1 + 4 * ((images - images[:, :, :1, :1]).abs().amax(dim=1, keepdim=True) > 0.2)
    weight = weight / weight.mean(dtype=torch.float32)
    error = (weight * gap.abs()).mean() + (weight * gap.square()).mean()
    return error + 1e-5 * posterior.kl().mean() / posterior.mean[0].numel(), gap.abs().mean().item()


def _by_shape(gap: Tensor, images: Tensor) -> Tensor:
    """The error on the shapes of each image, however small they are, and a lesser part for the rest."""
    shape = ((images - images[:, :, :1, :1]).abs().amax(dim=1, keepdim=True) > 0.2).float()
    near = F.max_pool2d(shape, 5, stride=1, padding=2)
    error = gap.abs() + gap.square()
    inside = (near * error).sum(dim=(1, 2, 3)) / (3 * near.sum(dim=(1, 2, 3)) + 1)
    return 0.4 * error.mean() + 0.6 * inside.mean()
