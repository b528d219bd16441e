"""The examples in the docstrings of public names are run, each by itself."""

from __future__ import annotations

import inspect
import re
import textwrap
from dataclasses import replace

import pytest
import torch

import nsfw_guard
from nsfw_guard.backends import build, loaders
from nsfw_guard.demo.shapes import draw, parse
from nsfw_guard.testing import FakeBackend

# What is only ever handed out: nobody builds one of these.
HANDED_OUT = {"Attachment", "AuditReport", "Diagnosis", "Regenerated", "Scores"}
# Written for those who extend the library: CONTRIBUTING.md and the tests show how.
EXTENDED = {"Backend", "EarlyStopCallback", "GuardConfig", "GuardStep", "Listener", "ModelSpec", "NoFeatures"}


def public() -> set[str]:
    return {name for name, home in nsfw_guard._HOME_OF.items() if home != "errors"}


def example(name: str) -> str:
    doc = inspect.getdoc(getattr(nsfw_guard, name)) or ""
    match = re.search(r"^ *Example:\n(?P<block> *```python\n.*?) *```", doc, re.MULTILINE | re.DOTALL)
    return textwrap.dedent(match["block"]).partition("\n")[2] if match else ""


def of_record(spec, *_):
    backend = FakeBackend()
    backend.spec = spec
    return backend


@pytest.fixture(scope="module")
def pipe():
    pytest.importorskip("diffusers")
    from nsfw_guard.demo.run import load_pipeline

    return load_pipeline()


@pytest.mark.parametrize("name", sorted(public() - HANDED_OUT - EXTENDED))
def test_each_public_name_has_an_example_that_runs(name, tmp_path, monkeypatch, tiny, request) -> None:
    if nsfw_guard._HOME_OF[name].startswith("pipelines."):
        pytest.importorskip("diffusers")
    code = example(name)
    assert code, "show how it is called"
    monkeypatch.chdir(tmp_path)
    for loader in ("load_hub", "load_judge"):  # weights that are on no machine of ours
        target = build if loader == "load_judge" else loaders
        monkeypatch.setattr(target, loader, of_record)
    monkeypatch.setattr(build.files, "fetch", lambda *_, **__: tmp_path)
    names = {n: getattr(nsfw_guard, n) for n in public() if re.search(rf"\b{n}\b", code)}
    names |= {"torch": torch, "replace": replace, "loaders": loaders, "folder": tiny}
    names |= {"BlockedError": nsfw_guard.BlockedError, "image": draw(parse("a large red disc on white"))}
    names["guard"] = nsfw_guard.Guard.from_pretrained("demo-shapes")
    if "pipe" in code:
        names["pipe"] = request.getfixturevalue("pipe")
        import diffusers

        names["StableDiffusionPipeline"] = diffusers.StableDiffusionPipeline
    exec(compile(code, name, "exec"), names)  # noqa: S102 - our own words


def test_names_that_need_no_example_are_public() -> None:
    assert public() >= HANDED_OUT | EXTENDED
