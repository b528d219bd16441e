"""The guard as a block for Modular Diffusers. Loaded when it is asked for, since it subclasses a class of diffusers."""

from __future__ import annotations

from typing import Any

from diffusers.modular_pipelines import InputParam, ModularPipelineBlocks, OutputParam

from nsfw_guard.errors import ConfigError
from nsfw_guard.guard import Guard
from nsfw_guard.pipelines import seams
from nsfw_guard.pipelines.guarded.call import device_of
from nsfw_guard.pipelines.guarded.run import Clips, Cover, GuardedCall


class GuardStep(ModularPipelineBlocks):  # type: ignore[misc]  # diffusers has no types
    """Judges what the blocks before it decoded, and acts on what is flagged.

    Insert it last: `blocks.sub_blocks.insert("guard", GuardStep(guard), len(blocks.sub_blocks))`.

    Args:
        guard: what judges and acts.
        key: where the pictures are: "images", or "videos" for clips.
        clips, margin: as in `attach`.
    """

    __module__ = "nsfw_guard"
    model_name = "nsfw_guard"

    def __init__(self, guard: Guard, *, key: str = "images", clips: Clips = "whole", margin: int = 8) -> None:
        if key not in seams.PICTURES:
            raise ConfigError(f"key={key!r}: say where the pictures are, 'images' or 'videos'")
        super().__init__()
        self.guard, self.key, self.cover = guard, key, Cover(clips=clips, margin=margin)

    @property
    def description(self) -> str:
        """What it does."""
        return "Judges the pictures that leave, and acts on those that are flagged."

    @property
    def inputs(self) -> list[Any]:
        """The pictures."""
        return [InputParam(self.key, required=True, description="what was decoded")]

    @property
    def intermediate_outputs(self) -> list[Any]:
        """The pictures, flags and verdicts."""
        return [OutputParam(self.key), OutputParam("nsfw_content_detected"), OutputParam("verdicts")]

    def __call__(self, components: Any, state: Any) -> tuple[Any, Any]:
        """Judges and acts."""
        block = self.get_block_state(state)
        run = GuardedCall(self.guard, self.cover, device=device_of(components), owner=self)
        setattr(block, self.key, run.finish(getattr(block, self.key), clips=self.key in seams.CLIPS))
        block.nsfw_content_detected, block.verdicts = run.flags, tuple(run.verdicts)
        self.set_block_state(state, block)
        return components, state

    def __deepcopy__(self, memo: dict[int, Any]) -> GuardStep:
        return GuardStep(self.guard, key=self.key, clips=self.cover.clips, margin=self.cover.margin)
