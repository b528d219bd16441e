"""Finds, fetches and verifies weights. safetensors only: nothing is unpickled and no code is run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nsfw_guard.backends.files import hub
from nsfw_guard.backends.files.arguments import check_config, timm_arguments, timm_name
from nsfw_guard.backends.files.header import Shape, bare, shapes_of
from nsfw_guard.backends.files.inside import no_links_out
from nsfw_guard.backends.spec import RepoFiles, is_commit
from nsfw_guard.errors import ModelError, WeightsMissingError, WeightsUnfitError
from nsfw_guard.jsonfile import read_json

CONFIG, WEIGHTS = "config.json", "model.safetensors"
INDEX = "model.safetensors.index.json"  # the shard of each weight, for models that are too large for one file


def cached(source: RepoFiles) -> Path | None:
    """Return the folder of a model in the hub's cache at its commit, or None. Never uses the network.

    Some hosts set a cache folder of their own: models fetched from a shell are in the user's default one.
    """
    from huggingface_hub import constants

    home = Path(constants.default_home) / "huggingface" / "hub"
    return _cached(source, None) or _cached(source, home)


def _cached(source: RepoFiles, cache: Path | None) -> Path | None:
    local = {name: _local(source, name, cache) for name in source.files}
    if WEIGHTS in local and local[WEIGHTS] is None:
        index = _local(source, INDEX, cache)
        local[WEIGHTS] = index if index and all(_local(source, shard, cache) for shard in shards_of(index)) else None
    paths = [path for path in local.values() if path is not None]
    return paths[0].parent if len(paths) == len(local) else None


def _local(source: RepoFiles, name: str, cache: Path | None) -> Path | None:
    """A file in the hub's cache (None: the folder set by the environment), or None."""
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(source.repo, _at(source, name), cache, source.revision or "main")
    return Path(cached) if isinstance(cached, str) else None


def fetch(source: RepoFiles, progress: Callable[[str], None] | None = None, *, local_files_only: bool = False) -> Path:
    """Return the folder of a model, and download it where it is not in the cache.

    A model without a recorded commit is only downloaded by a user's command (with `progress`); the commit fetched then
    is the one that is loaded later.

    Raises:
        WeightsMissingError: there is no network, or the repository cannot be reached.
    """
    if not source.repo:
        raise ModelError(f"{source.name!r} has no repository to fetch from: pass its folder instead")
    here = cached(source) if is_commit(source.revision) or progress is None else None
    if here is not None:
        return here
    if local_files_only:
        raise WeightsMissingError(_no_weights(source, "downloads are turned off (local_files_only)"))
    if not source.revision and progress is None:
        raise WeightsMissingError(_no_weights(source, "no commit is recorded, so it is only fetched by command"))
    path = Path()
    for name in (n for n in source.files if n != WEIGHTS):
        path = _download(source, name, progress)
    for name in source.optional_files:
        try:
            _download(source, name, progress)
        except WeightsMissingError as error:
            if not _not_in_repo(error):
                raise
    # Weights come last, so that a model with weights has all other files.
    return (_bring_weights(source, progress) if WEIGHTS in source.files else path).parent


def _bring_weights(source: RepoFiles, progress: Callable[[str], None] | None) -> Path:
    """One file, or the shards that the index names."""
    try:
        return _download(source, WEIGHTS, progress)
    except WeightsMissingError as error:
        if not _not_in_repo(error):
            raise
    index = _download(source, INDEX, progress)
    for shard in shards_of(index):
        _download(source, shard, progress)
    return index


def _download(source: RepoFiles, name: str, progress: Callable[[str], None] | None) -> Path:
    """A file of the repository, downloaded where it is not in the cache."""
    from huggingface_hub import constants, hf_hub_download

    offline = constants.HF_HUB_OFFLINE or _local(source, name, None) is not None
    if not offline and (away := hub.absence(constants.ENDPOINT)):
        raise WeightsMissingError(_no_weights(source, away))
    if progress is not None:
        progress(_at(source, name))
    try:
        return Path(hf_hub_download(source.repo, _at(source, name), revision=source.revision or None))
    except Exception as error:
        # The hub raises a dozen types (offline, not found, gated, connection ...), which differ by release.
        why = f"{name} could not be fetched ({type(error).__name__}: {' '.join(str(error).split())})"
        raise WeightsMissingError(_no_weights(source, why)) from error


def _not_in_repo(error: WeightsMissingError) -> bool:
    """Whether the repository answered that it has no such file, as opposed to a network error."""
    from huggingface_hub.utils import EntryNotFoundError, LocalEntryNotFoundError

    why = error.__cause__
    return isinstance(why, EntryNotFoundError) and not isinstance(why, LocalEntryNotFoundError)


def shards_of(index: Path) -> tuple[str, ...]:
    """Return the files that an index names, checked to be .safetensors files beside it."""
    try:
        names = sorted(set(read_json(index, error=WeightsUnfitError, most=64 << 20)["weight_map"].values()))
    except (KeyError, TypeError, AttributeError) as error:
        raise WeightsUnfitError(f"{index.name} is unreadable ({error}): fetch it again") from error
    strange = [name for name in names if Path(str(name)).name != name or not name.endswith(".safetensors")]
    if strange or not names:
        raise WeightsUnfitError(
            f"{index.name} must name .safetensors files beside it, got "
            f"{str(strange[0])[:80] if strange else 'no file'!r}: fetch it again"
        )
    return tuple(names)


def weight_files(folder: Path, sha256: str = "") -> tuple[Path, ...]:
    """Return the .safetensors files with a folder's weights: one file, or shards."""
    if (folder / WEIGHTS).is_file():
        return (verify(folder / WEIGHTS, sha256),)
    if (folder / INDEX).is_file():
        if sha256:
            raise WeightsUnfitError(
                f"the recorded SHA-256 is of a single {WEIGHTS}, but {folder.name!r} has shards: join them"
            )
        return tuple(verify(folder / name) for name in shards_of(folder / INDEX))
    others = sorted(path.name for path in folder.glob("*") if path.suffix in {".bin", ".pt", ".pth", ".ckpt"})
    if others:
        raise WeightsUnfitError(
            f"{folder.name!r} has {others[0]} but no {WEIGHTS}: convert it to safetensors, since pickles are not opened"
        )
    raise WeightsMissingError(f"{folder.name!r} has no {WEIGHTS} and no {INDEX}: pass a folder with weights")


def commit_of(folder: Path) -> str:
    """Return the commit of a folder in the hub's cache, or nothing."""
    commits = [part for part in folder.parts if is_commit(part)]
    return commits[-1] if commits else ""


def _at(source: RepoFiles, name: str) -> str:
    return f"{source.subfolder}/{name}" if source.subfolder else name


def _no_weights(source: RepoFiles, why: str) -> str:
    ref = source.name if not source.name.startswith("hf:") else f"'{source.name}'"
    gate = f" Its authors ask you to accept their terms on the page of {source.repo} first." if source.gated else ""
    return (
        f"the weights of {source.name!r} are not in the cache: {why}. Run `nsfw-guard fetch {ref}` where there is a "
        f"network (and unset HF_HUB_OFFLINE), or pass a folder with {' and '.join(source.files)} of {source.repo}."
        f"{gate}"
    )


def read_config(folder: Path) -> dict[str, Any]:
    """Read config.json of a model folder, and check it."""
    path = folder / CONFIG
    if not path.is_file():
        raise WeightsMissingError(f"{folder.name!r} has no {CONFIG}: pass a folder with {CONFIG} and {WEIGHTS}")
    no_links_out(folder)
    config = read_json(path, error=WeightsUnfitError)
    if not {"architecture", "model_type"} & set(config):
        raise WeightsUnfitError(
            f"{CONFIG} in {folder.name!r} has neither 'architecture' (timm) nor 'model_type' (transformers): "
            "export the model in one of these layouts"
        )
    where = f"{CONFIG} in {folder.name!r}"
    if "architecture" in config:
        timm_name(config["architecture"])
        config["model_args"] = timm_arguments(arguments_of(config), what=repr(folder.name))
    else:
        check_config(config, where)
    return config


def arguments_of(config: Mapping[str, Any]) -> Any:
    """Return the network arguments in a configuration in timm's layout, unchecked."""
    args = config.get("model_args")
    pool = {"global_pool": config["global_pool"]} if "global_pool" in config else {}
    return {**args, **pool} if isinstance(args, Mapping) else args or pool


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def verify(path: Path, sha256: str = "") -> Path:
    """Return the path, checked to be an existing .safetensors file with the recorded hash."""
    if path.suffix != ".safetensors":
        raise WeightsUnfitError(f"{path.name!r} is not a .safetensors file, the only supported format: convert it")
    if not path.is_file():
        raise WeightsMissingError(f"{path.name} does not exist in {str(path.parent)!r}: download or export it first")
    if sha256 and sha256_of(path) != sha256:
        raise WeightsUnfitError(f"{path.name} does not have the recorded SHA-256 {sha256[:12]}...: fetch it again")
    return path


def read_weights(path: Path, sha256: str = "") -> dict[str, Tensor]:
    """Read the tensors of a .safetensors file, after checking its hash if one is recorded."""
    shapes_of(verify(path, sha256))
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Tensor] = load_file(path)
    except Exception as error:
        # safetensors raises its own class, which moved between releases, and OSError for a truncated file.
        raise WeightsUnfitError(f"{path.name} is not a complete safetensors file ({error}): fetch it again") from error
    return bare(tensors)


def load_strict(model: torch.nn.Module, tensors: dict[str, Tensor], what: str) -> None:
    """Load the tensors into the model: every key, shape and kind of number must fit, and nothing may be left over."""
    expected = model.state_dict()
    fit_shapes(expected, {name: tuple(tensor.shape) for name, tensor in tensors.items()}, what)
    odd = [name for name in expected if expected[name].is_floating_point() != tensors[name].is_floating_point()]
    if odd:
        raise WeightsUnfitError(
            f"the weights do not fit {what} ({odd[0]} is {tensors[odd[0]].dtype}): export them again"
        )
    model.load_state_dict(tensors, strict=True)


def fit_shapes(expected: Mapping[str, Tensor], shapes: Mapping[str, Shape], what: str) -> None:
    """Raise an error when the shapes of tensors are not exactly those of a network."""
    faults = [f"missing {key}" for key in expected if key not in shapes]
    faults += [f"unexpected {key[:80]}" for key in shapes if key not in expected]
    faults += [
        f"{key} is {shapes[key]}, expected {tuple(expected[key].shape)}"
        for key in expected
        if key in shapes and shapes[key] != tuple(expected[key].shape)
    ]
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise WeightsUnfitError(
            f"the weights do not fit {what} ({'; '.join(faults[:3])}{more}): use weights of this architecture"
        )
