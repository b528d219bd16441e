"""The doctor says what there is, and what should be mended."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from nsfw_guard.backends import registry
from nsfw_guard.backends.catalog.classifiers import MARQO
from nsfw_guard.backends.catalog.packages import OPEN_NSFW
from nsfw_guard.testing import red_model
from nsfw_guard.tools import doctor


def test_versions_are_those_that_are_installed() -> None:
    assert doctor.installed("torch") == version("torch")
    assert doctor.installed("pillow") == version("pillow")
    assert doctor.installed("nsfw-guard-no-such-package") == "not installed"


@pytest.mark.parametrize(("cached", "said"), [(Path("here"), "in the cache"), (None, "to be fetched")])
def test_weights_are_reported_as_present_or_missing(
    cached: Path | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor.weights, "cached", lambda spec: cached)
    assert doctor.where(MARQO) == said
    assert doctor.where(red_model()) == "built in"


@pytest.mark.parametrize(("cached", "said"), [(Path("here"), "in the cache"), (None, "to be fetched")])
def test_weights_in_a_package_are_reported_as_present_or_missing(
    cached: Path | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor.packages, "cached", lambda spec: cached)
    assert doctor.where(OPEN_NSFW) == said


def test_devices_begin_with_the_cpu() -> None:
    devices = doctor.devices()
    assert devices[0] == "cpu"
    assert len([name for name in devices if name.startswith("cuda:")]) == torch.cuda.device_count()


def test_devices_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"card {index}")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch, "xpu", SimpleNamespace(is_available=lambda: True), raising=False)
    assert doctor.devices() == ["cpu", "cuda:0 card 0", "cuda:1 card 1", "mps", "xpu"]


def test_everything_is_examined() -> None:
    report = doctor.examine()
    assert report["python"] == platform.python_version()
    assert {package: report[package] for package in doctor.PACKAGES} == {
        package: doctor.installed(package) for package in doctor.PACKAGES
    }
    assert report["devices"].startswith("cpu")
    assert {key for key in report if key.startswith("model ")} == {f"model {name}" for name in registry.list_models()}
    assert all(isinstance(value, str) and value for value in report.values())


@pytest.mark.parametrize(("agrees", "said"), [(True, "agrees with this Pillow"), (False, "its resize changed")])
def test_the_method_of_resizing_is_reported(agrees: bool, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "matrix_is_pillow", lambda: agrees)
    assert said in doctor.examine()["exact resize"]


def test_a_vulnerable_pillow_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "pillow_is_old", lambda: True)
    assert [w.endswith("install pillow>=13.0.0 before opening untrusted files") for w in doctor.warnings()] == [True]
    monkeypatch.setattr(doctor, "pillow_is_old", lambda: False)
    assert doctor.warnings() == []
