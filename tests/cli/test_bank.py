"""Commands that change a bank."""

from __future__ import annotations

from pathlib import Path

import pytest

from nsfw_guard.backends.examples.bank import Bank
from nsfw_guard.cli.main import main
from nsfw_guard.cli.teaching import bank
from nsfw_guard.tools.lock import locked


def test_a_bank_that_another_command_changes_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each reads the bank, adds to it and writes it: without a lock the examples of the other would be lost."""
    monkeypatch.setattr(bank, "SECONDS", 0.0)
    (tmp_path / "a.csv").write_text("pdq\n" + "a" * 64 + "\n")
    words = ["bank", "import", str(tmp_path / "bank"), str(tmp_path / "a.csv"), "--block", "--reason", "r"]
    assert main(words) == 0
    with locked(tmp_path / "bank"):
        assert main(words) == 3
        assert main(["bank", "remove", str(tmp_path / "bank"), Bank.load(tmp_path / "bank").examples[0].id]) == 3
    assert len(Bank.load(tmp_path / "bank").examples) == 1
