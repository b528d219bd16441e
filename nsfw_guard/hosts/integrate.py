"""Puts an adapter into a host's folder of extensions, looks whether it fits, and takes it out again."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nsfw_guard.errors import ConfigError, UnknownNameError
from nsfw_guard.version import __version__

MARK = ".nsfw_guard"  # in a folder that was put there by us; holds the version


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


HOSTS: Mapping[str, Host] = {
    "sdnext": Host("sdnext/sd-extension-nsfw-guard", "extensions", ("modules/scripts_manager.py", "installer.py")),
    "a1111": Host(
        "a1111/sd-webui-nsfw-guard",
        "extensions",
        ("modules/scripts.py", "modules/processing.py"),
        ("modules/scripts_manager.py", "sdnext"),
    ),
    "comfyui": Host("comfyui/ComfyUI-NSFW-Guard", "custom_nodes", ("nodes.py", "execution.py")),
}


def adapters() -> Path:
    """The folder that holds all adapters: in an installed package, or in a checkout."""
    here = Path(__file__).parent / "integrations"
    return here if here.is_dir() else Path(__file__).parent.parent.parent / "integrations"


def place(host: str, checkout: Path) -> tuple[Path, Path]:
    """The adapter's folder here, and where it belongs in the host."""
    if host not in HOSTS:
        raise UnknownNameError("host", host, HOSTS)
    one = HOSTS[host]
    source = adapters() / one.adapter
    if not source.is_dir():
        raise ConfigError(f"the adapter for {host} is not in this installation: install nsfw-guard again")
    absent = [name for name in one.known_by if not (checkout / name).is_file()]
    if absent:
        raise ConfigError(
            f"{checkout.name!r} is no folder of {host}: there is no {absent[0]}; give the folder it lies in"
        )
    file, other = one.foreign
    if file and (checkout / file).is_file():
        raise ConfigError(f"{checkout.name!r} is a folder of {other}: nsfw-guard integrate {other} ...")
    return source, checkout / one.into / one.name


def install(host: str, checkout: Path, *, link: bool = False) -> Path:
    """Copies or links the adapter; one of ours that is there already is replaced, nothing else ever is."""
    source, target = place(host, checkout)
    if target.exists() or target.is_symlink():
        if not ours(target, source):
            raise ConfigError(f"{target.name!r} is there already and not from here: move it away first")
        remove(host, checkout)
    target.parent.mkdir(parents=True, exist_ok=True)
    if link:
        target.symlink_to(source.resolve(), target_is_directory=True)
        return target
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    (target / MARK).write_text(__version__ + "\n", encoding="utf-8")
    return target


def remove(host: str, checkout: Path) -> Path:
    """Takes the adapter out again."""
    source, target = place(host, checkout)
    if not (target.exists() or target.is_symlink()):
        raise ConfigError(f"there is no {target.name} in {target.parent.name}: nothing to remove")
    if not ours(target, source):
        raise ConfigError(f"{target.name!r} was not put there by nsfw-guard: remove it by hand")
    if target.is_symlink():
        target.unlink()
    else:
        shutil.rmtree(target)
    return target


def ours(target: Path, source: Path) -> bool:
    """Whether what is there came from here."""
    return target.resolve() == source.resolve() or (not target.is_symlink() and (target / MARK).is_file())


def examine(host: str, checkout: Path) -> dict[str, object]:
    """What is installed there, and which of the host's names that the adapter relies on are gone."""
    from nsfw_guard.hosts.drift import missing
    from nsfw_guard.hosts.drift_comfy import missing_comfy

    source, target = place(host, checkout)
    mark = target / MARK
    if target.is_symlink():
        state = "linked" if ours(target, source) else "something else is there"
    elif mark.is_file():
        there = mark.read_text(encoding="utf-8").strip()
        state = "installed" if there == __version__ else f"installed, of version {there}: integrate again"
    else:
        state = "something else is there" if target.exists() else "not installed"
    gone = missing_comfy(checkout) if host == "comfyui" else missing(checkout, host)
    return {"host": host, "adapter": state, "version": __version__, "missing": gone}
