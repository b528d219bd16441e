"""nsfw-guard convert: a scan for other programs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from nsfw_guard.cli import show

FORMATS = ("npy", "parquet", "fiftyone", "label-studio", "faiss")


def add(commands: Any) -> None:
    """Add the command."""
    command: argparse.ArgumentParser = commands.add_parser(
        "convert",
        help="write a scan for other programs: NumPy, Parquet, FiftyOne, Label Studio, FAISS",
        description="Writes a finished scan in the format of another program. Nothing is judged, and no image copied.",
    )
    command.add_argument("scan", metavar="SCAN", help="the output of nsfw-guard scan")
    command.add_argument(
        "--to", required=True, choices=FORMATS,
        help="embeddings and keys as npy or parquet; samples for fiftyone; tasks for label-studio; an IndexFlatIP of "
        "faiss",
    )  # fmt: skip
    command.add_argument(
        "out", metavar="OUT", help="a new folder (npy, fiftyone, label-studio) or a new file (parquet, faiss)"
    )
    command.add_argument(
        "--url-prefix", metavar="URL",
        help="for label-studio: what comes before the key of an image (default: its absolute path, as a local file)",
    )  # fmt: skip
    show.json_flag(command)
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the target, and print what is in it."""
    from nsfw_guard.tools.converting.formats import convert

    facts = {"out": args.out, **convert(Path(args.scan), Path(args.out), to=args.to, url_prefix=args.url_prefix)}
    if args.json:
        show.as_json(facts)
    else:
        show.table([(name, str(value)) for name, value in facts.items()], ("what", "value"))
    return 0
