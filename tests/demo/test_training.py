"""The recipes really run: a few steps each write folders that timm and diffusers load by themselves."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from nsfw_guard.demo import shapes
from nsfw_guard.demo.training import album, autoencoder, policy, report, tensors, words
from nsfw_guard.demo.training.__main__ import main

pytest.importorskip("diffusers")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    budget = ["--vae-steps", "2", "--decoder-steps", "1", "--steps", "2", "--scenes", "32"]
    assert main(["pipeline", "--out", str(folder), *budget]) == 0
    assert main(["policy", "--out", str(folder), "--steps", "2", "--images", "64"]) == 0
    assert main(["graded", "--out", str(folder), "--steps", "2", "--images", "64"]) == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "labels"),
    [("demo-shapes", ["red-disc", "other"]), ("demo-shapes-graded", ["neutral", "low", "medium", "high"])],
)
def test_policy_folders_load_into_timm_strictly(weights: Path, name: str, labels: list[str]) -> None:
    import timm

    config = json.loads((weights / name / "config.json").read_text(encoding="utf-8"))
    assert config["label_names"] == labels
    assert config["pretrained_cfg"]["mean"] == [0.5, 0.5, 0.5]
    assert config["pretrained_cfg"]["num_classes"] == config["num_classes"] == len(labels)
    model = timm.create_model(config["architecture"], num_classes=config["num_classes"], **config["model_args"])
    state = load_file(weights / name / "model.safetensors")
    model.load_state_dict(state, strict=True)
    assert {value.dtype for value in state.values()} == {torch.float16}
    assert model(torch.zeros(1, *config["pretrained_cfg"]["input_size"])).shape == (1, len(labels))


@pytest.mark.slow
def test_pipeline_folder_loads_into_diffusers_and_draws(weights: Path) -> None:
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(weights / "pipeline")
    pipe.set_progress_bar_config(disable=True)
    assert pipe.safety_checker is None
    assert pipe.feature_extractor is None
    generator = torch.Generator().manual_seed(0)
    first = pipe("a red disc on white", num_inference_steps=2, generator=generator).images[0]
    assert first.size == (64, 64)
    assert np.asarray(pipe("words nobody drew 1234 é", num_inference_steps=2).images[0]).shape == (64, 64, 3)


@pytest.mark.slow
def test_only_safetensors_are_written(weights: Path) -> None:
    suffixes = {path.suffix for path in weights.rglob("*") if path.is_file()}
    assert suffixes == {".json", ".txt", ".safetensors"}


@pytest.mark.slow
def test_report_counts_what_it_measures(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["report", "--out", str(weights), "--json", "--held-out", "40", "--generated", "4"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["demo-shapes"]["held_out"]["images"] == 40
    assert figures["demo-shapes"]["generated"]["images"] == 4
    assert figures["pipeline"]["single"]["as_asked"] <= 1
    total = sum(path.stat().st_size for path in weights.rglob("*.safetensors"))
    assert figures["weights_bytes"]["total"] == total


def test_every_caption_word_is_one_token_and_others_are_silent(tmp_path: Path) -> None:
    tokenizer = words.write_tokenizer(tmp_path)
    rng = np.random.default_rng(0)
    for number in (1, 2):
        caption = words.spoken(shapes.random_scene(rng, shapes=number), rng)
        spelt = caption.replace(",", " ,").split()
        ids = tokenizer(caption).input_ids
        assert len(ids) == len(spelt) + 2
        assert max(ids) < words.known_words()
    encoder = words.build_encoder()
    words.silence_pieces(encoder)
    table = encoder.get_input_embeddings().weight
    strange = [index for index in tokenizer("zebra 12").input_ids if index not in {1, 2}]
    assert all(torch.equal(table[index], table[0]) for index in strange if index != tokenizer("a").input_ids[1])


def test_album_grades_what_it_draws() -> None:
    rng = np.random.default_rng(1)
    drawn = [album.example(rng) for _ in range(200)]
    assert {each.severity for each in drawn} == {0, 1, 2, 3}
    assert {each.image.size for each in drawn} == {(64, 64)}
    assert all(report.seen_severity(shapes.draw(scene)) == shapes.severity(scene) for scene in _scenes(rng))


def test_roundtrips_keep_the_number_and_size_of_images() -> None:
    rng = np.random.default_rng(2)
    images = [shapes.draw(scene, rng=rng) for scene in tensors.scenes(rng, 3)]
    vae = autoencoder.build().eval()
    assert autoencoder.encode(vae, images).shape == (3, 4, 16, 16)
    assert [image.size for image in autoencoder.roundtrip(vae, images, batch=2)] == [(64, 64)] * 3
    assert np.array_equal(np.asarray(tensors.images(tensors.stack(images))[0]), np.asarray(images[0]))


def test_unsafe_is_the_chance_of_any_red_disc() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0]])
    assert policy.GRADED.unsafe(logits).item() == pytest.approx(0.75)
    assert policy.BINARY.unsafe(torch.tensor([[2.0, 0.0]])).item() == pytest.approx(1 / (1 + np.exp(-2.0)))
    assert policy.BINARY.targets(torch.tensor([0, 1, 3])).tolist() == [1, 0, 0]


def _scenes(rng: np.random.Generator) -> list[shapes.Scene]:
    return [album.scene_with_red(rng) for _ in range(50)]
