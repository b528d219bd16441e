"""How far a rate that was counted may be from the true one. Standard library only."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

CONFIDENCE = 0.95
_STEPS = 300  # of the continued fraction; it needs a few dozen, and O(sqrt(max(a, b))) at worst
_TINY = 1e-300


@functools.lru_cache(maxsize=1 << 16)  # a report asks for each of thousands several times, at milliseconds each
def clopper_pearson(hits: int, count: int, *, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return the exact two-sided interval of a rate, of which `hits` of `count` independent trials are known.

    It holds the true rate with at least this confidence, also where no hit was seen. Without a trial it is (0, 1).

    Example:
        ```python
        low, high = clopper_pearson(3, 1000)  # 0.06% to 0.87%
        ```
    """
    if not 0 <= hits <= count:
        raise ValueError(f"hits must be from 0 to count={count}, got {hits}")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
    tail = (1.0 - confidence) / 2.0
    low = 0.0 if hits == 0 else _beta_quantile(tail, hits, count - hits + 1)
    high = 1.0 if hits == count else _beta_quantile(1.0 - tail, hits + 1, count - hits)
    return low, high


def _beta_quantile(p: float, a: float, b: float) -> float:
    """The x below which a beta distribution has the probability `p`, by bisection."""
    low, high = 0.0, 1.0
    while True:
        middle = (low + high) / 2.0
        if middle in (low, high):
            return middle
        if _beta_below(middle, a, b) < p:
            low = middle
        else:
            high = middle


def _beta_below(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b)."""
    if x <= 0.0 or x >= 1.0:
        return float(x >= 1.0)
    # The continued fraction converges quickly only below the mean; above it the symmetric form is used.
    if x > (a + 1.0) / (a + b + 2.0):
        return 1.0 - _beta_below_mean(1.0 - x, b, a)
    return _beta_below_mean(x, a, b)


def _beta_below_mean(x: float, a: float, b: float) -> float:
    """I_x(a, b) as a front factor over a continued fraction, evaluated by Lentz' method."""
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    fraction, c, d = 1.0, 1.0, 0.0
    for step in range(_STEPS + 10 * math.isqrt(math.ceil(max(a, b)))):
        m = step // 2
        if step == 0:
            term = 1.0
        elif step % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1.0 / _nonzero(1.0 + term * d)
        c = _nonzero(1.0 + term / c)
        fraction *= c * d
        if abs(c * d - 1.0) < 1e-15:
            break
    return math.exp(log_front) * (fraction - 1.0) / a


def _nonzero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


@functools.lru_cache(maxsize=1 << 12)
def hits_of_all(hits: int, drawn: int, size: int, *, confidence: float = CONFIDENCE) -> tuple[int, int]:
    """Return the exact two-sided interval of how many of `size` are hits, where `drawn` were looked at.

    The same as Clopper and Pearson's, for draws without replacement: what was looked at is known, so with everything
    drawn nothing is left open.

    Example:
        ```python
        low, high = hits_of_all(3, 100, 5000)  # 32 to 423
        ```
    """
    if not 0 <= hits <= drawn <= size:
        raise ValueError(f"hits, drawn and size must rise from 0 on, got {hits}, {drawn} and {size}")
    tail = (1.0 - confidence) / 2.0
    most = _last(hits, size - drawn + hits, lambda of_all: _at_most(hits, drawn, of_all, size) > tail)
    # The misses are drawn in the same way: the fewest hits are the most misses.
    misses = drawn - hits
    others = _last(misses, size - drawn + misses, lambda of_all: _at_most(misses, drawn, of_all, size) > tail)
    return size - others, most


def _last(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """The last number that something holds for, which holds for the first."""
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low


def _at_most(hits: int, drawn: int, of_all: int, size: int) -> float:
    """The chance of at most so many hits among those drawn, where `of_all` of `size` are hits."""
    first = max(0, drawn - (size - of_all))
    whole = _log_choices(size, drawn)
    return sum(
        math.exp(_log_choices(of_all, i) + _log_choices(size - of_all, drawn - i) - whole)
        for i in range(first, min(hits, of_all) + 1)
    )


def _log_choices(count: int, chosen: int) -> float:
    return math.lgamma(count + 1) - math.lgamma(chosen + 1) - math.lgamma(count - chosen + 1)
