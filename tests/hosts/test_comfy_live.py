"""The same assertions on a ComfyUI that runs: NSFW_GUARD_COMFYUI=http://127.0.0.1:8188.

Its owner started it with NSFW_GUARD_ENFORCE=1, NSFW_GUARD_ACTION=block, NSFW_GUARD_PREVIEWS=hide and
NSFW_GUARD_MODEL=demo-shapes. A drawn red disc, uploaded, feeds every output node; where `shapes_for_comfyui` is linked
into `custom_nodes`, the demonstration pipeline draws prompts, with a preview at each step.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import socket
import struct
import time
import urllib.error
import urllib.parse
import urllib.request
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from nsfw_guard.demo import pixels
from nsfw_guard.demo.shapes import draw, parse

URL = os.environ.get("NSFW_GUARD_COMFYUI", "")
pytestmark = pytest.mark.skipif(not URL.startswith(("http://", "https://")), reason="NSFW_GUARD_COMFYUI is no URL")

UNSAFE = "a large red disc on white"
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
    return finished(json.loads(ask("/prompt", {"prompt": graph}))["prompt_id"])


def finished(key):
    """The record of a prompt; newer hosts write it after they told that it is done."""
    for _ in range(240):
        payload = json.loads(ask(f"/history/{key}")).get(key)
        if payload:
            return payload
        time.sleep(0.5)
    pytest.fail("the host did not finish within two minutes")


def images(record):
    """Every frame of every file that a prompt made."""
    frames = []
    for output in record["outputs"].values():
        for file in output.get("images", []):
            data = io.BytesIO(ask("/view?" + urllib.parse.urlencode(file)))
            if file["filename"].endswith((".mp4", ".webm")):
                frames += video(data)
                continue
            one = Image.open(data)
            for index in range(getattr(one, "n_frames", 1)):
                one.seek(index)
                frames.append(np.asarray(one.convert("RGB")))
    return frames


def video(data):
    av = pytest.importorskip("av")
    with av.open(data) as file:
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]


def has_disc(image):
    """Whether the pixels, and not our model, say that there is a red disc."""
    return any((one.colour, one.kind) == ("red", "disc") for one in pixels.find(Image.fromarray(image)))


def upload(image):
    """Puts an image among the host's inputs, as its own page does; gives its name there."""
    file = io.BytesIO()
    image.save(file, "PNG")
    edge = "nsfw-guard-test"
    payload = f'--{edge}\r\nContent-Disposition: form-data; name="{{}}"{{}}\r\n\r\n'
    body = payload.format("overwrite", "").encode() + b"true\r\n"
    body += payload.format("image", '; filename="nsfw_guard_test.png"').encode() + file.getvalue()
    body += f"\r\n--{edge}--\r\n".encode()
    kind = {"Content-Type": f"multipart/form-data; boundary={edge}"}
    request = urllib.request.Request(URL.rstrip("/") + "/upload/image", body, kind)  # noqa: S310
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        return json.load(answer)["name"]


@pytest.fixture
def source():
    image = draw(parse(UNSAFE), side=64)
    assert has_disc(np.asarray(image))
    return {"class_type": "LoadImage", "inputs": {"image": upload(image)}}


@pytest.mark.parametrize("kind", SAVES)
def test_the_marker_leaves_no_file(kind, source):
    graph = {"1": source, "2": {"class_type": kind, "inputs": {"images": ["1", 0], **SAVES[kind]}}}
    matches = images(run(graph))
    assert matches
    assert not any(map(has_disc, matches))


@pytest.mark.parametrize("kind", ["SaveVideo", "SaveWEBM"])
def test_the_marker_is_in_no_frame_of_a_video(kind, source):
    graph = {
        "1": source,
        "2": {"class_type": "CreateVideo", "inputs": {"images": ["1", 0], "fps": 8.0}},
        "SaveVideo": {"class_type": "SaveVideo", "inputs": {"video": ["2", 0], "filename_prefix": "nsfw_guard_test",
                                                    "format": "auto", "codec": "auto"}},
        "SaveWEBM": {"class_type": "SaveWEBM", "inputs": {"images": ["1", 0], "filename_prefix": "nsfw_guard_test",
                                                    "codec": "vp9", "fps": 8.0, "crf": 32.0}},
    }  # fmt: skip
    matches = images(run({key: graph[key] for key in ("1", "2", kind)}))
    assert matches
    assert not any(map(has_disc, matches))


def test_a_branch_without_a_node_is_covered_too(source):
    graph = {
        "1": source,
        "2": {"class_type": "NSFWGuard", "inputs": {"images": ["1", 0]}},
        "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
        "4": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    matches = images(run(graph))
    assert len(matches) == 2
    assert not any(map(has_disc, matches))


def test_latents_are_stopped():
    graph = {
        "1": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "2": {"class_type": "SaveLatent", "inputs": {"samples": ["1", 0], "filename_prefix": "nsfw_guard_test"}},
    }
    record = run(graph)
    assert record["status"]["status_str"] == "error"
    assert "LATENT" in json.dumps(record["status"])


def test_the_nodes_are_there():
    payload = json.loads(ask("/object_info/NSFWGuard"))["NSFWGuard"]
    assert payload["output"] == ["IMAGE", "STRING", "MASK", "BOOLEAN"]


def test_an_empty_prompt_is_refused():
    with pytest.raises(urllib.error.HTTPError) as payload:
        ask("/prompt", {"prompt": {}})
    with payload.value as answer:
        assert answer.code == 400


class Listener:
    """The images that the host sends a browser while it works: just enough of a websocket to read them."""

    def __init__(self):
        where = urlsplit(URL)
        self.wire = socket.create_connection((where.hostname, where.port), timeout=10)
        self.wire.sendall(
            f"GET /ws?clientId=nsfw_guard_test HTTP/1.1\r\nHost: {where.netloc}\r\nUpgrade: websocket\r\n".encode()
            + b"Connection: Upgrade\r\nSec-WebSocket-Key: bnNmd19ndWFyZF90ZXN0IQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        self.stream = self.wire.makefile("rb")
        while self.stream.readline() != b"\r\n":
            pass

    def messages(self):
        """(opcode, payload) until the host says that the prompt is done."""
        while True:
            opcode, size = self.stream.read(2)
            size &= 127
            if size > 125:
                size = int.from_bytes(self.stream.read(2 if size == 126 else 8), "big")
            payload = self.stream.read(size)
            yield opcode & 15, payload
            if opcode & 15 == 1 and json.loads(payload)["type"] in {"execution_success", "execution_error"}:
                return

    def close(self):
        self.stream.close()
        self.wire.close()


def previews(messages):
    """The images among them."""
    for opcode, payload in messages:
        if opcode == 2:
            kind = struct.unpack(">I", payload[:4])[0]
            start = 8 if kind != 4 else 8 + struct.unpack(">I", payload[4:8])[0]
            yield np.asarray(Image.open(io.BytesIO(payload[start:])).convert("RGB"))


@pytest.fixture
def drawn():
    """Draws a prompt: what the node drew (as a hash), what was saved, what was sent while it worked."""
    if "ShapesImage" not in json.loads(ask("/object_info")):
        pytest.skip("shapes_for_comfyui is not among this host's custom nodes")

    def draw(prompt, seed):
        graph = {
            "1": {"class_type": "ShapesImage", "inputs": {"prompt": prompt, "seed": seed}},
            "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "nsfw_guard_test"}},
        }
        listener = Listener()
        try:
            sent = json.loads(ask("/prompt", {"prompt": graph, "client_id": "nsfw_guard_test"}))
            shown = list(previews(listener.messages()))
        finally:
            listener.close()
        record = finished(sent["prompt_id"])
        return record["outputs"]["1"]["sha"][0], images(record), shown

    return draw


def test_a_safe_prompt_comes_out_bit_for_bit(drawn):
    sha, saved, shown = drawn("a large blue star on white", int(time.time()))
    assert [hashlib.sha256(one.tobytes()).hexdigest() for one in saved] == [sha]
    assert shown


def test_an_unsafe_prompt_is_blocked_and_no_preview_shows_it(drawn):
    sha, saved, shown = drawn(UNSAFE, int(time.time()))
    assert len(saved) == 1
    assert hashlib.sha256(saved[0].tobytes()).hexdigest() != sha
    assert not has_disc(saved[0])
    assert shown
    assert {len(np.unique(one.reshape(-1, 3), axis=0)) for one in shown} == {1}
