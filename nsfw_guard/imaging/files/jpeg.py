"""The segments and scans of a JPEG: its embedded images, the work it takes, and whether it is complete."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nsfw_guard.errors import DecodeError
from nsfw_guard.imaging.files.metadata import Embedded, in_exif, raw_image, sweep
from nsfw_guard.imaging.files.tiffs import entries

SOI, EOI, SOS, DRI, DNL = 0xD8, 0xD9, 0xDA, 0xDD, 0xDC
HUFFMAN = {0xC0, 0xC1, 0xC2}  # baseline, extended, progressive: what browsers show
OTHER = {0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
RESTARTS = range(0xD0, 0xD8)
EXTENDED_XMP = b"http://ns.adobe.com/xmp/extension/\0"


_PART, _MOST_MARKS = 1 << 20, 8_000_000  # bytes that are looked through at a time; a 64 MB file has far fewer
ICC = b"ICC_PROFILE\0"
Marks = NDArray[np.intp]


@dataclass(frozen=True)
class Segment:
    """One marker with the place of its payload."""

    marker: int
    start: int
    end: int


@dataclass
class Scan:
    """One pass over the image: its components, whether it is the first to bring their mean values, the end of its
    data, its restarts and their interval."""

    components: tuple[int, ...]
    begins: bool
    end: int
    restarts: int
    interval: int


@dataclass
class Jpeg:
    """The structure of a JPEG file up to its end mark."""

    segments: list[Segment] = field(default_factory=list)
    scans: list[Scan] = field(default_factory=list)
    size: tuple[int, int] = (0, 0)
    sampling: dict[int, tuple[int, int]] = field(default_factory=dict)
    end: int = 0


def read(data: bytes, *, most_scans: int) -> Jpeg:
    """Return the segments and scans of a JPEG file, up to its end.

    Raises:
        DecodeError: it has more scans than that, or is of a type that browsers do not show.
    """
    jpeg, interval = Jpeg(end=len(data)), 0
    marks = _marks(data)
    for segment in _segments(data, marks):
        payload = data[segment.start : segment.end]
        if segment.marker in HUFFMAN:
            if len(payload) < 6 + 3 * (payload[5] if len(payload) > 5 else 0) or jpeg.sampling:
                raise DecodeError("a JPEG with a damaged frame header: save it again")
            jpeg.size = struct.unpack(">HH", payload[1:5])[::-1]
            jpeg.sampling = {payload[i]: (payload[i + 1] >> 4, payload[i + 1] & 15) for i in _triples(payload)}
        elif segment.marker in OTHER:
            raise DecodeError(
                "lossless, arithmetic and hierarchical JPEGs are not supported: save it again as baseline JPEG"
            )
        elif segment.marker == DRI and len(payload) == 2:
            interval = int.from_bytes(payload, "big")
        elif segment.marker == SOS:
            jpeg.scans.append(_scan(payload, segment, data, marks, interval))
            if len(jpeg.scans) > most_scans:
                raise DecodeError(f"more than {most_scans} scans: save it again, or raise limits.scans")
        elif segment.marker == EOI:
            jpeg.end = segment.end
        jpeg.segments.append(segment)
    _check_profile(data, jpeg)
    return jpeg


def _check_profile(data: bytes, jpeg: Jpeg) -> None:
    """Raise an error when parts of a colour profile are missing: some viewers follow it, others do not."""
    numbers, late = [], False
    for segment in jpeg.segments:
        head = data[segment.start : segment.start + 14]
        if segment.marker in HUFFMAN:
            late = True
        elif segment.marker == 0xE2 and head[:12] == ICC:
            numbers.append((late, *head[12:]))
    if numbers != [(False, number + 1, len(numbers)) for number in range(len(numbers))]:
        raise DecodeError("the parts of its colour profile do not fit together: save the image without it")


def _triples(payload: bytes) -> range:
    return range(6, 6 + 3 * payload[5], 3)


def _marks(data: bytes) -> Marks:
    """Every place where a marker may stand: 0xFF before what is neither a stuffed zero nor another 0xFF."""
    array, parts, count = np.frombuffer(data, np.uint8), [], 0
    for start in range(0, len(array) - 1, _PART):
        part = array[start : start + _PART + 1]
        places = np.flatnonzero(part[:-1] == 0xFF)
        after = part[places + 1]
        parts.append(places[(after != 0) & (after != 0xFF)] + start)
        count += len(parts[-1])
        if count > _MOST_MARKS:
            raise DecodeError("a JPEG with too many markers: save it again")
    marks: Marks = np.concatenate(parts) if parts else np.zeros(0, np.int64)
    return marks


def _segments(data: bytes, marks: Marks) -> Iterator[Segment]:
    at = 2
    while True:
        index = int(np.searchsorted(marks, at))
        if index == len(marks):
            return
        at = int(marks[index])
        marker = data[at + 1]
        at += 2
        if marker == EOI:
            yield Segment(marker, at, at)
            return
        if marker in {SOI, 0x01} or marker in RESTARTS:
            continue
        if at + 2 > len(data):
            return
        end = at + max(2, int.from_bytes(data[at : at + 2], "big"))
        yield Segment(marker, at + 2, min(end, len(data)))
        at = end
        if marker == SOS:
            at = _end_of_scan(data, marks, at)[0]


def _end_of_scan(data: bytes, marks: Marks, start: int) -> tuple[int, int]:
    """The place of the next marker other than a restart, and the number of restarts before it."""
    index = first = int(np.searchsorted(marks, start))
    while index < len(marks) and data[int(marks[index]) + 1] in RESTARTS:
        index += 1
    return (int(marks[index]) if index < len(marks) else len(data)), index - first


def _scan(payload: bytes, segment: Segment, data: bytes, marks: Marks, interval: int) -> Scan:
    count = payload[0] if payload else 0
    if len(payload) < 4 + 2 * count or not count:
        raise DecodeError("a JPEG with a damaged scan header: save it again")
    end, restarts = _end_of_scan(data, marks, segment.end)
    begins = payload[1 + 2 * count] == 0 and payload[3 + 2 * count] >> 4 == 0
    return Scan(tuple(payload[1 + 2 * i] for i in range(count)), begins, end, restarts, interval)


def lacks(jpeg: Jpeg) -> str:
    """Return a description of what the scans of a JPEG lack, as far as its structure shows; empty if nothing."""
    begun = {component for scan in jpeg.scans if scan.begins for component in scan.components}
    if not jpeg.sampling or not jpeg.scans:
        return "it contains no image"
    if not set(jpeg.sampling) <= begun:
        return "a colour component is missing"
    for scan in jpeg.scans:
        if scan.interval and scan.restarts < -(-_units(jpeg, scan) // scan.interval) - 1:
            return "a part between two restart markers is missing"
    return ""


def _units(jpeg: Jpeg, scan: Scan) -> int:
    """The number of units (MCUs) in a scan."""
    width, height = jpeg.size
    across = max((h for h, _ in jpeg.sampling.values()), default=1) or 1
    down = max((v for _, v in jpeg.sampling.values()), default=1) or 1
    if len(scan.components) > 1:
        return -(-width // (8 * across)) * -(-height // (8 * down))
    h, v = jpeg.sampling.get(scan.components[0], (1, 1)) if scan.components else (1, 1)
    columns, rows = -(-width * h // across), -(-height * v // down)
    return -(-columns // 8) * -(-rows // 8)


def with_filler(data: bytes, jpeg: Jpeg) -> bytes:
    """Return the file with noise after the data of each scan: a decoder never reads it if the data are complete."""
    noise = np.random.default_rng(0).integers(1, 255, 512, dtype=np.uint8).tobytes()
    parts, at = [], 0
    for scan in jpeg.scans:
        parts += [data[at : scan.end], noise]
        at = scan.end
    return b"".join([*parts, data[at:]])


def embedded(data: bytes, jpeg: Jpeg) -> Iterator[Embedded]:
    """Yield the images embedded in the segments of a JPEG: thumbnails and previews."""
    extended: list[bytes] = []
    for segment in jpeg.segments:
        payload = data[segment.start : segment.end]
        if segment.marker == 0xE0 and payload.startswith(b"JFIF\0") and len(payload) > 14:
            width, height = payload[12:14]
            span = (segment.start + 12, segment.end)
            yield from raw_image("JFIF thumbnail", payload[14:], width, height, span)
        elif segment.marker == 0xE0 and payload.startswith(b"JFXX\0") and len(payload) > 6:
            yield from _jfxx(payload, segment.start)
        elif segment.marker == 0xE1 and payload.startswith(b"Exif\0"):
            yield from in_exif(payload[6:], segment.start + 6)
        elif segment.marker == 0xE1 and payload.startswith(EXTENDED_XMP):
            extended.append(payload[len(EXTENDED_XMP) + 40 :])
        elif 0xE0 <= segment.marker <= 0xEF or segment.marker == 0xFE:
            yield from sweep(payload, segment.start)
    yield from sweep(b"".join(extended), None)


def _jfxx(payload: bytes, start: int) -> Iterator[Embedded]:
    kind, span = payload[5], (start, start + len(payload))
    if kind == 0x10:
        yield Embedded("JFXX thumbnail", payload[6:], (span,))
    elif kind == 0x11 and len(payload) > 8:
        table = payload[8:776].ljust(768, b"\0")
        pixels = b"".join(table[3 * place : 3 * place + 3] for place in payload[776:])
        yield from raw_image("JFXX thumbnail", pixels, payload[6], payload[7], span)
    elif kind == 0x13 and len(payload) > 8:
        yield from raw_image("JFXX thumbnail", payload[8:], payload[6], payload[7], span)


def further(data: bytes, jpeg: Jpeg) -> list[tuple[int, int]]:
    """Return the places of the other images in a multi-image file (MPO), from its index."""
    for segment in jpeg.segments:
        if segment.marker == 0xE2 and data[segment.start : segment.start + 4] == b"MPF\0":
            base = segment.start + 4
            for _, tag, raw in entries(data[base : segment.end]):
                if tag == 0xB002:
                    rows = struct.iter_unpack(raw.order + "LLLHH", raw.data[: len(raw.data) // 16 * 16])
                    return _apart([(base + offset, base + offset + size) for _, size, offset, *_ in rows if offset])
    return []


def _apart(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same places, checked not to overlap, since each of them is read."""
    if any(low < before for (_, before), (low, _) in itertools.pairwise(sorted(spans))):
        raise DecodeError("a JPEG whose further images overlap: save it again")
    return spans
