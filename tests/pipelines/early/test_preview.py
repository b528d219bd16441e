"""The preview of the last clean latents is the image that leaves, in every family that can be looked at."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers")

import diffusers

from nsfw_guard.errors import ConfigError, UncoveredError
from nsfw_guard.pipelines.early.preview import _arguments_of, by_vae, preview_of, to_spatial
from nsfw_guard.pipelines.early.steps import clean_latents, watchable
from nsfw_guard.pipelines.guarded.inputs import arguments_of
from tests.pipelines.drawing import quiet
from tests.pipelines.zoo import CASES

pytestmark = quiet

# A clip of one frame is decoded as a preview is: more frames reach into each other.
CLIPS = ["LTXPipeline", "LTX2Pipeline", "HunyuanVideoPipeline", "CogVideoXPipeline", "StableVideoDiffusionPipeline"]
# What they do after the last step is not in the latents: originals pasted in, bytes for another checker, no shift.
NEAR = {"StableDiffusionControlNetInpaintPipeline": 0.01, "Cosmos2TextToImagePipeline": 0.004,
        "Kandinsky5T2IPipeline": 0.05}  # fmt: skip
FAMILIES = [
    "StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline", "StableDiffusionInpaintPipeline",
    "StableDiffusionInstructPix2PixPipeline", "StableDiffusionControlNetPipeline", "StableDiffusionUpscalePipeline",
    "LatentConsistencyModelPipeline", "StableDiffusionAdapterPipeline", "StableDiffusionPAGPipeline",
    "StableDiffusionXLPipeline", "StableDiffusion3Pipeline", "FluxPipeline", "FluxFillPipeline", "FluxKontextPipeline",
    "Flux2Pipeline", "QwenImagePipeline", "SanaPipeline", "PixArtSigmaPipeline", "ZImagePipeline", "AuraFlowPipeline",
    "Lumina2Pipeline", "CogView4Pipeline", "CogView3PlusPipeline", "ChromaPipeline", "HunyuanDiTPipeline",
    "HunyuanImagePipeline", "OvisImagePipeline", "DiTPipeline", "KandinskyV22Pipeline", "KandinskyV22CombinedPipeline",
    "Kandinsky3Pipeline", "IFPipeline", "DDPMPipeline", "DDIMPipeline", "WanPipeline", "AnimateDiffPipeline",
    "MochiPipeline", "LattePipeline", "SanaVideoPipeline", "QwenImage21Pipeline", *CLIPS, *NEAR,
]  # fmt: skip
REFUSED = ["QwenImageLayeredPipeline", "VisualClozeGenerationPipeline", "LDMTextToImagePipeline",
           "LDMSuperResolutionPipeline"]  # fmt: skip


def drawn(name):
    """The pipe, its last clean latents, what it was asked and the images that left. Shape: (N, H, W, 3)."""
    case, pipe = CASES[name], CASES[name].build()
    assert watchable(pipe.scheduler)
    asked = case.call(pipe)
    asked |= {"num_inference_steps": 2} if "num_inference_steps" in asked else {}
    asked |= {"num_frames": 1} if name in CLIPS else {}
    torch.manual_seed(0)
    with clean_latents(pipe) as latents:
        images = np.asarray(pipe(**asked, output_type="np")[case.field])
    arguments = arguments_of(type(pipe).__call__, pipe, (), asked)
    return pipe, latents[-1], arguments, (images[:, 0] if images.ndim == 5 else images)[..., :3]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_last_preview_is_the_image(name) -> None:
    pipe, latents, arguments, images = drawn(name)
    preview = by_vae(pipe, latents, arguments).permute(0, 2, 3, 1).numpy()
    assert preview.shape == images.shape
    assert np.abs(preview - images).max() <= NEAR.get(name, 1e-5)


@pytest.mark.parametrize("name", REFUSED)
def test_latents_that_nobody_can_read_are_refused(name) -> None:
    pipe, latents, arguments, _ = drawn(name)
    with pytest.raises(UncoveredError, match="pass a decoder to EarlyStop"):
        by_vae(pipe, latents, arguments)


def test_packed_latents_need_a_size_that_fits() -> None:
    pipe, latents, arguments, _ = drawn("FluxPipeline")
    with pytest.raises(UncoveredError, match="cannot be unpacked"):
        by_vae(pipe, latents, {**arguments, "height": 48, "width": 80})
    clip, tokens, asked, _ = drawn("LTXPipeline")
    with pytest.raises(UncoveredError, match="call the pipeline with height and width"):
        to_spatial(clip, tokens, {**asked, "height": None})


def test_latents_of_no_known_shape_are_refused() -> None:
    with pytest.raises(UncoveredError, match=r"latents of shape \(2, 3\)"):
        to_spatial(SimpleNamespace(), torch.zeros(2, 3), {})


def test_the_size_that_a_pipe_draws_by_default_is_known() -> None:
    pipe, latents, _, _ = drawn("FluxPipeline")
    pipe.default_sample_size = 32 // pipe.vae_scale_factor
    assert torch.equal(by_vae(pipe, latents, {}), by_vae(pipe, latents, {"height": 32, "width": 32}))


@pytest.mark.parametrize("shape", [(1, 4, 2, 8, 8), (1, 2, 4, 8, 8), (1, 2, 8, 8, 4)])
def test_the_first_frame_is_found_wherever_channels_stand(shape) -> None:
    pipe = SimpleNamespace(vae=SimpleNamespace(config={"latent_channels": 4}))
    assert to_spatial(pipe, torch.zeros(shape), {}).shape == (1, 4, 8, 8)


def test_a_small_decoder_is_given_latents_as_they_are() -> None:
    tiny = diffusers.AutoencoderTiny(
        encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8), num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1), latent_channels=4,
    ).eval()  # fmt: skip
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = (tiny.decode(latents).sample * 0.5 + 0.5).clamp(0, 1)
    assert torch.equal(preview_of(tiny)(SimpleNamespace(), latents, {}), expected)


def test_arguments_that_a_hook_hides_are_found() -> None:
    def hook(method):
        def wrapper(self, *args, **kwargs):
            return method(self, *args, **kwargs)

        return wrapper

    class Decoder:
        def plain(self, latents, num_frames): ...

        hidden = hook(plain)

    assert [list(_arguments_of(method)) for method in (Decoder().plain, Decoder().hidden)] == [
        ["latents", "num_frames"], ["self", "latents", "num_frames"]
    ]  # fmt: skip


@pytest.mark.parametrize("decoder", [3, None, "tiny"])
def test_a_part_that_is_not_a_decoder_is_refused(decoder) -> None:
    with pytest.raises(ConfigError, match="AutoencoderTiny"):
        preview_of(decoder)
