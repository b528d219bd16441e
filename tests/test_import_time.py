"""The import costs nothing, and help comes at once."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

import pytest


def timed(code: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - start


def test_the_import_brings_no_torch() -> None:
    code = "import sys, nsfw_guard; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_the_import_is_within_a_fifth_of_torchs_own() -> None:
    everything = "from nsfw_guard import Guard, Audit, Policy, load"
    pairs = [(timed("import torch"), timed(everything)) for _ in range(3)]
    assert statistics.median(ours / torchs for torchs, ours in pairs) < 1.2


def test_help_needs_no_torch_and_half_a_second_at_most() -> None:
    code = (
        "import sys; from nsfw_guard.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as e: sys.exit(e.code or ('torch' in sys.modules))"
    )
    times = []
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        times.append(time.perf_counter() - start)
        assert "exit codes" in done.stdout
    assert min(times) < 0.5
