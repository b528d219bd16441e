"""The sample as a list that a person fills in, with a page of its images, and the list read back."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from nsfw_guard.errors import ConfigError, suggest
from nsfw_guard.tools.evaluate.recall.estimate import Counted
from nsfw_guard.tools.evaluate.recall.strata import Drawn, Strata, Stratum, strata_of
from nsfw_guard.tools.pages import page, table, text
from nsfw_guard.tools.screening.reporting.findings import Shown
from nsfw_guard.tools.screening.reporting.looker import Looker, Sheets
from nsfw_guard.tools.screening.rows import as_text
from nsfw_guard.tools.teaching.labelled import HARMLESS

SAMPLE, PAGE = "sample.csv", "sample.html"
COLUMNS = ("number", "path", "stratum", "score", "weight", "label")
UNSAFE = "unsafe"


def write_sample(strata: Strata, scan: Path, folder: Path, *, sheets: Sheets = "hidden") -> list[Path]:
    """Write the list and the page, and return their paths.

    Args:
        strata: of the scan, with what was drawn.
        scan: its output.
        folder: is created if need be.
        sheets: how images are shown; "none" writes no page.

    Raises:
        ConfigError: the folder holds a sample already, which may have labels.
    """
    target = folder / SAMPLE
    if target.exists():
        raise ConfigError(f"{str(target)!r} is there already, and may have labels: name a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    weights = _weights(strata)
    with target.open("w", encoding="utf-8", newline="") as file:
        rows = csv.DictWriter(file, COLUMNS)
        rows.writeheader()
        for number, one in enumerate(strata.drawn, 1):
            rows.writerow({
                "number": number, "path": as_text(one.entry.key), "stratum": one.stratum.name, "score": one.score,
                "weight": f"{weights[one.stratum.name]:g}", "label": "",
            })  # fmt: skip
    if sheets == "none":
        return [target]
    (folder / PAGE).write_text(_page(strata, scan, sheets), encoding="utf-8")
    return [target, folder / PAGE]


def _weights(strata: Strata) -> dict[str, float]:
    drawn = Counter(one.stratum for one in strata.drawn)
    return {stratum.name: size / drawn[stratum] for stratum, size in strata.sizes.items()}


def _page(strata: Strata, scan: Path, sheets: Sheets) -> str:
    """The images by stratum, each with its number in the list."""
    look = Looker(json.loads((scan / "run.json").read_text(encoding="utf-8")), sheets)
    drawn = Counter(one.stratum for one in strata.drawn)
    counts = [[s.name, str(size), str(drawn[s]), f"{size / drawn[s]:g}"] for s, size in strata.sizes.items()]
    parts = [f"<section>{table(['stratum', 'images', 'drawn', 'weight'], counts)}</section>"]
    for stratum in strata.sizes:
        chosen = [(number, one) for number, one in enumerate(strata.drawn, 1) if one.stratum == stratum]
        figures = "".join(look.figure(_shown(one), f"{number}") for number, one in chosen)
        parts.append(f"<section><h2>{text(stratum.name)}</h2><div class=sheet>{figures}</div></section>")
    return page("A sample to label", "\n".join(parts))


def _shown(one: Drawn) -> Shown:
    return Shown(one.score, one.number, one.entry, one.stratum.outcome, one.score, one.sha256)


def read_sample(path: Path, scan: Path, categories: Sequence[str]) -> dict[Stratum, Counted]:
    """Return what the labels of a list say of each stratum of a scan.

    A label is "unsafe" or a category, or a word for harmless, such as "safe"; rows without a label are passed over.

    Raises:
        ConfigError: a label means nothing, or the list is not as it was drawn from this scan.
    """
    rows = _rows(path)
    strata = strata_of(scan, draw=len(rows))  # the same images as the first time
    if len(rows) != len(strata.drawn):
        raise ConfigError(
            f"{path.name} has {len(rows)} rows, and {len(strata.drawn)} images can be drawn from this scan: keep the "
            "rows as they were drawn"
        )
    known = [UNSAFE, *(name.lower() for name in categories)]
    labelled: Counter[Stratum] = Counter()
    unsafe: Counter[Stratum] = Counter()
    for number, (row, one) in enumerate(zip(rows, strata.drawn, strict=True), 1):
        if (row["number"], row["path"], row["stratum"]) != (str(number), as_text(one.entry.key), one.stratum.name):
            raise ConfigError(
                f"row {number} of {path.name} is not what was drawn from this scan: keep all rows in their order, and "
                "pass the scan that the sample is of"
            )
        label = (row["label"] or "").strip().lower()
        if label and label not in known and label not in HARMLESS:
            cure = suggest(label, [*known, *sorted(HARMLESS)])
            raise ConfigError(f"row {number} of {path.name} has the label {label!r}: {cure}")
        labelled[one.stratum] += bool(label)
        unsafe[one.stratum] += label in known
    return {stratum: Counted(size, labelled[stratum], unsafe[stratum]) for stratum, size in strata.sizes.items()}


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise ConfigError(f"{path.name} cannot be read: {error}") from error
    if not rows or not set(COLUMNS) <= set(rows[0]):
        raise ConfigError(f"{path.name} is no sample of a scan: pass the {SAMPLE} that --draw has written")
    return rows
