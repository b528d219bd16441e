"""Where a host looks for its extensions: in its own folder, or where its options, environment or start file say."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from nsfw_guard.errors import ConfigError, NsfwGuardError
from nsfw_guard.jsonfile import read_json

STARTS = ("*.sh", "*.bat", "*.cmd", "*.ps1")
MAX_START_FILE_BYTES = 1 << 20  # bytes of a start file
COMMENTS = ("#", "::", "rem ", "@rem ")
VALUE = r"""(?:"([^"]+)"|'([^']+)'|([^\s"']+))"""
DISABLED, ALL_DISABLED = "disabled_extensions", "disable_all_extensions"


@dataclass(frozen=True)
class FolderOption:
    """A start option that moves the folder of extensions, with the variable that stands for it, where there is one."""

    option: str
    below: str = ""  # where the extensions are in the folder that it names
    variable: str = ""


# Of several the first that is given decides.
MOVES: Mapping[str, tuple[FolderOption, ...]] = {
    "sdnext": (
        FolderOption("--extensions-dir", variable="SD_EXTENSIONSDIR"),
        FolderOption("--data-dir", "extensions", "SD_DATADIR"),
    ),
    "a1111": (FolderOption("--data-dir", "extensions"),),
    "comfyui": (FolderOption("--base-directory", "custom_nodes"),),
}
UNLOADS: Mapping[str, tuple[str, ...]] = {
    "sdnext": ("--safe",),
    "a1111": ("--disable-all-extensions", "--disable-extra-extensions"),
    "comfyui": ("--disable-all-custom-nodes",),
}


@dataclass(frozen=True)
class Text:
    """Words that a host is started with, and where they stand."""

    name: str
    words: str


def extensions_of(host: str, checkout: Path, default: str, environment: Mapping[str, str] | None = None) -> Path:
    """Gives the folder of extensions that this checkout reads when it is started.

    Args:
        default: the folder inside the checkout that is read where nothing moves it.
        environment: in place of the process's own.

    Raises:
        ConfigError: two places name two folders, or one that depends on how the host is started.

    Example:
        >>> extensions_of("sdnext", Path("sdnext"), "extensions", {"SD_DATADIR": "/data"})
        PosixPath('/data/extensions')
    """
    environ = os.environ if environment is None else environment
    texts = list(_texts(host, checkout, environ))
    for moves in MOVES[host]:
        folders = {value: where for where, value in _values(moves, texts, environ)}
        if not folders:
            continue
        if len(folders) > 1:
            (first, one), (second, other) = list(folders.items())[:2]
            raise ConfigError(
                f"two folders of extensions are named: {first!r} by {one} and {second!r} by {other}; "
                "name the one that the host reads with --into"
            )
        ((value, where),) = folders.items()
        if re.search(r"[$%]", expanded := os.path.expandvars(os.path.expanduser(value))):
            raise ConfigError(
                f"{where} names {value!r}, which is known only when the host starts: name the folder with --into"
            )
        return checkout / expanded / moves.below  # an absolute one stands for itself
    return checkout / default


def unloaded(
    host: str, checkout: Path | None, folder: Path, name: str, environment: Mapping[str, str] | None = None
) -> str:
    """Return why the host would not load the extension `name` from this folder, as far as its files say; nothing if it
    would.

    Args:
        checkout: the host's code, where it is known.
        folder: the folder of extensions that the host reads.
    """
    environ = os.environ if environment is None else environment
    for text in _texts(host, checkout, environ):
        words = text.words.replace('"', " ").replace("'", " ").split()
        if given := next((option for option in UNLOADS[host] if option in words), ""):
            return f"switched off by {given} in {text.name}"
    config = folder.parent / "config.json"
    if host == "comfyui" or not config.is_file():
        return ""
    try:
        options = read_json(config)
    except NsfwGuardError as error:
        return f"perhaps switched off: {error}"
    listed = options.get(DISABLED) or ()
    if options.get(ALL_DISABLED, "none") not in {"none", None} or name in listed:
        return "switched off by the options in config.json"
    return ""


def _texts(host: str, checkout: Path | None, environment: Mapping[str, str]) -> Iterator[Text]:
    """The start files beside a host (a portable ComfyUI has them above it), and the words that its environment adds."""
    if host == "a1111" and (words := environment.get("COMMANDLINE_ARGS")):
        yield Text("COMMANDLINE_ARGS", words)
    if checkout is None:
        return
    for folder in (checkout, checkout.absolute().parent) if host == "comfyui" else (checkout,):
        for pattern in STARTS:
            for file in sorted(folder.glob(pattern)):
                yield Text(file.name, _read(file))


def _read(file: Path) -> str:
    """A start file without its comments."""
    try:
        with file.open("rb") as stream:
            lines = stream.read(MAX_START_FILE_BYTES).decode("utf-8", "replace").replace('\\"', '"').splitlines()
    except OSError:
        return ""
    return "\n".join(line for line in lines if not line.strip().lower().startswith(COMMENTS))


def _values(moves: FolderOption, texts: list[Text], environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Whatever names a folder by this option or variable: where it stands, and the folder."""
    if moves.variable and (value := environment.get(moves.variable)):
        yield moves.variable, value
    patterns = [rf"(?<![\w-]){moves.option}(?:\s*=\s*|\s+){VALUE}"]
    if moves.variable:
        patterns.append(rf'\b{moves.variable}["\']?\s*=\s*{VALUE}')
    for text in texts:
        for pattern in patterns:
            for match in re.finditer(pattern, text.words):
                yield f"{moves.option} in {text.name}", next(group for group in match.groups() if group)
