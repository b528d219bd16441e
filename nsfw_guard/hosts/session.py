"""One guard for a host: it never raises, it checks an image once, and what it could not check it covers."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from PIL import Image
from torch import Tensor

from nsfw_guard.errors import NsfwGuardError
from nsfw_guard.guard import Guard
from nsfw_guard.hosts import covers, host_images
from nsfw_guard.hosts.build import Build, build_guard
from nsfw_guard.hosts.coverage import Coverage, Exit
from nsfw_guard.hosts.faults import Faults, in_words
from nsfw_guard.hosts.host_images import Layout
from nsfw_guard.hosts.label import describe
from nsfw_guard.hosts.memory import Memory
from nsfw_guard.hosts.settings import Settings, locked
from nsfw_guard.verdict import Outcome, Verdict, released
from nsfw_guard.version import __version__

log = logging.getLogger(__name__)

PREVIEW = "preview"
UNKNOWN = "unsupported object where an image was expected"
V = TypeVar("V", bound="Verdict | None")


@dataclass(frozen=True)
class GuardedImages(Generic[V]):
    """Images as they may leave, in order: a list, or a batch where a batch came.

    Args:
        images: the images.
        verdicts: why, one an image; none where nothing was checked, because the guard is off.
        covered: which of them are not what they were, one an image.
    """

    images: Any
    verdicts: list[V]
    covered: list[bool]


class HostGuard:
    """Settings, a guard, a memory of what was seen, and counters. One a process, safe under threads.

    Args:
        host: its name, for `status`.
        exits: the ways out of it.
        build: makes the guard; called when the first image comes, or by `warm_up`.
    """

    def __init__(self, host: str, exits: Iterable[Exit] = (), *, build: Build = build_guard) -> None:
        self.host, self.coverage, self.counts = host, Coverage(exits), Counter[str]()
        self._build, self._lock = build, threading.RLock()
        self._guard: Guard | None = None
        self._memory, self.faults = Memory(), Faults()
        self._unreadable = False  # the locked settings: no other may take their place
        self.startup_error = ""
        self.locked_settings: Settings | None = None
        self.settings = Settings()
        try:
            self.locked_settings = locked()
        except Exception as error:  # noqa: BLE001  (what the owner fixed cannot be read: nothing may leave)
            self._unreadable = True
            self.startup_error = f"the locked settings cannot be read: {error}"
            self.locked_settings = Settings(action="block", previews="hide")
            log.error("NSFW guard: every image is covered: %s", self.startup_error)
        self.settings = self.locked_settings or self.settings

    def configure(self, wanted: Settings, *, try_out: bool = False) -> Settings:
        """Takes what a user chose, as far as the owner lets it; gives what is in effect.

        Args:
            wanted: what was chosen.
            try_out: build the guard now; what cannot be built is not taken.

        Raises:
            Exception: `try_out`, and no guard can be built of it, though one could be of what is in effect.
        """
        effective = wanted if self.locked_settings is None else self.locked_settings.tightened(wanted)
        with self._lock:
            if effective == self.settings:
                return effective
            guard = self._guard if effective.builds_as(self.settings) else None
            if try_out and guard is None and effective.enabled and not self._unreadable:
                guard = self._try(effective)
            self.settings, self._guard = effective, guard
            self._memory = Memory()  # after the guard: whoever has the new memory has no old guard
            if not self._unreadable:
                self.startup_error = ""
        return effective

    def _try(self, wanted: Settings) -> Guard | None:
        """The guard of these settings; None where it fails as what is in effect does: that is not their fault."""
        try:
            return self._build(wanted, self.locked_settings is not None)
        except Exception as error:
            if self.startup_error == in_words(error):
                return None
            raise

    def warm_up(self) -> str:
        """Loads the model now, where the guard is on; gives why it could not, or nothing."""
        if self.settings.enabled:
            self._ready()
        return self.startup_error

    def guard_images(
        self, images: Sequence[Any], *, layout: Layout | None = None, where: str = ""
    ) -> GuardedImages[Verdict]:
        """Return the images as they may leave: in place where their kind allows it, else other objects. Never raises.

        Args:
            images: PIL images, arrays or tensors of one image each.
            layout: where the channels of arrays and tensors are.
            where: the hook, for the counters.
        """
        self.counts[f"hook {where}"] += 1
        if not self.settings.enabled:
            return GuardedImages(list(images), [], [False] * len(images))
        try:
            verdicts = self._verdicts(images, layout, logged=where != PREVIEW)
            pairs = [self._leave(p, v, layout) for p, v in zip(images, verdicts, strict=True)]
            return GuardedImages([image for image, _ in pairs], verdicts, [covered for _, covered in pairs])
        except BaseException as error:
            self.faults.say("a hook failed: every image of it is covered", error)
            verdicts = [self._error(in_words(error)) for _ in images]
            label = self.settings.label
            safe = [covers.cover_solid(p, v, layout, label=label) for p, v in zip(images, verdicts, strict=True)]
            if not isinstance(error, Exception):
                raise
            return GuardedImages(safe, verdicts, [True] * len(safe))

    def cover(self, images: Sequence[Any], verdict: Verdict, *, layout: Layout | None = None) -> GuardedImages[Verdict]:
        """Return the images, all painted solid whatever they show: their prompt was refused, or a job
        asked for it.
        """
        safe = [covers.cover_solid(image, verdict, layout, label=self.settings.label) for image in images]
        for image in safe:
            self._memory.remember("cover " + host_images.fingerprint(image), verdict)
        return GuardedImages(safe, [verdict] * len(safe), [True] * len(safe))

    def judge(self, source: Any) -> Verdict:
        """Return the verdict on one image, also on a file's bytes. Nothing is painted, nothing is raised."""
        guard = self._ready()
        try:
            return self._error(self.startup_error) if guard is None else guard.check([source])[0]
        except Exception as error:  # noqa: BLE001
            self.faults.say("an image could not be judged", error)
            return self._error(in_words(error))

    def preview(self, image: Any, *, layout: Layout | None = None) -> Any:
        """Return an image that is still being drawn, as it may be shown. Never raises, never edits it."""
        self.counts["previews"] += 1
        if not self.settings.enabled or image is None:
            return image
        try:
            if self.settings.previews == "pixelate" and isinstance(image, Image.Image):
                return host_images.pixelated(image)
            copy = image.clone() if isinstance(image, Tensor) else image.copy()
            if self.settings.previews == "check":
                (shown,) = self.guard_images([copy], layout=layout, where=PREVIEW).images
                return shown
            return host_images.paint(copy, None, layout)
        except Exception as error:  # noqa: BLE001
            self.faults.say("a preview could not be covered: another image stands in", error)
            return host_images.solid(64, 64)

    def refuse(self, prompts: str | Sequence[str]) -> Verdict | None:
        """Return why the prompts are refused, or None. What cannot be read is refused."""
        if not (self.settings.enabled and self.settings.prompts):
            return None
        guard = self._ready()
        if guard is None:
            return self._error(self.startup_error)
        try:
            refused = [verdict for verdict in guard.check_prompts(prompts) if verdict.flagged]
        except Exception as error:  # noqa: BLE001
            self.faults.say("a prompt could not be read: it is refused", error)
            refused = [self._error(type(error).__name__)]
        return refused[0] if refused else None

    def count_refusal(self, why: str, *, is_fault: bool) -> None:
        """Count a job or request that is stopped: hosts ask about the same one several times.

        Args:
            why: in words.
            is_fault: the guard cannot judge; else the policy refuses the prompt.
        """
        self.counts["jobs stopped by a fault" if is_fault else "prompts refused"] += 1
        log.warning("NSFW guard: %s: %s", "nothing is drawn" if is_fault else "a prompt is refused", why)

    def announce(self, where: str = "") -> None:
        """Says in one line of the log what is in effect, as a start should."""
        chosen = self.settings
        by = "locked by the owner" if self.locked_settings is not None else "as chosen"
        if not chosen.enabled:
            log.warning("NSFW guard: OFF, since `enabled` is false (%s): nothing is checked", by)
        elif not self.startup_error:  # that was said as it came up
            log.info("NSFW guard: on%s: %s, %s, %s", where and f", {where}", chosen.model, chosen.action, by)

    def status(self) -> dict[str, Any]:
        """Return what is in effect, JSON-ready."""
        guard = self._guard
        status = asdict(self.settings) | {"thresholds": dict(self.settings.thresholds)}
        return {
            "host": self.host,
            "version": __version__,
            "enabled": self.settings.enabled,
            "locked": self.locked_settings is not None,
            "fault": self.startup_error,
            "settings": status,
            "guard": dict(guard.state) if guard is not None else {},
            "counts": dict(self.counts),
            "open": self.coverage.open,
        }

    def _ready(self) -> Guard | None:
        """The guard, made when it is first needed; None where it cannot be made, with the fault kept."""
        with self._lock:
            if self._guard is None and not self.startup_error:
                try:
                    self._guard = self._build(self.settings, self.locked_settings is not None)
                except Exception as error:
                    self.startup_error = in_words(error)
                    unforeseen = not isinstance(error, NsfwGuardError)  # ours say how to mend them: one line will do
                    log.error("NSFW guard: every image is covered: %s", self.startup_error, exc_info=unforeseen)
            return self._guard

    def _verdicts(self, images: Sequence[Any], layout: Layout | None, *, logged: bool) -> list[Verdict]:
        """One verdict an image, said in the log; those whose pixels were judged before are not judged again."""
        memory = self._memory  # before the guard: a verdict of one that is exchanged meanwhile goes into the old one
        guard = self._ready()
        if guard is None:
            return [self._error(self.startup_error) for _ in images]
        keys = [host_images.judged_as(image) if host_images.is_image(image) else "" for image in images]
        known = {key: verdict for key in set(keys) if key and (verdict := memory.recall(key)) is not None}
        new = {key: image for key, image in zip(keys, images, strict=True) if key and key not in known}
        if new:
            fresh = guard.check([host_images.readable(image, layout) for image in new.values()])
            for key, verdict in zip(new, fresh, strict=True):
                known[key] = verdict
                self.counts[verdict.outcome.name.lower()] += 1
                if logged and verdict.flagged:
                    log.warning("NSFW guard: %s", describe(verdict))
                if verdict.outcome is not Outcome.ERROR:
                    memory.remember(key, verdict)
        return [known[key] if key else self._error(UNKNOWN) for key in keys]

    def _leave(self, image: Any, verdict: Verdict, layout: Layout | None) -> tuple[Any, bool]:
        """One image as it may leave, and whether it is covered. A failed cover does not stop the others."""
        try:
            if self._may_leave(verdict):
                return image, False
            return image if self._covered_before(image) else self._cover(image, verdict, layout), True
        except Exception as error:  # noqa: BLE001
            self.faults.say("an image could not be covered by the action: a solid one stands in", error)
            return covers.cover_solid(image, verdict, layout, label=self.settings.label), True

    def _may_leave(self, verdict: Verdict) -> bool:
        observe = self.settings.action == "flag"
        return self._guard is not None and released(verdict, cover_review=False, observe=observe, fail_open=False)

    def _cover(self, image: Any, verdict: Verdict, layout: Layout | None) -> Any:
        if self._guard is not None and verdict.outcome is not Outcome.ERROR:
            self._keep_original(image, layout)
            (cover,) = self._guard.apply([host_images.as_pil(image, layout)], [verdict])
            painted = covers.cover(image, cover, verdict, layout, label=self.settings.label)
        else:
            painted = covers.cover_solid(image, verdict, layout, label=self.settings.label)
        # The cover is known, so that the next hook leaves it alone.
        self._memory.remember("cover " + host_images.fingerprint(painted), verdict)
        self._memory.remember(host_images.judged_as(painted), verdict)
        return painted

    def _covered_before(self, image: Any) -> bool:
        return (
            host_images.is_image(image) and self._memory.recall("cover " + host_images.fingerprint(image)) is not None
        )

    def _keep_original(self, image: Any, layout: Layout | None) -> None:
        """Only where a folder was named on purpose. A disk that is full must not keep an image from being covered."""
        try:
            if self.settings.originals:
                host_images.keep(image, layout, Path(self.settings.originals))
        except Exception as error:  # noqa: BLE001
            self.faults.say("an original could not be kept", error)

    def _error(self, why: str) -> Verdict:
        self.counts["error"] += 1
        return Verdict.error(why or "could not be checked")
