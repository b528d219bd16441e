"""The command line: exit codes, what goes to which stream, and that every flag does something."""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from nsfw_guard.backends.registry import register_model, unregister_model
from nsfw_guard.cli import show
from nsfw_guard.cli.main import main, parser
from nsfw_guard.hosts import running
from nsfw_guard.listeners.audit import Audit
from nsfw_guard.policy.policy import Policy
from nsfw_guard.policy.rules import Rule
from nsfw_guard.testing import RED, FakeBackend, FaultyBackend, tiny_model
from nsfw_guard.tools import doctor
from nsfw_guard.verdict import Outcome, Verdict
from nsfw_guard.version import __version__

OUTCOMES = ("allow", "review", "block", "error")
COLUMNS = {"allow": 0, "review": 3, "block": 8}  # of 8, that are red
ESCAPE = "\x1b[31mred\x07\x9b\u202e"


class Single(FakeBackend):
    """Takes one picture at a time only."""

    def score(self, stacks: Sequence[Any], **wants: bool) -> Any:
        if sum(len(stack) for stack in stacks) > 1:
            raise RuntimeError("one at a time")
        return super().score(stacks, **wants)


class Interrupted(FakeBackend):
    """Is interrupted by the user."""

    def score(self, stacks: Sequence[Any], **wants: bool) -> Any:
        raise KeyboardInterrupt


def unbuildable() -> FakeBackend:
    raise RuntimeError("no such\ndevice")


BACKENDS: dict[str, Callable[[], FakeBackend]] = {
    "red": FakeBackend,
    "dull": lambda: FakeBackend(lambda frame: 0.0),
    "broken": lambda: FaultyBackend("raises"),
    "slow": lambda: FaultyBackend("hangs", seconds=1.0),
    "single": Single,
    "interrupted": Interrupted,
    "unbuildable": unbuildable,
}


@pytest.fixture(scope="module", autouse=True)
def models() -> Iterator[None]:
    """Plug-ins with exact outcomes."""

    def adding(name: str) -> None:
        register_model(replace(RED, name=name), lambda spec, options: build(BACKENDS[name](), spec))

    def build(backend: FakeBackend, spec: Any) -> FakeBackend:
        backend.spec = spec
        return backend

    for name in BACKENDS:
        adding(name)
    yield
    for name in BACKENDS:
        unregister_model(name)


@pytest.fixture(autouse=True)
def logs() -> Iterator[None]:
    """The logging of the test run, put back after a command has set up its own."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    root.handlers = []
    yield
    root.handlers = handlers
    root.setLevel(level)


@dataclass
class Ran:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line, parse_constant=pytest.fail) for line in self.out.splitlines()]


Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process."""

    def go(*argv: object) -> Ran:
        try:
            code = main([str(arg) for arg in argv])
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        return Ran(code, *capsys.readouterr())

    return go


def paint(path: Path, outcome: str = "allow", size: tuple[int, int] = (8, 8)) -> Path:
    """A picture that the plug-in `red` gives this outcome."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if outcome == "error":
        path.write_bytes(b"no picture")
        return path
    picture = Image.new("RGB", size, (0, 0, 255))
    picture.paste((255, 0, 0), (0, 0, COLUMNS[outcome] * size[0] // 8, size[1]))
    picture.save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One picture for each outcome, called after it."""
    for outcome in OUTCOMES:
        paint(tmp_path / "in" / f"{outcome}.png", outcome)
    return tmp_path / "in"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny real model."""
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


# Exit codes

CODES = {
    "review": {"allow": 0, "review": 1, "block": 1, "error": 2},
    "block": {"allow": 0, "review": 0, "block": 1, "error": 2},
    "error": {"allow": 0, "review": 0, "block": 0, "error": 2},
}


@pytest.mark.parametrize(
    ("fail_on", "outcome", "code"), [(f, o, code) for f, table in CODES.items() for o, code in table.items()]
)
def test_the_exit_code_is_what_the_help_says(fail_on: str, outcome: str, code: int, run: Run, tmp_path: Path) -> None:
    path = paint(tmp_path / "a.png", outcome)
    assert run("check", path, "--model", "red", "--fail-on", fail_on).code == code
    assert run("check", path, "--model", "red", "--fail-on", fail_on, "--json").code == code


@pytest.mark.parametrize(("fail_on", "code"), [("review", 2), ("block", 2), ("error", 2)])
def test_the_worst_of_several_pictures_counts(fail_on: str, code: int, run: Run, folder: Path) -> None:
    assert run("check", folder, "--model", "red", "--fail-on", fail_on).code == code


def test_a_block_is_what_it_fails_on_unless_said(run: Run, tmp_path: Path) -> None:
    for outcome, code in CODES["block"].items():
        assert run("check", paint(tmp_path / "a.png", outcome), "--model", "red").code == code


def test_the_help_lists_every_code(run: Run) -> None:
    shown = run("--help")
    assert shown.code == 0
    for code in ("0", "1", "2", "3", "130"):
        assert f"\n  {code} " in shown.out


CANNOT = [
    (["check", "{in}/none.png"], "no file or folder"),
    (["check", "{in}", "--model", "redd"], "did you mean 'red'"),
    (["check", "{in}", "--model", "{in}"], "has no config.json"),
    (["check", "{in}", "--model", "red", "--policy", "strickt"], "did you mean 'strict'"),
    (["check", "{in}", "--model", "red", "--policy", "{in}/none.toml"], "no policy file 'none.toml'"),
    (["check", "{in}", "--model", "red", "--policy", "{unfit}"], "the model does not score"),
    (["check", "{in}", "--model", "red", "--batch", "0"], "--batch 0"),
    (["check", "{in}", "--model", "red", "--timeout", "0"], "time limit of 0"),
    (["check", "{in}", "--model", "red", "--timeout", "nan"], "time limit of nan"),
    (["check", "{in}", "--model", "red", "--audit", "{in}/none/log"], "the audit log cannot be there"),
    (["check", "{in}", "--model", "red", "--out", "{in}/allow.png"], "nsfw-guard: "),
    (["check", "{in}", "--model", "{loose}"], "the threshold 'default' is 1"),
    (["check", "{in}", "--model", "{tiny}", "--views", "covers"], "did you mean 'cover'"),
    (["check", "{in}", "--model", "{tiny}", "--device", "gpu"], "unknown device 'gpu'"),
    (["check", "{empty}", "--model", "red"], "no picture under"),
    (["fetch", "redd"], "did you mean 'red'"),
    (["policy", "show", "strickt"], "did you mean 'strict'"),
    (["policy", "show", "strict", "--model", "redd"], "did you mean 'red'"),
    (["policy", "explain", "{unfit}"], "the model does not score"),
    (["audit", "verify", "{in}/none"], "the log cannot be read"),
    (["audit", "verify", "{log}", "--key-file", "{in}/none"], "the key file cannot be read"),
    (["audit", "verify", "{log}", "--key-file", "{nothing}"], "the key file is empty"),
    (["audit", "verify", "{log}", "--head", "{in}/none"], "the kept head cannot be read"),
    (["audit", "verify", "{log}", "--head", "{nothing}"], "the kept head cannot be read"),
]
MISUSED = [
    [], ["judge"], ["check"], ["check", "{in}", "--speed", "9"], ["check", "{in}", "--action", "raise"],
    ["check", "{in}", "--fail-on", "allow"], ["check", "{in}", "--resize", "exactly"],
    ["check", "{in}", "--batch", "many"], ["check", "{in}", "--timeout", "soon"], ["check", "{in}", "--model"],
    ["policy"], ["policy", "show"], ["audit"], ["audit", "verify"], ["fetch"], ["models", "red", "dull"],
    ["doctor", "--fix"],
]  # fmt: skip


@pytest.fixture
def filled(folder: Path, tiny: Path, tmp_path: Path) -> Callable[[Sequence[str]], list[str]]:
    """Fills the places in a command that stand for files."""
    places = {"in": folder, "tiny": tiny, "unfit": tmp_path / "unfit.toml", "log": tmp_path / "log"}
    places |= {"nothing": tmp_path / "nothing", "empty": tmp_path / "empty", "out": tmp_path / "out"}
    places["host"] = tmp_path / "host"
    for name in ("modules/scripts_manager.py", "installer.py"):
        (places["host"] / name).parent.mkdir(parents=True, exist_ok=True)
        (places["host"] / name).write_text("")
    places["unfit"].write_text("[rules.zebra]\nblock = 0.5")
    places["log"].write_text("")
    places["nothing"].write_bytes(b"")
    places["empty"].mkdir()
    places["loose"] = Path(shutil.copytree(tiny, tmp_path / "loose"))  # its record lets every score pass
    (places["loose"] / "nsfw_guard.json").write_text('{"thresholds": {"default": {"block": 1.0}}}')
    return lambda argv: [arg.format(**places) for arg in argv]


@pytest.mark.parametrize(("argv", "said"), CANNOT, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_what_cannot_run_ends_with_3_and_one_line(argv: list[str], said: str, run: Run, filled: Any) -> None:
    ran = run(*filled(argv))
    assert (ran.code, ran.out) == (3, "")
    assert ran.err.startswith("nsfw-guard: ")
    assert ran.err.count("\n") == 1
    assert said in ran.err


@pytest.mark.parametrize("argv", MISUSED, ids=" ".join)
def test_wrong_usage_ends_with_3_and_the_usage(argv: list[str], run: Run, filled: Any) -> None:
    ran = run(*filled(argv))
    assert (ran.code, ran.out) == (3, "")
    assert ran.err.startswith("usage: nsfw-guard")


def test_the_bare_command_prints_its_help(run: Run) -> None:
    ran = run()
    assert (ran.code, ran.out) == (3, "")
    assert "judge files, folders or standard input" in ran.err


def test_an_interrupt_ends_with_130(run: Run, folder: Path) -> None:
    ran = run("check", folder, "--model", "interrupted")
    assert (ran.code, ran.out, ran.err) == (130, "", "nsfw-guard: interrupted\n")


def test_what_nobody_foresaw_ends_with_3_and_not_with_the_code_of_a_block(run: Run, folder: Path) -> None:
    ran = run("check", folder, "--model", "unbuildable")
    assert (ran.code, ran.out) == (3, "")
    assert ran.err == "nsfw-guard: RuntimeError: no such\\ndevice (--verbose shows where)\n"
    logging.getLogger().handlers = []
    assert "Traceback" in run("-v", "check", folder, "--model", "unbuildable").err


# What is printed


def test_json_has_one_line_a_picture_with_path_and_verdict(run: Run, folder: Path) -> None:
    ran = run("check", folder, "--model", "red", "--json")
    expected = sorted(OUTCOMES)
    assert [line["outcome"] for line in ran.lines] == expected
    assert [line["path"] for line in ran.lines] == [str(folder / f"{name}.png") for name in expected]
    keys = {"path", "written", *Verdict(Outcome.ALLOW, "").to_dict()}
    assert all(set(line) == keys for line in ran.lines)
    assert [line["score"] for line in ran.lines] == [0.0, 1.0, None, 0.375]
    assert {(line["model"], line["policy"], line["written"]) for line in ran.lines} == {("red", "default", None)}
    assert all(line["state"]["self_test"] == "passed" for line in ran.lines)


def test_a_table_has_one_line_a_picture_and_the_summary_is_a_message(run: Run, folder: Path) -> None:
    ran = run("check", folder, "--model", "red")
    header, *rows = ran.out.splitlines()
    assert header.split() == ["outcome", "score", "threshold", "reason", "path"]
    assert [row.split()[:3] for row in rows] == [
        ["ALLOW", "0.000", "0.5"], ["BLOCK", "1.000", "0.5"], ["ERROR", "-", "-"], ["REVIEW", "0.375", "0.25"]
    ]  # fmt: skip
    assert [row.split()[-1] for row in rows] == [str(folder / f"{name}.png") for name in sorted(OUTCOMES)]
    assert ran.err == "4 pictures by red under default: 1 allow, 1 review, 1 block, 1 error\n"


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


# What is written


def test_allowed_files_are_written_byte_for_byte_and_others_as_png(run: Run, folder: Path, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), (0, 0, 255)).save(folder / "deep.jpg", comment=b"kept")
    (folder / "deep").mkdir()
    (folder / "deep.jpg").rename(folder / "deep" / "allow.jpg")
    paint(folder / "deep" / "block.webp", "block")
    ran = run("check", folder, "--model", "red", "--json", "--out", tmp_path / "out")
    out = tmp_path / "out"
    assert {str(p.relative_to(out)) for p in out.rglob("*.*")} == {
        "allow.png", "block.png", "error.png", "review.png", "deep/allow.jpg", "deep/block.png"
    }  # fmt: skip
    for name in ("allow.png", "review.png", "deep/allow.jpg"):
        assert (out / name).read_bytes() == (folder / name).read_bytes()
    for name in ("block.png", "error.png", "deep/block.png"):
        with Image.open(out / name) as picture:
            assert (picture.format, picture.convert("L").getextrema()) == ("PNG", (0, 0))
    assert {line["path"]: line["written"] for line in ran.lines}[str(folder / "deep" / "block.webp")] == str(
        out / "deep" / "block.png"
    )


def test_names_that_collide_are_all_kept(run: Run, tmp_path: Path) -> None:
    paths = [paint(tmp_path / str(i) / "a.png", outcome) for i, outcome in enumerate(("allow", "block", "allow"))]
    ran = run("check", *paths, paths[0], "--model", "red", "--json", "--out", tmp_path / "out")
    assert [Path(line["written"]).name for line in ran.lines] == ["a.png", "a-2.png", "a-3.png", "a-4.png"]
    assert (tmp_path / "out" / "a-4.png").read_bytes() == paths[0].read_bytes()


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_standard_input_is_judged(outcome: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = paint(tmp_path / "a.png", outcome).read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    ran = run("check", "-", "--model", "red", "--json", "--out", tmp_path / "out")
    assert ran.code == CODES["block"][outcome]
    assert [(line["path"], line["outcome"]) for line in ran.lines] == [("-", outcome)]
    written = (tmp_path / "out" / "stdin.png").read_bytes()
    assert (written == data) is (outcome in {"allow", "review"})


# Help and flags

Path_ = tuple[str, ...]


def commands(of: argparse.ArgumentParser | None = None, path: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    """Every command with its parser."""
    of = of or parser()
    yield path, of
    for action in of._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                if name != "demo":
                    yield from commands(below, (*path, name))


COMMANDS = dict(commands())


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_help_that_names_its_options(path: Path_, run: Run) -> None:
    ran = run(*path, "--help")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"usage: {' '.join(('nsfw-guard', *path))}")
    for action in COMMANDS[path]._actions:
        assert all(option in ran.out for option in action.option_strings)


def write_log(path: Path, key: bytes | None = None) -> None:
    """A log of four verdicts."""
    audit = Audit(path, key=key, clock=lambda: 0.0)
    audit([Verdict(outcome, "a reason") for outcome in Outcome])
    audit.close()


# For each option: the command without it, and with it. Something must differ.
VARIANTS: dict[tuple[str, str], tuple[list[str], list[str]]] = {
    ("", "--verbose"): (["check", "{in}", "--model", "broken"], ["-v", "check", "{in}", "--model", "broken"]),
    **{
        ("check", option): (["check", "{in}", "--model", model, *base], ["check", "{in}", "--model", model, *told])
        for option, model, base, told in [
            ("--policy", "red", [], ["--policy", "strict"]),
            ("--action", "red", ["--out", "{out}"], ["--out", "{out}", "--action", "pixelate"]),
            ("--out", "red", [], ["--out", "{out}"]),
            ("--views", "{tiny}", ["--json"], ["--json", "--views", "center"]),
            ("--resize", "{tiny}", ["--json"], ["--json", "--resize", "fast"]),
            ("--device", "{tiny}", ["--json"], ["--json", "--device", "cpu"]),
            ("--batch", "single", [], ["--batch", "1"]),
            ("--timeout", "slow", ["--fail-on", "error"], ["--fail-on", "error", "--timeout", "0.05"]),
            ("--audit", "red", [], ["--audit", "{out}.log"]),
            ("--process", "red", ["--json"], ["--json", "--process"]),
            ("--json", "red", [], ["--json"]),
        ]
    },
    ("check", "--model"): (["check", "{in}", "--model", "red"], ["check", "{in}", "--model", "dull"]),
    ("check", "--trust-guard"): (
        ["check", "{in}", "--model", "{tiny}", "--json"],
        ["check", "{in}", "--model", "{loose}", "--json", "--trust-guard"],  # refused without it: see CANNOT
    ),
    ("check", "--fail-on"): (
        ["check", "{in}/review.png", "--model", "red"],
        ["check", "{in}/review.png", "--model", "red", "--fail-on", "review"],
    ),
    ("check", "--strict"): (
        ["check", "{in}/../odd", "--model", "red"],
        ["check", "{in}/../odd", "--model", "red", "--strict"],
    ),
    ("check", "--audit-key"): (
        ["check", "{in}/allow.png", "--model", "red", "--audit", "{out}.log"],
        ["check", "{in}/allow.png", "--model", "red", "--audit", "{out}.log", "--audit-key", "{in}/allow.png"],
    ),
    ("models", "--json"): (["models", "red"], ["models", "red", "--json"]),
    **{
        ("integrate", option): (["integrate", "sdnext", "{host}", *base], ["integrate", "sdnext", "{host}", *told])
        for option, base, told in [
            ("--link", [], ["--link"]),
            ("--check", [], ["--check"]),
            ("--into", [], ["--into", "{in}"]),
            ("--url", ["--check"], ["--check", "--url", "http://127.0.0.1:9"]),
            ("--remove", [], ["--remove"]),
            ("--json", ["--check"], ["--check", "--json"]),
        ]
    },
    ("doctor", "--json"): (["doctor"], ["doctor", "--json"]),
    ("doctor", "--diffusers"): (["doctor"], ["doctor", "--diffusers"]),
    ("doctor", "--returns"): (["doctor"], ["doctor", "--returns"]),
    **{
        (f"policy {verb}", option): (["policy", verb, "strict"], ["policy", verb, "strict", *told])
        for verb in ("show", "lint", "explain")
        for option, told in (("--model", ["--model", "red"]), ("--json", ["--json"]))
    },
    ("audit verify", "--json"): (["audit", "verify", "{log}"], ["audit", "verify", "{log}", "--json"]),
    ("audit verify", "--key-file"): (
        ["audit", "verify", "{log}"],
        ["audit", "verify", "{log}", "--key-file", "{in}/allow.png"],
    ),
    ("audit verify", "--head"): (
        ["audit", "verify", "{log}"],
        ["audit", "verify", "{log}", "--head", "{log}.kept"],
    ),
}


def test_every_option_is_in_the_table() -> None:
    options = {
        (" ".join(path), action.option_strings[-1])
        for path, parsed in COMMANDS.items()
        for action in parsed._actions
        if action.option_strings and not isinstance(action, (argparse._HelpAction, argparse._VersionAction))
    }
    assert options == set(VARIANTS)


@pytest.mark.parametrize(("key"), VARIANTS, ids=" ".join)
def test_every_option_changes_something(
    key: tuple[str, str], run: Run, filled: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "out.log"
    monkeypatch.setattr(running, "ask", lambda host, url: running.Running(url, "not there", ("no guard",)))

    def effect(argv: list[str]) -> tuple[Any, ...]:
        logging.getLogger().handlers = []
        ran = run(*filled(argv))
        assert ran.code != 3, ran.err
        written = {p.name: p.read_bytes() for p in (tmp_path / "out").glob("*")}
        out = re.sub(r'"requested": \{[^}]*\}', "", ran.out)  # what was asked for is no effect
        logged = [json.loads(line)["picture"] for line in lines_of(log)] if log.exists() else None
        for left in tmp_path.glob("out.log*"):
            left.unlink()
        return ran.code, out, ran.err, written, logged

    wide = paint(tmp_path / "in" / "wide.png", "block", (640, 128))
    assert wide.exists()
    paint(tmp_path / "odd" / "a.png", "allow").with_name("notes.txt").write_text("text")
    write_log(tmp_path / "log")
    (tmp_path / "log.kept").write_text(json.dumps({"count": 9, "hash": "0" * 64}))
    without, with_ = VARIANTS[key]
    if {"--diffusers", "--returns"} & set(with_):
        pytest.importorskip("diffusers")
    assert effect(without) != effect(with_)


def test_every_action_writes_another_picture(run: Run, folder: Path, tmp_path: Path) -> None:
    (folder / "block.png").unlink()
    paint(folder / "block.png", "block", (64, 64))
    written = set()
    for action in ("block", "pixelate", "replace", "flag"):
        run("check", folder / "block.png", "--model", "red", "--out", tmp_path / action, "--action", action)
        written.add((tmp_path / action / "block.png").read_bytes())
    assert len(written) == 4
    assert (folder / "block.png").read_bytes() in written


def test_a_tiny_real_model_judges_a_folder(run: Run, tiny: Path, folder: Path) -> None:
    ran = run("check", folder, "--model", tiny, "--json")
    assert ran.code == 2
    by_name = {Path(line["path"]).stem: line for line in ran.lines}
    assert {name: line["evaluated"] for name, line in by_name.items()} == {
        "allow": True, "block": True, "review": True, "error": False
    }  # fmt: skip
    assert 0.0 <= by_name["allow"]["score"] <= 1.0
    assert by_name["allow"]["score"] != by_name["block"]["score"]
    assert {line["state"]["self_test"] for line in ran.lines} == {"answers unrecorded"}


# policy


@pytest.mark.parametrize("name", ["default", "lenient", "strict"])
def test_a_shown_policy_reads_back_as_itself(name: str, run: Run, tmp_path: Path) -> None:
    for flags in ([], ["--model", "red"], ["--model", "marqo"]):
        shown = run("policy", "show", name, *flags)
        assert (shown.code, shown.err) == (0, "")
        (tmp_path / "again.toml").write_text(shown.out, encoding="utf-8")
        told = json.loads(run("policy", "show", name, *flags, "--json").out)
        assert Policy.load(tmp_path / "again.toml").to_dict() == {k: v for k, v in told.items() if k != "hash"}
        assert Policy.load(tmp_path / "again.toml").hash == told["hash"]


def test_a_policy_with_odd_names_reads_back_as_itself(run: Run, tmp_path: Path) -> None:
    odd = 'a "b" \\ \x1b\n é'
    policy = Policy(rules={odd: Rule(block=0.5, views={"side": 0.25})}, name=odd, description=odd)
    (tmp_path / "one.toml").write_text(
        f"name = {json.dumps(odd)}\ndescription = {json.dumps(odd)}\n"
        f"[rules.{json.dumps(odd)}]\nblock = 0.5\nviews.side = 0.25\n"
    )
    assert Policy.load(tmp_path / "one.toml") == policy
    (tmp_path / "two.toml").write_text(run("policy", "show", tmp_path / "one.toml").out, encoding="utf-8")
    assert Policy.load(tmp_path / "two.toml") == policy


def test_a_fitted_policy_is_shown_with_numbers(run: Run) -> None:
    assert run("policy", "show", "strict", "--model", "red").out.splitlines()[2:] == [
        "", '[rules."red"]', "block = 0.25", "review = 0.1", 'severity = "high"'
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "flags", "code", "said"),
    [
        ("[rules.red]\nblock = 0.5", [], 0, "ok mine "),
        ("[rules.red]\nblock = 0.5", ["--model", "red"], 0, ": red"),
        ("[rules.zebra]\nblock = 0.5", [], 0, ": zebra"),
        ("[rules.zebra]\nblock = 0.5", ["--model", "red"], 1, "does not score: there are red"),
        ("[rules.red]\nblok = 0.5", [], 1, "did you mean 'block'"),
        ("[rules.red", [], 1, "not readable TOML"),
        ("extends = 'mine.toml'", [], 1, "in a circle"),
    ],
)
def test_lint_says_ok_or_what_is_wrong(
    text: str, flags: list[str], code: int, said: str, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "mine.toml").write_text(text)
    ran = run("policy", "lint", tmp_path / "mine.toml", *flags)
    assert ran.code == code
    good, bad = (ran.out, ran.err) if code == 0 else (ran.err, ran.out)
    assert said in good
    assert bad == ""


def test_lint_as_json_names_the_hash_and_the_categories(run: Run) -> None:
    expected = {"name": "strict", "hash": Policy.load("strict").hash, "categories": ["*"]}
    assert run("policy", "lint", "strict", "--json").lines == [expected]


def test_lint_warns_of_a_policy_that_never_blocks(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "mild.toml"
    path.write_text('name = "mild"\n[rules.red]\nreview = 0.3\n')
    ran = run("policy", "lint", path)
    assert (ran.code, ran.out.splitlines()[1].split(":")[:2]) == (0, ["warning", " nothing is ever blocked"])
    assert len(run("policy", "lint", path, "--json").lines[0]["warnings"]) == 1
    path.write_text('name = "mild"\n[rules.red]\nreview = 0.3\nviews = {side = 0.5}\n')
    ran = run("policy", "lint", path)
    assert (ran.code, ran.out) == (1, "")
    assert "give block too" in ran.err
    path.write_text('name = "mild"\n[rules.red]\nreview = 0.3\nblock = 0.6\nviews = {side = 0.5}\n')
    assert len(run("policy", "lint", path).out.splitlines()) == 1


def test_explain_says_each_cut_and_where_it_comes_from(run: Run, tmp_path: Path) -> None:
    ran = run("policy", "explain", "strict", "--model", "red")
    assert ran.out.splitlines() == [
        "red at severity high or worse is blocked from 0.25, held for review from 0.1.",
        "Threshold 'default' of red: chosen.",
        "Threshold 'strict' of red: chosen.",
        "Threshold 'lenient' of red: chosen.",
    ]
    (tmp_path / "mine.toml").write_text("[rules.red]\nblock = 0.5\nviews.side = 0.75")
    told = run("policy", "explain", tmp_path / "mine.toml", "--model", "red", "--json").lines[0]
    assert told["rules"] == [
        "red at severity high or worse is blocked from 0.5 in any other view, blocked from 0.75 in a side view."
    ]
    assert "sexual at severity high" in run("policy", "explain", "default").out


def test_prompt_rules_are_shown_linted_and_explained(run: Run, tmp_path: Path) -> None:
    texts = "words = ['red disc', 'dragon']\npatterns = ['b+\\d \"c\"']"
    (tmp_path / "mine.toml").write_text(f"[rules.red]\nblock = 0.5\n[prompts]\n{texts}")
    shown = run("policy", "show", tmp_path / "mine.toml")
    (tmp_path / "again.toml").write_text(shown.out, encoding="utf-8")
    assert Policy.load(tmp_path / "again.toml").prompts == Policy.load(tmp_path / "mine.toml").prompts
    assert run("policy", "show", tmp_path / "mine.toml", "--json").lines[0]["prompts"]["words"] == [
        "red disc",
        "dragon",
    ]
    assert run("policy", "lint", tmp_path / "mine.toml", "--model", "red").code == 0
    told = run("policy", "explain", tmp_path / "mine.toml", "--model", "red", "--json").lines[0]
    assert told["rules"][1:] == [
        "A prompt that holds one of these is refused, however it is spelt: 'red disc', 'dragon', 'b+\\\\d \"c\"'."
    ]
    (tmp_path / "one.toml").write_text("[rules.red]\nblock = 0.5\n[prompts]\npatterns = ['dragon']")
    assert "[prompts]\npatterns" in run("policy", "show", tmp_path / "one.toml").out


def test_prompt_rules_are_shown_and_explained(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('[rules.red]\nblock = 0.5\n[prompts]\nwords = ["dragon"]\npatterns = ["a+b"]\n')
    shown = run("policy", "show", tmp_path / "mine.toml").out
    assert '[prompts]\nwords = ["dragon"]\npatterns = ["a+b"]' in shown
    (tmp_path / "again.toml").write_text(shown)
    told = [run("policy", "show", tmp_path / name, "--json").lines[0]["hash"] for name in ("mine.toml", "again.toml")]
    assert told[0] == told[1]
    explained = run("policy", "explain", tmp_path / "mine.toml", "--model", "red").out
    assert "A prompt that holds one of these is refused, however it is spelt: 'dragon', 'a+b'." in explained


def test_a_policy_is_fitted_to_a_model_in_a_folder(run: Run, tiny: Path) -> None:
    ran = run("policy", "explain", "default", "--model", tiny)
    assert ran.out.startswith("sexual at severity high or worse is blocked from 0.5.")


# audit


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def test_a_good_log_verifies(run: Run, folder: Path, tmp_path: Path) -> None:
    run("check", folder, "--model", "red", "--audit", tmp_path / "log")
    head = json.loads((tmp_path / "log.head").read_text())
    ran = run("audit", "verify", tmp_path / "log", "--json")
    assert (ran.code, ran.err) == (0, "")
    assert ran.lines == [{"ok": True, "lines": 4, "count": 4, "hash": head["hash"], "faults": []}]
    assert run("audit", "verify", tmp_path / "log").out == f"ok  4 lines  head 4 {head['hash']}\n"


def tampered(lines: list[bytes]) -> dict[str, list[bytes]]:
    return {
        "changed": [lines[0].replace(b"allow", b"error"), *lines[1:]],
        "dropped": [lines[0], *lines[2:]],
        "moved": [lines[1], lines[0], *lines[2:]],
        "torn": [*lines[:3], lines[3][:40]],
        "cut off": lines[:2],
        "emptied": [],
    }


@pytest.mark.parametrize("how", tampered([b""] * 4))
def test_a_tampered_log_does_not_verify(how: str, run: Run, tmp_path: Path) -> None:
    write_log(tmp_path / "log")
    (tmp_path / "log").write_bytes(b"".join(tampered(lines_of(tmp_path / "log"))[how]))
    ran = run("audit", "verify", tmp_path / "log", "--json")
    assert ran.code == 1
    assert ran.lines[0]["ok"] is False
    assert ran.lines[0]["faults"]
    plain = run("audit", "verify", tmp_path / "log")
    assert (plain.code, plain.err) == (1, "")
    assert plain.out.startswith("NOT OK  ")
    assert len(plain.out.splitlines()) == 1 + len(ran.lines[0]["faults"])


@pytest.mark.parametrize(
    ("key", "given_", "code"),
    [(b"k" * 32, b"k" * 32, 0), (b"k" * 32, b"k" * 32 + b"\n", 0), (b"k" * 32, b"j" * 32, 1), (b"k" * 32, None, 1),
     (None, b"k" * 32, 1)],
)  # fmt: skip
def test_a_log_verifies_with_its_own_key_only(
    key: bytes | None, given_: bytes | None, code: int, run: Run, tmp_path: Path
) -> None:
    write_log(tmp_path / "log", key)
    (tmp_path / "key").write_bytes(given_ or b"")
    flags = ["--key-file", tmp_path / "key"] if given_ else []
    assert run("audit", "verify", tmp_path / "log", *flags).code == code


def test_a_keyed_log_is_written_with_audit_key(run: Run, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"k" * 32)
    keyed = ["--audit", tmp_path / "log", "--audit-key", tmp_path / "key"]
    assert run("check", folder / "allow.png", "--model", "red", *keyed).code == 0
    assert run("audit", "verify", tmp_path / "log", "--key-file", tmp_path / "key").code == 0
    assert run("audit", "verify", tmp_path / "log").code == 1
    assert run("check", folder / "allow.png", "--model", "red", "--audit-key", tmp_path / "key").code == 3


def test_a_kept_head_finds_a_tail_that_was_cut_off_with_its_head(run: Run, tmp_path: Path) -> None:
    write_log(tmp_path / "log")
    (tmp_path / "log.head").rename(tmp_path / "elsewhere")
    assert run("audit", "verify", tmp_path / "log", "--head", tmp_path / "elsewhere").code == 0
    (tmp_path / "log").write_bytes(b"".join(lines_of(tmp_path / "log")[:2]))
    assert run("audit", "verify", tmp_path / "log").code == 0
    ran = run("audit", "verify", tmp_path / "log", "--head", tmp_path / "elsewhere")
    assert ran.code == 1
    assert "cut off: the log ends at line 2, the kept head says 4" in ran.out


def test_pictures_whose_verdict_cannot_be_logged_are_errors(run: Run, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("")
    (tmp_path / "log.head").write_text(json.dumps({"count": 9, "hash": "0" * 64}))
    ran = run("check", folder / "allow.png", "--model", "red", "--audit", tmp_path / "log", "--json")
    assert (ran.code, ran.lines[0]["outcome"]) == (2, "error")
    assert ran.lines[0]["reason"].startswith("AuditError: ")


# models, fetch, doctor


def test_models_lists_each_with_its_license_and_where_its_weights_are(run: Run) -> None:
    listed = {line["name"]: line for line in run("models", "--json").lines}
    assert {*BACKENDS, "marqo"} <= set(listed)
    assert listed["red"]["weights"] == "built in"
    assert listed["red"]["labels"] == "red = red:high, other = harmless"
    assert (listed["marqo"]["license"], listed["marqo"]["size"]) == ("Apache-2.0", "22.4 MB")
    header, *rows = run("models").out.splitlines()
    assert header.split() == ["name", "weights", "size", "embedding", "input", "license"]
    assert [row.split()[0] for row in rows] == sorted(listed)


def test_one_model_is_told_with_its_cuts_and_sources(run: Run) -> None:
    lines = run("models", "freepik").out.splitlines()
    assert "labels     neutral = harmless, low = sexual:low, medium = sexual:medium, high = sexual:high" in lines
    assert "license    MIT" in lines
    assert any(
        line.startswith("threshold        default: block from 0.5, review from 0.3 (block: the default")
        for line in lines
    )
    assert any(line.startswith("figures    its own set") for line in lines)
    (told,) = run("models", "freepik", "--json").lines
    assert (told["embedding"], told["thresholds"]["default"]["block"], told["gated"]) == (768, 0.5, False)
    assert run("models", "freepick").code == 3


def test_a_model_without_a_repository_needs_no_fetching(run: Run) -> None:
    ran = run("fetch", "red")
    assert (ran.code, ran.out) == (0, "")
    assert ran.err == "red comes with the package: nothing to fetch\n"


def test_a_model_in_an_extra_says_which_and_its_license(run: Run) -> None:
    from nsfw_guard.backends import registry
    from nsfw_guard.backends.catalog.classifiers import NUDENET

    registry.register_model(
        replace(NUDENET, name="parts", pip_extra="no-such-extra"), lambda spec, options: FakeBackend()
    )
    try:
        ran = run("fetch", "parts")
        (listed,) = [line for line in run("models", "--json").lines if line["name"] == "parts"]
    finally:
        registry.unregister_model("parts")
    assert (ran.code, ran.out) == (0, "")
    assert ran.err.startswith("parts comes with `pip install 'nsfw-guard[no-such-extra]'`, license disputed: AGPL-3.0")
    assert listed["weights"] == "pip install 'nsfw-guard[no-such-extra]'"


def test_a_model_in_the_cache_is_fetched_from_there(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nsfw_guard.backends.files.weights.cached", lambda spec: Path("cache"))
    ran = run("fetch", "marqo")
    assert (ran.code, ran.out) == (0, "cache\n")
    assert ran.err.startswith("marqo: 22.4 MB from Marqo/nsfw-image-detection-384 at 0c26ec22111b, license Apache-2.0")


def test_any_repository_is_fetched_by_its_commit(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architecture": "vit_tiny_patch16_384"}')
    asked: list[tuple[str, ...]] = []

    def fetch(spec: Any, progress: object, *, local_files_only: bool) -> Path:
        assert (spec.repo, spec.revision, local_files_only) == ("some/one", "ab" * 20, False)
        asked.append(spec.files)
        return tmp_path

    monkeypatch.setattr("nsfw_guard.backends.files.weights.fetch", fetch)
    ran = run("fetch", f"hf:some/one@{'ab' * 20}")
    assert (ran.code, ran.out, asked) == (0, f"{tmp_path}\n", [("config.json",), ("config.json", "model.safetensors")])
    assert ran.err.startswith(f"hf:some/one@{'ab' * 20}: nobody recorded its license here")
    assert "40 letters" in run("fetch", "hf:some/one@main").err


@pytest.mark.parametrize(
    ("model", "first", "why"),
    [
        (
            "falconsai",
            "343.2 MB from Falconsai/nsfw_image_detection at 96cb0d0342c7, license Apache-2.0",
            "unset HF_HUB",
        ),
        (
            "shieldgemma2",
            "8600.0 MB from google/shieldgemma-2-4b-it",
            "accept their terms on the page of google/shield",
        ),
        (
            "llavaguard-0.5b",
            "at its newest commit, which is then kept, license code Apache-2.0",
            "could not be fetched",
        ),
    ],
)
def test_size_and_license_are_said_before_anything_is_fetched(model: str, first: str, why: str, run: Run) -> None:
    ran = run("fetch", model)
    assert ran.code == 3
    said, *files, refusal = ran.err.splitlines()
    assert first in said
    assert files
    assert all(name.endswith((".json", ".safetensors")) for name in files)
    assert refusal.startswith(f"nsfw-guard: the weights of '{model}' are not in the cache")
    assert f"nsfw-guard fetch {model}" in refusal
    assert why in refusal


@pytest.mark.parametrize(("old", "code"), [(False, 0), (True, 1)])
def test_the_doctor_ends_with_1_when_something_should_be_mended(
    old: bool, code: int, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "pillow_is_old", lambda: old)
    plain, told = run("doctor"), run("doctor", "--json")
    assert (plain.code, told.code) == (code, code)
    assert plain.err.count("WARNING  Pillow") == len(told.lines[0]["warnings"]) == int(old)
    assert told.lines[0]["torch"] == version("torch")
    assert plain.out.splitlines()[0].split() == ["what", "found"]
    assert {line.split()[0] for line in plain.out.splitlines()} >= {"python", "torch", "devices", "model"}


def test_the_version_is_printed(run: Run) -> None:
    ran = run("--version")
    assert (ran.code, ran.out, ran.err) == (0, f"nsfw-guard {__version__}\n", "")


def test_a_bar_is_drawn_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for stream, drawn in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        assert list(show.progress(iter("abc"), 3, "pictures")) == ["a", "b", "c"]
        assert ("pictures" in stream.getvalue()) is drawn


# As a process


def spawn(*argv: str, code: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    where = ["-c", code] if code else ["-m", "nsfw_guard.cli.main"]
    return subprocess.run(
        [sys.executable, *where, *argv],
        capture_output=True, text=True, check=False, timeout=120, env={**os.environ, **env},
    )  # fmt: skip


def test_help_comes_at_once() -> None:
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        ran = spawn("--help")
        seconds.append(time.perf_counter() - start)
        assert (ran.returncode, ran.stderr) == (0, "")
        assert ran.stdout.startswith("usage: nsfw-guard")
    assert min(seconds) < 0.5


HELP = """
import contextlib, io, sys
from nsfw_guard.cli.main import main
for argv in sys.argv[1:]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        main([*argv.split(), "--help"])
print(sorted({name.partition(".")[0] for name in sys.modules} & {"torch", "numpy", "PIL", "timm", "huggingface_hub"}))
"""


def test_no_help_loads_anything_heavy() -> None:
    ran = spawn(*(" ".join(path) for path in COMMANDS), "demo", code=HELP)
    assert (ran.returncode, ran.stdout) == (0, "[]\n"), ran.stderr


@pytest.mark.parametrize("argv", [["fetch", "marqo"], ["check", "{picture}"]], ids=lambda argv: argv[0])
def test_without_weights_and_network_one_line_names_the_cure(argv: list[str], tmp_path: Path) -> None:
    picture = paint(tmp_path / "a.png")
    ran = spawn(
        *(a.format(picture=picture) for a in argv),
        HF_HUB_OFFLINE="1",
        HF_HOME=str(tmp_path / "cache"),
        HOME=str(tmp_path),
    )
    assert (ran.returncode, ran.stdout) == (3, "")
    last = ran.stderr.splitlines()[-1]
    assert last.startswith("nsfw-guard: the weights of 'marqo' are not in the cache")
    assert "nsfw-guard fetch marqo" in last
    assert "HF_HUB_OFFLINE" in last
    assert [line for line in ran.stderr.splitlines()[:-1] if not line.startswith(("marqo: ", "config.json"))] == []


@pytest.mark.skipif(os.name != "posix", reason="POSIX only")
@pytest.mark.parametrize("flags", [[], ["--json"]], ids=str)
def test_a_reader_that_goes_away_is_no_success_and_no_traceback(flags: list[str]) -> None:
    argv = [sys.executable, "-m", "nsfw_guard.cli.main", "models", *flags]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert (process.wait(60), process.stderr.read()) == (3, b"")
