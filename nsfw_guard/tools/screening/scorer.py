"""What judges the batches of a scan: it can be sent to another process, and loads its model there, once."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nsfw_guard.backends.examples.bank import Bank
from nsfw_guard.guard import Guard
from nsfw_guard.imaging.clips.clip import CLIP_LIMITS, ClipSampling
from nsfw_guard.imaging.limits import Limits
from nsfw_guard.tools.clips import JudgedClip, check_clip
from nsfw_guard.tools.screening.recording import recording
from nsfw_guard.tools.screening.rows import Row, row_of
from nsfw_guard.tools.screening.sources.entries import Content, Entry, Unreadable
from nsfw_guard.verdict import Outcome, Verdict, released


@dataclass(frozen=True, kw_only=True)
class ScanSettings:
    """How images are judged. Two runs with the same settings give the same rows.

    Args:
        model, policy, views, resize, device, trust_guard: as in `Guard.from_pretrained`.
        calibration: a file of `Calibration.save`; empty for none.
        bank: a folder of examples, read once; empty for none.
        limits: for decoding.
        batch_size: images that are judged at a time.
        embeddings: whether rows hold the embedding.
        hashes: whether rows hold the perceptual hash.
        every_nth, per_second: which frames of a video file are looked at. With fewer than all, it is at best REVIEW.
    """

    model: str = "marqo"
    policy: str = "default"
    views: str = "cover"
    resize: str = "exact"
    device: str | None = None
    trust_guard: bool = False
    calibration: str = ""
    bank: str = ""
    limits: Limits = field(default_factory=Limits)
    batch_size: int = 16
    embeddings: bool = True
    hashes: bool = True
    every_nth: int = 1
    per_second: float | None = None

    @property
    def sampling(self) -> ClipSampling:
        """Which frames of a video file are looked at."""
        return ClipSampling(nth=self.every_nth, per_second=self.per_second)

    def guard(self) -> Guard:
        """Load the model, and return its guard."""
        resize: Any = self.resize
        return Guard.from_pretrained(
            self.model,
            policy=self.policy,
            views=self.views,
            resize=resize,
            device=self.device,
            trust_guard=self.trust_guard,
            limits=self.limits,
            calibration=self.calibration or None,
            bank=Bank.load(self.bank) if self.bank else None,
        )


class Scorer:
    """A function from batches of contents to rows. Threads may share it.

    Example:
        ```python
        scorer = Scorer(ScanSettings(model="demo-shapes"))
        (row,) = scorer(["a.png"], [Path("a.png").read_bytes()])
        ```
    """

    def __init__(self, settings: ScanSettings) -> None:
        self.settings = settings
        self._lock = threading.Lock()
        self._guard: Guard | None = None

    def __getstate__(self) -> Mapping[str, Any]:
        return {"settings": self.settings}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__init__(state["settings"])  # type: ignore[misc]  # the lock and the model stay behind

    @property
    def guard(self) -> Guard:
        """The guard, loaded on first use."""
        with self._lock:
            if self._guard is None:
                guard = self.settings.guard()
                embeddings = self.settings.embeddings and width_of(guard.backend) > 0
                self._guard = recording(guard, embeddings=embeddings, hashes=self.settings.hashes)
            return self._guard

    @property
    def width(self) -> int:
        """The numbers of an embedding; 0 where rows hold none."""
        return width_of(self.guard.backend) if self.settings.embeddings else 0

    def __call__(self, keys: Sequence[str], contents: Sequence[Content]) -> list[Row]:
        """Return a row for each image, in order. An image that cannot be judged is a row that says why."""
        rows: dict[int, Row] = {}
        data = {i: content for i, content in enumerate(contents) if isinstance(content, bytes) and not is_clip(keys[i])}
        for i, verdict in zip(data, self._verdicts(list(data.values())), strict=True):
            rows[i] = row_of(
                keys[i], _as_released(verdict), sha256=hashlib.sha256(data[i]).hexdigest(), size=len(data[i])
            )
        for i, content in enumerate(contents):
            if isinstance(content, bytes) and i not in data:
                rows[i] = self._of_clip(keys[i], content)
            if isinstance(content, Unreadable):
                rows[i] = row_of(keys[i], self._signed(Verdict.error(content.reason)), sha256="", size=0)
        return [rows[i] for i in range(len(contents))]

    def _verdicts(self, data: Sequence[bytes]) -> list[Verdict]:
        if not data:
            return []
        verdicts = self.guard.check(list(data))
        # A model that fails has judged no image of the call: one by one, only the image at fault is an ERROR.
        if len(data) > 1 and all(v.outcome is Outcome.ERROR for v in verdicts):
            verdicts = [self.guard.check([one])[0] for one in data]
        return verdicts

    def _of_clip(self, key: str, data: bytes) -> Row:
        try:
            # A clip is not decoded in a process of its own: where that was asked for, it is refused.
            limits = replace(CLIP_LIMITS, process=self.settings.limits.process)
            clip = check_clip(self.guard, data, limits=limits, every=self.settings.sampling)
        except Exception as error:  # noqa: BLE001 - a clip that cannot be judged is a row, and no end
            clip = JudgedClip(Verdict.error(f"{type(error).__name__}: {error}"), {})
        verdict = _as_released(clip.verdict if clip.verdict.model else self._signed(clip.verdict))
        return row_of(key, verdict, sha256=hashlib.sha256(data).hexdigest(), size=len(data), clip=clip)

    def _signed(self, verdict: Verdict) -> Verdict:
        guard = self.guard
        return replace(
            verdict,
            model=guard.spec.name,
            revision=guard.spec.version,
            policy=guard.policy.name,
            policy_hash=guard.policy.hash,
            state=guard.state,
        )


def _as_released(verdict: Verdict) -> Verdict:
    """The verdict, or an ERROR where a guard would not release the image although its outcome allows it."""
    if verdict.flagged or released(verdict, cover_review=False, observe=False, fail_open=False):
        return verdict
    return replace(
        verdict, outcome=Outcome.ERROR, reason=f"not released, the model passed no self-test: {verdict.reason}"
    )


def rules_of(guard: Guard) -> dict[str, Any]:
    """Return what decides on an image: the same wherever, and whenever, the rows of one scan are written."""
    backend: Any = guard.backend
    calibrations = []
    while backend is not None:
        calibrations += [backend.calibration.hash] if hasattr(backend, "calibration") else []
        backend = getattr(backend, "backend", None)
    return {
        "model": guard.spec.name,
        "revision": guard.spec.version,
        "policy_hash": guard.policy.hash,
        "calibration_hash": "".join(calibrations),
        "state": dict(guard.state),
    }


def width_of(backend: Any) -> int:
    """Return the numbers of a model's embedding; 0 where it has none, or does not say."""
    while hasattr(backend, "backend"):
        backend = backend.backend
    return int(getattr(backend, "width", 0))


def is_clip(key: str) -> bool:
    """Return whether a key is that of a video file."""
    return Entry(key, 0, "").is_clip
