"""nsfw-guard audit verify."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from nsfw_guard.cli import show


def add(commands: Any) -> None:
    """Add the commands."""
    group: argparse.ArgumentParser = commands.add_parser("audit", help="verify an audit log")
    verbs = group.add_subparsers(required=True, metavar="VERB")
    verb: argparse.ArgumentParser = verbs.add_parser(
        "verify",
        help="find changed, missing or reordered lines",
        description="Verifies the chain of hashes in a log. With --head it also finds a truncated or rewritten file. "
        "Exit code 1 when the log does not verify.",
    )
    verb.add_argument("file")
    verb.add_argument("--key-file", metavar="FILE", help="the key that the log was written with")
    verb.add_argument("--head", metavar="FILE", help="a head that was kept elsewhere (default: FILE.head where it is)")
    show.json_flag(verb)
    verb.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Verify a log, and print its head and every fault."""
    from nsfw_guard.listeners.audit import Head, verify

    key = show.read_key(args.key_file)
    beside = Path(f"{args.file}.head")
    kept = args.head or (beside if beside.is_file() else None)
    report = verify(Path(args.file), key=key, head=Head.kept(kept) if kept else None)
    payload = {"ok": report.ok, "lines": report.lines, "count": report.head.count, "hash": report.head.hash}
    if args.json:
        show.as_json({**payload, "faults": list(report.faults)})
    else:
        print(f"{'ok' if report.ok else 'NOT OK'}  {report.lines} lines  head {report.head.count} {report.head.hash}")
        for fault in report.faults:
            print(f"  {show.clean(fault)}")
    return 0 if report.ok else 1
