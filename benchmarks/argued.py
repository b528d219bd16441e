"""Faults that no test can notice, each with the reason why: the module behaves the same with them."""

from __future__ import annotations

EQUIVALENT: dict[str, str] = {}
