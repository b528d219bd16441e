"""The symbols that the adapters rely on, in checkouts made here, and in real ones where the environment names them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from nsfw_guard.errors import ConfigError
from nsfw_guard.hosts import symbols
from nsfw_guard.hosts.comfyui.enforce import NEEDED

REAL = {"sdnext": "NSFW_GUARD_SDNEXT", "a1111": "NSFW_GUARD_A1111", "comfyui": "NSFW_GUARD_COMFYUI"}


def written(folder: Path, host: str, without: str = "") -> Path:
    """A checkout that has every symbol of the table but one."""
    texts: dict[str, dict[str, list[str]]] = {}
    for symbol, files in symbols.SYMBOLS[host].items():
        if symbol == without:
            continue
        path, _, argument = symbol.rstrip(")").partition("(")
        owner, _, name = path.rpartition(".")
        texts.setdefault(files[0], {}).setdefault(owner, []).append(line(owner, name, argument))
    for file, owners in texts.items():
        body = [row for owner, rows in owners.items() for row in ([f"class {owner}:", *rows] if owner else rows)]
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text("raise SystemExit('nothing of this may run')\n" + "\n".join(body))
    return folder


def line(owner: str, name: str, argument: str) -> str:
    indent = "    " if owner else ""
    if argument or name.startswith(("on_", "run_", "is_")):
        return f"{indent}def {name}({'self, ' if owner else ''}{argument}): ..."
    return f"{indent}{name} = None"


@pytest.mark.parametrize("host", sorted(REAL))
def test_a_checkout_that_has_everything_misses_nothing(host, tmp_path):
    assert symbols.missing_symbols(written(tmp_path, host), host) == []


@pytest.mark.parametrize(("host", "symbol"), [(host, symbol) for host in REAL for symbol in symbols.SYMBOLS[host]])
def test_one_that_is_gone_is_named_with_its_files(host, symbol, tmp_path):
    (line,) = symbols.missing_symbols(written(tmp_path, host, symbol), host)
    assert line.startswith(f"{symbol} (")
    assert symbols.SYMBOLS[host][symbol][0] in line


def test_an_older_comfyui_has_no_videos_to_look_for(tmp_path):
    folder = written(tmp_path, "comfyui")
    shutil.rmtree(folder / "comfy_api")
    assert symbols.missing_symbols(folder, "comfyui") == []


def test_the_older_place_of_a_symbol_counts(tmp_path):
    folder = written(tmp_path, "comfyui", "VideoComponents.images")
    old = folder / "comfy_api/util/video_types.py"
    old.parent.mkdir(parents=True)
    old.write_text("class VideoComponents:\n    images: object\n")
    assert symbols.missing_symbols(folder, "comfyui") == []


def test_an_attribute_that_is_set_through_the_name_of_the_class_counts(tmp_path):
    folder = written(tmp_path, "comfyui", "PromptServer.instance")
    with (folder / "server.py").open("a") as file:
        file.write("\nclass PromptServer:\n    def __init__(self):\n        PromptServer.instance = self\n")
    assert symbols.missing_symbols(folder, "comfyui") == []


def test_the_table_holds_every_parameter_that_the_hook_binds():
    assert {f"get_output_data({name})" for name in NEEDED} <= set(symbols.SYMBOLS["comfyui"])


def test_attributes_that_are_set_in_a_method_count(tmp_path):
    folder = written(tmp_path, "a1111", "Processed.images")
    with (folder / "modules/processing.py").open("a") as file:
        file.write("\nclass Processed:\n    def __init__(self, infotexts):\n        self.images: list = []\n")
    assert symbols.missing_symbols(folder, "a1111") == []


def test_a_file_that_is_no_python_has_nothing(tmp_path):
    folder = written(tmp_path, "sdnext")
    (folder / "installer.py").write_text("def (")
    assert [line.partition(" ")[0] for line in symbols.missing_symbols(folder, "sdnext")] == ["control_extensions"]


def test_another_host_or_no_folder_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="sdnext"):
        symbols.missing_symbols(tmp_path, "sdnextt")
    with pytest.raises(ConfigError, match="is not a folder"):
        symbols.missing_symbols(tmp_path / "none", "sdnext")


@pytest.mark.parametrize("host", sorted(REAL))
def test_a_real_checkout_has_everything(host):
    named = os.environ.get(REAL[host], "")
    if not Path(named or "/nowhere").is_dir():
        pytest.skip(f"set {REAL[host]} to a checkout")
    assert symbols.missing_symbols(Path(named), host) == []
