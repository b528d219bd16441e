"""Every error of this package. Each message says what was expected, what was given and how to fix it.

NsfwGuardError
├── ConfigError (ValueError)          a setting or argument that cannot be used
│   ├── PolicyError                   a policy that cannot be read or does not fit the model
│   ├── UnknownNameError              a name that is not in the list of known names
│   └── UncoveredError                a pipeline, or an output of one, that a guard cannot cover
├── ModelError (RuntimeError)         a model that cannot be relied on
│   ├── WeightsMissingError           weights that are not on this machine and cannot be fetched
│   ├── WeightsUnfitError             weights that do not match the architecture or the recorded hash
│   └── SelfTestError                 a model whose answers differ from the recorded ones
├── MissingExtraError (ImportError)   an optional library is not installed
├── ImageError (ValueError)           an input that is not a usable image
│   └── DecodeError                   a file that cannot be decoded within the limits
├── ScoringError (RuntimeError)       a backend that answered wrongly, too late or not at all
├── AuditError (OSError)              a line that could not be written, or a log that does not verify
└── BlockedError                      raised by the action `raise`; carries the verdicts
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nsfw_guard.verdict import Verdict


class NsfwGuardError(Exception):
    """The base class of all errors of this package."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Unpickling would call the class with the finished message, which not every constructor accepts.
        return _again, (type(self), self.args, vars(self))


class ConfigError(NsfwGuardError, ValueError):
    """A setting or argument that cannot be used."""


class PolicyError(ConfigError):
    """A policy that cannot be read, or that does not fit the model."""


class UnknownNameError(ConfigError):
    """A name that is not in the list of known names."""

    def __init__(self, what: str, name: object, known: Iterable[str]) -> None:
        text = name if not isinstance(name, str) or len(name) <= 120 else f"{name[:60]}..."
        super().__init__(f"unknown {what} {text!r}: {suggest(text, known)}")


class UncoveredError(ConfigError):
    """A pipeline, or an output of one, that a guard cannot cover."""


class ModelError(NsfwGuardError, RuntimeError):
    """A model that cannot be relied on."""


class WeightsMissingError(ModelError):
    """Weights that are not on this machine and cannot be fetched."""


class WeightsUnfitError(ModelError):
    """Weights that do not match the architecture or the recorded hash."""


class SelfTestError(ModelError):
    """A model whose answers differ from the recorded ones."""


class MissingExtraError(NsfwGuardError, ImportError):
    """An optional library is not installed."""

    def __init__(self, library: str, extra: str) -> None:
        super().__init__(f"{library} is not installed: run `pip install 'nsfw-guard[{extra}]'`")


class ImageError(NsfwGuardError, ValueError):
    """An input that is not a usable image."""


class DecodeError(ImageError):
    """A file that cannot be decoded within the limits."""


class ScoringError(NsfwGuardError, RuntimeError):
    """A backend that answered wrongly, too late or not at all."""


class AuditError(NsfwGuardError, OSError):
    """A line that could not be written, or a log that does not verify."""


class BlockedError(NsfwGuardError):
    """An image was blocked and the action is `raise`."""

    def __init__(self, *verdicts: Verdict) -> None:
        self.verdicts = verdicts
        super().__init__("; ".join(v.reason for v in verdicts) or "blocked")


def suggest(name: object, known: Iterable[str]) -> str:
    """Return the known name that is nearest to `name`, or a list of all known names."""
    known = sorted(known)
    near = difflib.get_close_matches(str(name), known, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"choose from {', '.join(known)}" if known else "no names are available"


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def printable(text: str) -> str:
    """Return text with its control characters, and bytes of a path that are no text, escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _again(kind: type[NsfwGuardError], args: tuple[Any, ...], state: dict[str, Any]) -> NsfwGuardError:
    error = kind.__new__(kind, *args)
    vars(error).update(state)
    return error
