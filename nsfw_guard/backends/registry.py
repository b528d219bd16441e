"""The registry of models: names and loaders of the built-in models and of plug-ins."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path

import torch

from nsfw_guard.backends.base import Backend, Build, Options, Runtime
from nsfw_guard.backends.files.inside import folder_of, hint, is_path
from nsfw_guard.backends.spec import Label, ModelSpec
from nsfw_guard.errors import ConfigError, UnknownNameError
from nsfw_guard.imaging.preprocess import Resize

log = logging.getLogger(__name__)

GROUP = "nsfw_guard.models"

_models: dict[str, tuple[ModelSpec, Build]] = {}
_lock = threading.RLock()
_filled = False


def register_model(spec: ModelSpec, build: Build) -> None:
    """Register a model under `spec.name`. A name that is taken is refused, so that no model is replaced by accident.

    Example:
        ```python
        spec = replace(load_model("demo-shapes").spec, name="mine")
        register_model(spec, lambda spec, options: load_model("demo-shapes"))
        unregister_model("mine")
        ```
    """
    _fill()
    _add(spec, build)


def unregister_model(name: str) -> None:
    """Remove a model from the registry.

    Example:
        ```python
        register_model(replace(load_model("demo-shapes").spec, name="mine"), lambda *_: load_model("demo-shapes"))
        unregister_model("mine")
        ```
    """
    _fill()
    if _models.pop(name, None) is None:
        raise UnknownNameError("model", name, _models)


def list_models() -> tuple[str, ...]:
    """Return the names that `load_model` knows, sorted.

    Example:
        ```python
        "marqo" in list_models()
        ```
    """
    _fill()
    return tuple(sorted(_models))


def spec(name: str) -> ModelSpec:
    """Return the record of a registered model."""
    return _entry(name)[0]


def load_model(
    ref: str | Path,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype = "float32",
    views: str = "cover",
    resize: Resize = "exact",
    batch_size: int = 32,
    labels: Mapping[str, str | Label | None] | None = None,
    weights: str | Path | None = None,
    runtime: Runtime | None = None,
    local_files_only: bool = False,
    trust_guard: bool = False,
) -> Backend:
    """Load a model and run its self-test.

    Args:
        ref: a name of `list_models()`; a folder with config.json and model.safetensors (or model.onnx, or OpenVINO's
            model.xml), written as a path ("./mine"); "hf:owner/name@commit"; "timm:architecture" with `weights`.
        device, dtype, views, resize, batch_size, runtime, local_files_only, trust_guard: see `Options`.
        labels: the category of each class, for models without a record: {"NSFW": "sexual", "SFW": None}.
        weights: for "timm:" a .safetensors file; for "nudenet" an .onnx file; for a name the folder of its files.

    Example:
        ```python
        backend = load_model("demo-shapes", views="tiles(2)")
        ```
    """
    from nsfw_guard.backends import loaders
    from nsfw_guard.backends.nets import timm_model

    options = Options(
        device=device, dtype=dtype, views=views, resize=resize, batch_size=batch_size, runtime=runtime,
        local_files_only=local_files_only,
        trust_guard=trust_guard,
    )  # fmt: skip
    scheme, _, rest = ("", "", "") if isinstance(ref, Path) else ref.partition(":")
    if scheme == "timm" and rest:
        return timm_model.load_architecture(rest, weights, labels, options)
    elsewhere = scheme == "hf" or is_path(ref)
    if weights is not None and elsewhere:
        raise ConfigError("weights= needs a name or 'timm:architecture': a folder or repository has its own weights")
    if scheme == "hf" and rest:
        return loaders.load_repo(rest, labels, options)
    if elsewhere:
        return loaders.load_folder(folder_of(ref), options, labels)
    record, build = _entry(str(ref))
    if weights is not None:
        return loaders.load_compared(record.with_labels(labels), Path(weights).expanduser(), options)
    return build(record.with_labels(labels), options)


def _entry(name: str) -> tuple[ModelSpec, Build]:
    _fill()
    try:
        return _models[name]
    except KeyError:
        if here := hint(name):
            raise ConfigError(f"{name!r} is not a model of the catalogue: {here}") from None
        raise UnknownNameError("model or folder", name, _models) from None


def _add(record: ModelSpec, build: Build) -> None:
    with _lock:
        if record.name in _models:
            raise ConfigError(f"a model named {record.name!r} is registered already: choose another name")
        _models[record.name] = record, build


def _fill() -> None:
    """Register the built-in models, then those of every plug-in, once: no plug-in takes a known name."""
    global _filled  # noqa: PLW0603
    with _lock:
        if _filled:
            return
        _filled = True
        from nsfw_guard.backends.catalog import classifiers

        classifiers.register_models(_add)
        for hook in entry_points(group=GROUP):
            try:
                hook.load()(_add)
            except Exception as error:  # noqa: BLE001  (a broken plug-in must not take the other models with it)
                log.error("the plug-in %s (%s) could not register its models: %s", hook.name, hook.value, error)
