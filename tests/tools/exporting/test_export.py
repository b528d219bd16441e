"""An export appears whole, gives the model's verdicts, and is refused by its reader once it does not."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch

from nsfw_guard.backends.files.weights import sha256_of
from nsfw_guard.backends.registry import load_model, spec
from nsfw_guard.errors import ConfigError, MissingExtraError, SelfTestError, UnknownNameError, WeightsUnfitError
from nsfw_guard.guard import Guard
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.testing import FakeBackend
from nsfw_guard.tools.exporting import writing
from nsfw_guard.tools.exporting.export import export, source_model
from nsfw_guard.tools.exporting.result import ExportResult
from tests.backends.make_models import make
from tests.images import smooth
from tests.tools.exporting.conftest import DRAWN

onnx = pytest.importorskip("onnx", reason="pip install 'nsfw-guard[export]'")
pytest.importorskip("onnxscript", reason="pip install 'nsfw-guard[export]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="pip install 'nsfw-guard[export]'")

TORCH = {"torch-export": "model.pt2", "torchscript": "model.torchscript.pt"}


def copied(result: ExportResult, to: Path) -> Path:
    return Path(shutil.copytree(result.folder, to))


def record_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "nsfw_guard.json").read_text())


def set_record(folder: Path, **fields: Any) -> None:
    (folder / "nsfw_guard.json").write_text(json.dumps({**record_of(folder), **fields}))


def double(folder: Path, names: Callable[[str], bool]) -> None:
    """Doubles some weights of model.onnx."""
    model = onnx.load(folder / "model.onnx")
    changed = [tensor for tensor in model.graph.initializer if names(tensor.name)]
    assert changed
    for tensor in changed:
        tensor.CopyFrom(onnx.numpy_helper.from_array(2 * onnx.numpy_helper.to_array(tensor), tensor.name))
    onnx.save(model, folder / "model.onnx")


@pytest.mark.parametrize("settings", [
    {"target": "tensorflow"}, {"target": "onnx", "precision": "int4"},
], ids=str)  # fmt: skip
def test_an_unknown_name_is_refused(model, tmp_path, settings) -> None:
    with pytest.raises(UnknownNameError):
        export(model, tmp_path / "out", **settings)


@pytest.mark.parametrize(("settings", "said"), [
    ({"target": "aoti", "precision": "int8"}, "aoti is exported in fp32 only"),
    ({"target": "openvino", "with_preprocessing": True}, "--with-preprocessing is for --to onnx"),
    ({"target": "onnx", "images": 0}, "at least 1, got 0"),
], ids=str)  # fmt: skip
def test_settings_that_do_not_go_together_are_refused(model, tmp_path, settings, said) -> None:
    with pytest.raises(ConfigError, match=said):
        export(model, tmp_path / "out", **settings)


def test_a_folder_with_files_and_one_in_no_folder_are_refused(model, tmp_path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is not an empty folder"):
        export(model, tmp_path, target="onnx")
    with pytest.raises(ConfigError, match="is no folder: make it"):
        export(model, tmp_path / "none" / "out", target="onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_what_cannot_be_exported_is_named(tmp_path, exported, tiny) -> None:
    with pytest.raises(ConfigError, match="only single networks"):
        export(FakeBackend(), tmp_path / "out", target="onnx")
    with pytest.raises(ConfigError, match=r"is exported already \(onnxruntime"):
        export(load_model(exported().folder), tmp_path / "out", target="onnx")
    with pytest.raises(ConfigError, match="loaded in bfloat16"):
        export(load_model(tiny, dtype="bfloat16"), tmp_path / "out", target="onnx")


@pytest.mark.parametrize(("name", "kind"), [("nudenet", "nudenet"), ("laion", "laion"), ("shieldgemma2", "judge")])
def test_other_kinds_are_refused_before_their_weights_are_asked_for(name, kind) -> None:
    with pytest.raises(ConfigError, match=f"its kind is '{kind}'"):
        source_model(name)


@pytest.mark.parametrize(("library", "target", "extra"), [
    ("onnxscript", "onnx", "export"), ("onnxruntime", "onnx", "export"), ("openvino", "openvino", "openvino"),
])  # fmt: skip
def test_a_missing_library_names_its_extra_and_leaves_nothing(
    model, tmp_path, monkeypatch, library, target, extra
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match=rf"{library} is not installed: .*nsfw-guard\[{extra}\]"):
        export(model, tmp_path / "out", target=target)
    assert list(tmp_path.iterdir()) == []


def test_a_package_needs_a_compiler(model, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CXX", "none")
    with pytest.raises(ConfigError, match=r"no compiler is installed: install g\+\+"):
        export(model, tmp_path / "out", target="aoti", images=DRAWN)


def spoilt(path: Path) -> None:
    """Twice the weights of the head: scores far from those of the network."""
    double(path.parent, lambda name: "head" in name)


def test_a_precision_that_changes_verdicts_is_refused_with_the_numbers_of_each_way(
    model, tmp_path, monkeypatch
) -> None:
    monkeypatch.setitem(writing.WAYS, ("onnx", "int8"), {"dynamic": spoilt, "weights-only": spoilt})
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(SelfTestError, match=r"dynamic: scores move by up to .*weights-only: .*--precision fp32"):
        export(model, out, target="onnx", precision="int8", images=DRAWN)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert list(out.iterdir()) == []


def test_the_second_way_is_taken_where_the_first_changes_verdicts(model, tmp_path, monkeypatch) -> None:
    ways = {"dynamic": spoilt, "weights-only": writing.to_weights_only}
    monkeypatch.setitem(writing.WAYS, ("onnx", "int8"), ways)
    result = export(model, tmp_path / "out", target="onnx", precision="int8", images=DRAWN)
    assert result.method == "weights-only"
    assert load_model(tmp_path / "out").state()["self_test"] == "passed"
    assert "qdq_matmulnbits_accuracy_level=1" in result.notes[0]


def test_altered_weights_are_refused_by_their_hash(exported, tmp_path) -> None:
    folder = copied(exported(), tmp_path / "altered")
    double(folder, lambda name: "head" in name)
    with pytest.raises(WeightsUnfitError, match="does not have the recorded SHA-256"):
        load_model(folder)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_graph_with_other_answers_is_refused_by_its_self_test(exported, tmp_path, precision) -> None:
    folder = copied(exported("onnx", precision), tmp_path / "other")
    double(folder, lambda name: "head.bias" in name or "scale" in name or "norm" in name)
    set_record(folder, hashes={"model.onnx": sha256_of(folder / "model.onnx")})
    with pytest.raises(SelfTestError, match="differ from its record"):
        load_model(folder)


def test_the_folder_is_read_and_gives_the_models_scores_and_embeddings(model, exported) -> None:
    result, pixels = exported(), (smooth(5, 40, 90) * 255).to(torch.uint8)
    backend = load_model(result.folder)
    state = backend.state()
    assert (state["self_test"], state["runtime"].split()[0]) == ("passed", "onnxruntime")
    assert backend.spec.thresholds == model.spec.thresholds
    one, other = (b.score([Frames(pixels)], embeddings=True) for b in (model, backend))
    for mine, theirs in zip(one, other, strict=True):
        assert list(mine.numbers()) == pytest.approx(list(theirs.numbers()), abs=1e-5)
        assert torch.allclose(mine.embedding, theirs.embedding, atol=1e-4)
    guards = Guard(model), Guard.from_pretrained(result.folder)
    verdicts = [[verdict.outcome for verdict in guard.check(pixels)] for guard in guards]
    assert verdicts[0] == verdicts[1]


def test_the_file_names_the_opset_and_nothing_of_the_machine(exported) -> None:
    result = exported()
    network = onnx.load(result.folder / "model.onnx")
    assert [(one.domain, one.version) for one in network.opset_import] == [("", result.opset)]
    assert [port.type.tensor_type.shape.dim[0].dim_param for port in network.graph.output] == ["n", "n"]
    assert [port.name for port in network.graph.output] == ["logits", "embedding"]
    for name in ("model.onnx", "export.json", "README.md", "nsfw_guard.json", "config.json"):
        data = (result.folder / name).read_bytes()
        assert b".py" not in data, name
        assert str(result.folder.parent).encode() not in data, name


def test_the_facts_beside_the_network_are_those_of_the_result(exported) -> None:
    result = exported("onnx", "int8")
    facts = json.loads((result.folder / "export.json").read_text())
    assert facts == json.loads(json.dumps(result.to_dict()))
    assert facts["files"] == {"model.onnx": sha256_of(result.folder / "model.onnx")}
    assert (facts["precision"], facts["source"], facts["model"]) == ("int8", "tiny", "tiny-int8")
    assert facts["versions"]["torch"] == version("torch")
    card = (result.folder / "README.md").read_text()
    assert "License of the weights: unknown" in card
    assert f"lower than the model's own by {result.parity.margin:g}" in card


@pytest.mark.parametrize(("target", "precision"), [
    ("onnx", "fp16"), ("onnx", "int8"), ("openvino", "int8"),
    pytest.param("openvino", "fp16", marks=pytest.mark.slow),
])  # fmt: skip
def test_a_reduced_export_is_smaller_and_has_lower_thresholds_and_its_own_answers(
    model, exported, target, precision
) -> None:
    pytest.importorskip(target, reason=f"pip install 'nsfw-guard[{target}]'")
    result, whole = exported(target, precision), exported(target)
    main = "model.onnx" if target == "onnx" else "model.bin"
    assert (result.folder / main).stat().st_size < 0.8 * (whole.folder / main).stat().st_size
    assert 0 < 2 * result.parity.max_change <= result.parity.margin <= 0.04
    assert (result.parity.released, result.parity.blocked > 0) == (0, True)
    backend = load_model(result.folder)
    assert backend.state()["self_test"] == "passed"
    assert backend.spec.name == f"tiny-{precision}"
    threshold, before = backend.spec.thresholds["default"], model.spec.thresholds["default"]
    assert threshold.block == pytest.approx(before.block - result.parity.margin)
    assert threshold.source.endswith(f"lowered by {result.parity.margin:g} for {precision}")
    assert backend.spec.known_answers != load_model(whole.folder).spec.known_answers


@pytest.mark.parametrize("target", TORCH)
def test_torchs_own_file_stands_beside_the_weights_and_is_never_opened(model, exported, tmp_path, target) -> None:
    result = exported(target)
    assert {path.name for path in result.folder.iterdir()} == {
        "config.json", "model.safetensors", "nsfw_guard.json", "export.json", "README.md", TORCH[target]
    }  # fmt: skip
    assert result.files == {TORCH[target]: sha256_of(result.folder / TORCH[target])}
    assert result.parity.max_change <= 1e-5
    folder = copied(result, tmp_path / "garbage")
    (folder / TORCH[target]).write_bytes(b"no network")
    backend = load_model(folder)
    assert (backend.state()["runtime"], backend.state()["self_test"]) == ("torch", "passed")
    assert ("deprecated" in "".join(result.notes)) is (target == "torchscript")


def test_a_program_opened_again_gives_logits_and_embedding_for_any_number_of_rows(model, exported) -> None:
    call = torch.export.load(exported("torch-export").folder / "model.pt2").module()
    values = torch.rand(3, 3, 32, 32)
    with torch.inference_mode():
        for mine, theirs in zip(call(values), model.net.forward_with_embedding(values), strict=True):
            assert torch.allclose(mine, theirs, atol=1e-5)


@pytest.mark.slow
def test_a_compiled_package_gives_the_models_scores(model, tmp_path) -> None:
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    result = export(model, tmp_path / "out", target="aoti", images=DRAWN)
    assert result.parity.max_change <= 1e-5
    assert load_model(tmp_path / "out").state()["self_test"] == "passed"


def test_the_graph_with_preprocessing_takes_bytes_and_returns_the_centre_views_probabilities(model, exported) -> None:
    result = exported()
    assert (result.preprocessing.levels_off, result.preprocessing.share_off) == (0, 0.0)
    path = result.folder / "model-with-preprocessing.onnx"
    assert result.files[path.name] == sha256_of(path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    center = load_model(result.folder, views="center")
    for size in ((50, 90), (90, 50), (200, 20), (32, 32)):
        pixels = (smooth(2, *size) * 255).to(torch.uint8)
        (probabilities,) = session.run(None, {"image": pixels.numpy()})
        expected = [next(scores.numbers()) for scores in center.score([Frames(pixels)])]
        assert probabilities[:, 0].tolist() == pytest.approx(expected, abs=1e-6)
    assert load_model(result.folder).state()["runtime"].split()[2:] == center.state()["runtime"].split()[2:]


def test_images_of_a_folder_are_compared_too(model, tmp_path) -> None:
    from PIL import Image

    (tmp_path / "mine").mkdir()
    for level in range(3):
        Image.new("RGB", (40, 40), (90 * level, 0, 0)).save(tmp_path / "mine" / f"{level}.png")
    result = export(
        model, tmp_path / "out", target="torchscript", images=2, parity=[tmp_path / "mine"], trust_guard=True
    )
    assert result.parity.images == 5


@pytest.mark.slow
def test_a_network_of_transformers_keeps_its_processor_and_its_scores(tmp_path) -> None:
    pytest.importorskip("transformers")
    make(spec("falconsai"), tmp_path / "vit")
    model = load_model(tmp_path / "vit")
    result = export(model, tmp_path / "out", target="onnx", images=DRAWN, with_preprocessing=True)
    backend, pixels = load_model(tmp_path / "out"), smooth(2, 40, 90)
    assert (backend.spec.input, backend.spec.labels) == (model.spec.input, model.spec.labels)
    assert result.preprocessing.levels_off == 0
    for mine, theirs in zip(backend.score([Frames(pixels)]), model.score([Frames(pixels)]), strict=True):
        assert list(mine.numbers()) == pytest.approx(list(theirs.numbers()), abs=1e-5)
