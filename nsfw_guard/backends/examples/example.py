"""One example: which image it is of, what follows for images like it, and why."""

from __future__ import annotations

import datetime
import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from nsfw_guard.errors import ConfigError, UnknownNameError
from nsfw_guard.imaging.pdq import BITS, MATCH, Pdq
from nsfw_guard.scores import Fixed

Kind = Literal["block", "allow"]
CATEGORY = "example"  # of what an example blocks
MAX_TEXT = 500
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Example:
    """An image, known by hashes and by its embedding, that blocks or allows images like it.

    Args:
        kind: "block" or "allow".
        reason: why, for whoever reads a verdict.
        label: what it shows. Examples of one label share a radius.
        ticket: where it was decided.
        expires: the last day on which it counts, as YYYY-MM-DD; empty for no end.
        pixels: the SHA-256 of its size and 8-bit pixels; empty where only a perceptual hash is known.
        pdq: its perceptual hash, 64 hexadecimal digits; empty where there is too little in it to hash.
        distance: the bits by which the hash of a copy may differ.
        ceiling: of an allow-example, the score of each category and level that it had itself, such as "red high". It
            allows no image with a higher one, but itself.

    Example:
        ```python
        Example(kind="block", reason="reported twice", label="logo", pdq="f8" * 32, ticket="T-17")
        ```
    """

    kind: Kind
    reason: str
    label: str = ""
    ticket: str = ""
    expires: str = ""
    pixels: str = ""
    pdq: str = ""
    distance: int = MATCH
    ceiling: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ceiling", Fixed(self.ceiling))
        if self.kind not in get_args(Kind):
            raise UnknownNameError("kind of example", self.kind, get_args(Kind))
        for name in ("reason", "label", "ticket", "expires", "pixels", "pdq"):
            _check_text(name, getattr(self, name))
        if not self.reason.strip():
            raise ConfigError("an example needs a reason, which verdicts name: say why it is there")
        if self.expires:
            parsed_date(self.expires)
        if self.pixels and not _HASH.fullmatch(self.pixels):
            raise ConfigError(f"pixels is a SHA-256, 64 small hexadecimal digits, got {self.pixels!r}")
        if self.pdq:
            Pdq(self.pdq)
        if type(self.distance) is not int or not 0 <= self.distance < BITS // 4:
            raise ConfigError(f"distance is a number of bits from 0 to {BITS // 4 - 1}, got {self.distance!r}")
        for category, p in self.ceiling.items():
            if isinstance(p, bool) or not (isinstance(p, (int, float)) and 0.0 <= p <= 1.0):
                raise ConfigError(f"the score of {category!r} of an example must be from 0 to 1, got {p!r}")
        if self.kind == "allow" and not self.pixels:
            raise ConfigError(
                "an allow-example without pixels is refused: an image with a given perceptual hash can be forged. Add "
                "the image itself"
            )

    @property
    def id(self) -> str:
        """The name of this example: the same image with the same kind has the same one."""
        content = f"{self.kind} {self.pixels or self.pdq or self.label + self.reason}"
        return hashlib.sha256(content.encode()).hexdigest()[:12]

    def expired(self, today: datetime.date) -> bool:
        """Return whether it no longer counts."""
        return bool(self.expires) and parsed_date(self.expires) < today

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {**asdict(self), "ceiling": dict(self.ceiling), "id": self.id}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Example:
        """Return the example of such values."""
        known = {f.name for f in fields(cls)}
        if not isinstance(content, Mapping) or set(content) - known - {"id"}:
            raise ConfigError(f"an example has the fields {', '.join(sorted(known))}, got {str(content)[:200]}")
        return cls(**{name: value for name, value in content.items() if name != "id"})


def parsed_date(text: str) -> datetime.date:
    """Return a day that is written as YYYY-MM-DD."""
    try:
        if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", text, re.ASCII):
            raise ValueError
        return datetime.date.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"a day is written as YYYY-MM-DD, got {text!r}: correct it") from None


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str) or len(value) > MAX_TEXT or not (value.isprintable()):
        raise ConfigError(f"{name} of an example is at most {MAX_TEXT} printable letters, got {str(value)[:80]!r}")
