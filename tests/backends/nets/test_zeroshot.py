"""Categories in the user's own words: what they are compared with, and what is kept of them on the disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from nsfw_guard.backends import registry
from nsfw_guard.backends.build import zeroshot as build
from nsfw_guard.backends.nets import zeroshot
from nsfw_guard.errors import ConfigError, WeightsMissingError, WeightsUnfitError
from nsfw_guard.guard import Guard
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.scores import Severity
from tests.backends.make_models import make, pil_processor, tokenizer
from tests.images import smooth

pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("zeroshot") / "clip"
    make(registry.spec("clip-l14"), folder)
    return folder


@pytest.fixture(scope="module")
def siglip(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("zeroshot") / "siglip"
    make(registry.spec("siglip2-so400m"), folder)
    return folder


@torch.inference_mode()
def test_one_word_against_one_is_the_softmax_of_the_models_own_logits(clip) -> None:
    from transformers import AutoModel

    backend = build({"red": "red disc"}, model=clip, against=["blue star"], templates=["{}"])
    pixels = (smooth(1, 300, 300) * 255).round().to(torch.uint8)
    values = pil_processor(clip)(Image.fromarray(pixels[0].permute(1, 2, 0).numpy()), return_tensors="pt").pixel_values
    tokens = tokenizer()(["red disc", "blue star"], padding=True, return_tensors="pt")
    logits = AutoModel.from_pretrained(clip).eval()(pixel_values=values, **tokens).logits_per_image
    (scores,) = backend.score([Frames(pixels)])
    assert scores.views[0].levels["red"][Severity.HIGH] == pytest.approx(logits.softmax(-1)[0, 0].item(), abs=1e-5)
    assert set(scores.views[0].details) == {"cosine red", "cosine harmless"}


def test_siglip_reads_a_fixed_length_and_scores_too(siglip) -> None:
    backend = build({"red": "red disc", "weapons": ["a gun", "a knife"]}, model=siglip)
    (scores,) = backend.score([Frames(smooth(1, 90, 60))], embeddings=True)
    assert set(scores.views[0].levels) == {"red", "weapons"}
    assert [view.view.kind for view in scores.views] == ["full"] or len(scores.views) == 1
    assert scores.embedding.shape == (backend.width,)


def test_more_words_and_sentences_are_averaged(clip) -> None:
    one = build({"weapons": "a gun"}, model=clip, templates=["{}"])
    two = build({"weapons": ["a gun", "a knife"]}, model=clip, templates=["{}", "a photo of {}"])
    texts = [b._nets[torch.device("cpu")].text for b in (one, two)]
    assert not torch.allclose(texts[0][0], texts[1][0])
    assert texts[1].norm(dim=1).tolist() == pytest.approx([1.0, 1.0])


def test_words_are_embedded_once_and_read_from_the_disk_then(clip, tmp_path) -> None:
    first = build({"red": "red disc"}, model=clip, cache=tmp_path)
    (file,) = tmp_path.glob("words-*.safetensors")
    save_file({"text": load_file(file)["text"].flip(0)}, file)
    again = build({"red": "red disc"}, model=clip, cache=tmp_path)
    texts = [b._nets[torch.device("cpu")].text for b in (first, again)]
    assert torch.equal(texts[1], texts[0].flip(0))
    build({"red": "blue star"}, model=clip, cache=tmp_path)
    assert len(list(tmp_path.glob("words-*.safetensors"))) == 2


@pytest.mark.parametrize("damage", ["torn", "nan", "other"])
def test_a_cache_that_cannot_be_read_is_made_again(clip, tmp_path, damage) -> None:
    first = build({"red": "red disc"}, model=clip, cache=tmp_path)
    (file,) = tmp_path.glob("words-*.safetensors")
    text = load_file(file)["text"]
    if damage == "torn":
        file.write_bytes(file.read_bytes()[:20])
    else:
        save_file({"text": text * float("nan")} if damage == "nan" else {"text": text[:1]}, file)
    again = build({"red": "red disc"}, model=clip, cache=tmp_path)
    assert torch.equal(again._nets[torch.device("cpu")].text, first._nets[torch.device("cpu")].text)


def test_a_disk_that_cannot_be_written_costs_time_only(clip, tmp_path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert build({"red": "red disc"}, model=clip, cache=tmp_path / "file").score([Frames(smooth(1, 32, 32))])[0].finite


def test_the_cache_lies_in_the_users_cache_folder(clip) -> None:
    build({"red": "a red disc"}, model=clip)
    assert list((Path(os.environ["XDG_CACHE_HOME"]) / "nsfw-guard").glob("words-*.safetensors"))


def test_the_state_and_the_verdict_say_which_words(clip) -> None:
    one, other = build({"red": "red disc"}, model=clip), build({"red": "red disc"}, model=clip, against=["blue star"])
    assert one.state()["words"] != other.state()["words"]
    assert len(one.state()["words"]) == 64
    guard = Guard(one, policy={"rules": {"red": {"block": 0.5}}})
    assert guard.check(smooth(1, 40, 40))[0].model == "clip: red"


def test_a_model_of_the_catalogue_takes_words_of_ones_own(clip) -> None:
    from dataclasses import replace

    from nsfw_guard import register_model, unregister_model
    from nsfw_guard.backends import loaders

    spec = replace(registry.spec("clip-l14"), name="clip-here", sha256="")
    register_model(spec, loaders.load_hub)
    try:
        backend = build({"weapons": "a gun"}, model="clip-here", weights=clip, views="center")
        assert backend.spec.name == "clip-here: weapons"
        assert backend.spec.revision == spec.revision
        assert Guard(backend, policy="strict").policy.rules["weapons"].block == spec.thresholds["strict"].block
    finally:
        unregister_model("clip-here")
    with pytest.raises(WeightsMissingError, match="nsfw-guard fetch"):
        build({"weapons": "a gun"})


@pytest.mark.parametrize(
    ("wanted", "settings", "message"),
    [
        ({}, {}, "must be a mapping such as"),
        (("weapons: a gun",), {}, "must be a mapping such as"),
        ({"weapons": []}, {}, "at least one phrase"),
        ({"weapons": ["a gun", " "]}, {}, "at least one phrase"),
        ({"": "a gun"}, {}, "must have a name"),
        ({"weapons": [5]}, {}, "at least one phrase"),
        ({"weapons": "a gun"}, {"templates": ["a photo"]}, "templates with one {} each"),
        ({"weapons": "a gun"}, {"templates": []}, "templates with one {} each"),
        ({"weapons": "a gun"}, {"against": []}, "words"),
        ({"weapons": "a gun"}, {"model": "marqo"}, "'marqo' has no text encoder"),
    ],
)
def test_words_that_make_no_sense_are_refused_with_the_cure(clip, wanted, settings, message) -> None:
    with pytest.raises(ConfigError, match=message):
        build(wanted, **{"model": clip, **settings})


def test_a_model_with_one_side_is_refused(tmp_path) -> None:
    make(registry.spec("falconsai"), tmp_path / "vit")
    with pytest.raises(WeightsUnfitError, match="contains a vit, which is not supported: use a clip or siglip"):
        build({"red": "red disc"}, model=tmp_path / "vit")
    assert zeroshot.MAX_TOKENS == 64
