"""A node for a ComfyUI under test: the demonstration pipeline, with a preview at each step.

Link this folder into `custom_nodes` for `tests/hosts/test_comfy_live.py`; the host's environment needs diffusers.
"""

import hashlib
from functools import cache

import comfy.utils
import numpy as np
from PIL import Image

from nsfw_guard.demo import run
from nsfw_guard.demo.training.pipeline import GUIDANCE, STEPS


@cache
def _pipeline():
    return run.load_pipeline()


class ShapesImage:
    """Draws a prompt; says the hash of what it drew, in the 8 bits that the host writes."""

    CATEGORY, FUNCTION, RETURN_TYPES = "tests", "draw", ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802  (a name of the host)
        return {"required": {"prompt": ("STRING", {"default": ""}), "seed": ("INT", {"default": 0})}}

    def draw(self, prompt, seed):
        bar, pipe = comfy.utils.ProgressBar(STEPS), _pipeline()

        def payload(pipe, step, _time, kept):
            seen = pipe.image_processor.postprocess(pipe.vae.decode(kept["latents"]).sample.detach())[0]
            bar.update_absolute(step + 1, STEPS, ("PNG", seen, None))
            return kept

        import torch

        image = pipe(
            prompt, generator=torch.Generator().manual_seed(seed), guidance_scale=GUIDANCE, num_inference_steps=STEPS,
            output_type="pt", callback_on_step_end=payload,
        ).images.movedim(1, -1).float()  # fmt: skip
        levels = (image[0].numpy() * 255.0).clip(0, 255).astype(np.uint8)
        assert Image.fromarray(levels).size == (64, 64)
        return {"ui": {"sha": [hashlib.sha256(levels.tobytes()).hexdigest()]}, "result": (image,)}


NODE_CLASS_MAPPINGS = {"ShapesImage": ShapesImage}
