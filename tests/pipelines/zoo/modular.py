"""A modular pipeline, of the blocks of FLUX without its text models."""

from __future__ import annotations

import warnings
from typing import Any

from diffusers.modular_pipelines import FluxAutoBlocks

from tests.pipelines.zoo.flux import flux, flux_call
from tests.pipelines.zoo.parts import DECODED, Case


def blocks() -> Any:
    """The blocks that draw: prompts come as embeddings."""
    drawing = FluxAutoBlocks()
    drawing.sub_blocks.pop("text_encoder")
    return drawing


def modular_flux(of: Any = None) -> Any:
    """A pipeline of these blocks, with the parts of the plain one."""
    parts = {name: part for name, part in flux().items() if part is not None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe = (of or blocks()).init_pipeline()
        pipe.update_components(**parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


CASES = [
    Case("FluxModularPipeline", "modular", modular_flux, lambda _: flux_call(2), kinds=DECODED, count=2, modular=True),
]
