"""The same assertions on a host that runs, when one is named; nothing here starts one.

`NSFW_GUARD_SDNEXT` or `NSFW_GUARD_A1111` is the address of a host whose API is on, with the adapter in place, the
demonstration pipeline (`nsfw_guard/demo/weights/pipeline`) as its checkpoint, and NSFW_GUARD_MODEL=demo-shapes,
NSFW_GUARD_ACTION=block and NSFW_GUARD_PREVIEWS=hide in its environment. Set sdnext's `scheduler_eta` to 0: with its
default of 1, the scheduler of the demonstration pipeline, which starts without any signal, draws NaN: all is covered.
"""

from __future__ import annotations

import base64
import io
import json
import os
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageSequence

from nsfw_guard.demo import pixels
from nsfw_guard.demo.shapes import draw, parse

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


UNSAFE, SAFE = "a large red disc on white", "a large blue star on white"


@pytest.fixture(params=ADDRESSES)
def host(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def ask(host: str, path: str, body: dict[str, Any] | None = None) -> bytes:
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(f"{host}{path}", data=data, headers={"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(asked, timeout=600) as answer:  # noqa: S310
        return bytes(answer.read())


def call(host: str, path: str, body: dict[str, Any] | None = None) -> Any:
    return json.loads(ask(host, path, body))


def drawn(host: str, prompt: str, way: str = "txt2img", **more: Any) -> list[Image.Image]:
    return [read(one) for one in call(host, f"/sdapi/v1/{way}", {**DRAW, "prompt": prompt, **more})["images"]]


def read(coded: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(coded.partition(",")[2] or coded))).convert("RGB")


def coded(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def disc() -> Image.Image:
    result = draw(parse(UNSAFE), side=64)
    assert unsafe(result)
    return result


def unsafe(image: Image.Image) -> bool:
    """Whether the pixels, and not our model, say that there is a red disc."""
    return any(one.colour == "red" and one.kind == "disc" for one in pixels.find(image.resize((64, 64))))


def test_it_runs_and_every_way_out_that_can_be_closed_is(host):
    status = call(host, "/sdapi/v1/nsfw-guard/status")
    assert status["fault"] == ""
    assert status["enabled"]
    assert status["open"] == []


def test_an_unsafe_shape_is_covered_and_a_safe_one_is_drawn(host):
    covered = drawn(host, UNSAFE, batch_size=2)
    assert len(covered) >= 2
    assert not any(unsafe(image) for image in covered)
    matches = [one for image in drawn(host, SAFE) for one in pixels.find(image.resize((64, 64)))]
    assert any((one.colour, one.kind) == ("blue", "star") for one in matches)


def test_a_safe_image_is_the_same_bits_with_the_guard_and_without_its_script(host):
    with_script = drawn(host, SAFE)
    again = drawn(host, SAFE, alwayson_scripts={})
    assert np.array_equal(np.asarray(with_script[0]), np.asarray(again[0]))


def test_a_safe_image_is_the_same_bits_as_with_the_guard_off(host):
    before = call(host, "/sdapi/v1/nsfw-guard/status")
    if before["locked"]:
        pytest.skip("this host's owner locked its settings: the guard cannot be switched off")
    call(host, "/sdapi/v1/options", {"nsfw_guard_enabled": False})
    try:
        plain = drawn(host, SAFE)
        assert unsafe(drawn(host, UNSAFE)[0])
    finally:
        call(host, "/sdapi/v1/options", {"nsfw_guard_enabled": True})
    assert np.array_equal(np.asarray(plain[0]), np.asarray(drawn(host, SAFE)[0]))


def test_an_image_is_checked_once(host):
    before = call(host, "/sdapi/v1/nsfw-guard/status")["counts"]
    drawn(host, UNSAFE, seed=int(time.time()), save_images=True)
    after = call(host, "/sdapi/v1/nsfw-guard/status")["counts"]
    judged = {name: after.get(name, 0) - before.get(name, 0) for name in ("allow", "review", "block", "error")}
    assert judged == {"allow": 0, "review": 0, "block": 1, "error": 0}


WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "grid": ("txt2img", {"n_iter": 2, "batch_size": 2, "return_grid": True, "do_not_save_grid": False}),
    "hires": ("txt2img", {"enable_hr": True, "hr_scale": 2, "hr_upscaler": "Latent", "hr_force": True}),
    "img2img": ("img2img", {"denoising_strength": 0.1}),
    "pasted back around an inpainted corner": ("img2img", {"denoising_strength": 0.5, "inpaint_full_res": True}),
}


@pytest.mark.parametrize("way", WAYS)
def test_no_way_through_the_api_shows_an_unsafe_shape(host, way):
    path, more = WAYS[way]
    if path == "img2img":
        more = {**more, "init_images": [coded(disc())]}
    if "inpaint_full_res" in more:
        mask = Image.new("L", (64, 64))
        mask.paste(255, (0, 0, 6, 6))
        more = {**more, "mask": coded(mask)}
    covered = drawn(host, UNSAFE if path == "txt2img" else "white", path, **more)
    assert covered
    assert not any(unsafe(image) for image in covered)


@pytest.mark.parametrize("path", ["extra-single-image", "process"])
def test_what_is_only_processed_is_judged_too(host, path):
    try:
        payload = call(host, f"/sdapi/v1/{path}", {"image": coded(disc())})
    except urllib.error.HTTPError as error:
        error.close()
        pytest.skip(f"this host has no such way, or its own is broken: {error.code}")
    assert not unsafe(read(payload["image"]))


def test_the_file_on_disk_is_covered_and_a_safe_one_is_not(host):
    for prompt in (UNSAFE, SAFE):
        drawn(host, prompt, save_images=True)
        try:
            payload = call(host, "/sdapi/v1/history")
        except urllib.error.HTTPError as error:
            error.close()
            pytest.skip("this host does not say which files it wrote")
        (last, *_) = [one["outputs"][0] for one in reversed(payload) if one.get("outputs")]
        files = [
            one
            for one in call(host, f"/sdapi/v1/browser/files?folder={os.path.dirname(last)}")
            if last in one.replace("##F##", "/")
        ]
        with Image.open(io.BytesIO(ask(host, f"/file={urllib.parse.quote(files[0].replace('##F##', '/'))}"))) as file:
            seen = pixels.find(file.convert("RGB").resize((64, 64)))
        assert [(one.colour, one.kind) for one in seen] == ([] if prompt == UNSAFE else [("blue", "star")])


@pytest.mark.parametrize("ended", [False, True], ids=["runs on", "interrupted"])
def test_no_preview_shows_anything_and_an_interrupted_job_neither(host, ended):
    if call(host, "/sdapi/v1/nsfw-guard/status")["settings"]["previews"] != "hide":
        pytest.skip("this host does not hide its previews")
    covered: list[Image.Image] = []
    job = threading.Thread(target=lambda: covered.extend(drawn(host, UNSAFE, steps=150)))
    job.start()
    shown: list[Image.Image] = []
    while job.is_alive():
        payload = call(host, "/sdapi/v1/progress?skip_current_image=false").get("current_image")
        if payload:
            shown.append(read(payload))
        if ended and len(shown) == 5:
            ask(host, "/sdapi/v1/interrupt", {})
        time.sleep(0.02)
    job.join()
    assert shown
    assert {len(np.unique(np.asarray(one).reshape(-1, 3), axis=0)) for one in shown} == {1}
    assert covered
    assert not any(unsafe(image) for image in covered)


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
    assert not any(unsafe(image) for image in drawn(host, UNSAFE, **more))


def test_an_image_is_checked_over_http(host):
    payload = call(host, "/sdapi/v1/nsfw-guard/check", {"image": coded(disc())})
    assert payload["outcome"] == "block"


@pytest.mark.parametrize("way", ["tensor", "array", "list", "gif", "mp4", "bytes"])
def test_no_file_of_a_video_shows_an_unsafe_frame(host, way, tmp_path):
    if "/sdapi/v1/shapes/video" not in call(host, "/openapi.json")["paths"]:
        pytest.skip("shapes_for_sdnext is not among this host's extensions")
    payload = call(host, "/sdapi/v1/shapes/video", {"prompts": [SAFE, UNSAFE, SAFE, SAFE], "way": way})
    seen = {}
    for path in payload["files"]:
        file = tmp_path / os.path.basename(path)
        file.write_bytes(ask(host, f"/file={urllib.parse.quote(path)}"))
        seen[path] = frames_of(file)
    assert bool(seen) is (way != "bytes")
    if way in {"tensor", "array", "list"}:
        assert {path.rpartition(".")[2] for path in seen} == {"mp4", "jpg", "safetensors"}
    for path, matches in seen.items():
        assert not any(map(unsafe, matches)), path
    assert any(len(pixels.find(one)) == 1 for matches in seen.values() for one in matches) is (way != "bytes")


def frames_of(file: Path) -> list[Image.Image]:
    """Every image in a file, 64 pixels wide."""
    if file.suffix == ".safetensors":
        from safetensors.numpy import load_file

        return [Image.fromarray(one) for one in load_file(file)["frames"]]
    if file.suffix == ".mp4":
        av = pytest.importorskip("av")
        with av.open(str(file)) as video:
            return [frame.to_image() for frame in video.decode(video=0)]
    with Image.open(file) as image:
        return [frame.convert("RGB").resize((64, 64)) for frame in ImageSequence.Iterator(image)]
