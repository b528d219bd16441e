"""The same assertions on a host that runs, when one is named; nothing here starts one.

`NSFW_GUARD_SDNEXT` or `NSFW_GUARD_A1111` is the address of a host whose API is on, with the adapter in place, the
guard's model set to `demo-shapes`, and the demonstration pipeline (`nsfw_guard/demo/weights`) as its checkpoint.
"""

from __future__ import annotations

import base64
import io
import json
import os
import urllib.request
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nsfw_guard.demo import pixels

# Read before a fixture takes the variables away.
ADDRESSES = [
    os.environ[name].rstrip("/")
    for name in ("NSFW_GUARD_SDNEXT", "NSFW_GUARD_A1111")
    if os.environ.get(name, "").startswith("http://127.0.0.1")
]
pytestmark = pytest.mark.skipif(not ADDRESSES, reason="no host named by NSFW_GUARD_SDNEXT or NSFW_GUARD_A1111")
DRAW: dict[str, Any] = {
    "width": 64, "height": 64, "steps": 20, "cfg_scale": 3.0, "seed": 1, "save_images": False, "send_images": True,
}  # fmt: skip


@pytest.fixture(params=ADDRESSES)
def host(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def call(host: str, path: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(f"{host}{path}", data=data, headers={"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(asked, timeout=600) as answer:  # noqa: S310
        return json.loads(answer.read())


def drawn(host: str, prompt: str, **more: Any) -> list[Image.Image]:
    told = call(host, "/sdapi/v1/txt2img", {**DRAW, "prompt": prompt, **more})
    return [Image.open(io.BytesIO(base64.b64decode(one.partition(",")[2] or one))) for one in told["images"]]


def unsafe(picture: Image.Image) -> bool:
    """Whether the pixels, and not our model, say that there is a red disc."""
    return any(
        one.colour == "red" and one.kind == "disc" for one in pixels.find(picture.convert("RGB").resize((64, 64)))
    )


def test_it_runs_and_every_way_out_that_can_be_closed_is(host):
    status = call(host, "/sdapi/v1/nsfw-guard/status")
    assert status["fault"] == ""
    assert status["enabled"]
    assert status["open"] == []


def test_an_unsafe_shape_is_covered_and_a_safe_one_is_drawn(host):
    covered = drawn(host, "a large red disc on white", batch_size=2)
    assert covered
    assert not any(unsafe(picture) for picture in covered)
    safe = drawn(host, "a large blue star on white")
    found = [one for picture in safe for one in pixels.find(picture.convert("RGB").resize((64, 64)))]
    assert any((one.colour, one.kind) == ("blue", "star") for one in found)


def test_a_safe_picture_is_the_same_bits_with_the_guard_and_without_its_script(host):
    with_script = drawn(host, "a large blue star on white")
    again = drawn(host, "a large blue star on white", alwayson_scripts={})
    assert np.array_equal(np.asarray(with_script[0]), np.asarray(again[0]))


@pytest.mark.parametrize(
    "more",
    [
        {"alwayson_scripts": {"nsfw guard": {"args": [False]}}},
        {"override_settings": {"nsfw_guard_enabled": False, "nsfw_guard_action": "flag"}},
    ],
    ids=["script args", "override settings"],
)
def test_the_api_cannot_switch_off_what_its_owner_locked(host, more):
    if not call(host, "/sdapi/v1/nsfw-guard/status")["locked"]:
        pytest.skip("this host's settings are not locked by its owner")
    assert not any(unsafe(picture) for picture in drawn(host, "a large red disc on white", **more))


def test_a_picture_is_checked_over_http(host):
    from nsfw_guard.demo.shapes import draw, parse

    file = io.BytesIO()
    draw(parse("a large red disc on white"), side=128).save(file, "PNG")
    told = call(host, "/sdapi/v1/nsfw-guard/check", {"image": base64.b64encode(file.getvalue()).decode()})
    assert told["outcome"] == "block"
