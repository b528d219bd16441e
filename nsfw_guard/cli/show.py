"""Output of the commands: tables for people, JSON for machines."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from nsfw_guard.errors import ConfigError, printable

T = TypeVar("T")


def table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> None:
    """Print aligned columns; the last one may have any width."""
    rows = [[clean(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header) - 1)]
    for row in (header, *rows):
        line = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        print("  ".join([*line, row[-1]]).rstrip())


def clean(text: str) -> str:
    """Return text with its control characters escaped, for a terminal."""
    return printable(text)


def as_json(value: Any) -> None:
    """Print one JSON value on one line."""
    print(json.dumps(value, sort_keys=True))


def say(message: str) -> None:
    """Print a message to standard error."""
    print(clean(message), file=sys.stderr)


def progress(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Yield the items, with a progress bar on a terminal."""
    if not sys.stderr.isatty():
        yield from items
        return
    from tqdm import tqdm

    yield from tqdm(items, total=total, unit=f" {what}", file=sys.stderr, leave=False)


def on_terminal() -> bool:
    """Return whether messages go to a terminal."""
    return sys.stderr.isatty()


def status(message: str, *, last: bool = False) -> None:
    """Print a line that the next one replaces on a terminal; elsewhere it is a line of its own."""
    if on_terminal():
        print(f"\r\x1b[K{clean(message)}", end="\n" if last else "", file=sys.stderr, flush=True)
    else:
        say(message)


def json_flag(command: argparse.ArgumentParser) -> None:
    """Add --json."""
    command.add_argument("--json", action="store_true", help="print JSON, one value per line")


def read_key(file: str | None) -> bytes | None:
    """Read the key of an audit log; one newline at its end is not part of it."""
    if file is None:
        return None
    try:
        key = Path(file).read_bytes().removesuffix(b"\n").removesuffix(b"\r")
    except OSError as error:
        raise ConfigError(f"the key file cannot be read ({error.strerror}): check the path") from error
    if not key:
        raise ConfigError("the key file is empty: write the key of the log into it, or pass no key file")
    return key


def model_flags(command: argparse.ArgumentParser) -> None:
    """Add --model, --policy, --calibration and --bank."""
    command.add_argument("--model", default="marqo", metavar="NAME|FOLDER", help="the model (default: marqo)")
    command.add_argument("--policy", default="default", metavar="NAME|FILE", help="a preset or a TOML file")
    command.add_argument("--calibration", metavar="FILE", help="what calibrate has written")
    command.add_argument("--bank", metavar="DIR", help="examples that block or allow images like them (see bank)")


def run_flags(command: argparse.ArgumentParser) -> None:
    """Add --device, --trust-guard and --process."""
    command.add_argument("--device", help="cpu, cuda, cuda:1, mps (default: cpu for files)")
    command.add_argument("--trust-guard", action="store_true", help="accept a model folder that relaxes its own guard")
    command.add_argument(
        "--process", action="store_true", help="decode in a separate process, for untrusted files (see Limits)"
    )


def look_flags(command: argparse.ArgumentParser, *, several: bool = False) -> None:
    """Add --views, --resize and --batch; several views are a list, and None where none was named."""
    if several:
        command.add_argument(
            "--views",
            action="append",
            help="cover, center, squash, content or tiles(n) (default: cover); repeat it to compare",
        )
    else:
        command.add_argument(
            "--views", default="cover", help="cover, center, squash, content or tiles(n) (default: cover)"
        )
    command.add_argument("--resize", choices=("exact", "fast"), default="exact", help="exact as Pillow, or fast")
    command.add_argument("--batch", type=int, default=16, metavar="N", help="images per batch (default: 16)")


def looks(args: argparse.Namespace) -> dict[str, tuple[str, str]]:
    """Return each model with each of several --views, by its name, and that of the views where there are several."""
    all_views = list(dict.fromkeys(args.views or ["cover"]))
    return {
        model if len(all_views) == 1 else f"{model}, {views}": (model, views)
        for model in dict.fromkeys(args.model or ["marqo"])
        for views in all_views
    }


def label_flag(command: argparse.ArgumentParser) -> None:
    """Add --label."""
    command.add_argument(
        "--label", action="append", default=[], metavar="LABEL=CATEGORY",
        help="what a label means: a category of the model, or nothing for harmless",
    )  # fmt: skip


def labels_of(texts: Sequence[str]) -> dict[str, str]:
    """Return what labels mean, from the values of --label."""
    pairs = {}
    for text in texts:
        label, sign, category = text.partition("=")
        if not sign or not label:
            raise ConfigError(f"--label {text}: write LABEL=CATEGORY, or LABEL= where it is harmless")
        if label in pairs:
            raise ConfigError(f"--label {label} is given twice: give it one meaning")
        pairs[label] = category
    return pairs
