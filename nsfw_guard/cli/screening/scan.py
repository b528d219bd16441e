"""nsfw-guard scan: judge many images into a folder, and go on after any end."""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nsfw_guard.cli import show
from nsfw_guard.cli.check import ACTIONS

if TYPE_CHECKING:
    from nsfw_guard.tools.screening.acting.placing import Placed
    from nsfw_guard.tools.screening.scan import Scan
    from nsfw_guard.tools.screening.scorer import ScanSettings

SECONDS_BETWEEN_LINES = 30.0  # of progress, where there is no terminal


def add(commands: Any) -> None:
    """Add the command."""
    command: argparse.ArgumentParser = commands.add_parser(
        "scan",
        help="judge folders, shards, tables and lists of images into a folder",
        description="Judges every image of its sources once, and writes parts with a row for each: verdict, scores, "
        "embedding, hashes. Ended at any moment, the same command goes on where it stopped. Originals are not touched.",
    )
    command.add_argument(
        "sources", nargs="+", metavar="SOURCE",
        help="a folder, image, video, glob, .tar shard, .parquet or .arrow table, saved dataset, .csv, .jsonl or .txt "
        "list, or address",
    )  # fmt: skip
    command.add_argument("--out", required=True, metavar="DIR", help="the folder of the output, one for each scan")
    show.model_flags(command)
    command.add_argument("--format", choices=("parquet", "jsonl", "csv"), default="parquet", help="of the parts")
    command.add_argument("--column", metavar="NAME", help="the column of tables and lists that holds the images")
    show.look_flags(command)
    show.run_flags(command)
    command.add_argument(
        "--workers", type=int, metavar="N",
        help="threads (default: one for each core, at most 4), or actors of Ray (default: what the processors hold)",
    )  # fmt: skip
    command.add_argument(
        "--engine", choices=("local", "ray", "shards"), default="local",
        help="who judges: this process, Ray, or the processes of torchrun or accelerate launch (default: local)",
    )  # fmt: skip
    command.add_argument(
        "--ray-address", metavar="ADDRESS", help='a Ray cluster, such as "auto" (default: Ray is started here)'
    )
    frames = command.add_mutually_exclusive_group()
    frames.add_argument("--every-nth", type=int, default=1, metavar="N", help="look at every n-th frame of a clip only")
    frames.add_argument("--per-second", type=float, metavar="N", help="look at so many frames of a clip a second only")
    command.add_argument("--no-embeddings", action="store_true", help="leave embeddings out")
    command.add_argument("--no-hashes", action="store_true", help="leave perceptual hashes out")
    command.add_argument(
        "--fail-on", choices=("review", "block", "error", "never"), default="error",
        help="the least outcome with a non-zero exit code (default: error)",
    )  # fmt: skip
    places = command.add_mutually_exclusive_group()
    for way in ("copy", "move", "link"):
        places.add_argument(
            f"--{way}", metavar="INTO", help=f"then {way} each image into INTO/allow, review, block or error"
        )
    command.add_argument("--censor", metavar="INTO", help="then write covered copies of what is blocked, and of errors")
    command.add_argument("--action", choices=ACTIONS[:-1], default="block", help="how --censor covers (default: block)")
    show.json_flag(command)
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Judge what is left, and print how many images had which outcome."""
    from nsfw_guard.tools.screening.engines.choose import engine_of
    from nsfw_guard.tools.screening.results import outcomes
    from nsfw_guard.tools.screening.scan import Scan

    engine = engine_of(args.engine, address=args.ray_address, workers=args.workers)
    if notice := engine.notice():
        show.say(f"nsfw-guard: {notice}")
    scan = Scan(
        args.sources, Path(args.out), settings=_settings(args), kind=args.format, column=args.column,
        workers=args.workers, engine=engine,
    )  # fmt: skip
    if engine.rank:  # rank 0 waits for this one, and says how the scan went
        for _ in scan.run():
            pass
        return 0
    earlier = _follow(scan)
    counts = outcomes(Path(args.out))
    if args.json:
        show.as_json({"out": args.out, "images": sum(counts.values()), "earlier": earlier, **counts})
    else:
        show.table([(name, str(n)) for name, n in counts.items()], ("outcome", "images"))
    for way in ("copy", "move", "link"):
        if getattr(args, way):
            _place(args, way)
    if args.censor:
        _censor(scan, args)
    guard = scan.scorer.guard
    before = f", {earlier} of them by an earlier run" if earlier else ""
    total = sum(counts.values())
    show.say(f"{total} images{before}, model {guard.spec.name}, policy {guard.policy.name}: {args.out}")
    return _exit_code(counts, args.fail_on)


def _settings(args: argparse.Namespace) -> ScanSettings:
    """How images are judged."""
    from nsfw_guard.imaging.limits import Limits
    from nsfw_guard.tools.screening.scorer import ScanSettings

    return ScanSettings(
        model=args.model,
        policy=args.policy,
        views=args.views,
        resize=args.resize,
        device=args.device,
        trust_guard=args.trust_guard,
        calibration=os.path.abspath(args.calibration) if args.calibration else "",
        bank=os.path.abspath(args.bank) if args.bank else "",
        limits=Limits(process=args.process),
        batch_size=args.batch,
        embeddings=not args.no_embeddings,
        hashes=not args.no_hashes,
        every_nth=args.every_nth,
        per_second=args.per_second,
    )


def _place(args: argparse.Namespace, way: Literal["copy", "move", "link"]) -> None:
    """Place the images of a finished scan, and say how many were left, and why."""
    from nsfw_guard.tools.screening.acting.placing import place

    into = getattr(args, way)
    _say_placed(place(Path(args.out), Path(into), way), f"images are in {into}", "stayed where they are")


def _censor(scan: Scan, args: argparse.Namespace) -> None:
    """Write covered copies, and say of how many there is none, and why."""
    from nsfw_guard.guard import Guard
    from nsfw_guard.tools.screening.acting.censor import censor
    from nsfw_guard.tools.screening.sources.readers import readers_of

    judge = scan.scorer.guard
    guard = Guard(judge.backend, policy=judge.policy, action=args.action, limits=judge.limits)
    readers = readers_of(scan.sources, column=scan.column)
    copies = censor(scan.out, Path(args.censor), guard, readers)
    _say_placed(copies, f"covered copies are in {args.censor}", "have none")


def _say_placed(each: Iterable[Placed], where: str, not_placed: str) -> None:
    placed, left = 0, []
    for one in each:
        placed += bool(one.path)
        left += [one] if one.why_not else []
    show.say(f"{placed} {where}")
    if left:
        show.say(f"{len(left)} {not_placed}, such as {left[0].key} ({left[0].why_not})")


def _follow(scan: Scan) -> int:
    """Run a scan, show where it is, and return how many images an earlier run has judged."""
    began = said = time.monotonic()
    earlier = judged = 0
    flagged: Counter[str] = Counter()
    for part in scan.run():
        flagged.update(row.outcome for row in part.rows)
        if part.rows or part.elsewhere:
            judged += part.count
        else:
            earlier += part.count
        now = time.monotonic()
        last = earlier + judged == part.total
        if judged and (last or now - said >= SECONDS_BETWEEN_LINES or show.on_terminal()):
            rate = judged / max(now - began, 1e-9)
            left = (part.total - earlier - judged) / rate
            show.status(
                f"{earlier + judged} of {part.total}, {rate:.1f} a second, {flagged['block']} blocked, "
                f"{flagged['error']} errors, {left:.0f} s left",
                last=last,
            )
            said = now
    return earlier


def _exit_code(counts: dict[str, int], fail_on: str) -> int:
    """2 when an image could not be judged, 1 when one was flagged, as far as this was asked for."""
    if fail_on == "never":
        return 0
    if counts["error"]:
        return 2
    flagged = counts["block"] + (counts["review"] if fail_on == "review" else 0)
    return 1 if flagged and fail_on != "error" else 0
