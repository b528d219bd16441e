"""Classifiers of transformers: by name and with every weight in its place, or not at all."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nsfw_guard import load_model
from nsfw_guard.backends import registry
from nsfw_guard.backends.spec import Label
from nsfw_guard.errors import ConfigError, MissingExtraError, SelfTestError, WeightsMissingError, WeightsUnfitError
from nsfw_guard.guard import Guard
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.scores import Severity
from nsfw_guard.verdict import Outcome
from tests.backends.folders import edit_config, edit_weights
from tests.backends.make_models import make
from tests.images import smooth

pytest.importorskip("transformers")
FALCONSAI = registry.spec("falconsai")


@pytest.fixture(scope="module")
def falconsai(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("hf") / "falconsai"
    make(FALCONSAI, folder)
    return folder


@pytest.fixture
def copy(falconsai, tmp_path) -> Path:
    return Path(shutil.copytree(falconsai, tmp_path / "copy"))


def test_a_folder_loads_by_itself_with_its_labels_by_name(falconsai) -> None:
    backend = load_model(falconsai)
    assert backend.spec.labels == {"normal": None, "nsfw": Label("sexual")}
    assert backend.spec.input == FALCONSAI.input
    assert backend.width == 32
    assert backend.state()["self_test"] == "answers unrecorded"


def test_labels_are_found_by_name_not_by_position(falconsai, copy) -> None:
    edit_config(copy, id2label={"0": "nsfw", "1": "normal"})
    image = [Frames(smooth(1, 64, 64))]
    one, other = (next(load_model(folder).score(image)[0].numbers()) for folder in (falconsai, copy))
    assert one == pytest.approx(1 - other, abs=1e-6)


def test_labels_nobody_knows_are_listed_and_can_be_mapped(copy) -> None:
    edit_config(copy, id2label={"0": "rorshark", "1": "ink"})
    with pytest.raises(
        ConfigError,
        match=r"the model's labels are rorshark, ink: map each of them to a category or to None",
    ):
        load_model(copy)
    backend = load_model(copy, labels={"rorshark": None, "ink": Label("ink", Severity.LOW)})
    assert backend.spec.levels == {"ink": (Severity.LOW,)}


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


MISSING, UNFIT, UNREAD = WeightsMissingError, WeightsUnfitError, "transformers cannot read"
THREE = {"0": "normal", "1": "nsfw", "2": "safe"}
OWN = {"model_type": "own", "auto_map": {"AutoModelForImageClassification": "own.Own"}}
DAMAGE = {
    "a weight missing": (
        lambda f: edit_weights(f, lambda t: t.pop("classifier.bias")),
        UNFIT,
        "missing classifier.bias",
    ),
    "a weight too many": (lambda f: edit_weights(f, lambda t: t.update(more=torch.ones(1))), UNFIT, "unexpected more"),
    "a head of another size": (lambda f: edit_config(f, id2label=THREE), UNFIT, "size|mismatch|shape"),
    "a head of NaN": (
        lambda f: edit_weights(f, lambda t: t["classifier.weight"].fill_(float("nan"))),
        SelfTestError,
        "are not probabilities",
    ),
    "no weights but a pickle": (pickled, MISSING, "model.safetensors does not exist"),
    "no processor": (lambda f: (f / "preprocessor_config.json").unlink(), MISSING, "preprocessor_config.json"),
    "no labels": (lambda f: edit_config(f, id2label={}), UNFIT, "names no classes"),
    "a hole in the labels": (
        lambda f: edit_config(f, id2label={"0": "normal", "2": "nsfw"}),
        UNFIT,
        "names no classes",
    ),
    "a network nobody knows": (lambda f: edit_config(f, model_type="nothing", architectures=None), UNFIT, UNREAD),
    "code of its own": (lambda f: edit_config(f, **OWN), UNFIT, "contains 'auto_map', which refers to code"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_folder_is_refused_with_the_cure(copy, damage) -> None:
    harm, error, message = DAMAGE[damage]
    harm(copy)
    (copy / "own.py").write_text("raise SystemExit('foreign code was run')")
    with pytest.raises(error, match=message) as raised:
        load_model(copy)
    assert "\n" not in str(raised.value)


def test_the_record_must_agree_with_the_folder(copy) -> None:
    edit_config(copy, id2label={"0": "safe", "1": "nsfw"})
    registry_spec = replace(FALCONSAI, sha256="", name="falconsai-here")
    registry.register_model(registry_spec, lambda spec, options: None)  # type: ignore[arg-type, return-value]
    try:
        with pytest.raises(WeightsUnfitError, match="the labels of 'falconsai-here' changed"):
            load_model("falconsai-here", weights=copy)
    finally:
        registry.unregister_model("falconsai-here")


def test_a_saved_guard_comes_back_with_the_same_numbers(falconsai, tmp_path) -> None:
    guard = Guard.from_pretrained(falconsai, policy={"rules": {"sexual": {"block": 0.4}}})
    guard.save_pretrained(tmp_path / "saved")
    again = Guard.from_pretrained(tmp_path / "saved")
    image = smooth(2, 100, 60)
    assert [v.score for v in again.check(image)] == [v.score for v in guard.check(image)]
    assert again.policy.rules["sexual"].block == 0.4


def test_threads_do_not_see_each_others_embeddings(falconsai) -> None:
    from concurrent.futures import ThreadPoolExecutor

    backend = load_model(falconsai)
    stacks = [[Frames(smooth(1, 48, 48, seed=seed))] for seed in range(6)]
    alone = [backend.score(one, embeddings=True)[0].embedding for one in stacks]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            embeddings = list(pool.map(lambda one: backend.score(one, embeddings=True)[0].embedding, stacks))
            assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(embeddings, alone, strict=True))


def test_without_transformers_the_extra_is_named(falconsai, monkeypatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'nsfw-guard\[diffusers\]'"):
        load_model(falconsai)


def test_bfl_blocks_from_its_repositories_cut() -> None:
    spec = registry.spec("bfl")
    assert (spec.repo, spec.thresholds["default"].block, spec.labels) == (FALCONSAI.repo, 0.85, FALCONSAI.labels)


def test_freepiks_severity_is_cumulative_and_computed_in_float32(tmp_path) -> None:
    from nsfw_guard.backends import loaders
    from nsfw_guard.backends.base import Options

    spec = make(registry.spec("freepik"), tmp_path / "freepik")
    backend = loaders.load_files(spec, tmp_path / "freepik", Options(dtype="bfloat16"))
    image = [Frames(smooth(1, 80, 80))]
    shown = backend.preprocess.prepare(image[0]).pixels[:, 0]
    p = backend.forward_with_embedding(shown)[0].float().softmax(-1)[0].tolist()
    (scores,) = backend.score(image)
    levels = scores.views[0].levels["sexual"]
    assert levels[Severity.HIGH] == pytest.approx(p[3], abs=1e-7)
    assert levels[Severity.MEDIUM] == pytest.approx(p[2] + p[3], abs=1e-7)
    assert levels[Severity.LOW] == pytest.approx(p[1] + p[2] + p[3], abs=1e-7)
    assert levels[Severity.LOW] <= 1.0
    assert Guard(backend).check(smooth(1, 80, 80))[0].severity is Severity.MEDIUM
    assert Guard(backend).check(smooth(1, 80, 80))[0].outcome is not Outcome.ERROR
