"""The Guard: backend, policy, action and listeners. Every fault while judging becomes an ERROR verdict here."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nsfw_guard.actions import Action, Flag, covered
from nsfw_guard.backends.base import Backend, Runtime, checked_scores
from nsfw_guard.backends.examples.bank import Bank
from nsfw_guard.backends.files.folder import relaxed_record
from nsfw_guard.backends.files.inside import folder_of, is_path
from nsfw_guard.backends.registry import load_model
from nsfw_guard.backends.selftest import canaries
from nsfw_guard.backends.spec import Label
from nsfw_guard.backends.wrappers.time_limited import TimeLimited
from nsfw_guard.calibration import Calibration
from nsfw_guard.errors import ConfigError, ImageError
from nsfw_guard.guard_folder import (
    BANK,
    CALIBRATION,
    Asked,
    around,
    read_saved,
    refuse_leftovers,
    relaxed_by,
    write_saved,
)
from nsfw_guard.imaging.frames import Batch, Frames, count_of, first_frame, first_frames, in_groups
from nsfw_guard.imaging.limits import Limits
from nsfw_guard.imaging.preprocess import Resize
from nsfw_guard.imaging.put_back import put_back
from nsfw_guard.imaging.quantise import ValueRange
from nsfw_guard.listeners.base import Listener, notify, wanted_by
from nsfw_guard.listeners.counter import OutcomeCounter
from nsfw_guard.policy.policy import Policy
from nsfw_guard.relaxed import refuse
from nsfw_guard.verdict import Outcome, Verdict, released, worst

log = logging.getLogger(__name__)

PROMPT = "prompt"  # the category of verdicts on prompts


class Guard:
    """A judge of images that also acts on flagged ones. `Guard.from_pretrained` builds one from a model's name.

    Args:
        backend: the model that scores.
        policy: a preset's name, a TOML file, a mapping or a Policy.
        action, on_review: for blocked images and for those under review: "block", "blur", "pixelate", "replace",
            "raise", or "flag", which only marks them.
        listeners: called with every verdict (an `Audit`, an index ...); if one fails, its images become ERROR.
        fail_open: release images that could not be judged. Logged on every use.
        limits, timeout: the largest file that is decoded; the seconds the model may take.
        requested: the settings that were asked for, kept in each verdict.

    Example:
        ```python
        guard = Guard.from_pretrained("demo-shapes", policy="strict", action="blur")
        safe, verdicts = guard([image])
        print(verdicts[0].outcome.name, verdicts[0].reason)
        ```
    """

    def __init__(
        self,
        backend: Backend,
        *,
        policy: Policy | str | Path | Mapping[str, Any] = "default",
        action: Action | str = "block",
        on_review: Action | str = "flag",
        listeners: Sequence[Listener] = (),
        fail_open: bool = False,
        limits: Limits | None = None,
        timeout: float | None = None,
        requested: Mapping[str, str] | None = None,
    ) -> None:
        self.spec = spec = backend.spec
        self.backend = backend if timeout is None else TimeLimited(backend, timeout)
        self.policy = Policy.load(policy).bind(spec)
        self.action, self.on_review = Action.of(action), Action.of(on_review)
        self.counter, self.fail_open, self.limits = OutcomeCounter(), fail_open, limits
        self.listeners: tuple[Listener, ...] = tuple(listeners)
        self.wants = wanted_by(listeners)
        acts = {"action": self.action.name, "on_review": self.on_review.name, "fail_open": str(fail_open).lower()}
        decoder = {"decoder": "a process of its own"} if limits and limits.process else {}
        held = ", ".join(self.policy.reviews_only)
        blocks = {"blocks": f"not {held} (review rules only)"} if held else {}
        blocks = blocks if self.policy.blocks else {"blocks": "nothing (review rules only)"}
        clips = {"clip_rule": str(self.policy.clips)} if self.policy.clips.relaxes else {}
        self.state = {**self.backend.state(), **decoder, **blocks, **clips, **acts}
        self._signature: dict[str, Any] = {"state": self.state, "requested": {**acts, **(requested or {})}}
        self._signature |= {"policy": self.policy.name, "policy_hash": self.policy.hash}
        self._signature |= {"model": spec.name, "revision": spec.version}

    @classmethod
    def from_pretrained(
        cls,
        ref: str | Path,
        *,
        policy: Policy | str | Path | Mapping[str, Any] | None = None,
        action: Action | str | None = None,
        on_review: Action | str | None = None,
        calibration: Calibration | str | Path | None = None,
        bank: Bank | str | Path | None = None,
        listeners: Sequence[Listener] = (),
        fail_open: bool = False,
        limits: Limits | None = None,
        timeout: float | None = None,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype = "float32",
        views: str = "cover",
        resize: Resize = "exact",
        batch_size: int = 32,
        labels: Mapping[str, str | Label | None] | None = None,
        weights: str | Path | None = None,
        runtime: Runtime | None = None,
        local_files_only: bool = False,
        trust_guard: bool = False,
    ) -> Guard:
        """Load a model and build a guard around it.

        Args:
            ref: a catalogue name, "hf:owner/name@commit", "timm:architecture", or a folder, written as a path.
            policy, action, on_review: as in `Guard`; by default those of a saved guard's folder, else "default",
                "block" and "flag".
            calibration: a Calibration or its file; by default, as with a bank, that of a saved guard's folder.
            bank: examples that block or allow what is like them: a Bank, or its folder, which is followed.
            listeners, fail_open, limits, timeout: as in `Guard`.
            device, dtype, views, resize, batch_size, labels, weights, runtime, local_files_only: as in `load_model`.
            trust_guard: accept settings of a folder that relax its own guard, and list them in `requested`; without
                it they are an error.
        """
        backend = load_model(
            ref, device=device, dtype=dtype, views=views, resize=resize, batch_size=batch_size, labels=labels,
            weights=weights, runtime=runtime, local_files_only=local_files_only, trust_guard=trust_guard,
        )  # fmt: skip
        asked = Asked(policy=policy, action=action, on_review=on_review, calibration=calibration, bank=bank)
        saved = read_saved(folder_of(ref)) if is_path(ref) else Asked()
        relaxed = relaxed_record(backend.spec, labels) if is_path(ref) or str(ref).startswith("hf:") else []
        wanted = asked.above(saved)
        backend = around(backend, wanted)
        relaxed += relaxed_by(saved, asked, backend)
        if not trust_guard:
            refuse(relaxed, Path(ref).name)
        how = {"views": views, "resize": resize, "runtime": runtime or "as the files say"}
        how |= {"device": str(device or "follows the image"), "dtype": str(dtype).removeprefix("torch.")}
        how |= {"trusted": "; ".join(relaxed)} if relaxed else {}
        return cls(
            backend,
            policy=wanted.policy or "default",
            action=wanted.action or "block",
            on_review=wanted.on_review or "flag",
            listeners=listeners, fail_open=fail_open, limits=limits, timeout=timeout,
            requested={"model": str(ref), **how, **asked.words(saved)},
        )  # fmt: skip

    @property
    def requested(self) -> Mapping[str, str]:
        """The settings that were asked for, to compare with `state`."""
        requested: Mapping[str, str] = self._signature["requested"]
        return requested

    def check(self, images: Any, *, value_range: ValueRange = "unit") -> list[Verdict]:
        """Judge images and return one verdict each.

        Images are a tensor (B, 3, H, W) in [0, 1] ("signed": [-1, 1]), PIL, NumPy, a path, bytes, or a list of them.
        """
        return self._check(images, value_range, {})

    def apply(self, images: Any, verdicts: Sequence[Verdict], *, value_range: ValueRange = "unit") -> Any:
        """Act on verdicts and return the images in the type given: allowed ones bit for bit, the others covered."""
        return self._apply(images, verdicts, value_range, {})

    def __call__(self, images: Any, *, value_range: ValueRange = "unit") -> tuple[Any, list[Verdict]]:
        """Judge images and act on them: `check` and `apply` in one, decoding each file once."""
        firsts: dict[int, Tensor] = {}
        verdicts = self._check(images, value_range, firsts)
        return self._apply(images, verdicts, value_range, firsts), verdicts

    def save_pretrained(self, save_directory: str | Path) -> None:
        """Write weights, record, policy and action into a folder that `from_pretrained` reads.

        Settings that let a score of 0.99 pass (the action "flag", a threshold of 0.99 or more, a category that is
        never blocked) or name a file elsewhere (`Replace(image=...)`) are written too, but `from_pretrained` accepts
        them only with `trust_guard=True`.
        """
        backend: Any = self.backend
        calibration = bank = None
        while hasattr(backend, "backend"):
            calibration = getattr(backend, "calibration", calibration)
            bank = getattr(backend, "bank", bank)
            backend = backend.backend
        if not hasattr(backend, "save_pretrained"):
            raise ConfigError(f"{type(backend).__name__} cannot be saved: it has no save_pretrained(folder) method")
        refuse_leftovers(Path(save_directory), calibration=calibration is not None, bank=bank is not None)
        backend.save_pretrained(Path(save_directory))
        if calibration is not None:
            calibration.save(Path(save_directory) / CALIBRATION)
        if bank is not None:
            bank.save(Path(save_directory) / BANK)
        write_saved(Path(save_directory), self.policy, self.action, self.on_review, bank=bank is not None)

    def warm_up(self, sizes: Sequence[tuple[int, int]] = ((1024, 1024),)) -> None:
        """Run the model once for each size (height, width), so that the first real image is not slow."""
        for height, width in sizes:
            tile = next(iter(canaries().values())).repeat(1, -(-height // 96), -(-width // 96))
            self.backend.score([Frames(tile[None, :, :height, :width])])

    def check_prompts(self, prompts: str | Sequence[str]) -> list[Verdict]:
        """Judge prompts and return one verdict each. Listeners get the refused verdicts only, never the prompt."""
        texts = list(prompts) if isinstance(prompts, (list, tuple)) else [prompts]
        return notify(self.listeners, [self._of_prompt(text) for text in texts], only_flagged=True)

    def notify(self, verdicts: list[Verdict]) -> list[Verdict]:
        """Call the listeners with verdicts on images, and return the verdicts that hold; only these are counted."""
        counted = notify(self.listeners, verdicts)
        self.counter(counted)
        return counted

    def _of_prompt(self, text: object) -> Verdict:
        if not isinstance(text, str):
            return self._error(f"a prompt must be a str, got {type(text).__name__}")
        try:
            match = self.policy.prompts.find(text) if self.policy.prompts else ""
        except Exception as error:  # noqa: BLE001 - a prompt that was not checked is never let through
            # Without the error's message, which may contain the prompt.
            return self._error(f"the prompt could not be checked: {type(error).__name__}")
        if match:
            return Verdict(Outcome.BLOCK, f"prompt: {match}", category=PROMPT, flags=(PROMPT,), **self._signature)
        return Verdict(Outcome.ALLOW, "prompt: no rule of the policy matches", category=PROMPT, **self._signature)

    def _error(self, why: str | Exception) -> Verdict:
        reason = why if isinstance(why, str) else f"{type(why).__name__}: {why}"
        return Verdict(Outcome.ERROR, reason, **self._signature)

    def _check(self, images: Any, value_range: ValueRange, firsts: dict[int, Tensor]) -> list[Verdict]:
        groups = in_groups(images, value_range=value_range, limits=self.limits)
        return self.notify(self._judge(groups, count_of(images), firsts))

    def _apply(
        self, images: Any, verdicts: Sequence[Verdict], value_range: ValueRange, firsts: Mapping[int, Tensor]
    ) -> Any:
        """`firsts` holds the first frames that are known; the others are read from `images`."""
        if len(verdicts) != count_of(images):
            raise ImageError(f"got {len(verdicts)} verdicts for {count_of(images)} images: pass one verdict per image")
        covers = {}
        for i, verdict in enumerate(verdicts):
            if not self._released(verdict):
                action = self.on_review if verdict.outcome is Outcome.REVIEW else self.action
                frame = firsts.get(i)
                if frame is None:
                    frame = first_frame(images, i, value_range=value_range, limits=self.limits)
                covers[i] = covered(frame.float().div_(255), verdict, action)
        return put_back(images, covers, value_range=value_range)

    def _judge(self, groups: Iterator[Batch], count: int, firsts: dict[int, Tensor]) -> list[Verdict]:
        """The verdicts; puts the first frames of flagged images into `firsts`, where they are in the same group."""
        judged: list[list[Verdict]] = [[] for _ in range(count)]
        faults: dict[int, str] = {}
        partial: dict[int, str] = {}
        try:
            for group in groups:
                begun = {owner for owner in group.owners if not judged[owner]}
                scores = checked_scores(self.backend, group.stacks, len(group.owners), **self.wants)
                for owner, of_frame in zip(group.owners, scores, strict=True):
                    judged[owner].append(self.policy.decide(of_frame))
                firsts |= first_frames(group, {i for i in begun if worst(judged[i]).outcome is not Outcome.ALLOW})
                faults |= group.faults
                partial |= group.partial
        except Exception as error:  # an image that was not judged is never released
            log.exception("could not judge %d images", count)
            return [self._error(error)] * count
        return [self._of_image(verdicts, faults.get(i), partial.get(i)) for i, verdicts in enumerate(judged)]

    def _of_image(self, verdicts: list[Verdict], fault: str | None, partial: str | None) -> Verdict:
        if fault is not None or not verdicts:
            return self._error(fault or "not evaluated: no frame of this image was judged")
        flags = tuple(sorted({flag for verdict in verdicts for flag in verdict.flags}))
        decided = replace(worst(verdicts), flags=flags, **self._signature)
        if partial is not None and decided.outcome < Outcome.REVIEW:
            return replace(decided, outcome=Outcome.REVIEW, reason=f"only {partial} were looked at")
        return decided

    def _released(self, verdict: Verdict) -> bool:
        observe, mark_only = (isinstance(action, Flag) for action in (self.action, self.on_review))
        out = released(verdict, cover_review=not mark_only, observe=observe, fail_open=self.fail_open)
        if out and verdict.flagged:
            log.warning("released although flagged (%s): %r", verdict.outcome.name, verdict.reason)
        return out
