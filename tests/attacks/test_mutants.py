"""Damaged files of every format: no crash, in time, and nothing allowed of which a part is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "files.py"


@pytest.mark.parametrize("count", [pytest.param(150, id="few"), pytest.param(6000, marks=pytest.mark.slow, id="many")])
def test_damaged_files_do_no_harm(count: int) -> None:
    pytest.importorskip("PIL.AvifImagePlugin", reason="one seed is an AVIF")
    ran = subprocess.run(
        [sys.executable, SCRIPT, "--only", "no file", "--mutants", str(count)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]
    damaged = json.loads(ran.stdout.partition("RESULT ")[2])["damaged"]
    assert sum(damaged["outcomes"].values()) == damaged["files"] == count
    assert (damaged["late"], damaged["halves"]) == (0, 0)
    assert damaged["outcomes"]["ERROR"] > count / 4
