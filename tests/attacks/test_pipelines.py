"""Ways out of a guarded diffusers pipeline beside its images: other names, places, shapes, keys, latents, edits."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("diffusers")

import diffusers
from diffusers.modular_pipelines import ModularPipelineBlocks, OutputParam
from diffusers.pipelines.stable_diffusion import StableDiffusionPipelineOutput

from nsfw_guard.demo.run import load_pipeline
from nsfw_guard.errors import UncoveredError
from nsfw_guard.guard import Guard
from nsfw_guard.pipelines.attach import attach
from nsfw_guard.pipelines.guarded.leaving import guard_output
from nsfw_guard.pipelines.guarded.ranges import tensor_range
from nsfw_guard.pipelines.guarded.run import Cover, GuardedCall
from nsfw_guard.testing import FakeBackend
from tests.matrix import latin
from tests.pipelines.drawing import quiet
from tests.pipelines.zoo import CASES
from tests.pipelines.zoo.flux import flux_call
from tests.pipelines.zoo.modular import blocks, modular_flux

pytestmark = quiet

Pair = namedtuple("Pair", ["images", "steps"])


def reddish(frame: torch.Tensor) -> float:
    """What is red all over is unsafe."""
    red, green = frame[0].float().mean(), frame[min(1, len(frame) - 1)].float().mean()
    return 1.0 if float(red) > 0.8 and float(green) < 0.3 else 0.0


def red_tensor() -> torch.Tensor:
    return torch.tensor([1.0, 0.0, 0.0]).reshape(1, 3, 1, 1).expand(1, 3, 64, 64).contiguous()


def red_pil() -> Image.Image:
    return Image.new("RGB", (64, 64), (255, 0, 0))


RED = {
    "tensor": red_tensor,
    "signed tensor": lambda: red_tensor() * 2 - 1,
    "half": lambda: red_tensor().half(),
    "frame": lambda: red_tensor()[0],
    "channels last": lambda: red_tensor().movedim(1, -1),
    "not contiguous": lambda: red_tensor().movedim(1, -1).contiguous().movedim(-1, 1),
    "clip": lambda: red_tensor()[None].repeat(1, 2, 1, 1, 1),
    "array": lambda: red_tensor().movedim(1, -1).numpy(),
    "bytes array": lambda: np.asarray(red_pil()),
    "PIL": red_pil,
    "list": lambda: [red_pil()],
    "nested": lambda: [[red_pil()], [red_pil()]],
}


def is_red(value: Any) -> bool:
    """Whether any frame of it still shows what was to be covered."""
    if isinstance(value, dict):
        return any(map(is_red, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(is_red, value))
    if isinstance(value, Image.Image):
        value = np.asarray(value) / 255
    if not isinstance(value, (np.ndarray, torch.Tensor)):
        return False
    array = np.asarray(value, dtype=np.float64)
    array = array / 255 if array.max() > 1 else array
    channels = array.ndim - 3 if array.shape[-3] == 3 else array.ndim - 1
    frames = np.moveaxis(array, channels, 0).reshape(3, -1)
    return bool(frames[0].max() > 0.9 and frames[1].min() < 0.1)


# ---- modular pipelines


@pytest.mark.parametrize("given", ["noise", "none", "left out"])
@pytest.mark.parametrize("output", [None, "latents", ["images", "latents"]])
def test_denoised_latents_are_held_back_whoever_gave_the_initial_ones(given, output) -> None:
    noise = torch.randn(1, 64, 4) if given == "noise" else None
    more = {} if given == "left out" else {"latents": noise}
    pipe = modular_flux()
    with attach(pipe, Guard(FakeBackend(1.0))):
        out = pipe(**flux_call(1), **more, output=output)
    values = out if isinstance(out, dict) else {"latents": out} if output else out.values
    assert values["latents"] is None or (noise is not None and torch.equal(values["latents"], noise))


@pytest.mark.parametrize("given", [None, "noise"])
@pytest.mark.parametrize("output", [None, "latents", ["latents"]])
def test_a_pipeline_without_a_decoder_lets_no_latents_out(given, output) -> None:
    modular = blocks()
    modular.sub_blocks.pop("decode")
    pipe = modular_flux(modular)
    more = {"latents": torch.randn(1, 64, 4)} if given else {"latents": None}
    with attach(pipe, Guard(FakeBackend(0.0))), pytest.raises(UncoveredError, match="latents"):
        pipe(**flux_call(1), **more, output=output)


class Writes(ModularPipelineBlocks):
    """A user's block that writes something of its own."""

    name, thing = "", staticmethod(lambda: None)

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        return [OutputParam(self.name)]

    def __call__(self, components: Any, state: Any) -> Any:
        state.set(self.name, self.thing())
        return components, state


NAMES = ["first_image", "image", "decoded", "control_image", "result", "mask", "video", "x", "second_image", "denoised"]


@pytest.mark.parametrize(("name", "kind", "asked"), latin(NAMES, list(RED), ["state", "one", "some"]))
def test_a_custom_block_lets_nothing_leave_unjudged(name, kind, asked) -> None:
    modular = blocks()
    modular.sub_blocks.insert("own", type("Own", (Writes,), {"name": name, "thing": staticmethod(RED[kind])})(), 99)
    pipe = modular_flux(modular)
    with attach(pipe, Guard(FakeBackend(reddish))):
        out = pipe(**flux_call(1), output={"state": None, "one": name, "some": [name, "images"]}[asked])
    value = out if asked == "one" else out[name] if asked == "some" else out.values[name]
    assert not is_red(value)


# ---- pipelines of users


@pytest.fixture(scope="module")
def plain() -> Any:
    return load_pipeline()


def custom(plain: Any, give: Any) -> Any:
    """A pipeline of a user's own class, that gives something else than it drew."""

    class Own(diffusers.StableDiffusionPipeline):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            out = super().__call__(*args, **kwargs)
            return give(out)

    return Own(**plain.components, requires_safety_checker=False)


def drawn(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe("a blue star on grey", num_inference_steps=1, generator=torch.Generator().manual_seed(0))


SHAPES = {
    "second place": lambda out, red: (out.images, red),
    "third place": lambda out, red: (out.images, None, red),
    "fourth place": lambda out, red: (out.images, None, None, red),
    "nothing before it": lambda out, red: (None, red),
    "in a list": lambda out, red: (out.images, [False], [red]),
    "named place": lambda out, red: Pair(out.images, red),
    "key": lambda out, red: {"images": out.images, "raw": red},
    "key within a key": lambda out, red: {"images": out.images, "more": {"raw": red}},
    "key of flags": lambda out, red: {"images": out.images, "nsfw_content_detected": red},
    "field of flags": lambda out, red: StableDiffusionPipelineOutput(images=out.images, nsfw_content_detected=red),
    "attribute": lambda out, red: (setattr(out, "raw", red), out)[1],
    "key of an output": lambda out, red: (out.__setitem__("raw", red), out)[1],
    "called sound": lambda out, red: (setattr(out, "audio", red), out)[1],
}
VALUES = ["tensor", "array", "PIL", "list", "clip"]


def everything(out: Any) -> Any:
    if isinstance(out, tuple):
        return list(out)
    if isinstance(out, StableDiffusionPipelineOutput):
        return [*vars(out).values(), *out.values()]
    return list(out.values())


@pytest.mark.parametrize(("shape", "kind"), latin(list(SHAPES), VALUES))
def test_a_custom_pipeline_lets_nothing_leave_unjudged(plain, shape, kind) -> None:
    with_red = custom(plain, lambda out: SHAPES[shape](out, RED[kind]()))
    assert is_red(everything(drawn(with_red)))
    with attach(with_red, Guard(FakeBackend(reddish))):
        assert not is_red(everything(drawn(with_red)))


DATA = {"text": "a blue star", "number": 7, "dict": {"steps": 3, "names": ["a"]}, "texts": ["a", "b"], "flags": [True]}


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("shape", ["second place", "fourth place", "named place", "key", "attribute"])
def test_outputs_that_are_not_images_leave_with_the_images(plain, name, shape) -> None:
    pipe = custom(plain, lambda out: SHAPES[shape](out, DATA[name]))
    before = drawn(pipe)
    with attach(pipe, Guard(FakeBackend(0.0))):
        out = drawn(pipe)
    assert type(out) is type(before)
    assert any(value is DATA[name] for value in everything(out)) or [False] in everything(out)
    with attach(pipe, Guard(FakeBackend(1.0))):
        flagged = drawn(pipe)
    assert type(flagged) is type(before)
    images = flagged.images if hasattr(flagged, "images") else flagged[0 if isinstance(flagged, tuple) else "images"]
    assert np.asarray(images[0]).max() == 0


@pytest.mark.parametrize("kind", ["pil", "np", "pt"])
def test_an_image_that_is_edited_in_place_is_judged_again(plain, kind) -> None:
    def paint(out: Any) -> Any:
        if kind == "pil":
            out.images[0].paste((255, 0, 0), (0, 0, 64, 64))
        elif kind == "np":
            out.images[..., :] = [1.0, 0.0, 0.0]
        else:
            out.images.copy_(red_tensor())
        return out

    pipe = custom(plain, paint)
    pipe.set_progress_bar_config(disable=True)
    with attach(pipe, Guard(FakeBackend(reddish))):
        out = pipe("a blue star", num_inference_steps=1, output_type=kind)
    assert not is_red(out.images)
    assert [v.flagged for v in out.verdicts] == [True]


# ---- ranges


def test_tensors_that_nothing_moves_to_unit_range_are_judged_as_they_are() -> None:
    signed = [
        "PRXPixelPipeline",
        "KandinskyPipeline",
        "Kandinsky3Pipeline",
        "IFPipeline",
        "LTXI2VLongMultiPromptPipeline",
    ]
    unit = ["Kandinsky3Img2ImgPipeline", "PRXPipeline", "StableCascadeCombinedPipeline", "FluxPipeline", "LTXPipeline"]
    known = [(name, "signed") for name in signed] + [(name, "unit") for name in unit]
    assert [(n, tensor_range(getattr(diffusers, n))) for n, _ in known if hasattr(diffusers, n)] == [
        pair for pair in known if hasattr(diffusers, pair[0])
    ]


@pytest.mark.skipif(not hasattr(diffusers, "PRXPixelPipeline"), reason="this diffusers has no PRXPixelPipeline")
def test_a_pipeline_that_gives_signed_tensors_keeps_them_bit_for_bit() -> None:
    case = CASES["PRXPixelPipeline"]
    pipe = case.build()
    before = pipe(**case.call(pipe), output_type="pt").images
    assert before.min() < -0.1
    with attach(pipe, Guard(FakeBackend(0.0))):
        out = pipe(**case.call(pipe), output_type="pt")
    assert torch.equal(out.images, before)
    with attach(pipe, Guard(FakeBackend(1.0))):
        assert float(pipe(**case.call(pipe), output_type="pt").images.max()) == -1.0


def test_a_custom_class_has_the_range_of_the_class_it_calls(plain) -> None:
    class Own(diffusers.KandinskyPipeline):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return super().__call__(*args, **kwargs)

    assert tensor_range(Own) == "signed"


@pytest.mark.parametrize("name", ["latents", "image_embeds", "noise", "depth"])
def test_anything_with_three_channels_is_judged_under_any_name(name) -> None:
    modular = blocks()
    modular.sub_blocks.insert("own", type("Own", (Writes,), {"name": name, "thing": staticmethod(red_tensor)})(), 99)
    pipe = modular_flux(modular)
    with attach(pipe, Guard(FakeBackend(reddish))):
        assert not is_red(pipe(**flux_call(1), output=name))


@pytest.mark.parametrize(
    "value", [[[[1.0] * 64] * 64], [0] * 257, {"rows": [[1] * 32] * 32}, np.ones((64, 64), np.uint8)]
)
@pytest.mark.parametrize("place", ["second place", "third place", "key of flags", "field of flags"])
def test_pixels_do_not_leave_as_numbers_or_flags(plain, place, value) -> None:
    pipe = custom(plain, lambda out: SHAPES[place](out, value))
    with attach(pipe, Guard(FakeBackend(1.0))):
        try:
            out = everything(drawn(pipe))
        except UncoveredError:
            return
    assert not any(part is value for part in out)


def test_a_subclass_put_in_place_of_the_guarded_class_is_guarded(plain) -> None:
    pipe = custom(plain, lambda out: out)
    attachment = attach(pipe, Guard(FakeBackend(1.0)))
    guarded = type(pipe)
    pipe.__class__ = type("Mine", (guarded,), {})
    assert np.asarray(drawn(pipe).images[0]).max() == 0
    pipe.__class__ = guarded
    attachment.detach()


@pytest.mark.parametrize("frames", [1, 3, 4, 9])
def test_a_clip_in_its_decoders_layout_is_judged_frame_by_frame(frames) -> None:
    run = GuardedCall(Guard(FakeBackend(reddish)), Cover())
    red = (red_tensor() * 2 - 1)[:, :, None].repeat(1, 1, frames, 1, 1)
    out = guard_output(_Raw(), (red,), run, "refuse", {})
    assert out[0].shape == red.shape
    assert not is_red(out[0].transpose(1, 2))
    calm = GuardedCall(Guard(FakeBackend(0.0)), Cover())
    assert guard_output(_Raw(), (red,), calm, "refuse", {})[0] is red


class _Raw:
    """Gives the clips of its decoder for "pt"."""

    def __call__(self, output_type="pt"):
        self.scheduler.step(output_type)
        if output_type == "pt":
            return self.decoded
        return self.video_processor.postprocess(self.decoded)


def test_a_call_that_only_forwards_has_the_range_of_its_base_class() -> None:
    class Own(diffusers.StableDiffusionPipeline):
        def __call__(self, *args: Any, output_type: str = "pt", **kwargs: Any) -> Any:
            return super().__call__(*args, output_type=output_type, **kwargs)

    assert tensor_range(Own) == "unit"
