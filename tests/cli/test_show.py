"""What is printed cannot write to a terminal."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from nsfw_guard.cli import show
from tests.cli.conftest import ESCAPE, OUTCOMES, Run, paint


@pytest.mark.parametrize("flags", [[], ["--json"]], ids=str)
def test_a_file_name_cannot_write_to_the_terminal(flags: list[str], run: Run, tmp_path: Path) -> None:
    for outcome in OUTCOMES:
        paint(tmp_path / f"{outcome}\n{ESCAPE}.png", outcome)
    ran = run("check", tmp_path, "--model", "red", *flags)
    shown = ran.out + ran.err
    assert len(ran.out.splitlines()) == (4 if flags else 5)
    assert all(c.isprintable() or c == "\n" for c in shown)


@pytest.mark.parametrize(
    "argv",
    [
        ["check", ESCAPE], ["check", ".", f"--{ESCAPE}"], ["check", ".", "--model", ESCAPE],
        ["check", ".", "--fail-on", ESCAPE], ["policy", "show", ESCAPE], ["policy", "show", f"{ESCAPE}.toml"],
        ["policy", "lint", ESCAPE], ["audit", "verify", ESCAPE], [ESCAPE], ["fetch", ESCAPE],
        ["check", ".", "--model", "red", "--audit", f"{ESCAPE}/{ESCAPE}"],
    ],
    ids=repr,
)  # fmt: skip
def test_no_argument_can_write_to_the_terminal(argv: list[str], run: Run, folder: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(folder)
    ran = run(*argv)
    assert ran.code in {1, 3}
    assert ran.out == ""
    assert all(c.isprintable() or c == "\n" for c in ran.err)


@pytest.mark.parametrize("verb", ["show", "lint", "explain"])
def test_a_policy_cannot_write_to_the_terminal(verb: str, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    text = json.dumps("\x1b[31m")
    path.write_text(f"name = {text}\ndescription = {text}\n[rules.red]\nblock = 0.5\nviews.side = 0.25\n")
    ran = run("policy", verb, path, "--model", "red")
    assert ran.code == 0
    assert all(c.isprintable() or c == "\n" for c in ran.out + ran.err)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 日本", "plain é 日本"),
        ("a\tb\n", "a\\tb\\n"),
        ("\x1b[0m", "\\x1b[0m"),
        ("\udcff", "\\udcff"),
        ("", ""),
    ],
)
def test_control_characters_are_shown_as_escapes(text: str, shown: str) -> None:
    assert show.clean(text) == shown


def test_the_log_is_shown_with_verbose_only(run: Run, folder: Path) -> None:
    quiet = run("check", folder, "--model", "broken")
    assert "the model broke" not in quiet.err
    assert "RuntimeError: the model broke" in quiet.out
    logging.getLogger().handlers = []
    loud = run("--verbose", "check", folder, "--model", "broken")
    assert "Traceback" in loud.err
    assert (loud.code, loud.out) == (quiet.code, quiet.out) == (2, quiet.out)
