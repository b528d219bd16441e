"""nsfw-guard check: judge files, folders or standard input."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nsfw_guard.cli import show

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nsfw_guard.tools.screen import Screened, Skipped

MAX_NAMED_SKIPS = 5  # skipped files that are named in the last lines
ACTIONS = ("block", "blur", "pixelate", "replace", "flag")


def add(commands: Any) -> None:
    """Add the command."""
    command: argparse.ArgumentParser = commands.add_parser(
        "check",
        help="judge files, folders or standard input",
        description="Judges images and prints one line per image. Exit codes: see nsfw-guard --help.",
    )
    command.add_argument("paths", nargs="+", metavar="PATH", help="an image, a folder, or - for standard input")
    show.model_flags(command)
    command.add_argument("--action", choices=ACTIONS, default="block", help="how --out covers blocked images")
    command.add_argument("--out", metavar="DIR", help="copy allowed images to this folder, the others covered")
    show.look_flags(command)
    show.run_flags(command)
    command.add_argument(
        "--timeout", type=float, metavar="SECONDS", help="per batch; images that take longer are ERROR"
    )
    command.add_argument("--audit", metavar="FILE", help="append every verdict to this log")
    command.add_argument("--audit-key", metavar="FILE", help="the key of that log: its hashes become HMACs")
    command.add_argument(
        "--fail-on",
        choices=("review", "block", "error"),
        default="block",
        help="the least outcome with a non-zero exit code",
    )
    command.add_argument("--strict", action="store_true", help="exit with 2 when a file in a folder is not judged")
    show.json_flag(command)
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Judge the files, and print one line each and the counts."""
    from nsfw_guard.errors import ConfigError
    from nsfw_guard.guard import Guard
    from nsfw_guard.imaging.limits import Limits
    from nsfw_guard.listeners.audit import Audit
    from nsfw_guard.tools.screen import find, screen
    from nsfw_guard.verdict import Outcome

    if args.batch < 1:
        raise ConfigError(f"--batch must be at least 1, got {args.batch}")
    if args.audit_key and not args.audit:
        raise ConfigError("--audit-key needs a log: add --audit FILE")
    listing = find(args.paths)
    sources = listing.sources
    guard = Guard.from_pretrained(
        args.model,
        policy=args.policy,
        calibration=args.calibration,
        bank=args.bank,
        action=args.action,
        views=args.views,
        resize=args.resize,
        device=args.device,
        timeout=args.timeout,
        limits=Limits(process=args.process),
        trust_guard=args.trust_guard,
        listeners=[Audit(args.audit, key=show.read_key(args.audit_key))] if args.audit else [],
    )
    worst, rows = Outcome.ALLOW, []
    done = screen(guard, sources, out=Path(args.out) if args.out else None, batch=args.batch)
    for screened in show.progress(done, len(sources), "images"):
        worst = max(worst, screened.verdict.outcome)
        if args.json:
            show.as_json({"path": screened.path, "written": screened.written or None, **screened.verdict.to_dict()})
        else:
            rows.append(_row(screened))
    if not args.json:
        show.table(rows, ("outcome", "score", "threshold", "reason", "path"))
    for skipped in listing.skipped:
        if args.json:
            show.as_json({"path": skipped.path, "skipped": skipped.why})
    if listing.skipped:
        show.say(_skipped(listing.skipped))
    counts = ", ".join(f"{n} {name}" for name, n in guard.counter.counts.items() if n)
    show.say(f"{len(sources)} images, model {guard.spec.name}, policy {guard.policy.name}: {counts}")
    return 2 if args.strict and listing.skipped else exit_code(worst, args.fail_on)


def _skipped(skipped: Sequence[Skipped]) -> str:
    """How many files were not judged, the first of them by name."""
    names = ", ".join(f"{s.path} ({s.why})" for s in skipped[:MAX_NAMED_SKIPS])
    more = f" and {len(skipped) - MAX_NAMED_SKIPS} more (--json lists all)" if len(skipped) > MAX_NAMED_SKIPS else ""
    return f"{len(skipped)} not judged: {names}{more}"


def exit_code(worst: Any, fail_on: str) -> int:
    """Return 0 below `fail_on`, 2 when an image could not be judged, else 1."""
    from nsfw_guard.verdict import Outcome

    if worst < Outcome[fail_on.upper()]:
        return 0
    return 2 if worst is Outcome.ERROR else 1


def _row(screened: Screened) -> tuple[str, ...]:
    verdict = screened.verdict
    score = "-" if verdict.score is None else f"{verdict.score:.3f}"
    threshold = "-" if verdict.threshold is None else f"{verdict.threshold:g}"
    return verdict.outcome.name, score, threshold, verdict.reason, screened.path
