"""The report as one self-contained page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from PIL import Image

from nsfw_guard.imaging.thumbnails import OUTCOME_COLOURS, data_url
from nsfw_guard.tools.evaluate.sheet import short
from nsfw_guard.tools.evaluate.summary import HarmlessReport, ModelSummary, Rate, Row
from nsfw_guard.tools.pages import bullets, histogram, page, table, text


def to_html(report: HarmlessReport, small: Mapping[str, Sequence[Image.Image]]) -> str:
    """Return the page. `small` has thumbnails of the worst images by model; where there are none, none are shown."""
    count, versions = len(report.collection.files), ", ".join(f"{n} {v}" for n, v in report.versions.items())
    models = "\n".join(_model(model, small.get(model.name, ())) for model in report.models)
    return page(
        "How often is a harmless image covered?",
        f"""<p>{count} harmless images, {report.date}; {text(versions)}.
Every image that is blocked here is a false alarm. Rates are given with the interval that holds the true rate with 95%
confidence (Clopper-Pearson).</p>
<section><h2>All images</h2>{_overview(report)}</section>
{models}
<section><h2>What was measured</h2>{_facts(report)}</section>""",
    )


def percent(rate: Rate) -> str:
    """Return a rate with its interval, such as "1.2% (0.8 to 1.7)".

    Example:
        ```python
        percent(Rate(3, 1000))  # "0.3% (0.1 to 0.9)"
        ```
    """
    if not rate.count:
        return "-"
    low, high = rate.interval
    return f"{100 * rate.hits / rate.count:.1f}% ({100 * low:.1f} to {100 * high:.1f})"


def _overview(report: HarmlessReport) -> str:
    rows = [
        [model.name, row.criterion.label, row.criterion.threshold, _block(row), str(row.blocked.count),
         percent(row.blocked), percent(row.review)]
        for model in report.models for row in model.rows if not row.slice
    ]  # fmt: skip
    return table(["model", "category", "threshold", "from", "images", "blocked", "blocked or review"], rows)


def _model(model: ModelSummary, small: Sequence[Image.Image]) -> str:
    by_slice: dict[str, list[Row]] = {}
    for row in model.rows:
        by_slice.setdefault(row.slice, []).append(row)
    rows = [
        [piece or "all", str(of_slice[0].blocked.count), *(percent(row.blocked) for row in of_slice)]
        for piece, of_slice in by_slice.items()
    ]
    columns = next(iter(by_slice.values()), [])
    header = ["slice", "images", *(f"{row.criterion.label}, {row.criterion.threshold}" for row in columns)]
    state = ", ".join(f"{key} {value}" for key, value in model.state.items())
    sheet = f"<h3>The {len(small)} highest scores</h3>{_sheet(model, small)}" if small else ""
    return (
        f"<section><h2>{text(model.name)}</h2><p class=muted>license {text(model.license)}; "
        f"{text(state)}; median {1000 * model.seconds:.0f} ms an image</p>"
        f"<h3>Blocked, by slice</h3>{table(header, rows)}<h3>Scores</h3>{histogram(model.histogram)}{sheet}</section>"
    )


def _sheet(model: ModelSummary, small: Sequence[Image.Image]) -> str:
    figures = []
    for alarm, image in zip(model.worst, small, strict=False):
        colour = ",".join(map(str, OUTCOME_COLOURS[alarm.outcome]))
        figures.append(
            f'<figure><img alt="" src="{data_url(image)}"><figcaption><b style="color: rgb({colour})">'
            f"{alarm.score:.3f} {alarm.outcome.name}</b><br><small>{text(short(alarm.path))}</small>"
            "</figcaption></figure>"
        )
    return f'<div class="sheet">{"".join(figures)}</div>'


def _facts(report: HarmlessReport) -> str:
    lines = [f"{count} images in the slice {name!r}" for name, count in report.slices.items() if name]
    if report.collection.copies:
        lines.append(f"{len(report.collection.copies)} copies of other files were left out")
    lines += [f"{one.path} was not measured: {one.why}" for one in report.collection.skipped]
    lines += report.collection.notes
    for model in report.models:
        lines += [f"{model.name} could not judge {one.path}: {one.why}" for one in model.not_judged]
    lines.append(f"decoding takes {1000 * report.decode_seconds:.0f} ms an image (median)")
    return bullets(lines)


def _block(row: Row) -> str:
    return "-" if row.criterion.block is None else f"{row.criterion.block:g}"
