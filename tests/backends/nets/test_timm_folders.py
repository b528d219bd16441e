"""Folders of timm models: damaged ones are refused, saved ones come back, and references lead to the right one."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from nsfw_guard.backends.base import Options
from nsfw_guard.backends.nets import timm_model
from nsfw_guard.backends.registry import load_model
from nsfw_guard.backends.spec import Label
from nsfw_guard.errors import (
    ConfigError,
    SelfTestError,
    UnknownNameError,
    WeightsMissingError,
    WeightsUnfitError,
)
from nsfw_guard.scores import Severity
from tests.backends.center_view import center
from tests.backends.folders import edit_config, edit_weights
from tests.images import smooth


@pytest.fixture
def copy(tiny, tmp_path) -> Path:
    """A copy of the tiny model that a test may damage."""
    return Path(shutil.copytree(tiny, tmp_path / "copy"))


def nan_head(tensors):
    tensors["head.weight"].fill_(float("nan"))


def rewrite(change):
    """A change of the weights' file, bytes to bytes."""
    return lambda folder: (folder / "model.safetensors").write_bytes(
        change((folder / "model.safetensors").read_bytes())
    )


DAMAGE = {
    "no config": (lambda f: (f / "config.json").unlink(), WeightsMissingError, "has no config.json: pass a folder"),
    "config no JSON": (lambda f: (f / "config.json").write_text("{"), WeightsUnfitError, "is not usable JSON"),
    "no architecture": (lambda f: edit_config(f, architecture=None), WeightsUnfitError, "neither 'architecture'"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), WeightsMissingError, "download or export it"),
    "truncated": (rewrite(lambda data: data[:-9]), WeightsUnfitError, "is not a complete safetensors file"),
    "pickle inside": (rewrite(lambda _: b"\x80\x04."), WeightsUnfitError, "is not a complete safetensors file"),
    "missing key": (lambda f: edit_weights(f, lambda t: t.pop("head.bias")), WeightsUnfitError, "missing head.bias"),
    "extra key": (
        lambda f: edit_weights(f, lambda t: t.update(more=torch.ones(1))),
        WeightsUnfitError,
        "unexpected more",
    ),
    "other shape": (
        lambda f: edit_weights(f, lambda t: t.update({"head.bias": torch.ones(3)})),
        WeightsUnfitError,
        r"head.bias is \(3,\), expected",
    ),
    "NaN weights": (lambda f: edit_weights(f, nan_head), SelfTestError, "are not probabilities"),
    "no labels": (lambda f: edit_config(f, label_names=None), WeightsUnfitError, "names no classes"),
    "unknown labels": (lambda f: edit_config(f, label_names=["a", "b"]), ConfigError, "such as labels={'a': 'sexual'}"),
    "unknown network": (
        lambda f: edit_config(f, architecture="vit_tiny_patch16_225"),
        UnknownNameError,
        "did you mean 'vit_tiny_patch16_224'",
    ),
    "other crop": (
        lambda f: edit_config(f, pretrained_cfg={"input_size": [3, 32, 32], "crop_mode": "middle"}),
        UnknownNameError,
        "crop mode",
    ),
    "not square": (
        lambda f: edit_config(f, pretrained_cfg={"input_size": [3, 32, 64]}),
        ConfigError,
        r"only \(3, S, S\)",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_folder_is_refused_with_the_cure(copy, damage) -> None:
    harm, error, message = DAMAGE[damage]
    harm(copy)
    with pytest.raises(error, match=message):
        load_model(copy)


def test_weights_with_timms_prefix_are_taken(copy) -> None:
    pixels = smooth(1, 32, 32)
    expected = center(load_model(copy), pixels)
    tensors = load_file(copy / "model.safetensors")
    save_file({f"timm_model.{k}": v for k, v in tensors.items()}, copy / "model.safetensors")
    assert torch.equal(center(load_model(copy), pixels), expected)


def test_labels_are_told_by_name(copy) -> None:
    pixels = smooth(2, 32, 32)
    straight = center(load_model(copy), pixels)
    edit_config(copy, label_names=["SFW", "NSFW"])
    swapped = center(load_model(copy), pixels)
    assert torch.allclose(straight, 1 - swapped)
    edit_config(copy, label_names=["bad", "good"])
    assert torch.equal(straight, center(load_model(copy, labels={"bad": "sexual", "good": None}), pixels))
    with pytest.raises(ConfigError, match=r"such as labels=\{'good'"):
        load_model(copy, labels={"bad": "sexual"})
    with pytest.raises(ConfigError, match="map"):
        load_model(copy, labels={"bad": "sexual", "good": None, "ugly": None})


# Saving, records, answers -------------------------------------------------------------------------------------------


def test_a_saved_model_answers_as_recorded_or_not_at_all(tiny, tmp_path) -> None:

    backend = load_model(tiny)
    backend.spec = replace(backend.spec, known_answers=backend.known_answers())
    backend.save_pretrained(tmp_path / "saved")
    pixels = smooth(2, 40, 60)

    again = load_model(tmp_path / "saved")
    assert again.state()["self_test"] == "passed"
    assert torch.equal(center(again, pixels), center(backend, pixels))

    record = tmp_path / "saved" / "nsfw_guard.json"
    saved = json.loads(record.read_text())
    saved["answers"]["disc"] = {label: 1 - p for label, p in saved["answers"]["disc"].items()}
    record.write_text(json.dumps(saved))
    with pytest.raises(SelfTestError, match="differ from its record"):
        load_model(tmp_path / "saved")


@pytest.mark.parametrize("at", [-1, -200, 5000])
def test_one_flipped_bit_is_found_by_the_hash(tiny, tmp_path, at) -> None:
    backend = load_model(tiny)
    backend.save_pretrained(tmp_path / "saved")
    path = tmp_path / "saved" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(WeightsUnfitError, match="does not have the recorded SHA-256"):
        load_model(tmp_path / "saved")


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"labels": 3}', '{"answers": {"disc": 3}}', '{"thresholds": {"default": {}}}']
)
def test_a_record_that_cannot_be_read_is_refused(copy, content) -> None:
    (copy / "nsfw_guard.json").write_text(content)
    with pytest.raises((WeightsUnfitError, ConfigError)):
        load_model(copy)


def test_a_preprocessing_that_changed_is_refused(copy) -> None:

    from nsfw_guard.backends.files.folder import read_spec

    spec = read_spec(copy)
    for changed, message in (
        (replace(spec, input=replace(spec.input, mean=(0.4, 0.5, 0.5))), "the input of"),
        (replace(spec, architecture="vit_small_patch16_224"), "the architecture of"),
        (replace(spec, labels={"SFW": None, "NSFW": Label("sexual")}), "the labels of"),
    ):
        with pytest.raises(WeightsUnfitError, match=message):
            timm_model.load_files(changed, copy, Options())


def test_a_network_with_more_than_a_classifier_as_its_head_is_refused(tmp_path) -> None:
    name = "deit_tiny_distilled_patch16_224"
    save_file(timm.create_model(name, num_classes=2).state_dict(), tmp_path / "own.safetensors")
    with pytest.raises(SelfTestError, match="one head"):
        load_model(f"timm:{name}", weights=tmp_path / "own.safetensors", labels={"bad": "gore", "good": None})


# "timm:" and "hf:" --------------------------------------------------------------------------------------------------


NET = "timm:vit_tiny_patch16_224"


def test_a_timm_architecture_takes_ones_own_weights(tmp_path) -> None:
    model = timm.create_model("vit_tiny_patch16_224", num_classes=2)
    save_file(model.state_dict(), tmp_path / "own.safetensors")

    backend = load_model(NET, weights=tmp_path / "own.safetensors", labels={"bad": "gore", "good": None})

    assert backend.spec.levels == {"gore": (Severity.HIGH,)}
    assert backend.spec.input.size == model.pretrained_cfg["input_size"][1]
    assert backend.width == model.num_features
    assert backend.spec.sha256 == hashlib.sha256((tmp_path / "own.safetensors").read_bytes()).hexdigest()


OWN = {"weights": "w.safetensors", "labels": {"a": "x"}}


@pytest.mark.parametrize(
    ("ref", "settings", "error", "message"),
    [
        (NET, {}, ConfigError, "untrained network: pass weights="),
        (NET, {"weights": "w.safetensors"}, ConfigError, "labels="),
        ("timm:no_such_net", OWN, UnknownNameError, "timm arch"),
        (NET, {"weights": "w.bin", "labels": {"a": "x"}}, WeightsUnfitError, "not a .safetensors file"),
        (
            "timm:vit_tiny_patch16_224",
            OWN,
            WeightsMissingError,
            "w.safetensors does not exist",
        ),
        (NET, {"weights": "w.safetensors", "labels": {"a": None}}, ConfigError, "no label"),
        ("hf:owner/name", {}, ConfigError, "is not pinned: use 'hf:owner/name@<commit>'"),
        ("hf:owner/name@main", {}, ConfigError, "is not pinned"),
        ("hf:owner/name@" + "0" * 40, {}, WeightsMissingError, "nsfw-guard fetch"),
        ("marqo", {}, WeightsMissingError, "nsfw-guard fetch marqo"),
        ("marqo", {"weights": "nowhere"}, WeightsMissingError, "'nowhere' has no config.json"),
        ("hf:a/b", {"weights": "w.safetensors"}, ConfigError, "needs a name or 'timm:architecture'"),
        ("marqoo", {}, UnknownNameError, "did you mean 'marqo'"),
        ("marqo", {"labels": {"nsfw": "x"}}, UnknownNameError, "did you mean|choose from"),
        ("marqo", {"device": "gpu"}, ConfigError, "use 'cpu', 'cuda'"),
        ("marqo", {"dtype": "float15"}, UnknownNameError, "did you mean 'float16'"),
        ("marqo", {"batch_size": 0}, ConfigError, "batch_size must be 1 or more, got 0"),
    ],
)
def test_what_cannot_be_loaded_names_its_cure(ref, settings, error, message, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        load_model(ref, **settings)
