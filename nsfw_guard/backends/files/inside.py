"""Checks that the files of a model folder are inside it: a link could lead to any file of the machine."""

from __future__ import annotations

from pathlib import Path

from nsfw_guard.errors import ConfigError, WeightsMissingError, WeightsUnfitError

SCHEMES = ("hf:", "timm:")
MAX_NAME_CHARS = 255  # letters of a name, or of one part of a path


def is_path(ref: str | Path) -> bool:
    """Return whether a reference is written as a path. A bare word never is, also where such a file exists."""
    if isinstance(ref, Path):
        return True
    return not ref.startswith(SCHEMES) and (ref.startswith((".", "~")) or "/" in ref or "\\" in ref)


def folder_of(ref: str | Path) -> Path:
    """Return the folder at a path.

    Raises:
        WeightsMissingError: it does not exist.
    """
    try:
        folder = Path(ref).expanduser()
        if folder.is_dir():
            return folder
    except (OSError, ValueError, RuntimeError):  # too long, a NUL, an unknown user's home
        pass
    cure = f", or use 'hf:{ref}@<commit>' for the repository of that name" if _is_repo(str(ref)) else ""
    raise WeightsMissingError(
        f"the folder {short(ref)} does not exist: pass a folder with config.json and weights{cure}"
    )


def _is_repo(ref: str) -> bool:
    """Whether this could be a repository of the hub, owner/name."""
    owner, slash, name = ref.partition("/")
    letters = all(c.isascii() and (c.isalnum() or c in "-_.") for c in owner + name)
    return bool(slash and letters and owner and name) and not ref.startswith((".", "-"))


def hint(name: str) -> str:
    """Return a hint for an unknown model name that is also a folder here; else an empty text."""
    try:
        return f"use './{name}' for the folder here" if name and Path(name).is_dir() else ""
    except (OSError, ValueError):
        return ""


def short(ref: object) -> str:
    """Return a reference for a message, shortened where it is long."""
    text = str(ref)
    return repr(text if len(text) <= MAX_NAME_CHARS else f"{text[:60]}...")


def no_links_out(folder: Path) -> None:
    """Raise an error when a file of a model folder is a link to a file outside it.

    The Hugging Face cache keeps files beside its snapshots and links to them: there the repository is the limit.
    """
    border = border_of(folder)
    try:
        links = [path for path in folder.iterdir() if path.is_symlink()]
        strange = [path.name for path in links if not path.resolve().is_relative_to(border)]
    except (OSError, RuntimeError) as error:  # a circle of links
        raise WeightsUnfitError(f"the files of {folder.name!r} cannot be listed ({error}): copy them again") from error
    if strange:
        raise WeightsUnfitError(
            f"{strange[0]} in {folder.name!r} is a link to a file outside the folder, which is not followed: "
            "put a copy of the file there"
        )


def border_of(folder: Path) -> Path:
    """Return the folder in which the files of this folder must be."""
    home = folder.resolve()
    for parent in home.parents:
        if parent.name == "snapshots" and parent.parent.name.startswith("models--"):
            return parent.parent
    return home


def repo_of(name: str) -> str:
    """Return a checked name of a hub repository, since it becomes part of paths."""
    parts = name.split("/")
    letters = all(c.isascii() and (c.isalnum() or c in "-_.") for part in parts for c in part)
    sane = all(0 < len(part) <= 96 and not part.startswith((".", "-")) and ".." not in part for part in parts)
    if len(parts) > 2 or not letters or not sane:
        raise ConfigError(f"{short(name)} is not a repository name: use 'hf:owner/name@<commit>'")
    return name
