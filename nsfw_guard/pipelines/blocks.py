"""The guard as a block for Modular Diffusers. Imported on first use, since it subclasses a class of diffusers."""

from __future__ import annotations

from typing import Any

from diffusers.modular_pipelines import InputParam, ModularPipelineBlocks, OutputParam

from nsfw_guard.errors import ConfigError
from nsfw_guard.guard import Guard
from nsfw_guard.pipelines import seams
from nsfw_guard.pipelines.guarded.call import device_of
from nsfw_guard.pipelines.guarded.run import Clips, Cover, GuardedCall


class GuardStep(ModularPipelineBlocks):  # type: ignore[misc]  # diffusers has no types
    """A block that judges the images decoded by the blocks before it, and acts on flagged ones.

    Insert it last: `blocks.sub_blocks.insert("guard", GuardStep(guard), len(blocks.sub_blocks))`.

    Args:
        guard: the guard.
        key: the name of the images in the state: "images", or "videos" for clips.
        clips, margin: as in `attach`.
    """

    __module__ = "nsfw_guard"
    model_name = "nsfw_guard"

    def __init__(self, guard: Guard, *, key: str = "images", clips: Clips = "whole", margin: int = 8) -> None:
        if key not in seams.IMAGES:
            raise ConfigError(f"key must be 'images' or 'videos', got {key!r}")
        super().__init__()
        self.guard, self.key, self.cover = guard, key, Cover(clips=clips, margin=margin)

    @property
    def description(self) -> str:
        """A description of the block."""
        return "Judges the images that the pipeline returns, and acts on those that are flagged."

    @property
    def inputs(self) -> list[Any]:
        """The images."""
        return [InputParam(self.key, required=True, description="the decoded images")]

    @property
    def intermediate_outputs(self) -> list[Any]:
        """The images, flags and verdicts."""
        return [OutputParam(self.key), OutputParam("nsfw_content_detected"), OutputParam("verdicts")]

    def __call__(self, components: Any, state: Any) -> tuple[Any, Any]:
        """Judge the images and act on flagged ones."""
        block = self.get_block_state(state)
        run = GuardedCall(self.guard, self.cover, device=device_of(components), owner=self)
        setattr(block, self.key, run.finish(getattr(block, self.key), clips=self.key in seams.CLIPS))
        block.nsfw_content_detected, block.verdicts = run.flags, tuple(run.verdicts)
        self.set_block_state(state, block)
        return components, state

    def __deepcopy__(self, memo: dict[int, Any]) -> GuardStep:
        return GuardStep(self.guard, key=self.key, clips=self.cover.clips, margin=self.cover.margin)
