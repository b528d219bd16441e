"""Model folders that strangers wrote: code, files elsewhere, sizes, lies about labels, guards relaxed in silence."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nsfw_guard.backends.files.arguments import ARGUMENTS, check_config, check_keys, timm_arguments
from nsfw_guard.backends.files.inside import no_links_out
from nsfw_guard.backends.registry import load_model
from nsfw_guard.errors import (
    ConfigError,
    NsfwGuardError,
    SelfTestError,
    WeightsUnfitError,
)
from nsfw_guard.guard import Guard
from nsfw_guard.imaging.views import InputSpec
from tests.attacks.folders import Mutate, edited, guard, moved, threshold
from tests.backends.folders import edit_weights

MARK = "code ran"


def config(**changes: object) -> Mutate:
    return edited("config.json", lambda payload: payload.update(changes))


def args(**changes: object) -> Mutate:
    return edited("config.json", lambda payload: payload["model_args"].update(changes))


def cfg(**changes: object) -> Mutate:
    return plain(edited("config.json", lambda payload: payload["pretrained_cfg"].update(changes)))


def record(**changes: object) -> Mutate:
    return edited("nsfw_guard.json", lambda payload: payload.update(changes))


def rule(**changes: object) -> Mutate:
    """Another rule in the policy of the saved guard, and no calibration."""

    def mutate(folder: Path) -> None:
        (folder / "calibration.json").unlink()
        edited("guard.json", lambda payload: payload["policy"]["rules"].update(sexual=changes))(folder)

    return mutate


def plain(change: Mutate) -> Mutate:
    """The change, on a folder without our record: nothing but what timm lays out."""

    def mutate(folder: Path) -> None:
        for name in ("nsfw_guard.json", "guard.json", "calibration.json"):
            (folder / name).unlink()
        change(folder)

    return mutate


def tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Mutate:
    return plain(lambda folder: edit_weights(folder, change))


def written(name: str, data: bytes, *, size: int = 0) -> Mutate:
    """A file of these bytes, filled up with nothing to a size."""

    def mutate(folder: Path) -> None:
        (folder / name).write_bytes(data)
        if size:
            os.truncate(folder / name, size)

    return mutate


def linked(name: str, *, relative: bool = False) -> Mutate:
    """The same file, as a link to where a copy lies outside of the folder."""

    def mutate(folder: Path) -> None:
        elsewhere = folder.parent / f"elsewhere-{name}"
        (folder / name).rename(elsewhere)
        (folder / name).symlink_to(Path("..") / elsewhere.name if relative else elsewhere)

    return mutate


def every_zero(weights: dict[str, torch.Tensor]) -> None:
    for tensor in weights.values():
        tensor.zero_()


def drowned(weights: dict[str, torch.Tensor]) -> None:
    weights["head.bias"][:] = torch.tensor([-1e4, 1e4])


def swapped(payload: dict[str, Any]) -> None:
    payload["label_names"] = payload["label_names"][::-1]


def in_both(folder: Path) -> None:
    """Names change places in the configuration and in the record: all that is left is what the model answers."""
    edited("config.json", swapped)(folder)
    edited("nsfw_guard.json", lambda payload: payload.update(labels=dict(reversed(payload["labels"].items()))))(folder)


def as_lists(payload: dict[str, Any], order: int = 1) -> None:
    """Known answers as old records have them, in the order of the labels that they name."""
    payload["answers"] = {name: list(row.values())[::order] for name, row in payload["answers"].items()}


DEEP = b'{"architecture": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
FAR = "../../../../etc/passwd"
NO_ARG = "not accepted from a folder"
ATTACKS: dict[str, tuple[Mutate, type[NsfwGuardError], str]] = {
    # A folder runs no code and opens no other file.
    "args: checkpoint": (args(checkpoint_path=FAR), ConfigError, NO_ARG),
    "args: checkpoint, empty": (args(checkpoint_path=""), ConfigError, NO_ARG),
    "args: pretrained": (args(pretrained=True), ConfigError, NO_ARG),
    "args: overlay": (args(pretrained_cfg_overlay={"file": FAR}), ConfigError, NO_ARG),
    "args: pretrained_cfg": (args(pretrained_cfg={"file": FAR}), ConfigError, NO_ARG),
    "args: cache": (args(cache_dir="/tmp"), ConfigError, NO_ARG),  # noqa: S108
    "args: features": (args(features_only=True), ConfigError, NO_ARG),
    "args: script": (args(scriptable=True), ConfigError, NO_ARG),
    "args: pruned": (args(pruned=True), ConfigError, NO_ARG),
    "args: classes": (args(num_classes=7), ConfigError, NO_ARG),
    "args: a layer": (args(norm_layer="torch.nn.Identity"), ConfigError, "must be one of"),
    "args: a list": (config(model_args=["img_size"]), ConfigError, "must be an object"),
    "args: nested": (args(img_size={"a": 1}), ConfigError, "must be a whole number"),
    "args: pool": (config(global_pool="../x"), ConfigError, "must be one of"),
    "architecture: hub": (config(architecture="hf-hub:some/one"), ConfigError, "without 'hf-hub:'"),
    "architecture: old hub": (config(architecture="hf_hub:some/one"), ConfigError, "without 'hf-hub:'"),
    "architecture: folder": (config(architecture="local-dir:/tmp/x"), ConfigError, "without 'hf-hub:'"),
    "architecture: path": (config(architecture=FAR), ConfigError, "not a timm name"),
    "architecture: long": (config(architecture="v" * 5000), ConfigError, "not a timm name"),
    "architecture: number": (config(architecture=3), ConfigError, "not a timm name"),
    "architecture: another": (config(architecture="resnet18"), ConfigError, "timm cannot build resnet18"),
    "config is a link": (linked("config.json"), WeightsUnfitError, "config.json in .* is a link"),
    "weights are a link": (linked("model.safetensors"), WeightsUnfitError, "is a link"),
    "a relative link": (linked("model.safetensors", relative=True), WeightsUnfitError, "is a link"),
    "the guard is a link": (linked("guard.json"), WeightsUnfitError, "guard.json in .* is a link"),
    "policy elsewhere": (guard(policy=FAR), ConfigError, "is not written out in this file"),
    "policy extends": (guard(policy={"extends": FAR, "rules": {}}), ConfigError, "is not written out in this file"),
    "an image elsewhere": (guard(action={"name": "replace", "image": FAR}), ConfigError, "shows the image file"),
    "on review, an image": (guard(on_review={"name": "replace", "image": FAR}), ConfigError, "shows the image file"),
    # It asks for no more than it holds.
    "args: deep": (args(depth=10**9), ConfigError, "from 1 to 100"),
    "args: deep, below the bound": (plain(args(depth=100)), WeightsUnfitError, "do not fit|larger than its weights"),
    "args: wide": (args(embed_dim=10**9), ConfigError, "from 1 to 4096"),
    "args: wide and deep": (plain(args(embed_dim=4096, depth=100)), WeightsUnfitError, "larger than its weights"),
    "args: a huge image": (args(img_size=10**6), ConfigError, "from 1 to 2048"),
    "args: a float side": (args(img_size=32.5), ConfigError, "whole number"),
    "args: a flag as a side": (args(img_size=True), ConfigError, "whole number"),
    "args: a negative depth": (args(depth=-1), ConfigError, "from 1 to 100"),
    "args: no divisor": (plain(args(num_heads=7)), ConfigError, "timm cannot build"),
    "args: of another network": (plain(args(conv_mlp=True)), ConfigError, "timm cannot build"),
    "config: 200 MB": (written("config.json", b"{", size=200 << 20), WeightsUnfitError, "larger than 4 MB"),
    "config: deep": (written("config.json", DEEP), WeightsUnfitError, "is not usable JSON"),
    "config: NaN": (written("config.json", b'{"architecture": NaN}'), WeightsUnfitError, "NaN is not a JSON number"),
    "config: a list": (written("config.json", b"[]"), WeightsUnfitError, "expected an object in braces"),
    "config: no text": (written("config.json", b"\xff\xfe"), WeightsUnfitError, "is not usable JSON"),
    "record: deep": (written("nsfw_guard.json", DEEP), WeightsUnfitError, "is not usable JSON"),
    "guard: deep": (written("guard.json", DEEP), ConfigError, "is not usable JSON"),
    "calibration: deep": (written("calibration.json", DEEP), ConfigError, "is not a calibration file"),
    "header of 99 MB": (
        plain(written("model.safetensors", (99 << 20).to_bytes(8, "little") + b"{}", size=100 << 20)),
        WeightsUnfitError,
        "has 99 MB, more than 16 MB",
    ),
    "header beyond the file": (
        plain(written("model.safetensors", (2**63).to_bytes(8, "little") + b"{}")),
        WeightsUnfitError,
        "not a complete safetensors file",
    ),
    "header: shapes": (
        plain(written("model.safetensors", (37).to_bytes(8, "little") + b'{"a": {"shape": [-1], "dtype": "F4"}}')),
        WeightsUnfitError,
        "has no valid shape",
    ),
    "whole numbers as weights": (
        tensors(lambda weights: weights.update({"head.bias": weights["head.bias"].long()})),
        WeightsUnfitError,
        "head.bias is torch.int64",
    ),
    # Its labels mean what they say, and its model looks.
    "names swapped": (edited("config.json", swapped), WeightsUnfitError, "labels of .* changed"),
    "names swapped in both": (in_both, SelfTestError, "differ from its record"),
    "old answers, names swapped": (
        lambda folder: [edited("nsfw_guard.json", as_lists)(folder), edited("config.json", swapped)(folder)],
        WeightsUnfitError,
        "labels of .* changed",
    ),
    "old answers, swapped": (
        edited("nsfw_guard.json", lambda payload: as_lists(payload, -1)),
        SelfTestError,
        "differ from its record",
    ),
    "old answers, one too many": (record(answers={"disc": [0.1, 0.2, 0.7]}), WeightsUnfitError, "lists 3 answers"),
    "a canary is missing": (
        edited("nsfw_guard.json", lambda payload: payload["answers"].pop("disc")),
        SelfTestError,
        "record the answers again",
    ),
    "a label is missing": (
        edited("nsfw_guard.json", lambda payload: payload["answers"]["disc"].pop("SFW")),
        SelfTestError,
        "record the answers again",
    ),
    "an answer is a text": (record(answers={"disc": {"NSFW": "x"}}), WeightsUnfitError, "unreadable"),
    "a name twice": (config(label_names=["NSFW", "NSFW"]), WeightsUnfitError, "names a class twice"),
    "a name is a number": (config(label_names=[1, 2]), WeightsUnfitError, "something other than a string"),
    "a name of 5,000 letters": (
        config(label_names=["NSFW", "S" * 5000]),
        WeightsUnfitError,
        "by something other than a string",
    ),
    "a known name is harmless": (
        record(labels={"NSFW": None, "SFW": ["x", "high"]}),
        ConfigError,
        "counts as harmless",
    ),
    "a label means a text": (record(labels={"NSFW": "sexual", "SFW": None}), WeightsUnfitError, "write"),
    "a hash is a number": (record(sha256=7), WeightsUnfitError, "sha256 in nsfw_guard.json must be a string, got '7'"),
    "all weights zero": (tensors(every_zero), SelfTestError, "the same answer to 9 different images"),
    "a bias drowns it": (tensors(drowned), SelfTestError, "the same answer to 9 different images"),
    "mean of 1e9": (cfg(mean=[1e9] * 3), ConfigError, "mean must be three numbers"),
    "mean of texts": (cfg(mean=["a", "b", "c"]), ConfigError, "mean must be three numbers"),
    "std of infinity": (
        plain(lambda folder: written("config.json", _with_infinity(folder))(folder)),
        WeightsUnfitError,
        "1e999 is too large",
    ),
    "std of 1e300": (cfg(std=[1e300] * 3), ConfigError, "std must be three numbers"),
    "crop_pct of 1e-300": (cfg(crop_pct=1e-300), ConfigError, "crop_pct must be .* got 1e-300"),
    "crop_pct a text": (cfg(crop_pct="1"), ConfigError, "crop_pct must be .* got 1"),
    "a side of 1e6": (cfg(input_size=[3, 10**6, 10**6]), ConfigError, "from 1 to 2048"),
    "a side of 32.0": (cfg(input_size=[3, 32.0, 32.0]), ConfigError, "size must be a whole number .* got 32.0"),
    "an input of no list": (cfg(input_size=5), WeightsUnfitError, "unreadable"),
    "no cfg": (plain(config(pretrained_cfg=[1])), WeightsUnfitError, "unreadable"),
    # It does not relax its own guard in silence.
    "record: a threshold of 1": (threshold(block=1.0), ConfigError, "the threshold 'default' is 1"),
    "record: a threshold of 0.99": (threshold(block=0.99), ConfigError, "the threshold 'default' is 0.99"),
    "record: a view's threshold of 1": (threshold(views={"center": 1.0}), ConfigError, "the threshold 'default' is 1"),
    "guard: flag": (guard(action={"name": "flag"}), ConfigError, "the action is 'flag'"),
    "guard: never blocks": (rule(review=0.2), ConfigError, "'sexual' is never blocked"),
    "guard: blocks from 1": (rule(block=1.0), ConfigError, "'sexual' is blocked only from 1 up"),
    "guard: a view from 1": (rule(block=0.5, views={"side": 1.0}), ConfigError, "'sexual' is blocked only from 1 up"),
    "calibration: down": (moved(1e-6, -9), ConfigError, "the calibration lowers a 'sexual' score of 0.99 to 0.000123"),
    "calibration: constant": (moved(1.0, -1e308), ConfigError, "map every score to the same number"),
    "calibration: its own thresholds": (
        edited("calibration.json", lambda payload: payload.update(thresholds={"default": {"block": 1.0}})),
        ConfigError,
        "the threshold 'default' is 1",
    ),
}


def _with_infinity(folder: Path) -> bytes:
    payload = json.loads((folder / "config.json").read_text())
    payload["pretrained_cfg"]["std"] = ["big"] * 3
    return json.dumps(payload).replace('"big"', "1e999").encode()


def test_the_unchanged_folder_loads(saved: Path) -> None:
    guard = Guard.from_pretrained(saved)
    assert guard.state["self_test"] == "passed"
    assert (guard.requested["policy"], guard.requested["action"], guard.requested["calibration"]) == ("as saved",) * 3
    assert "trusted" not in guard.requested


@pytest.mark.parametrize("name", ATTACKS)
def test_a_folder_that_attacks_is_refused_in_one_clear_line(saved: Path, tmp_path: Path, name: str) -> None:
    mutate, error, word = ATTACKS[name]
    folder = Path(shutil.copytree(saved, tmp_path / "folder"))
    mutate(folder)
    with pytest.raises(error, match=word) as raised:
        Guard.from_pretrained(folder)
    assert len(str(raised.value)) < 1500  # the names of all arguments are 900 letters
    assert "\n" not in str(raised.value)


def test_an_older_record_is_read_and_checked_like_a_new_one(saved: Path, tmp_path: Path) -> None:
    """It says "cuts" and "licence", and may relax as little."""
    folder = Path(shutil.copytree(saved, tmp_path / "before"))
    threshold(block=0.75)(folder)

    def before(payload: dict[str, Any]) -> None:
        payload["cuts"] = payload.pop("thresholds")
        payload.pop("license", None)
        payload["licence"] = "MIT"

    edited("nsfw_guard.json", before)(folder)
    spec = load_model(folder).spec
    assert (spec.thresholds["default"].block, spec.license) == (0.75, "MIT")
    edited("nsfw_guard.json", lambda payload: payload["cuts"]["default"].update(block=1.0))(folder)
    with pytest.raises(ConfigError, match="the threshold 'default' is 1"):
        load_model(folder)


def test_a_network_that_reads_values_while_built_has_the_same_size_bound(tiny: Path, tmp_path: Path) -> None:
    import timm

    def vit_reading(pretrained: bool = False, **settings: Any) -> torch.nn.Module:
        assert float(torch.zeros(1).item()) == 0.0  # on paper there is no number
        return timm.create_model("vit_tiny_patch16_224", pretrained=pretrained, **settings)

    vit_reading.__module__ = "timm.models.vision_transformer"
    timm.models.register_model(vit_reading)
    folder = Path(shutil.copytree(tiny, tmp_path / "folder"))
    config(architecture="vit_reading")(folder)
    assert load_model(folder).width == 24
    args(embed_dim=4096, depth=100)(folder)
    with pytest.raises(WeightsUnfitError, match="larger than its weights"):
        load_model(folder)


class Marks:
    """Unpickled, it leaves a file behind: what code that ran would do."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.path, MARK)


@pytest.mark.parametrize("where", ["model_args", "overlay", "cfg", "top"])
def test_a_pickle_that_a_folder_names_is_not_opened(tiny: Path, tmp_path: Path, where: str) -> None:
    mark, trap = tmp_path / "mark", tmp_path / "trap.pth"
    trap.write_bytes(pickle.dumps({"state_dict": Marks(mark)}))
    pickle.loads(trap.read_bytes())  # noqa: S301  (the trap works)
    assert mark.read_text() == MARK
    mark.unlink()
    folder = Path(shutil.copytree(tiny, tmp_path / "folder"))
    changes: dict[str, Mutate] = {
        "model_args": args(checkpoint_path=str(trap)),
        "overlay": args(pretrained=True, pretrained_cfg_overlay={"file": str(trap)}),
        "cfg": edited(
            "config.json", lambda payload: payload["pretrained_cfg"].update(file=str(trap), custom_load=True)
        ),
        "top": config(checkpoint_path=str(trap), pretrained=True),
    }
    changes[where](folder)
    if where in {"model_args", "overlay"}:
        with pytest.raises(ConfigError, match="remove it"):
            load_model(folder)
    else:  # what stands elsewhere is handed to nobody
        assert load_model(folder).state()["self_test"] == "answers unrecorded"
    assert not mark.exists()


def test_the_hash_is_checked_before_anything_is_built(saved: Path, tmp_path: Path, monkeypatch) -> None:
    import timm

    folder = Path(shutil.copytree(saved, tmp_path / "folder"))
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\0\0\0\1")
    built: list[str] = []
    monkeypatch.setattr(timm, "create_model", lambda name, **_: built.append(name))
    with pytest.raises(WeightsUnfitError, match="recorded SHA-256"):
        load_model(folder)
    assert built == []


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**12) | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=6,
)
NAMES = st.sampled_from(sorted(ARGUMENTS)) | st.text(max_size=20) | st.sampled_from(["checkpoint_path", "pretrained"])


@settings(max_examples=100, deadline=None)
@given(name=NAMES, value=VALUES)
def test_an_argument_is_bounded_or_refused(name: str, value: object) -> None:
    try:
        arguments = timm_arguments({name: value}, what="it")
    except ConfigError:
        return
    assert value is None or name in ARGUMENTS
    for each in arguments.values():
        for one in each if isinstance(each, tuple) else [each]:
            assert isinstance(one, (bool, str)) or abs(one) <= 1e6


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(sorted(ARGUMENTS)), value=st.integers(0, 200) | st.floats(0, 2) | st.booleans())
def test_whatever_a_folder_asks_of_timm_ends_in_a_model_or_one_error(
    tiny: Path, tmp_path_factory: pytest.TempPathFactory, name: str, value: object
) -> None:
    folder = tmp_path_factory.mktemp("any") / "folder"
    shutil.copytree(tiny, folder)
    args(**{name: value})(folder)
    try:
        backend: Any = load_model(folder)
    except (ConfigError, WeightsUnfitError, SelfTestError):
        return
    assert sum(p.numel() for p in backend._nets[backend.home].parameters()) < 20_000


# Links, inputs, other libraries ---------------------------------------------------------------------------------------


def test_only_links_of_the_hubs_cache_are_followed(tiny: Path, tmp_path: Path) -> None:
    repo = tmp_path / "models--some--one"
    snapshot = repo / "snapshots" / ("a" * 40)
    shutil.copytree(tiny, repo / "blobs")
    for folder in (snapshot, snapshot / "safety_checker"):
        folder.mkdir(parents=True)
        for name in ("config.json", "model.safetensors"):
            (folder / name).symlink_to(os.path.relpath(repo / "blobs" / name, folder))
        assert load_model(folder).state()["self_test"] == "answers unrecorded"
    other = tmp_path / "models--some--other" / "blobs"
    shutil.copytree(tiny, other)
    (snapshot / "README.md").symlink_to(other / "config.json")
    with pytest.raises(WeightsUnfitError, match=r"README.md in .* is a link to a file outside"):
        no_links_out(snapshot)


def test_a_link_to_the_folder_itself_is_followed(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tiny)
    assert load_model(tmp_path / "link").width == 24


@pytest.mark.parametrize(
    "changes",
    [
        {"size": 2049}, {"size": 32.0}, {"size": True}, {"size": "32"}, {"crop_pct": 1e-300}, {"crop_pct": True},
        {"crop_pct": float("nan")}, {"mean": (0.5, 0.5, float("nan"))}, {"mean": "abc"}, {"mean": (1e9,) * 3},
        {"std": (float("inf"),) * 3}, {"std": (1e-9,) * 3}, {"std": 3},
    ],
)  # fmt: skip
def test_an_input_of_absurd_numbers_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        InputSpec(**{"size": 32, **changes})


CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "code": ({"auto_map": {"AutoModel": "x.Y"}}, "contains 'auto_map'"),
    "pipelines": ({"custom_pipelines": {"a": {"impl": "x.Y"}}}, "contains 'custom_pipelines'"),
    "quantised": ({"quantization_config": {"quant_method": "x"}}, "contains 'quantization_config'"),
    "other weights": ({"transformers_weights": "other.safetensors"}, "contains 'transformers_weights'"),
    "a kernel": ({"_attn_implementation": "some/kernel"}, "contains '_attn_implementation'"),
    "a kernel, inside": ({"text_config": {"attn_implementation": {"": "a/b"}}}, "contains 'attn_implementation'"),
    "experts": ({"experts_implementation": "some/kernel"}, "contains 'experts_implementation'"),
    "a backbone": ({"backbone": "resnet50", "use_timm_backbone": True}, "contains 'backbone'"),
    "a pickle": ({"x": [{"model_args": {"checkpoint_path": "x"}}]}, "contains 'model_args'"),
    "timm, by the other door": ({"model_type": "timm_wrapper"}, "model_type 'timm_wrapper'"),
    "no name": ({"model_type": ["vit"]}, "model_type"),
    "a path": ({"tokenizer_file": "/etc/passwd"}, "contains 'tokenizer_file'"),
    "layers": ({"num_hidden_layers": 10**9}, "num_hidden_layers = '1000000000', more than 256"),
    "width": ({"vision_config": {"hidden_size": 10**9}}, "hidden_size"),
    "a list": ({"depths": [1, 10**9]}, "depths"),
    "words": ({"vocab_size": 10**9}, "vocab_size"),
    "labels": ({"id2label": dict.fromkeys(map(str, range(10_001)), "x")}, "has 10001 entries"),
    "any number": ({"something": 1e30}, "something"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_transformers_configuration_that_leads_elsewhere_is_refused(name: str) -> None:
    payload, word = CONFIGS[name]
    with pytest.raises(WeightsUnfitError, match=word):
        check_config({"model_type": "vit", **payload}, "config.json in 'it'")


def test_published_configurations_are_accepted() -> None:
    check_config(
        {
            "model_type": "vit", "_name_or_path": "google/vit-base-patch16-224-in21k", "architectures": ["V"],
            "attn_implementation": None, "_attn_implementation": "eager", "_attn_implementation_autoset": True,
            "id2label": {"0": "normal"}, "pruned_heads": {}, "quantization_config": None, "num_hidden_layers": 12,
            "text_config": {"model_type": "clip_text_model", "vocab_size": 49408, "max_position_embeddings": 10485760},
        },
        "it",
    )  # fmt: skip
    check_keys({"model_max_length": 10**30, "special_tokens_map_file": "./x.json", "name_or_path": "a/b"}, "it")


@pytest.mark.parametrize("name", ["adapter", "weights", "template", "kernel", "huge"])
def test_a_bad_transformers_folder_is_refused_before_it_is_opened(tmp_path: Path, monkeypatch, name: str) -> None:
    transformers = pytest.importorskip("transformers")
    from nsfw_guard.backends import registry
    from tests.backends.make_models import make

    make(registry.spec("falconsai"), tmp_path)
    changes: dict[str, tuple[Mutate, str]] = {
        "adapter": (
            written("adapter_config.json", b'{"base_model_name_or_path": "a/b"}'),
            "adapters are not supported",
        ),
        "weights": (config(transformers_weights="other.safetensors"), "transformers_weights"),
        "template": (written("processor_config.json", b'{"auto_map": {"AutoProcessor": "x.Y"}}'), "auto_map"),
        "kernel": (config(_attn_implementation="some/kernel"), "_attn_implementation"),
        "huge": (
            config(hidden_size=32768, intermediate_size=262_144, num_hidden_layers=256),
            "larger than its weights",
        ),
    }
    changes[name][0](tmp_path)
    if name != "huge":
        monkeypatch.setattr(transformers.AutoModelForImageClassification, "from_pretrained", None)
    with pytest.raises(WeightsUnfitError, match=changes[name][1]):
        load_model(tmp_path)
