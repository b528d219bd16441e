"""`doctor`."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from nsfw_guard.tools import doctor
from tests.cli.conftest import Run


@pytest.mark.parametrize(("old", "code"), [(False, 0), (True, 1)])
def test_the_doctor_exits_with_1_when_something_needs_fixing(
    old: bool, code: int, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "pillow_is_old", lambda: old)
    plain, as_json = run("doctor"), run("doctor", "--json")
    assert (plain.code, as_json.code) == (code, code)
    assert plain.err.count("WARNING  Pillow") == len(as_json.lines[0]["warnings"]) == int(old)
    assert as_json.lines[0]["torch"] == version("torch")
    assert plain.out.splitlines()[0].split() == ["what", "found"]
    assert {line.split()[0] for line in plain.out.splitlines()} >= {"python", "torch", "devices", "model"}
