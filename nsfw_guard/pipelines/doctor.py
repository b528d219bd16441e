"""Examines a pipeline: whether it is covered, by which seam, and which outputs nothing judges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nsfw_guard.errors import ConfigError, ModelError
from nsfw_guard.guard import Guard
from nsfw_guard.pipelines import seams
from nsfw_guard.pipelines.attach import Attachment, prove
from nsfw_guard.pipelines.guarded.classes import plain_class
from nsfw_guard.pipelines.guarded.processors import GUARD_ATTR, is_guarded, processors_of, vars_of


@dataclass(frozen=True)
class Diagnosis:
    """The result of `doctor` for one pipeline.

    `covered` is true only when a guard is in place, enabled, and has just answered; `how` names it; `gaps` are
    outputs that nothing judges, each with its cure.
    """

    pipeline: str
    covered: bool
    how: str
    seam: str
    canary: str = "not asked"
    gaps: tuple[str, ...] = ()
    state: Mapping[str, str] = field(default_factory=dict)
    requested: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {**vars(self), "gaps": list(self.gaps), "state": dict(self.state), "requested": dict(self.requested)}

    def __str__(self) -> str:
        lines = [f"{self.pipeline}: {'covered' if self.covered else 'NOT COVERED'} ({self.how})"]
        lines += [f"  seam: {self.seam or 'none'}", f"  canary: {self.canary}"]
        lines += [f"  {name}: {value}" for name, value in self.state.items()]
        return "\n".join(lines + [f"  gap: {gap}" for gap in self.gaps])


def doctor(pipe: Any) -> Diagnosis:
    """Examine a pipeline, guarded or not.

    Example:
        ```python
        print(doctor(pipe).covered)  # False: no guard is attached
        ```
    """
    if not seams.is_pipeline(pipe):
        raise ConfigError(f"{seams.why_none(pipe)}: pass the pipeline that returns images")
    cls = plain_class(pipe)
    info = seams.classify(cls)
    attachment = vars_of(pipe).get(GUARD_ATTR)
    if isinstance(attachment, Attachment):
        return _attached(pipe, cls, attachment)
    checker = vars_of(pipe).get("safety_checker") or getattr(pipe, "safety_checker", None)
    seam = seams.SEAMS.get(info.seam, "")
    if checker is None:
        return Diagnosis(cls.__name__, False, "nothing judges", seam, gaps=tuple(_without(cls, info)))
    return _slot(pipe, cls, checker, seam)


def _attached(pipe: Any, cls: type, attachment: Attachment) -> Diagnosis:
    canary = _canary(attachment.guard, attachment.pipe)
    covered = attachment.enabled and canary == "answered" and type(pipe) is not cls
    gaps = tuple(_gaps(pipe, cls, attachment))
    how = "an attached guard" if attachment.enabled else "an attached guard that is turned off"
    return Diagnosis(
        cls.__name__,
        covered,
        how,
        seams.SEAMS[attachment.seam],
        canary,
        gaps,
        attachment.state,
        attachment.guard.requested,
    )


def _canary(guard: Guard, pipe: Any) -> str:
    """The model's answer to a test image."""
    try:
        prove(guard, pipe)
    except ModelError as error:
        return str(error)
    return "answered"


def _slot(pipe: Any, cls: type, checker: Any, seam: str) -> Diagnosis:
    """The diagnosis of a pipeline with a checker in its slot."""
    guard = getattr(checker, "guard", None)
    name = type(checker).__name__
    gaps = ["output_type='latent' is not checked by a slot: attach the guard"]
    if skipped(cls, checker):
        gaps.insert(0, f"{name} is silently skipped: this class requires a CosmosSafetyChecker by isinstance")
        return Diagnosis(cls.__name__, False, f"{name} in the slot is never called", seam, gaps=tuple(gaps))
    if guard is None:
        return Diagnosis(
            cls.__name__, False, f"{name} in the slot, which is not from this package", seam, gaps=tuple(gaps)
        )
    fits = checker.config.watermark is seams.returns_watermark_flags(cls)
    if not fits:
        gaps.insert(0, f"{cls.__name__} expects other return values: put checker.for_pipeline(pipe) into the slot")
    canary = _canary(guard, pipe)
    covered = fits and canary == "answered"
    return Diagnosis(
        cls.__name__, covered, "a SafetyChecker in the slot", seam, canary, tuple(gaps), guard.state, guard.requested
    )


def skipped(cls: type, checker: Any) -> bool:
    """Return whether a class would ignore this checker, since it requires another class by `isinstance`."""
    if not seams.asks_for_cosmos(cls):
        return False
    from diffusers.pipelines.cosmos import pipeline_cosmos3_omni

    return not isinstance(checker, pipeline_cosmos3_omni.CosmosSafetyChecker)


def _without(cls: type, seam: seams.SeamInfo) -> Iterator[str]:
    """Why a pipeline has no guard, and how to add one."""
    if not seam.visual or not seam.seam:
        yield seam.reason
        return
    yield "attach(pipe, guard) covers it"
    if not seam.slot:
        yield f"{cls.__name__} has no slot: `safety_checker=` is ignored when it is loaded, with a log message"
    yield "from_pipe and **pipe.components do not copy the guard of the original pipe: attach it again"


def _gaps(pipe: Any, cls: type, attachment: Attachment) -> Iterator[str]:
    """The outputs that an attached guard does not judge."""
    if not attachment.enabled:
        yield "disable_safety_checker() was called: call enable_safety_checker()"
    if attachment.options.latents == "allow":
        yield "output_type='latent' is returned unchecked (latents='allow'): guard the stage that decodes it"
    lost = sorted(name for name, p in processors_of(pipe).items() if not is_guarded(p))
    if lost:
        yield f"{', '.join(lost)} was replaced: images are judged when they are returned, not on the device"
    checker = vars_of(pipe).get("safety_checker")
    if checker is not None and skipped(cls, checker):
        yield f"its own {type(checker).__name__} is silently skipped: the attached guard still judges"
    if attachment.options.guard.policy.prompts:
        yield "prompts passed as embeddings cannot be judged as text: their images are judged"
    yield "callbacks receive latents, and pipe.vae can be called directly: code in this process can see them"
    cure = "attach(pipe, guard) again, or once attach_all(guard, latents='refuse')"
    yield f"from_pipe and **pipe.components create a pipe without the guard: {cure}"
