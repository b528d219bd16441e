"""Names of models: one door in, and none that replaces another in silence."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import EntryPoint

import pytest

from nsfw_guard import list_models, load_model, register_model, unregister_model
from nsfw_guard.backends import registry
from nsfw_guard.backends.base import Backend, Options, checked_scores
from nsfw_guard.backends.spec import Label, ModelSpec
from nsfw_guard.errors import ConfigError, ScoringError, UnknownNameError
from nsfw_guard.guard import Guard
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.testing import RED, FakeBackend, FaultyBackend, red_model
from nsfw_guard.verdict import Outcome
from tests.images import smooth


@pytest.fixture
def fresh(monkeypatch):
    """A registry that was not filled yet."""
    monkeypatch.setattr(registry, "_models", {})
    monkeypatch.setattr(registry, "_filled", False)


def test_the_built_in_models_are_there() -> None:
    assert "marqo" in list_models()
    assert list(list_models()) == sorted(list_models())


def test_a_custom_model_is_registered_loaded_and_unregistered(fresh) -> None:
    register_model(red_model(), lambda spec, options: FakeBackend())

    assert "red" in list_models()
    assert isinstance(load_model("red"), FakeBackend)
    assert Guard.from_pretrained("red").check(smooth(1, 8, 8))[0].outcome is Outcome.ALLOW
    unregister_model("red")
    assert "red" not in list_models()
    with pytest.raises(UnknownNameError):
        unregister_model("red")


def test_a_plug_ins_model_takes_no_folder(fresh, tmp_path) -> None:
    register_model(red_model("mine"), lambda spec, options: FakeBackend())
    with pytest.raises(ConfigError, match=r"'mine' is built by a plug-in \(kind 'fake'\)"):
        load_model("mine", weights=tmp_path)


def test_a_name_that_is_taken_is_refused(fresh) -> None:
    with pytest.raises(ConfigError, match="'marqo' is registered already"):
        register_model(red_model("marqo"), lambda spec, options: FakeBackend())


def red_plugin(add) -> None:
    add(red_model(), lambda spec, options: FakeBackend())


def thief(add) -> None:
    add(red_model("marqo"), lambda spec, options: FakeBackend())


def plug_in(monkeypatch, *hooks: str) -> None:
    entries = [EntryPoint(h, f"tests.backends.test_registry:{h}", registry.GROUP) for h in hooks]
    monkeypatch.setattr(registry, "entry_points", lambda group: entries if group == registry.GROUP else [])


def test_plug_ins_register_like_the_built_in_models(fresh, monkeypatch) -> None:
    plug_in(monkeypatch, "red_plugin")
    assert {"marqo", "red"} <= set(list_models())


@pytest.mark.parametrize("hook", ["thief", "no_such_function"])
def test_a_plug_in_that_breaks_or_steals_a_name_changes_nothing(fresh, monkeypatch, caplog, hook) -> None:
    plug_in(monkeypatch, hook, "red_plugin")
    assert {"marqo", "red"} <= set(list_models())
    assert registry.spec("marqo").repo == "Marqo/nsfw-image-detection-384"
    assert f"the plug-in {hook}" in caplog.text


def test_every_record_says_what_a_user_must_know() -> None:
    for name in list_models():
        spec = registry.spec(name)
        assert spec.name == name
        assert spec.license != "unknown"
        assert spec.source
        assert {"default", "strict", "lenient"} <= set(spec.thresholds)
        assert all(threshold.source for threshold in spec.thresholds.values())
        assert spec.download_bytes > 0
        assert not spec.repo or len(spec.revision) == 40 or (not spec.revision and "no commit" in spec.source)


def test_fakes_are_backends() -> None:
    assert isinstance(FakeBackend(), Backend)


@pytest.mark.parametrize("fault", ["few", "many", "none", "generator", "wrong kind"])
def test_an_answer_of_the_wrong_shape_is_an_error(fault) -> None:
    with pytest.raises(ScoringError, match="'red' returned"):
        checked_scores(FaultyBackend(fault), [Frames(smooth(2, 8, 8))], 2, embeddings=False, digests=False)


def test_a_record_without_meaning_is_refused() -> None:
    with pytest.raises(ConfigError, match="no label of 'red' has a category"):
        replace(RED, labels={"red": None, "other": None})


def test_labels_can_be_mapped_anew() -> None:
    record = red_model()
    mapped = record.with_labels({"red": "gore"})
    assert mapped.labels == {"red": Label("gore"), "other": None}
    assert record.with_labels(None) is record
    with pytest.raises(UnknownNameError, match="did you mean 'red'"):
        record.with_labels({"Red": "gore"})


def test_options_know_their_types() -> None:
    assert str(Options(device="cpu", dtype="bfloat16").dtype) == "torch.bfloat16"
    assert isinstance(registry.spec("marqo"), ModelSpec)
