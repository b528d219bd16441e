"""The guard in the `safety_checker` slot. Loaded when it is asked for, since it subclasses classes of two libraries.

Its network is no submodule: it follows the picture's device and keeps its own dtype, so that `pipe.to(bfloat16)`,
offloading and quantising, which go over a pipe's modules, do not change what it answers.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from torch import Tensor, nn
from transformers import BatchFeature, CLIPImageProcessor, PretrainedConfig

from nsfw_guard.errors import ConfigError
from nsfw_guard.guard import Guard
from nsfw_guard.pipelines import seams
from nsfw_guard.pipelines.last import Last
from nsfw_guard.verdict import Verdict, worst

GUARD = "guard"  # the folder inside `safety_checker/` that `Guard.from_pretrained` reads


class GuardConfig(PretrainedConfig):  # type: ignore[misc]  # transformers has no types here
    """What is told of a SafetyChecker beside its guard's own folder."""

    __module__ = "nsfw_guard"
    model_type = "nsfw_guard"

    def __init__(self, watermark: bool = False, **rest: Any) -> None:
        super().__init__(**rest)
        self.watermark = watermark


class NoFeatures(CLIPImageProcessor):  # type: ignore[misc]
    """A feature extractor that extracts nothing: the checker looks at the pictures themselves."""

    __module__ = "nsfw_guard"

    def __call__(self, images: Any, return_tensors: str | None = None, **rest: Any) -> BatchFeature:
        """One zero a picture, so that the pipeline has something to hand on."""
        count = len(images) if isinstance(images, (list, tuple)) or getattr(images, "ndim", 3) == 4 else 1
        zeros = np.zeros((count, 1), np.float32)
        return BatchFeature({"pixel_values": torch.from_numpy(zeros) if return_tensors == "pt" else zeros})


class SafetyChecker(StableDiffusionSafetyChecker):  # type: ignore[misc]
    """Takes the `safety_checker` slot of a diffusers pipeline; goes into its folder and comes back with it.

    Args:
        guard: what judges and acts.
        watermark: answer with three values, as DeepFloyd IF and the x4 upscaler want it; `for_pipeline` knows.
    """

    __module__ = "nsfw_guard"
    config_class = GuardConfig
    main_input_name = "images"

    def __init__(self, guard: Guard, *, watermark: bool = False) -> None:
        if not isinstance(guard, Guard):
            raise ConfigError(
                f"SafetyChecker takes a Guard, not {type(guard).__name__}: Guard.from_pretrained('marqo')"
            )
        # Past the stock checker, which would build its tower.
        super(StableDiffusionSafetyChecker, self).__init__(GuardConfig(watermark=watermark))
        self.guard = guard
        self.place = nn.Embedding(1, 1).requires_grad_(False)  # where a pipe moved us: nothing else is in it
        self.last = Last()
        self.post_init()
        self.eval()

    @property
    def feature_extractor(self) -> NoFeatures:
        """What to give the pipeline with it."""
        return NoFeatures()

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Those of the last call in this thread or task."""
        return self.last.get()

    def for_pipeline(self, pipe: Any) -> SafetyChecker:
        """A checker of the same guard that answers as this pipeline, or class of pipelines, wants it."""
        cls = pipe if isinstance(pipe, type) else type(pipe)
        text = inspect.getsource(cls)
        made = SafetyChecker(self.guard, watermark="watermark_detected" in text)
        if seams.asks_for_cosmos(cls):
            asked: Any = vars(inspect.getmodule(cls))["CosmosSafetyChecker"]
            made.__class__ = type("SafetyChecker", (SafetyChecker, asked), {"__module__": "nsfw_guard"})
        return made

    @torch.no_grad()
    def forward(self, clip_input: Any = None, images: Any = None) -> tuple[Any, ...]:
        """The pictures, flagged ones acted on, and which they are.

        Shape: images (B, 3, H, W) as a decoder gives them in [-1, 1], or an array (B, H, W, 3) in [0, 1]. What is
        flagged goes back in [0, 1], since pipelines move only the others there.
        """
        batch = images if isinstance(images, Tensor) else self._from_array(images)
        signed = isinstance(images, Tensor)
        verdicts = self.guard.check(batch, value_range="signed" if signed else "unit")
        self.last.put(verdicts)
        out = self._acted(batch, verdicts) if signed else self.guard.apply(batch, verdicts)
        if not signed:
            out = images if out is batch else out.movedim(1, -1).cpu().numpy().astype(images.dtype)
        flags = [verdict.flagged for verdict in verdicts]
        return (out, flags, [False] * len(flags)) if self.config.watermark else (out, flags)

    def check_text_safety(self, prompt: str) -> bool:
        """As Cosmos asks: whether a prompt may be drawn, by the prompt rules of the policy."""
        return not any(verdict.flagged for verdict in self.guard.check_prompts(prompt))

    def check_video_safety(self, frames: Any) -> Any:
        """As Cosmos asks: the clip, all of it acted on where a frame is flagged. Shape: (T, H, W, 3), uint8."""
        batch = torch.from_numpy(np.ascontiguousarray(frames)).movedim(-1, 1).to(self.device)
        verdicts = self.guard.check(batch)
        self.last.put([worst(verdicts)])
        out = self.guard.apply(batch, [worst(verdicts)] * len(verdicts))
        return frames if out is batch else out.movedim(1, -1).cpu().numpy()

    def save_pretrained(self, save_directory: str | Path, **ignored: Any) -> None:
        """Writes the guard, weights and policy, into a folder of its own beside our configuration."""
        self.guard.save_pretrained(Path(save_directory) / GUARD)
        config = GuardConfig(watermark=self.config.watermark)
        config.architectures = ["SafetyChecker"]
        config.save_pretrained(save_directory)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **ignored: Any) -> SafetyChecker:
        """Reads what `save_pretrained` wrote. What is asked of all models of a pipeline (a dtype, ...) is ignored."""
        folder = Path(pretrained_model_name_or_path) / str(ignored.get("subfolder") or "")
        if not (folder / GUARD).is_dir():
            raise ConfigError(f"no saved guard is in {folder.name!r}: save a pipeline that has a SafetyChecker")
        config = GuardConfig.from_pretrained(folder)
        return SafetyChecker(Guard.from_pretrained(folder / GUARD), watermark=config.watermark)

    def __deepcopy__(self, memo: dict[int, Any]) -> SafetyChecker:
        made = SafetyChecker(self.guard, watermark=self.config.watermark)
        made.to(self.device, self.dtype)
        made.__class__ = type(self)
        return made

    def _from_array(self, images: Any) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(images)).movedim(-1, 1).to(self.device)

    def _acted(self, batch: Tensor, verdicts: list[Verdict]) -> Tensor:
        """A decoder's pictures, each in the range where it is expected; the very tensor where nothing is acted on."""
        if not any(verdict.flagged for verdict in verdicts):
            return self.guard.apply(batch, verdicts, value_range="signed")  # type: ignore[no-any-return]
        out = batch.clone()
        for i, verdict in enumerate(verdicts):
            one = batch[i : i + 1]
            if verdict.flagged:
                unit = (one * 0.5 + 0.5).clamp(0, 1)  # as the pipeline would have, bit for bit
                out[i] = self.guard.apply(unit, [verdict])[0]
            else:
                out[i] = self.guard.apply(one, [verdict], value_range="signed")[0]
        return out
