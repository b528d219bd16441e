"""Decides anew on the scores of a finished scan: what would another policy or calibration have said? No model runs."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nsfw_guard.backends import registry
from nsfw_guard.backends.examples.example import CATEGORY
from nsfw_guard.backends.files.folder import read_spec
from nsfw_guard.backends.files.inside import folder_of, is_path
from nsfw_guard.backends.spec import ScoreSpec
from nsfw_guard.calibration import Calibration
from nsfw_guard.errors import ConfigError
from nsfw_guard.policy.policy import Policy
from nsfw_guard.scores import Scores, Severity, View, ViewScores
from nsfw_guard.tools.screening.results import pairs_of
from nsfw_guard.tools.screening.sources.entries import Entry
from nsfw_guard.verdict import Outcome, Verdict

COLUMNS = ("outcome", "reason", "category", "status", "scores", "clip", "sha256", "model", "revision")
RAW, MODEL = "raw ", "model "  # how details begin that keep scores from before a calibration, or an allow-example


@dataclass(frozen=True)
class Flip:
    """An image on which the new policy decides differently."""

    number: int
    entry: Entry
    before: Outcome
    verdict: Verdict
    sha256: str
    decision: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        verdict = self.verdict.to_dict()
        return {
            "key": self.entry.key, "before": self.before.name.lower(), "after": verdict["outcome"],
            **{name: verdict[name] for name in ("category", "score", "threshold", "reason")}, "decision": self.decision,
        }  # fmt: skip


@dataclass
class Replayed:
    """How many images went from which outcome to which."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    categories: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    decisions: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)  # images on which nothing could be decided anew, by the reason

    @property
    def flips(self) -> int:
        """How many images have another outcome."""
        return sum(count for (before, after), count in self.counts.items() if before != after)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        changed = {"categories": (self.categories, "category"), "decisions": (self.decisions, "decision")}
        rows = {
            name: [
                {what: key, "before": before, "after": after, "images": count}
                for (key, before, after), count in sorted(counter.items())
            ]
            for name, (counter, what) in changed.items()
        }
        outcomes = [{"before": b, "after": a, "images": count} for (b, a), count in sorted(self.counts.items())]
        return {"flips": self.flips, "outcomes": outcomes, **rows, "kept": dict(self.kept)}


def replay(
    scan: Path, policy: Policy, into: Replayed, *, calibration: Calibration | None = None,
    decisions: Mapping[str, str] | None = None,
) -> Iterator[Flip]:  # fmt: skip
    """Decide anew on every image of a finished scan, count what changes, and yield each flip.

    Args:
        scan: the output of the scan.
        policy: the new policy.
        into: what is counted.
        calibration: the new calibration. Of a scan that had one, the scores from before it are used.
        decisions: what people decided, by key, such as "appealed"; counted beside the flips.

    Raises:
        ConfigError: the scan is not finished, was calibrated and no calibration is given, or is of another model.

    Example:
        ```python
        counted = Replayed()
        flips = list(replay(Path("scanned"), Policy.load("strict"), counted))
        ```
    """
    spec = spec_of(scan, calibration)
    bound = policy.bind(spec)
    for number, (entry, row) in enumerate(pairs_of(scan, COLUMNS)):
        before = Outcome[row["outcome"].upper()]
        why, verdict = _decided(row, bound, spec, calibration)
        if verdict is None:
            into.kept[why] += 1
            into.counts[row["outcome"], row["outcome"]] += 1
            continue
        after = verdict.outcome.name.lower()
        into.counts[row["outcome"], after] += 1
        if verdict.outcome is not before:
            decision = (decisions or {}).get(entry.key, "")
            into.categories[verdict.category or row["category"], row["outcome"], after] += 1
            into.decisions.update([(decision, row["outcome"], after)] if decision else [])
            yield Flip(number, entry, before, verdict, row["sha256"], decision)


def spec_of(scan: Path, calibration: Calibration | None = None) -> ScoreSpec:
    """Return the record of the model of a scan, with the thresholds of a calibration."""
    try:
        run = json.loads((scan / "run.json").read_text(encoding="utf-8"))
        model, name, revision = str(run["settings"]["model"]), run["model"], run["revision"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ConfigError(f"{str(scan)!r} holds no scan: pass the --out of one") from error
    spec: ScoreSpec = read_spec(folder_of(model)) if is_path(model) else registry.spec(model)
    if (spec.name, spec.version) != (name, revision):
        raise ConfigError(f"the scan is by {name!r} {revision!r}, and {model!r} is {spec.name!r} {spec.version!r} now")
    if calibration is None:
        return spec
    if calibration.model != name or calibration.revision not in {"", revision}:
        raise ConfigError(f"the calibration is of {calibration.model!r} {calibration.revision!r}, the scan by {name!r}")
    return replace(spec, thresholds=dict(calibration.thresholds) or spec.thresholds)


def read_decisions(path: Path) -> dict[str, str]:
    """Return what people decided: a CSV with the columns `key` and `decision`."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path.name} cannot be read: {error}") from error
    if rows and not {"key", "decision"} <= set(rows[0]):
        raise ConfigError(f"{path.name} has the columns {', '.join(map(str, rows[0]))}: it needs key and decision")
    return {row["key"]: row["decision"] for row in rows}


def _decided(
    row: Mapping[str, Any], policy: Policy, spec: ScoreSpec, calibration: Calibration | None
) -> tuple[str, Verdict | None]:
    """The new verdict, or why the image keeps its outcome."""
    if row["status"] != "judged":
        return "was not judged", None
    if row["clip"] not in (None, "", "null"):
        return "a clip, of which only the frame that decided is known", None
    views = _views(row["scores"])
    if row["category"] == CATEGORY or any(name.startswith(MODEL) for view in views for name in view.details):
        return "decided by an example", None
    raw = any(name.startswith(RAW) for view in views for name in view.details)
    if raw and calibration is None:
        raise ConfigError("the scan was calibrated: pass the calibration that shall hold with --calibration")
    scores = Scores(tuple(_raw(view, spec) if raw else view for view in views))
    verdict = policy.decide(scores if calibration is None else calibration.apply(scores))
    partly = row["reason"].startswith("only ") and row["reason"].endswith(" were looked at")
    if partly and verdict.outcome < Outcome.REVIEW:
        verdict = replace(verdict, outcome=Outcome.REVIEW, reason=row["reason"])
    return "", verdict


def _views(value: Any) -> list[ViewScores]:
    """The views of a row, which are text in Parquet and CSV."""
    try:
        views = json.loads(value) if isinstance(value, str) else value
        return [
            ViewScores(
                View(str(one["view"]), tuple(one["box"])),
                {c: {Severity.of(s): float(p) for s, p in levels.items()} for c, levels in one["levels"].items()},
                {name: float(p) for name, p in one.get("details", {}).items()},
            )
            for one in views
        ]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ConfigError("the scores of a row are damaged: scan again") from error


def _raw(view: ViewScores, spec: ScoreSpec) -> ViewScores:
    """The view with the scores that the model itself returned."""
    levels = {
        category: {level: view.details[f"{RAW}{category} {level.name.lower()}"] for level in levels}
        for category, levels in spec.levels.items()
    }
    return replace(view, levels=levels)
