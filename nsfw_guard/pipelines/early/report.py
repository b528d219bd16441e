"""What was measured when an EarlyStop was fitted."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Report:
    """What was measured when it was fitted.

    `bound` is the upper end of what the rate of false stops may really be, at 95% (one-sided, Clopper-Pearson, with
    one more for each look but the first where the thresholds were chosen on the same pictures); `proven` says whether
    that is within the rate that was asked for.
    """

    allowed: int
    blocked: int
    false_stops: int
    stopped: int
    saved: float
    rate: float
    bound: float
    proven: bool
