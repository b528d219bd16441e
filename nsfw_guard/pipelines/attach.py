"""`attach` and `detach`: a guard on any diffusers pipeline, without changing anything that other pipelines share.

The pipe has its attachment in one attribute, and the attachment has the original class and processors. The pipe gets a
class of the same name (a call is looked up on the type) and copies of its processors. Each call keeps its state in its
own run, so threads and tasks may share pipes as far as diffusers itself allows it.
"""

from __future__ import annotations

import copy
import logging
from types import TracebackType
from typing import Any

from nsfw_guard.backends.base import checked_scores
from nsfw_guard.backends.selftest import canaries
from nsfw_guard.errors import ConfigError, SelfTestError
from nsfw_guard.guard import Guard
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.pipelines import seams
from nsfw_guard.pipelines.early.stop import EarlyStop
from nsfw_guard.pipelines.guarded.call import AttachOptions, device_of, guarded_call, part_call
from nsfw_guard.pipelines.guarded.classes import guarded_class, plain_class
from nsfw_guard.pipelines.guarded.inputs import Latents, TextModel
from nsfw_guard.pipelines.guarded.last_verdicts import LastVerdicts
from nsfw_guard.pipelines.guarded.processors import GUARD_ATTR, guarded, is_guarded, processors_of, vars_of
from nsfw_guard.pipelines.guarded.run import Clips, Cover, GuardedCall, current
from nsfw_guard.verdict import Verdict

log = logging.getLogger(__name__)


class Attachment:
    """A guard on one pipe. It is removed by `detach`, or at the end of a `with` block."""

    def __init__(self, pipe: Any, options: AttachOptions, seam: seams.SeamInfo) -> None:
        self.pipe = pipe
        self.options = options
        self.seam = seam.seam
        self.enabled = True
        self.last = LastVerdicts()
        self.originals: dict[str, Any] = {}
        self.parts: list[Attachment] = []
        self.adopted: list[Attachment] = []

    @property
    def guard(self) -> Guard:
        """The guard that judges."""
        return self.options.guard

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """The verdicts of the last call in this thread or task, one for each image or clip that was returned."""
        return self.last.get()

    @property
    def state(self) -> dict[str, str]:
        """The settings in effect."""
        options = self.options
        state = {"seam": self.seam, "enabled": str(self.enabled).lower(), "latents": options.latents}
        state |= {"clips": options.cover.clips, "check_inputs": str(options.check_inputs).lower()}
        state["processors"] = ", ".join(sorted(self.originals)) or "none"
        return {**state, **self.guard.state, "early_stop": "on" if options.early_stop else "off"}

    def run(self, pipe: Any = None) -> GuardedCall:
        """Return a new run, for one call."""
        pipe = self.pipe if pipe is None else pipe
        return GuardedCall(self.guard, self.options.cover, device=device_of(pipe), owner=self)

    def call(self, call: Any, pipe: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the pipe's own call, guarded; unguarded inside the guarded call of a pipeline that it is part of."""
        outer = current()
        if outer is not None and isinstance(outer.owner, Attachment) and self in outer.owner.family():
            return part_call(call, pipe, args, kwargs, run=outer)
        if not self.enabled:
            log.warning("%s runs unguarded: disable_safety_checker() was called on it", type(pipe).__name__)
            return call(pipe, *args, **kwargs)
        run = self.run(pipe)
        self.last.put(())  # a call that raises must not show the verdicts of the one before
        out = guarded_call(call, pipe, args, kwargs, options=self.options, run=run)
        self.last.put(run.verdicts)
        return out

    def turn(self, *, on: bool) -> None:
        """Turn the guard off or on, together with those of the pipe's parts."""
        for attachment in (self, *self.family()):
            attachment.enabled = on

    def family(self) -> list[Attachment]:
        """Return the attachments of the pipelines that are parts of this one."""
        return [a for part in (*self.parts, *self.adopted) for a in (part, *part.family())]

    def put(self) -> None:
        """Put the guarded class and processors in place."""
        pipe = self.pipe
        self.originals = processors_of(pipe)
        for name, original in self.originals.items():
            vars(pipe)[name] = guarded(original, self)
        vars(pipe)[GUARD_ATTR] = self
        pipe.__class__ = guarded_class(type(pipe))

    def detach(self) -> None:
        """Restore the pipe."""
        detach(self.pipe)

    def __enter__(self) -> Attachment:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if vars(self.pipe).get(GUARD_ATTR) is self:
            self.detach()

    def __deepcopy__(self, memo: dict[int, Any]) -> Attachment:
        pipe = memo.get(id(self.pipe))
        if pipe is None:  # a part of the pipe is copied, not the pipe
            return self
        twin = memo[id(self)] = Attachment(pipe, self.options, seams.SeamInfo(self.seam))
        twin.enabled = self.enabled
        twin.originals = copy.deepcopy(self.originals, memo)
        twin.parts, twin.adopted = copy.deepcopy(self.parts, memo), copy.deepcopy(self.adopted, memo)
        return twin


def attach(
    pipe: Any,
    guard: Guard,
    *,
    clips: Clips = "whole",
    margin: int = 8,
    latents: Latents = "refuse",
    check_inputs: bool = False,
    text_model: TextModel | None = None,
    early_stop: EarlyStop | None = None,
) -> Attachment:
    """Guard a pipeline: from now on every image that it returns is judged, and flagged ones are acted on.

    Args:
        pipe: any diffusers pipeline that makes images or clips, including modular ones.
        guard: the guard.
        clips: the part of a clip with a flagged frame that is acted on: "whole" for all of it, "frames" for that frame
            and `margin` neighbours on both sides.
        latents: "refuse" raises an error for `output_type="latent"`; "allow" returns latents unchecked, for a base
            whose later stage is guarded.
        check_inputs: judge the images that are passed in, before any step runs.
        text_model: called with the prompts; returns for each the reason to refuse it, or None.
        early_stop: stops generations that are certain to be blocked. Its learnt heads must be of this pipe and guard.

    Example:
        ```python
        with attach(pipe, guard):
            out = pipe("a large red disc on white", num_inference_steps=10, guidance_scale=3.0)
        print(out.nsfw_content_detected, out.verdicts[0].reason)
        ```
    """
    if not isinstance(guard, Guard):
        raise ConfigError(
            f"attach expects a Guard, got {type(guard).__name__}: make one with Guard.from_pretrained('marqo')"
        )
    if latents not in {"refuse", "allow"}:
        raise ConfigError(f"latents must be 'refuse' or 'allow', got {latents!r}")
    seam = seams.check_coverable(pipe)
    options = AttachOptions(
        guard=guard,
        cover=Cover(clips=clips, margin=margin),
        latents=latents,
        check_inputs=check_inputs,
        text_model=text_model,
        early_stop=early_stop,
    )
    if GUARD_ATTR in vars(pipe):
        raise ConfigError(f"this {type(pipe).__name__} already has a guard: detach it first")
    if early_stop is not None:
        early_stop.check(pipe, guard)
    prove(guard, pipe)
    return _attach(pipe, options, seam)


def _attach(pipe: Any, options: AttachOptions, seam: seams.SeamInfo) -> Attachment:
    attachment = Attachment(pipe, options, seam)
    inner = [v for k, v in vars(pipe).items() if seams.is_pipeline(v) and seams.classify(plain_class(v)).seam]
    for part in inner:
        attached = vars(part).get(GUARD_ATTR)
        if attached is not None and attached.guard is not options.guard:
            raise ConfigError(f"the {type(part).__name__} in this pipeline already has another guard: detach it first")
    for part in inner:
        attached = vars(part).get(GUARD_ATTR)
        if attached is None:
            attachment.parts.append(_attach(part, options, seams.classify(type(part))))
        else:
            attachment.adopted.append(attached)
    attachment.put()
    return attachment


def detach(pipe: Any) -> None:
    """Remove the guard from a pipeline and restore its class and processors.

    Example:
        ```python
        attach(pipe, guard)
        detach(pipe)  # pipe is what it was
        ```
    """
    attachment = vars_of(pipe).get(GUARD_ATTR)
    if not isinstance(attachment, Attachment):
        raise ConfigError(f"this {type(pipe).__name__} has no guard: attach one first")
    if plain_class(pipe) is type(pipe):
        raise ConfigError(
            f"the class of this {type(pipe).__name__} was changed after a guard was attached: undo that change first"
        )
    for name, original in attachment.originals.items():
        if is_guarded(vars(pipe).get(name)):  # else it was replaced in the meantime
            vars(pipe)[name] = original
    del vars(pipe)[GUARD_ATTR]
    pipe.__class__ = plain_class(pipe)
    for part in attachment.parts:
        if vars(part.pipe).get(GUARD_ATTR) is part:
            detach(part.pipe)


def prove(guard: Guard, pipe: Any) -> None:
    """Check that the model answers on the device of the pipe.

    Raises:
        SelfTestError: it fails, or its answers are not probabilities.
    """
    canary = next(iter(canaries().values()))[None].to(device_of(pipe) or "cpu")
    try:
        (scores,) = checked_scores(guard.backend, [Frames(canary)], 1, embeddings=False, digests=False)
    except Exception as error:
        raise SelfTestError(
            f"{guard.spec.name!r} fails on the pipeline's device ({error}): no guard was attached"
        ) from error
    if not scores.finite or scores.fault:
        raise SelfTestError(f"{guard.spec.name!r} returns no scores on the pipeline's device: no guard was attached")
