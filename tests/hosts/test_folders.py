"""The folder of extensions that a host really reads, from whatever it is started with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nsfw_guard.errors import ConfigError
from nsfw_guard.hosts.folders import extensions_of, unloaded

NAME = "an-extension"


@pytest.mark.parametrize(("host", "file", "text", "environment", "folder"), [
    ("sdnext", "", "", {}, "own"),
    ("sdnext", "", "", {"SD_DATADIR": "/data"}, "/data/extensions"),
    ("sdnext", "", "", {"SD_DATADIR": "/data", "SD_EXTENSIONSDIR": "/ext"}, "/ext"),
    ("sdnext", "", "", {"COMMANDLINE_ARGS": "--data-dir /data"}, "own"),  # sdnext does not read it
    ("sdnext", "webui-user.sh", "export SD_DATADIR=/data\n", {}, "/data/extensions"),
    ("sdnext", "webui-user.sh", "export SD_DATADIR='/my data'\n", {}, "/my data/extensions"),
    ("sdnext", "run.sh", "./webui.sh --extensions-dir=/ext --data-dir /data\n", {}, "/ext"),
    ("sdnext", "run.ps1", "$env:SD_DATADIR = '/data'\n", {}, "/data/extensions"),
    ("sdnext", "run.sh", "# ./webui.sh --data-dir /data\n", {}, "own"),
    ("sdnext", "run.bat", "rem --data-dir /data\n::--data-dir /b\n", {}, "own"),
    ("sdnext", "run.sh", "./webui.sh --no-data-dir /data --data-dirs /b\n", {}, "own"),
    ("a1111", "", "", {"COMMANDLINE_ARGS": "--xformers --data-dir /data"}, "/data/extensions"),
    ("a1111", "", "", {"SD_DATADIR": "/data"}, "own"),
    ("a1111", "webui-user.sh", 'export COMMANDLINE_ARGS="--api --data-dir /data"\n', {}, "/data/extensions"),
    ("a1111", "webui-user.sh", 'COMMANDLINE_ARGS="--data-dir \\"/my data\\" --api"\n', {}, "/my data/extensions"),
    ("a1111", "webui-user.bat", "set COMMANDLINE_ARGS=--data-dir below\n", {}, "below/extensions"),
    ("comfyui", "run.sh", "python main.py --base-directory /base\n", {}, "/base/custom_nodes"),
    ("comfyui", "../run_nvidia_gpu.bat", "python main.py --base-directory /base\n", {}, "/base/custom_nodes"),
    ("comfyui", "run.sh", "python main.py --listen 127.0.0.1\n", {}, "own"),
])  # fmt: skip
def test_what_a_host_is_started_with_names_its_folder(tmp_path, host, file, text, environment, folder):
    checkout = tmp_path / "host"
    checkout.mkdir()
    if file:
        (checkout / file).write_text(text)
    assert extensions_of(host, checkout, "own", environment) == checkout / folder


def test_two_places_that_agree_are_one_and_two_that_differ_are_refused(tmp_path):
    (tmp_path / "webui-user.sh").write_text("export SD_DATADIR=/data\n")
    assert extensions_of("sdnext", tmp_path, "own", {"SD_DATADIR": "/data"}) == Path("/data/extensions")
    with pytest.raises(ConfigError, match=r"'/other' by SD_DATADIR and '/data' by --data-dir in webui-user.sh; name"):
        extensions_of("sdnext", tmp_path, "own", {"SD_DATADIR": "/other"})


def test_a_folder_that_only_the_start_knows_is_asked_for(tmp_path, monkeypatch):
    (tmp_path / "run.sh").write_text('./webui.sh --data-dir "$WHEREVER_THAT_IS/data"\n')
    with pytest.raises(ConfigError, match="only when the host starts: name the folder with --into"):
        extensions_of("sdnext", tmp_path, "own", {})
    monkeypatch.setenv("WHEREVER_THAT_IS", "/mnt")
    assert extensions_of("sdnext", tmp_path, "own", {}) == Path("/mnt/data/extensions")


@pytest.mark.parametrize(("host", "options", "why"), [
    ("sdnext", {"disabled_extensions": [NAME]}, "config.json"),
    ("sdnext", {"disable_all_extensions": "user"}, "config.json"),
    ("a1111", {"disable_all_extensions": "extra"}, "config.json"),
    ("a1111", {"disabled_extensions": ["another"], "disable_all_extensions": "none"}, ""),
    ("sdnext", {}, ""),
    ("comfyui", {"disabled_extensions": [NAME]}, ""),
])  # fmt: skip
def test_options_that_unload_it_are_seen(tmp_path, host, options, why):
    (tmp_path / "config.json").write_text(json.dumps(options))
    folder = tmp_path / "extensions"
    for checkout in (None, tmp_path):
        assert unloaded(host, checkout, folder, NAME, {}) == (f"switched off by the options in {why}" if why else "")


def test_options_that_cannot_be_read_are_no_all_clear(tmp_path):
    (tmp_path / "config.json").write_text("[")
    assert "perhaps switched off: config.json" in unloaded("sdnext", None, tmp_path / "extensions", NAME, {})


@pytest.mark.parametrize(("host", "text", "why"), [
    ("sdnext", "./webui.sh --safe", "--safe in run.sh"),
    ("sdnext", "./webui.sh --safetensors", ""),
    ("a1111", 'COMMANDLINE_ARGS="--disable-extra-extensions"', "--disable-extra-extensions in run.sh"),
    ("comfyui", "python main.py --disable-all-custom-nodes", "--disable-all-custom-nodes in run.sh"),
])  # fmt: skip
def test_a_start_without_extensions_is_seen(tmp_path, host, text, why):
    (tmp_path / "run.sh").write_text(text + "\n")
    assert unloaded(host, tmp_path, tmp_path / "extensions", NAME, {}) == (f"switched off by {why}" if why else "")
