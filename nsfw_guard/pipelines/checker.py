"""The guard as the `safety_checker` of a pipeline that has a slot for one, saved and loaded with that pipeline.

Loaded when its name is first asked for, since it subclasses classes of diffusers and transformers.
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

# What loaders of pipelines hand to every model. A guard reads its weights from safetensors as they are, in its own
# dtype and unquantised, and follows the picture to its device: nothing of this can change a score.
WITHOUT_EFFECT = {
    "cache_dir", "device_map", "force_download", "local_files_only", "low_cpu_mem_usage", "max_memory",
    "offload_folder", "offload_state_dict", "proxies", "quantization_config", "revision", "token", "use_safetensors",
    "variant",
}  # fmt: skip

# With which classes pipelines compare their checker. Two Cosmos pipelines pass over every other one in silence; the
# rest say in the log that it is not what they expected.
_COSMOS = (
    "_text2world", "_video2world", "2_text2image", "2_video2world", "2_5_predict", "2_5_transfer", "3_omni"
)  # fmt: skip
STANDS_FOR = {
    "watermark": (("deepfloyd_if.safety_checker", "IFSafetyChecker"),),
    "cosmos": tuple((f"cosmos.pipeline_cosmos{which}", "CosmosSafetyChecker") for which in _COSMOS),
}


class GuardConfig(PretrainedConfig):  # type: ignore[misc]  # transformers has no types here
    """What is told of a SafetyChecker beside its guard's own folder: how it answers."""

    __module__ = "nsfw_guard"
    model_type = "nsfw_guard"

    def __init__(self, watermark: bool = False, cosmos: bool = False, **rest: Any) -> None:
        super().__init__(**rest)
        self.watermark = watermark
        self.cosmos = cosmos


class NoFeatures(CLIPImageProcessor):  # type: ignore[misc]  # as above
    """The feature extractor that goes with a SafetyChecker: it does nothing, since the guard looks at the picture.

    Where a pipeline has a feature extractor for another end (an IP-Adapter, image variations), keep that one.
    """

    __module__ = "nsfw_guard"

    def __call__(self, images: Any, return_tensors: str | None = None) -> BatchFeature:
        """One zero a picture. Shape: pixel_values (B, 1)."""
        count = len(images) if isinstance(images, (list, tuple)) or getattr(images, "ndim", 3) == 4 else 1
        return BatchFeature({"pixel_values": torch.zeros(count, 1)})


class SafetyChecker(StableDiffusionSafetyChecker):  # type: ignore[misc]  # as above
    """A guard in the slot: `StableDiffusionPipeline.from_pretrained(repo, safety_checker=c, feature_extractor=...)`.

    It subclasses the stock checker, without its network, since pipelines compare types. The guard's network is not a
    part of this module: `pipe.to(torch.bfloat16)`, offloading and quantisation leave it as it is, so that scores do
    not depend on what is done to the pipeline; it follows each picture to its device. A copy shares the guard.

    Args:
        guard: what judges and acts.
        watermark: answer with three values, as DeepFloyd IF and the x4 upscaler want it, which fail with two; none of
            the pictures is said to have a watermark.
        cosmos: be a CosmosSafetyChecker too: two Cosmos pipelines pass over any other in silence. `for_pipeline` knows
            which of the two it takes, and both are saved.

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
        bare = isinstance(guard, GuardConfig)  # loaders that only measure make one without weights
        if not (bare or isinstance(guard, Guard)):
            raise ConfigError(f"a SafetyChecker takes a Guard, not {type(guard).__name__}: use Guard.from_pretrained")
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
        """Nothing: there is nothing here to initialise."""

    @property
    def feature_extractor(self) -> NoFeatures:
        """What has to stand in the pipeline's `feature_extractor`, unless it has one of its own."""
        return NoFeatures()

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """The verdicts of the last call in this thread or task."""
        return self.last.get()

    def for_pipeline(self, pipeline: Any) -> SafetyChecker:
        """Return a checker with the same guard that answers as this pipeline, or pipeline class, asks.

        Raises:
            UncoveredError: it has no slot.
        """
        return SafetyChecker(self._held(), **asked_by(pipeline))

    @torch.no_grad()
    def forward(self, clip_input: Any = None, images: Any = None) -> tuple[Any, ...]:
        """Judge images, and return them with those that are flagged acted on, and a bool each. `clip_input` is not
        looked at.

        Shape: a tensor (B, 3, H, W) as it was decoded, [-1, 1] before it is clipped; what is flagged comes back in
        [0, 1], since pipelines bring only the others there. Or an array (B, H, W, 3) in [0, 1]. Neither is edited.
        """
        signed = isinstance(images, Tensor)
        if not (isinstance(images, np.ndarray) or (signed and images.is_floating_point())):
            raise ImageError(f"a pipeline hands over floats or an array, not {type(images).__name__}: call the guard")
        value_range: Literal["signed", "unit"] = "signed" if signed else "unit"
        verdicts = self._judge(images if signed else self._shown(images), value_range)
        safe = self._held().apply(images, verdicts, value_range=value_range)
        flags = [bool(verdict.flagged) for verdict in verdicts]
        if signed and any(flags):
            safe = _in_unit(safe, flags)
        return (safe, flags, [False] * len(flags)) if self.config.watermark else (safe, flags)

    def check_text_safety(self, prompt: str) -> bool:
        """Return whether the policy lets a prompt pass. Cosmos asks before it draws."""
        return not any(verdict.flagged for verdict in self._held().check_prompts(prompt))

    def check_video_safety(self, frames: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return a clip: as it came, or the whole of it acted on where one frame is flagged. Cosmos asks after it has
        drawn.

        Its verdict is that on its worst frame.

        Shape: uint8 (T, H, W, 3), and the same back.
        """
        verdicts = self._judge(self._shown(frames), "unit")
        top = worst(verdicts)
        self.last.put([top])
        if top.flagged:
            everywhere = replace(top, scores=replace(top.scores, regions=())) if top.scores else top
            verdicts = [verdict if verdict.flagged else everywhere for verdict in verdicts]
        covered: np.ndarray[Any, Any] = self._held().apply(frames, verdicts)
        return covered

    def save_pretrained(self, save_directory: str | Path) -> None:
        """Writes config.json, and the guard (weights as safetensors, record, policy, action) into `guard/` beside it.

        What belongs to a process and not to a model stays behind: listeners, limits, `fail_open`.
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
        """Reads what `save_pretrained` wrote. From a model's name, it is SafetyChecker(Guard.from_pretrained(name)).

        Args:
            pretrained_model_name_or_path: a folder.
            subfolder: where in it.
            dtype, torch_dtype: of the module; the guard keeps its own.
            trust_guard: as in `Guard.from_pretrained`.
            loading: the other things that loaders of pipelines say; none of them has an effect on a guard.
        """
        if unknown := sorted(set(loading) - WITHOUT_EFFECT):
            raise ConfigError(f"{unknown[0]!r} means nothing to a saved checker: set it on the Guard, and wrap that")
        folder = Path(pretrained_model_name_or_path) / subfolder
        if not (folder / FOLDER).is_dir():
            raise ConfigError(f"no saved guard is in {folder.name!r}: use SafetyChecker(Guard.from_pretrained(...))")
        config = GuardConfig.from_pretrained(folder)
        settings = {"watermark": config.watermark, "cosmos": config.cosmos}
        checker = SafetyChecker(Guard.from_pretrained(folder / FOLDER, trust_guard=trust_guard), **settings)
        wanted = dtype or torch_dtype
        if isinstance(wanted, torch.dtype):
            checker.to(wanted)
        return checker

    def __deepcopy__(self, memo: dict[int, Any]) -> SafetyChecker:
        """A checker of its own around the same guard."""
        twin: SafetyChecker = SafetyChecker(self._held(), watermark=self.config.watermark, cosmos=self.config.cosmos)
        twin.to(self.device, self.dtype)
        return twin

    def __copy__(self) -> SafetyChecker:
        return self.__deepcopy__({})

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise ConfigError("a SafetyChecker is not pickled: save_pretrained(folder) keeps it, from_pretrained reads it")

    def _held(self) -> Guard:
        if self.guard is None:
            raise ConfigError("this checker was made without a guard: use SafetyChecker(guard), or from_pretrained")
        guard: Guard = self.guard
        return guard

    def _shown(self, images: Any) -> Tensor:
        """Pictures of the host as one stack, where the pipe has put this module: the model follows them."""
        return torch.from_numpy(np.ascontiguousarray(images)).movedim(-1, 1).to(self.device)

    def _judge(self, images: Any, value_range: Literal["signed", "unit"]) -> list[Verdict]:
        """The guard's verdicts, remembered."""
        verdicts = self._held().check(images, value_range=value_range)
        self.last.put(verdicts)
        return verdicts


def asked_by(pipeline: Any) -> dict[str, bool]:
    """Return how a pipeline, or pipeline class, wants its checker to answer: settings of a SafetyChecker."""
    cls = pipeline if isinstance(pipeline, type) else type(pipeline)
    if any(hasattr(sys.modules.get(base.__module__), "CosmosSafetyChecker") for base in cls.__mro__):
        return {"cosmos": True}
    if "safety_checker" not in inspect.signature(cls).parameters:
        raise UncoveredError(f"{cls.__name__} has no slot for a checker: use attach(pipe, guard)")
    return {"watermark": seams.returns_watermark_flags(cls)}


def _in_unit(signed: Tensor, flags: Sequence[bool]) -> Tensor:
    """A copy whose flagged pictures are brought from [-1, 1] to [0, 1], just as the pipeline brings the others."""
    out = signed.clone()
    for index, flagged in enumerate(flags):
        if flagged:
            out[index] = (signed[index] * 0.5 + 0.5).clamp(0, 1)
    return out


@cache
def _standing_for(asked_for: str) -> type:
    """The checker as a subclass of the classes that such pipelines compare it with.

    Nothing of those is run: a finished checker changes its class. What NVIDIA's class is called is made up by
    diffusers, in each module anew, where cosmos_guardrail is not installed.
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
