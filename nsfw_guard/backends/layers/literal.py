"""The reader of one JavaScript literal in an untrusted file. No JavaScript is run: anything but data is refused."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from nsfw_guard.errors import WeightsUnfitError

MAX_CHARS = 64 << 20  # letters of a file; the largest shard that is published has 5.6 million
MAX_DEPTH = 32  # levels; a published topology has twelve
MAX_VALUES = 200_000  # entries of all lists and objects; the largest published topology has 21,000
MAX_NUMBER_CHARS = 40
MAX_ESCAPES = 1000  # in one string: the regex keeps a hundred bytes for each; no published string has any

# What a bundler writes around the one module of a file: `{1:[function(e,a,n){a.exports=` DATA `},{}]},{},[1])(1)});`.
HEAD = re.compile(r"\(\{1:\[function\(([\w$]+),([\w$]+),([\w$]+)\)\{\2\.exports=", re.ASCII)
TAIL = re.compile(r"\s*\},\{\}\]\},\{\},\[1\]\)\(1\)\}\);?\s*", re.ASCII)
MAX_HEAD_CHARS = 4000  # letters before the data; published bundles have 730

# Each alternative reads a letter in one way only, so that the time is linear.
_FEW = rf"{{0,{MAX_ESCAPES}}}"
TOKEN = re.compile(
    r"[ \t\r\n]*(?:(?P<mark>[{}\[\]:,])"
    rf"|(?P<text>\"[^\"\\\r\n]*(?:\\.[^\"\\\r\n]*){_FEW}\"|'[^'\\\r\n]*(?:\\.[^'\\\r\n]*){_FEW}')"
    r"|(?P<number>-?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<word>![01]|[A-Za-z_$][\w$]*))",
    re.ASCII,
)
WORDS: Mapping[str, bool | None] = {"!0": True, "!1": False, "true": True, "false": False, "null": None}
ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(.))", re.DOTALL)
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", '"': '"', "'": "'", "\\": "\\", "/": "/"}
# JavaScript reads these keys as a change of the object, not as an entry.
NO_KEYS = {"__proto__"}


def read_literal(data: bytes, where: str) -> Any:
    """Return the value of a bundle with one module, or of a file that is nothing but a literal.

    Raises:
        WeightsUnfitError: it holds anything but objects, lists, strings, finite numbers, true, false and null.
    """
    if len(data) > MAX_CHARS:
        raise WeightsUnfitError(f"{where} is larger than {MAX_CHARS >> 20} MB, the most that is read: fetch it again")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise WeightsUnfitError(f"{where} is not UTF-8 ({error.reason}): fetch it again") from error
    head = HEAD.search(text, 0, MAX_HEAD_CHARS) if text[:1] not in "{[\"'" else None
    reader = _Reader(text, where, head.end() if head else 0)
    value = reader.value(1)
    end = TAIL if head else re.compile(r"\s*", re.ASCII)
    if not end.fullmatch(text, reader.at):
        reader.refuse("the end of the file")
    return value


@dataclass
class _Reader:
    """Reads a literal token by token, from `at` on."""

    text: str
    where: str
    at: int = 0
    count: int = 0

    def value(self, depth: int) -> Any:
        """Return the value that begins here."""
        self.count += 1
        if self.count > MAX_VALUES:
            self._unfit(f"has more than {MAX_VALUES} values")
        kind, part = self._next("a value")
        if part in {"{", "["}:
            if depth > MAX_DEPTH:
                self._unfit(f"is nested more than {MAX_DEPTH} levels deep")
            return self._object(depth) if part == "{" else self._list(depth)
        if kind == "text":
            return self._string(part)
        if kind == "number":
            return self._number(part)
        if kind == "word" and part in WORDS:
            return WORDS[part]
        return self.refuse("a value", part)

    def refuse(self, wanted: str, got: str | None = None) -> NoReturn:
        """Raise an error that says what stands where something else was expected."""
        got = self.text[self.at : self.at + 40] if got is None else got[:40]
        self._unfit(f"holds {got!r} near letter {self.at} where {wanted} was expected")

    def _object(self, depth: int) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        kind, part = self._next("a key or '}'")
        while part != "}" or kind != "mark":
            if kind not in {"text", "word"} or part.startswith("!"):
                self.refuse("a key", part)
            key = self._string(part) if kind == "text" else part
            if key in entries or key in NO_KEYS:
                self._unfit(f"has the key {key[:40]!r} twice, or as a setting of the object")
            self._mark(":")
            entries[key] = self.value(depth + 1)
            if self._mark(",", "}") == "}":
                break
            kind, part = self._next("a key")
            if part == "}":
                self.refuse("a key", part)
        return entries

    def _list(self, depth: int) -> list[Any]:
        items: list[Any] = []
        if self._peek() == "]":
            self._mark("]")
            return items
        while True:
            items.append(self.value(depth + 1))
            if self._mark(",", "]") == "]":
                return items

    def _next(self, wanted: str) -> tuple[str, str]:
        """The next token with its kind."""
        match = TOKEN.match(self.text, self.at)
        if match is None:
            self.refuse(wanted)
        self.at = match.end()
        kind = str(match.lastgroup)
        return kind, match[kind]

    def _peek(self) -> str:
        match = TOKEN.match(self.text, self.at)
        return match["mark"] or "" if match else ""

    def _mark(self, *wanted: str) -> str:
        kind, part = self._next(" or ".join(map(repr, wanted)))
        if kind != "mark" or part not in wanted:
            self.refuse(" or ".join(map(repr, wanted)), part)
        return part

    def _string(self, part: str) -> str:
        inner = part[1:-1]
        return ESCAPE.sub(self._escape, inner) if "\\" in inner else inner

    def _escape(self, match: re.Match[str]) -> str:
        code = match[1] or match[2]
        if code:
            return chr(int(code, 16))
        if match[3] not in ESCAPES:
            self._unfit(f"has the escape {match[0]!r} in a string, which is not read")
        return ESCAPES[match[3]]

    def _number(self, part: str) -> int | float:
        number = float(part) if len(part) <= MAX_NUMBER_CHARS else math.inf
        if not math.isfinite(number):
            self._unfit(f"has the number {part[:40]}, which is too large or too long")
        # As in JavaScript, 1e3 and 1.0 are whole numbers.
        return int(number) if number.is_integer() and abs(number) <= 2**53 else number

    def _unfit(self, what: str) -> NoReturn:
        raise WeightsUnfitError(f"{self.where} {what}: only one literal of data is read, fetch the file again")
