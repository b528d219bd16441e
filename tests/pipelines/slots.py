"""Checkers in the slots of pipelines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

pytest.importorskip("diffusers", minversion="0.42")
pytest.importorskip("transformers")
from nsfw_guard import Guard, SafetyChecker
from nsfw_guard.testing import FakeBackend
from tests.pipelines.zoo import CASES
from tests.pipelines.zoo.parts import Case, words
from tests.pipelines.zoo.parts import case as case_of
from tests.pipelines.zoo.sd import sd_words

SLOTS = {name: case for name, case in CASES.items() if case.slot}
SHOWN = [
    (name, kind)
    for name, case in SLOTS.items()
    for kind in case.kinds
    if kind != "latent" and (name, kind) != ("IFPipeline", "pt")  # of tensors DeepFloyd IF asks nobody
]
# A whole one, from words to images, so that it can be saved and loaded.
SD = case_of("StableDiffusionPipeline", "sd", sd_words, lambda: words(num_images_per_prompt=2), count=2, slot=True)


def checker_of(rule: float | Callable[[torch.Tensor], float], **settings: Any) -> SafetyChecker:
    """A checker whose model says this of every image."""
    return SafetyChecker(Guard(FakeBackend(rule), **settings))


def run(pipe: Any, case: Case, kind: str) -> Any:
    """What leaves one call of the case."""
    return pipe(**case.call(pipe), output_type=kind)[case.field]


def put(pipe: Any, checker: SafetyChecker) -> SafetyChecker:
    """The checker in the slot of the pipeline, in the form that this one asks for."""
    fitted = checker.for_pipeline(pipe)
    slots = {"safety_checker": fitted}
    if getattr(pipe, "feature_extractor", 0) is None:
        slots["feature_extractor"] = fitted.feature_extractor
    pipe.register_modules(**slots)
    return fitted


def answers(checker: SafetyChecker) -> str:
    """What a checker was made to stand in for."""
    return " ".join(name for name in ("watermark", "cosmos") if getattr(checker.config, name))


def guarded(case: Case, checker: SafetyChecker) -> tuple[Any, SafetyChecker]:
    pipe = case.build()
    return pipe, put(pipe, checker)
