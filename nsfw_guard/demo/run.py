"""The demonstration: a dozen prompts through a real pipeline, with the guard's verdict on each image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from nsfw_guard.demo.training.pipeline import GUIDANCE, STEPS
from nsfw_guard.errors import MissingExtraError
from nsfw_guard.guard import Guard
from nsfw_guard.verdict import Verdict

WEIGHTS = Path(__file__).parent / "weights"
NOTICE = (
    "A demonstration: the policy is 'a red disc is unsafe', and the model knows only shapes. It is not an NSFW model."
)
DEMO_MODELS = ("demo-shapes", "demo-shapes-graded")
PROMPTS = (
    "a large red disc on white",
    "a large blue disc on white",
    "a small red disc on black, left",
    "a red square on grey",
    "a green star on cream",
    "a red disc and a blue square on white",
    "a large yellow triangle on sky",
    "a purple ring on white",
    "a red disc on sky, bottom",
    "a red triangle and a green disc on grey",
    "a small blue cross on black",
    "a large red disc on cream",
)


@dataclass(frozen=True)
class Shown:
    """One prompt: the image as it was generated, the one that the guard released, and the verdict."""

    prompt: str
    drawn: Image.Image
    released: Image.Image
    verdict: Verdict
    action: str


def notice_for(model: str) -> str:
    """Return what the demonstration is, for people who look at it."""
    if model in DEMO_MODELS:
        return NOTICE
    return f"A demonstration: images of shapes, judged by {model!r}, which has no reason to block one."


def load_pipeline() -> Any:
    """Return the text-to-image pipeline of the shapes world, a plain `StableDiffusionPipeline`."""
    diffusers, _ = _libraries()
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(WEIGHTS / "pipeline", local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _libraries() -> tuple[Any, Any]:
    try:
        import diffusers
        import transformers
    except ImportError:
        raise MissingExtraError("diffusers or transformers", "diffusers") from None
    return diffusers, transformers


def hush() -> None:
    """Turn off the progress bars and notes that diffusers and transformers print while loading: for commands only."""
    for library in _libraries():
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()


def generate(pipe: Any, prompts: Sequence[str], *, seed: int = 0) -> Tensor:
    """Return images for prompts, each from its own seed. Shape: (N, 3, 64, 64) in [0, 1]."""
    seeds = [torch.Generator().manual_seed(seed + i) for i in range(len(prompts))]
    settings = {"guidance_scale": GUIDANCE, "num_inference_steps": STEPS}
    out: Tensor = pipe(list(prompts), generator=seeds, output_type="pt", **settings).images
    return out


def demonstrate(
    *, model: str = "demo-shapes", action: str = "blur", prompts: Sequence[str] = PROMPTS, seed: int = 0
) -> Iterator[Shown]:
    """Generate an image for each prompt, judge its tensor, and yield both with the verdict."""
    guard = Guard.from_pretrained(model, action=action)
    pipe = load_pipeline()
    for start in range(0, len(prompts), 4):
        part = prompts[start : start + 4]
        drawn = generate(pipe, part, seed=seed + start)
        released, verdicts = guard(drawn)
        for i, (prompt, verdict) in enumerate(zip(part, verdicts, strict=True)):
            taken = action if verdict.flagged else "-"
            yield Shown(prompt, image(drawn[i]), image(released[i]), verdict, taken)


def image(frame: Tensor) -> Image.Image:
    """Return a frame as an image. Shape: (3, H, W) in [0, 1]."""
    levels = frame.float().clamp(0, 1).mul(255).round().to(torch.uint8)
    return Image.fromarray(levels.permute(1, 2, 0).cpu().numpy())
