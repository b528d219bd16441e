"""A pipeline that has no safety checker at all: one line guards it, on the device where it draws."""

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

from nsfw_guard import Guard, attach, doctor
from nsfw_guard.testing import FakeBackend

# A tiny FLUX with random weights; yours is FluxPipeline.from_pretrained("black-forest-labs/...", torch_dtype=...).
body = FluxTransformer2DModel(
    patch_size=1, in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
    joint_attention_dim=16, pooled_projection_dim=16, axes_dims_rope=[4, 4, 8],
)  # fmt: skip
vae = AutoencoderKL(latent_channels=1, block_out_channels=(8,), norm_num_groups=2, shift_factor=0.1)
texts = dict.fromkeys(("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
pipe = FluxPipeline(transformer=body, vae=vae, scheduler=FlowMatchEulerDiscreteScheduler(), **texts)
prompt = {"prompt_embeds": torch.randn(2, 5, 16), "pooled_prompt_embeds": torch.randn(2, 16)}

guard = Guard(FakeBackend(lambda frame: 1.0), action="blur")  # Guard.from_pretrained("marqo"); this one flags all
print(doctor(pipe))
with attach(pipe, guard) as attachment:
    out = pipe(**prompt, height=64, width=64, num_inference_steps=2)
    print("flagged:", out.nsfw_content_detected, "|", out.verdicts[0].reason)
    print("covered:", doctor(pipe).covered, "| seam:", attachment.state["seam"])
