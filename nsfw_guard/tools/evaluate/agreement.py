"""Two guards on the same images: where they agree, where not, and what each costs."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nsfw_guard.errors import ConfigError
from nsfw_guard.guard import Guard
from nsfw_guard.imaging.limits import Limits
from nsfw_guard.tools.evaluate.harmless import ANY, Answer, Criterion, MeasuredImage, measure
from nsfw_guard.tools.evaluate.images import ImageFile, collect
from nsfw_guard.tools.evaluate.intervals import clopper_pearson
from nsfw_guard.tools.pages import bullets, page, table, text
from nsfw_guard.tools.screening.results import pairs_of
from nsfw_guard.tools.sheets import figure, small_copy_of
from nsfw_guard.tools.teaching.labelled import LISTS, paths_in
from nsfw_guard.verdict import Outcome

FIRST, SECOND = "first", "second"


@dataclass(frozen=True)
class Pair:
    """An image, and what two guards decide.

    Args:
        path: of the image.
        outcomes: of the first and of the second guard.
        scores: the highest score of each, over all categories; 0 where it was not judged.
        milliseconds: that each took.
        fault: why one of them could not judge it; empty where both did.
    """

    path: str
    outcomes: tuple[Outcome, Outcome]
    scores: tuple[float, float]
    milliseconds: tuple[float, float]
    fault: str = ""

    @property
    def agree(self) -> bool:
        """Whether both decide alike, and both could judge it."""
        return self.outcomes[0] is self.outcomes[1] is not Outcome.ERROR

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "path": self.path, "outcomes": [outcome.name.lower() for outcome in self.outcomes],
            "scores": list(self.scores), "fault": self.fault,
        }  # fmt: skip


@dataclass(frozen=True)
class Agreement:
    """How two guards compare over all images.

    Args:
        pairs: the images.
    """

    pairs: tuple[Pair, ...]

    @property
    def counts(self) -> Counter[tuple[str, str]]:
        """How many images got which two outcomes."""
        return Counter((pair.outcomes[0].name.lower(), pair.outcomes[1].name.lower()) for pair in self.pairs)

    @property
    def judged(self) -> list[Pair]:
        """The images that both could judge."""
        return [pair for pair in self.pairs if Outcome.ERROR not in pair.outcomes]

    @property
    def agreed(self) -> tuple[int, float, float]:
        """How many of the images that both judged got the same outcome, with the exact 95% interval of the share."""
        judged = self.judged
        count = sum(pair.agree for pair in judged)
        return count, *clopper_pearson(count, len(judged))

    @property
    def milliseconds(self) -> tuple[float, float]:
        """The median time of each guard for an image; decoding, which they share, is not in it."""
        times = [pair.milliseconds for pair in self.judged] or [(0.0, 0.0)]
        return statistics.median(t[0] for t in times), statistics.median(t[1] for t in times)

    def flips(self) -> list[Pair]:
        """Return the images on which they differ, those that only one blocks first, the surest first."""
        differ = [pair for pair in self.judged if not pair.agree]
        return sorted(differ, key=lambda pair: (Outcome.BLOCK not in pair.outcomes, -max(pair.scores), pair.path))

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        count, low, high = self.agreed
        outcomes = [{"first": a, "second": b, "images": n} for (a, b), n in sorted(self.counts.items())]
        return {
            "images": len(self.pairs), "judged": len(self.judged), "agreed": count, "interval": [low, high],
            "outcomes": outcomes, "milliseconds": list(self.milliseconds),
            "faults": [pair.to_dict() for pair in self.pairs if pair.fault],
        }  # fmt: skip


def images_on(sources: Sequence[str]) -> list[ImageFile]:
    """Return the images of folders, of lists with a column `path`, or of finished scans.

    Raises:
        ConfigError: a source cannot be read, or a scan holds images that are no files.
    """
    paths: dict[str, None] = {}
    for source in sources:
        if Path(source).suffix.lower() in LISTS:
            paths |= dict.fromkeys(paths_in(source))
        elif (Path(source) / "run.json").is_file():
            paths |= dict.fromkeys(_of_scan(Path(source)))
        else:
            paths |= dict.fromkeys(file.path for file in collect([source]).files)
    if not paths:
        raise ConfigError("the sources hold no image: give a folder, a list or a finished scan")
    return [ImageFile(path) for path in paths]


def _of_scan(folder: Path) -> Iterator[str]:
    for entry, _ in pairs_of(folder, []):
        if not Path(entry.key).is_file():
            raise ConfigError(
                f"{entry.key!r} of the scan is no file: only images that are files of their own can be judged again"
            )
        yield entry.key


def agreement(first: Guard, second: Guard, files: Sequence[ImageFile], *, batch_size: int = 16) -> Iterator[Pair]:
    """Yield what two guards decide on each image, which is decoded once for both.

    Args:
        first, second: the guards; their policies and calibrations decide, their actions are not used.
        files: the images.
        batch_size: images per batch.
    """
    guards = {FIRST: first, SECOND: second}
    criteria = {name: (Criterion(ANY, None, "policy", guard.policy),) for name, guard in guards.items()}
    for one in measure(guards, criteria, files, batch_size=batch_size):
        yield _pair(one)


def _pair(one: MeasuredImage) -> Pair:
    a, b = one.answers[FIRST], one.answers[SECOND]
    times = (1000 * one.seconds.get(FIRST, 0.0), 1000 * one.seconds.get(SECOND, 0.0))
    return Pair(one.file.path, (_outcome(a), _outcome(b)), (a.worst, b.worst), times, a.fault or b.fault)


def _outcome(answer: Answer) -> Outcome:
    return Outcome.ERROR if answer.fault or not answer.outcomes else answer.outcomes[0]


def to_html(result: Agreement, names: tuple[str, str], *, most: int = 48, hidden: bool = True) -> str:
    """Return a page with the figures, and the images on which two guards differ.

    Args:
        result: what was measured.
        names: what the guards are called.
        most: images that are shown.
        hidden: behind a blur until they are clicked; else they are left out.
    """
    count, low, high = result.agreed
    rows = [[a, b, str(n)] for (a, b), n in sorted(result.counts.items())]
    cost = [[name, f"{time:.1f} ms"] for name, time in zip(names, result.milliseconds, strict=True)]
    parts = [
        f"<section><h2>{count} of {len(result.judged)} alike ({low:.1%} to {high:.1%})</h2>"
        f"{table([*names, 'images'], rows)}</section>",
        f"<section><h2>Cost</h2>{table(['', 'an image'], cost)}</section>",
    ]
    if faults := [f"{pair.path}: {pair.fault}" for pair in result.pairs if pair.fault]:
        parts.append(f"<section><h2>Not judged</h2>{bullets(faults[:most])}</section>")
    if hidden and (flips := result.flips()):
        figures = "".join(_figure(pair) for pair in flips[:most])
        title = f"They differ on {len(flips)} images"
        parts.append(f"<section><h2>{title}</h2><div class=sheet>{figures}</div></section>")
    return page(f"{names[0]} and {names[1]}", "\n".join(parts))


def _figure(pair: Pair) -> str:
    words = " / ".join(f"{o.name.lower()} {s:.2f}" for o, s in zip(pair.outcomes, pair.scores, strict=True))
    small = small_copy_of(pair.path, blurred=False, limits=Limits())
    return figure(small, f"{text(words)}<br><small>{text(Path(pair.path).name)}</small>")
