"""Rules for `benchmarks.corpus`: what the images of a package show.

A rule names patterns of paths and the tags of what they match; the first rule that matches an image decides, one
without tags leaves it out, and so does no rule at all. A pattern matches the end of a path, from a folder on, in small
letters. A tag is one kind (photograph, drawing, icon or art) and perhaps `people`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

KINDS = ("photograph", "drawing", "icon", "art")
TAGS = (*KINDS, "people")


@dataclass(frozen=True)
class Rule:
    """What the images with such paths show; `at_most` takes a sample, evenly over their folders."""

    patterns: tuple[str, ...]
    tags: tuple[str, ...] = ()
    at_most: int = 0


@dataclass(frozen=True)
class Source:
    """A package, and the rules for its images."""

    manager: Literal["apt", "npm", "pip"]
    package: str
    version: str
    rules: tuple[Rule, ...]


def leave_out(patterns: str) -> Rule:
    """Returns a rule for what is not an image of its own, shows a program, or is not plainly harmless."""
    return Rule(tuple(patterns.split()))


def photographs(patterns: str, *, at_most: int = 0) -> Rule:
    """Returns a rule for photographs."""
    return Rule(tuple(patterns.split()), ("photograph",), at_most)


def portraits(patterns: str) -> Rule:
    """Returns a rule for photographs with people in them, all of them clothed."""
    return Rule(tuple(patterns.split()), ("photograph", "people"))


def drawings(patterns: str, *, at_most: int = 0) -> Rule:
    """Returns a rule for drawings."""
    return Rule(tuple(patterns.split()), ("drawing",), at_most)


def drawn_people(patterns: str, *, at_most: int = 0) -> Rule:
    """Returns a rule for drawings of people."""
    return Rule(tuple(patterns.split()), ("drawing", "people"), at_most)


def icons(patterns: str, *, at_most: int = 0) -> Rule:
    """Returns a rule for icons."""
    return Rule(tuple(patterns.split()), ("icon",), at_most)


def paintings(patterns: str) -> Rule:
    """Returns a rule for paintings."""
    return Rule(tuple(patterns.split()), ("art",))


def painted_people(patterns: str) -> Rule:
    """Returns a rule for paintings with people in them, all of them clothed."""
    return Rule(tuple(patterns.split()), ("art", "people"))
