"""The report of a scan: counts, scores, and the images that a person should look at, as one page."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from nsfw_guard.backends.files.cache import put
from nsfw_guard.errors import ConfigError, UnknownNameError
from nsfw_guard.tools.pages import bullets, histogram, page, table
from nsfw_guard.tools.screening.reporting import report_png
from nsfw_guard.tools.screening.reporting.findings import Findings, find
from nsfw_guard.tools.screening.reporting.looker import Looker, Sheets
from nsfw_guard.tools.screening.results import OUTCOMES

MAX_REASONS = 20
FACTS = ("model", "revision", "policy_hash", "images", "format", "directory")


def write(out: Path, *, sheets: Sheets = "hidden") -> tuple[Path, Path]:
    """Write `report.html` and `report.png` into the folder of a finished scan, and return their paths.

    Args:
        out: the folder of the scan.
        sheets: images on it are "hidden" behind a blur until they are clicked, "shown", "blurred" so that nothing else
            is in the file, or left out ("none"). In the image, which nobody can click, "hidden" ones are blurred.
    """
    if sheets not in get_args(Sheets):
        raise UnknownNameError("sheets", sheets, get_args(Sheets))
    try:
        run = json.loads((out / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{str(out)!r} holds no scan: pass the --out of one") from error
    findings = find(out)
    html, image = out / "report.html", out / "report.png"
    put(html, to_html(findings, run, sheets).encode("utf-8"))
    look = None if sheets == "none" else Looker(run, "shown")
    drawn = io.BytesIO()
    report_png.draw(findings, str(run.get("model")), look, blurred=sheets != "shown").save(drawn, "PNG")
    put(image, drawn.getvalue())
    return html, image


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


def _percent(count: int, total: int) -> str:
    return f"{100 * count / total:.2f}%" if total else "-"
