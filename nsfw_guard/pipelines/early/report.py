"""The measurements from fitting an EarlyStop."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Report:
    """The measurements from fitting an EarlyStop.

    `bound` is the upper bound of the rate of false stops at 95% (one-sided, Clopper-Pearson, counting one more stop for
    each look but the first where the thresholds were chosen on the same images); `proven` is true when it is within the
    requested rate.
    """

    allowed: int
    blocked: int
    false_stops: int
    stopped: int
    saved: float
    rate: float
    bound: float
    proven: bool
