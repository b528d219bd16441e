"""From labelled images to a folder that every loader reads."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from nsfw_guard.backends.nets import hf_model
from nsfw_guard.backends.registry import load_model
from nsfw_guard.backends.spec import Label
from nsfw_guard.errors import ConfigError, MissingExtraError
from nsfw_guard.guard import Guard
from nsfw_guard.testing import FakeBackend
from nsfw_guard.tools.finetuning.finetune import Architecture, finetune
from nsfw_guard.tools.finetuning.images import FACTS, PIXELS
from nsfw_guard.tools.finetuning.recipe import Part, Recipe
from nsfw_guard.tools.finetuning.watching import Stage
from nsfw_guard.tools.finetuning.workspace import MARK, work_of
from nsfw_guard.tools.teaching.labelled import labels_in
from nsfw_guard.verdict import Outcome
from tests.tools.finetuning.conftest import Draw

HEAD = Recipe(part=Part.HEAD)
STEPS = Recipe(part=Part.LAST, blocks=1, epochs=1, batch_size=8)
SMALL = Architecture(
    name="vit_tiny_patch16_224",
    arguments={"img_size": 32, "patch_size": 16, "embed_dim": 24, "depth": 2, "num_heads": 3},
)


def pairs(folder: Path) -> list[tuple[str, str]]:
    return [(path, label) for path, label, _ in labels_in([str(folder)])]


def test_a_head_is_taught_from_twenty_images_a_class_and_the_guard_blocks_by_it(draw: Draw, tmp_path: Path) -> None:
    start = load_model("demo-shapes")
    result = finetune(start, pairs(draw({"red-disc": 20, "other": 20})), tmp_path / "mine", HEAD, cpu=True)
    assert result.accuracy.hits >= 39
    assert result.accuracy.count == 40
    assert result.counts == {"red-disc": 20, "other": 20}
    guard = Guard.from_pretrained(tmp_path / "mine")
    assert guard.backend.state()["self_test"] == "passed"
    others = draw({"red-disc": 5, "other": 5}, seed=1, name="others")
    verdicts = guard.check([path for path, _ in pairs(others)])
    assert [v.outcome is Outcome.BLOCK for v in verdicts] == [label == "red-disc" for _, label in pairs(others)]
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == [
        "README.md", "config.json", "curve.png", "model.safetensors", "nsfw_guard.json", "training.json",
    ]  # fmt: skip


def test_a_folder_says_what_it_is_and_how_it_came_about(draw: Draw, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    result = finetune(load_model("demo-shapes"), pairs(draw({"red-disc": 6, "other": 8})), out, HEAD, cpu=True)
    card = (out / "README.md").read_text()
    assert 'license: "Apache-2.0"' in card
    assert "| red-disc | red-disc, high | 6 |" in card
    facts = json.loads((out / "training.json").read_text())
    assert facts["start"] == {"model": "demo-shapes", "version": load_model("demo-shapes").spec.version}
    assert facts["recipe"]["part"] == "head"
    assert facts["weights_hash"] == result.weights_hash
    assert str(tmp_path) not in card + json.dumps(facts)
    with Image.open(out / "curve.png") as image:
        assert image.size == (900, 420)
    assert result.notes == (
        "6 images of 'red-disc': twenty are a beginning",
        "8 images of 'other': twenty are a beginning",
    )


def test_plain_timm_gives_the_same_probabilities(draw: Draw, tmp_path: Path) -> None:
    import timm

    out = tmp_path / "mine"
    result = finetune(SMALL, pairs(draw({"red-disc": 8, "other": 8})), out, replace(STEPS, part=Part.FULL),
                      meanings={"red-disc": Label("red-disc")}, cpu=True)  # fmt: skip
    assert result.epochs == 1
    model = timm.create_model(f"local-dir:{out}", pretrained=True).eval()
    assert model.pretrained_cfg["label_names"] == ["other", "red-disc"]
    pixels = torch.zeros(1, 3, 32, 32)
    backend = result.model
    expected = backend.net.model(pixels)  # type: ignore[attr-defined]
    assert torch.allclose(model(pixels), expected, atol=1e-6)


def test_plain_transformers_reads_a_taught_model_of_its_own(draw: Draw, tmp_path: Path) -> None:
    from transformers import AutoModelForImageClassification, ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=48, image_size=32, patch_size=16,
        id2label={0: "normal", 1: "nsfw"}, label2id={"normal": 0, "nsfw": 1},
    )  # fmt: skip
    torch.manual_seed(0)
    first = tmp_path / "first"
    ViTForImageClassification(config).save_pretrained(first)
    (first / "preprocessor_config.json").write_text(json.dumps({
        "image_processor_type": "ViTImageProcessor", "do_resize": True, "do_rescale": True, "do_normalize": True,
        "size": {"height": 32, "width": 32}, "resample": 2, "rescale_factor": 1 / 255,
        "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
    }))  # fmt: skip
    start = load_model(first)
    images = [
        (path, "gore" if label == "red-disc" else "normal") for path, label in pairs(draw({"red-disc": 8, "other": 8}))
    ]
    images += [(path, "nsfw") for path, _ in pairs(draw({"other": 4}, seed=3, name="more"))]
    out = tmp_path / "mine"
    result = finetune(start, images, out, STEPS, meanings={"gore": Label("violence")}, cpu=True)
    model = AutoModelForImageClassification.from_pretrained(out).eval()
    assert model.config.id2label == {0: "normal", 1: "nsfw", 2: "gore"}
    pixels = torch.zeros(1, 3, 32, 32)
    network = result.model.net  # type: ignore[attr-defined]
    assert isinstance(network, hf_model.HFNet)
    assert torch.allclose(model(pixel_values=pixels).logits, network(pixels), atol=1e-6)
    assert set(load_model(out).spec.levels) == {"sexual", "violence"}


def test_a_new_class_leaves_a_class_without_images_as_it_was(draw: Draw, tmp_path: Path) -> None:
    images = [(path, "square" if label == "red-disc" else label)
              for path, label in pairs(draw({"red-disc": 20, "other": 20}))]  # fmt: skip
    start = load_model("demo-shapes")
    out = tmp_path / "mine"
    finetune(start, images, out, HEAD, meanings={"square": Label("squares")}, cpu=True)
    taught = load_model(out)
    assert list(taught.spec.labels) == ["red-disc", "other", "square"]
    before, after = (backend.net.head() for backend in (start, taught))  # type: ignore[attr-defined]
    assert torch.allclose(before.weight, after.weight[:2], atol=1e-5)


def test_unlearning_a_class_by_teaching_blocks_is_refused(draw: Draw, tmp_path: Path) -> None:
    images = pairs(draw({"other": 8}))
    images = [(path, "square" if at % 2 else "other") for at, (path, _) in enumerate(images)]
    with pytest.raises(ConfigError, match="no image is labelled 'red-disc', which the network would unlearn"):
        finetune(load_model("demo-shapes"), images, tmp_path / "mine", STEPS, meanings={"square": Label("squares")})


@pytest.mark.parametrize(
    ("counts", "part", "match"),
    [({"red-disc": 1, "other": 8}, Part.LAST, "'red-disc' has no two images"),
     ({"red-disc": 1, "other": 8}, Part.HEAD, "a class has fewer than two images")],
)  # fmt: skip
def test_a_class_with_one_image_is_refused(
    draw: Draw, tmp_path: Path, counts: dict[str, int], part: Part, match: str
) -> None:
    with pytest.raises(ConfigError, match=match):
        finetune(load_model("demo-shapes"), pairs(draw(counts)), tmp_path / "mine", replace(STEPS, part=part))


def test_copies_with_different_labels_are_refused_by_their_names(draw: Draw, tmp_path: Path) -> None:
    folder = draw({"red-disc": 4, "other": 4})
    shutil.copy(folder / "red-disc" / "0001.png", folder / "other" / "copy.png")
    with pytest.raises(ConfigError, match=r"0001\.png \(red-disc\) and .*copy\.png \(other\) are the same image"):
        finetune(load_model("demo-shapes"), pairs(folder), tmp_path / "mine", HEAD, cpu=True)


def test_validation_images_that_are_copies_of_training_images_are_left_out(draw: Draw, tmp_path: Path) -> None:
    folder = draw({"red-disc": 4, "other": 4})
    images = pairs(folder)
    others = pairs(draw({"red-disc": 3, "other": 3}, seed=9, name="others"))
    copy = tmp_path / "copy.png"
    shutil.copy(images[0][0], copy)
    result = finetune(load_model("demo-shapes"), images, tmp_path / "mine", HEAD, cpu=True,
                      validation=[*others, (str(copy), images[0][1])])  # fmt: skip
    assert result.accuracy.count == 6
    assert any("1 validation images were left out" in note and "copy.png" in note for note in result.notes)
    with pytest.raises(ConfigError, match="every validation image is a copy"):
        finetune(load_model("demo-shapes"), images, tmp_path / "again", HEAD, validation=[(str(copy), images[0][1])])


def test_an_unreadable_image_is_left_out_and_named(draw: Draw, tmp_path: Path) -> None:
    folder = draw({"red-disc": 6, "other": 6})
    broken = folder / "other" / "broken.png"
    broken.write_bytes(b"no image")
    result = finetune(load_model("demo-shapes"), pairs(folder), tmp_path / "mine", HEAD, cpu=True)
    assert list(result.faults) == [str(broken)]
    assert result.accuracy.count == 12


def test_models_that_cannot_be_taught_and_folders_that_hold_something_are_refused(draw: Draw, tmp_path: Path) -> None:
    images = pairs(draw({"red-disc": 2, "other": 2}))
    with pytest.raises(ConfigError, match="cannot be taught: choose an image classifier"):
        finetune(FakeBackend(), images, tmp_path / "a", HEAD, meanings={"red-disc": Label("red")})
    with pytest.raises(ConfigError, match="random weights"):
        finetune(SMALL, images, tmp_path / "b", HEAD, meanings={"red-disc": Label("red")})
    with pytest.raises(ConfigError, match="is there already"):
        finetune(load_model("demo-shapes"), images, tmp_path / "images", HEAD)
    with pytest.raises(ConfigError, match="is listed more than once"):
        finetune(load_model("demo-shapes"), [*images, images[0]], tmp_path / "c", HEAD)


def test_weights_of_a_file_begin_an_architecture_with_another_head(draw: Draw, tmp_path: Path) -> None:
    out = tmp_path / "first"
    finetune(SMALL, pairs(draw({"red-disc": 4, "other": 4})), out, replace(STEPS, part=Part.FULL),
             meanings={"red-disc": Label("red-disc")}, cpu=True)  # fmt: skip
    more = pairs(draw({"red-disc": 4, "other": 4, "safe": 4}, seed=4, name="more"))
    begun = replace(SMALL, weights=out / "model.safetensors")
    result = finetune(begun, more, tmp_path / "mine", HEAD, meanings={"red-disc": Label("red-disc")}, cpu=True)
    body = [load_model(folder).net.model.blocks[0].attn.qkv.weight for folder in (out, tmp_path / "mine")]  # type: ignore[attr-defined]
    assert torch.equal(*body)
    assert list(result.model.spec.labels) == ["other", "red-disc", "safe"]


def test_half_precision_takes_half_of_the_space(draw: Draw, tmp_path: Path) -> None:
    images = pairs(draw({"red-disc": 4, "other": 4}))
    sizes = []
    for half in (False, True):
        out = tmp_path / f"half-{half}"
        result = finetune(load_model("demo-shapes"), images, out, HEAD, half=half, cpu=True)
        assert result.model.state()["self_test"] == "passed"
        sizes.append((out / "model.safetensors").stat().st_size)
    assert sizes[1] < 0.6 * sizes[0]


def command(images: Path, out: Path) -> list[str]:
    words = f"finetune {images} --model demo-shapes --train full --epochs 2 --batch 16 --json --patience 0"
    return [sys.executable, "-m", "nsfw_guard", *words.split(), "--out", str(out)]


def run(words: Sequence[str]) -> dict[str, object]:
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    facts: dict[str, object] = json.loads(done.stdout)
    return facts


@pytest.mark.slow
def test_two_processes_teach_one_model(draw: Draw, tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "-m"]
    words = command(draw({"red-disc": 20, "other": 20}), tmp_path / "mine")
    facts = run([*launch, *words[2:]])
    assert facts["epochs"] == 2
    assert Guard.from_pretrained(tmp_path / "mine").backend.state()["self_test"] == "passed"


def test_a_run_that_was_killed_ends_with_the_weights_of_one_that_was_not(draw: Draw, tmp_path: Path) -> None:
    images = draw({"red-disc": 20, "other": 20})
    out = tmp_path / "killed"
    process = subprocess.Popen(command(images, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    state = work_of(out) / "state.safetensors"
    deadline = time.monotonic() + 120
    while not state.is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not out.exists()
    with pytest.raises(ConfigError, match="begun with other images, another model or other settings"):
        finetune(load_model("demo-shapes"), pairs(images), out, HEAD)
    resumed = run(command(images, out))
    whole = run(command(images, tmp_path / "whole"))
    assert resumed["weights_hash"] == whole["weights_hash"]
    assert int(str(resumed["resumed"])) > 0
    assert whole["resumed"] == 0
    assert not work_of(out).exists()


def test_a_second_run_into_the_same_folder_is_refused_before_it_touches_anything(draw: Draw, tmp_path: Path) -> None:
    """Its images have the labels swapped: what the first one learns from must not become theirs."""
    images = pairs(draw({"red-disc": 6, "other": 6}))
    swapped = [(path, "other" if label == "red-disc" else "red-disc") for path, label in images]
    refused: list[str] = []

    def watch(stage: Stage, done: int, total: int, note: str) -> None:
        if not refused:
            for others in (images, swapped):
                with pytest.raises(ConfigError) as error:
                    finetune(load_model("demo-shapes"), others, tmp_path / "mine", HEAD)
                refused.append(str(error.value))

    result = finetune(load_model("demo-shapes"), images, tmp_path / "mine", HEAD, watch=watch)
    assert len(refused) == 2
    assert result.accuracy.hits == 12
    assert [
        v.outcome is Outcome.BLOCK for v in Guard.from_pretrained(tmp_path / "mine").check([p for p, _ in images])
    ] == [label == "red-disc" for _, label in images]


def test_folders_that_are_no_runs_and_links_are_left_alone(draw: Draw, tmp_path: Path) -> None:
    images = pairs(draw({"red-disc": 2, "other": 2}))
    out = tmp_path / "mine"
    work_of(out).mkdir()
    (work_of(out) / "precious.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is not the folder of a run"):
        finetune(load_model("demo-shapes"), images, out, HEAD)
    assert (work_of(out) / "precious.txt").read_text() == "mine"
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="is there already"):
        finetune(load_model("demo-shapes"), images, tmp_path / "link", HEAD)


def test_a_model_that_would_relax_its_guard_is_refused_before_anything_is_learnt(draw: Draw, tmp_path: Path) -> None:
    images = [(path, "nsfw" if label == "other" else label) for path, label in pairs(draw({"red-disc": 4, "other": 4}))]
    meanings = {"nsfw": None}
    with pytest.raises(ConfigError, match="'mine' relaxes its own guard: the label 'nsfw' counts as harmless"):
        finetune(load_model("demo-shapes"), images, tmp_path / "mine", HEAD, meanings=meanings)
    assert not work_of(tmp_path / "mine").exists()
    result = finetune(
        load_model("demo-shapes"), images, tmp_path / "mine", HEAD, meanings=meanings, trust_guard=True, fresh=True
    )
    assert result.model.spec.labels["nsfw"] is None  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="relaxes its own guard"):
        load_model(tmp_path / "mine")


def test_validation_images_that_cannot_be_read_are_an_error(draw: Draw, tmp_path: Path) -> None:
    images = pairs(draw({"red-disc": 4, "other": 4}))
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(ConfigError, match="no validation image can be used"):
        finetune(
            load_model("demo-shapes"), images, tmp_path / "mine", HEAD, validation=[(str(tmp_path / "a.png"), "other")]
        )


def test_pixels_that_changed_beside_a_run_are_decoded_again(draw: Draw, tmp_path: Path) -> None:
    images = pairs(draw({"red-disc": 4, "other": 4}))
    out = tmp_path / "mine"

    def stop(stage: Stage, done: int, total: int, note: str) -> None:
        if stage is Stage.EMBEDDING:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune(load_model("demo-shapes"), images, out, HEAD, watch=stop)
    assert sorted(path.name for path in work_of(out).iterdir()) == [".lock", FACTS, PIXELS, MARK]
    pixels = work_of(out) / PIXELS
    pixels.write_bytes(bytes(len(pixels.read_bytes())))
    (work_of(out) / FACTS).write_text((work_of(out) / FACTS).read_text().replace('"looks"', '"looked"'))
    assert finetune(load_model("demo-shapes"), images, out, HEAD).accuracy.hits == 8


def test_text_of_anybody_stays_text_on_the_card(draw: Draw, tmp_path: Path) -> None:
    label = "# Official|<script>[x](y)"
    images = [(path, label if one == "other" else one) for path, one in pairs(draw({"red-disc": 4, "other": 4}))]
    finetune(load_model("demo-shapes"), images, tmp_path / "mine", HEAD, meanings={label: None}, fresh=True)
    card = (tmp_path / "mine" / "README.md").read_text()
    assert "<script>" not in card
    assert "\\# Official\\|\\<script\\>\\[x\\](y)" in card


def test_without_accelerate_the_error_names_the_extra(
    draw: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'nsfw-guard\[train\]'"):
        finetune(load_model("demo-shapes"), pairs(draw({"red-disc": 2, "other": 2})), tmp_path / "mine", HEAD)
    assert not work_of(tmp_path / "mine").exists()


def test_a_run_that_ended_before_it_was_marked_is_begun_anew(draw: Draw, tmp_path: Path) -> None:
    work_of(tmp_path / "mine").mkdir()
    result = finetune(load_model("demo-shapes"), pairs(draw({"red-disc": 4, "other": 4})), tmp_path / "mine", HEAD)
    assert result.accuracy.hits == 8


def test_an_architecture_of_another_size_is_another_run(draw: Draw, tmp_path: Path) -> None:
    images, meanings = pairs(draw({"red-disc": 2, "other": 2})), {"red-disc": Label("red-disc")}
    recipe = replace(STEPS, part=Part.FULL)

    def stop(stage: Stage, done: int, total: int, note: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune(SMALL, images, tmp_path / "mine", recipe, meanings=meanings, cpu=True, watch=stop)
    deeper = replace(SMALL, arguments={**SMALL.arguments, "depth": 3})
    with pytest.raises(ConfigError, match="begun with other images, another model or other settings"):
        finetune(deeper, images, tmp_path / "mine", recipe, meanings=meanings, cpu=True)
