"""An exported network in ONNX Runtime: its own bits, the torch model's answers, and nothing that is not checked."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

from nsfw_guard.backends.files.onnx_file import external
from nsfw_guard.backends.registry import load_model
from nsfw_guard.errors import (
    ConfigError,
    MissingExtraError,
    ScoringError,
    UnknownNameError,
    WeightsMissingError,
    WeightsUnfitError,
)
from nsfw_guard.guard import Guard
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.verdict import Outcome
from tests.images import smooth

onnx = pytest.importorskip("onnx", reason="pip install onnx: the tests make files with it")
onnxruntime = pytest.importorskip("onnxruntime", reason="pip install 'nsfw-guard[onnx]'")

LAYOUTS = ("any", "one", "beside")


def raw(folder: Path, values: torch.Tensor) -> list[torch.Tensor]:
    """What ONNX Runtime alone says, image by image where the file takes one only."""
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    one = session.get_inputs()[0].shape[0] == 1
    pieces = [session.run(None, {"pixels": v.numpy()}) for v in (values.split(1) if one else [values])]
    return [torch.cat([torch.from_numpy(part) for part in parts]) for parts in zip(*pieces, strict=True)]


def copy(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to))


def change(folder: Path, edit) -> Path:
    """The folder, its model.onnx edited by the onnx package."""
    model = onnx.load(folder / "model.onnx")
    edit(model)
    onnx.save(model, folder / "model.onnx")
    return folder


def shown(backend, pixels: torch.Tensor) -> torch.Tensor:
    return backend.preprocess.prepare(Frames(pixels)).pixels.flatten(0, 1)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_logits_are_the_sessions_own_bits_and_the_torch_models_numbers(exports, tiny, layout) -> None:
    backend, pixels = load_model(exports[layout]), (smooth(5, 40, 40) * 255).to(torch.uint8)
    views = shown(backend, pixels)
    logits, features = backend.forward_with_embedding(views)
    expected = raw(exports[layout], backend.preprocess.normalise(views))
    assert torch.equal(logits, expected[0])
    by_torch = load_model(tiny).forward_with_embedding(views)
    assert torch.allclose(logits, by_torch[0], rtol=0, atol=1e-5)
    if layout == "one":
        assert (backend.width, features.shape) == (0, (5, 0))
    else:
        assert backend.width == 24
        assert torch.equal(features, expected[1])
        assert torch.allclose(features, by_torch[1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("count", [1, 3, 17])
def test_a_batch_is_its_images_one_by_one(exports, layout, count) -> None:
    backend, pixels = load_model(exports[layout], batch_size=8), smooth(count, 40, 100)
    together = backend.score([Frames(pixels)], embeddings=True, digests=True)
    assert len(together) == count
    for frame, scores in zip(pixels, together, strict=True):
        (alone,) = backend.score([Frames(frame[None])], embeddings=True, digests=True)
        assert list(scores.numbers()) == pytest.approx(list(alone.numbers()), abs=1e-6)
        assert scores.digest == alone.digest
        if layout == "one":
            assert scores.embedding is None is alone.embedding
        else:
            assert torch.allclose(scores.embedding, alone.embedding, atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (9, 200), (64, 31), (300, 40)])
def test_images_of_any_shape_get_the_torch_models_scores(exports, tiny, size) -> None:
    pixels = smooth(2, *size)
    scores, expected = (load_model(folder).score([Frames(pixels)]) for folder in (exports["any"], tiny))
    for mine, torchs in zip(scores, expected, strict=True):
        assert [v.view for v in mine.views] == [v.view for v in torchs.views]
        assert list(mine.numbers()) == pytest.approx(list(torchs.numbers()), abs=1e-5)


def test_a_bad_pixel_is_an_error_and_the_others_are_judged(exports) -> None:
    pixels = smooth(3, 40, 60)
    pixels[1, 2, 3, 4] = float("nan")
    outcomes = [v.outcome for v in Guard.from_pretrained(exports["any"], policy={"rules": {"*": {"block": 1}}})
                .check(pixels)]  # fmt: skip
    assert outcomes == [Outcome.ALLOW, Outcome.ERROR, Outcome.ALLOW]


def test_the_files_choose_the_runtime_and_a_user_may_override_it(exports, tiny, tmp_path) -> None:
    both = copy(tiny, tmp_path / "both")
    shutil.copy(exports["any"] / "model.onnx", both)
    ran = {asked: load_model(both, runtime=asked).state()["runtime"] for asked in (None, "torch", "onnx")}
    assert ran[None] == ran["torch"] == "torch"
    assert ran["onnx"].startswith(f"onnxruntime {onnxruntime.__version__} on the cpu")
    assert load_model(exports["any"]).state()["runtime"] == ran["onnx"]
    (verdict,) = Guard.from_pretrained(both, runtime="onnx").check(smooth(1, 9, 9))
    assert (verdict.requested["runtime"], verdict.state["runtime"]) == ("onnx", ran["onnx"])
    with pytest.raises(UnknownNameError, match="did you mean 'onnx'"):
        load_model(both, runtime="onx")


@pytest.mark.parametrize(("settings", "error", "cure"), [
    ({"runtime": "onnx"}, WeightsMissingError, "nsfw-guard export"),
    ({"runtime": "openvino"}, WeightsMissingError, "omit runtime"),
])  # fmt: skip
def test_a_runtime_without_its_file_names_the_cure(tiny, settings, error, cure) -> None:
    with pytest.raises(error, match=cure):
        load_model(tiny, **settings)


def test_transformers_layout_needs_no_transformers(exports, tmp_path) -> None:
    folder = tmp_path / "vit"
    folder.mkdir()
    shutil.copy(exports["any"] / "model.onnx", folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "vit", "id2label": {"0": "nsfw", "1": "normal"}}))
    settings = {"size": {"height": 32, "width": 32}, "resample": 2, "do_center_crop": False, "image_mean": [0.5] * 3,
            "image_std": [0.5] * 3, "rescale_factor": 1 / 255}  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    pixels = smooth(3, 50, 90)
    backend = load_model(folder)
    values = backend.preprocess.normalise(shown(backend, pixels))
    expected = raw(folder, values)[0].softmax(-1)[:, 0].tolist()
    assert [next(s.numbers()) for s in backend.score([Frames(pixels)])] == expected
    backend.save_pretrained(tmp_path / "saved")
    assert (tmp_path / "saved" / "preprocessor_config.json").is_file()
    again = load_model(tmp_path / "saved").score([Frames(pixels)])
    assert [next(s.numbers()) for s in again] == expected


def test_the_stock_checker_runs_in_torch_only(tmp_path) -> None:
    config = {"architectures": ["StableDiffusionSafetyChecker"], "model_type": "clip"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="runs in torch only: runtime='onnx'"):
        load_model(tmp_path, runtime="onnx")


def test_sessions_use_as_many_threads_as_torch(exports, monkeypatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    backend = load_model(exports["any"])
    runner = backend._nets[backend.home].runner
    (session,) = runner._sessions.values()
    assert session.get_session_options().intra_op_num_threads == 3
    assert session.get_providers() == ["CPUExecutionProvider"]


def test_other_layouts_and_dtypes_are_refused(exports, tiny) -> None:
    with pytest.raises(ConfigError, match="omit dtype"):
        load_model(exports["any"], dtype="bfloat16")
    with pytest.raises(ConfigError, match="pass that folder instead"):
        load_model(
            "timm:vit_tiny_patch16_224", weights=tiny / "model.safetensors", labels={"a": "sexual"}, runtime="onnx"
        )


def test_without_the_library_the_extra_is_named(exports, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"nsfw-guard\[onnx\]"):
        load_model(exports["any"])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_saved_guard_comes_back_with_its_hashes(exports, layout, tmp_path) -> None:
    guard = Guard.from_pretrained(exports[layout], policy={"rules": {"*": {"block": 0.5}}}, action="blur")
    guard.save_pretrained(tmp_path / "guard")
    record = json.loads((tmp_path / "guard" / "nsfw_guard.json").read_text())
    assert sorted(record["hashes"]) == ["model.onnx", "model.onnx.data"][: 2 if layout == "beside" else 1]

    again = Guard.from_pretrained(tmp_path / "guard")
    pixels = smooth(2, 40, 70)
    assert [v.score for v in again.check(pixels)] == [v.score for v in guard.check(pixels)]
    assert again.spec.hashes == guard.spec.hashes
    assert again.check(pixels)[0].revision == record["hashes"]["model.onnx"]
    again.save_pretrained(tmp_path / "guard")  # into its own folder: the files are there


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data"])
def test_files_that_were_touched_are_refused(exports, tmp_path, name) -> None:
    load_model(exports["beside"]).save_pretrained(tmp_path / "one")
    data = bytearray((tmp_path / "one" / name).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "one" / name).write_bytes(data)
    with pytest.raises(WeightsUnfitError, match=f"{name} does not have the recorded SHA-256"):
        load_model(tmp_path / "one")


def test_weights_beside_that_no_record_names_are_refused(exports, tmp_path) -> None:
    folder = tmp_path / "one"
    load_model(exports["beside"]).save_pretrained(folder)
    record = json.loads((folder / "nsfw_guard.json").read_text())
    del record["hashes"]["model.onnx.data"]
    (folder / "nsfw_guard.json").write_text(json.dumps(record))
    with pytest.raises(WeightsUnfitError, match="is not in the record"):
        load_model(folder)


def test_it_is_not_saved_over_another_model_or_after_its_files_changed(exports, tiny, tmp_path) -> None:
    backend = load_model(copy(exports["any"], tmp_path / "one"))
    with pytest.raises(ConfigError, match="use an empty folder"):
        backend.save_pretrained(copy(tiny, tmp_path / "tiny"))
    with (tmp_path / "one" / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ConfigError, match="changed after loading"):
        backend.save_pretrained(tmp_path / "two")
    (tmp_path / "one" / "model.onnx").unlink()
    with pytest.raises(ConfigError, match="load it again first"):
        backend.save_pretrained(tmp_path / "three")


@pytest.mark.parametrize(
    "place", ["../elsewhere.bin", "/etc/elsewhere.bin", "C:\\elsewhere.bin", "..\\elsewhere.bin", ""]
)
def test_weights_outside_the_folder_are_refused(exports, tmp_path, place) -> None:
    def lead_astray(model) -> None:
        tensor = next(t for t in model.graph.initializer if len(t.raw_data) > 64)
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=place)

    folder = copy(exports["any"], tmp_path / "one")
    model = onnx.load(folder / "model.onnx")
    lead_astray(model)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    assert external(folder / "model.onnx") == (place,)
    with pytest.raises(WeightsUnfitError, match="outside its folder"):
        load_model(folder)


def test_a_link_out_of_the_folder_is_refused_but_not_the_hubs_own(exports, tmp_path) -> None:
    folder = copy(exports["beside"], tmp_path / "one")
    elsewhere = tmp_path / "elsewhere.bin"
    (folder / "model.onnx.data").rename(elsewhere)
    with pytest.raises(WeightsMissingError, match=r"model\.onnx\.data does not exist"):
        load_model(folder)
    (folder / "model.onnx.data").symlink_to(elsewhere)
    with pytest.raises(WeightsUnfitError, match="a link to a file outside the folder"):
        load_model(folder)
    snapshot = tmp_path / "models--some--one" / "snapshots" / ("a" * 40)
    shutil.copytree(exports["any"], snapshot)
    (tmp_path / "models--some--one" / "blobs").mkdir()
    (snapshot / "model.onnx").rename(tmp_path / "models--some--one" / "blobs" / "1234")
    (snapshot / "model.onnx").symlink_to(Path("../../blobs/1234"))
    assert load_model(snapshot).width == 24


def test_weights_are_found_wherever_a_file_keeps_them(tmp_path) -> None:
    def tensor(place: str):
        proto = onnx.TensorProto(name=place, dims=[1], data_type=1, data_location=onnx.TensorProto.EXTERNAL)
        proto.external_data.add(key="offset", value="0")
        proto.external_data.add(key="location", value=place)
        return proto

    inner = onnx.helper.make_graph([], "inner", [], [], initializer=[tensor("in a branch")])
    node = onnx.helper.make_node("If", ["c"], ["d"], then_branch=inner, value=tensor("in an attribute"))
    sparse = onnx.SparseTensorProto(values=tensor("sparse"), indices=tensor("indices"), dims=[1])
    graph = onnx.helper.make_graph([node], "graph", [], [], initializer=[tensor("plain")], sparse_initializer=[sparse])
    inside = onnx.helper.make_node("Constant", [], ["x"], value=tensor("in a function"))
    function = onnx.helper.make_function("own", "f", [], ["x"], [inside], [onnx.helper.make_opsetid("", 17)])
    model = onnx.helper.make_model(graph, functions=[function])
    model.training_info.add().initialization.initializer.append(tensor("in training"))
    (tmp_path / "all.onnx").write_bytes(model.SerializeToString())
    assert external(tmp_path / "all.onnx") == (
        "in a branch", "in a function", "in an attribute", "in training", "indices", "plain", "sparse"
    )  # fmt: skip


@pytest.mark.parametrize("content", [b"", b"no model at all", b"\x3a\xff\x01", b"\x08\x80", b"\xff" * 30])
def test_a_file_that_is_no_model_is_refused(exports, tmp_path, content) -> None:
    folder = copy(exports["any"], tmp_path / "one")
    (folder / "model.onnx").write_bytes(content)
    with pytest.raises(WeightsUnfitError, match="xport it again"):
        load_model(folder)


def _three_labels(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["label_names"] = ["NSFW", "SFW", "other"]
    (folder / "config.json").write_text(json.dumps(config))


def _other_side(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["pretrained_cfg"]["input_size"] = [3, 48, 48]
    (folder / "config.json").write_text(json.dumps(config))


def _doubles(folder: Path) -> None:
    """Pixels as float64, turned into float32 inside."""

    def edit(model) -> None:
        model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
        name = model.graph.input[0].name
        for node in model.graph.node:
            node.input[:] = ["as_float" if i == name else i for i in node.input]
        model.graph.node.insert(0, onnx.helper.make_node("Cast", [name], ["as_float"], to=onnx.TensorProto.FLOAT))

    change(folder, edit)


def _embedding_first(folder: Path) -> None:
    def edit(model) -> None:
        logits, embedding = list(model.graph.output)
        del model.graph.output[:]
        model.graph.output.extend([embedding, logits])

    change(folder, edit)


@pytest.mark.parametrize(("spoil", "cure"), [
    (_three_labels, "one for each label, .*: export the logits first, or correct the labels"),
    (_other_side, "export it with the size in its configuration"),
    (_doubles, r"takes pixels tensor\(double\)"),
    (_embedding_first, "export the logits first"),
])  # fmt: skip
def test_a_file_that_does_not_fit_its_configuration_is_refused(exports, tmp_path, spoil, cure) -> None:
    folder = copy(exports["any"], tmp_path / "one")
    spoil(folder)
    with pytest.raises(WeightsUnfitError, match=cure):
        load_model(folder, labels={"other": None} if spoil is _three_labels else None)


def test_a_second_output_of_another_name_is_no_embedding(exports, tmp_path) -> None:
    def rename(model) -> None:
        old = model.graph.output[1].name
        model.graph.output[1].name = "features"
        for node in model.graph.node:
            node.output[:] = ["features" if o == old else o for o in node.output]
            node.input[:] = ["features" if i == old else i for i in node.input]

    backend = load_model(change(copy(exports["any"], tmp_path / "one"), rename))
    (scores,) = backend.score([Frames(smooth(1, 40, 40))], embeddings=True)
    assert (backend.width, scores.embedding) == (0, None)


def test_recorded_answers_are_held_against_the_export(exports, tiny, tmp_path) -> None:
    from dataclasses import replace

    from nsfw_guard.backends.files.folder import read_spec, write_record
    from nsfw_guard.errors import SelfTestError
    from nsfw_guard.testing import tiny_model

    folder = copy(tiny, tmp_path / "one")
    write_record(folder, replace(read_spec(folder), known_answers=load_model(folder).known_answers()))
    shutil.copy(exports["any"] / "model.onnx", folder)
    assert load_model(folder, runtime="onnx").state()["self_test"] == "passed"

    other = tiny_model(tmp_path / "other", seed=5)
    write_record(folder, replace(read_spec(folder), known_answers=load_model(other).known_answers()))
    with pytest.raises(SelfTestError, match="differ from its record"):
        load_model(folder, runtime="onnx")


def test_one_session_serves_every_device_and_copy(exports) -> None:
    import copy as copies

    backend = load_model(exports["any"])
    net = backend._nets[backend.home]
    assert copies.deepcopy(net) is net
    with pytest.raises(ConfigError, match="is not available"):
        load_model(exports["any"], device="cuda:99")


class Broken:
    """A session that fails as it is told to."""

    def __init__(self, runner, answer) -> None:
        self.runner, self.answer, self.sizes = runner, answer, []
        self.name, self.inputs, self.outputs = runner.name, runner.inputs, runner.outputs

    def run(self, values: torch.Tensor) -> list[torch.Tensor]:
        self.sizes.append(len(values))
        return self.answer(self.runner.run(values))


def _too_many(outputs):
    if len(outputs[0]) > 2:
        raise MemoryError("alloc")
    return outputs


@pytest.mark.parametrize("answer", [
    lambda out: [out[0][:, :1], out[1]], lambda out: [out[0][:-1], out[1]], lambda out: out[:1],
    lambda out: [out[0] * float("nan"), out[1]], lambda out: [],
])  # fmt: skip
def test_an_odd_answer_is_an_error_for_every_image(exports, answer) -> None:
    guard = Guard.from_pretrained(exports["any"], policy={"rules": {"*": {"block": 1}}})
    net = guard.backend._nets[guard.backend.home]
    net.runner = Broken(net.runner, answer)
    assert [v.outcome for v in guard.check(smooth(3, 40, 40))] == [Outcome.ERROR] * 3


def test_out_of_memory_goes_on_with_fewer(exports) -> None:
    backend = load_model(exports["any"])
    before = backend.score([Frames(smooth(5, 40, 40))])
    net = backend._nets[backend.home]
    net.runner = Broken(net.runner, _too_many)
    assert [list(s.numbers()) for s in backend.score([Frames(smooth(5, 40, 40))])] == [
        pytest.approx(list(s.numbers()), abs=1e-6) for s in before
    ]
    assert net.runner.sizes == [5, 2, 2, 1]


def test_a_session_that_fails_is_a_scoring_error(exports) -> None:
    backend = load_model(exports["any"])
    runner = backend._nets[backend.home].runner
    with pytest.raises(ScoringError, match="onnxruntime failed"):
        runner.run(torch.zeros(1, 3, 31, 31))
