"""Nodes that a user wires into a graph of ComfyUI. Each protects its own branch only."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import torch
from torch import Tensor

from nsfw_guard.errors import ImageError
from nsfw_guard.hosts.comfyui.node_guard import FRAME_MARGIN, NodeGuard
from nsfw_guard.hosts.comfyui.session import AS_SET, session
from nsfw_guard.hosts.settings import ACTIONS, PRESETS
from nsfw_guard.verdict import Outcome, Verdict

CATEGORY = "image/safety"
Widgets = dict[str, Any]


def _widgets() -> Widgets:
    """What both nodes offer; 0 and "as set" leave it to the settings."""
    return {
        "action": ([AS_SET, *ACTIONS[1:], ACTIONS[0]], {"default": AS_SET}),
        "strength": ("FLOAT", {"default": 0.0, "min": 0.0, "max": 1.0, "step": 0.05}),
        "threshold": ("FLOAT", {"default": 0.0, "min": 0.0, "max": 1.0, "step": 0.01}),
        "policy": ([AS_SET, *PRESETS], {"default": AS_SET}),
    }


class NSFWGuard:
    """IMAGE in; the images as they may leave, the verdicts, a mask of what was covered, whether any was flagged."""

    CATEGORY = CATEGORY
    FUNCTION = "check"
    RETURN_TYPES = ("IMAGE", "STRING", "MASK", "BOOLEAN")
    RETURN_NAMES = ("images", "verdicts", "covered", "flagged")
    DESCRIPTION = "Covers unsafe images on this branch. Other branches of the graph are not touched."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Widgets]:  # noqa: N802  (the host's name)
        """Return what the node takes."""
        return {"required": {"images": ("IMAGE",)}, "optional": _widgets()}

    def check(self, images: Any, **widgets: Any) -> tuple[Tensor, str, Tensor, bool]:
        """Judges a batch. Shape: (B, H, W, C) in [0, 1]; the tensor itself comes out where all may leave."""
        if not isinstance(images, Tensor) or images.ndim != 4:
            raise ImageError("NSFWGuard takes an IMAGE, a tensor (B, H, W, C): connect one")
        done = NodeGuard(session().guard_for(**widgets), where="node").images(images)
        changed = (done.images != images).any(-1) if any(done.covered) else torch.zeros(images.shape[:3]).bool()
        return done.images, _told(done.verdicts, len(images)), changed.float(), _flagged(done.verdicts)


class NSFWGuardVideo:
    """VIDEO in; the clip as it may leave, and the verdicts, one a frame."""

    CATEGORY = CATEGORY
    FUNCTION = "check"
    RETURN_TYPES = ("VIDEO", "STRING", "BOOLEAN")
    RETURN_NAMES = ("video", "verdicts", "flagged")
    DESCRIPTION = "Covers unsafe frames, or the whole clip, on this branch. Its sound stays as it is."
    WHOLE: ClassVar[tuple[str, str]] = ("whole clip", "frames")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Widgets]:  # noqa: N802  (the host's name)
        """Return what the node takes."""
        widgets: Widgets = {
            "cover": (list(cls.WHOLE), {"default": cls.WHOLE[0]}),
            "margin": ("INT", {"default": FRAME_MARGIN, "min": 0, "max": 1000}),
        }
        return {"required": {"video": ("VIDEO",)}, "optional": {**widgets, **_widgets()}}

    def check(
        self, video: Any, cover: str = "whole clip", margin: int = FRAME_MARGIN, **widgets: Any
    ) -> tuple[Any, str, bool]:
        """Judges every frame. Anything but "frames" covers the whole clip for one that is unsafe."""
        node_guard = NodeGuard(session().guard_for(**widgets), where="node")
        safe, verdicts = node_guard.video(video, whole=cover != self.WHOLE[1], margin=max(0, int(margin)))
        return safe, _told(verdicts, len(verdicts)), _flagged(verdicts)


NODES: dict[str, type] = {"NSFWGuard": NSFWGuard, "NSFWGuardVideo": NSFWGuardVideo}
NAMES = {"NSFWGuard": "NSFW Guard", "NSFWGuardVideo": "NSFW Guard (video)"}


def _told(verdicts: list[Verdict], count: int) -> str:
    """The verdicts as JSON. Where the guard is off, that is said: nothing was found safe."""
    off = {"outcome": "not evaluated", "evaluated": False, "reason": "the guard is switched off"}
    return json.dumps([verdict.to_dict() for verdict in verdicts] or [off] * count)


def _flagged(verdicts: list[Verdict]) -> bool:
    return any(verdict.outcome not in {Outcome.ALLOW, Outcome.REVIEW} for verdict in verdicts)
