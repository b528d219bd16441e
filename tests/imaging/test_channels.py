"""Grey and transparent tensors: seen as a viewer may show them, on any device, with a decoder's overshoot clipped."""

from __future__ import annotations

import pytest
import torch

from nsfw_guard.guard import Guard
from nsfw_guard.imaging.channels import alpha_composites, to_decoder_array, with_channels
from nsfw_guard.imaging.frames import in_groups
from nsfw_guard.testing import FakeBackend
from nsfw_guard.verdict import Outcome
from tests.images import smooth


def rgba(alpha: float) -> torch.Tensor:
    return torch.cat([smooth(1, 8, 9)[0], torch.full((1, 8, 9), alpha)])


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, 20.0])
def test_nan_and_values_far_out_of_range_are_errors_also_with_alpha(value) -> None:
    wild = rgba(1.0) * 2 - 1
    wild[0, 3, 3] = value
    (verdict,) = Guard(FakeBackend()).check(wild[None], value_range="signed")
    assert verdict.outcome is Outcome.ERROR
    assert not bool(alpha_composites(wild, "signed").isfinite().all())


def test_overshoot_of_a_decoder_is_clipped_and_judged() -> None:
    signed = (rgba(1.0) * 2 - 1) * 1.4
    (verdict,) = Guard(FakeBackend()).check(signed[None], value_range="signed")
    assert verdict.outcome is Outcome.ALLOW
    assert float(to_decoder_array(signed, "signed").max()) == 1.0


def test_on_a_device_alpha_is_seen_as_the_decoder_sees_it() -> None:
    image = rgba(0.4)
    (composites,) = [alpha_composites(image, "unit")]
    decoded = [stack.pixels[0] for group in in_groups([image]) for stack in group.stacks]
    assert len(decoded) == 3
    levels = composites.mul(255).round()
    for frame in decoded:
        assert min(float((levels[i] - frame.float()).abs().max()) for i in range(3)) <= 1


def test_bytes_and_floats_are_seen_alike() -> None:
    image = rgba(0.4)
    levels = image.mul(255).round().to(torch.uint8)
    assert torch.allclose(alpha_composites(levels, "unit"), alpha_composites(levels / 255, "unit"))


@pytest.mark.parametrize(("channels", "shape"), [(1, (1, 4, 5)), (3, (3, 4, 5)), (4, (4, 4, 5))])
def test_a_cover_has_the_channels_of_its_image(channels, shape) -> None:
    cover = with_channels(torch.full((3, 4, 5), 90, dtype=torch.uint8), channels)
    assert cover.shape == shape
    assert cover[0].eq(90).all()
    assert channels != 4 or cover[3].eq(255).all()
