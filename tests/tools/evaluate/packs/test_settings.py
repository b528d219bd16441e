"""A model under other settings: what differs, what does not run here, and what must not be."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from nsfw_guard.errors import ConfigError
from nsfw_guard.guard import Guard
from nsfw_guard.scores import Scores
from nsfw_guard.testing import FakeBackend, FaultyBackend
from nsfw_guard.tools.evaluate.highest import highest_scores
from nsfw_guard.tools.evaluate.packs.settings import Setting, joined, pack_of, settings_of
from tests.tools.evaluate.labelled.painting import painted

HERE = [Setting(), Setting("bfloat16")]


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    return [str(path) for path in sorted(painted(tmp_path).rglob("*.png"))]


def load_with(lower: float) -> Any:
    """Guards whose scores are lower by that much under all settings but the reference."""

    def load(setting: Setting) -> Guard:
        backend = FakeBackend()
        less = 0.0 if setting == HERE[0] else lower
        backend.rule = lambda frame: max(0.0, FakeBackend().rule(frame) - less)
        return Guard(backend)

    return load


def test_a_setting_that_allows_what_is_blocked_breaks_parity(paths: list[str]) -> None:
    fine = pack_of("red", load_with(0.01), paths, settings=HERE)
    assert not fine.broken
    (row,) = fine.content
    assert (row["setting"], row["reference"]) == ("torch bfloat16 on cpu", "torch float32 on cpu")
    assert row["largest_difference"] == pytest.approx(0.01)
    assert fine.rows[0][:4] == ("red", "torch bfloat16 on cpu", "9", "0.01")
    low = pack_of("red", load_with(0.4), paths, settings=HERE)
    assert low.broken
    # By "default" 0.6 is blocked, and 0.2 passes; by "strict" 0.4 and 0.3 are, too.
    assert low.content[0]["flips"]["default"]["block_to_allow"] == [1]
    assert "bfloat16 on cpu allows 3 images that are blocked: " in low.notes[0]
    assert joined([fine, low]).broken
    assert len(joined([fine, low]).rows) == 2


def test_a_setting_that_does_not_run_is_named(paths: list[str]) -> None:
    def load(setting: Setting) -> Guard:
        if setting.dtype != "float32":
            raise ConfigError("no such dtype: omit it")
        return Guard(FakeBackend())

    pack = pack_of("red", load, paths, settings=HERE)
    assert pack.rows == ()
    assert pack.content[0]["fault"] == "no such dtype: omit it"
    assert pack.notes == ("red: torch bfloat16 on cpu does not run here: no such dtype: omit it",)
    with pytest.raises(ConfigError, match="no such dtype"):
        pack_of("red", load, paths, settings=HERE[::-1])


def test_a_setting_that_judges_nothing_releases_nothing(paths: list[str]) -> None:
    pack = pack_of(
        "red", lambda s: Guard(FakeBackend() if s == HERE[0] else FaultyBackend("nan")), paths, settings=HERE
    )
    assert not pack.broken
    assert len(pack.content[0]["flips"]["default"]["changed"]) == 9


def test_a_real_model_in_its_dtypes(tiny: Path, paths: list[str]) -> None:
    labels = {"NSFW": "sexual", "SFW": None}
    load = partial(_guard, tiny, labels)
    pack = pack_of("tiny", load, paths, settings=settings_of(str(tiny)))
    dtypes = {row["setting"]: row["largest_difference"] for row in pack.content if "fault" not in row}
    assert 0 < dtypes["torch bfloat16 on cpu"] < 0.06
    assert len(pack.content) == (2 if not torch.cuda.is_available() else 5)


def _guard(folder: Path, labels: Any, setting: Setting) -> Guard:
    return Guard.from_pretrained(folder, labels=labels, **vars(setting))


def test_an_exported_network_is_compared_with_torch(tiny: Path, paths: list[str], tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    from tests.backends.conftest import Both, export
    from tests.backends.folders import torch_model

    folder = Path(shutil.copytree(tiny, tmp_path / "both"))
    export(Both(torch_model(tiny), embeds=True), folder, dynamic=True, external_data=False)
    assert [setting.name for setting in settings_of(str(folder))[-2:]] == [
        "onnx float32 on cpu", "openvino float32 on cpu",
    ]  # fmt: skip
    labels = {"NSFW": "sexual", "SFW": None}
    settings = [Setting(), Setting(runtime="onnx")]
    pack = pack_of(str(folder), partial(_guard, folder, labels), paths, settings=settings)
    assert pack.content[0]["largest_difference"] < 1e-5
    assert not pack.broken
    (folder / "model.safetensors").unlink()
    assert [setting.runtime for setting in settings_of(str(folder))] == ["onnx", "openvino"]


def test_the_highest_score_is_that_of_any_frame_and_a_nan_is_kept(paths: list[str], tmp_path: Path) -> None:
    class Nan(FakeBackend):
        def score(self, stacks: Any, **wants: bool) -> list[Scores]:
            return FaultyBackend("nan").score(stacks)

    assert highest_scores(Guard(FakeBackend()), paths)[0]["red"] == pytest.approx(0.95)
    assert str(highest_scores(Guard(Nan()), paths)[0]["red"]) == "nan"
    assert highest_scores(Guard(FakeBackend()), []) == []
    (tmp_path / "broken.png").write_bytes(b"no image")
    assert str(highest_scores(Guard(FakeBackend()), [str(tmp_path / "broken.png")])[0]["red"]) == "nan"
