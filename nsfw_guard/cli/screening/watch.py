"""nsfw-guard watch: guard a folder that another program writes to."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nsfw_guard.cli import show
from nsfw_guard.cli.check import ACTIONS

if TYPE_CHECKING:
    from nsfw_guard.tools.screening.acting.watch import Watch, Watched


def add(commands: Any) -> None:
    """Add the command."""
    command: argparse.ArgumentParser = commands.add_parser(
        "watch",
        help="guard a folder that another program writes to",
        description="Judges each image in a folder once it is complete, those that are there already too, and acts on "
        "what is not released. For programs without hooks: an image is on the disk for a moment before it is judged.",
    )
    command.add_argument("folder", metavar="DIR", help="the folder; folders below it are watched too")
    show.model_flags(command)
    command.add_argument(
        "--mode", choices=("censor", "move", "log"), default="log",
        help="put a covered image in place of the original, move it away, or only log (default: log)",
    )  # fmt: skip
    command.add_argument("--quarantine", metavar="DIR", help="where originals are kept, for censor and move")
    command.add_argument("--action", choices=ACTIONS[:-1], default="block", help="how censor covers (default: block)")
    command.add_argument("--settled", type=float, default=1.0, metavar="SECONDS", help="without a change (default: 1)")
    command.add_argument("--interval", type=float, default=0.5, metavar="SECONDS", help="between looks (default: 0.5)")
    command.add_argument("--once", action="store_true", help="end when everything in the folder is judged")
    show.run_flags(command)
    command.add_argument("--audit", metavar="FILE", help="append every verdict to this log")
    show.json_flag(command)
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Watch until interrupted; with --once, until everything is judged: 2 when an image could not be put away."""
    from nsfw_guard.errors import ConfigError
    from nsfw_guard.guard import Guard
    from nsfw_guard.imaging.limits import Limits
    from nsfw_guard.listeners.audit import Audit
    from nsfw_guard.tools.screening.acting.watch import Watch

    for name in ("settled", "interval"):
        if not 0.0 <= getattr(args, name) < 3600.0:
            raise ConfigError(f"--{name} must be seconds from 0 to 3600, got {getattr(args, name)}")
    guard = Guard.from_pretrained(
        args.model,
        policy=args.policy,
        calibration=args.calibration,
        bank=args.bank,
        action=args.action,
        device=args.device,
        trust_guard=args.trust_guard,
        limits=Limits(process=args.process),
        listeners=[Audit(args.audit)] if args.audit else [],
    )
    quarantine = Path(args.quarantine) if args.quarantine else None
    watch = Watch(guard, Path(args.folder), mode=args.mode, quarantine=quarantine, settled=args.settled)
    show.say(f"watching {args.folder}: model {guard.spec.name}, policy {guard.policy.name}, mode {args.mode}")
    return _loop(watch, args)


def _loop(watch: Watch, args: argparse.Namespace) -> int:
    counts: Counter[str] = Counter()
    try:
        while True:
            failed = 0
            for one in watch.step():
                counts[one.done] += 1
                failed += one.done == "failed"
                _print(one, as_json=args.json)
            if args.once and watch.waiting <= failed:
                return 2 if failed else 0
            time.sleep(args.interval)
    finally:
        show.say(", ".join(f"{n} {name}" for name, n in sorted(counts.items())) or "no image was judged")


def _print(one: Watched, *, as_json: bool) -> None:
    if as_json:
        facts = {"original": one.original or None, "why_failed": one.why_failed or None}
        show.as_json({"path": one.path, "done": one.done, **facts, **one.verdict.to_dict()})
    else:
        why = one.why_failed or one.verdict.reason
        print(show.clean(f"{one.done}  {one.verdict.outcome.name}  {one.path}  {why}"), flush=True)
