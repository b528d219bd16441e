"""NudeNet's boxes: its own package is the reference, and what it found is what is covered."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nsfw_guard.backends import registry
from nsfw_guard.backends.base import Backend
from nsfw_guard.backends.nudenet import nudenet as ours
from nsfw_guard.backends.nudenet import yolo
from nsfw_guard.backends.registry import load_model
from nsfw_guard.backends.spec import Label
from nsfw_guard.errors import (
    ConfigError,
    MissingExtraError,
    PolicyError,
    ScoringError,
    SelfTestError,
    WeightsMissingError,
    WeightsUnfitError,
)
from nsfw_guard.guard import Guard
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.scores import Severity
from nsfw_guard.verdict import Outcome
from tests.images import smooth

reference = pytest.importorskip("nudenet.nudenet", reason="pip install 'nsfw-guard[nudenet]'")
pytest.importorskip("onnxruntime", reason="pip install 'nsfw-guard[nudenet]'")
data = pytest.importorskip("skimage.data", reason="pip install scikit-image: its harmless images are looked at")

WHEEL = Path(reference.__file__).parent / "320n.onnx"
LABELS = list(registry.spec("nudenet").labels)
FACES = {"rules": {"face": {"block": 0.2}}}


@pytest.fixture(scope="module")
def backend():
    return load_model("nudenet")


@pytest.fixture(scope="module")
def detector():
    return reference.NudeDetector()


def image(name: str) -> np.ndarray:
    """A harmless photograph as RGB. "wide", "tall" and "tiny" are made of the astronaut."""
    images = {
        "wide": lambda: np.pad(data.astronaut()[:300], ((0, 0), (200, 90), (0, 0)), mode="reflect"),
        "tall": lambda: data.astronaut()[:, 150:330],
        "tiny": lambda: np.asarray(Image.fromarray(data.astronaut()[40:240, 120:320]).resize((24, 20))),
        "dot": lambda: data.astronaut()[100:101, 200:201],
        "camera": lambda: np.stack([data.camera()] * 3, -1),
    }
    return np.array(images.get(name, getattr(data, name, None))(), order="C")


IMAGES = ("astronaut", "chelsea", "coffee", "rocket", "camera", "wide", "tall", "tiny", "dot")


def tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array).permute(2, 0, 1)[None]


@pytest.mark.parametrize("name", IMAGES)
def test_boxes_are_those_of_nudenets_own_package(backend, detector, name, tmp_path) -> None:
    array = image(name)
    Image.fromarray(array).save(tmp_path / "image.png")
    expected = detector.detect(str(tmp_path / "image.png"))
    shown = yolo.letterbox(tensor(array), 320)
    (numbers,) = backend.numbers(shown)
    boxes = yolo.boxes(numbers, *array.shape[:2], 320)
    assert [LABELS[box.label] for box in boxes] == [theirs["class"] for theirs in expected]
    # The pixels are the same to the bit; threads may add up the network's numbers in another order.
    assert [box.score for box in boxes] == pytest.approx([theirs["score"] for theirs in expected], abs=1e-5)
    for box, theirs in zip(boxes, expected, strict=True):
        place = (box.left, box.top, box.width, box.height)
        assert place == pytest.approx(theirs["box"], abs=1.01)  # theirs are cut off


@pytest.mark.parametrize("side", [320, 640])
@pytest.mark.parametrize("size", [(1, 1), (3, 200), (17, 5), (40, 60), (319, 320), (320, 320), (640, 480), (700, 1013),
                                  (9, 900)])  # fmt: skip
def test_the_network_is_shown_nudenets_own_pixels(size, side) -> None:
    array = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    expected = reference._read_image(np.ascontiguousarray(array[..., ::-1]), side)[0]
    shown = yolo.letterbox(tensor(array), side).flip(1).float().mul_(1 / 255).numpy()
    assert np.array_equal(shown, expected)


def test_boxes_are_picked_as_nudenet_picks_them() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        count, height, width = (int(n) for n in rng.integers(1, (80, 900, 900)))
        numbers = np.zeros((22, 2100), np.float32)
        at = rng.choice(2100, count, replace=False)
        numbers[:2, at], numbers[2:4, at] = rng.uniform(-20, 360, (2, count)), rng.uniform(0, 200, (2, count))
        numbers[4:, at] = rng.uniform(0, 1, (18, count)) ** 3
        pads = max(height, width) - width, max(height, width) - height
        expected = reference._postprocess([numbers[None]], *pads, 1, 1, width, height, 320, 320)
        boxes = [
            {"class": LABELS[b.label], "score": b.score, "box": [int(b.left), int(b.top), int(b.width), int(b.height)]}
            for b in yolo.boxes(numbers, height, width, 320)
        ]
        assert boxes == expected


def test_a_face_is_found_where_it_is(backend) -> None:
    (scores,) = backend.score([Frames(tensor(image("astronaut")))])
    (region,) = scores.regions
    assert region.category == "face"
    assert scores.worst["face"] == {Severity.HIGH: region.score}
    assert region.score == pytest.approx(0.7203, abs=1e-3)
    assert (region.left, region.top, region.right, region.bottom) == pytest.approx(
        (0.338, 0.161, 0.538, 0.353), abs=2e-3
    )
    assert scores.worst["sexual"] == {Severity.LOW: 0.0, Severity.MEDIUM: 0.0, Severity.HIGH: 0.0}
    assert scores.views[0].details["FACE_FEMALE"] == region.score
    assert (scores.views[0].view.kind, scores.embedding, scores.finite) == ("full", None, True)


def test_only_the_face_is_covered_and_all_else_is_left_bit_for_bit(backend) -> None:
    array = image("astronaut")
    pixels = torch.cat([tensor(array), tensor(image("astronaut")[::-1].copy())])
    pixels[1] = 90
    before = pixels.clone()
    safe, verdicts = Guard(backend, policy=FACES, action="pixelate")(pixels)
    assert [v.outcome for v in verdicts] == [Outcome.BLOCK, Outcome.ALLOW]
    assert torch.equal(pixels, before)
    assert torch.equal(safe[1], before[1])
    (region,) = verdicts[0].scores.regions
    top, left, bottom, right = region.pixels(512, 512, margin=0.05)
    outside = torch.ones(512, 512, dtype=torch.bool)
    outside[top:bottom, left:right] = False
    assert torch.equal(safe[0][:, outside], before[0][:, outside])
    assert (safe[0][:, ~outside] != before[0][:, ~outside]).float().mean() > 0.9


def test_regions_of_what_the_policy_does_not_name_are_left(backend) -> None:
    """A box of another category beside the face, and none for what means nothing."""
    numbers = np.zeros((22, 2100), np.float32)
    boxes = ("FACE_MALE", 80, 80), ("BUTTOCKS_COVERED", 240, 80), ("FEET_EXPOSED", 80, 240)
    for place, (label, x, y) in enumerate(boxes):
        numbers[:4, place], numbers[4 + LABELS.index(label), place] = (x, y, 60, 60), 0.9
    fed = fed_with(backend, numbers)
    pixels = (smooth(1, 320, 320) * 255).to(torch.uint8)
    guard = Guard(fed, policy=FACES, action="block")
    safe, (verdict,) = guard(pixels)
    assert {r.category for r in verdict.scores.regions} == {"face", "sexual"}
    assert verdict.flags == ("face",)
    assert torch.equal(safe[..., 150:], pixels[..., 150:])
    assert torch.equal(safe[..., 150:, :], pixels[..., 150:, :])
    assert not safe[..., 60:100, 60:100].any()
    every = {"rules": {"face": {"block": 0.2}, "sexual": {"block": 0.2, "severity": "low"}}}
    safe, _ = Guard(fed, policy=every, action="block")(pixels)
    assert not safe[..., 60:100, 220:260].any()
    assert torch.equal(safe[..., 150:, :], pixels[..., 150:, :])


class Fed:
    """NudeNet's session, answering what it is told to."""

    def __init__(self, runner, answer) -> None:
        self.runner, self.answer, self.sizes = runner, answer, []
        self.name, self.path, self.inputs, self.outputs = runner.name, runner.path, runner.inputs, runner.outputs

    def run(self, values: torch.Tensor) -> list[torch.Tensor]:
        self.sizes.append(len(values))
        return self.answer(values)


def fed_with(backend, answer):
    """A NudeNet whose network answers these numbers to every image, or what a function of its input says."""
    runner = Fed(backend.runner, answer if callable(answer) else
                 lambda values: [torch.from_numpy(answer).expand(len(values), -1, -1).clone()])  # fmt: skip
    fed = object.__new__(ours.NudeNet)
    vars(fed).update({**vars(backend), "runner": runner})
    return fed


def box(label: str, score: float, place: tuple[float, float, float, float]) -> np.ndarray:
    numbers = np.zeros((22, 2100), np.float32)
    numbers[:4, 0], numbers[4 + LABELS.index(label), 0] = place, score
    return numbers


@pytest.mark.parametrize(("label", "levels"), [
    ("FEMALE_GENITALIA_EXPOSED", (0.9, 0.9, 0.9)), ("ANUS_EXPOSED", (0.9, 0.9, 0.9)),
    ("MALE_GENITALIA_EXPOSED", (0.9, 0.9, 0.9)), ("FEMALE_BREAST_EXPOSED", (0.9, 0.9, 0.0)),
    ("BUTTOCKS_EXPOSED", (0.9, 0.9, 0.0)), ("FEMALE_GENITALIA_COVERED", (0.9, 0.0, 0.0)),
    ("BELLY_EXPOSED", (0.0, 0.0, 0.0)), ("FACE_MALE", (0.0, 0.0, 0.0)),
])  # fmt: skip
def test_each_label_of_a_box_has_its_category_and_severity(backend, label, levels) -> None:
    (scores,) = fed_with(backend, box(label, 0.9, (100, 100, 50, 50))).score([Frames(smooth(1, 320, 320))])
    assert tuple(scores.worst["sexual"].values()) == pytest.approx(levels)
    assert scores.worst["face"][Severity.HIGH] == pytest.approx(0.9 if label == "FACE_MALE" else 0.0)
    assert len(scores.regions) == (label != "BELLY_EXPOSED")


def test_boxes_over_the_edge_are_clamped_and_empty_ones_cover_everything(backend) -> None:
    wide = smooth(1, 160, 320)  # its lower half, as the network sees it, is black
    (scores,) = fed_with(backend, box("FACE_MALE", 0.9, (310, 150, 80, 60))).score([Frames(wide)])
    (region,) = scores.regions
    assert (region.left, region.top, region.right, region.bottom) == pytest.approx((270 / 320, 0.75, 1.0, 1.0))
    below = fed_with(backend, box("FACE_MALE", 0.9, (100, 250, 20, 20)))
    (scores,) = below.score([Frames(wide)])
    assert (scores.regions, scores.worst["face"][Severity.HIGH]) == ((), pytest.approx(0.9))
    safe, _ = Guard(below, policy=FACES, action="block")(wide)
    assert not safe.any()


@pytest.mark.parametrize(("row", "odd"), [
    (0, float("nan")), (3, float("inf")), (4, float("nan")), (4, 1.5), (21, float("inf")), (21, -0.1),
])  # fmt: skip
def test_an_answer_that_is_no_probability_is_an_error_of_its_image(backend, row, odd) -> None:

    def answer(values: torch.Tensor) -> list[torch.Tensor]:
        out = torch.zeros(len(values), 22, 2100)
        out[1, row, 1000] = odd
        return [out]

    verdicts = Guard(fed_with(backend, answer), policy=FACES).check(smooth(3, 40, 40))
    assert [v.outcome for v in verdicts] == [Outcome.ALLOW, Outcome.ERROR, Outcome.ALLOW]
    assert "NaN or a value outside" in verdicts[1].reason


@pytest.mark.parametrize("answer", [
    lambda v: [], lambda v: [torch.zeros(len(v), 22, 2099)], lambda v: [torch.zeros(len(v), 21, 2100)],
    lambda v: [torch.zeros(len(v) + 1, 22, 2100)], lambda v: [torch.zeros(22, 2100)],
    lambda v: [torch.zeros(len(v), 22, 2100, dtype=torch.float64)],
])  # fmt: skip
def test_an_answer_of_another_shape_is_a_scoring_error(backend, answer) -> None:
    fed = fed_with(backend, answer)
    with pytest.raises(ScoringError, match="fetch its weights again"):
        fed.score([Frames(smooth(1, 40, 40))])
    assert [v.outcome for v in Guard(fed, policy=FACES).check(smooth(2, 40, 40))] == [Outcome.ERROR] * 2


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 3.0])
def test_a_bad_pixel_is_an_error_and_the_others_are_judged(backend, bad) -> None:
    pixels = smooth(3, 40, 60)
    pixels[1, 2, 3, 4] = bad
    outcomes = [v.outcome for v in Guard(backend, policy=FACES).check(pixels)]
    assert outcomes == [Outcome.ALLOW, Outcome.ERROR, Outcome.ALLOW]


@pytest.mark.parametrize("count", [1, 3, 17])
def test_a_batch_is_its_images_one_by_one(count) -> None:
    backend = load_model("nudenet", batch_size=8)
    face = tensor(image("astronaut")).float() / 255
    pixels = torch.cat([(face * (1 - i / 40)).clamp(0, 1) for i in range(count)])
    together = backend.score([Frames(pixels)], embeddings=True, digests=True)
    assert len(together) == count
    for frame, scores in zip(pixels, together, strict=True):
        (alone,) = backend.score([Frames(frame[None])], embeddings=True, digests=True)
        assert list(scores.numbers()) == pytest.approx(list(alone.numbers()), abs=1e-5)
        assert len(scores.regions) == len(alone.regions) == 1
        assert scores.digest == alone.digest
    assert len({s.digest for s in together}) == count


def test_stacks_of_several_sizes_keep_their_order(backend) -> None:
    stacks = [Frames(tensor(image(name))) for name in ("chelsea", "astronaut", "tiny")]
    scores = backend.score([*stacks, Frames(torch.full((1, 3, 9, 9), 7, dtype=torch.uint8))], digests=True)
    assert [len(s.regions) for s in scores][:2] == [0, 1]
    assert [s.blank for s in scores] == [False, False, False, True]
    assert backend.score([]) == []


def test_out_of_memory_goes_on_with_fewer(backend) -> None:
    def answer(values: torch.Tensor) -> list[torch.Tensor]:
        if len(values) > 2:
            raise MemoryError("alloc")
        return backend.runner.run(values)

    fed, pixels = fed_with(backend, answer), smooth(5, 64, 40)
    expected = [list(s.numbers()) for s in backend.score([Frames(pixels)])]
    assert [list(s.numbers()) for s in fed.score([Frames(pixels)])] == expected
    assert fed.runner.sizes == [5, 2, 2, 1]


def test_a_face_is_judged_only_where_a_policy_names_it(backend) -> None:
    guard = Guard(backend)
    assert set(guard.policy.rules) == {"sexual"}
    assert guard.policy.rules["sexual"].severity is Severity.MEDIUM
    assert guard.check(tensor(image("astronaut")))[0].outcome is Outcome.ALLOW
    for preset in ("strict", "lenient"):
        assert set(Guard(backend, policy=preset).policy.rules) == {"sexual"}
    both = Guard(backend, policy={"rules": {"*": {"block": 0.9}, **FACES["rules"]}})
    assert set(both.policy.rules) == {"sexual", "face"}
    with pytest.raises(PolicyError, match="only the severity high for 'face'"):
        Guard(backend, policy={"rules": {"face": {"block": 0.5, "severity": "low"}}})


def test_labels_are_mapped_by_the_user() -> None:
    backend = load_model("nudenet", labels={"FEET_EXPOSED": "feet", "FACE_MALE": None, "FACE_FEMALE": Label("face")})
    assert set(backend.spec.levels) == {"sexual", "face", "feet"}
    (scores,) = backend.score([Frames(tensor(image("camera")))])
    assert (scores.worst["face"][Severity.HIGH], scores.regions) == (0.0, ())
    assert scores.views[0].details["FACE_MALE"] == pytest.approx(0.5756, abs=1e-3)


def test_the_record_and_the_state_say_what_a_user_must_know(backend) -> None:
    assert isinstance(backend, Backend)
    assert (backend.state()["self_test"], backend.state()["resize"]) == ("passed", "as OpenCV, on a black square")
    assert "320n.onnx c15d8273adad" in backend.state()["runtime"]
    spec = registry.spec("nudenet")
    assert all(word in spec.license for word in ("disputed", "AGPL-3.0", "MIT"))
    assert spec.sha256 == ours.FILES["320n.onnx"].sha256 == backend.spec.sha256
    assert spec.download_bytes == WHEEL.stat().st_size
    assert len(spec.labels) == 18
    assert Guard(backend).check(smooth(1, 9, 9))[0].revision == spec.sha256
    with pytest.raises(ConfigError, match="license is disputed"):
        Guard(backend).save_pretrained("nowhere")


def test_neither_opencv_nor_nudenets_code_is_loaded() -> None:
    code = "import sys; from nsfw_guard import load_model; load_model('nudenet')\n"
    code += "print({'cv2', 'nudenet'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "set()"), done.stderr


@pytest.mark.parametrize("missing", ["nudenet", "onnxruntime"])
def test_without_the_library_the_extra_is_named(monkeypatch, missing) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingExtraError, match=rf"{missing} is not installed.*nsfw-guard\[nudenet\]"):
        load_model("nudenet")


@pytest.mark.parametrize("settings", [{"views": "tiles(2)"}, {"resize": "fast"}, {"dtype": "bfloat16"},
                                      {"runtime": "openvino"}, {"runtime": "torch"}, {"views": "center"}])  # fmt: skip
def test_settings_it_cannot_honour_are_refused(settings) -> None:
    with pytest.raises(ConfigError, match=f"omit {next(iter(settings))}"):
        load_model("nudenet", **settings)
    assert load_model("nudenet", runtime="onnx", device="cpu").state()["device"] == "cpu"


def test_a_missing_device_is_refused() -> None:
    with pytest.raises(ConfigError, match="is not available"):
        load_model("nudenet", device="cuda:99")


# Weights from a file


def test_weights_from_a_file_or_its_folder(tmp_path) -> None:
    shutil.copy(WHEEL, tmp_path)
    for place in (tmp_path, tmp_path / "320n.onnx"):
        assert load_model("nudenet", weights=place).state()["self_test"] == "passed"
    (tmp_path / "320n.onnx").rename(tmp_path / "renamed.onnx")
    assert load_model("nudenet", weights=tmp_path / "renamed.onnx").state()["self_test"] == "passed"


@pytest.mark.parametrize("name", ["320n.onnx", "640m.onnx"])
def test_a_file_with_a_published_name_must_match_its_hash(tmp_path, name) -> None:
    content = bytearray(WHEEL.read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsUnfitError, match=r"does not have the recorded SHA-256"):
        load_model("nudenet", weights=tmp_path / name)


def test_missing_files_and_files_that_are_not_onnx_are_refused(tmp_path) -> None:
    with pytest.raises(WeightsMissingError, match=r"320n\.onnx does not exist"):
        load_model("nudenet", weights=tmp_path)
    with pytest.raises(WeightsUnfitError, match=r"is not an \.onnx file"):
        load_model("nudenet", weights=tmp_path / "weights.pt")


def edited(to: Path, **metadata: str | None) -> Path:
    """NudeNet's file with other metadata."""
    onnx = pytest.importorskip("onnx", reason="pip install onnx: the test makes a file with it")
    model = onnx.load(WHEEL)
    properties = {m.key: m.value for m in model.metadata_props}
    onnx.helper.set_model_props(model, {k: v for k, v in {**properties, **metadata}.items() if v is not None})
    onnx.save(model, to)
    return to


def test_a_custom_file_is_used_at_the_side_it_declares(tmp_path, caplog) -> None:
    backend = load_model("nudenet", weights=edited(tmp_path / "mine.onnx", imgsz="[640, 640]"))
    assert "not one of NudeNet's published files" in caplog.text
    assert (backend.side, backend.places, backend.spec.input.size) == (640, 8400, 640)
    assert backend.state()["self_test"] == "answers unrecorded"
    assert backend.spec.sha256 != registry.spec("nudenet").sha256
    array = image("astronaut")
    detector = reference.NudeDetector(str(tmp_path / "mine.onnx"), inference_resolution=640)
    expected = detector.detect(array[..., ::-1].copy())
    (numbers,) = backend.numbers(yolo.letterbox(tensor(array), 640))
    boxes = yolo.boxes(numbers, 512, 512, 640)
    assert [LABELS[b.label] for b in boxes] == [theirs["class"] for theirs in expected]
    assert [b.score for b in boxes] == pytest.approx([theirs["score"] for theirs in expected], abs=1e-5)


@pytest.mark.parametrize(("metadata", "cure"), [
    ({"imgsz": None}, "have no imgsz"), ({"imgsz": "[320, 640]"}, "export it with a square"),
    ({"imgsz": "[20, 20]"}, "export it with a square"), ({"names": "{0: 'cat'}"}, "other classes than the record"),
    ({"names": "open("}, "unreadable"), ({"imgsz": "many"}, "have no imgsz"),
])  # fmt: skip
def test_a_custom_file_that_does_not_fit_is_refused(tmp_path, metadata, cure) -> None:
    with pytest.raises(WeightsUnfitError, match=cure):
        load_model("nudenet", weights=edited(tmp_path / "mine.onnx", **metadata))


def test_another_network_is_refused(exports, tmp_path) -> None:
    shutil.copy(exports["any"] / "model.onnx", tmp_path / "mine.onnx")
    with pytest.raises(WeightsUnfitError, match="have no imgsz"):
        load_model("nudenet", weights=tmp_path / "mine.onnx")


def test_answers_that_differ_from_the_recorded_ones_are_refused(backend) -> None:
    spec = replace(
        backend.spec, known_answers={**backend.spec.known_answers, "disc": dict.fromkeys(backend.spec.labels, 0.5)}
    )
    with pytest.raises(SelfTestError, match="differ from its record"):
        ours.NudeNet(backend.runner, spec, backend.options)
    shaky = Fed(backend.runner, lambda values: [torch.rand(len(values), 22, 2100)])
    with pytest.raises(SelfTestError, match="use a deterministic model"):
        ours.NudeNet(shaky, replace(spec, known_answers={}), backend.options)
    broken = Fed(backend.runner, lambda values: [torch.full((len(values), 22, 2100), float("nan"))])
    with pytest.raises(SelfTestError, match="are not probabilities"):
        ours.NudeNet(broken, replace(spec, known_answers={}), backend.options)
