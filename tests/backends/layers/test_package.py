"""Files of a package: tensors as TensorFlow.js computes them, and a clear error for everything that does not fit."""

from __future__ import annotations

import hashlib
import json
import os
import re

import numpy as np
import pytest

from nsfw_guard.backends.layers import package
from nsfw_guard.backends.layers.literal import read_literal
from nsfw_guard.backends.layers.package import read_package
from nsfw_guard.errors import WeightsMissingError, WeightsUnfitError
from tests.backends.layers.bundles import bundle, files, stored

TENSORS = {"a/kernel": np.linspace(-1, 2, 12).reshape(3, 4), "b": np.array(0.25), "c": np.array([7.0])}


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint16", "uint8"])
def test_tensors_are_those_of_the_manifest(dtype, tmp_path) -> None:
    given = files({"x": 1}, TENSORS, dtype, shards=3)
    for name, data in given.items():
        (tmp_path / name).write_bytes(data)
    for source in (given, tmp_path):
        read = read_package(source)
        assert read.topology == {"x": 1}
        assert list(read.tensors) == list(TENSORS)
        for name, values in TENSORS.items():
            entry, data = stored(name, values, dtype)
            expected = np.frombuffer(data, {"float32": "<f4", "float16": "<f2", "uint16": "<u2", "uint8": "<u1"}[dtype])
            if dtype.startswith("u"):
                low, scale = entry["quantization"]["min"], entry["quantization"]["scale"]
                expected = np.array([int(level) * scale + low for level in expected])
            np.testing.assert_array_equal(read.tensors[name].numpy().reshape(-1), expected.astype(np.float32))
            assert tuple(read.tensors[name].shape) == values.shape


def changed(change) -> dict[str, bytes]:
    """The files with a manifest that was changed."""
    given = files({}, TENSORS, "uint8")
    model = read_literal(given["model.min.js"], "model.min.js")
    change(model["weightsManifest"][0])
    return {**given, "model.min.js": bundle(model)}


def entry(**values):
    return lambda group: group["weights"][0].update(values)


def quantised(**values):
    return lambda group: group["weights"][0]["quantization"].update(values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (entry(shape=[3, 5]), "hold fewer bytes than the 17 that their tensors need"),
        (entry(shape=[3, 3]), "hold more bytes than the 11"),
        (entry(shape=[-3, -4]), "positive whole numbers"),
        (entry(shape=[3.5, 4]), "positive whole numbers"),
        (entry(shape=[True, 12]), "positive whole numbers"),
        (entry(shape=[1] * 9), "at most 6"),
        (entry(shape=[1 << 20, 1 << 20]), "describes 1099511627778 numbers"),
        (entry(shape=[1 << 60]), "positive whole numbers"),
        (entry(shape="12"), "positive whole numbers"),
        (entry(dtype="int32"), "must be float32, got 'int32'"),
        (entry(dtype="string"), "must be float32"),
        (entry(name="b"), "names a tensor twice"),
        (entry(name=7), "has the name '7'"),
        (entry(name="x" * 500), "1 to 400 letters"),
        (entry(quantization=None), "must be float32"),
        (quantised(dtype="int4"), "only uint8, uint16 and float16"),
        (quantised(dtype=["uint8"]), "only uint8, uint16 and float16"),
        (quantised(dtype="float32"), "only uint8, uint16 and float16"),
        (quantised(scale=None), "the scale of 'a/kernel' must be a finite number"),
        (quantised(min="0"), "the min of 'a/kernel' must be a finite number"),
        (quantised(scale=True), "the scale of 'a/kernel'"),
        (quantised(scale=1e34), "the scale of 'a/kernel'"),
        (lambda g: g.update(paths=["../etc/passwd"]), "plain names"),
        (lambda g: g.update(paths=["group1-shard1of2"] * 2), "plain names"),
        (lambda g: g.update(paths=["a"] * 99), "at most 64"),
        (lambda g: g.update(paths="a"), "plain names"),
        (lambda g: g.update(paths=["group1-shard1of2"]), "hold fewer bytes"),
        (lambda g: g.update(weights={}), "must be a list of objects"),
        (lambda g: g.update(weights=[1]), "must be a list of objects"),
        (lambda g: g.update(weights=g["weights"] * 4000), "more than 10000|twice"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(change, message) -> None:
    with pytest.raises(WeightsUnfitError, match=message) as raised:
        read_package(changed(change))
    assert "\n" not in str(raised.value)


def test_quantisation_to_nan_or_infinity_is_refused() -> None:
    given = files({}, TENSORS, "uint8")
    for word in ("NaN", "Infinity", "1e999"):
        text = given["model.min.js"].decode()
        text = re.sub(r"scale:[^,]+", f"scale:{word}", text, count=1)
        with pytest.raises(WeightsUnfitError):
            read_package({**given, "model.min.js": text.encode()})
    for dtype in ("float32", "float16"):
        for value in (np.nan, np.inf):
            with pytest.raises(WeightsUnfitError, match="'b' has a number that is not finite"):
                read_package(files({}, {"a": np.ones(3), "b": np.array([1.0, value])}, dtype))


def test_known_hashes_are_checked_for_every_file() -> None:
    given = files({}, TENSORS)
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in given.items()}
    assert read_package(given, hashes).tensors
    for name in given:
        others = {each: sha for each, sha in hashes.items() if each != name}
        for wrong in (others, {**others, name: "0" * 64}):
            with pytest.raises(WeightsUnfitError, match=f"{name} does not have the SHA-256 of the record"):
                read_package(given, wrong)


@pytest.mark.parametrize("name", ["model.min.js", "group1-shard2of2.min.js"])
def test_a_missing_file_is_named(name, tmp_path) -> None:
    given = files({}, TENSORS)
    for each, data in given.items():
        (tmp_path / each).write_bytes(data)
    (tmp_path / name).unlink()
    del given[name]
    for source in (given, tmp_path):
        with pytest.raises(WeightsMissingError, match=re.escape(name)):
            read_package(source)


@pytest.mark.parametrize("text", ['"a"', '"!!!!"', '"YQ==YQ=="', "{}", "[1]", "7", '"Zg\\n=="'])
def test_a_shard_that_is_no_base64_is_refused(text) -> None:
    with pytest.raises(WeightsUnfitError, match="base64"):
        read_package({**files({}, TENSORS), "group1-shard1of2.min.js": bundle(text)})


@pytest.mark.parametrize("model", ["[]", '"x"', "{}", "{modelTopology:{}}", "{modelTopology:[],weightsManifest:[]}",
                                   "{modelTopology:{},weightsManifest:[1]}"])  # fmt: skip
def test_a_model_without_its_two_parts_is_refused(model) -> None:
    with pytest.raises(WeightsUnfitError, match="pass the files of one network"):
        read_package({"model.min.js": bundle(model)})


def test_links_out_and_special_files_are_refused(tmp_path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "secret").write_text(json.dumps("x"))
    (tmp_path / "in" / "model.min.js").symlink_to(tmp_path / "secret")
    with pytest.raises(WeightsUnfitError, match="link"):
        read_package(tmp_path / "in")
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / "model.min.js")
    with pytest.raises(WeightsUnfitError, match="not a regular file"):
        read_package(tmp_path / "pipe")


def test_the_number_of_weights_is_limited_before_they_are_read(monkeypatch) -> None:
    monkeypatch.setattr(package, "MAX_NUMBERS", 12)
    with pytest.raises(WeightsUnfitError, match="describes 14 numbers, more than 12"):
        read_package(files({}, TENSORS))


@pytest.mark.parametrize(
    ("shards", "message"), [(["a"] * 3, "each once"), ([f"s{i}" for i in range(65)], "at most 64")]
)
def test_the_shards_of_all_groups_are_limited_before_any_is_read(shards, message) -> None:
    model = {"modelTopology": {}, "weightsManifest": [{"weights": [], "paths": [name]} for name in shards]}
    with pytest.raises(WeightsUnfitError, match=message):
        read_package({"model.min.js": bundle(model)})
