"""The part of `nsfw-guard evaluate` that estimates what a scan has found, from a sample that a person labels."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from nsfw_guard.cli import show

if TYPE_CHECKING:
    from nsfw_guard.tools.evaluate.recall.estimate import Counted, RecallEstimate
    from nsfw_guard.tools.evaluate.recall.strata import Stratum

RESULT = "recall.json"
NAMES = {"unsafe": "unsafe images", "recall": "recall", "recall_with_review": "recall with review",
         "alarms": "false alarms", "alarms_with_review": "false alarms with review"}  # fmt: skip


def flags(command: argparse.ArgumentParser) -> None:
    """Add the options for a sample of a scan."""
    command.add_argument(
        "--draw", type=int, metavar="N", help="draw so many images of the scan: writes sample.csv and sample.html"
    )
    command.add_argument(
        "--labels", metavar="FILE", help="the sample.csv with its labels: writes recall.json"
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Draw a sample of a scan, or estimate from its labels."""
    from nsfw_guard.errors import ConfigError

    if (args.draw is None) == (args.labels is None):
        raise ConfigError(
            "--estimate-recall needs --draw N for a sample, or --labels FILE for what it says: one of both"
        )
    if args.draw is not None and args.draw < 1:
        raise ConfigError(f"--draw must be at least 1, got {args.draw}")
    return _draw(args) if args.labels is None else _estimate(args)


def _draw(args: argparse.Namespace) -> int:
    from nsfw_guard.tools.evaluate.recall.sample import write_sample
    from nsfw_guard.tools.evaluate.recall.strata import strata_of

    scan = Path(args.estimate_recall)
    strata = strata_of(scan, draw=args.draw)
    written = write_sample(strata, scan, Path(args.out), sheets=args.sheet or "hidden")
    drawn = [one.stratum for one in strata.drawn]
    rows = [(stratum.name, str(size), str(drawn.count(stratum))) for stratum, size in strata.sizes.items()]
    if args.json:
        for name, size, count in rows:
            show.as_json({"stratum": name, "images": int(size), "drawn": int(count)})
    else:
        show.table(rows, ("stratum", "images", "drawn"))
    if strata.not_judged:
        show.say(f"{strata.not_judged} images were not judged, and are in no stratum")
    for path in written:
        show.say(f"wrote {path}")
    return 0


def _estimate(args: argparse.Namespace) -> int:
    from nsfw_guard.tools.evaluate.recall.estimate import estimate
    from nsfw_guard.tools.evaluate.recall.sample import read_sample
    from nsfw_guard.tools.teaching.replay import spec_of

    scan, out = Path(args.estimate_recall), Path(args.out)
    strata = read_sample(Path(args.labels), scan, list(spec_of(scan).positives))
    result = estimate(strata)
    out.mkdir(parents=True, exist_ok=True)
    content = {**result.to_dict(), "strata": [{"stratum": s.name, **vars(one)} for s, one in strata.items()]}
    (out / RESULT).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if args.json:
        show.as_json(content)
    else:
        _print(result, strata)
    show.say(f"wrote {out / RESULT}")
    return 0


def _print(result: RecallEstimate, strata: Mapping[Stratum, Counted]) -> None:
    counts = [(s.name, str(one.size), str(one.labelled), str(one.unsafe)) for s, one in strata.items()]
    show.table(counts, ("stratum", "images", "labelled", "unsafe"))
    rows = []
    for name, one in vars(result).items():
        form = ".0f" if name == "unsafe" else ".1%"
        share = "-" if one.share is None else f"{one.share:{form}}"
        rows.append((NAMES[name], share, f"{one.low:{form}} to {one.high:{form}}"))
    show.table(rows, ("of the whole scan", "estimate", "95%"))
