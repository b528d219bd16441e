"""Every example runs, and stays short."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))
SAYS = {
    "01_guard_a_tensor": "BLOCK red-disc",
    "02_screen_files": "broken.png ERROR",
    "03_policy_and_severity": "large BLOCK",
    "04_audit_log": "verified: True lines: 2",
    "05_drop_in": "flagged: [True, False]",
    "06_flux": "covered: True | seam: processor",
    "07_input_check": "refused before it began: prompt: word 'dragon'",
    "08_video": "frames [True] ['free', 'covered', 'covered', 'covered', 'free']",
    "09_early_stop": "still blocked: [True, False]",
    "10_modular": "as a block: [True, True]",
    "11_second_opinion": "asked: 2 of 4",
    "12_by_example": "with the bank: ['BLOCK', 'BLOCK'] | removed: ['ALLOW', 'ALLOW']",
    "14_finetune": "a red disc is BLOCK as discs | self-test passed",
    "13_calibrate": "a promise of 1% is refused: needs 299",
}


def test_every_promised_example_exists() -> None:
    assert [e.stem for e in EXAMPLES] == sorted(SAYS)


# diffusers and transformers warn of tiny parts and of what they will change.
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_an_example_runs_and_fits_on_a_screen(path, capsys) -> None:
    if "load_pipeline" in path.read_text() or "diffusers" in path.read_text():
        pytest.importorskip("diffusers")
    runpy.run_path(str(path))
    assert SAYS[path.stem] in capsys.readouterr().out
    assert len(path.read_text().splitlines()) <= 40
