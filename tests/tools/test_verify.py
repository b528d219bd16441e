"""Answers that a machine records for itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from nsfw_guard.backends.catalog.classifiers import MARQO
from nsfw_guard.backends.files.answers import with_answers, write_answers
from nsfw_guard.backends.registry import load_model, register_model, unregister_model
from nsfw_guard.backends.spec import ModelSpec
from nsfw_guard.errors import ConfigError, SelfTestError
from nsfw_guard.tools.verify import forget, verify
from tests.backends.make_models import make


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The files of a registered model "mine", which has a commit and no answers, and no known hash."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    spec = make(replace(MARQO, name="mine"), tmp_path / "mine")
    register_model(replace(spec, sha256=""), lambda spec, options: load_model("demo-shapes"))
    yield tmp_path / "mine"
    unregister_model("mine")


def state(folder: Path) -> str:
    return load_model("mine", weights=folder).state()["self_test"]


def change(folder: Path) -> None:
    """Give the network other weights."""
    tensors = load_file(folder / "model.safetensors")
    save_file({name: torch.roll(tensor, 1, 0) for name, tensor in tensors.items()}, folder / "model.safetensors")


def test_weights_that_changed_after_the_answers_were_recorded_are_refused(folder: Path) -> None:
    verify("mine", weights=folder)
    change(folder)
    with pytest.raises(SelfTestError, match=r"differ from its record .* on this machine: .*verify mine --forget"):
        load_model("mine", weights=folder)
    with pytest.raises(SelfTestError, match="differ from its record"):
        verify("mine", weights=folder)


def test_from_then_on_the_self_test_is_passed_until_it_is_forgotten(folder: Path) -> None:
    assert state(folder) == "answers unrecorded"
    result = verify("mine", weights=folder)
    assert result.path is not None
    assert list(result.answers) == ["ramp", "stripes", "disc"]
    assert sum(result.answers["disc"].values()) == pytest.approx(1.0)
    assert json.loads(result.path.read_text())["version"] == MARQO.revision
    assert state(folder) == "passed"
    assert verify("mine", weights=folder).path is None
    assert forget("mine") == [result.path]
    assert state(folder) == "answers unrecorded"
    assert forget("mine") == []


def test_other_labels_are_other_answers(folder: Path) -> None:
    verify("mine", weights=folder)
    assert load_model("mine", weights=folder, labels={"SFW": "calm"}).state()["self_test"] == "passed"
    record = replace(MARQO, name="mine", revision="0" * 40, sha256="")
    unregister_model("mine")
    register_model(record, lambda spec, options: load_model("demo-shapes"))
    assert state(folder) == "answers unrecorded"


@pytest.mark.parametrize(
    "content", ['{"model": "mine", "answers": [1]}', "{", "[]", "{}", '{"model": "other", "answers": {}}',
                '{"model": "mine", "answers": {}}', '{"model": "mine", "answers": {"disc": {"x": 1}}}'],
)  # fmt: skip
def test_a_damaged_file_is_an_error_that_names_the_cure_which_helps(folder: Path, content: str) -> None:
    path = verify("mine", weights=folder).path
    assert path is not None
    path.write_text(content)
    with pytest.raises(SelfTestError, match="verify mine --forget"):
        load_model("mine", weights=folder)
    assert forget("mine") == [path]
    assert state(folder) == "answers unrecorded"


def test_folders_unknown_versions_and_models_with_answers_are_not_recorded(folder: Path) -> None:
    with pytest.raises(ConfigError, match="belong into its own record"):
        verify(str(folder))
    assert verify("demo-shapes").path is None
    unregister_model("mine")
    register_model(replace(MARQO, name="mine", revision="", sha256=""), _loaded)
    with pytest.raises(ConfigError, match="the version of 'mine' is not known"):
        verify("mine", weights=folder)


def _loaded(spec: ModelSpec, options: object) -> object:
    return load_model("demo-shapes")


def test_a_judge_that_answers_for_fewer_categories_than_its_record_has_stays_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    record = replace(MARQO, name="mine", sha256="")
    answers = {"disc": {"NSFW": 0.25}}
    write_answers(record, answers)
    assert with_answers(record).known_answers == answers
