"""Puts an adapter into a host's folder of extensions, looks whether it fits, and takes it out again."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nsfw_guard.errors import ConfigError, UnknownNameError
from nsfw_guard.hosts.folders import extensions_of, unloaded
from nsfw_guard.version import __version__

INSTALL_MARKER = ".nsfw_guard"  # in a folder that was put there by us; holds the version


WEBUI = "webui/sd-webui-nsfw-guard"  # one adapter for sdnext, A1111, Forge and reForge


@dataclass(frozen=True)
class Host:
    """A host: our adapter's folder, where it goes, files by which it is known, and one by which it is another host."""

    adapter: str
    into: str
    known_by: tuple[str, ...]
    foreign: tuple[str, str] = ("", "")  # a file that only another host has, and that host

    @property
    def name(self) -> str:
        """The adapter's own name."""
        return Path(self.adapter).name

    def lies_in(self, folder: Path) -> bool:
        """Return whether a folder holds the host's code."""
        return all((folder / name).is_file() for name in self.known_by)


HOSTS: Mapping[str, Host] = {
    "sdnext": Host(WEBUI, "extensions", ("modules/scripts_manager.py", "installer.py")),
    "a1111": Host(
        WEBUI,
        "extensions",
        ("modules/scripts.py", "modules/processing.py"),
        ("modules/scripts_manager.py", "sdnext"),
    ),
    "comfyui": Host("comfyui/ComfyUI-NSFW-Guard", "custom_nodes", ("nodes.py", "execution.py")),
}


def adapters() -> Path:
    """Return the folder that holds all adapters: in an installed package, or in a checkout."""
    here = Path(__file__).parent / "integrations"
    return here if here.is_dir() else Path(__file__).parent.parent.parent / "integrations"


@dataclass(frozen=True)
class Place:
    """Where an adapter comes from and goes to, and the host's own code, where the path that was given holds it."""

    source: Path
    target: Path
    checkout: Path | None = None


def place(host: str, path: Path, *, into: Path | None = None) -> Place:
    """Finds the folder of extensions that the host reads.

    Args:
        path: the host's folder, its data folder, or its folder of extensions.
        into: the folder of extensions, where it is known better than by the host's start files and environment.
    """
    if host not in HOSTS:
        raise UnknownNameError("host", host, HOSTS)
    one = HOSTS[host]
    source = adapters() / one.adapter
    if not source.is_dir():
        raise ConfigError(f"the adapter for {host} is not in this installation: install nsfw-guard again")
    file, other = one.foreign
    near = (path, path.absolute().parent) if path.name == one.into else (path,)
    checkout = next((folder for folder in near if one.lies_in(folder)), None)
    if file and (((checkout or path) / file).is_file()):
        raise ConfigError(f"{path.name!r} is a folder of {other}: run nsfw-guard integrate {other} ...")
    if into is not None:
        if not into.is_dir():
            raise ConfigError(
                f"--into {str(into)!r} is not a folder: give the folder of extensions that the host reads"
            )
        return Place(source, into / one.name, checkout)
    if checkout is not None:
        folder = extensions_of(host, checkout, one.into)
        if path.name == one.into and path.is_dir() and folder.resolve() != path.resolve():
            raise ConfigError(f"{host} reads its extensions from {str(folder)!r}, not from the folder that was given")
        return Place(source, folder / one.name, checkout)
    folder = path if path.name == one.into else path / one.into
    if not folder.is_dir():
        absent = next(name for name in one.known_by if not (path / name).is_file())
        raise ConfigError(
            f"{path.name!r} is not a folder of {host}: it has neither {absent} nor {one.into}, as a data folder would; "
            "give the folder of the host"
        )
    return Place(source, folder / one.name)


def install(host: str, path: Path, *, link: bool = False, into: Path | None = None) -> Path:
    """Copies or links the adapter; one of ours that is there already is replaced, nothing else ever is."""
    destination = place(host, path, into=into)
    source, target = destination.source, destination.target
    if target.exists() or target.is_symlink():
        if not ours(target, source):
            raise ConfigError(f"{target.name!r} exists and was not put there by nsfw-guard: move it away first")
        remove(host, path, into=into)
    target.parent.mkdir(parents=True, exist_ok=True)
    if link:
        target.symlink_to(source.resolve(), target_is_directory=True)
        return target
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    (target / INSTALL_MARKER).write_text(__version__ + "\n", encoding="utf-8")
    return target


def remove(host: str, path: Path, *, into: Path | None = None) -> Path:
    """Takes the adapter out again."""
    destination = place(host, path, into=into)
    target = destination.target
    if not (target.exists() or target.is_symlink()):
        raise ConfigError(f"there is no {target.name} in {target.parent.name}: nothing to remove")
    if not ours(target, destination.source):
        raise ConfigError(f"{target.name!r} was not put there by nsfw-guard: remove it by hand")
    if target.is_symlink():
        target.unlink()
    else:
        shutil.rmtree(target)
    return target


def ours(target: Path, source: Path) -> bool:
    """Return whether what is there came from here."""
    return target.resolve() == source.resolve() or (not target.is_symlink() and (target / INSTALL_MARKER).is_file())


def examine(host: str, path: Path, *, into: Path | None = None) -> dict[str, object]:
    """Return what is installed there, and which of the host's names that the adapter relies on are gone.

    `new` are callers of what draws, saves or sends images that stand in no row of the exits. Both are None where the
    path holds no code of the host, so that nothing could be looked up.
    """
    from nsfw_guard.hosts.callers import new_callers
    from nsfw_guard.hosts.symbols import missing_symbols

    destination = place(host, path, into=into)
    gone = new = None
    if destination.checkout is not None:
        checkout = destination.checkout
        gone = missing_symbols(checkout, host)
        new = new_callers(checkout, host)
    folder = destination.target.parent
    return {
        "host": host,
        "adapter": _state(host, destination),
        "folder": str(folder),
        "version": __version__,
        "missing": gone,
        "new": new,
    }


def _state(host: str, destination: Place) -> str:
    target, mark = destination.target, destination.target / INSTALL_MARKER
    if not (target.exists() or target.is_symlink()):
        return "not installed"
    if not ours(target, destination.source):
        return "something else is there"
    there = mark.read_text(encoding="utf-8").strip() if mark.is_file() and not target.is_symlink() else __version__
    if there != __version__:
        return f"installed, of version {there}: integrate again"
    if why := unloaded(host, destination.checkout, target.parent, target.name):
        return why
    return "linked" if target.is_symlink() else "installed"
