"""The package fits into what the hosts pin, so that installing it there changes nothing that is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
# From the hosts' own requirements files: sdnext 0697fb2, Forge 0468eda, reForge 0cf5854, ComfyUI 002f2be.
PINS = {
    "sdnext": {"pillow": "10.4.0", "numpy": "2.1.2", "timm": "1.0.16", "safetensors": "0.6.2",
               "huggingface-hub": "0.34.4", "tqdm": "4.67.1"},
    "A1111 and Forge": {"pillow": "9.5.0", "numpy": "1.26.2", "safetensors": "0.4.2"},
    "reForge": {"pillow": "10.4.0", "numpy": "1.26.4", "safetensors": "0.5.2", "huggingface-hub": "0.25.0",
                "timm": "1.0.14"},
    "ComfyUI": {"numpy": "1.25.0", "safetensors": "0.4.2"},
}  # fmt: skip


@pytest.mark.parametrize("host", PINS)
def test_what_a_host_pins_is_within_our_bounds(host):
    requirements = pytest.importorskip("packaging.requirements")
    text = (ROOT / "pyproject.toml").read_text()
    payload = re.search(r"^dependencies = \[(.*?)^\]", text, re.MULTILINE | re.DOTALL)[1]
    ours = [requirements.Requirement(line) for line in re.findall(r'"([^"]+)"', payload)]
    bounds = {one.name: one.specifier for one in ours}
    assert {"torch", "pillow", "numpy"} <= set(bounds)
    for package, pinned in PINS[host].items():
        assert bounds[package].contains(pinned), f"{host} pins {package}=={pinned}, we ask for {bounds[package]}"
