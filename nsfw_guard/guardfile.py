"""A guard from a model's name, and a guard as a folder: weights, record, policy and action together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from nsfw_guard.actions import Action
from nsfw_guard.backends.base import Backend, Label, Runtime
from nsfw_guard.backends.files.folder import relaxed_record
from nsfw_guard.backends.files.inside import folder_of, is_path
from nsfw_guard.backends.registry import load
from nsfw_guard.backends.selftest import canaries
from nsfw_guard.backends.wrappers.wrap import Calibrated
from nsfw_guard.calibration import Calibration
from nsfw_guard.errors import ConfigError
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.imaging.limits import Limits
from nsfw_guard.imaging.preprocess import Resize
from nsfw_guard.listeners.counter import Listener
from nsfw_guard.policy.policy import Policy
from nsfw_guard.relaxed import refuse
from nsfw_guard.saved import CALIBRATION, Asked, read_calibration, read_saved, relaxed_by, write_saved

if TYPE_CHECKING:
    from nsfw_guard.guard import Guard


class Pretrained:
    """How a guard comes from a name or a folder, and goes into one."""

    backend: Backend
    policy: Policy
    action: Action
    on_review: Action
    _signature: dict[str, Any]

    @property
    def requested(self) -> Mapping[str, str]:
        """What was asked for, to hold against `state`."""
        told: Mapping[str, str] = self._signature["requested"]
        return told

    @classmethod
    def from_pretrained(
        cls,
        ref: str | Path,
        *,
        policy: Policy | str | Path | Mapping[str, Any] | None = None,
        action: Action | str | None = None,
        on_review: Action | str | None = None,
        calibration: Calibration | str | Path | None = None,
        listeners: Sequence[Listener] = (),
        fail_open: bool = False,
        limits: Limits | None = None,
        time_limit: float | None = None,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype = "float32",
        views: str = "cover",
        resize: Resize = "exact",
        batch: int = 32,
        labels: Mapping[str, str | Label | None] | None = None,
        weights: str | Path | None = None,
        runtime: Runtime | None = None,
        download: bool = True,
        trust_guard: bool = False,
    ) -> Guard:
        """Loads a model and builds a guard around it.

        Args:
            ref: a catalogue name, "hf:owner/name@commit", "timm:architecture", or a folder, written as a path.
            policy, action, on_review: as in `Guard`; what a saved guard's folder says, else "default", "block", "flag".
            calibration: a Calibration or its file; what a saved guard's folder holds, else none.
            listeners, fail_open, limits, time_limit: as in `Guard`.
            device, dtype, views, resize, batch, labels, weights, runtime, download: as in `load`.
            trust_guard: what a folder relaxes of its own guard holds, and stands in `requested`; else it is an error.
        """
        from nsfw_guard.guard import Guard

        backend = load(
            ref, device=device, dtype=dtype, views=views, resize=resize, batch=batch, labels=labels, weights=weights,
            runtime=runtime, download=download, trust_guard=trust_guard,
        )  # fmt: skip
        asked = Asked(policy=policy, action=action, on_review=on_review, calibration=calibration)
        saved = read_saved(folder_of(ref)) if is_path(ref) else Asked()
        relaxed = relaxed_record(backend.spec, labels) if is_path(ref) or str(ref).startswith("hf:") else []
        wanted = asked.above(saved)
        if wanted.calibration is not None:
            backend = Calibrated(backend, read_calibration(wanted.calibration))
        relaxed += relaxed_by(saved, asked, backend)
        if not trust_guard:
            refuse(relaxed, Path(ref).name)
        how = {"views": views, "resize": resize, "runtime": runtime or "as the files say"}
        how |= {"device": str(device or "follows the picture"), "dtype": str(dtype).removeprefix("torch.")}
        how |= {"trusted": "; ".join(relaxed)} if relaxed else {}
        maker: type[Guard] = cls if issubclass(cls, Guard) else Guard
        return maker(
            backend,
            policy=wanted.policy or "default",
            action=wanted.action or "block",
            on_review=wanted.on_review or "flag",
            listeners=listeners, fail_open=fail_open, limits=limits, time_limit=time_limit,
            requested={"model": str(ref), **how, **asked.words(saved)},
        )  # fmt: skip

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes weights, record, policy and action into a folder that `from_pretrained` reads.

        What lets a score of 0.99 pass (the action "flag", a cut of 0.99 or more, a category that is never blocked) or
        names a file elsewhere (`Replace(picture=...)`) is written too; it is read with `trust_guard=True` only.
        """
        backend: Any = self.backend
        calibration = None
        while hasattr(backend, "backend"):
            calibration = getattr(backend, "calibration", calibration)
            backend = backend.backend
        if not hasattr(backend, "save_pretrained"):
            raise ConfigError(f"{type(backend).__name__} has no weights to save: give it a save_pretrained(folder)")
        backend.save_pretrained(Path(folder))
        if calibration is not None:
            calibration.save(Path(folder) / CALIBRATION)
        write_saved(Path(folder), self.policy, self.action, self.on_review)

    def warm_up(self, sizes: Sequence[tuple[int, int]] = ((1024, 1024),)) -> None:
        """Runs the model once a size (height, width), so that the first real picture does not wait."""
        for height, width in sizes:
            tile = next(iter(canaries().values())).repeat(1, -(-height // 96), -(-width // 96))
            self.backend.score([Frames(tile[None, :, :height, :width])])
