"""The directories of a TIFF structure: a TIFF file's pages, or the EXIF block of another file."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from nsfw_guard.errors import DecodeError

SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
POINTERS = {0x0111, 0x0117, 0x0144, 0x0145, 0x014A, 0x0201, 0x0202}  # tags with the place of an image
MAX_ENTRIES = 4096  # of a directory: usual ones have twenty
MAX_NUMBERS = 1_000_000  # of one entry: an image of 100:1 with a strip a row lists 200,000
SHARED_BYTES = 1 << 20  # by how much entries may overlap, beyond the size of the file


@dataclass(frozen=True)
class Value:
    """The value of a directory entry: its bytes in the file's byte order, and their place.

    The bytes are copied only when needed, since thousands of entries may overlap.
    """

    order: str
    kind: int
    block: bytes = field(repr=False)
    at: int
    size: int

    @property
    def data(self) -> bytes:
        """Its bytes, as far as the block contains them."""
        return self.block[self.at : self.at + self.size]

    @property
    def count(self) -> int:
        """Number of values."""
        return self.size // SIZES.get(self.kind, 1)

    def numbers(self) -> list[int]:
        """Return its whole numbers; an empty list for other types.

        Raises:
            DecodeError: there are more than any image needs.
        """
        if self.count > MAX_NUMBERS:
            raise DecodeError(f"a TIFF or EXIF entry of {self.count} numbers, too many: save the image again")
        return self._numbers(self.count)

    def first(self) -> int | None:
        """Return its first whole number."""
        return next(iter(self._numbers(1)), None)

    def _numbers(self, most: int) -> list[int]:
        code = {1: "B", 3: "H", 4: "L", 13: "L", 16: "Q", 18: "Q"}.get(self.kind)
        count = min(most, self.count) if code else 0
        return list(struct.unpack_from(f"{self.order}{count}{code}", self.block, self.at)) if count else []


@dataclass(frozen=True)
class Directory:
    """One directory: its place, the place of the pointer to the next one, and its entries by tag.

    Args:
        held: total bytes of its entries; overlapping bytes count each time.
    """

    at: int
    link: int
    entries: dict[int, Value]
    held: int = 0

    def number(self, tag: int, default: int = 0) -> int:
        """Return the first whole number of an entry."""
        value = self.entries.get(tag)
        number = value.first() if value else None
        return default if number is None else number


@dataclass(frozen=True)
class Layout:
    """Layout of a TIFF structure: byte order, and the field widths, which a BigTIFF doubles."""

    order: str
    big: bool

    @classmethod
    def of(cls, data: bytes) -> Layout | None:
        """Return the layout from the first bytes, or None where they do not begin a TIFF structure."""
        order = {b"II": "<", b"MM": ">"}.get(data[:2])
        magic = struct.unpack(f"{order}H", data[2:4])[0] if order and len(data) >= 8 else 0
        return cls(str(order), magic == 43) if magic in {42, 43} else None

    @property
    def pointer(self) -> tuple[int, str, int]:
        """Place of the pointer to the first directory, its format code and its width."""
        return (8, self.order + "Q", 8) if self.big else (4, self.order + "L", 4)

    def read(self, data: bytes, at: int) -> Directory | None:
        """Return the directory at a place, or None where there is none.

        Raises:
            DecodeError: it has too many entries, or contains a tag twice, on which readers would not agree.
        """
        width, step, code, room = (8, 20, "Q", 8) if self.big else (2, 12, "L", 4)
        if not 8 <= at <= len(data) - width:
            return None
        count = struct.unpack(self.order + ("Q" if self.big else "H"), data[at : at + width])[0]
        start, link = at + width, at + width + count * step
        if link > len(data):
            return None
        if count > MAX_ENTRIES:
            raise DecodeError(f"a TIFF or EXIF directory of {count} entries, too many: save the image again")
        entries: dict[int, Value] = {}
        held = 0
        for place in range(start, link, step):
            tag, kind = struct.unpack(self.order + "HH", data[place : place + 4])
            slot = place + 4 + room
            many, offset = struct.unpack(f"{self.order}2{code}", data[place + 4 : slot + room])
            size = many * SIZES.get(kind, 1)
            where = slot if size <= room else offset
            size = min(size, max(0, len(data) - where))  # never beyond the data
            held += size
            if tag in entries and tag in POINTERS:
                raise DecodeError(f"its tag {tag} occurs twice in a TIFF or EXIF directory: save the image again")
            entries[tag] = Value(self.order, kind, data, where, size)
        return Directory(at, link, entries, held)

    def next_of(self, data: bytes, directory: Directory) -> int:
        """Return the place of the next directory, or 0."""
        _, code, width = self.pointer
        raw = data[directory.link : directory.link + width]
        return int(struct.unpack(code, raw)[0]) if len(raw) == width else 0


def directories(data: bytes, *, most: int = 64) -> Iterator[Directory]:
    """Yield the main chain of directories, at most `most` + 1, so that the caller notices if there are more.

    Raises:
        DecodeError: their entries overlap so much that a small file would be read very many times.
    """
    layout = Layout.of(data)
    if layout is None:
        return
    at, code, width = layout.pointer
    raw = data[at : at + width]
    place = struct.unpack(code, raw)[0] if len(raw) == width else 0
    seen: set[int] = set()
    held = 0
    while place and place not in seen and len(seen) <= most:
        seen.add(place)
        directory = layout.read(data, place)
        if directory is None:
            return
        held += directory.held
        if held > 2 * len(data) + SHARED_BYTES:
            raise DecodeError("its TIFF or EXIF entries overlap: save the image again")
        yield directory
        place = layout.next_of(data, directory)


def entries(data: bytes) -> Iterator[tuple[int, int, Value]]:
    """Yield every entry of the main chain: the number of its directory, its tag and its value."""
    for index, directory in enumerate(directories(data)):
        for tag, value in directory.entries.items():
            yield index, tag, value


def pointing_to(data: bytes, at: int) -> bytes:
    """Return the file with the directory at that place as its first, so that its image is the one shown."""
    layout = Layout.of(data)
    assert layout is not None  # noqa: S101 - a place comes from a directory of this very file
    place, code, width = layout.pointer
    return data[:place] + struct.pack(code, at) + data[place + width :]
