"""One row of the output for each image: what it is, what the model said, and what was decided."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nsfw_guard.scores import number
from nsfw_guard.tools.clips import JudgedClip
from nsfw_guard.verdict import Verdict


@dataclass(frozen=True, kw_only=True)
class Row:
    """What is recorded of an image.

    Args:
        key: its path or address; bytes of a name that are no text are escaped.
        sha256: of its file; empty where that could not be read.
        size: bytes of its file.
        status: "judged", or "error".
        outcome, reason, category, severity, score, threshold, view, flags: as in the verdict.
        scores: of each view of the frame that decided, as JSON; those before a calibration are in the details.
        clip: of a video file, as JSON: how many frames were looked at, and the seconds of flagged stretches.
        digest: of the pixels that the model was shown.
        pdq, quality: the perceptual hash of that frame, and how much there was to hash, from 0 to 100.
        embedding: of that frame; None where the model has none.
        model, revision, policy, policy_hash: who answered, and by which rules.
    """

    key: str
    sha256: str
    size: int
    status: str
    outcome: str
    reason: str
    category: str
    severity: str
    score: float | None
    threshold: float | None
    view: str
    flags: tuple[str, ...]
    scores: str
    clip: str
    digest: str
    pdq: str
    quality: int | None
    embedding: NDArray[np.float32] | None
    model: str
    revision: str
    policy: str
    policy_hash: str

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values; a score that is no number becomes its name."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        embedding = None if self.embedding is None else [round(float(x), 6) for x in self.embedding]
        return {
            **values,
            "flags": list(self.flags),
            "score": number(self.score),
            "threshold": number(self.threshold),
            "scores": json.loads(self.scores),
            "clip": json.loads(self.clip or "null"),
            "embedding": embedding,
        }


COLUMNS = tuple(f.name for f in fields(Row))


def as_text(key: str) -> str:
    """Return a key as text that every format can hold: bytes that are no UTF-8 are escaped, and halves of letters."""
    if not _has_surrogates(key):
        return key
    # A list in JSON can name half a letter that stands for no byte.
    plain = "".join(f"\\u{ord(letter):04x}" if _is_no_byte(letter) else letter for letter in key)
    return os.fsencode(plain).decode("utf-8", "backslashreplace")


def _is_no_byte(letter: str) -> bool:
    return "\ud800" <= letter <= "\udfff" and not "\udc80" <= letter <= "\udcff"


def _has_surrogates(text: str) -> bool:
    return any("\ud800" <= letter <= "\udfff" for letter in text)


def row_of(key: str, verdict: Verdict, *, sha256: str, size: int, clip: JudgedClip | None = None) -> Row:
    """Return the row of an image with this verdict."""
    scores = verdict.scores
    embedding = None if scores is None or scores.embedding is None else scores.embedding
    digits, _, quality = scores.pdq.partition(",") if scores else ("", "", "")
    return Row(
        key=as_text(key),
        sha256=sha256,
        size=size,
        status="judged" if scores is not None and not scores.fault and verdict.outcome.name != "ERROR" else "error",
        outcome=verdict.outcome.name.lower(),
        reason=as_text(verdict.reason),
        category=verdict.category,
        severity=verdict.severity.name.lower() if verdict.severity else "",
        score=verdict.score,
        threshold=verdict.threshold,
        view=verdict.view,
        flags=verdict.flags,
        scores=json.dumps(scores.to_list() if scores else [], sort_keys=True),
        clip="" if clip is None else _clip(clip),
        digest=scores.digest if scores else "",
        pdq=digits,
        quality=int(quality) if quality else None,
        embedding=None if embedding is None else np.asarray(embedding.float().cpu(), dtype=np.float32),
        model=verdict.model,
        revision=verdict.revision,
        policy=verdict.policy,
        policy_hash=verdict.policy_hash,
    )


def _clip(clip: JudgedClip) -> str:
    stretches = [[round(start, 3), round(end, 3)] for start, end in clip.stretches]
    return json.dumps({"frames": len(clip.frames), "flagged": stretches}, sort_keys=True)


def schema(width: int) -> Any:
    """Return the Parquet schema for embeddings of this width; 0 for a model without any."""
    import pyarrow as pa

    kinds = {
        "size": pa.int64(),
        "quality": pa.int8(),
        "score": pa.float64(),
        "threshold": pa.float64(),
        "flags": pa.list_(pa.string()),
    }
    kinds["embedding"] = pa.list_(pa.float32(), width) if width else pa.null()
    return pa.schema([(name, kinds.get(name, pa.string())) for name in COLUMNS])


def to_table(rows: Sequence[Row], width: int) -> Any:
    """Return rows as a table of Arrow."""
    import pyarrow as pa

    content = [{**asdict(row), "flags": list(row.flags), "embedding": row.embedding} for row in rows]
    return pa.Table.from_pylist(content, schema=schema(width))
