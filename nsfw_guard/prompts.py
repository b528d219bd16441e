"""Which words a prompt must not hold, whatever they are disguised as. Standard library only.

Whole words and phrases, so that a listed word inside a longer one does not match; list plurals too. Scripts that
write no spaces between words (Chinese, Japanese, Thai ...) need patterns. It finds words, not meanings.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from nsfw_guard.errors import PolicyError

LONGEST = 10_000  # characters that are searched; a longer prompt is matched unread, or padding would hide anything

_TOO_LONG = f"longer than {LONGEST} characters"
_LEET = {"a": "4@", "b": "8", "e": "3", "g": "9", "i": "1!|", "l": "1|", "o": "0", "s": "5$", "t": "7"}
_ALIKE = {
    # Cyrillic, Greek, Armenian, small capitals and strokes: what looks like a Latin letter, by that letter
    "a": "аαɑᴀ", "b": "вьβʙ", "c": "сϲᴄ", "d": "ԁđᴅ", "e": "еєεᴇ", "g": "ɡԍɢ", "h": "нһħհʜ", "i": "іιıɪⅰ",
    "j": "јϳᴊ", "k": "кκᴋ", "l": "ӏłʟ", "m": "мᴍ", "n": "пηոɴ", "o": "оοօøᴏ", "p": "рρᴘ", "q": "ԛ", "r": "гʀ",
    "s": "ѕꜱ", "t": "тτŧᴛ", "u": "υµμսᴜ", "v": "νѵᴠ", "w": "ωԝѡᴡ", "x": "хχ", "y": "уγүʏ", "z": "ζᴢ",
}  # fmt: skip
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
# Letters in black circles, in black squares, and as flags, which NFKC leaves alone.
_ENCLOSED = {chr(start + i): letter for start in (0x1F150, 0x1F170, 0x1F1E6) for i, letter in enumerate(_LETTERS)}
_TABLE = str.maketrans({like: letter for letter, likes in _ALIKE.items() for like in likes} | _ENCLOSED)
_CAPITALS = str.maketrans(
    {"Ν": "n", "Η": "h", "Υ": "y"}
)  # these look like one letter, and their small forms like another
_FILLERS = frozenset("\u115f\u1160\u17b4\u17b5\u180e")  # drawn as nothing, though called letters or spaces
_SPACED = "\u0700"  # marks on letters before this are ornament or disguise; after it they are part of the word

_UNIT, _GAP, _EDGE = r"(?:[^\W_]|[@$])", r"(?:[^\w@$]|_)", (r"(?<![^\W_])", r"(?![^\W_])")
_RUNS = tuple(
    re.compile(rf"(?<![^\W_]){_UNIT}(?:{_GAP}{{1,{widest}}}{_UNIT}){{2,}}(?![^\W_])") for widest in (1, 3)
)  # three or more single letters in a row, with one character or up to three between them
_MIXED = re.compile(r"[\w@$!|]*[^\W\d_][\w@$!|]*")
_DRAWN_OUT = "{3,}"
_RUNAWAY = re.compile(r"(?<!\\)[+*}]\)[+*{]")  # (a+)+ takes for ever on a text that nearly matches


@dataclass(frozen=True)
class PromptRules:
    """Words, phrases and regular expressions that block a prompt.

    Args:
        words: found as whole words in any case, through look-alike letters, digits for letters, marks, invisible
            characters, letters drawn out ("reeed") and letters spaced out ("r e d", "r.e.d").
        patterns: searched in any case, in the text as it is and in the text with the disguises undone. A policy is
            trusted: the plainest endless pattern is refused, but one can still be written that takes very long.
    """

    words: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("words", "patterns"):
            object.__setattr__(self, name, _texts(name, getattr(self, name)))
        if not (self.words or self.patterns):
            raise PolicyError("prompt rules without words and patterns match nothing: give one, or leave them out")
        for word in self.words:
            if not any(c.isalnum() for c in fold(word)):
                raise PolicyError(f"words: {word!r} has no letter or digit to look for: write a word, or a pattern")
        _ = self._patterns  # compiled now, so that a bad one is found when the policy is read

    @cached_property
    def _words(self) -> tuple[tuple[str, re.Pattern[str], re.Pattern[str]], ...]:
        """Each word with how it stands in a text, and how it looks when all of it was spaced out."""
        return tuple((word, _compiled(word, r"[\W_]+"), _compiled(word, "")) for word in self.words)

    @cached_property
    def _patterns(self) -> tuple[tuple[str, re.Pattern[str]], ...]:
        return tuple((pattern, _regex(pattern)) for pattern in self.patterns)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without what is not set."""
        told = {"words": list(self.words), "patterns": list(self.patterns)}
        return {name: texts for name, texts in told.items() if texts}

    def find(self, text: str) -> str:
        """The rule that matches, as it was written, or "". A text too long to search matches as such."""
        plain = fold(text[: LONGEST + 1])
        if max(len(text), len(plain)) > LONGEST:
            return _TOO_LONG
        views, runs = _unspaced(plain)
        for word, regex, glued in self._words:
            if any(_spelled(regex, view) for view in views) or any(_spelled(glued, run) for run in runs):
                return word
        texts = dict.fromkeys([text, *views, *(_spell_out(view, one) for view in views for one in "il")])
        return next((rule for rule, regex in self._patterns if any(regex.search(t) for t in texts)), "")


def fold(text: str) -> str:
    """One spelling for all that look alike: compatibility forms, case, look-alike letters, marks, invisible characters.

    Digits stay digits.
    """
    split = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).translate(_CAPITALS).casefold())
    kept: list[str] = []
    base = ""
    for c in split:
        category = unicodedata.category(c)
        if category in {"Cf", "Cn", "Co", "Cs"} or c in _FILLERS or (category == "Cc" and not c.isspace()):
            continue
        if category in {"Mn", "Me"} and base < _SPACED:
            continue
        base = c if category[0] != "M" else base
        kept.append(c)
    return unicodedata.normalize("NFC", "".join(kept)).translate(_TABLE)


def _texts(name: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, (list, tuple)) or not all(isinstance(v, str) for v in value):
        raise PolicyError(f'{name} is a list of texts, such as ["red disc"], not {value!r}')
    if not all(v.strip() for v in value):
        raise PolicyError(f"{name} holds an empty text, which would match everything or nothing: take it out")
    return tuple(dict.fromkeys(value))


def _regex(pattern: str) -> re.Pattern[str]:
    try:
        made = re.compile(pattern, re.IGNORECASE)
    except (re.error, OverflowError, RecursionError) as error:
        raise PolicyError(f"patterns: {pattern!r} is no regular expression ({error}): mend it, or use words") from None
    if _RUNAWAY.search(pattern):
        raise PolicyError(f"patterns: {pattern!r} repeats a repetition, which can take for ever: repeat it once")
    if made.search(""):
        raise PolicyError(f"patterns: {pattern!r} matches the empty text, and so every prompt: make it match something")
    return made


def _compiled(word: str, between: str) -> re.Pattern[str]:
    """How a word or phrase may be spelled: digits for letters, and a letter drawn out to three or more."""
    spellings = []
    for spelling in dict.fromkeys((fold(word), fold(word.upper()))):
        parts = re.findall(r"[^\W_]+", spelling)
        letters = [[_drawn_out(run[1], len(run[0])) for run in re.finditer(r"(.)\1*", part)] for part in parts]
        spellings.append(between.join("".join(part) for part in letters))
    return re.compile(rf"{_EDGE[0]}(?:{'|'.join(spellings)}){_EDGE[1]}")


def _drawn_out(letter: str, count: int) -> str:
    # Three, since two of a letter make other words: a listed "fed" is not in "feed".
    one = f"[{re.escape(letter + _LEET.get(letter, ''))}]"
    return f"(?:{one}{{{count}}}|{one}{_DRAWN_OUT})" if letter.isalpha() else one * count


def _spelled(regex: re.Pattern[str], text: str) -> bool:
    """Whether it stands in the text with a letter of its own: 47 is a number, 4t may be a word."""
    number = _DRAWN_OUT not in regex.pattern
    return any(number or any(c.isalpha() for c in found[0]) for found in regex.finditer(text))


def _unspaced(text: str) -> tuple[list[str], list[str]]:
    """The text, and with letters that stand alone in a row joined; and what was joined, each for itself.

    In "a r e d" the first letter may be a word of its own: it is read both ways.
    """
    views, runs = [text], []
    for run in _RUNS:
        for joined in (_joined, _after_article):
            views.append(run.sub(lambda found, how=joined: how(found[0]), text))  # type: ignore[misc]
            runs += [joined(found[0]).split(" ")[-1] for found in run.finditer(text)]
    return list(dict.fromkeys(views)), list(dict.fromkeys(runs))


def _joined(run: str) -> str:
    return "".join(c for c in run if c.isalnum() or c in "@$")


def _after_article(run: str) -> str:
    letters = _joined(run)
    return f"{letters[0]} {letters[1:]}" if letters[0] in "ai" else letters


def _spell_out(text: str, one: str) -> str:
    """Digits that stand among letters as the letters they are drawn for; 1 is an i or an l."""
    table = str.maketrans({like: letter for letter, likes in _LEET.items() for like in likes} | {"1": one, "|": one})
    return _MIXED.sub(lambda found: found[0].translate(table), text)
