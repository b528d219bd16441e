"""Words and patterns that a prompt may not contain, also found in disguised spellings. Standard library only.

Normalised away: case, widths, accents and other marks, invisible characters, look-alike letters of other scripts,
digits for letters, spaced-out or repeated letters. A listed word inside a longer word does not match.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from nsfw_guard.errors import PolicyError

MAX_PROMPT_CHARS = 20_000  # a longer prompt is refused unread
WORD, PATTERN = "word", "pattern"
# Letters of other scripts that look like these.
LOOKALIKES = str.maketrans(
    "авгезиіјкмнорсѕтухԁԛԝһӏѵαβγεηικμνορτυχωϲϳıɑɡɩʀʏøđłħŧᴀʙᴄᴅᴇɢʜɪᴊᴋʟᴍɴᴏᴘꜱᴛᴜᴠᴡᴢ",
    "abresuijkmhopcstyxdqwhlvabyenikuvoptuxwcjiagiryodlhtabcdeghijklmnopstuvwz",
)
# The same for Cherokee, Lisu, Coptic and Armenian.
LOOKALIKES |= str.maketrans(
    "ᎪᎢᎫᎬᎳᎷᎻᏀᏃᏔᏚᏞᏟᏢᏙᏦᏴᎡᎥᏧꓐꓑꓓꓔꓖꓗꓙꓚꓜꓝꓟꓠꓡꓢꓣꓦꓧꓪꓫꓬꓮꓰꓲꓳꓴⲁⲃⲉⲏⲓⲕⲙⲛⲟⲣⲥⲧⲩⲭⲱօոսհյզցգռը",
    "atjewmhgzwslcpvkbridbpdtgkjczfmnlsrvhwxyaeiouabehikmnopctyxwonuhjqgqnn",
)
# Black circles, black squares and flags of letters, which have no compatibility form.
ENCLOSED = str.maketrans({start + i: chr(97 + i) for start in (0x1F150, 0x1F170, 0x1F1E6) for i in range(26)})
# Greek capitals that look like one letter, and their small forms like another.
CAPITALS = str.maketrans("ΝΗΥ", "NHY")
# Digits and signs used for letters; 1 and | are tried both as i and as l.
LEET = str.maketrans("0345789@$€!+", "oeastbgaseit")
MIXED = re.compile(r"(?:[!+|]{0,2}[\w@$€])+")  # a word with its digits and signs; "!" after a word is not a letter
INNER = r"._\-*'`~|/\\+·•\u2010-\u2015\u2022\u2043\u2212\u2219\u22c5\uff0d"  # drawn within words
BETWEEN = INNER + r",:;=#^\"\u2019\u2026\u30fb"  # and what divides words: among single letters it hides one
SEPARATORS = re.compile(rf"(?<=\w)[\s{BETWEEN}]+(?=\w)")
INSIDE = re.compile(rf"(?<=[^\W\d])[{INNER}]+(?=[^\W\d])")
SPELT = re.compile(rf"(?<!\w)(?:\w[\s{BETWEEN}]+){{2,}}\w(?!\w)")
# Invisible, though not in an invisible category: fillers of Hangul, the Braille blank, placeholders.
INVISIBLE = frozenset("\u034f\ufe0e\ufe0f\u3164\uffa0\u115f\u1160\u17b4\u17b5\u2800\ufffc\ufffd")
NOT_DRAWN = frozenset({"Mn", "Me", "Cf", "Cc", "Co", "Cn", "Cs"})
RUNS = re.compile(r"(\w)\1{2,}")
# Scripts without spaces between words: a word is found anywhere in the text.
UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")


@dataclass(frozen=True, kw_only=True)
class PromptRules:
    """Rules for prompts.

    Args:
        words: words or phrases that are refused, found whole and in any spelling.
        patterns: regular expressions, searched in the prompt and in its normalised form, ignoring case.

    Example:
        ```python
        rules = PromptRules(words=["dragon"], patterns=[r"dr[a4]ke"])
        rules.find("a d.r.4.g.o.n on white")  # "word 'dragon'"
        ```
    """

    words: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    _compiled: tuple[re.Pattern[str], ...] = field(init=False, repr=False, compare=False, default=())

    def __post_init__(self) -> None:
        for name in ("words", "patterns"):
            object.__setattr__(self, name, _strings(name, getattr(self, name)))
        object.__setattr__(self, "_compiled", tuple(_compile(p) for p in self.patterns))
        for word in self.words:
            if not re.search(r"\w", plain(word)):
                raise PolicyError(f"prompts: {word!r} contains no letter: list a word, or write a pattern")
        if not self.words and not self.patterns:
            raise PolicyError("prompts has neither words nor patterns: add some, or omit the table")

    def find(self, text: str) -> str:
        """Return the rule that a prompt breaks, such as "word 'dragon'", or an empty text."""
        if len(text) > MAX_PROMPT_CHARS:
            return f"more than {MAX_PROMPT_CHARS} characters"
        forms = list(spellings(text))
        for word, matcher in self._words.items():
            bare = plain(word).replace(" ", "")
            spelt = len(bare) > 2 and any(bare in run for form in forms for run in spelt_out(form))
            if spelt or any(matcher.search(form) for form in forms):
                return f"{WORD} {word!r}"
        for pattern, compiled in zip(self.patterns, self._compiled, strict=True):
            if compiled.search(text) or any(compiled.search(form) for form in forms):
                return f"{PATTERN} {pattern!r}"
        return ""

    def to_dict(self) -> dict[str, list[str]]:
        """Return JSON-ready values, without empty lists."""
        content = {"words": list(self.words), "patterns": list(self.patterns)}
        return {name: listed for name, listed in content.items() if listed}

    @cached_property
    def _words(self) -> Mapping[str, re.Pattern[str]]:
        return {word: _whole(plain(word)) for word in self.words}


def plain(text: str) -> str:
    """Return text in small Latin letters where possible: no widths, marks, invisible characters, look-alikes."""
    small = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).translate(ENCLOSED).casefold())
    kept = "".join(c for c in small if c in "\n\t" or not (unicodedata.category(c) in NOT_DRAWN or c in INVISIBLE))
    return re.sub(r"\s+", " ", unicodedata.normalize("NFC", kept).translate(LOOKALIKES)).strip()


def spellings(text: str) -> Iterator[str]:
    """Yield the possible readings of a prompt in plain letters, each once."""
    seen: dict[str, None] = {}
    for base in dict.fromkeys((plain(text), plain(text.translate(CAPITALS)), plain(_parted(text)))):
        for form in (base, *_as_letters(base)):
            for times in (r"\1", r"\1\1"):
                short = RUNS.sub(times, form)
                seen |= dict.fromkeys((short, SEPARATORS.sub(" ", short), INSIDE.sub("", short)))
    yield from seen


def _parted(text: str) -> str:
    """The text with a blank for each invisible character: it may separate two words."""
    return "".join(" " if unicodedata.category(c) in NOT_DRAWN - {"Mn", "Me"} or c in INVISIBLE else c for c in text)


def spelt_out(form: str) -> list[str]:
    """Return the words that are spelt in single letters, such as "r e d" or "r.e.d", joined."""
    runs = [re.sub(r"\W|_", "", run.group()) for run in SPELT.finditer(form)]
    return [word for run in runs for word in (run, *_as_letters(run))]


def _as_letters(text: str) -> Iterator[str]:
    """The text with digits among letters read as letters, 1 as i and as l. A number alone stays a number."""
    for both in ("ii", "ll"):
        table = {**LEET, **str.maketrans("1|", both)}

        def read(match: re.Match[str], table: dict[int, int] = table) -> str:
            return match[0].translate(table) if any(map(str.isalpha, match[0])) else match[0]

        yield MIXED.sub(read, text)


def _whole(word: str) -> re.Pattern[str]:
    """A pattern for a whole word: no letter before or after it."""
    body = r"[\W_]+".join(re.escape(part) for part in word.split())
    return re.compile(body if UNSPACED.search(word) else rf"(?<![^\W_]){body}(?![^\W_])")


def _compile(pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern, re.IGNORECASE)
    except re.error as error:
        raise PolicyError(
            f"prompts: the pattern {pattern!r} is not a valid regular expression ({error}): correct it"
        ) from error
    if compiled.search(""):
        raise PolicyError(
            f"prompts: the pattern {pattern!r} matches the empty text and would refuse every prompt: make it more "
            "specific"
        )
    return compiled


def _strings(name: str, value: Iterable[str] | str) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, (list, tuple)) or not all(isinstance(v, str) for v in value):
        raise PolicyError(f"prompts: {name} must be a list of strings, got {value!r}")
    return tuple(dict.fromkeys(value))
