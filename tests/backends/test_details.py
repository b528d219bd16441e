"""The probability of a class that a record keeps as a detail: in every view, from any source, in every report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nsfw_guard import load_model, register_model, unregister_model
from nsfw_guard.backends import loaders, registry
from nsfw_guard.backends.base import Options
from nsfw_guard.backends.catalog.packages import NSFWJS_MODELS
from nsfw_guard.backends.judges import judge
from nsfw_guard.backends.nets.network import Net, NetBackend
from nsfw_guard.backends.nudenet import nudenet
from nsfw_guard.backends.spec import Label, ModelSpec
from nsfw_guard.backends.wrappers.cached import Cached
from nsfw_guard.backends.wrappers.calibrated import Calibrated
from nsfw_guard.backends.wrappers.cascade import Cascade
from nsfw_guard.backends.wrappers.ensemble import Ensemble
from nsfw_guard.backends.wrappers.time_limited import TimeLimited
from nsfw_guard.calibration import Calibration
from nsfw_guard.cli.main import main
from nsfw_guard.errors import ConfigError, UnknownNameError, WeightsUnfitError
from nsfw_guard.guard import Guard
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.imaging.views import InputSpec
from nsfw_guard.listeners.audit import Audit
from nsfw_guard.scores import Severity
from nsfw_guard.tools.catalogue import facts
from nsfw_guard.verdict import Outcome
from tests.backends.make_models import make
from tests.images import smooth

# Two classes that a softmax shares: the detail is what the category leaves.
DETAILS = {"safe": "SFW"}
WIDE = Frames(smooth(2, 40, 120))  # three views


class Levels(Net):
    """A network of a few numbers: the mean of each channel, of which the first is also a further number."""

    width = 3
    extra_score_names = ("red", "safe")

    def __init__(self, times: float = 1.0) -> None:
        super().__init__()
        self.times = torch.nn.Parameter(torch.tensor(times))

    def forward_with_embedding(self, values: Tensor) -> tuple[Tensor, Tensor]:
        means = values.mean((2, 3))
        return means * self.times, means

    def forward(self, values: Tensor) -> Tensor:
        return self.forward_with_embedding(values)[0]

    def extra_scores(self, numbers: Tensor) -> Tensor:
        return numbers[:, :2].float()


LEVELS = ModelSpec(
    name="levels", kind="levels", labels={"a": Label("red"), "b": None, "c": None}, details={"plain": "b"},
    input=InputSpec(size=8, mean=(0.0,) * 3, std=(1.0,) * 3),
)  # fmt: skip


@pytest.fixture
def detailed(tiny, tmp_path) -> Path:
    """The tiny model, with a detail in its record."""
    backend = load_model(tiny)
    backend.spec = replace(backend.spec, details=DETAILS)
    backend.save_pretrained(tmp_path / "detailed")
    return tmp_path / "detailed"


def edited(folder: Path, details: object) -> Path:
    record = json.loads((folder / "nsfw_guard.json").read_text())
    (folder / "nsfw_guard.json").write_text(json.dumps({**record, "details": details}))
    return folder


def complements(scores) -> list[float]:
    """Of each view one less the score of its only category."""
    return [1 - view.levels["sexual"][Severity.HIGH] for view in scores.views]


@pytest.mark.parametrize(
    ("details", "error", "message"),
    [
        ({"safe": "SFW "}, UnknownNameError, "unknown label 'SFW ': did you mean 'SFW'"),
        ({"safe": "other"}, UnknownNameError, "unknown label 'other': choose from NSFW, SFW"),
        ({"safe": ""}, UnknownNameError, "unknown label ''"),
        ({"safe": "SFW", "harmless": "SFW"}, ConfigError, "details of 'tiny' must give each label one name"),
        ({"": "SFW"}, ConfigError, "one name of 1 to 255 letters"),
        ({"x" * 256: "SFW"}, ConfigError, "one name of 1 to 255 letters"),
        ({"two\nlines": "SFW"}, ConfigError, "letters that can be printed"),
        ({"\x1b[31m": "SFW"}, ConfigError, "letters that can be printed"),
        ({"\udcff": "SFW"}, ConfigError, "letters that can be printed"),
    ],
)
def test_details_that_are_no_labels_are_refused(tiny, detailed, details, error, message) -> None:
    spec = replace(load_model(tiny).spec, name="tiny")
    with pytest.raises(error, match=message):
        replace(spec, details=details)
    with pytest.raises(error, match=message.replace("tiny", "tiny|detailed")):
        load_model(edited(detailed, details))


@pytest.mark.parametrize("details", [3, ["SFW"], "SFW", {"safe": 3}, {"safe": None}, {"safe": ["SFW"]}, None])
def test_a_record_with_strange_details_is_refused(detailed, details) -> None:
    with pytest.raises(WeightsUnfitError, match=r"nsfw_guard\.json|the record of 'detailed' is unreadable"):
        load_model(edited(detailed, details))


def test_every_view_has_the_probability_of_the_class(detailed) -> None:
    backend = load_model(detailed, views="tiles(2)")
    for scores in backend.score([WIDE]):
        assert len(scores.views) > 3
        assert [dict(view.details) for view in scores.views] == [
            {"safe": pytest.approx(p, abs=1e-6)} for p in complements(scores)
        ]
    values = [view.details["safe"] for scores in backend.score([WIDE]) for view in scores.views]
    assert max(values) - min(values) > 1e-4, "the views must be told apart"


def test_a_record_without_details_has_none(tiny) -> None:
    assert all(dict(view.details) == {} for scores in load_model(tiny).score([WIDE]) for view in scores.views)


def test_details_stand_beside_the_further_numbers_of_a_network() -> None:
    backend = NetBackend(Levels(), LEVELS, Options())
    (scores,) = backend.score(
        [Frames(torch.tensor([51, 102, 204], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 8, 8))]
    )
    shares = torch.tensor([0.2, 0.4, 0.8]).softmax(0).tolist()
    assert dict(scores.views[0].details) == pytest.approx({"red": 0.2, "safe": 0.4, "plain": shares[1]}, abs=1e-6)
    assert scores.views[0].levels["red"][Severity.HIGH] == pytest.approx(shares[0], abs=1e-6)


def test_a_number_of_the_network_keeps_its_name() -> None:
    with pytest.raises(ConfigError, match="'levels' has a number called 'safe' already: choose another name"):
        NetBackend(Levels(), replace(LEVELS, details={"safe": "b"}), Options())


def test_a_probability_that_is_none_is_not_hidden() -> None:
    backend = NetBackend(Levels(), LEVELS, Options())
    backend._nets[backend.home].times.fill_(float("nan"))
    (verdict,) = Guard(backend, policy={"rules": {"red": {"block": 0.5}}}).check(smooth(1, 8, 8))
    assert verdict.outcome is Outcome.ERROR
    assert verdict.to_dict()["scores"][0]["details"]["plain"] == "nan"


def test_a_saved_folder_keeps_them(detailed, tmp_path) -> None:
    assert json.loads((detailed / "nsfw_guard.json").read_text())["details"] == DETAILS
    first = load_model(detailed)
    assert first.spec.details == DETAILS
    first.save_pretrained(tmp_path / "again")
    again = load_model(tmp_path / "again")
    assert again.spec.details == DETAILS
    assert again.score([WIDE]) == first.score([WIDE])
    Guard(first).save_pretrained(tmp_path / "guard")
    (verdict, _) = Guard.from_pretrained(tmp_path / "guard").check(WIDE.pixels)
    assert [dict(view.details) for view in verdict.scores.views] == [
        dict(view.details) for view in first.score([WIDE])[0].views
    ]


def test_a_folder_without_details_has_none_in_its_record(tiny, tmp_path) -> None:
    load_model(tiny).save_pretrained(tmp_path / "plain")
    assert "details" not in json.loads((tmp_path / "plain" / "nsfw_guard.json").read_text())


def test_an_exported_network_has_the_same(exports, detailed, tmp_path) -> None:
    pytest.importorskip("onnxruntime", reason="pip install 'nsfw-guard[onnx]'")
    spec = replace(load_model(exports["any"]).spec, details=DETAILS)
    backend = loaders.load_files(spec, exports["any"], Options(runtime="onnx"))
    expected = load_model(detailed).score([WIDE])
    for scores, other in zip(backend.score([WIDE]), expected, strict=True):
        assert [view.details["safe"] for view in scores.views] == pytest.approx(
            [view.details["safe"] for view in other.views], abs=1e-5
        )
    backend.save_pretrained(tmp_path / "saved")
    assert load_model(tmp_path / "saved").spec.details == DETAILS


def test_a_class_that_the_caller_maps_is_still_a_detail(detailed) -> None:
    backend = load_model(detailed, labels={"SFW": "art"})
    (view,) = backend.score([Frames(smooth(1, 32, 32))])[0].views
    assert view.details["safe"] == pytest.approx(view.levels["art"][Severity.HIGH], abs=1e-7)


def test_a_calibration_moves_scores_and_keeps_details(detailed) -> None:
    backend = load_model(detailed)
    moved = Calibrated(backend, Calibration(model=backend.spec.name, maps={"sexual": (1.0, 3.0)}))
    assert moved.spec.details == DETAILS
    for scores, plain in zip(moved.score([WIDE]), backend.score([WIDE]), strict=True):
        assert [view.details for view in scores.views] == [view.details for view in plain.views]
        assert all(p < q["safe"] for p, q in zip(complements(scores), (v.details for v in plain.views), strict=True))


def test_a_cache_and_a_limit_of_time_hand_them_on(detailed) -> None:
    backend = load_model(detailed)
    cached = Cached(TimeLimited(backend, 60))
    expected = [[view.details for view in scores.views] for scores in backend.score([WIDE])]
    for _ in range(2):
        assert [[view.details for view in scores.views] for scores in cached.score([WIDE])] == expected
    assert cached.hits == 2


def test_several_models_say_their_scores_alone(detailed, tiny) -> None:
    backend, other = load_model(detailed), load_model(tiny)
    other.spec = replace(other.spec, name="other")
    names = {"detailed: sexual", "other: sexual"}
    backend.spec = replace(backend.spec, name="detailed")
    for joint in (Ensemble([backend, other]), Cascade(backend, other, band=(0.0, 1.0))):
        assert all(set(scores.views[0].details) == names for scores in joint.score([WIDE]))


def test_the_command_and_the_log_show_them(detailed, tmp_path, capsys) -> None:
    from PIL import Image

    Image.new("RGB", (120, 40), (200, 30, 60)).save(tmp_path / "image.png")
    main(["check", str(tmp_path / "image.png"), "--model", str(detailed), "--json", "--audit", str(tmp_path / "log")])
    shown = json.loads(capsys.readouterr().out)["scores"]
    assert len(shown) == 3
    for view in shown:
        assert view["details"] == {"safe": pytest.approx(1 - view["levels"]["sexual"]["high"], abs=1e-6)}
    assert json.loads((tmp_path / "log").read_text())["scores"] == shown
    guard = Guard(load_model(detailed))
    Audit(tmp_path / "second")(guard.check(Image.open(tmp_path / "image.png")))
    assert json.loads((tmp_path / "second").read_text())["scores"] == shown


def test_a_judge_and_boxes_refuse_them(tmp_path) -> None:
    boxes = registry.spec("nudenet")
    with pytest.raises(ConfigError, match="'nudenet' keeps every label as a detail already: leave details out"):
        nudenet.load_files(replace(boxes, details={"face": "FACE_MALE"}), tmp_path, Options())
    asked = registry.spec("qwen3-vl-2b")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_text(json.dumps({"model_type": asked.architecture}))
    spec = replace(asked, details={"one": next(iter(asked.labels))})
    with pytest.raises(ConfigError, match="'qwen3-vl-2b' is a judge, which has no details: leave details out"):
        judge.load_files(spec, tmp_path, Options())


@pytest.mark.parametrize("record", NSFWJS_MODELS, ids=lambda spec: spec.name)
def test_nsfwjs_keeps_how_much_is_a_drawing(record, tmp_path) -> None:
    assert record.details == {"drawing": "Drawing"}
    spec = make(record, tmp_path / "folder")
    backend = loaders.load_files(spec, tmp_path / "folder", Options(views="tiles(2)"))
    (scores,) = backend.score([Frames(smooth(1, 60, 130))])
    with torch.inference_mode():
        pixels = backend.preprocess.prepare(Frames(smooth(1, 60, 130))).pixels[0]
        rows = backend.to_probabilities(backend.forward_with_embedding(pixels)[0])
    assert len(scores.views) > 1
    assert [dict(view.details) for view in scores.views] == [
        {"drawing": pytest.approx(p, abs=1e-6)} for p in rows[:, 0].tolist()
    ]
    assert "Drawing = harmless (detail `drawing`), Hentai = sexual:high" in facts(record)["labels"]


def test_a_registered_model_has_them_too(detailed) -> None:
    spec = replace(load_model(detailed).spec, name="mine")
    register_model(spec, lambda spec, options: loaders.load_files(spec, detailed, options))
    try:
        assert set(load_model("mine").score([WIDE])[0].views[0].details) == {"safe"}
    finally:
        unregister_model("mine")
