"""Guarded processors by hand and inside each other: every way in which diffusers uses one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("diffusers")

from diffusers.image_processor import InpaintProcessor, VaeImageProcessor, VaeImageProcessorLDM3D
from diffusers.video_processor import VideoProcessor

from nsfw_guard.guard import Guard
from nsfw_guard.pipelines.guarded.processors import guarded, is_guarded, processors_of
from nsfw_guard.pipelines.guarded.run import Cover, GuardedCall, running
from nsfw_guard.testing import FakeBackend

RED, BLUE = (torch.tensor(c).view(1, 3, 1, 1).expand(1, 3, 8, 8) for c in ((0.9, -0.9, -0.9), (-0.9, -0.9, 0.9)))


class Owner:
    """Owns guarded processors, as an attachment does."""

    enabled = True

    def run(self, pipe=None):
        return GuardedCall(Guard(FakeBackend()), Cover())


@pytest.fixture
def owner():
    return Owner()


def test_a_guarded_processor_is_a_copy_with_the_same_name_and_settings(owner) -> None:
    original = VaeImageProcessor(vae_scale_factor=4)
    processor = guarded(original, owner)
    assert is_guarded(processor)
    assert not is_guarded(original)
    assert type(processor).__name__ == "VaeImageProcessor"
    assert isinstance(processor, VaeImageProcessor)
    assert processor.config == original.config


@pytest.mark.parametrize("kind", ["pil", "np", "pt"])
def test_called_by_hand_it_judges_unless_turned_off(owner, kind) -> None:
    processor = guarded(VaeImageProcessor(), owner)
    both = torch.cat([RED, BLUE])
    first, second = processor.postprocess(both, output_type=kind)
    assert float(np.asarray(first).max()) == 0
    assert float(np.asarray(second).max()) > 0
    owner.enabled = False
    assert float(np.asarray(processor.postprocess(both, output_type=kind)[0]).max()) > 0


def test_images_that_are_in_different_ranges_are_judged_in_their_own(owner) -> None:
    processor = guarded(VaeImageProcessor(), owner)
    both = torch.cat([RED, (BLUE * 0.5 + 0.5)])
    out = processor.postprocess(both, output_type="pt", do_denormalize=[True, False])
    assert float(out[0].max()) == 0
    assert torch.equal(out[1], both[1])
    out = processor.postprocess(torch.cat([BLUE, (RED * 0.5 + 0.5)]), output_type="pt", do_denormalize=[True, False])
    assert float(out[0].max()) > 0
    assert float(out[1].max()) == 0


def test_latents_and_other_channels_pass_and_are_left_to_the_exit(owner) -> None:
    processor = guarded(VaeImageProcessor(), owner)
    latents = torch.randn(1, 4, 8, 8) * 9
    assert processor.postprocess(latents, output_type="latent") is latents
    colours, depth = guarded(VaeImageProcessorLDM3D(), owner).postprocess(torch.zeros(1, 6, 8, 8), output_type="np")
    assert (colours.shape, depth.shape) == ((1, 8, 8, 3), (1, 8, 8))


def test_a_clip_by_hand_is_covered_whole(owner) -> None:
    processor = guarded(VideoProcessor(), owner)
    clip = torch.stack([BLUE[0], RED[0], BLUE[0]], 1)[None]
    out = processor.postprocess_video(clip, output_type="np")
    assert float(out.max()) == 0
    owner.enabled = False
    assert float(processor.postprocess_video(clip, output_type="np").max()) > 0


def test_the_processor_inside_a_processor_is_the_one_that_judges(owner) -> None:
    original = InpaintProcessor()
    inner = original._image_processor
    processor = guarded(original, owner)
    assert is_guarded(processor)
    assert original._image_processor is inner
    (out,) = processor.postprocess(RED, output_type="pil")
    assert np.asarray(out).max() == 0

    class Pipe:
        pass

    pipe = Pipe()
    pipe.image_processor, pipe.other = processor, object()
    assert list(processors_of(pipe)) == ["image_processor"]


def test_a_pasted_overlay_is_covered_where_its_crop_was_flagged(owner) -> None:
    processor = guarded(InpaintProcessor(), owner)
    run = owner.run()
    mask, whole = Image.new("L", (16, 16), 0), Image.new("RGB", (16, 16), (200, 200, 200))
    mask.paste(255, (4, 4, 12, 12))
    with running(run):
        out = processor.postprocess(
            RED, output_type="pil", original_image=whole, original_mask=mask, crops_coords=(4, 4, 12, 12)
        )
        safe = run.finish(out, clips=False)
    assert np.asarray(out[0]).max() == 200  # the crop was covered; what it was pasted into was not
    assert np.asarray(safe[0]).max() == 0
    assert run.flags == [True]
