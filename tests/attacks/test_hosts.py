"""Jobs, graphs and neighbours made up at random: no way of mixing them lets the marker out of a host.

Each case is made from its number: one that fails can be run again alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.hosts.comfyui.test_session import ASYNC, FLAVOURS, host
from tests.hosts.comfyui.test_session import ROWS as GRAPHS
from tests.hosts.fake_comfy import RED, plain
from tests.hosts.fake_webui import FakeHost, Job, Params, Script
from tests.hosts.webui_worlds import World, leaks, red, safe
from tests.matrix import every, latin

CASES, FAMILIES = 300, ("sdnext", "a1111")

# ---- web UIs

FLAGS = ("grid", "interrupt", "previews", "pipeline_previews", "as_pil", "mask_composite", "extra", "control")
LATER = ("overlay", "graded", "hires")  # an image that comes in behind some of the hooks
# What an API takes and a page never sends.
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "save": (True, False, None),
    "scripts": (True, None),
    "script_args": ((), (None,), ("off",), (False, "flag", 1.0), ("",) * 9, ({"enabled": False},)),
    "extra_generation_params": ({}, {"nsfw_guard": "allowed"}, {"Guard": None}, {1: 2}),
    "prompt": ("a lighthouse", "", "a" * 5000, "\0\ud800", "(a:1.2) AND b"),
    "all_prompts": (None, [], [""], ["a", "b", "c", "d"], ("a",), "a"),
    "override_settings": ({}, {"nsfw_guard_enabled": False}, {"nsfw_guard_unknown": 1}, {"samples_save": False}),
    "nsfw_guard_job": (None, 1, "done", object()),
    "outpath_samples": ("/elsewhere", "", None),
    "nsfw_guard_verdicts": ([], None, {"outcome": "allow"}),
}


class Neighbour(Script):
    """Another extension: at each of its hooks it may exchange images, draw on them, or raise."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance

    def title(self) -> str:
        return "Neighbour"

    def _meddle(self, images: Any) -> None:
        deed = self.chance.choice(("nothing", "raise", "exchange", "draw"))
        if deed == "raise":
            raise ValueError("a neighbour that is broken")
        for index, image in enumerate(images if deed != "nothing" else ()):
            if isinstance(image, Image.Image):
                other = Image.fromarray(red(index)).resize(image.size)
                if deed == "draw":
                    image.paste(other.convert(image.mode))
                else:
                    images[index] = other
            elif isinstance(image, torch.Tensor):
                image.copy_(torch.from_numpy(red(index)).permute(2, 0, 1) / 255)
            elif isinstance(image, np.ndarray) and deed == "exchange":
                images[index] = red(index).astype(np.float32) / 255

    def postprocess_batch(self, p: Job, *args: Any, images: Any = (), **_: Any) -> None:
        self._meddle(images)

    def postprocess_batch_list(self, p: Job, pp: Any, *args: Any, **_: Any) -> None:
        self._meddle(pp.images)

    def postprocess_image(self, p: Job, pp: Any, *args: Any) -> None:
        images = [pp.image]
        self._meddle(images)
        (pp.image,) = images

    postprocess_image_after_composite = postprocess_image

    def postprocess(self, p: Job, processed: Any, *args: Any) -> None:
        self._meddle(processed.images)


def neighbours(host: FakeHost, chance: random.Random) -> None:
    """Scripts and callbacks before and behind the guard's; the callbacks exchange what is about to be saved."""
    for _ in range(chance.randint(0, 2)):
        host.scripts.insert(chance.randint(0, len(host.scripts)), Neighbour(chance))
    if chance.random() < 0.3:
        callbacks = host.callbacks["before_image_saved"]
        callbacks.insert(chance.randint(0, len(callbacks)), exchange)
    if host.family == "sdnext":
        host.modules["installer"].control_extensions.append("Neighbour")


def exchange(params: Params) -> None:
    params.image = Image.fromarray(red(3)).resize(params.image.size)


def made_up_job(chance: random.Random) -> Job:
    images = [chance.choice((red, safe))(chance.randrange(99)) for _ in range(chance.randint(1, 3))]
    settings: dict[str, Any] = dict.fromkeys(chance.sample(FLAGS, chance.randint(0, 3)), True)
    settings |= {name: chance.choice((red, safe))(7) for name in LATER if chance.random() < 0.2}
    for name, values in ARGUMENTS.items():
        if chance.random() < 0.3:
            settings[name] = chance.choice(values)
    return Job(*images, **settings)


def run_job(host: FakeHost, chance: random.Random) -> None:
    job = made_up_job(chance)
    try:
        host.process_images(job)
    except Exception as error:  # noqa: BLE001 - a host answers 500, and nothing leaves
        host.errors.append(error)


def load_again(host: FakeHost, chance: random.Random) -> None:
    """The page is loaded again."""
    host.load()


WAYS: tuple[Callable[[FakeHost, random.Random], object], ...] = (
    run_job,
    run_job,
    run_job,
    lambda host, chance: host.extras(Image.fromarray(red(chance.randrange(9))), save=chance.random() < 0.5),
    lambda host, chance: host.selected(red(chance.randrange(9))),
    load_again,
    lambda host, chance: host.state.do_set_current_image([Image.fromarray(red())]),
)


@pytest.mark.parametrize("number", every(10, range(CASES)))
@pytest.mark.parametrize("family", FAMILIES)
def test_no_mixture_of_jobs_and_extensions_lets_the_marker_out(family: str, number: int, monkeypatch: Any) -> None:
    chance = random.Random(f"{family} {number}")
    world = World(family, monkeypatch)
    neighbours(world.host, chance)
    for _ in range(chance.randint(1, 5)):
        chance.choice(WAYS)(world.host, chance)
    assert leaks(world.host) == []


@pytest.mark.parametrize("family", FAMILIES)
def test_without_the_guard_the_same_mixtures_let_the_marker_out(family: str, monkeypatch: Any) -> None:
    """Else the test above would show nothing."""
    leaked = 0
    for number in range(40):
        chance = random.Random(f"{family} {number}")
        world = World(family, monkeypatch, load=False)
        neighbours(world.host, chance)
        for _ in range(chance.randint(1, 5)):
            run_job(world.host, chance)
        leaked += bool(leaks(world.host))
    assert leaked > 30


# ---- ComfyUI


def _inferred(tensor: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return tensor.clone()


LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "plain": lambda x: x,
    "of a larger one": lambda x: torch.cat([x, x], 2)[:, :, : x.shape[2]],
    "every second": lambda x: x.repeat_interleave(2, 1)[:, ::2],
    "turned round": lambda x: x.flip(1).flip(1),
    "channels first in memory": lambda x: x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1),
    "one frame spread": lambda x: x[:1].expand(len(x), *x.shape[1:]),
    "half": lambda x: x.half(),
    "double": lambda x: x.double(),
    "brain": lambda x: x.bfloat16(),
    "with a gradient": lambda x: x.clone().requires_grad_(),
    "of inference": _inferred,
    "with an alpha": lambda x: torch.cat([x, torch.ones_like(x[..., :1])], -1),
    "beyond white": lambda x: x * 1.3,
    "a parameter": lambda x: torch.nn.Parameter(x, requires_grad=False),
}


WAYS_OUT = [(name, flavour) for name in GRAPHS for flavour in (("async",) if name in ASYNC else FLAVOURS)]


@pytest.mark.parametrize(("way", "layout"), latin(WAYS_OUT, list(LAYOUTS), share=5))
def test_no_graph_lets_a_flagged_image_out_in_any_layout(way: tuple[str, str], layout: str) -> None:
    name, flavour = way
    chance = random.Random(f"{name} {flavour} {layout}")
    count, sides = chance.randint(1, 4), (chance.randint(16, 40), chance.randint(16, 40))
    given = LAYOUTS[layout](plain(RED, count=count, height=sides[0], width=sides[1]))
    before = given.detach().clone()
    comfy, _ = host(given, flavour=flavour)
    comfy.post(GRAPHS[name][0])
    assert comfy.worst() == 0.0
    assert torch.equal(comfy.given["x"].detach(), before)
