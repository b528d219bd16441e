"""A network of a package is kept beside its files in the cache; what is kept is used only with the recorded hashes."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nsfw_guard.backends import loaders
from nsfw_guard.backends.base import Options
from nsfw_guard.backends.catalog.packages import NSFWJS_MODELS
from nsfw_guard.backends.files import packages
from nsfw_guard.backends.layers import kept, layers_model
from nsfw_guard.backends.layers.layers_model import LayersNet, contents, convert
from nsfw_guard.backends.layers.topology import Layer, read_layers
from nsfw_guard.backends.spec import Label, ModelSpec, PackageFile, PackageSource
from nsfw_guard.errors import SelfTestError, WeightsUnfitError
from nsfw_guard.imaging.frames import Frames
from tests.backends.layers.bundles import SPEC, files, small
from tests.images import smooth

FILES = files(*small(), "uint8")


def recorded(contents: dict[str, bytes], folder: str) -> tuple[PackageFile, ...]:
    return tuple(
        PackageFile(path=f"{folder}/{name}", sha256=hashlib.sha256(data).hexdigest(), size=len(data))
        for name, data in contents.items()
    )


def converted() -> dict[str, bytes]:
    layers, tensors = convert(SPEC, FILES)
    return contents(LayersNet(layers), tensors, SPEC)


@pytest.fixture
def spec(tmp_path, monkeypatch) -> ModelSpec:
    """The record of a package whose files are in the cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    inside = recorded(FILES, "package/net")
    source = PackageSource(
        manager="npm", package="small", version="1.0.0", files=inside, converted=recorded(converted(), "converted")
    )
    folder = packages.folder_of(source)
    folder.mkdir(parents=True)
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    return replace(SPEC, package=source, hashes={file.name: file.sha256 for file in inside})


@pytest.fixture
def home(spec) -> Path:
    """Where the network is kept."""
    return packages.folder_of(spec.package) / "converted"


def load(spec: ModelSpec, **options: object):
    return loaders.load_package(spec, Options(**options))


def answers(backend) -> list[tuple[list[float], list[float]]]:
    """Scores and embeddings, to be compared exactly."""
    scores = backend.score([Frames(smooth(3, 50, 31))], embeddings=True)
    return [(list(one.numbers()), one.embedding.tolist()) for one in scores]


def no_conversion(monkeypatch) -> None:
    def fails(*args: object) -> None:
        raise AssertionError("the package's files were read")

    monkeypatch.setattr(layers_model, "read_package", fails)


def test_the_second_load_reads_what_the_first_kept_and_answers_alike(spec, home, monkeypatch) -> None:
    assert not home.exists()
    first = load(spec)
    assert {path.name: path.read_bytes() for path in home.iterdir()} == converted()
    no_conversion(monkeypatch)
    second = load(spec)
    assert answers(second) == answers(first)
    assert second.known_answers() == first.known_answers()
    assert second.spec == first.spec == spec


def test_what_is_kept_is_a_folder_in_our_layout(spec, home) -> None:
    first = load(spec)
    assert loaders.load_files(SPEC, home, Options()).known_answers() == first.known_answers()


def flipped(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 64]))


def other_limit(path: Path) -> None:
    """The same number of bytes, and a network that still fits its weights."""
    text = path.read_text()
    assert '"max_value": 6' in text
    path.write_text(text.replace('"max_value": 6', '"max_value": 5'))


SPOILED = {
    "a weight": lambda home: flipped(home / "model.safetensors"),
    "a layer": lambda home: other_limit(home / "config.json"),
    "half": lambda home: os.truncate(home / "model.safetensors", 100),
    "more": lambda home: (home / "model.safetensors").write_bytes((home / "model.safetensors").read_bytes() + b" "),
    "no weights": lambda home: (home / "model.safetensors").unlink(),
    "no layers": lambda home: (home / "config.json").unlink(),
    "no JSON": lambda home: (home / "config.json").write_bytes(b"[" * 1000),
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_a_copy_of_another_hash_is_not_used_and_is_written_anew(spoil, spec, home, monkeypatch) -> None:
    first = answers(load(spec))
    spoil(home)
    assert answers(load(spec)) == first
    assert {path.name: path.read_bytes() for path in home.iterdir()} == converted()
    no_conversion(monkeypatch)
    assert answers(load(spec)) == first


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in its file system")
def test_a_pipe_in_its_place_is_not_waited_for(spec, home) -> None:
    first = answers(load(spec))
    (home / "config.json").unlink()
    os.mkfifo(home / "config.json")
    assert answers(load(spec)) == first
    assert (home / "config.json").read_bytes() == converted()["config.json"]


def test_a_link_out_of_the_kept_folder_is_not_followed(spec, home, tmp_path, caplog) -> None:
    first = answers(load(spec))
    (home / "model.safetensors").rename(tmp_path / "elsewhere.safetensors")
    (home / "model.safetensors").symlink_to(tmp_path / "elsewhere.safetensors")
    with caplog.at_level(logging.INFO):
        assert answers(load(spec)) == first
    assert "the kept network of small is not used" in caplog.text
    assert not (home / "model.safetensors").is_symlink()


def test_a_copy_that_is_exchanged_after_its_hash_was_checked_changes_nothing(spec, home, monkeypatch) -> None:
    first, sound = answers(load(spec)), converted()

    def exchanged(entries: object) -> tuple[Layer, ...]:
        flipped(home / "model.safetensors")
        return read_layers(entries)

    no_conversion(monkeypatch)
    monkeypatch.setattr(kept, "read_layers", exchanged)  # what runs between the two files
    assert answers(load(spec)) == first
    assert (home / "model.safetensors").read_bytes() != sound["model.safetensors"]


def test_a_planted_copy_does_not_replace_files_of_the_wrong_hash(spec, home) -> None:
    load(spec)
    other_limit(home / "config.json")
    flipped(packages.folder_of(spec.package) / "model.min.js")
    with pytest.raises(WeightsUnfitError, match=r"model\.min\.js does not have the SHA-256 of the record"):
        load(spec)


def test_a_folder_outside_the_cache_keeps_nothing_and_its_copy_is_not_read(spec, home, tmp_path) -> None:
    mine = tmp_path / "mine"
    (mine / "converted").mkdir(parents=True)
    for name, data in FILES.items():
        (mine / name).write_bytes(data)
    for name, data in converted().items():
        (mine / "converted" / name).write_bytes(data[:-1])
    loaders.load_files(spec, mine, Options())
    assert (mine / "converted" / "config.json").read_bytes() == converted()["config.json"][:-1]
    assert not home.exists()


def test_a_record_without_hashes_keeps_nothing(spec, home) -> None:
    load(replace(spec, package=replace(spec.package, converted=())))
    assert not home.exists()


def test_what_would_have_another_hash_is_not_kept(spec, home, caplog) -> None:
    config, tensors = spec.package.converted
    for wrong in ((replace(config, sha256="0" * 64), tensors), (config, replace(tensors, sha256="0" * 64))):
        with caplog.at_level(logging.INFO):
            load(replace(spec, package=replace(spec.package, converted=wrong)))
        assert "the network of small is not kept" in caplog.text
        assert not home.exists()
        caplog.clear()


def test_a_network_that_fails_its_self_test_is_not_kept(spec, home) -> None:
    wrong = {image: dict.fromkeys(row, 0.3) for image, row in load(spec).known_answers().items()}
    for path in home.iterdir():
        path.unlink()
    with pytest.raises(SelfTestError, match="differ from its record"):
        load(replace(spec, known_answers=wrong))
    assert not list(home.iterdir())


def test_a_cache_that_cannot_be_written_is_no_error(spec, home, caplog) -> None:
    home.write_text("a file where the folder would be")
    with caplog.at_level(logging.INFO):
        backend = load(spec)
    assert "the network of small is not kept" in caplog.text
    assert answers(backend) == answers(layers_model.load_package(SPEC, FILES, Options()))
    assert set(os.listdir(home.parent)) == {*FILES, "converted"}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_dtype_of_the_first_load_does_not_matter(dtype, spec, home, monkeypatch) -> None:
    load(spec, dtype=dtype)
    assert {path.name: path.read_bytes() for path in home.iterdir()} == converted()
    no_conversion(monkeypatch)
    assert load(spec, dtype="bfloat16").state()["dtype"] == "bfloat16"
    assert load(spec).state()["dtype"] == "float32"


def test_classes_that_the_caller_maps_are_read_from_the_same_copy(spec, home, monkeypatch) -> None:
    first = load(spec)
    no_conversion(monkeypatch)
    mapped = load(spec.with_labels({"Drawing": Label("art")}))
    assert mapped.spec.labels["Drawing"] == Label("art")
    assert mapped.known_answers() == first.known_answers()


def test_several_loads_at_once_do_no_harm(spec, home) -> None:
    done, start = [], threading.Barrier(6)

    def one() -> None:
        start.wait()
        done.append(answers(load(spec)))

    threads = [threading.Thread(target=one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == [done[0]] * 6
    assert {path.name: path.read_bytes() for path in home.iterdir()} == converted()


@pytest.mark.parametrize("spec", NSFWJS_MODELS, ids=lambda spec: spec.name)
def test_the_records_know_what_their_files_become(spec) -> None:
    names = [file.path for file in spec.package.converted]
    assert names == ["converted/config.json", "converted/model.safetensors"]
    assert all(len(file.sha256) == 64 for file in spec.package.converted)
    # float32 takes four bytes for each byte of the package's base64 text, which is a third longer.
    size = sum(file.size for file in spec.package.files)
    assert 2.5 * size < spec.package.converted[1].size < 3.1 * size


def test_the_weights_are_rounded_once_in_float32() -> None:
    _, tensors = convert(SPEC, FILES)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
