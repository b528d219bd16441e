"""What every model in the registry must do. A new record gets all of this for free: its folder is made from it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nsfw_guard import list_models, load_model
from nsfw_guard.backends import loaders, registry
from nsfw_guard.backends.base import Backend, Options
from nsfw_guard.backends.catalog.classifiers import DEMO
from nsfw_guard.backends.spec import ModelSpec
from nsfw_guard.errors import WeightsMissingError, WeightsUnfitError
from nsfw_guard.guard import Guard
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.verdict import Outcome
from tests.backends.make_models import make, reference, weights_of
from tests.images import smooth
from tests.matrix import every, latin

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
ALL = list_models()
ELSEWHERE = [name for name in ALL if registry.spec(name).repo or registry.spec(name).package]
INSTALLED = [name for name in ALL if registry.spec(name).kind == "nudenet"]  # its weights come with its own package
BUILT_IN = [name for name in ALL if name not in {*ELSEWHERE, *INSTALLED}]
NETS = [name for name in ALL if registry.spec(name).kind not in {"judge", "nudenet"}]  # with an embedding and a head
# The libraries that write a folder of each kind, and make the reference.
NEEDED = {"checker": ("transformers", "diffusers"), "open-nsfw": ("onnx", "onnxruntime")}
Make = Callable[..., Backend]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[ModelSpec, Path]]:
    """The record of a model and a folder with its weights: the real ones where they are in the package."""

    @cache
    def of(name: str) -> tuple[ModelSpec, Path]:
        spec = registry.spec(name)
        if name in BUILT_IN:
            return spec, DEMO / name
        for library in NEEDED.get(spec.kind, ("transformers",)):
            pytest.importorskip(library)
        target = tmp_path_factory.mktemp("made") / name
        return make(spec, target), target

    return of


@pytest.fixture(scope="session")
def model(folder) -> Make:
    """A model by its name, with options."""

    @cache
    def of(name: str, **options) -> Backend:
        if name in INSTALLED:
            pytest.importorskip("nudenet")
            return load_model(name, **options)
        spec, where = folder(name)
        return loaders.load_files(spec, where, Options(**options))

    return of


@pytest.mark.parametrize("name", ELSEWHERE)
def test_without_weights_and_network_the_cure_is_named(name) -> None:
    with pytest.raises(WeightsMissingError, match=f"nsfw-guard fetch {name}") as raised:
        load_model(name)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", BUILT_IN)
def test_it_answers_as_recorded(name) -> None:
    assert load_model(name).state()["self_test"] == "passed"
    assert load_model(name, dtype="bfloat16").state()["self_test"] == "passed"


@pytest.mark.parametrize(("name", "count"), latin(ALL, [1, 3, 17]))
def test_a_batch_is_its_images_one_by_one(model, name, count) -> None:
    backend, pixels = model(name), smooth(count, 60, 130)
    together = backend.score([Frames(pixels)], embeddings=True)
    assert len(together) == count
    for frame, scores in zip(pixels, together, strict=True):
        (alone,) = backend.score([Frames(frame[None])], embeddings=True)
        assert list(scores.numbers()) == pytest.approx(list(alone.numbers()), abs=1e-5)
        if name in NETS:
            assert torch.allclose(scores.embedding, alone.embedding, rtol=1e-3, atol=1e-4)
        else:
            assert scores.embedding is None


@pytest.mark.parametrize("name", ALL)
def test_stacks_keep_their_order(model, name) -> None:
    wide, square = smooth(2, 50, 120), smooth(1, 70, 70, seed=5)
    answers = model(name).score([Frames(wide), Frames(square)])
    alone = [model(name).score([Frames(one)])[0] for one in (wide[:1], wide[1:], square)]
    for scores, other in zip(answers, alone, strict=True):
        assert list(scores.numbers()) == pytest.approx(list(other.numbers()), abs=1e-5)
        assert [view.view for view in scores.views] == [view.view for view in other.views]


@pytest.mark.parametrize("name", ALL)
def test_it_scores_the_categories_of_its_record_by_name(model, name) -> None:
    spec = registry.spec(name)
    (scores,) = model(name).score([Frames(smooth(1, 64, 64))])
    assert {c: tuple(sorted(levels)) for c, levels in scores.views[0].levels.items()} == spec.levels
    assert set(spec.positives) == set(spec.levels) - set(spec.neutral)


# TensorFlow.js, the reference of networks of layers, runs in node: see tests/backends/layers/test_nsfwjs.py.
@pytest.mark.parametrize("name", [name for name in ELSEWHERE if name in NETS and registry.spec(name).kind != "layers"])
def test_its_numbers_are_those_of_the_reference(folder, model, name) -> None:
    spec, where = folder(name)
    crops = spec.input.crop_mode == "center" or spec.input.crop_pct < 1
    backend = model(name, views="center") if crops else model(name)
    _, by_reference = reference(spec, where)
    for seed, size in enumerate([(300, 300), (501, 333), (230, 451)]):
        pixels = (smooth(1, *size, seed=seed) * 255).round().to(torch.uint8)
        with torch.inference_mode():
            expected = by_reference(Image.fromarray(pixels[0].permute(1, 2, 0).numpy()))
            numbers, _ = backend.forward_with_embedding(backend.preprocess.prepare(Frames(pixels)).pixels[:, 0])
        if spec.kind == "checker":
            assert (backend.to_probabilities(numbers)[0, 0] >= 0.5).float() == expected
        elif spec.kind in {"timm", "transformers"}:
            assert torch.equal(numbers[0], expected)
        elif spec.kind == "open-nsfw":
            torch.testing.assert_close(backend.to_probabilities(numbers)[0], expected, rtol=0, atol=1e-5)
        else:
            torch.testing.assert_close(numbers[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NETS)
def test_the_embedding_is_what_the_head_was_given(model, name) -> None:
    backend = model(name)
    shown = backend.preprocess.prepare(Frames(smooth(2, 64, 64))).pixels[:, 0]
    numbers, features = backend.forward_with_embedding(shown)
    assert features.shape == (2, backend.width)
    assert torch.allclose(backend.forward(shown), numbers, atol=1e-5)
    answers = backend.score([Frames(smooth(2, 64, 64))], embeddings=True)
    assert torch.allclose(torch.stack([scores.embedding for scores in answers]), features)
    assert model(name).score([Frames(smooth(1, 64, 64))])[0].embedding is None


@pytest.mark.parametrize("name", every(3, [name for name in ALL if name not in INSTALLED]))
def test_lower_precision_moves_its_scores_a_little(model, name) -> None:
    plain, low = (model(name, dtype=dtype).score([Frames(smooth(2, 64, 64))]) for dtype in ("float32", "bfloat16"))
    for one, other in zip(plain, low, strict=True):
        assert one.finite
        assert other.finite
        assert list(one.numbers()) == pytest.approx(list(other.numbers()), abs=0.1)


@pytest.mark.parametrize("name", ALL)
def test_tensor_array_image_and_file_get_the_same_verdict(model, name, tmp_path) -> None:
    array = (smooth(1, 90, 130)[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    Image.fromarray(array).save(tmp_path / "one.png")
    unit = torch.from_numpy(array).permute(2, 0, 1).float() / 255
    guard = Guard(model(name))
    # One at a time: matrix products round by the row of a batch on some CPUs.
    verdicts = [guard.check([one])[0] for one in (unit, array, Image.fromarray(array), tmp_path / "one.png")]
    assert len({tuple(v.scores.numbers()) for v in verdicts}) == 1
    json.dumps(verdicts[0].to_dict())


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_one_bad_pixel_is_an_error(model, name, bad) -> None:
    pixels = smooth(2, 64, 64)
    pixels[1, 0, 5, 5] = bad
    outcomes = [v.outcome for v in Guard(model(name)).check(pixels)]
    assert outcomes[1] is Outcome.ERROR
    assert outcomes[0] is not Outcome.ERROR


@pytest.mark.parametrize("name", ALL)
def test_severities_only_rise(model, name) -> None:
    for scores in model(name).score([Frames(smooth(5, 64, 64))]):
        for view in scores.views:
            for levels in view.levels.values():
                ordered = [levels[level] for level in sorted(levels)]
                assert ordered == sorted(ordered, reverse=True)


@pytest.mark.parametrize("name", [name for name in ALL if name not in INSTALLED])
def test_weights_that_were_touched_are_refused(folder, name, tmp_path) -> None:
    spec, where = folder(name)
    copy = Path(shutil.copytree(where, tmp_path / name))
    file = copy / weights_of(spec)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(WeightsUnfitError, match="recorded SHA-256"):
        loaders.load_files(spec, copy, Options())


@pytest.mark.parametrize("name", [name for name in ELSEWHERE if registry.spec(name).sha256])
def test_a_record_with_a_hash_takes_no_other_weights(folder, name) -> None:
    with pytest.raises(WeightsUnfitError, match=f"recorded SHA-256 {registry.spec(name).sha256[:12]}"):
        load_model(name, weights=folder(name)[1])


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_folder_without_its_files_is_refused(folder, name, tmp_path) -> None:
    spec, where = folder(name)
    for missing in spec.files:
        copy = Path(shutil.copytree(where, tmp_path / missing))
        (copy / missing).unlink(missing_ok=True)
        if spec.kind == "zeroshot" and missing not in {"config.json", "preprocessor_config.json", "model.safetensors"}:
            continue  # one of several files that a tokenizer may consist of
        with pytest.raises((WeightsMissingError, WeightsUnfitError), match=missing):
            loaders.load_files(replace(spec, sha256=""), copy, Options())


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("policy", ["default", "strict", "lenient"])
def test_every_preset_fits(model, name, policy) -> None:
    assert Guard(model(name), policy=policy).policy.rules


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ELSEWHERE if name in NETS])
def test_a_full_size_network_gives_the_references_numbers(name, tmp_path) -> None:
    spec = registry.spec(name)
    full_spec = make(spec, tmp_path / name, full=True)
    backend = loaders.load_files(full_spec, tmp_path / name, Options(views="center"))
    _, by_reference = reference(full_spec, tmp_path / name)
    pixels = (smooth(1, 400, 500) * 255).round().to(torch.uint8)
    with torch.inference_mode():
        expected = by_reference(Image.fromarray(pixels[0].permute(1, 2, 0).numpy()))
        numbers, features = backend.forward_with_embedding(backend.preprocess.prepare(Frames(pixels)).pixels[:, 0])
    got = numbers[0]
    if spec.kind in {"checker", "open-nsfw"}:
        answers = backend.to_probabilities(numbers)[0]
        got = (answers >= 0.5).float() if spec.kind == "checker" else answers
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    assert (
        features.shape[1] == spec.embedding_dim or spec.name == "siglip2-so400m"
    )  # made small: 4.5 GB of random numbers
