"""The report of a scan: counts, scores, and the images that a person should look at, as one page."""

from __future__ import annotations

import heapq
import json
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from PIL import Image

from nsfw_guard.errors import ConfigError, UnknownNameError
from nsfw_guard.imaging.clips.clip import CLIP_LIMITS
from nsfw_guard.imaging.limits import Limits
from nsfw_guard.imaging.thumbnails import thumbnail
from nsfw_guard.tools.pages import bullets, histogram, page, table, text
from nsfw_guard.tools.screening.entries import Entry
from nsfw_guard.tools.screening.readers import readers_of
from nsfw_guard.tools.screening.results import OUTCOMES, pairs_of
from nsfw_guard.tools.screening.rows import as_text
from nsfw_guard.tools.sheets import SIDE, figure, small_copy

Sheets = Literal["hidden", "shown", "blurred", "none"]
BINS, SHEET, SEED, MAX_REASONS = 20, 24, 0, 20
COLUMNS = ("outcome", "category", "score", "threshold", "reason", "status", "sha256")
FACTS = ("model", "revision", "policy_hash", "images", "format", "directory")


@dataclass(frozen=True, order=True)
class Shown:
    """An image on a sheet, ordered by what it was chosen for."""

    rank: float
    number: int
    entry: Entry = field(compare=False)
    outcome: str = field(compare=False)
    score: float = field(compare=False)
    sha256: str = field(compare=False)


@dataclass
class Findings:
    """What one pass over the rows of a scan shows."""

    outcomes: Counter[str] = field(default_factory=Counter)
    categories: Counter[tuple[str, str]] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    bins: list[int] = field(default_factory=lambda: [0] * BINS)
    thresholds: Counter[float] = field(default_factory=Counter)
    highest: list[Shown] = field(default_factory=list)
    nearest: list[Shown] = field(default_factory=list)
    sample: list[Shown] = field(default_factory=list)


def find(out: Path) -> Findings:
    """Read the rows of a scan, and keep what the report shows: a fixed number of images, whatever the size of the scan.

    Raises:
        ConfigError: the scan is not finished.
    """
    findings, chosen = Findings(), random.Random(SEED)  # noqa: S311 - a sample that is the same each time
    for number, (entry, row) in enumerate(pairs_of(out, COLUMNS)):
        findings.outcomes[row["outcome"]] += 1
        if row["outcome"] in {"review", "block"}:
            findings.categories[row["category"], row["outcome"]] += 1
        score = _number(row["score"])
        if row["status"] != "judged" or score is None:
            findings.reasons[row["reason"]] += 1
            continue
        findings.bins[min(BINS - 1, int(score * BINS))] += 1
        threshold = _number(row["threshold"])
        shown = Shown(score, number, entry, row["outcome"], score, row["sha256"])
        _keep(findings.highest, shown)
        if threshold is not None:
            findings.thresholds[threshold] += 1
            _keep(findings.nearest, Shown(-abs(score - threshold), number, *_rest(shown)))
        _keep(findings.sample, Shown(chosen.random(), number, *_rest(shown)))
    for sheet in (findings.highest, findings.nearest, findings.sample):
        sheet.sort(reverse=True)
    return findings


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
        look = _Looker(run, sheets)
        for title, chosen in (
            ("The highest scores", findings.highest), ("Nearest to the threshold", findings.nearest),
            ("A random sample", findings.sample),
        ):  # fmt: skip
            parts.append(
                f"<section><h2>{title}</h2><div class=sheet>{''.join(map(look.figure, chosen))}</div></section>"
            )
    errors = [f"{count} times: {reason}" for reason, count in findings.reasons.most_common(MAX_REASONS)]
    parts.append(
        f"<section><h2>Not judged</h2>{bullets(errors) if errors else '<p>every image was judged</p>'}</section>"
    )
    facts = [f"{name}: {run.get(name)}" for name in FACTS] + [f"sources: {', '.join(run.get('sources', []))}"]
    facts += [f"{name}: {value}" for name, value in run.get("state", {}).items()]
    parts.append(f"<section><h2>How it was judged</h2>{bullets(facts)}</section>")
    return page("What a scan has found", "\n".join(parts))


class _Looker:
    """Reads images again for the sheets."""

    def __init__(self, run: Mapping[str, Any], sheets: Sheets) -> None:
        self.readers = readers_of(run["sources"], column=run.get("column"))
        self.sheets, self.limits = sheets, Limits(**run["settings"]["limits"])

    def figure(self, one: Shown) -> str:
        """Return an image with its outcome and score, as HTML."""
        caption = f"<b>{text(one.outcome.upper())} {one.score:.3f}</b><br><small>{text(as_text(one.entry.key))}</small>"
        return figure(self._thumbnail(one), caption, covered=self.sheets == "hidden")

    def _thumbnail(self, one: Shown) -> Image.Image | None:
        most = CLIP_LIMITS.bytes if one.entry.is_clip else self.limits.bytes
        (content,) = self.readers[one.entry.reader].read([one.entry], most)
        # Another image must not be shown under the score of the one that was judged.
        image = small_copy(content, sha256=one.sha256, is_clip=one.entry.is_clip, limits=self.limits)
        return thumbnail(image, SIDE, blurred=True) if image is not None and self.sheets == "blurred" else image


def _keep(sheet: list[Shown], one: Shown) -> None:
    """Keep the images of the highest rank."""
    if len(sheet) < SHEET:
        heapq.heappush(sheet, one)
    else:
        heapq.heappushpop(sheet, one)


def _rest(one: Shown) -> tuple[Entry, str, float, str]:
    return one.entry, one.outcome, one.score, one.sha256


def _number(value: object) -> float | None:
    """A score as it stands in any format: CSV has text, and an empty one for none."""
    try:
        number = float(value) if isinstance(value, (int, float, str)) and value != "" else None
    except ValueError:
        return None
    return number if number is not None and 0.0 <= number <= 1.0 else None


def _percent(count: int, total: int) -> str:
    return f"{100 * count / total:.2f}%" if total else "-"
