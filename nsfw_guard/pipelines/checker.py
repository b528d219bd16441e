"""The guard as the `safety_checker` of a pipeline that has a slot for one, saved and loaded with that pipeline.

Imported on first use, since it subclasses classes of diffusers and transformers.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from torch import Tensor
from transformers import BatchFeature, CLIPImageProcessor, PretrainedConfig

from nsfw_guard.errors import ConfigError, ImageError, UncoveredError
from nsfw_guard.guard import Guard
from nsfw_guard.pipelines import seams
from nsfw_guard.pipelines.guarded.last_verdicts import LastVerdicts
from nsfw_guard.verdict import Verdict, worst

FOLDER = "guard"  # beside config.json: the guard's own files have a config.json too

# Arguments that pipeline loaders pass to every model. A guard reads its weights from safetensors, in its own dtype and
# unquantised, and follows the image to its device, so none of these can change a score.
WITHOUT_EFFECT = {
    "cache_dir", "device_map", "force_download", "local_files_only", "low_cpu_mem_usage", "max_memory",
    "offload_folder", "offload_state_dict", "proxies", "quantization_config", "revision", "token", "use_safetensors",
    "variant",
}  # fmt: skip

# The classes that pipelines compare their checker with. Two Cosmos pipelines silently ignore any other class; the
# others only log that it is not what they expected.
_COSMOS = (
    "_text2world", "_video2world", "2_text2image", "2_video2world", "2_5_predict", "2_5_transfer", "3_omni"
)  # fmt: skip
STANDS_FOR = {
    "watermark": (("deepfloyd_if.safety_checker", "IFSafetyChecker"),),
    "cosmos": tuple((f"cosmos.pipeline_cosmos{which}", "CosmosSafetyChecker") for which in _COSMOS),
}


class GuardConfig(PretrainedConfig):  # type: ignore[misc]  # transformers has no types here
    """The configuration of a SafetyChecker, beside its guard's own folder: the form of its answers."""

    __module__ = "nsfw_guard"
    model_type = "nsfw_guard"

    def __init__(self, watermark: bool = False, cosmos: bool = False, **rest: Any) -> None:
        super().__init__(**rest)
        self.watermark = watermark
        self.cosmos = cosmos


class NoFeatures(CLIPImageProcessor):  # type: ignore[misc]  # as above
    """The feature extractor for a SafetyChecker: it does nothing, since the guard looks at the image itself.

    Where a pipeline needs a feature extractor for another purpose (an IP-Adapter, image variations), keep that one.
    """

    __module__ = "nsfw_guard"

    def __call__(self, images: Any, return_tensors: str | None = None) -> BatchFeature:
        """Return one zero per image. Shape: pixel_values (B, 1)."""
        count = len(images) if isinstance(images, (list, tuple)) or getattr(images, "ndim", 3) == 4 else 1
        return BatchFeature({"pixel_values": torch.zeros(count, 1)})


class SafetyChecker(StableDiffusionSafetyChecker):  # type: ignore[misc]  # as above
    """A guard in the slot: `StableDiffusionPipeline.from_pretrained(repo, safety_checker=c, feature_extractor=...)`.

    It subclasses the stock checker, without its network, since pipelines compare types. The guard's network is not
    part of this module, so `pipe.to(torch.bfloat16)`, offloading and quantisation of the pipeline do not change scores.
    It follows each image to its device. A copy shares the guard.

    Args:
        guard: the guard.
        watermark: return three values, as DeepFloyd IF and the x4 upscaler require; no image is reported to have a
            watermark.
        cosmos: be a CosmosSafetyChecker too, since two Cosmos pipelines silently ignore any other. `for_pipeline` sets
            these two settings for a pipeline, and both are saved.

    Example:
        ```python
        checked = StableDiffusionPipeline(
            **{**pipe.components, "safety_checker": SafetyChecker(guard), "feature_extractor": NoFeatures()}
        )
        ```
    """

    __module__ = "nsfw_guard"
    config_class = GuardConfig
    main_input_name = "clip_input"
    _no_split_modules: tuple[str, ...] = ()

    def __init__(self, guard: Guard | GuardConfig, *, watermark: bool = False, cosmos: bool = False) -> None:
        bare = isinstance(guard, GuardConfig)  # some loaders make one without weights, to measure its size
        if not (bare or isinstance(guard, Guard)):
            raise ConfigError(f"SafetyChecker expects a Guard, got {type(guard).__name__}: use Guard.from_pretrained")
        super(StableDiffusionSafetyChecker, self).__init__(guard if bare else GuardConfig(watermark, cosmos))
        self.guard = None if bare else guard
        self.last = LastVerdicts()
        self.anchor = torch.nn.LayerNorm(1).requires_grad_(False)  # so that it has a device and a dtype
        self.post_init()
        self.eval()
        for asked_for in STANDS_FOR:
            if getattr(self.config, asked_for):
                self.__class__ = _standing_for(asked_for)

    def _init_weights(self, module: torch.nn.Module) -> None:
        """Do nothing: there are no weights to initialise."""

    @property
    def feature_extractor(self) -> NoFeatures:
        """The object for the pipeline's `feature_extractor`, unless it has one of its own."""
        return NoFeatures()

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """The verdicts of the last call in this thread or task."""
        return self.last.get()

    def for_pipeline(self, pipeline: Any) -> SafetyChecker:
        """Return a checker with the same guard, with the settings for this pipeline or pipeline class.

        Raises:
            UncoveredError: the class has no slot.
        """
        return SafetyChecker(self._held(), **asked_by(pipeline))

    @torch.no_grad()
    def forward(self, clip_input: Any = None, images: Any = None) -> tuple[Any, ...]:
        """Judge images, act on flagged ones, and return the images and a bool each. `clip_input` is ignored.

        Shape: a decoded tensor (B, 3, H, W) in [-1, 1] before clipping, in which flagged images are returned in [0, 1],
        since pipelines convert only the others. Or an array (B, H, W, 3) in [0, 1]. Neither is changed in place.
        """
        signed = isinstance(images, Tensor)
        if not (isinstance(images, np.ndarray) or (signed and images.is_floating_point())):
            raise ImageError(
                f"a SafetyChecker expects floats or an array, got {type(images).__name__}: call the guard itself"
            )
        value_range: Literal["signed", "unit"] = "signed" if signed else "unit"
        verdicts = self._judge(images if signed else self._shown(images), value_range)
        safe = self._held().apply(images, verdicts, value_range=value_range)
        flags = [bool(verdict.flagged) for verdict in verdicts]
        if signed and any(flags):
            safe = _in_unit(safe, flags)
        return (safe, flags, [False] * len(flags)) if self.config.watermark else (safe, flags)

    def check_text_safety(self, prompt: str) -> bool:
        """Return whether the policy allows a prompt. Cosmos calls this before generating."""
        return not any(verdict.flagged for verdict in self._held().check_prompts(prompt))

    def check_video_safety(self, frames: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return a clip unchanged, or acted on as a whole where a frame is flagged. Cosmos calls this after generating.

        The verdict is that of the worst frame that counts under the policy's rule for clips.

        Shape: uint8 (T, H, W, 3), in and out.
        """
        verdicts = self._held().policy.clips.settle(self._judge(self._shown(frames), "unit"))
        top = worst(verdicts)
        self.last.put([top])
        if top.flagged:
            everywhere = replace(top, scores=replace(top.scores, regions=())) if top.scores else top
            verdicts = [verdict if verdict.flagged else everywhere for verdict in verdicts]
        covered: np.ndarray[Any, Any] = self._held().apply(frames, verdicts)
        return covered

    def save_pretrained(self, save_directory: str | Path) -> None:
        """Write config.json, and the guard (weights as safetensors, record, policy, action) into `guard/` beside it.

        Settings of the process are not saved: listeners, limits, `fail_open`.
        """
        folder = Path(save_directory)
        self._held().save_pretrained(folder / FOLDER)
        self.config.save_pretrained(folder)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        subfolder: str = "",
        dtype: torch.dtype | str | None = None,
        torch_dtype: torch.dtype | str | None = None,
        trust_guard: bool = False,
        **loading: Any,
    ) -> SafetyChecker:
        """Load a checker that `save_pretrained` wrote. A model's name needs SafetyChecker(Guard.from_pretrained(name)).

        Args:
            pretrained_model_name_or_path: a folder.
            subfolder: a folder in it.
            dtype, torch_dtype: the dtype of the module; the guard keeps its own.
            trust_guard: as in `Guard.from_pretrained`.
            loading: further arguments of pipeline loaders; they have no effect on a guard.
        """
        if unknown := sorted(set(loading) - WITHOUT_EFFECT):
            raise ConfigError(
                f"{unknown[0]!r} is not an argument for a saved checker: set it on the Guard, and pass that to "
                "SafetyChecker"
            )
        folder = Path(pretrained_model_name_or_path) / subfolder
        if not (folder / FOLDER).is_dir():
            raise ConfigError(
                f"{folder.name!r} contains no saved guard: use SafetyChecker(Guard.from_pretrained(...)) instead"
            )
        config = GuardConfig.from_pretrained(folder)
        settings = {"watermark": config.watermark, "cosmos": config.cosmos}
        checker = SafetyChecker(Guard.from_pretrained(folder / FOLDER, trust_guard=trust_guard), **settings)
        wanted = dtype or torch_dtype
        if isinstance(wanted, torch.dtype):
            checker.to(wanted)
        return checker

    def __deepcopy__(self, memo: dict[int, Any]) -> SafetyChecker:
        """Return a new checker with the same guard."""
        twin: SafetyChecker = SafetyChecker(self._held(), watermark=self.config.watermark, cosmos=self.config.cosmos)
        twin.to(self.device, self.dtype)
        return twin

    def __copy__(self) -> SafetyChecker:
        return self.__deepcopy__({})

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise ConfigError("a SafetyChecker cannot be pickled: use save_pretrained(folder) and from_pretrained(folder)")

    def _held(self) -> Guard:
        if self.guard is None:
            raise ConfigError("this checker has no guard: make it with SafetyChecker(guard), or from_pretrained")
        guard: Guard = self.guard
        return guard

    def _shown(self, images: Any) -> Tensor:
        """Images of the host as one stack, on the device of this module."""
        return torch.from_numpy(np.ascontiguousarray(images)).movedim(-1, 1).to(self.device)

    def _judge(self, images: Any, value_range: Literal["signed", "unit"]) -> list[Verdict]:
        """The guard's verdicts, stored as those of the last call."""
        verdicts = self._held().check(images, value_range=value_range)
        self.last.put(verdicts)
        return verdicts


def asked_by(pipeline: Any) -> dict[str, bool]:
    """Return the settings of a SafetyChecker for a pipeline or pipeline class."""
    cls = pipeline if isinstance(pipeline, type) else type(pipeline)
    if any(hasattr(sys.modules.get(base.__module__), "CosmosSafetyChecker") for base in cls.__mro__):
        return {"cosmos": True}
    if "safety_checker" not in inspect.signature(cls).parameters:
        raise UncoveredError(f"{cls.__name__} has no slot for a checker: use attach(pipe, guard)")
    return {"watermark": seams.returns_watermark_flags(cls)}


def _in_unit(signed: Tensor, flags: Sequence[bool]) -> Tensor:
    """A copy with flagged images converted from [-1, 1] to [0, 1], as the pipeline converts the others."""
    out = signed.clone()
    for index, flagged in enumerate(flags):
        if flagged:
            out[index] = (signed[index] * 0.5 + 0.5).clamp(0, 1)
    return out


@cache
def _standing_for(asked_for: str) -> type:
    """A subclass of the checker and of the classes that such pipelines compare it with.

    None of their code is run: a finished checker changes its class. Where cosmos_guardrail is not installed, each
    module of diffusers defines a substitute for NVIDIA's class.
    """
    bases: list[type] = [SafetyChecker]
    for module, name in STANDS_FOR[asked_for]:
        try:
            stand_in = getattr(import_module(f"diffusers.pipelines.{module}"), name)
        except ModuleNotFoundError:  # another release of diffusers, without these pipelines
            continue
        if stand_in not in bases:
            bases.append(stand_in)
    return type("SafetyChecker", tuple(bases), {"__module__": "nsfw_guard", "__doc__": SafetyChecker.__doc__})
