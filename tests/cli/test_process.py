"""The command as a process of its own: speed, imports, broken pipes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import COMMANDS, paint


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


@pytest.mark.parametrize("argv", [["fetch", "marqo"], ["check", "{image}"]], ids=lambda argv: argv[0])
def test_without_weights_and_network_one_line_names_the_cure(argv: list[str], tmp_path: Path) -> None:
    image = paint(tmp_path / "a.png")
    ran = spawn(
        *(a.format(image=image) for a in argv),
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
def test_a_closed_pipe_is_neither_success_nor_a_traceback(flags: list[str]) -> None:
    argv = [sys.executable, "-m", "nsfw_guard.cli.main", "models", *flags]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert (process.wait(60), process.stderr.read()) == (3, b"")
