"""The measurements from fitting an EarlyStop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class HeadReport:
    """What one look would have stopped by the decoder and by a learnt head, with thresholds for the same bound.

    Measured on the runs that heads are learnt from, each judged by a head that was trained without it.

    Args:
        at: the look.
        allowed, blocked: these runs.
        decoder_recall, head_recall: the share of the blocked ones that this look would have stopped.
        kept: whether the head replaces the decoder at this look: its recall is higher, and with the heads of all such
            looks more steps are saved on the runs that they have not seen, too.
    """

    at: float
    allowed: int
    blocked: int
    decoder_recall: float
    head_recall: float
    kept: bool


@dataclass(frozen=True)
class Report:
    """The measurements from fitting an EarlyStop.

    `bound` is the upper bound of the rate of false stops at 95% (one-sided, Clopper-Pearson, counting one more stop for
    each look but the first where the thresholds were chosen on the same images); `proven` is true when it is within the
    requested rate. Where heads were kept, all of this is of the runs that they have not seen. Where any were learnt,
    `bound` is at 97.5%, since the better of two sets of thresholds was chosen; `heads` compares them with the decoder,
    look by look; `decoder_saved` and `heads_saved` are the shares of steps that both would have saved.
    """

    allowed: int
    blocked: int
    false_stops: int
    stopped: int
    saved: float
    rate: float
    bound: float
    proven: bool
    heads: tuple[HeadReport, ...] = ()
    decoder_saved: float | None = None
    heads_saved: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Report:
        """Return the report from the values of `to_dict`."""
        heads = tuple(HeadReport(**one) for one in content.get("heads", ()))
        return cls(**{**content, "heads": heads})
