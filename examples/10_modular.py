"""Modular Diffusers: the guard as the last block, or attached to the pipeline that the blocks make."""

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from diffusers.modular_pipelines import FluxAutoBlocks

from nsfw_guard import Guard, GuardStep, attach
from nsfw_guard.testing import FakeBackend

guard = Guard(FakeBackend(lambda frame: 1.0), action="pixelate")  # Guard.from_pretrained("marqo"); this one flags all


def pipeline(*, step: bool):
    """FLUX's own blocks with tiny random weights, and the guard as the last of them."""
    blocks = FluxAutoBlocks()
    blocks.sub_blocks.pop("text_encoder")  # prompts come as embeddings here
    if step:
        blocks.sub_blocks.insert("guard", GuardStep(guard), len(blocks.sub_blocks))
    pipe = blocks.init_pipeline()
    body = FluxTransformer2DModel(
        patch_size=1, in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16, pooled_projection_dim=16, axes_dims_rope=[4, 4, 8],
    )  # fmt: skip
    vae = AutoencoderKL(latent_channels=1, block_out_channels=(8,), norm_num_groups=2, shift_factor=0.1)
    pipe.update_components(transformer=body, vae=vae, scheduler=FlowMatchEulerDiscreteScheduler())
    return pipe


call = {"prompt_embeds": torch.randn(2, 5, 16), "pooled_prompt_embeds": torch.randn(2, 16)}
call |= {"height": 64, "width": 64, "num_inference_steps": 2}
state = pipeline(step=True)(**call)
print("as a block:", state.values["nsfw_content_detected"], state.values["verdicts"][0].reason)

pipe = pipeline(step=False)
with attach(pipe, guard) as attachment:
    images = pipe(**call, output="images")
    print("attached:", [v.outcome.name for v in attachment.verdicts], len(images), "images")
