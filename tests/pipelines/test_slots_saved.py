"""A checker in its slot is saved with its pipeline, and comes back as it was."""

from __future__ import annotations

import copy
import json
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers", minversion="0.42")
pytest.importorskip("transformers")
import diffusers
from PIL import Image

import nsfw_guard
from nsfw_guard import SafetyChecker
from nsfw_guard.errors import ConfigError
from nsfw_guard.pipelines.doctor import skipped
from tests.images import smooth
from tests.pipelines.slots import SD, answers, checker_of, guarded, run
from tests.pipelines.zoo import CASES

# What numpy, schedulers and pipelines of diffusers say of each other.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The decode_latents method is deprecated:FutureWarning"),
]


class Heard(logging.Handler):
    """What diffusers and transformers log while it listens."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())

    def __enter__(self) -> Heard:
        for name in ("diffusers", "transformers"):
            logging.getLogger(name).addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        for name in ("diffusers", "transformers"):
            logging.getLogger(name).removeHandler(self)


@pytest.fixture
def saved(tiny_guard, tmp_path) -> Path:
    pipe, _ = guarded(SD, SafetyChecker(tiny_guard))
    pipe.save_pretrained(tmp_path / "pipe")
    return tmp_path / "pipe"


def test_a_model_without_weights_cannot_be_saved(tmp_path) -> None:
    pipe, _ = guarded(SD, checker_of(0.0))
    with pytest.raises(ConfigError, match="FakeBackend cannot be saved"):
        pipe.save_pretrained(tmp_path / "pipe")


def test_a_folder_without_a_saved_checker_is_refused(tiny) -> None:
    with pytest.raises(ConfigError, match="contains no saved guard"):
        SafetyChecker.from_pretrained(tiny)


def test_a_setting_that_would_be_dropped_is_refused(saved) -> None:
    with pytest.raises(ConfigError, match="'policy' is not an argument for a saved checker: set it on the Guard"):
        SafetyChecker.from_pretrained(saved, subfolder="safety_checker", policy="lenient")


def test_the_saved_folder_holds_the_guard_and_its_weights(saved, tiny) -> None:
    index = json.loads((saved / "model_index.json").read_text())
    assert index["safety_checker"] == ["nsfw_guard", "SafetyChecker"]
    assert index["feature_extractor"] == ["nsfw_guard", "NoFeatures"]
    assert {path.name for path in (saved / "safety_checker").iterdir()} == {"config.json", "guard"}
    weights = saved / "safety_checker" / "guard" / "model.safetensors"
    from safetensors.torch import load_file

    kept, given = load_file(weights), load_file(tiny / "model.safetensors")
    assert kept.keys() == given.keys()
    assert all(torch.equal(kept[name], given[name]) for name in given)


@pytest.mark.parametrize("cls", ["StableDiffusionPipeline", "DiffusionPipeline", "AutoPipelineForText2Image"])
def test_the_checker_is_loaded_with_its_pipeline(saved, tiny_guard, cls) -> None:
    with Heard() as heard:
        pipe = getattr(diffusers, cls).from_pretrained(saved)
    assert heard.said == []
    checker = pipe.safety_checker
    assert (type(checker), type(pipe.feature_extractor)) == (SafetyChecker, nsfw_guard.NoFeatures)
    assert checker.guard.policy == tiny_guard.policy
    assert (checker.guard.action, checker.guard.on_review) == (tiny_guard.action, tiny_guard.on_review)
    assert [v.score for v in checker.guard.check(smooth(2, 40, 70))] == [
        v.score for v in tiny_guard.check(smooth(2, 40, 70))
    ]
    pipe.set_progress_bar_config(disable=True)
    first, made_first = guarded(SD, SafetyChecker(tiny_guard))
    np.testing.assert_array_equal(run(pipe, SD, "np"), run(first, SD, "np"))
    assert [verdict.score for verdict in checker.verdicts] == [verdict.score for verdict in made_first.verdicts]


@pytest.mark.parametrize(
    "settings",
    [
        {"dtype": torch.bfloat16},
        {"device_map": "cpu"},
        {"device_map": "balanced"},
        {"low_cpu_mem_usage": False},
        {"use_safetensors": True},
        {"variant": None},
    ],
    ids=str,
)
def test_the_checker_accepts_the_loaders_settings(saved, settings) -> None:
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(saved, **settings)
    assert pipe.safety_checker.guard.policy.name == "mine"
    assert pipe.safety_checker.dtype == settings.get("dtype", torch.float32)


@pytest.mark.parametrize("name", ["IFPipeline", "StableDiffusionUpscalePipeline", "CosmosTextToWorldPipeline"])
def test_the_kind_of_answer_is_saved_and_loaded(tiny_guard, tmp_path, name) -> None:
    case = CASES[name]
    pipe, checker = guarded(case, SafetyChecker(tiny_guard))
    pipe.save_pretrained(tmp_path)
    texts = dict.fromkeys({"text_encoder", "tokenizer"} & {k for k, v in pipe.components.items() if v is None})
    with Heard() as heard:
        again = type(pipe).from_pretrained(tmp_path, **texts)
    assert heard.said == []
    assert answers(again.safety_checker) == answers(checker) != ""
    assert type(again.safety_checker) is type(checker)
    again.set_progress_bar_config(disable=True)
    run(again, case, "np")
    assert len(again.safety_checker.verdicts) == case.count


def test_it_replaces_the_stock_checker_without_a_warning(saved, tiny_guard) -> None:
    checker = SafetyChecker(tiny_guard)
    with Heard() as heard:
        pipe = diffusers.StableDiffusionPipeline.from_pretrained(
            saved, safety_checker=checker, feature_extractor=checker.feature_extractor
        )
    assert not [line for line in heard.said if "type" in line and "non-standard" not in line]
    assert pipe.safety_checker is checker


def test_a_loaded_cosmos_checker_is_not_skipped(tiny_guard, tmp_path) -> None:
    for cls in (diffusers.Cosmos2_5_PredictBasePipeline, diffusers.Cosmos3OmniPipeline):
        SafetyChecker(tiny_guard).for_pipeline(cls).save_pretrained(tmp_path)
        again = SafetyChecker.from_pretrained(tmp_path)
        for one in (again, copy.deepcopy(again)):
            assert not skipped(cls, one)
            assert isinstance(one, sys.modules[cls.__module__].CosmosSafetyChecker)


def test_a_new_process_only_needs_the_import(saved) -> None:
    code = (
        "import sys, diffusers\n"
        "load = lambda: diffusers.DiffusionPipeline.from_pretrained(sys.argv[1]).safety_checker\n"
        "try: load()\n"
        "except ValueError as error: print('import nsfw_guard before calling' in str(error))\n"
        "import nsfw_guard\n"
        "print(type(load()).__name__, load().guard.policy.name)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(saved)], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["True", "SafetyChecker", "mine"], done.stderr


def test_the_module_shows_what_loaders_look_for() -> None:
    import transformers

    assert nsfw_guard.PreTrainedModel is transformers.PreTrainedModel
    assert nsfw_guard.ImageProcessingMixin is transformers.ImageProcessingMixin
    assert {"PreTrainedModel", "ImageProcessingMixin"}.isdisjoint(nsfw_guard.__all__)
    assert nsfw_guard.NoFeatures.__module__ == nsfw_guard.SafetyChecker.__module__ == "nsfw_guard"
    assert nsfw_guard.NoFeatures()([Image.new("RGB", (4, 4))] * 3, return_tensors="pt").pixel_values.shape == (3, 1)
