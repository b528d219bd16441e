"""One example: nothing in it that could be misread, and no allow-example that can be forged."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from nsfw_guard.backends.examples.example import Example
from nsfw_guard.errors import ConfigError

HASH = "ab" * 32


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({"kind": "blok", "reason": "r", "pdq": HASH}, "did you mean 'block'"),
        ({"kind": "block", "reason": " ", "pdq": HASH}, "needs a reason"),
        ({"kind": "block", "reason": "a\nb", "pdq": HASH}, "printable letters"),
        ({"kind": "block", "reason": "r" * 501, "pdq": HASH}, "at most 500"),
        ({"kind": "block", "reason": "r", "pdq": "ab"}, "64 small hexadecimal digits"),
        ({"kind": "block", "reason": "r", "pixels": HASH.upper()}, "64 small hexadecimal digits"),
        ({"kind": "block", "reason": "r", "pdq": HASH, "expires": "2026-1-1"}, "YYYY-MM-DD"),
        ({"kind": "block", "reason": "r", "pdq": HASH, "expires": "2026-02-30"}, "YYYY-MM-DD"),
        ({"kind": "block", "reason": "r", "pdq": HASH, "distance": 64}, "from 0 to 63"),
        ({"kind": "block", "reason": "r", "pdq": HASH, "distance": True}, "from 0 to 63"),
        ({"kind": "block", "reason": "r", "pdq": HASH, "ceiling": {"red": float("nan")}}, "from 0 to 1"),
        ({"kind": "allow", "reason": "r", "pdq": HASH}, "can be forged"),
    ],
)
def test_what_cannot_be_an_example_is_refused(content: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        Example(**content)


def test_an_example_survives_its_json() -> None:
    example = Example(kind="allow", reason="r", label="l", ticket="t", pixels=HASH, pdq=HASH, ceiling={"red": 0.5})
    assert Example.from_dict(example.to_dict()) == example


@pytest.mark.parametrize("content", [{"kind": "block", "reason": "r", "pdq": HASH, "extra": 1}, ["block"]])
def test_other_fields_are_refused(content: Any) -> None:
    with pytest.raises(ConfigError, match="an example has the fields"):
        Example.from_dict(content)


def test_it_counts_to_the_end_of_its_last_day() -> None:
    example = Example(kind="block", reason="r", pdq=HASH, expires="2026-11-30")
    assert not example.expired(datetime.date(2026, 11, 30))
    assert example.expired(datetime.date(2026, 12, 1))
    assert not Example(kind="block", reason="r", pdq=HASH).expired(datetime.date.max)


def test_the_same_image_has_the_same_id_whatever_is_said_of_it() -> None:
    first = Example(kind="block", reason="one", pixels=HASH)
    assert first.id == Example(kind="block", reason="two", pixels=HASH, label="l").id
    assert first.id != Example(kind="allow", reason="one", pixels=HASH).id
