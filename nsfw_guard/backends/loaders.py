"""Which function loads which kind of model, and where its files are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from nsfw_guard.backends.base import Backend, Options
from nsfw_guard.backends.files import packages, weights
from nsfw_guard.backends.files.answers import compared
from nsfw_guard.backends.files.folder import also_of, files_of, kind_of, read_spec
from nsfw_guard.backends.files.inside import repo_of, short
from nsfw_guard.backends.files.ir_file import IR
from nsfw_guard.backends.judges import judge
from nsfw_guard.backends.layers import layers_model
from nsfw_guard.backends.nets import (
    checker_model,
    hf_model,
    laion_model,
    onnx_model,
    open_nsfw,
    openvino_model,
    timm_model,
    zeroshot,
)
from nsfw_guard.backends.nets.exported import ONNX
from nsfw_guard.backends.nudenet import nudenet
from nsfw_guard.backends.spec import Label, ModelSpec, RepoFiles, is_commit
from nsfw_guard.errors import ConfigError

Load = Callable[[ModelSpec, Path, Options], Backend]
KINDS: Mapping[str, Load] = {
    "timm": timm_model.load_files,
    "transformers": hf_model.load_files,
    "checker": checker_model.load_files,
    "laion": laion_model.load_files,
    "zeroshot": zeroshot.load_files,
    "judge": judge.load_files,
    "nudenet": nudenet.load_files,
    "open-nsfw": open_nsfw.load_files,
    "layers": layers_model.load_files,
}
# An exported network takes the place of torch's in these layouts.
RUNTIMES: Mapping[str, Load] = {"onnx": onnx_model.load_files, "openvino": openvino_model.load_files}
EXPORTED = ("timm", "transformers")
PUBLISHED = ("open-nsfw",)  # what its authors publish is a file that ONNX Runtime runs, or torch with its numbers


def load_files(spec: ModelSpec, folder: Path, options: Options) -> Backend:
    """Return the model whose files are in a folder, tested. What the record says must be what the folder says."""
    runtime = _runtime(spec, folder, options)
    load = RUNTIMES.get(runtime) or KINDS.get(spec.kind)
    if load is None:
        raise ConfigError(
            f"{spec.name!r} is built by a plug-in (kind {spec.kind!r}), which takes no folder: leave weights out"
        )
    return load(spec, folder, options)


def _runtime(spec: ModelSpec, folder: Path, options: Options) -> str:
    """What runs the model: what was asked for, else what its files say."""
    if spec.kind in EXPORTED:
        files = {weights.WEIGHTS: "torch", ONNX: "onnx", IR: "openvino"}
        runs = (runtime for name, runtime in files.items() if (folder / name).is_file())
        return options.runtime or next(runs, "torch")
    if spec.kind in PUBLISHED:
        if options.runtime == "openvino":
            raise ConfigError(f"{spec.name!r} does not run in OpenVINO: use runtime='torch' or runtime='onnx'")
        return ""
    if spec.kind != "nudenet" and options.runtime in RUNTIMES:
        raise ConfigError(
            f"{spec.name!r} runs in torch only: runtime={options.runtime!r} is for folders in the layout of "
            f"{' or '.join(EXPORTED)}, leave it out"
        )
    return ""


def load_folder(folder: Path, options: Options, labels: Mapping[str, str | Label | None] | None = None) -> Backend:
    """Return the model in a folder, tested."""
    return load_files(read_spec(folder, labels, trust_guard=options.trust_guard), folder, options)


def load_compared(spec: ModelSpec, folder: Path, options: Options) -> Backend:
    """Return a recorded model, compared with the answers that this machine has recorded, if its record has none."""
    with compared(spec) as known:
        return load_files(known, folder, options)


def load_hub(spec: ModelSpec, options: Options) -> Backend:
    """Return a recorded model, from the cache or the hub."""
    folder = weights.fetch(spec, local_files_only=options.local_files_only)
    spec = spec if spec.revision else replace(spec, revision=weights.commit_of(folder))
    return load_compared(spec, folder, options)


def load_package(spec: ModelSpec, options: Options) -> Backend:
    """Return a recorded model whose weights were fetched out of a package."""
    return load_compared(spec, packages.local(spec), options)


def load_repo(rest: str, labels: Mapping[str, str | Label | None] | None, options: Options) -> Backend:
    """Return any repository in timm's or transformers' layout: "owner/name@commit"."""
    folder = fetch_repo(rest, runtime=options.runtime, local_files_only=options.local_files_only)
    repo, _, revision = rest.partition("@")
    spec = replace(
        read_spec(folder, labels, trust_guard=options.trust_guard), name=f"hf:{repo}", repo=repo, revision=revision
    )
    return load_compared(spec, folder, options)


def fetch_repo(
    rest: str,
    progress: Callable[[str], None] | None = None,
    *,
    runtime: str | None = None,
    local_files_only: bool = False,
) -> Path:
    """Return the folder of a repository, from the cache or the hub. Its config comes first: it says which files there
    are.
    """
    repo, _, revision = rest.partition("@")
    repo_of(repo)
    if not is_commit(revision):
        raise ConfigError(
            f"{short(f'hf:{rest}')} is not pinned: use 'hf:{repo}@<commit>' with the 40 characters of its commit"
        )
    named = RepoFiles(name=f"hf:{rest}", repo=repo, revision=revision, files=(weights.CONFIG,))
    kind = kind_of(weights.read_config(weights.fetch(named, progress, local_files_only=local_files_only)))
    network = ONNX if runtime in RUNTIMES else weights.WEIGHTS
    whole = replace(named, files=files_of(kind, network), optional_files=also_of(kind))
    return weights.fetch(whole, progress, local_files_only=local_files_only)
