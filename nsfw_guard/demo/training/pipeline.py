"""The pipeline's second half: UNet and text encoder trained together on captions, saved in the diffusers layout."""

from __future__ import annotations

import copy
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nsfw_guard.demo import pixels, shapes
from nsfw_guard.demo.training import autoencoder, tensors, words
from nsfw_guard.tools.finetuning.learning.average import Average, rate_at, set_rate

STEPS = 20
GUIDANCE = 3.0
BATCH = 32
PEAK = 1.5e-3


@dataclass(frozen=True)
class Lessons:
    """Training data of the UNet: latents of drawn scenes and the captions that go with them."""

    latents: Tensor
    ids: Tensor
    empty: Tensor

    @property
    def count(self) -> int:
        """Number of scenes."""
        return len(self.latents)


def build_unet() -> Any:
    """Return an untrained UNet: plain at 16x16, reading the caption at 8x8 and in the middle."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=tensors.SIDE // 4,
        in_channels=4,
        out_channels=4,
        block_out_channels=(32, 64, 96),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=64,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def build_scheduler() -> Any:
    """Return DDIM that starts from pure noise, so that a plain background can come out plain."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
    )


def assemble(vae: Any, encoder: Any, tokenizer: Any, unet: Any) -> Any:
    """Return the parts as a StableDiffusionPipeline, without a checker."""
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline(
        vae=vae,
        text_encoder=encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def load(folder: Path) -> Any:
    """Return the pipeline saved in a folder, in single precision."""
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def load_vae(folder: Path) -> Any:
    """Return only the autoencoder of a pipeline saved in a folder, in single precision."""
    from diffusers import AutoencoderKL

    return AutoencoderKL.from_pretrained(folder / "vae").eval()


def prepare(vae: Any, tokenizer: Any, *, count: int, rng: np.random.Generator) -> Lessons:
    """Draw scenes and encode them once: the UNet never has to touch the autoencoder."""
    scenes = tensors.scenes(rng, count)
    parts = []
    for start in range(0, count, 512):
        parts.append(autoencoder.encode(vae, [shapes.draw(scene, rng=rng) for scene in scenes[start : start + 512]]))
    ids = words.encode(tokenizer, [words.spoken(scene, rng) for scene in scenes])
    return Lessons(torch.cat(parts), ids, words.encode(tokenizer, [""])[0])


def train(vae: Any, *, folder: Path, steps: int, scenes: int, seed: int) -> Any:
    """Train UNet and text encoder on captioned latents, watching how often an image is what its caption asked."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed + 1)
    tokenizer = words.write_tokenizer(folder / "tokenizer")
    lessons = prepare(vae, tokenizer, count=scenes, rng=rng)
    learner = nn.ModuleDict({"unet": build_unet(), "text": words.build_encoder()})
    average = Average(learner)
    optimizer = torch.optim.AdamW(learner.parameters(), lr=PEAK, betas=(0.9, 0.99), weight_decay=1e-3)
    print(f"pipeline: {tensors.size([learner]) / 1e6:.2f} M parameters, {steps} steps, {scenes} scenes", flush=True)
    noise, start, recent = build_scheduler(), time.perf_counter(), []
    for step in range(steps):
        set_rate(optimizer, rate_at(step, steps, peak=PEAK))
        loss = _loss(learner, lessons, noise, rng)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        optimizer.step()
        average.update(learner)
        recent.append(loss.item())
        if step % 250 == 249 or step == steps - 1:
            print(
                f"  step {step:5d}  loss {np.mean(recent[-250:]):.4f}  {time.perf_counter() - start:.0f} s", flush=True
            )
        if step % 1500 == 1499 or step == steps - 1:
            pipe = finished(vae, average.module, tokenizer)
            print(f"  step {step:5d}  as asked: {agreement(pipe, count=min(64, steps), seed=7):.3f}", flush=True)
            save(pipe, folder)
    return finished(vae, average.module, tokenizer)


def finished(vae: Any, learner: Any, tokenizer: Any) -> Any:
    """Return the pipeline with the learner's weights as they are now."""
    words.silence_pieces(learner["text"])
    return assemble(vae, learner["text"], tokenizer, learner["unet"])


def generate(pipe: Any, captions: list[str], *, seed: int, batch: int = 32, steps: int = STEPS) -> list[Any]:
    """Return one image a caption."""
    generator = torch.Generator().manual_seed(seed)
    images: list[Any] = []
    for start in range(0, len(captions), batch):
        part = captions[start : start + batch]
        images += pipe(part, num_inference_steps=steps, guidance_scale=GUIDANCE, generator=generator).images
    return images


def agreement(pipe: Any, *, count: int, seed: int, number: int = 1) -> float:
    """Return the share of images that the pixel check finds to be what their caption asked."""
    rng = np.random.default_rng(seed)
    scenes = [shapes.random_scene(rng, shapes=number) for _ in range(count)]
    images = generate(pipe, [scene.caption for scene in scenes], seed=seed)
    return float(np.mean([pixels.matches(image, scene) for image, scene in zip(images, scenes, strict=True)]))


def save(pipe: Any, folder: Path) -> None:
    """Write the pipeline as half-precision safetensors; the tokenizer keeps its plain files."""
    half = {name: copy.deepcopy(part).half() for name, part in pipe.components.items() if isinstance(part, nn.Module)}
    whole = assemble(half["vae"], half["text_encoder"], pipe.tokenizer, half["unet"])
    whole.save_pretrained(folder, safe_serialization=True)
    (folder / "tokenizer" / "tokenizer.json").unlink(missing_ok=True)
    words.write_tokenizer(folder / "tokenizer")
    for path in folder.glob("*/config.json"):
        config = json.loads(path.read_text(encoding="utf-8"))
        config.pop("_name_or_path", None)  # where the weights once lay is nobody else's business
        if "dtype" in config:
            config["dtype"] = "float32"  # else transformers would load halves next to diffusers' singles
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _loss(learner: Any, lessons: Lessons, noise: Any, rng: np.random.Generator) -> Tensor:
    chosen = torch.from_numpy(rng.integers(0, lessons.count, BATCH))
    clean, ids = lessons.latents[chosen], words.babble(lessons.ids[chosen], rng, share=0.1)
    unsaid = torch.from_numpy(rng.random(BATCH) < 0.1)
    ids = torch.where(unsaid[:, None], lessons.empty[None], ids)
    added, times = torch.randn_like(clean), torch.randint(0, noise.config.num_train_timesteps, (BATCH,))
    noisy, target = noise.add_noise(clean, added, times), noise.get_velocity(clean, added, times)
    context = learner["text"](ids).last_hidden_state
    return F.mse_loss(learner["unet"](noisy, times, encoder_hidden_states=context).sample, target)
