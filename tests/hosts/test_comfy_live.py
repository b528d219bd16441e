"""The same assertions on a ComfyUI that runs: NSFW_GUARD_COMFYUI=http://127.0.0.1:8188.

Its owner started it with NSFW_GUARD_ENFORCE=1, NSFW_GUARD_ACTION=block and a model that blocks plain red. EmptyImage
feeds every output node.
"""

from __future__ import annotations

import io
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request

import numpy as np
import pytest
from PIL import Image

from tests.hosts.fake_comfy import red

URL = os.environ.get("NSFW_GUARD_COMFYUI", "")
pytestmark = pytest.mark.skipif(not URL.startswith(("http://", "https://")), reason="NSFW_GUARD_COMFYUI is no URL")

RED = 0xEB1E1E
SAVES = {
    "SaveImage": {"filename_prefix": "nsfw_guard_test"},
    "PreviewImage": {},
    "SaveAnimatedWEBP": {"filename_prefix": "nsfw_guard_test", "fps": 6.0, "lossless": True, "quality": 80,
                         "method": "default"},
    "SaveAnimatedPNG": {"filename_prefix": "nsfw_guard_test", "fps": 6.0, "compress_level": 4},
}  # fmt: skip


def ask(path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(URL.rstrip("/") + path, data, {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310  (the scheme is looked at above)
        return answer.read()


def run(graph):
    """The record of one prompt, when it is done."""
    key = json.loads(ask("/prompt", {"prompt": graph}))["prompt_id"]
    for _ in range(240):
        told = json.loads(ask(f"/history/{key}")).get(key)
        if told:
            return told
        time.sleep(0.5)
    pytest.fail("the host did not finish within two minutes")


def pictures(record):
    """Every frame of every file that a prompt made."""
    made = []
    for output in record["outputs"].values():
        for file in output.get("images", []):
            one = Image.open(io.BytesIO(ask("/view?" + urllib.parse.urlencode(file))))
            for index in range(getattr(one, "n_frames", 1)):
                one.seek(index)
                made.append(np.asarray(one.convert("RGB")))
    return made


def source(colour):
    return {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 2, "color": colour}}


@pytest.mark.parametrize("kind", SAVES)
def test_the_marker_leaves_no_file(kind):
    graph = {"1": source(RED), "2": {"class_type": kind, "inputs": {"images": ["1", 0], **SAVES[kind]}}}
    found = pictures(run(graph))
    assert found
    assert max(map(red, found)) == 0.0


def test_a_branch_without_a_node_is_covered_too():
    graph = {
        "1": source(RED),
        "2": {"class_type": "NSFWGuard", "inputs": {"images": ["1", 0]}},
        "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
        "4": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    assert max(map(red, pictures(run(graph)))) == 0.0


def test_latents_are_stopped():
    graph = {
        "1": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "2": {"class_type": "SaveLatent", "inputs": {"samples": ["1", 0], "filename_prefix": "nsfw_guard_test"}},
    }
    record = run(graph)
    assert record["status"]["status_str"] == "error"
    assert "LATENT" in json.dumps(record["status"])


def test_the_nodes_are_there():
    told = json.loads(ask("/object_info/NSFWGuard"))["NSFWGuard"]
    assert told["output"] == ["IMAGE", "STRING", "MASK", "BOOLEAN"]


def test_an_empty_prompt_is_refused():
    with pytest.raises(urllib.error.HTTPError) as told:
        ask("/prompt", {"prompt": {}})
    assert told.value.code == 400
