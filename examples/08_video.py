"""A clip: one flagged frame covers the whole of it, or itself and its neighbours, as you choose."""

import numpy as np
import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel

from nsfw_guard import Guard, attach
from nsfw_guard.testing import FakeBackend

# A tiny Wan with random weights; yours is WanPipeline.from_pretrained("Wan-AI/...", torch_dtype=...).
body = WanTransformer3DModel(
    num_attention_heads=2, attention_head_dim=12, text_dim=16, freq_dim=32, ffn_dim=32, num_layers=1,
)  # fmt: skip
vae = AutoencoderKLWan(base_dim=3, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True])
pipe = WanPipeline(
    transformer=body, vae=vae, scheduler=FlowMatchEulerDiscreteScheduler(), text_encoder=None, tokenizer=None
)
call = {"prompt_embeds": torch.randn(1, 5, 16), "height": 32, "width": 32, "num_frames": 5, "guidance_scale": 1.0}

for clips in ("frames", "whole"):
    seen = iter(range(100))  # the first image is asked of the model when it is attached
    guard = Guard(FakeBackend(lambda frame, seen=seen: float(next(seen) == 3)))  # flags the third frame
    with attach(pipe, guard, clips=clips, margin=1):
        out = pipe(**call, num_inference_steps=2, output_type="np")
    print(clips, out.nsfw_content_detected, ["covered" if np.max(f) == 0 else "free" for f in out.frames[0]])
