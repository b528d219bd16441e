"""Lets a Forge under test draw scenes of the shapes world, so that its own processing runs without a checkpoint.

Link the folder above into `extensions` for `tests/hosts/test_webui_live.py`. A scene comes out of noise, with a preview
at each step.
"""

import time

import torch
from modules import extra_networks, processing, script_callbacks, sd_models, sd_vae_approx, shared
from torchvision.transforms.functional import pil_to_tensor, to_pil_image

from nsfw_guard.demo import shapes


class Objects:
    """What the host keeps of a network."""

    latent_channels = 4

    @property
    def vae(self):
        return self

    def shallow_copy(self):
        return self


class Model:
    """As much of a checkpoint as the host asks for when it does not sample."""

    name_for_extra = model_name = "shapes"
    sd_model_hash = "0" * 10
    tiling_enabled = is_inpaint = use_distilled_cfg_scale = False
    model_config = None

    def __init__(self):
        self.sd_checkpoint_info = self
        self.forge_objects = self.forge_objects_original = self.forge_objects_after_applying_lora = Objects()


def scene(prompt, seed, size):
    """What a prompt says, with a grain of its seed; white where it says nothing. Shape: (3, H, W) in [0, 1]."""
    try:
        drawn = pil_to_tensor(shapes.draw(shapes.parse(prompt), side=64)).float() / 255
    except ValueError:
        drawn = torch.ones(3, 64, 64)
    grain = torch.rand(drawn.shape, generator=torch.Generator().manual_seed(int(seed))) / 64
    return torch.nn.functional.interpolate((drawn - grain).clamp(0, 1)[None], size=size)[0]


def draw(p, prompts):
    """Decoded samples for these prompts; each step is shown, and an interrupt is heard."""
    result = [scene(prompt, seed, (p.height, p.width)) for prompt, seed in zip(prompts, p.seeds, strict=True)]
    for step in range(p.steps):
        share = (step + 1) / p.steps
        shared.state.sampling_step = step
        shared.state.assign_current_image(to_pil_image(result[0] * share + torch.rand_like(result[0]) * (1 - share)))
        time.sleep(0.01)
        if shared.state.interrupted:
            break
    return processing.DecodedSamples(one * 2 - 1 for one in result)


def sample(p, *args, prompts=(), **kwargs):
    return draw(p, prompts)


def sample_again(p, *args, prompts=(), **kwargs):
    """img2img: where there is a mask the prompt is drawn; else the image comes back as it was."""
    if p.image_mask is not None:
        return draw(p, prompts)
    given = [pil_to_tensor(image.convert("RGB").resize((p.width, p.height))) for image in p.init_images]
    return processing.DecodedSamples([one.float() / 127.5 - 1 for one in given] * p.batch_size)


def start(*_):
    """Takes the place of what needs a checkpoint."""
    model = Model()
    sd_models.model_data.set_sd_model(model)
    sd_models.forge_model_reload = processing.forge_model_reload = lambda: (model, False)
    processing.sd_samplers.create_sampler = lambda name, model: Objects()
    processing.images_tensor_to_samples = lambda image, *_: torch.zeros(
        len(image), 4, *(s // 8 for s in image.shape[2:])
    )
    for kind in (processing.StableDiffusionProcessing, processing.StableDiffusionProcessingTxt2Img):
        kind.setup_conds = lambda self: None
    processing.StableDiffusionProcessing.img2img_image_conditioning = lambda self, *args: None
    processing.StableDiffusionProcessingTxt2Img.sample = sample
    processing.StableDiffusionProcessingImg2Img.sample = sample_again
    extra_networks.activate = lambda p, data: None
    sd_vae_approx.model = lambda: None


script_callbacks.on_app_started(start)
