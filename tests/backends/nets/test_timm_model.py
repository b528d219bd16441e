"""One forward pass, the model's own logits, and nothing that starts untested."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from timm.data import create_transform

from nsfw_guard.backends.base import Options
from nsfw_guard.backends.nets import timm_model
from nsfw_guard.backends.registry import load_model
from nsfw_guard.backends.spec import Label
from nsfw_guard.guard import Guard
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.scores import Severity
from nsfw_guard.testing import tiny_model
from nsfw_guard.verdict import Outcome
from tests.backends.center_view import center
from tests.backends.folders import torch_model
from tests.images import smooth
from tests.threads import in_threads


def test_scores_and_embedding_are_the_models_own_bits(tiny) -> None:
    pixels = (smooth(3, 40, 40) * 255).to(torch.uint8)
    transform = create_transform((3, 32, 32), is_training=False, interpolation="bicubic", crop_pct=1.0,
                                 mean=(0.5,) * 3, std=(0.5,) * 3)  # fmt: skip
    values = torch.stack([transform(Image.fromarray(p.permute(1, 2, 0).numpy())) for p in pixels])
    model = torch_model(tiny)
    with torch.inference_mode():
        logits = model(values)
        embedding = model.forward_head(model.forward_features(values), pre_logits=True)

    backend = load_model(tiny)
    scores = backend.score([Frames(pixels)], embeddings=True)

    assert torch.equal(
        backend.forward_with_embedding(torch.stack(list(backend.preprocess.prepare(Frames(pixels)).pixels[:, 0])))[0],
        logits,
    )
    assert [s.views[0].levels["sexual"][Severity.HIGH] for s in scores] == logits.softmax(-1)[:, 0].tolist()
    assert torch.equal(torch.stack([s.embedding for s in scores]), embedding)
    assert backend.width == 24 == scores[0].embedding.shape[0]


def test_marqos_layout_has_its_label_first_and_192_numbers(tmp_path) -> None:
    folder = tmp_path / "marqo"
    folder.mkdir()
    model = timm.create_model("vit_tiny_patch16_384", num_classes=2)
    save_file(model.state_dict(), folder / "model.safetensors")
    config = {
        "architecture": "vit_tiny_patch16_384", "num_classes": 2, "num_features": 192, "global_pool": "token",
        "label_names": ["NSFW", "SFW"],
        "pretrained_cfg": {
            "tag": "augreg_in21k_ft_in1k", "custom_load": True, "input_size": [3, 384, 384], "fixed_input_size": True,
            "interpolation": "bicubic", "crop_pct": 1.0, "crop_mode": "center", "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5], "num_classes": 1000, "pool_size": None, "first_conv": "patch_embed.proj",
            "classifier": "head",
        },
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    from nsfw_guard.backends.catalog.classifiers import MARQO

    backend = timm_model.load_files(replace(MARQO, sha256=""), folder, Options())

    assert backend.width == 192
    assert (folder / "model.safetensors").stat().st_size == MARQO.download_bytes
    assert list(MARQO.labels) == ["NSFW", "SFW"]
    assert MARQO.labels["NSFW"].category == "sexual"
    pixels = torch.randint(0, 256, (1, 3, 384, 384), dtype=torch.uint8)
    with torch.inference_mode():
        expected = model.eval()(pixels.float().div(255).sub(0.5).div(0.5)).softmax(-1)[0, 0].item()
    assert center(backend, pixels).item() == pytest.approx(expected, abs=0)


def in_a_hub_cache(tmp_path: Path, repo: str, revision: str, code: str) -> str:
    """What a process prints that finds tmp_path as its Hugging Face home, without a network."""
    home = tmp_path / "hub" / f"models--{repo.replace('/', '--')}" / "snapshots" / revision
    shutil.copytree(tmp_path / "files", home)
    env = {**os.environ, "HF_HOME": str(tmp_path), "HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        env.pop(name, None)
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_marqo_record_loads_from_the_hubs_cache_offline(tmp_path) -> None:
    from nsfw_guard.backends import registry

    marqo = registry.spec("marqo")
    files = tmp_path / "files"
    files.mkdir()
    save_file(timm.create_model("vit_tiny_patch16_384", num_classes=2).state_dict(), files / "model.safetensors")
    cfg = {"input_size": [3, 384, 384], "interpolation": "bicubic", "crop_pct": 1.0, "crop_mode": "center",
           "mean": [0.5] * 3, "std": [0.5] * 3}  # fmt: skip
    config = {"architecture": marqo.architecture, "num_classes": 2, "label_names": ["NSFW", "SFW"]}
    (files / "config.json").write_text(json.dumps({**config, "pretrained_cfg": cfg}))

    code = """
import torch
from dataclasses import replace
from nsfw_guard import Guard, register_model, unregister_model
from nsfw_guard.backends import loaders, registry
random = replace(registry.spec("marqo"), sha256="")  # the layout is the real one, the weights are not
unregister_model("marqo")
register_model(random, loaders.load_hub)
guard = Guard.from_pretrained("marqo", policy="strict")
print(guard.policy.rules["sexual"].block, guard.check(torch.rand(1, 3, 64, 64))[0].revision)
"""
    assert in_a_hub_cache(tmp_path, marqo.repo, marqo.revision, code) == f"0.15 {marqo.revision}"


def test_a_pinned_repository_loads_from_the_cache(tiny, tmp_path) -> None:
    shutil.copytree(tiny, tmp_path / "files")
    commit = "ab" * 20
    code = f"from nsfw_guard import load_model as load; spec = load('hf:some/one@{commit}').spec\n"
    code += "print(spec.name, spec.revision)"
    assert in_a_hub_cache(tmp_path, "some/one", commit, code) == f"hf:some/one {commit}"


@pytest.mark.parametrize("count", [1, 3, 17])
def test_a_batch_is_its_images_one_by_one(tiny, count) -> None:
    backend = load_model(tiny, batch_size=5)
    pixels = smooth(count, 40, 70)

    together = backend.score([Frames(pixels)])
    alone = [backend.score([Frames(p[None])])[0] for p in pixels]

    assert len(together) == count
    for one, other in zip(together, alone, strict=True):
        assert [v.view for v in one.views] == [v.view for v in other.views]
        assert list(one.numbers()) == pytest.approx(list(other.numbers()), abs=1e-6)


def test_stacks_of_different_sizes_keep_their_order(tiny) -> None:
    backend = load_model(tiny)
    stacks = [Frames(smooth(2, 40, 40)), Frames(smooth(1, 30, 90, seed=1)), Frames(smooth(1, 40, 40, seed=2))]

    answers = backend.score(stacks)

    assert [len(s.views) for s in answers] == [1, 1, 3, 1]
    for stack, scores in zip(stacks[1:], answers[2:], strict=True):
        assert list(scores.numbers()) == pytest.approx(list(backend.score([stack])[0].numbers()), abs=1e-6)


def test_the_digest_is_that_of_the_pixels_shown(tiny) -> None:
    backend = load_model(tiny, views="center")
    pixels = (smooth(1, 50, 40) * 255).to(torch.uint8)
    shown = backend.preprocess.prepare(Frames(pixels)).pixels

    (scores,) = backend.score([Frames(pixels)], digests=True)

    assert scores.digest == hashlib.sha256(shown.contiguous().numpy().tobytes()).hexdigest()
    assert backend.score([Frames(pixels)])[0].digest == ""
    array = pixels[0].permute(1, 2, 0).numpy()
    guard = Guard(backend, listeners=[type("Wants", (), {"wants_digests": True, "__call__": lambda self, v: None})()])
    same = guard.check([pixels.float()[0] / 255, array, Image.fromarray(array)])
    assert {v.scores.digest for v in same} == {scores.digest}


def test_one_flat_colour_is_reported(tiny) -> None:
    verdicts = Guard(load_model(tiny)).check([torch.full((3, 40, 40), 0.5), smooth(1, 40, 40)[0]])
    assert [v.reason.endswith("one flat colour") for v in verdicts] == [True, False]


def test_a_nan_image_is_an_error_and_its_neighbour_is_judged(tiny) -> None:
    pixels = smooth(2, 40, 70)
    pixels[0, 1, 7, 7] = float("nan")
    verdicts = Guard(load_model(tiny)).check(pixels)
    assert (verdicts[0].outcome, verdicts[0].reason) == (
        Outcome.ERROR,
        "the image contains NaN or infinite values",
    )
    assert verdicts[1].outcome < Outcome.ERROR


def test_severities_add_up_and_only_rise(tmp_path) -> None:
    folder = tiny_model(tmp_path / "graded", labels=("neutral", "low", "high", "medium"))
    grades = {"low": Label("x", Severity.LOW), "medium": Label("x", Severity.MEDIUM), "high": Label("x", Severity.HIGH)}
    backend = load_model(folder, labels=grades)
    pixels = (smooth(4, 32, 32) * 255).to(torch.uint8)

    probabilities = backend.forward_with_embedding(pixels)[0].softmax(-1).tolist()
    severities = [s.views[0].levels["x"] for s in backend.score([Frames(pixels)])]

    for (_, low, high, medium), levels in zip(probabilities, severities, strict=True):
        assert levels[Severity.HIGH] == pytest.approx(high)
        assert levels[Severity.MEDIUM] == pytest.approx(high + medium)
        assert levels[Severity.LOW] == pytest.approx(high + medium + low)
        assert levels[Severity.HIGH] <= levels[Severity.MEDIUM] <= levels[Severity.LOW] <= 1.0


@pytest.mark.parametrize(("dtype", "apart"), [("bfloat16", 0.05), (torch.bfloat16, 0.05)])
def test_another_dtype_gives_nearly_the_same_scores(tiny, dtype, apart) -> None:
    pixels = smooth(3, 40, 40)
    one, other = center(load_model(tiny), pixels), center(load_model(tiny, dtype=dtype), pixels)
    assert 0 < float((one - other).abs().max()) < apart


def test_autocast_around_it_changes_nothing(tiny) -> None:
    backend, pixels = load_model(tiny), smooth(3, 40, 40)
    expected = center(backend, pixels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(center(backend, pixels), expected)


def test_embeddings_can_be_used_with_gradients_around(tiny) -> None:
    (scores,) = load_model(tiny).score([Frames(smooth(1, 32, 32))], embeddings=True)
    weight = torch.ones(24, requires_grad=True)
    (scores.embedding * weight).sum().backward()
    assert torch.equal(weight.grad, scores.embedding)


def test_eight_threads_get_the_same_numbers(tiny) -> None:
    backend, pixels = load_model(tiny), smooth(2, 40, 70)
    expected, wrong = center(backend, pixels), []

    def work(_: int) -> None:
        for _ in range(5):
            if not torch.allclose(center(backend, pixels), expected, atol=1e-6):
                wrong.append(1)

    in_threads(work, 8)
    assert not wrong


def test_out_of_memory_goes_on_with_smaller_batches(tiny, monkeypatch, caplog) -> None:
    backend, pixels = load_model(tiny, batch_size=8), smooth(8, 32, 32)
    expected, whole, sizes = center(backend, pixels), backend._pass, []

    def small_only(shown):
        sizes.append(len(shown))
        if len(shown) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return whole(shown)

    monkeypatch.setattr(backend, "_pass", small_only)
    assert torch.allclose(center(backend, pixels), expected, atol=1e-6)
    assert sizes == [8, 4, 2, 2, 2, 2]
    assert "batch_size 2" in caplog.text


def test_out_of_memory_for_one_image_is_an_error(tiny, monkeypatch) -> None:
    backend = load_model(tiny)

    def never(shown):
        raise MemoryError("out of memory")

    monkeypatch.setattr(backend, "_pass", never)
    assert [v.outcome for v in Guard(backend).check(smooth(4, 32, 32))] == [Outcome.ERROR] * 4


def test_another_error_is_not_mistaken_for_out_of_memory(tiny, monkeypatch) -> None:
    backend, calls = load_model(tiny), []

    def broken(shown):
        calls.append(len(shown))
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(backend, "_pass", broken)
    assert Guard(backend).check(smooth(4, 32, 32))[0].outcome is Outcome.ERROR
    assert calls == [4]


def test_the_state_reports_the_effective_settings(tiny) -> None:
    assert load_model(tiny).state() == {
        "self_test": "answers unrecorded", "device": "follows the image", "dtype": "float32",
        "resize": "exact (pillow on the cpu, matrix elsewhere)", "views": "cover", "runtime": "torch",
    }  # fmt: skip
    state = load_model(tiny, device="cpu", dtype="bfloat16", resize="fast", views="tiles(2)").state()
    assert (state["device"], state["dtype"], state["resize"], state["views"]) == ("cpu", "bfloat16", "fast", "tiles(2)")


def test_the_network_follows_the_image_to_its_device(tiny) -> None:
    backend = load_model(tiny)
    frames = Frames(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    object.__setattr__(frames, "pixels", frames.pixels.to("meta"))  # the one other device there is everywhere
    with pytest.raises((RuntimeError, NotImplementedError)):
        backend.score([frames])
    assert set(backend._nets) == {torch.device("cpu"), torch.device("meta")}
    assert center(backend, smooth(1, 32, 32)).isfinite().all()


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_gpu_gives_the_same_scores(tiny, dtype) -> None:
    backend, pixels = load_model(tiny, dtype=dtype), smooth(3, 200, 300)
    on_gpu = torch.tensor([list(s.numbers()) for s in backend.score([Frames(pixels.cuda())])])
    on_cpu = torch.tensor([list(s.numbers()) for s in load_model(tiny).score([Frames(pixels)])])
    assert float((on_gpu - on_cpu).abs().max()) < (1e-4 if dtype == "float32" else 0.05)
    assert np.isfinite(on_gpu.numpy()).all()
