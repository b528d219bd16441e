"""Prompts decide what is drawn, the guard decides what leaves, and the pixels say whether both were right."""

from __future__ import annotations

import json
import re
import sys

import numpy as np
import pytest
import torch

from nsfw_guard.backends.registry import register_model, unregister_model
from nsfw_guard.cli.main import main
from nsfw_guard.demo import sheet
from nsfw_guard.demo.pixels import find, matches
from nsfw_guard.demo.run import NOTICE, PROMPTS, demonstrate, generate, image, load_pipeline
from nsfw_guard.demo.shapes import parse, random_scene, severity
from nsfw_guard.errors import MissingExtraError
from nsfw_guard.guard import Guard
from nsfw_guard.testing import FakeBackend, red_model
from nsfw_guard.verdict import Outcome

pytest.importorskip("diffusers")


@pytest.fixture(scope="module")
def pipe():
    return load_pipeline()


@pytest.fixture(scope="module")
def shown():
    return list(demonstrate())


def test_every_prompt_is_drawn_and_judged_as_its_words_say(shown) -> None:
    assert [s.prompt for s in shown] == list(PROMPTS)
    for one in shown:
        assert matches(one.drawn, parse(one.prompt)), one.prompt
        assert (one.verdict.outcome is Outcome.BLOCK) == (severity(parse(one.prompt)) > 0), one.prompt
        assert one.verdict.outcome in {Outcome.ALLOW, Outcome.BLOCK}


def test_what_is_released_is_the_drawing_itself_or_nothing_of_it(shown) -> None:
    for one in shown:
        drawn, released = np.asarray(one.drawn), np.asarray(one.released)
        assert np.array_equal(drawn, released) == (one.verdict.outcome is Outcome.ALLOW)
        assert not any(f.kind == "disc" and f.colour == "red" for f in find(one.released)), one.prompt


def test_the_model_agrees_with_the_pixels_on_what_the_pipeline_draws(pipe) -> None:
    random = np.random.default_rng(11)
    prompts = [random_scene(random).caption for _ in range(24)] + [
        "a red disc on grey",
        "a small red disc on sky, top",
    ] * 4
    guard = Guard.from_pretrained("demo-shapes")
    right = 0
    for start in range(0, len(prompts), 8):
        frames = generate(pipe, prompts[start : start + 8], seed=start)
        for frame, verdict in zip(frames, guard.check(frames), strict=True):
            red = any(f.kind == "disc" and f.colour == "red" for f in find(image(frame)))
            right += red == (verdict.outcome is Outcome.BLOCK)
    assert right >= len(prompts) - 1


def test_a_seed_gives_the_same_images(pipe) -> None:
    one, same, other = (generate(pipe, ["a red ring on white"], seed=seed) for seed in (3, 3, 4))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_the_graded_model_grades(pipe) -> None:
    guard = Guard.from_pretrained("demo-shapes-graded")
    frames = generate(pipe, [f"a {size} red disc on white" for size in ("small", "medium", "large")], seed=1)
    grades = []
    for verdict in guard.check(frames):
        levels = verdict.scores.views[0].levels["red-disc"]
        grades.append([level.name for level, p in levels.items() if p >= 0.5])
    assert grades == [["LOW"], ["LOW", "MEDIUM"], ["LOW", "MEDIUM", "HIGH"]]


def test_without_diffusers_the_cure_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'nsfw-guard\[diffusers\]'"):
        load_pipeline()


def test_the_sheet_needs_nothing_but_itself(shown, tmp_path) -> None:
    png, page = sheet.write(shown[:4], tmp_path / "sheet")
    text = page.read_text()
    assert png.read_bytes().startswith(b"\x89PNG")
    assert not re.search(r"(src|href)=\"(?!data:)", text)
    assert text.count("data:image/png;base64,") == 8
    assert text.count("BLOCK") == 2
    assert NOTICE.replace("'", "&#x27;") in text


def test_prompts_cannot_write_into_the_page(shown) -> None:
    from dataclasses import replace

    evil = replace(shown[0], prompt="<script>alert(1)</script>")
    assert "<script>" not in sheet.to_html([evil])


def test_the_command_prints_a_line_an_image_and_writes_the_sheet(tmp_path, capsys) -> None:
    code = main(["demo", "a red disc on white", "a blue ring on black", "--out", str(tmp_path), "--action", "pixelate"])
    out, err = capsys.readouterr()

    assert code == 0
    assert err.startswith(NOTICE)
    rows = [re.split(r" {2,}", line) for line in out.splitlines()]
    assert [(r[0], r[2:]) for r in rows[1:]] == [
        ("a red disc on white", ["BLOCK", "pixelate"]),
        ("a blue ring on black", ["ALLOW", "-"]),
    ]
    assert (tmp_path / "sheet.png").exists()
    assert (tmp_path / "sheet.html").exists()


def test_another_model_may_judge_and_the_sheet_says_which(tmp_path, capsys) -> None:
    register_model(red_model("another"), lambda spec, options: FakeBackend(float("nan")))
    try:
        code = main(["demo", "a red disc on white", "--out", str(tmp_path), "--model", "another"])
    finally:
        unregister_model("another")
    out, err = capsys.readouterr()
    assert code == 0
    assert err.startswith("A demonstration: images of shapes, judged by 'another'")
    assert "red disc is unsafe" not in err
    assert "judged by &#x27;another&#x27;" in (tmp_path / "sheet.html").read_text()
    assert re.split(r" {2,}", out.splitlines()[1])[1:3] == ["-", "ERROR"]


def test_the_command_prints_json(tmp_path, capsys) -> None:
    args = [
        "demo",
        "a red disc on white",
        "--json",
        "--out",
        str(tmp_path),
        "--model",
        "demo-shapes-graded",
        "--seed",
        "2",
    ]
    assert main(args) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["prompt"], row["outcome"], row["model"]) == ("a red disc on white", "block", "demo-shapes-graded")
