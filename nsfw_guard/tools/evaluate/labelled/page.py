"""The report on labelled images as one self-contained page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from nsfw_guard.imaging.limits import Limits
from nsfw_guard.imaging.thumbnails import OUTCOME_COLOURS
from nsfw_guard.scores import Severity
from nsfw_guard.tools.evaluate.images import ALL
from nsfw_guard.tools.evaluate.labelled.counts import CategoryRow, Confusion
from nsfw_guard.tools.evaluate.labelled.curves import Curve
from nsfw_guard.tools.evaluate.labelled.drawing import line_chart, reliability_chart
from nsfw_guard.tools.evaluate.labelled.report import Error, LabelledReport, ModelReport
from nsfw_guard.tools.evaluate.packs.pack import Pack
from nsfw_guard.tools.evaluate.page import percent
from nsfw_guard.tools.evaluate.sheet import short
from nsfw_guard.tools.pages import bullets, page, table, text
from nsfw_guard.tools.sheets import figure, small_copy_of

Shown = Literal["hidden", "shown", "blurred", "none"]
MAX_NAMED = 50  # notes and images without a judgement that are on the page; report.json has all of them
RATES = ("recall", "with review", "false alarms", "with review", "precision")


def to_html(report: LabelledReport, *, sheet: Shown = "hidden", limits: Limits | None = None) -> str:
    """Return the page.

    Args:
        report: what was measured.
        sheet: whether images are "hidden" behind a blur until they are clicked, "shown", "blurred" so that nothing
            else is in the file, or left out ("none").
        limits: for decoding them again.
    """
    total, versions = sum(report.labels.values()), ", ".join(f"{n} {v}" for n, v in report.versions.items())
    labels = table(["label", "images"], [[label, str(count)] for label, count in report.labels.items()])
    models = "\n".join(_model(model, sheet, limits) for model in report.models)
    packs = "\n".join(_pack(pack) for pack in report.packs.values())
    return page(
        "What is found, and what is flagged wrongly?",
        f"""<p>{total} labelled images, {report.date}; {text(versions)}. Recall is the share of images with a category
that are blocked, false alarms the share of images without it that are. Intervals hold the true rate with 95% confidence
(Clopper-Pearson), for images like these.</p>
<section><h2>All images</h2>{_overview(report)}</section>
<section><h2>Labels</h2>{labels}</section>
{models}
{packs}
<section><h2>What was left out</h2>{bullets(_facts(report))}</section>""",
    )


def _overview(report: LabelledReport) -> str:
    rows = [
        [row.model, row.criterion.label, row.criterion.threshold, _block(row), str(row.recall.count), *_rates(row)]
        for model in report.models for row in model.rows if not row.slice
    ]  # fmt: skip
    return table(["model", "category", "threshold", "from", "images with it", *RATES], rows)


def _rates(row: CategoryRow) -> list[str]:
    return [percent(rate) for rate in (row.recall, row.held, row.alarms, row.alarms_held, row.precision)]


def _block(row: CategoryRow) -> str:
    return "-" if row.criterion.block is None else f"{row.criterion.block:g}"


def _model(model: ModelReport, sheet: Shown, limits: Limits | None) -> str:
    state = ", ".join(f"{key} {value}" for key, value in model.state.items())
    rows = [
        [row.slice or ALL, row.criterion.label, row.criterion.threshold, str(row.recall.count), *_rates(row)]
        for row in model.rows
    ]
    curves = "".join(_curve(*key, curve) for key, curve in model.curves.items())
    sheets = ""
    if sheet != "none":
        sheets = _sheet("With the category: the lowest scores", model.missed, sheet, limits)
        sheets += _sheet("Without it: the highest scores", model.alarms, sheet, limits)
    return (
        f"<section><h2>{text(model.name)}</h2><p class=muted>license {text(model.license)}; {text(state)}</p>"
        f"<h3>By slice</h3>{table(['slice', 'category', 'threshold', 'images with it', *RATES], rows)}</section>"
        f"<section><h3>{text(model.name)}: labels, and what it says</h3>{_confusion(model.confusion)}</section>"
        f"{curves}{sheets}"
    )


def _confusion(confusion: Confusion) -> str:
    rows = [[label, *map(str, counts), str(sum(counts))] for label, counts in confusion.rows.items()]
    lead = f"The highest score that reaches the threshold {confusion.threshold!r} of its category."
    return f"<p class=muted>{text(lead)}</p>{table(['label', *confusion.columns, 'images'], rows)}"


def _curve(category: str, severity: Severity, curve: Curve | None) -> str:
    title = f"{category}, {severity.name.lower()}"
    if curve is None:
        return f"<section><h3>{text(title)}</h3><p>images of one kind only: no curve can be drawn</p></section>"
    named = [point for point in curve.points if point.names]
    roc = {", ".join(p.names): (p.alarms.share, p.recall.share) for p in named}
    pr = {
        ", ".join(p.names): (p.recall.share, p.recall.hits / (p.recall.hits + p.alarms.hits))
        for p in named
        if p.recall.hits + p.alarms.hits
    }
    numbers = [
        f"area under the ROC curve {curve.roc_auc:.4f}, average precision {curve.average_precision:.4f}",
        f"calibration error {curve.error:.4f}; a perfectly calibrated model would exceed {curve.error_perfect:.4f} "
        "with these scores in one case of twenty",
        f"Brier score {curve.brier:.4f}, log loss {curve.log_loss:.4f}",
    ]
    rows = [
        [f"{p.threshold:g}", ", ".join(p.names), f"{p.recall.hits} of {p.recall.count}", percent(p.recall),
         f"{p.alarms.hits} of {p.alarms.count}", percent(p.alarms)]
        for p in curve.points
    ]  # fmt: skip
    charts = "".join([
        line_chart("ROC", "false alarms", "recall", curve.roc, roc),
        line_chart("Precision and recall", "recall", "precision", curve.pr, pr),
        reliability_chart("Reliability", curve.bins),
    ])  # fmt: skip
    return (
        f'<section><h3>{text(title)}</h3>{bullets(numbers)}<div class="charts">{charts}</div></section>'
        f"<section><h3>{text(title)}: thresholds</h3>"
        f"{table(['from', 'name', 'blocked', 'recall', 'blocked wrongly', 'false alarms'], rows)}</section>"
    )


def _sheet(title: str, errors: Sequence[Error], sheet: Shown, limits: Limits | None) -> str:
    if not errors:
        return ""
    figures = []
    for error in errors:
        colour = ",".join(map(str, OUTCOME_COLOURS[error.outcome]))
        caption = (
            f'<b style="color: rgb({colour})">{error.score:.3f} {error.outcome.name}</b><br>{text(error.label)}<br>'
            f"<small>{text(short(error.path))}</small>"
        )
        small = small_copy_of(error.path, blurred=sheet == "blurred", limits=limits or Limits())
        figures.append(figure(small, caption, covered=sheet == "hidden"))
    return f'<section><h3>{text(title)}</h3><div class="sheet">{"".join(figures)}</div></section>'


def _pack(pack: Pack) -> str:
    below = table(pack.header, pack.rows) + (bullets(pack.notes) if pack.notes else "")
    return f"<section><h2>{text(pack.title)}</h2><p>{text(pack.meaning)}</p>{below}</section>"


def _facts(report: LabelledReport) -> list[str]:
    lines = list(report.notes)
    for model in report.models:
        lines += [f"{model.name} could not judge {one.path}: {one.why}" for one in model.not_judged]
    more = [f"and {len(lines) - MAX_NAMED} more, all in report.json"] if len(lines) > MAX_NAMED else []
    return [*lines[:MAX_NAMED], *more] or ["nothing: every image was judged"]
