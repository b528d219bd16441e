"""The report of a scan: counts, scores, and the images that a person should look at, as one page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from PIL import Image

from nsfw_guard.errors import ConfigError, UnknownNameError
from nsfw_guard.imaging.clips.clip import CLIP_LIMITS
from nsfw_guard.imaging.limits import Limits
from nsfw_guard.imaging.thumbnails import thumbnail
from nsfw_guard.tools.pages import bullets, histogram, page, table, text
from nsfw_guard.tools.screening.findings import Findings, Shown, find
from nsfw_guard.tools.screening.readers import readers_of
from nsfw_guard.tools.screening.results import OUTCOMES
from nsfw_guard.tools.screening.rows import as_text
from nsfw_guard.tools.sheets import SIDE, figure, small_copy

Sheets = Literal["hidden", "shown", "blurred", "none"]
MAX_REASONS = 20
FACTS = ("model", "revision", "policy_hash", "images", "format", "directory")


def write(out: Path, *, sheets: Sheets = "hidden") -> Path:
    """Write `report.html` into the folder of a finished scan, and return its path.

    Args:
        out: the folder of the scan.
        sheets: images on it are "hidden" behind a blur until they are clicked, "shown", "blurred" so that nothing else
            is in the file, or left out ("none").
    """
    if sheets not in get_args(Sheets):
        raise UnknownNameError("sheets", sheets, get_args(Sheets))
    try:
        run = json.loads((out / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{str(out)!r} holds no scan: pass the --out of one") from error
    findings = find(out)
    target = out / "report.html"
    part = target.with_name("report.html.new")
    part.write_text(to_html(findings, run, sheets), encoding="utf-8")
    part.replace(target)
    return target


def to_html(findings: Findings, run: Mapping[str, Any], sheets: Sheets) -> str:
    """Return the page."""
    total = sum(findings.outcomes.values())
    counts = [[name, str(findings.outcomes[name]), _percent(findings.outcomes[name], total)] for name in OUTCOMES]
    kinds = [[c, outcome, str(n)] for (c, outcome), n in sorted(findings.categories.items())]
    usual = [at for at, _ in findings.thresholds.most_common(2)]
    parts = [
        f"<section><h2>{total} images</h2>{table(['outcome', 'images', 'share'], counts)}"
        f"{table(['category', 'outcome', 'images'], kinds) if kinds else ''}</section>",
        f"<section><h2>Scores</h2><p class=muted>Of the category that decided, on a scale of square roots.</p>"
        f"{histogram(findings.bins, {f'{at:g}': at for at in usual})}</section>",
    ]
    if sheets != "none":
        look = Looker(run, sheets)
        for title, chosen in (
            ("The highest scores", findings.highest), ("Nearest to the threshold", findings.nearest),
            ("A random sample", findings.sample),
        ):  # fmt: skip
            parts.append(
                f"<section><h2>{title}</h2><div class=sheet>{''.join(map(look.figure, chosen))}</div></section>"
            )
    if findings.groups:
        parts.append(_near_duplicates(findings, None if sheets == "none" else Looker(run, sheets)))
    errors = [f"{count} times: {reason}" for reason, count in findings.reasons.most_common(MAX_REASONS)]
    parts.append(
        f"<section><h2>Not judged</h2>{bullets(errors) if errors else '<p>every image was judged</p>'}</section>"
    )
    facts = [f"{name}: {run.get(name)}" for name in FACTS] + [f"sources: {', '.join(run.get('sources', []))}"]
    facts += [f"{name}: {value}" for name, value in run.get("state", {}).items()]
    parts.append(f"<section><h2>How it was judged</h2>{bullets(facts)}</section>")
    return page("What a scan has found", "\n".join(parts))


def _near_duplicates(findings: Findings, look: Looker | None) -> str:
    """The section on images that are nearly the same."""
    differ = f", {findings.disagreeing} groups of which were not judged alike" if findings.disagreeing else ""
    figures = ""
    if look is not None:
        for group in findings.groups:
            counts = " ".join(f"{count}x {outcome}" for outcome, count in group.outcomes.items())
            figures += look.figure(group.shown, counts)
    lead = f"{findings.grouped} images are copies of each other, or nearly{differ}. The largest, each by its image"
    return (
        f"<section><h2>Near-duplicates</h2><p>{lead} with the highest score:</p>"
        f"<div class=sheet>{figures}</div></section>"
    )


class Looker:
    """Reads images again for the sheets."""

    def __init__(self, run: Mapping[str, Any], sheets: Sheets) -> None:
        self.readers = readers_of(run["sources"], column=run.get("column"))
        self.sheets, self.limits = sheets, Limits(**run["settings"]["limits"])

    def figure(self, one: Shown, what: str = "") -> str:
        """Return an image with its outcome and score, or with what else is to be said of it, as HTML."""
        title = what or f"{one.outcome.upper()} {one.score:.3f}"
        caption = f"<b>{text(title)}</b><br><small>{text(as_text(one.entry.key))}</small>"
        return figure(self._thumbnail(one), caption, covered=self.sheets == "hidden")

    def _thumbnail(self, one: Shown) -> Image.Image | None:
        most = CLIP_LIMITS.bytes if one.entry.is_clip else self.limits.bytes
        (content,) = self.readers[one.entry.reader].read([one.entry], most)
        # Another image must not be shown under the score of the one that was judged.
        image = small_copy(content, sha256=one.sha256, is_clip=one.entry.is_clip, limits=self.limits)
        return thumbnail(image, SIDE, blurred=True) if image is not None and self.sheets == "blurred" else image


def _percent(count: int, total: int) -> str:
    return f"{100 * count / total:.2f}%" if total else "-"
