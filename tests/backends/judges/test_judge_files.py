"""The files of a judge: records, shards, processors, and where they are fetched from."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace

import pytest
import torch

from nsfw_guard import Guard, load_model
from nsfw_guard.backends import registry
from nsfw_guard.backends.base import Options
from nsfw_guard.backends.build import judge
from nsfw_guard.backends.files import weights
from nsfw_guard.backends.judges.judge import Judge, load_files
from nsfw_guard.backends.judges.prompts import FAMILIES, hash_of
from nsfw_guard.backends.selftest import canaries
from nsfw_guard.errors import (
    ConfigError,
    MissingExtraError,
    SelfTestError,
    UnknownNameError,
    WeightsMissingError,
    WeightsUnfitError,
)
from tests.backends import tiny_judges
from tests.backends.folders import edit_weights
from tests.backends.tiny_judges import NAMES, QUESTIONS, RECORDS, numbers
from tests.images import smooth

transformers = pytest.importorskip("transformers")


@pytest.mark.parametrize("name", NAMES)
def test_a_record_takes_the_folder_where_its_files_are(name, folders) -> None:
    model = load_model(RECORDS[name], weights=folders[name], dtype="float32")
    state = model.state()
    assert state["self_test"] == "answers unrecorded"
    assert state["views"] == "full"
    assert state["device"] == "follows the image"
    assert state["answered"].endswith("questions of the self-test")
    for policy in ("default", "strict", "lenient"):
        assert Guard(model, policy=policy).policy.rules


def test_known_answers_are_held_against_the_model(folders) -> None:
    plain = load_model("qwen3-vl-2b", weights=folders["qwen3_vl"])
    answers = plain._answers()
    assert list(answers) == list(canaries())
    spec = registry.spec("qwen3-vl-2b")
    spec = replace(
        spec, known_answers={name: dict(zip(spec.labels, row, strict=True)) for name, row in answers.items()}
    )
    assert load_files(spec, folders["qwen3_vl"], Options()).state()["self_test"] == "passed"
    wrong = replace(spec, known_answers=dict.fromkeys(answers, dict.fromkeys(spec.labels, 0.9)))
    with pytest.raises(SelfTestError, match="differ from its record"):
        load_files(wrong, folders["qwen3_vl"], Options())
    left_out = spec.with_labels({"hate": None})
    assert load_files(left_out, folders["qwen3_vl"], Options()).state()["self_test"] == "passed"


@pytest.mark.parametrize("name", [spec for spec in registry.list_models() if registry.spec(spec).kind == "judge"])
def test_without_weights_and_network_one_line_names_the_cure(name) -> None:
    spec = registry.spec(name)
    with pytest.raises(WeightsMissingError, match=f"nsfw-guard fetch {name}") as raised:
        judge(name, questions=QUESTIONS)
    assert "\n" not in str(raised.value)
    assert ("accept their terms" in str(raised.value)) == spec.gated
    assert spec.gated == (name in {"shieldgemma2", "llama-guard-4"})
    assert ("no commit is recorded" in str(raised.value)) == (spec.revision == "")
    assert set(spec.questions) == set(spec.labels)
    assert spec.pip_extra == "diffusers"


@pytest.mark.parametrize("name", NAMES)
def test_shards_are_one_model(name, folders, judges, copy_of, tmp_path) -> None:
    folder = copy_of(name)
    (folder / "model.safetensors").unlink()
    getattr(transformers, FAMILIES[name].model).from_pretrained(folders[name]).save_pretrained(
        folder, max_shard_size="60KB"
    )
    shards = weights.shards_of(folder / weights.INDEX)
    assert len(shards) > 1
    assert not (folder / "model.safetensors").exists()
    assert weights.weight_files(folder) == tuple(folder / shard for shard in shards)
    pixels = smooth(1, 40, 56)
    assert torch.equal(numbers(judge(folder, questions=QUESTIONS), pixels), numbers(judges[name], pixels))
    with pytest.raises(WeightsUnfitError, match=r"is of a single model\.safetensors"):
        weights.weight_files(folder, "0" * 64)
    (folder / shards[1]).unlink()
    with pytest.raises(WeightsMissingError, match=shards[1]):
        judge(folder, questions=QUESTIONS)


@pytest.mark.parametrize("named", ["../evil.safetensors", "model.bin", "", 3])
def test_an_index_names_safetensors_beside_it_and_nothing_else(named, copy_of) -> None:
    folder = copy_of("qwen3_vl")
    (folder / "model.safetensors").unlink()
    (folder / weights.INDEX).write_text(json.dumps({"weight_map": {"a": named}}))
    with pytest.raises(WeightsUnfitError, match="fetch it again"):
        judge(folder)
    (folder / weights.INDEX).write_text("{}")
    with pytest.raises(WeightsUnfitError, match="is unreadable"):
        judge(folder)


def test_a_pickle_is_refused_and_so_is_nothing_at_all(copy_of) -> None:
    folder = copy_of("llava_onevision")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(WeightsUnfitError, match=r"has pytorch_model.bin but no .* convert it to safetensors"):
        judge(folder)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(WeightsMissingError, match="pass a folder with weights"):
        judge(folder)


def test_weights_that_do_not_fit_are_refused(copy_of) -> None:
    folder = copy_of("qwen3_vl")
    edit_weights(folder, lambda tensors: tensors.pop("lm_head.weight"))
    with pytest.raises(WeightsUnfitError, match=r"missing lm_head\.weight"):
        judge(folder)


def test_the_answers_must_be_tokens(tmp_path) -> None:
    folder = tiny_judges.write(tmp_path / "mute", "qwen3_vl", without=["Yes", "No"])
    with pytest.raises(WeightsUnfitError, match=r"the answer 'Yes' is [2-9] tokens .* instead of one"):
        judge(folder, questions=QUESTIONS)


def test_shieldgemmas_answers_are_those_of_its_configuration(copy_of) -> None:
    folder = copy_of("shieldgemma2")
    config = json.loads((folder / "config.json").read_text())
    config["yes_token_index"], config["no_token_index"] = config["no_token_index"], config["yes_token_index"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsUnfitError, match="fetch model and tokenizer again"):
        judge(folder)


def test_a_processor_that_is_not_whole_is_refused(copy_of) -> None:
    folder = copy_of("qwen3_vl")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(WeightsUnfitError, match=r"chat template: fetch .*chat_template\.jinja"):
        judge(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(WeightsMissingError, match=r"has no tokenizer\.json"):
        judge(folder)


def test_a_missing_library_is_named(folders, monkeypatch) -> None:
    strange = replace(FAMILIES["qwen3_vl"], model="ThirdForConditionalGeneration")
    monkeypatch.setitem(FAMILIES, "qwen3_vl", strange)
    with pytest.raises(ConfigError, match=r"the installed transformers has no .*: run `pip install"):
        judge(folders["qwen3_vl"])
    broken = replace(strange, model="Qwen3VLForConditionalGeneration", broken_in=(transformers.__version__,))
    monkeypatch.setitem(FAMILIES, "qwen3_vl", broken)
    with pytest.raises(
        ConfigError, match=f"cannot run Qwen3VL.* run `pip install 'transformers!={transformers.__version__}'`"
    ):
        judge(folders["qwen3_vl"])
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'nsfw-guard\[diffusers\]'"):
        judge(folders["qwen3_vl"])


def test_labels_and_questions_belong_together(folders) -> None:
    spec = replace(registry.spec("qwen3-vl-2b"), questions=QUESTIONS)
    with pytest.raises(ConfigError, match="labels and questions of 'qwen3-vl-2b' differ"):
        load_files(spec, folders["qwen3_vl"], Options())


def test_a_model_that_is_not_a_judge_takes_no_questions(tiny, folders, copy_of) -> None:
    with pytest.raises(ConfigError, match="'marqo' takes no questions: choose one of llama-guard-4"):
        judge("marqo", questions=QUESTIONS)
    with pytest.raises(ConfigError, match="takes no questions"):
        judge(tiny, questions=QUESTIONS)
    with pytest.raises(UnknownNameError, match="unknown model or folder"):
        judge("qwen3-vl-3b")
    folder = copy_of("qwen3_vl")
    (folder / "config.json").write_text('{"model_type": "mllama"}')
    with pytest.raises(UnknownNameError, match="unknown family of judges 'mllama'"):
        load_model("qwen3-vl-2b", weights=folder)
    with pytest.raises(WeightsUnfitError, match=r"contains a llava_onevision, but .* is a qwen3_vl"):
        load_model("qwen3-vl-2b", weights=folders["llava_onevision"])


# The hub


@pytest.fixture
def hub(copy_of, tmp_path, monkeypatch):
    """A hub that is a folder: hands out what it has, in the layout of the real cache."""
    import huggingface_hub
    from huggingface_hub.utils import EntryNotFoundError

    spec = registry.spec("qwen3-vl-2b")
    cache, source = tmp_path / "cache", copy_of("qwen3_vl")
    getattr(transformers, FAMILIES["qwen3_vl"].model).from_pretrained(source).save_pretrained(
        source, max_shard_size="100KB"
    )
    (source / "model.safetensors").unlink()
    at = cache / f"models--{spec.repo.replace('/', '--')}" / "snapshots" / spec.revision
    asked: list[str] = []

    def download(repo: str, name: str, revision: str | None) -> str:
        assert (repo, revision) == (spec.repo, spec.revision)
        asked.append(name)
        if not (source / name).is_file():
            raise EntryNotFoundError(f"404: no {name}")
        at.mkdir(parents=True, exist_ok=True)
        return str(shutil.copy(source / name, at / name))

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return spec, at, asked, source


def test_shards_are_fetched_by_their_index_and_weights_come_last(hub) -> None:
    spec, at, asked, source = hub
    assert weights.cached(spec) is None
    assert weights.fetch(spec) == at
    shards = weights.shards_of(source / weights.INDEX)
    assert asked[: len(spec.files) - 1] == list(spec.files[:-1])
    assert asked[len(spec.files) - 1 : -len(shards) - 2] == list(spec.optional_files)
    assert asked[-len(shards) - 2 :] == ["model.safetensors", weights.INDEX, *shards]
    assert weights.cached(spec) == at
    assert judge("qwen3-vl-2b", questions=QUESTIONS).state()["questions"] == hash_of(QUESTIONS)
    (at / shards[0]).unlink()
    assert weights.cached(spec) is None


def test_fetched_weights_are_found_where_a_host_moved_the_cache(hub, tmp_path, monkeypatch) -> None:
    spec, at, *_ = hub
    assert weights.fetch(spec) == at
    home = tmp_path / "home"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "of the host"))
    monkeypatch.setattr("huggingface_hub.constants.default_home", str(home))
    with pytest.raises(WeightsMissingError, match="downloads are turned off"):
        weights.fetch(spec, local_files_only=True)
    shutil.copytree(tmp_path / "cache", home / "huggingface" / "hub")
    fetched = home / "huggingface" / "hub" / at.relative_to(tmp_path / "cache")
    assert weights.fetch(spec, local_files_only=True) == weights.cached(spec) == fetched


def test_a_model_without_a_pinned_commit_says_which_one_it_is(folders, tmp_path, monkeypatch) -> None:
    spec, commit = registry.spec("llavaguard-0.5b"), "1234567890" * 4
    home = tmp_path / f"models--{spec.repo.replace('/', '--')}"
    shutil.copytree(folders["llava_onevision"], home / "snapshots" / commit)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert judge("llavaguard-0.5b", questions=QUESTIONS).spec.revision == commit
    assert load_model("llavaguard-0.5b").spec.revision == commit


def test_any_repository_with_a_judge_is_loaded_by_its_commit(hub) -> None:
    spec, _, asked, _ = hub
    model = load_model(f"hf:{spec.repo}@{spec.revision}")
    assert isinstance(model, Judge)
    assert (model.spec.repo, model.spec.revision) == (spec.repo, spec.revision)
    assert "chat_template.jinja" in asked


def test_a_missing_file_is_not_reported_as_a_network_failure(hub, monkeypatch) -> None:
    from huggingface_hub.utils import LocalEntryNotFoundError

    spec, _, asked, _ = hub
    whole = weights._download

    def down(spec, name, progress):
        if name == "chat_template.jinja":
            try:
                raise LocalEntryNotFoundError("the network is down")
            except LocalEntryNotFoundError as error:
                raise WeightsMissingError("down") from error
        return whole(spec, name, progress)

    monkeypatch.setattr(weights, "_download", down)
    with pytest.raises(WeightsMissingError, match="down"):
        weights.fetch(spec)
    assert "model.safetensors" not in asked
