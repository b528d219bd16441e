"""What the adapter needs of ComfyUI, looked for in checkouts: small ones made here, and a real one if named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nsfw_guard.hosts.comfyui.symbols import missing_comfy_symbols

FILES = {
    "execution.py": "async def get_output_data(prompt_id, unique_id, obj, input_data_all, v3_data=None): ...\n",
    "latent_preview.py": "class LatentPreviewer:\n    def decode_latent_to_preview_image(self, f, x0): ...\n",
    "server.py": "class PromptServer:\n    def __init__(self):\n        PromptServer.instance = self\n"
    "    def add_on_prompt_handler(self, handler): ...\n    def trigger_on_prompt(self, data): ...\n"
    "    def send_sync(self, event, data, sid=None): ...\n",
    "nodes.py": "class SaveImage:\n    OUTPUT_NODE = True\n",
    "comfy_api/latest/_input_impl/video_types.py": "class VideoFromComponents:\n    def get_components(self): ...\n",
    "comfy_api/latest/_util/video_types.py": "class VideoComponents:\n    images: object\n",
}


def checkout(folder: Path, **changed: str) -> Path:
    for name, text in FILES.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(changed.get(Path(name).stem, text))
    return folder


def test_a_checkout_that_fits(tmp_path):
    assert missing_comfy_symbols(checkout(tmp_path)) == []


def test_the_older_places_fit_too(tmp_path):
    checkout(tmp_path)
    (tmp_path / "comfy_api/input_impl").mkdir()
    (tmp_path / "comfy_api/util").mkdir()
    (tmp_path / "comfy_api/latest/_input_impl/video_types.py").rename(tmp_path / "comfy_api/input_impl/video_types.py")
    (tmp_path / "comfy_api/latest/_util/video_types.py").rename(tmp_path / "comfy_api/util/video_types.py")
    (tmp_path / "execution.py").write_text("def get_output_data(obj, input_data_all): ...\n")
    (tmp_path / "server.py").write_text(FILES["server.py"].replace("PromptServer.instance = self", "pass", 1)
                                        + "    instance: object = None\n")  # fmt: skip
    assert missing_comfy_symbols(tmp_path) == []


@pytest.mark.parametrize(("file", "text", "gone"), [
    ("execution", "def run_node(node): ...\n", "execution.py: get_output_data"),
    ("execution", "def get_output_data(node, input_data_all): ...\n", "execution.py: get_output_data(obj)"),
    ("execution", "def get_output_data(obj, batches): ...\n", "execution.py: get_output_data(input_data_all)"),
    ("execution", "def get_output_data(:\n", "execution.py: get_output_data"),
    ("latent_preview", "class Previewer: ...\n", "LatentPreviewer.decode_latent_to_preview_image"),
    ("server", FILES["server.py"].replace("send_sync", "send_now"), "server.py: PromptServer.send_sync"),
    ("server", FILES["server.py"].replace("add_on", "on"), "server.py: PromptServer.add_on_prompt_handler"),
    ("server", FILES["server.py"].replace(".instance", ".only"), "server.py: PromptServer.instance"),
    ("nodes", "class SaveImage: ...\n", "nodes.py: OUTPUT_NODE"),
])  # fmt: skip
def test_what_is_gone_is_named(tmp_path, file, text, gone):
    found = missing_comfy_symbols(checkout(tmp_path, **{file: text}))
    assert len(found) == 1
    assert gone in found[0]


def test_an_empty_folder_has_nothing(tmp_path):
    assert len(missing_comfy_symbols(tmp_path)) == 7
    (tmp_path / "comfy_api").mkdir()
    assert len(missing_comfy_symbols(tmp_path)) == 9


@pytest.mark.skipif(not Path(os.environ.get("NSFW_GUARD_COMFYUI") or "-").is_dir(), reason="names no checkout")
def test_a_real_checkout():
    assert missing_comfy_symbols(Path(os.environ["NSFW_GUARD_COMFYUI"])) == []
