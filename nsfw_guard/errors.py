"""Every error of this package, and nothing else. Each message names its cure.

NsfwGuardError
├── ConfigError (ValueError)          what was asked for cannot be built
│   ├── PolicyError                   a policy that cannot be read or does not fit the model
│   ├── UnknownNameError              a name that is in no list; the nearest right one is named
│   └── UncoveredError                a pipeline, or a way out of one, that no guard can cover
├── ModelError (RuntimeError)         a model that cannot be trusted to answer
│   ├── WeightsMissingError           no weights here, and no network to fetch them
│   ├── WeightsUnfitError             weights that are not those of this architecture or this hash
│   └── SelfTestError                 a model that does not answer as recorded
├── MissingExtraError (ImportError)   an optional library is not installed
├── ImageError (ValueError)           something that is no picture
│   └── DecodeError                   a file that cannot be decoded within the limits
├── ScoringError (RuntimeError)       a backend that answered wrongly, late or not at all
├── AuditError (OSError)              a line that could not be written, or a log that does not verify
└── BlockedError                      raised on purpose by the action `raise`; carries the verdicts
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nsfw_guard.verdict import Verdict


class NsfwGuardError(Exception):
    """Anything this package raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Python would call the class with the finished message, which not all of them take: errors cross processes.
        return _again, (type(self), self.args, vars(self))


class ConfigError(NsfwGuardError, ValueError):
    """What was asked for cannot be built."""


class PolicyError(ConfigError):
    """A policy that cannot be read, or that does not fit the model."""


class UnknownNameError(ConfigError):
    """A name that is in no list."""

    def __init__(self, what: str, name: object, known: Iterable[str]) -> None:
        text = name if not isinstance(name, str) or len(name) <= 120 else f"{name[:60]}..."
        super().__init__(f"unknown {what} {text!r}: {suggest(text, known)}")


class UncoveredError(ConfigError):
    """A pipeline, or a way out of one, that no guard can cover."""


class ModelError(NsfwGuardError, RuntimeError):
    """A model that cannot be trusted to answer."""


class WeightsMissingError(ModelError):
    """No weights here, and no network to fetch them."""


class WeightsUnfitError(ModelError):
    """Weights that are not those of this architecture or of this hash."""


class SelfTestError(ModelError):
    """A model that does not answer as recorded."""


class MissingExtraError(NsfwGuardError, ImportError):
    """An optional library is not installed."""

    def __init__(self, library: str, extra: str) -> None:
        super().__init__(f"{library} is not installed: run `pip install 'nsfw-guard[{extra}]'`")


class ImageError(NsfwGuardError, ValueError):
    """The input is not a usable image."""


class DecodeError(ImageError):
    """A file that cannot be decoded within the limits."""


class ScoringError(NsfwGuardError, RuntimeError):
    """A backend that answered wrongly, late or not at all."""


class AuditError(NsfwGuardError, OSError):
    """A line that could not be written, or a log that does not verify."""


class BlockedError(NsfwGuardError):
    """Raised on purpose by the action `raise`."""

    def __init__(self, *verdicts: Verdict) -> None:
        self.verdicts = verdicts
        super().__init__("; ".join(v.reason for v in verdicts) or "blocked")


def suggest(name: object, known: Iterable[str]) -> str:
    """Return the nearest right spelling of `name`, or all there are."""
    known = sorted(known)
    near = difflib.get_close_matches(str(name), known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known) or 'none'}"


def first_line(error: BaseException) -> str:
    """Return what an exception of another library says first."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _again(kind: type[NsfwGuardError], args: tuple[Any, ...], state: dict[str, Any]) -> NsfwGuardError:
    error = kind.__new__(kind, *args)
    vars(error).update(state)
    return error
