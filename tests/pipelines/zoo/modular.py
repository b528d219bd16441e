"""A modular pipeline, of the blocks of FLUX without its text models."""

from __future__ import annotations

import warnings
from typing import Any

from diffusers.modular_pipelines import FluxAutoBlocks

from tests.pipelines.zoo.flows import flux, flux_call
from tests.pipelines.zoo.parts import DECODED, Case


def blocks() -> Any:
    """The blocks that draw: prompts come as embeddings."""
    made = FluxAutoBlocks()
    made.sub_blocks.pop("text_encoder")
    return made


def modular_flux(of: Any = None) -> Any:
    """A pipeline of these blocks, with the parts of the plain one."""
    plain = flux("FluxPipeline")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe = (of or blocks()).init_pipeline()
        pipe.update_components(transformer=plain.transformer, vae=plain.vae, scheduler=plain.scheduler)
    pipe.set_progress_bar_config(disable=True)
    return pipe


CASES = [
    Case("FluxModularPipeline", "modular", modular_flux, lambda p: flux_call(2), kinds=DECODED, count=2, modular=True),
]
