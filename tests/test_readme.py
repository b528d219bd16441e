"""What the documents show is run: Python blocks in order, commands parsed, links followed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from nsfw_guard.cli.main import parser
from nsfw_guard.policy.policy import Policy

ROOT = Path(__file__).parent.parent
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "SECURITY.md", ROOT / "CONTRIBUTING.md"]


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("path", [p for p in DOCS if blocks(p, "python")], ids=lambda p: p.name)
def test_python_blocks_run_in_order(path, tmp_path, monkeypatch, capsys) -> None:
    if any("load_pipeline" in block for block in blocks(path, "python")):
        pytest.importorskip("diffusers")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks(path, "python"):
        exec(compile(block, path.name, "exec"), names)  # noqa: S102
    if path.name == "README.md":
        assert [v.outcome.name for v in names["verdicts"]] == ["ALLOW", "ERROR", "ERROR"]
        assert (tmp_path / "log.jsonl").read_text().count("\n") == 2


def test_the_policy_in_the_readme_is_one(tmp_path) -> None:
    (text,) = blocks(ROOT / "README.md", "toml")
    (tmp_path / "mine.toml").write_text(text)
    policy = Policy.load(tmp_path / "mine.toml")
    assert policy.name == "mine"
    assert policy.rules["sexual"].views == {"side": 0.7}
    assert policy.prompts is not None
    assert policy.prompts.find("a dr4gon") == "word 'dragon'"


def commands() -> list[str]:
    lines = [line for p in DOCS for block in blocks(p, "sh") for line in block.splitlines()]
    lines = [part.strip() for line in lines for part in re.split(r"[;|]", line.split("  #")[0])]
    return [line for line in lines if line.startswith("nsfw-guard ")]


@pytest.mark.parametrize("command", commands())
def test_commands_that_are_shown_can_be_parsed(command) -> None:
    assert callable(parser().parse_args(shlex.split(command)[1:]).run)


@pytest.mark.parametrize("path", DOCS, ids=lambda p: p.name)
def test_links_lead_somewhere_and_nothing_is_left_to_fill_in(path) -> None:
    text = path.read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert target.startswith("https://huggingface.co/") or (path.parent / target).exists(), target
    for file in re.findall(r"`((?:tests|nsfw_guard|benchmarks)/[\w/.]+)`", text):
        assert (ROOT / file).exists(), file
    assert not re.search(r"\b(TODO|TIMES|FIGURES|XXX)\b", text)
