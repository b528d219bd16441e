"""Without diffusers the names are there, and say how to get it."""

from __future__ import annotations

import subprocess
import sys

CALLS = [
    "nsfw_guard.attach(object(), nsfw_guard.Guard(FakeBackend()))",
    "nsfw_guard.doctor(object())",
    "nsfw_guard.attach_all(nsfw_guard.Guard(FakeBackend()), latents='refuse')",
    "nsfw_guard.SafetyChecker",
    "nsfw_guard.GuardStep",
    "nsfw_guard.EarlyStopCallback",
]
CODE = f"""
import sys
for name in ("diffusers", "transformers"):
    sys.modules[name] = None
import nsfw_guard
from nsfw_guard.testing import FakeBackend
for call in {CALLS!r}:
    try:
        eval(call)
    except nsfw_guard.MissingExtraError as error:
        print(call, error, sep="\\t")
"""


def test_each_call_names_the_extra_to_install() -> None:
    ran = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    answers = [line.split("\t") for line in ran.stdout.splitlines() if "\t" in line]
    assert [call for call, _ in answers] == CALLS
    assert all("pip install 'nsfw-guard[diffusers]'" in answer for _, answer in answers)
