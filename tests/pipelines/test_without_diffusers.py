"""Without diffusers the names are there, and say how to get it."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import sys
for name in ("diffusers", "transformers"):
    sys.modules[name] = None
import nsfw_guard
from nsfw_guard.testing import FakeBackend
try:
    {what}
except nsfw_guard.MissingExtraError as error:
    print(error)
"""


@pytest.mark.parametrize(
    "what",
    [
        "nsfw_guard.attach(object(), nsfw_guard.Guard(FakeBackend()))",
        "nsfw_guard.doctor(object())",
        "nsfw_guard.install(nsfw_guard.Guard(FakeBackend()), latents='refuse')",
        "nsfw_guard.SafetyChecker",
        "nsfw_guard.GuardStep",
        "nsfw_guard.EarlyStopCallback",
    ],
)
def test_it_says_how_to_get_it(what):
    ran = subprocess.run([sys.executable, "-c", CODE.format(what=what)], capture_output=True, text=True, check=True)
    assert "pip install 'nsfw-guard[diffusers]'" in ran.stdout
