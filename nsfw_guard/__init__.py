"""A safety checker that plugs into any diffusion pipeline: one model, one policy, one action, failing closed.

Names are looked up when they are first used, so that `import nsfw_guard` costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nsfw_guard.version import __version__

if TYPE_CHECKING:
    from nsfw_guard.actions import Action, Block, Blur, Flag, Pixelate, Raise, Replace
    from nsfw_guard.backends.base import Backend, Options
    from nsfw_guard.backends.build import judge, zeroshot
    from nsfw_guard.backends.examples.bank import Bank
    from nsfw_guard.backends.examples.example import Example
    from nsfw_guard.backends.registry import list_models, load_model, register_model, unregister_model
    from nsfw_guard.backends.spec import Label, ModelSpec, ScoreSpec
    from nsfw_guard.backends.wrappers.banked import Banked
    from nsfw_guard.backends.wrappers.cached import Cached
    from nsfw_guard.backends.wrappers.calibrated import Calibrated
    from nsfw_guard.backends.wrappers.cascade import Cascade
    from nsfw_guard.backends.wrappers.ensemble import Ensemble
    from nsfw_guard.calibration import Calibration
    from nsfw_guard.errors import (
        AuditError,
        BlockedError,
        ConfigError,
        DecodeError,
        ImageError,
        MissingExtraError,
        ModelError,
        NsfwGuardError,
        PolicyError,
        ScoringError,
        SelfTestError,
        UncoveredError,
        UnknownNameError,
        WeightsMissingError,
        WeightsUnfitError,
    )
    from nsfw_guard.guard import Guard
    from nsfw_guard.imaging.frames import Frames
    from nsfw_guard.imaging.limits import Limits
    from nsfw_guard.imaging.views import InputSpec
    from nsfw_guard.listeners.audit import Audit
    from nsfw_guard.listeners.audit_chain import AuditReport
    from nsfw_guard.listeners.base import Listener
    from nsfw_guard.listeners.shadow import Shadow
    from nsfw_guard.pipelines.attach import Attachment, attach, detach
    from nsfw_guard.pipelines.attach_all import attach_all, detach_all
    from nsfw_guard.pipelines.blocks import GuardStep
    from nsfw_guard.pipelines.checker import GuardConfig, NoFeatures, SafetyChecker
    from nsfw_guard.pipelines.doctor import Diagnosis, doctor
    from nsfw_guard.pipelines.early.callback import EarlyStopCallback
    from nsfw_guard.pipelines.early.fit import fit_early_stop
    from nsfw_guard.pipelines.early.stop import EarlyStop
    from nsfw_guard.pipelines.regenerate import Regenerated, regenerate
    from nsfw_guard.policy.clips import ClipRule
    from nsfw_guard.policy.policy import Policy
    from nsfw_guard.policy.prompts import PromptRules
    from nsfw_guard.policy.rules import Rule, Threshold
    from nsfw_guard.scores import Region, Scores, Severity
    from nsfw_guard.verdict import Outcome, Verdict

_HOMES = {
    "actions": ("Action", "Block", "Blur", "Flag", "Pixelate", "Raise", "Replace"),
    "listeners.audit": ("Audit",),
    "backends.base": ("Backend", "Options"),
    "backends.spec": ("Label", "ModelSpec", "ScoreSpec"),
    "backends.examples.bank": ("Bank",),
    "backends.examples.example": ("Example",),
    "backends.wrappers.banked": ("Banked",),
    "backends.wrappers.cached": ("Cached",),
    "backends.wrappers.cascade": ("Cascade",),
    "backends.wrappers.ensemble": ("Ensemble",),
    "backends.registry": ("load_model", "list_models", "register_model", "unregister_model"),
    "backends.wrappers.calibrated": ("Calibrated",),
    "backends.build": ("judge", "zeroshot"),
    "calibration": ("Calibration",),
    "imaging.limits": ("Limits",),
    "errors": (
        "AuditError",
        "BlockedError",
        "ConfigError",
        "DecodeError",
        "ImageError",
        "MissingExtraError",
        "ModelError",
        "NsfwGuardError",
        "PolicyError",
        "ScoringError",
        "SelfTestError",
        "UncoveredError",
        "UnknownNameError",
        "WeightsMissingError",
        "WeightsUnfitError",
    ),
    "guard": ("Guard",),
    "imaging.frames": ("Frames",),
    "pipelines.attach": ("Attachment", "attach", "detach"),
    "pipelines.blocks": ("GuardStep",),
    "pipelines.early.callback": ("EarlyStopCallback",),
    "pipelines.checker": ("GuardConfig", "NoFeatures", "SafetyChecker"),
    "pipelines.doctor": ("Diagnosis", "doctor"),
    "pipelines.early.fit": ("fit_early_stop",),
    "pipelines.early.stop": ("EarlyStop",),
    "pipelines.attach_all": ("attach_all", "detach_all"),
    "pipelines.regenerate": ("Regenerated", "regenerate"),
    "policy.clips": ("ClipRule",),
    "policy.policy": ("Policy",),
    "policy.prompts": ("PromptRules",),
    "policy.rules": ("Threshold", "Rule"),
    "scores": ("Region", "Scores", "Severity"),
    "verdict": ("Outcome", "Verdict"),
    "imaging.views": ("InputSpec",),
    "listeners.base": ("Listener",),
    "listeners.shadow": ("Shadow",),
    "listeners.audit_chain": ("AuditReport",),
}
_HOME_OF = {name: home for home, found in _HOMES.items() for name in found}

__all__ = [
    "Action",
    "Attachment",
    "Audit",
    "AuditError",
    "AuditReport",
    "Backend",
    "Bank",
    "Banked",
    "Block",
    "BlockedError",
    "Blur",
    "Cached",
    "Calibrated",
    "Calibration",
    "Cascade",
    "ClipRule",
    "ConfigError",
    "DecodeError",
    "Diagnosis",
    "EarlyStop",
    "EarlyStopCallback",
    "Ensemble",
    "Example",
    "Flag",
    "Frames",
    "Guard",
    "GuardConfig",
    "GuardStep",
    "ImageError",
    "InputSpec",
    "Label",
    "Limits",
    "Listener",
    "MissingExtraError",
    "ModelError",
    "ModelSpec",
    "NoFeatures",
    "NsfwGuardError",
    "Options",
    "Outcome",
    "Pixelate",
    "Policy",
    "PolicyError",
    "PromptRules",
    "Raise",
    "Regenerated",
    "Region",
    "Replace",
    "Rule",
    "SafetyChecker",
    "ScoreSpec",
    "Scores",
    "ScoringError",
    "SelfTestError",
    "Severity",
    "Shadow",
    "Threshold",
    "UncoveredError",
    "UnknownNameError",
    "Verdict",
    "WeightsMissingError",
    "WeightsUnfitError",
    "__version__",
    "attach",
    "attach_all",
    "detach",
    "detach_all",
    "doctor",
    "fit_early_stop",
    "judge",
    "list_models",
    "load_model",
    "regenerate",
    "register_model",
    "unregister_model",
    "zeroshot",
]


# diffusers looks for these base classes in the module that a reloaded component names as its own.
_BASES = {"ImageProcessingMixin", "PreTrainedModel"}


def __getattr__(name: str) -> Any:
    if name in _BASES:
        return getattr(import_module("transformers"), name)
    if name not in _HOME_OF:
        raise AttributeError(f"module 'nsfw_guard' has no attribute {name!r}")
    try:
        return getattr(import_module(f"nsfw_guard.{_HOME_OF[name]}"), name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in {"diffusers", "transformers"}:
            raise
        from nsfw_guard.errors import MissingExtraError

        raise MissingExtraError(str(error.name), "diffusers") from None


def __dir__() -> list[str]:
    return __all__
