"""A page with the images on which another policy decides differently."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from nsfw_guard.tools.pages import page, table, text
from nsfw_guard.tools.screening.reporting.findings import Shown
from nsfw_guard.tools.screening.reporting.looker import Looker
from nsfw_guard.tools.teaching.replay import Flip, Replayed

SHEET = 48  # images of each kind of change


def write(scan: Path, counted: Replayed, flips: Sequence[Flip], target: Path) -> None:
    """Write the page; it appears when it is whole."""
    run = json.loads((scan / "run.json").read_text(encoding="utf-8"))
    counts = [[before, after, str(n)] for (before, after), n in sorted(counted.counts.items())]
    parts = [f"<section><h2>{counted.flips} images</h2>{table(['before', 'after', 'images'], counts)}</section>"]
    look = Looker(run, "hidden")
    for before, after in sorted({(flip.before, flip.verdict.outcome) for flip in flips}):
        chosen = [flip for flip in flips if (flip.before, flip.verdict.outcome) == (before, after)]
        chosen.sort(key=lambda flip: -(flip.verdict.score or 0.0))
        figures = "".join(look.figure(_shown(flip), _caption(flip)) for flip in chosen[:SHEET])
        title = f"{text(before.name.lower())} becomes {text(after.name.lower())}: {len(chosen)}"
        parts.append(f"<section><h2>{title}</h2><div class=sheet>{figures}</div></section>")
    part = target.with_name(f"{target.name}.new")
    part.write_text(page("What another policy would have said", "\n".join(parts)), encoding="utf-8")
    part.replace(target)


def _shown(flip: Flip) -> Shown:
    score = flip.verdict.score or 0.0
    return Shown(score, flip.number, flip.entry, flip.verdict.outcome.name.lower(), score, flip.sha256)


def _caption(flip: Flip) -> str:
    decision = f", {flip.decision}" if flip.decision else ""
    return f"{flip.verdict.reason}{decision}"
