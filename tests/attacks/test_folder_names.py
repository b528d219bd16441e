"""A name is a name, a path is a path: what lies in the working directory stands in for neither."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from nsfw_guard.backends.files.inside import is_path
from nsfw_guard.backends.registry import load_model
from nsfw_guard.calibration import Calibration
from nsfw_guard.errors import (
    ConfigError,
    NsfwGuardError,
    UnknownNameError,
    WeightsMissingError,
)
from nsfw_guard.guard import Guard
from nsfw_guard.policy.policy import Policy
from nsfw_guard.policy.rules import Threshold
from tests.attacks.folders import guard, moved, threshold


@pytest.fixture
def here(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with folders and files that have the names of models and of policies."""
    for name in ("demo-shapes", "mine"):
        shutil.copytree(saved, tmp_path / name)
        moved(1e-6, -9)(tmp_path / name)
        guard(action={"name": "flag"})(tmp_path / name)
    for name in ("strict", "strict.toml", "careful"):
        (tmp_path / name).write_text('[rules."*"]\nblock = 1.0\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_named_like_a_model_is_ignored(here: Path) -> None:
    guard = Guard.from_pretrained("demo-shapes")
    assert (guard.spec.name, guard.action.name, guard.requested["action"]) == ("demo-shapes", "block", "block")
    assert "calibration" not in guard.state
    assert guard.policy.rules["red-disc"].block == 0.5
    (here / "marqo").symlink_to(here / "mine")
    with pytest.raises(WeightsMissingError, match="nsfw-guard fetch marqo"):
        load_model("marqo")


def test_a_bare_word_is_not_a_folder_and_the_error_names_the_cure(here: Path) -> None:
    with pytest.raises(ConfigError, match=r"use './mine' for the folder here"):
        Guard.from_pretrained("mine")
    for ref in ("./mine", here / "mine", str(here / "mine"), Path("mine"), Path("demo-shapes")):
        assert load_model(ref).spec.name == "tiny"
    with pytest.raises(UnknownNameError, match="did you mean 'marqo'"):
        load_model("marqoo")


def test_a_file_named_like_a_policy_is_ignored(here: Path) -> None:
    assert Policy.load("strict").rules["*"].block == "strict"
    assert Policy.load({"extends": "strict"}).rules["*"].block == "strict"
    with pytest.raises(ConfigError, match=r"use './careful' for the file here"):
        Policy.load("careful")
    for path in ("./strict", "strict.toml", "./careful", Path("strict")):
        assert Policy.load(path).rules["*"].block == 1.0


@pytest.mark.parametrize(
    ("ref", "word"),
    [
        ("x" * 5000, "unknown model or folder"),
        ("a\0b", "unknown model or folder"),
        ("./" + "x" * 5000, "does not exist: pass a folder"),
        ("./a\0b", "does not exist: pass a folder"),
        ("~nobody-of-this-name/x", "does not exist: pass a folder"),
        ("Marqo/nsfw-image-detection-384", "or use 'hf:Marqo/nsfw-image-detection-384@<commit>'"),
        (f"hf:../../etc@{'a' * 40}", "is not a repository name"),
        (f"hf:a/../b@{'a' * 40}", "is not a repository name"),
        (f"hf:{'x' * 5000}/y@{'a' * 40}", "is not a repository name"),
        (f"hf:a/b@{'x' * 5000}", "is not pinned"),
        ("timm:" + "x" * 5000, "not a timm name"),
        ("timm:hf-hub:a/b", "not a timm name"),
    ],
)
def test_strange_references_are_one_clear_error(ref: str, word: str) -> None:
    with pytest.raises(NsfwGuardError, match=word) as raised:
        Guard.from_pretrained(ref, weights="w.safetensors" if ref.startswith("timm") else None, labels={"a": "x"})
    assert len(str(raised.value)) < 700


def test_what_counts_as_a_path() -> None:
    assert [is_path(ref) for ref in ("./a", "../a", "~/a", "/a", "a/b", "a\\b", ".", Path("a"))] == [True] * 8
    assert [is_path(ref) for ref in ("a", "marqo", "a.b", "", "hf:a/b@c", "timm:a")] == [False] * 6


def test_a_repository_may_not_relax_its_guard_either(saved: Path, tmp_path: Path, monkeypatch) -> None:
    from nsfw_guard.backends import loaders

    folder = Path(shutil.copytree(saved, tmp_path / "snapshot"))
    monkeypatch.setattr(loaders, "fetch_repo", lambda *_, **__: folder)
    guard = Guard.from_pretrained(f"hf:some/one@{'a' * 40}")
    assert (guard.spec.name, guard.requested["policy"]) == ("hf:some/one", "default")
    threshold(block=1.0)(folder)
    with pytest.raises(ConfigError, match="the threshold 'default' is 1"):
        Guard.from_pretrained(f"hf:some/one@{'a' * 40}")
    guard = Guard.from_pretrained(f"hf:some/one@{'a' * 40}", trust_guard=True)
    assert guard.requested["trusted"] == "the threshold 'default' is 1"


def test_the_callers_own_calibration_may_set_any_threshold(saved: Path) -> None:
    high = Calibration(model="tiny", maps={"sexual": (1.0, 9.0)}, thresholds={"default": Threshold(block=0.999)})
    guard = Guard.from_pretrained(saved, calibration=high, policy="default")
    assert guard.policy.rules["sexual"].block == 0.999
    assert "trusted" not in guard.requested
