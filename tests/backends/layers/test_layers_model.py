"""A network of layers as a backend: from its own files, kept in a folder of ours, and loaded again."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from nsfw_guard import load_model
from nsfw_guard.backends import loaders
from nsfw_guard.backends.base import Options
from nsfw_guard.backends.catalog.packages import NSFWJS_MODELS
from nsfw_guard.backends.layers import layers_model
from nsfw_guard.backends.layers.layers_model import load_package
from nsfw_guard.backends.spec import Label
from nsfw_guard.errors import ConfigError, ModelError, WeightsUnfitError
from nsfw_guard.guard import Guard
from nsfw_guard.imaging.aligned import aligned
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.scores import Severity
from tests.backends.layers import by_hand
from tests.backends.layers.bundles import SIDE, SPEC, files, small
from tests.backends.make_models import make
from tests.images import smooth


@pytest.fixture(scope="module")
def backend():
    topology, tensors = small()
    return load_package(SPEC, files(topology, tensors), Options())


@pytest.fixture
def kept(backend, tmp_path) -> Path:
    """The network, saved in our layout."""
    backend.save_pretrained(tmp_path / "kept")
    return tmp_path / "kept"


def test_scores_are_those_of_the_formulas_on_the_resized_image(backend) -> None:
    _, tensors = small()
    frames = Frames(smooth(2, 50, 31))
    answers = backend.score([frames], embeddings=True)
    levels = aligned((frames.pixels * 255).round().to(torch.uint8), (SIDE, SIDE))
    for scores, pixels in zip(answers, levels, strict=True):
        expected, embedding = by_hand.small(pixels.permute(1, 2, 0).double().numpy() / 255, tensors)
        assert scores.views[0].levels["sexual"][Severity.HIGH] == pytest.approx(expected[1], abs=1e-5)
        np.testing.assert_allclose(scores.embedding.numpy(), embedding, rtol=1e-4, atol=1e-4)
    assert backend.width == 5


@pytest.mark.parametrize("source", ["folder", "record"])
def test_a_saved_network_answers_as_before(backend, kept, source) -> None:
    again = loaders.load_folder(kept, Options()) if source == "folder" else loaders.load_files(SPEC, kept, Options())
    assert again.known_answers() == backend.known_answers()
    assert again.spec.labels == SPEC.labels
    assert again.spec.net_input == SPEC.net_input
    assert again.spec.kind == "layers"
    assert again.state()["resize"] == "exact (aligned)"
    assert {path.name for path in kept.iterdir()} == {"config.json", "model.safetensors", "nsfw_guard.json"}
    verdicts = Guard(load_model(kept)).check(smooth(2, 40, 60))
    assert all(verdict.scores.finite for verdict in verdicts)


def test_the_files_of_a_package_load_from_their_folder(backend, tmp_path) -> None:
    for name, data in files(*small()).items():
        (tmp_path / name).write_bytes(data)
    assert loaders.load_files(SPEC, tmp_path, Options()).known_answers() == backend.known_answers()


def test_quantised_weights_are_close_to_plain_ones(backend) -> None:
    quantised = load_package(SPEC, files(*small(), "uint16"), Options()).known_answers()
    plain = backend.known_answers()
    assert all(abs(plain[i][label] - quantised[i][label]) < 0.01 for i in plain for label in plain[i])


def test_recorded_answers_are_compared(backend, kept) -> None:
    spec = replace(SPEC, known_answers=backend.known_answers())
    assert loaders.load_files(spec, kept, Options()).state()["self_test"] == "passed"
    wrong = {image: dict.fromkeys(row, 0.3) for image, row in spec.known_answers.items()}
    with pytest.raises(ModelError, match="differ from its record"):
        loaders.load_files(replace(spec, known_answers=wrong), kept, Options())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_lower_precision_moves_its_scores_a_little(backend, kept, dtype) -> None:
    if dtype == "float16" and int(torch.__version__.split(".")[1]) < 2:
        pytest.skip("torch 2.1 has no convolution in float16 on a CPU")
    low = loaders.load_files(SPEC, kept, Options(dtype=dtype))
    for one, other in zip(*(b.score([Frames(smooth(2, 40, 40))]) for b in (backend, low)), strict=True):
        assert list(one.numbers()) == pytest.approx(list(other.numbers()), abs=0.06)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (replace(SPEC, labels={"a": Label("sexual"), "b": None}), "2 labels and an input of 12 pixels.* 3 and 12"),
        (replace(SPEC, input=replace(SPEC.input, size=16)), "an input of 16 pixels"),
    ],
)
def test_a_record_of_another_network_is_refused(spec, message) -> None:
    with pytest.raises(WeightsUnfitError, match=message):
        load_package(spec, files(*small()), Options())


def test_a_folder_of_another_record_is_refused(kept) -> None:
    for change in ({"labels": {"x": Label("sexual"), "y": None, "z": None}}, {"input": replace(SPEC.input, size=16)},
                   {"sha256": "0" * 64}):  # fmt: skip
        with pytest.raises(WeightsUnfitError, match=r"changed|recorded SHA-256"):
            loaders.load_files(replace(SPEC, **change), kept, Options())


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_it_runs_in_torch_only(kept, runtime) -> None:
    with pytest.raises(ConfigError, match="runs in torch only"):
        loaders.load_files(SPEC, kept, Options(runtime=runtime))


def edited(folder: Path, change) -> Path:
    """The folder with another config.json."""
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


WRONG = [
    (lambda c: c.pop("layers"), "'layers' must be a list"),
    (lambda c: c.update(layers=[]), "'layers' must be a list"),
    (lambda c: c.update(layers=[{"kind": "Input", "inputs": [], "size": 12}] * 6000), "3 to 5000 layers"),
    (lambda c: c["layers"].insert(1, 7), "layer 1 must be an object"),
    (lambda c: c["layers"][2].update(kind="Lambda"), "unknown kind of layer 'Lambda'"),
    (lambda c: c["layers"][2].update(inputs=[2]), "earlier layers"),
    (lambda c: c["layers"][2].update(filters=4096), "do not fit small|larger than its weights"),
    (lambda c: c["layers"][2].update(filters=7), "the weights do not fit small"),
    (lambda c: c["layers"][0].update(size=2048), "do not fit|more than|larger than"),
    (lambda c: c["layers"][0].update(size=13), "an input of 12 pixels, but the network has 3 and 13"),
    (lambda c: c["layers"][1].update(padding=[64, 64, 64, 64]), "do not fit small"),
    (lambda c: c["layers"][1].update(code_file="x.py"), "refers to code or files"),
    (lambda c: c["layers"].pop(), "one Softmax last"),
    (lambda c: c.update(label_names=["a", "b"]), "the labels of|changed"),
    (lambda c: c.update(interpolation="nearest"), "unknown interpolation"),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_a_folder_that_describes_another_network_is_refused(kept, change, message) -> None:
    with pytest.raises((ConfigError, WeightsUnfitError), match=message) as raised:
        loaders.load_files(SPEC, edited(kept, change), Options())
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("change", [
    lambda t: t.pop("layers.2.weight"),
    lambda t: t.update(extra=torch.zeros(2)),
    lambda t: t.update({"layers.2.weight": torch.zeros(6, 3, 3, 4)}),
    lambda t: t.update({"layers.2.weight": t["layers.2.weight"].int()}),
])  # fmt: skip
def test_weights_that_do_not_fit_are_refused(kept, change) -> None:
    tensors = load_file(kept / "model.safetensors")
    change(tensors)
    save_file(tensors, kept / "model.safetensors")
    with pytest.raises(WeightsUnfitError, match="do not fit small"):
        loaders.load_files(SPEC, kept, Options())


def test_weights_that_are_not_finite_fail_the_self_test(kept) -> None:
    tensors = load_file(kept / "model.safetensors")
    tensors["layers.3.variance"] = -torch.ones(6)
    save_file(tensors, kept / "model.safetensors")
    with pytest.raises(ModelError, match="not probabilities"):
        loaders.load_files(SPEC, kept, Options())


def test_memory_and_work_are_limited_before_a_network_runs(kept, monkeypatch) -> None:
    monkeypatch.setattr(layers_model, "MAX_WORK", 1000)
    with pytest.raises(WeightsUnfitError, match="more than 134217728 and 1000"):
        loaders.load_files(SPEC, kept, Options())
    monkeypatch.undo()
    monkeypatch.setattr(layers_model, "MAX_ACTIVATIONS", 1000)
    with pytest.raises(WeightsUnfitError, match="more than 1000"):
        loaders.load_files(SPEC, kept, Options())


def test_outputs_are_dropped_after_their_last_use(backend, monkeypatch) -> None:
    net = backend._nets[torch.device("cpu")]
    dropped = [number for done in net._done for number in done]
    assert sorted(dropped) == list(range(len(net.plan) - 1))


def test_a_saved_folder_can_be_copied_into(backend, kept, tmp_path) -> None:
    shutil.copytree(kept, tmp_path / "again")
    backend.save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (kept / "model.safetensors").read_bytes()


@pytest.mark.parametrize("spec", NSFWJS_MODELS, ids=lambda spec: spec.name)
def test_the_records_say_what_is_chosen(spec) -> None:
    assert list(spec.labels) == ["Drawing", "Hentai", "Neutral", "Porn", "Sexy"]
    assert spec.levels == {"sexual": (Severity.LOW, Severity.HIGH)}
    assert spec.positives == {"sexual": Severity.HIGH}
    assert set(spec.thresholds) == {"default", "strict", "lenient"}
    assert all("not measured" in threshold.source for threshold in spec.thresholds.values())
    assert spec.net_input.interpolation == "bilinear-aligned"
    assert not spec.repo
    assert spec.details == {"drawing": "Drawing"}


@pytest.mark.parametrize("spec", NSFWJS_MODELS, ids=lambda spec: spec.name)
def test_a_folder_can_be_made_from_each_record(spec, tmp_path) -> None:
    small_one = make(spec, tmp_path / spec.name)
    for view in (
        loaders.load_files(small_one, tmp_path / spec.name, Options()).score([Frames(smooth(1, 60, 130))])[0].views
    ):
        levels = view.levels["sexual"]
        assert 0 < levels[Severity.HIGH] <= levels[Severity.LOW] < 1
