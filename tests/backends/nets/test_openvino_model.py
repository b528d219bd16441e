"""An exported network in OpenVINO: the torch model's answers, in float32, and no word to anybody."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from nsfw_guard.backends.files.weights import sha256_of
from nsfw_guard.backends.nets import openvino_model
from nsfw_guard.backends.nets.openvino_model import quiet_openvino
from nsfw_guard.backends.registry import load_model
from nsfw_guard.errors import MissingExtraError, ScoringError, WeightsMissingError, WeightsUnfitError
from nsfw_guard.guard import Guard
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.verdict import Outcome
from tests.images import smooth
from tests.threads import in_threads

if importlib.util.find_spec("openvino") is None:  # not importorskip: a plain import would send an event
    pytest.skip("pip install 'nsfw-guard[openvino]'", allow_module_level=True)

LAYOUTS = ("any", "one", "beside")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_logits_are_the_models_own_and_the_torch_models_numbers(exports, tiny, layout) -> None:
    backend, pixels = load_model(exports[layout], runtime="openvino"), (smooth(5, 40, 40) * 255).to(torch.uint8)
    views = backend.preprocess.prepare(Frames(pixels)).pixels.flatten(0, 1)
    logits, features = backend.forward_with_embedding(views)
    by_torch = load_model(tiny).forward_with_embedding(views)
    assert torch.allclose(logits, by_torch[0], rtol=0, atol=1e-5)
    assert backend.width == (0 if layout == "one" else 24)
    assert layout == "one" or torch.allclose(features, by_torch[1], rtol=0, atol=1e-5)

    openvino = quiet_openvino()
    core = openvino.Core()
    plain = core.compile_model(
        core.read_model(exports[layout] / "model.onnx"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    values = backend.preprocess.normalise(views)
    expected = [plain([v.numpy()])[0].copy() for v in (values.split(1) if layout == "one" else [values])]
    assert np.abs(np.concatenate(expected) - logits.numpy()).max() <= 1e-6


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("count", [1, 3, 17])
def test_a_batch_is_its_images_one_by_one(exports, layout, count) -> None:
    backend, pixels = load_model(exports[layout], runtime="openvino", batch_size=8), smooth(count, 40, 100)
    together = backend.score([Frames(pixels)], embeddings=True)
    for frame, scores in zip(pixels, together, strict=True):
        (alone,) = backend.score([Frames(frame[None])], embeddings=True)
        assert list(scores.numbers()) == pytest.approx(list(alone.numbers()), abs=1e-6)
        assert (scores.embedding is None) == (layout == "one")


@pytest.mark.parametrize("size", [(1, 1), (9, 200), (300, 40)])
def test_images_of_any_shape_get_the_torch_models_scores(exports, tiny, size) -> None:
    pixels = smooth(2, *size)
    scores, expected = (
        load_model(exports["any"], runtime="openvino").score([Frames(pixels)]),
        load_model(tiny).score([Frames(pixels)]),
    )
    for mine, torchs in zip(scores, expected, strict=True):
        assert list(mine.numbers()) == pytest.approx(list(torchs.numbers()), abs=1e-5)


def test_threads_ask_one_model_at_once(exports) -> None:
    backend, pixels = load_model(exports["any"], runtime="openvino"), smooth(8, 40, 40)
    expected = [list(backend.score([Frames(p[None])])[0].numbers()) for p in pixels]
    scores: dict[int, list[float]] = {}

    def work(index: int) -> None:
        for _ in range(10):
            scores[index] = list(backend.score([Frames(pixels[index][None])])[0].numbers())

    in_threads(work, 8)
    assert [scores[i] for i in range(8)] == expected


def test_through_a_guard_a_bad_pixel_is_an_error_and_the_state_says_what_ran(exports, tmp_path) -> None:
    pixels = smooth(2, 40, 60)
    pixels[1, 0, 0, 0] = float("nan")
    guard = Guard.from_pretrained(exports["any"], runtime="openvino", policy={"rules": {"*": {"block": 1}}})
    verdicts = guard.check(pixels)
    assert [v.outcome for v in verdicts] == [Outcome.ALLOW, Outcome.ERROR]
    assert verdicts[0].state["runtime"].startswith("openvino 20")
    assert verdicts[0].requested["runtime"] == "openvino"

    guard.save_pretrained(tmp_path / "guard")
    again = Guard.from_pretrained(tmp_path / "guard", runtime="openvino", trust_guard=True)
    assert [v.score for v in again.check(pixels[:1])] == [verdicts[0].score]
    assert again.requested["trusted"] == "'sexual' is blocked only from 1 up"


def test_files_that_were_touched_or_are_none_are_refused(exports, tmp_path) -> None:
    load_model(exports["beside"]).save_pretrained(tmp_path / "one")
    with (tmp_path / "one" / "model.onnx.data").open("r+b") as file:
        file.write(b"other")
    with pytest.raises(WeightsUnfitError, match="recorded SHA-256"):
        load_model(tmp_path / "one", runtime="openvino")
    shutil.copytree(exports["any"], tmp_path / "two")
    (tmp_path / "two" / "model.onnx").write_bytes(b"\x08\x01")
    with pytest.raises(WeightsUnfitError, match="export it again"):
        load_model(tmp_path / "two", runtime="openvino")


def test_an_input_that_does_not_fit_is_a_scoring_error(exports) -> None:
    """OpenVINO answers it with no rows and without a word."""
    backend = load_model(exports["any"], runtime="openvino")
    with pytest.raises(ScoringError, match=r"returned \[\(0, 2\), \(0, 24\)\] for 1 images|openvino failed"):
        backend._nets[backend.home].forward_with_embedding(torch.zeros(1, 3, 31, 31))


def test_without_the_library_the_extra_is_named(exports, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"nsfw-guard\[openvino\]"):
        load_model(exports["any"], runtime="openvino")
    assert "openvino_telemetry" not in sys.modules or sys.modules["openvino_telemetry"] is not None


def test_nothing_is_reported_to_anybody(exports) -> None:
    """In a process of its own: no telemetry module is loaded, no address is looked up, no connection opened."""
    code = f"""
import socket, sys
def refuse(*args, **kwargs): raise SystemExit(f"somebody was called: {{args}}")
socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
import torch
from nsfw_guard import load_model
from nsfw_guard.imaging.frames import Frames
load_model({str(exports["any"])!r}, runtime="openvino").score([Frames(torch.rand(1, 3, 40, 40))])
import openvino
print(sorted(m for m in sys.modules if m.split(".")[0] == "openvino_telemetry"), callable(openvino.convert_model))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[] True"), done.stderr


@pytest.fixture(scope="module")
def ir(tiny, exports, tmp_path_factory):
    """The tiny network as an IR, with its record."""
    folder = tmp_path_factory.mktemp("ir")
    openvino = quiet_openvino()
    model = openvino.Core().read_model(exports["any"] / "model.onnx")
    openvino.save_model(model, folder / "model.xml", compress_to_fp16=False)
    shutil.copy(tiny / "config.json", folder)
    set_hashes(folder)
    return folder


def set_hashes(folder):
    hashes = {name: sha256_of(folder / name) for name in ("model.xml", "model.bin")}
    (folder / "nsfw_guard.json").write_text(json.dumps({"name": "ir", "hashes": hashes}))


def copied(folder, to):
    return Path(shutil.copytree(folder, to))


def test_an_ir_without_recorded_hashes_is_refused(ir, tmp_path) -> None:
    folder = copied(ir, tmp_path / "ir")
    (folder / "nsfw_guard.json").unlink()
    with pytest.raises(WeightsUnfitError, match=r"has no hashes of model\.xml and model\.bin: export it again"):
        load_model(folder)


@pytest.mark.parametrize("name", ["model.xml", "model.bin"])
def test_an_ir_is_hashed_before_it_is_parsed(ir, tmp_path, name, monkeypatch) -> None:
    folder = copied(ir, tmp_path / "ir")
    (folder / name).write_bytes((folder / name).read_bytes()[:-1] + b"x")
    monkeypatch.setattr(openvino_model, "OpenvinoRunner", lambda path: pytest.fail("it was opened"))
    with pytest.raises(WeightsUnfitError, match=f"{name} does not have the recorded SHA-256"):
        load_model(folder)


def test_an_ir_without_its_numbers_is_missing_a_file(ir, tmp_path) -> None:
    folder = copied(ir, tmp_path / "ir")
    (folder / "model.bin").unlink()
    with pytest.raises(WeightsMissingError, match=r"model\.bin does not exist"):
        load_model(folder)


def test_an_ir_that_is_none_is_refused(ir, tmp_path) -> None:
    folder = copied(ir, tmp_path / "ir")
    (folder / "model.xml").write_text("<net/>")
    set_hashes(folder)
    with pytest.raises(WeightsUnfitError, match=r"openvino cannot read model\.xml"):
        load_model(folder)


def test_an_ir_with_other_labels_is_refused_by_its_ports(ir, tmp_path) -> None:
    folder = copied(ir, tmp_path / "ir")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "label_names": ["NSFW", "SFW", "other"]}))
    with pytest.raises(WeightsUnfitError, match=r"first output of model\.xml must be float32 logits \(any, 3\)"):
        load_model(folder)


def test_an_ir_gives_the_numbers_of_the_onnx_file_and_is_saved_whole(ir, exports, tmp_path) -> None:
    backend, pixels = load_model(ir), (smooth(4, 40, 90) * 255).to(torch.uint8)
    assert backend.state()["runtime"].startswith("openvino ")
    assert backend.state()["runtime"].split()[-2] == "model.xml"
    views = backend.preprocess.prepare(Frames(pixels)).pixels.flatten(0, 1)
    onnx = load_model(exports["any"], runtime="openvino").forward_with_embedding(views)
    for mine, theirs in zip(backend.forward_with_embedding(views), onnx, strict=True):
        assert torch.allclose(mine, theirs, rtol=0, atol=1e-6)
    backend.save_pretrained(tmp_path / "saved")
    saved = load_model(tmp_path / "saved")
    assert saved.spec.hashes == backend.spec.hashes
    assert list(saved.score([Frames(pixels)])[0].numbers()) == pytest.approx(
        list(backend.score([Frames(pixels)])[0].numbers()), abs=1e-6
    )


def test_an_onnx_file_is_taken_before_an_ir(ir, exports, tmp_path) -> None:
    folder = copied(exports["any"], tmp_path / "both")
    for name in ("model.xml", "model.bin"):
        shutil.copy(ir / name, folder)
    assert load_model(folder).state()["runtime"].startswith("onnxruntime")
    assert "model.onnx" in load_model(folder, runtime="openvino").state()["runtime"]
