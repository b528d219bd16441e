"""A guard from a model's name, and a guard as a folder: weights, record, policy and action together."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from nsfw_guard.actions import ACTIONS, Action
from nsfw_guard.backends.base import Backend, Label, Runtime
from nsfw_guard.backends.registry import load
from nsfw_guard.backends.selftest import canaries
from nsfw_guard.backends.wrap import Calibrated
from nsfw_guard.calibration import Calibration
from nsfw_guard.errors import ConfigError
from nsfw_guard.images import Frames
from nsfw_guard.imaging.limits import Limits
from nsfw_guard.policy import Policy
from nsfw_guard.preprocess import Resize
from nsfw_guard.tally import Listener

if TYPE_CHECKING:
    from nsfw_guard.guard import Guard

GUARD, CALIBRATION = "guard.json", "calibration.json"


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
    ) -> Guard:
        """Loads a model and builds a guard around it.

        Args:
            ref: a catalogue name, "hf:owner/name@commit", "timm:architecture", or a folder.
            policy, action, on_review: as in `Guard`; what a saved guard's folder says, else "default", "block", "flag".
            calibration: a Calibration or its file; what a saved guard's folder holds, else none.
            listeners, fail_open, limits, time_limit: as in `Guard`.
            device, dtype, views, resize, batch, labels, weights, runtime, download: as in `load`.
        """
        from nsfw_guard.guard import Guard

        saved = _read(Path(ref))
        backend = load(
            ref, device=device, dtype=dtype, views=views, resize=resize, batch=batch, labels=labels, weights=weights,
            runtime=runtime, download=download,
        )  # fmt: skip
        calibration = calibration or saved.get("calibration")
        if calibration is not None:
            told = calibration if isinstance(calibration, Calibration) else Calibration.load(calibration)
            backend = Calibrated(backend, told)
        asked = "as saved" if policy is None and "policy" in saved else policy or "default"
        requested = {"model": str(ref), "policy": _named(asked), "views": views, "resize": resize}
        requested["runtime"] = runtime or "as the files say"
        requested |= {"device": str(device or "follows the picture"), "dtype": str(dtype).removeprefix("torch.")}
        maker: type[Guard] = cls if issubclass(cls, Guard) else Guard
        return maker(
            backend,
            policy=policy or saved.get("policy", "default"),
            action=action or saved.get("action", "block"),
            on_review=on_review or saved.get("on_review", "flag"),
            listeners=listeners,
            fail_open=fail_open,
            limits=limits,
            time_limit=time_limit,
            requested=requested,
        )

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes weights, record, policy and action into a folder that `from_pretrained` reads."""
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
        told = {"policy": self.policy.to_dict(), "action": _told(self.action), "on_review": _told(self.on_review)}
        (Path(folder) / GUARD).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")

    def warm_up(self, sizes: Sequence[tuple[int, int]] = ((1024, 1024),)) -> None:
        """Runs the model once a size (height, width), so that the first real picture does not wait."""
        for height, width in sizes:
            tile = next(iter(canaries().values())).repeat(1, -(-height // 96), -(-width // 96))
            self.backend.score([Frames(tile[None, :, :height, :width])])


def _read(folder: Path) -> dict[str, Any]:
    """What a saved guard's folder says, or nothing."""
    path = folder / GUARD
    if not path.is_file():
        return {}
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        made: dict[str, Any] = {"policy": Policy.load(told["policy"])}
        for which in ("action", "on_review"):
            settings = dict(told[which])
            made[which] = ACTIONS[settings.pop("name")](**settings)
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{GUARD} in {folder.name!r} is unreadable ({error}): save the guard again") from error
    if (folder / CALIBRATION).is_file():
        made["calibration"] = folder / CALIBRATION
    return made


def _named(policy: Policy | str | Path | Mapping[str, Any]) -> str:
    """A policy as it was asked for, in a word."""
    if isinstance(policy, Mapping):
        return str(policy.get("name", "policy"))
    return policy.name if isinstance(policy, Policy) else str(policy)


def _told(action: Action) -> dict[str, Any]:
    return {"name": action.name, **{k: str(v) if isinstance(v, Path) else v for k, v in vars(action).items()}}
