"""The entry file of the custom node, with the package, without it, and where something breaks."""

from __future__ import annotations

import ast
import importlib.util
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nsfw_guard.errors import UncoveredError
from nsfw_guard.hosts.comfyui import session as comfyui
from nsfw_guard.hosts.comfyui.session import Comfy
from nsfw_guard.testing import FakeBackend
from tests.hosts.comfyui.test_session import ASYNC, ROWS
from tests.hosts.fake_comfy import GREEN, RED, FakeComfy, beside, eight, graph, plain

FOLDER = Path(__file__).parents[2] / "integrations/comfyui/ComfyUI-NSFW-Guard"
ENTRY = FOLDER / "__init__.py"


@pytest.fixture
def host(monkeypatch):
    """A host whose modules can be imported, as they can where the entry file runs."""
    for name in list(os.environ):
        if name.startswith("NSFW_GUARD_"):
            monkeypatch.delenv(name)
    result = FakeComfy("async", {"x": plain(RED, count=2)})
    for name in ("execution", "latent_preview", "server"):
        monkeypatch.setitem(sys.modules, name, result.find(name))
    session = Comfy(load=lambda settings: FakeBackend())
    session.guard.configure(replace(session.guard.settings, action="block", previews="check"))
    monkeypatch.setattr(comfyui, "_comfy", session)
    return result


def load():
    """Runs the entry file as the host does."""
    spec = importlib.util.spec_from_file_location("custom_nodes.nsfw_guard_entry", ENTRY)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def hidden(monkeypatch):
    """Without the package."""
    for name in [one for one in sys.modules if one.split(".")[0] == "nsfw_guard"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "nsfw_guard", None)


def test_it_is_small_and_needs_nothing_but_the_package():
    source = ENTRY.read_text()
    assert len(source.splitlines()) <= 150
    names = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name).split(".")[0]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.Import, ast.ImportFrom))
    }
    assert names == {"execution", "functools", "inspect", "logging", "nsfw_guard", "os", "server"}


def test_the_nodes_are_registered_and_nothing_else_is_touched_where_the_owner_says_so(host, monkeypatch, caplog):
    monkeypatch.setenv("NSFW_GUARD_ENFORCE", "0")
    before = host.execution.get_output_data
    with caplog.at_level("INFO"):
        module = load()
    assert [r.getMessage() for r in caplog.records] == [
        "NSFW guard: OFF but for its own nodes, since NSFW_GUARD_ENFORCE is 0"
    ]
    assert set(module.NODE_CLASS_MAPPINGS) == set(module.NODE_DISPLAY_NAME_MAPPINGS) == {"NSFWGuard", "NSFWGuardVideo"}
    assert host.execution.get_output_data is before


def test_it_enforces_says_so_and_may_be_loaded_twice(host, caplog):
    with caplog.at_level("INFO"):
        load()
    said = [r.getMessage() for r in caplog.records]
    assert said == ["NSFW guard: on, on every graph: marqo, block, as chosen"]
    first = host.execution.get_output_data
    load()
    assert host.execution.get_output_data is first
    host.post(beside("SaveImage", "PreviewImage"))
    assert host.left() == 4
    assert host.worst() == 0.0


@pytest.mark.parametrize("flavour", ["oldest", "sync", "async"])
@pytest.mark.parametrize("name", [name for name in ROWS if name not in ASYNC])
@pytest.mark.usefixtures("hidden")
def test_without_the_package_everything_is_covered(host, name, flavour, monkeypatch, caplog):
    result = FakeComfy(flavour, host.given)
    for module in ("execution", "server"):
        monkeypatch.setitem(sys.modules, module, result.find(module))
    monkeypatch.setenv("NSFW_GUARD_ENFORCE", "1")
    module = load()
    load()  # twice does not nest
    assert set(module.NODE_CLASS_MAPPINGS) == {"NSFWGuard", "NSFWGuardVideo"}
    result.post(ROWS[name][0])
    assert result.worst() == 0.0
    assert torch.equal(result.given["x"], plain(RED, count=2))
    assert "pip install nsfw-guard" in caplog.text


@pytest.mark.usefixtures("hidden")
def test_without_the_package_safe_images_are_covered_too(host, monkeypatch):
    monkeypatch.setenv("NSFW_GUARD_ACTION", "blur")  # locked: that enforces
    host.given["x"] = plain(GREEN)
    load()
    host.post(graph("SaveImage"), extra_data={"extra_pnginfo": {"workflow": {"a": [1, "b", None]}}})
    assert not host.sinks["disk"][0].any()
    assert host.metadata[0][1] == {"workflow": {"a": [1, "b", None]}}


@pytest.mark.usefixtures("hidden")
def test_without_the_package_the_nodes_cover_their_branch(host):
    module = load()
    host.nodes |= module.NODE_CLASS_MAPPINGS
    host.post(graph("NSFWGuard", "SaveImage"))
    assert not host.errors
    assert not host.sinks["disk"][0].any()
    host.post(graph("CreateVideo", ("NSFWGuardVideo", "video"), ("SaveVideo", "video")))
    assert not host.sinks["video"]
    assert "pip install" in str(host.errors[0])
    for node in module.NODE_CLASS_MAPPINGS.values():
        assert node.INPUT_TYPES()["required"]
        assert node.CATEGORY


@pytest.mark.parametrize("payload", ["0", "false", " OFF "])
@pytest.mark.usefixtures("hidden")
def test_without_the_package_and_unasked_the_host_is_left_alone(host, monkeypatch, payload):
    monkeypatch.setenv("NSFW_GUARD_ENFORCE", payload)
    before = host.execution.get_output_data
    load()
    assert host.execution.get_output_data is before


@pytest.mark.usefixtures("hidden")
def test_without_the_package_an_unknown_host_is_stopped(host, monkeypatch):
    monkeypatch.setenv("NSFW_GUARD_ENFORCE", "1")
    for call in (lambda *args: None, None):
        host.execution.get_output_data = call
        load()
        with pytest.raises(RuntimeError, match="runs nothing"):
            host.execution.get_output_data(1, 2)


def test_an_unknown_host_is_stopped_by_the_package(host, monkeypatch, caplog):
    monkeypatch.setenv("NSFW_GUARD_ENFORCE", "1")
    host.execution.get_output_data = lambda *args: None
    module = load()
    assert set(module.NODE_CLASS_MAPPINGS) == {"NSFWGuard", "NSFWGuardVideo"}
    with pytest.raises(UncoveredError, match="update"):
        host.execution.get_output_data(1, 2)
    assert "update nsfw-guard" in caplog.text


def test_a_start_that_breaks_covers_everything(host, monkeypatch):
    def breaks():
        raise OSError("broken")

    monkeypatch.setenv("NSFW_GUARD_ENFORCE", "1")
    monkeypatch.setattr(comfyui, "start", breaks)
    host.given["x"] = plain(GREEN)
    load()
    host.post(graph("SaveImage"))
    assert not host.sinks["disk"][0].any()


def test_a_model_that_cannot_load_covers_everything(host, monkeypatch, caplog):
    def missing(settings):
        raise OSError("run `nsfw-guard fetch marqo`")

    monkeypatch.setattr(comfyui, "_comfy", Comfy(load=missing))
    monkeypatch.setenv("NSFW_GUARD_ENFORCE", "1")
    host.given["x"] = plain(GREEN)
    load()
    host.post(graph("SaveImage"))
    assert len(np.unique(host.sinks["disk"][0].reshape(-1, 3), axis=0)) == 1
    assert not np.array_equal(host.sinks["disk"][0], eight(plain(GREEN)[0]))
    assert "nsfw-guard fetch" in caplog.text


def test_what_the_manager_reads():
    payload = (FOLDER / "pyproject.toml").read_text()
    assert "[tool.comfy]" in payload
    assert (FOLDER / "requirements.txt").read_text().split() == ["nsfw-guard"]
    assert "own branch only" in (FOLDER / "README.md").read_text()
