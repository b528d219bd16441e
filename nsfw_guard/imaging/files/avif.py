"""The boxes of an AVIF: images that are not shown, a track hidden by its brand, and declared colours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from nsfw_guard.errors import DecodeError
from nsfw_guard.imaging.files.colour import cicp_profile
from nsfw_guard.imaging.files.metadata import Embedded, in_exif, sweep

IMAGES = {b"av01", b"grid", b"iovl", b"iden", b"tmap", b"hvc1", b"jpeg"}
WORDS = {b"Exif", b"mime", b"uri ", b"rgan"}  # items that hold words, or regions of an image
MAX_BOXES = 10_000
MAX_EXTENTS = 10_000  # of all items: a usual file has one each
SEQUENCE, STILL = b"avis", b"avif"


@dataclass
class Avif:
    """The structure of an AVIF file."""

    brand: bytes = b""
    tracks: int = 0
    alphas: int = 0
    brands: tuple[int, int] = (8, 16)
    primary: int = 0
    primary_at: tuple[int, int] = (0, 0)
    items: dict[int, bytes] = field(default_factory=dict)
    places: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    references: list[tuple[bytes, int, tuple[int, ...]]] = field(default_factory=list)
    colours: list[tuple[int, int]] = field(default_factory=list)


def _int(data: bytes, at: int, width: int) -> int:
    return int.from_bytes(data[at : at + width], "big")


def boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Return the boxes between two places: kind, and where their payload begins and ends."""
    at, count = start, 0
    while at + 8 <= end:
        count += 1
        if count > MAX_BOXES:
            raise DecodeError(f"more than {MAX_BOXES} boxes: save it again")
        size, kind, head = _int(data, at, 4), data[at + 4 : at + 8], 8
        if size == 1:
            size, head = _int(data, at + 8, 8), 16
        stop = end if size == 0 else at + size
        if size and size < head:
            return
        yield kind, at + head, min(stop, end)
        at = stop


def read(data: bytes) -> Avif:
    """Return the items, references and declared colours of an AVIF file."""
    avif = Avif(brand=data[8:12])
    for kind, start, end in boxes(data, 0, len(data)):
        if kind == b"ftyp":
            avif.brands = start, end
        elif kind == b"moov":
            _read_tracks(data, start, end, avif)
        elif kind == b"meta":
            _read_meta(data, start + 4, end, avif)
    return avif


def _read_tracks(data: bytes, start: int, end: int, avif: Avif) -> None:
    """Count the image tracks; tracks of sound are left out."""
    for kind, low, high in boxes(data, start, end):
        if kind == b"trak":
            handlers = [
                data[at + 8 : at + 12]
                for media, a, b in boxes(data, low, high)
                for box, at, _ in (boxes(data, a, b) if media == b"mdia" else ())
                if box == b"hdlr"
            ]
            avif.alphas += handlers == [b"auxv"]
            avif.tracks += handlers not in ([b"auxv"], [b"soun"])


def _read_meta(data: bytes, start: int, end: int, avif: Avif) -> None:
    inner = list(boxes(data, start, end))
    stored = next((low for kind, low, _ in inner if kind == b"idat"), 0)
    for kind, low, high in inner:
        if kind == b"pitm":
            width = 2 if data[low] == 0 else 4
            avif.primary, avif.primary_at = _int(data, low + 4, width), (low + 4, width)
        elif kind == b"iinf":
            for entry, a, b in boxes(data, low + (6 if data[low] == 0 else 8), high):
                if entry == b"infe" and data[a] >= 2:
                    width = 2 if data[a] == 2 else 4
                    avif.items[int.from_bytes(data[a + 4 : a + 4 + width], "big")] = data[
                        a + 6 + width : a + 10 + width
                    ]
                del b
        elif kind == b"iref":
            _read_references(data, low, high, avif)
        elif kind == b"iloc":
            _read_places(data, low, high, stored, avif)
        elif kind == b"iprp":
            _read_colours(data, low, high, avif)


def _read_references(data: bytes, low: int, high: int, avif: Avif) -> None:
    width = 2 if data[low] == 0 else 4
    for kind, at, stop in boxes(data, low + 4, high):
        source, count, first = _int(data, at, width), _int(data, at + width, 2), at + width + 2
        targets = tuple(_int(data, place, width) for place in range(first, min(first + count * width, stop), width))
        avif.references.append((kind, source, targets))


def _read_places(data: bytes, low: int, high: int, stored: int, avif: Avif) -> None:
    version, sizes = data[low], data[low + 4 : low + 6]
    widths = sizes[0] >> 4, sizes[0] & 15, sizes[1] >> 4, sizes[1] & 15 if version else 0
    at, wide = low + 6, 4 if version == 2 else 2
    total = count = 0

    def take(width: int) -> int:
        nonlocal at
        at += width
        return _int(data, at - width, width)

    for _ in range(min(take(wide), MAX_BOXES)):
        if at >= high:
            return
        item = take(wide)
        method = take(2) & 15 if version else 0
        take(2)  # which file the data are in: this one
        base, extents = take(widths[2]), []
        for _ in range(take(2)):
            take(widths[3])
            offset, length = take(widths[0]), take(widths[1])
            begin = base + offset + (stored if method == 1 else 0)
            extents.append((begin, min(begin + length, len(data))))
            total, count = total + max(0, extents[-1][1] - begin), count + 1
            if total > 2 * len(data) or count > MAX_EXTENTS:
                raise DecodeError("its items overlap: save it again")
        avif.places[item] = extents


def _read_colours(data: bytes, low: int, high: int, avif: Avif) -> None:
    for kind, start, end in boxes(data, low, high):
        for inner, at, stop in boxes(data, start, end) if kind == b"ipco" else ():
            if inner == b"clap":
                raise DecodeError("an AVIF with a crop for display (clap) is not supported: save it again")
            if inner == b"colr" and data[at : at + 4] in {b"nclx", b"nclc"} and stop - at >= 10:
                avif.colours.append((_int(data, at + 4, 2), _int(data, at + 6, 2)))


def profiles(avif: Avif) -> Iterator[bytes]:
    """Yield the colours that its boxes declare, each as a profile; every viewer reads unknown ones (2) as sRGB."""
    for primaries, transfer in dict.fromkeys(avif.colours):
        if (primaries, transfer) != (2, 2):
            yield from cicp_profile(primaries=primaries, transfer=transfer)


def _as_still(data: bytes, avif: Avif) -> bytes:
    """The file without the brand of a sequence, so that its primary item is shown instead of its track."""
    start, end = avif.brands
    brands = [data[at : at + 4] for at in range(start, end, 4)]
    return data[:start] + b"".join(STILL if brand == SEQUENCE else brand for brand in brands) + data[end:]


def others(data: bytes, avif: Avif, *, shown: int) -> Iterator[Embedded]:
    """Yield every image that is not shown, each as the same file with another primary item.

    Raises:
        DecodeError: it contains an animation that its brand hides.
    """
    if avif.tracks and shown < 2:
        raise DecodeError("an animation whose header declares a still image: save it again")
    if avif.tracks > 1 or avif.alphas > 1:
        raise DecodeError("an animation with several tracks, of which players show different ones: save it again")
    if unknown := set(avif.items.values()) - IMAGES - WORDS:
        raise DecodeError(f"an item of the unknown type {ascii(min(unknown))[2:-1]}: save it again")
    data = _as_still(data, avif) if avif.tracks else data  # else its items are not what is shown
    # A tile is judged with the image that it is part of, an alpha channel with its image. An item that only
    # claims to be a part, or is one of several channels, is judged by itself.
    whole = {b"grid", b"iovl", b"iden"}
    parts = {
        t for kind, source, ts in avif.references if kind == b"dimg" and avif.items.get(source) in whole for t in ts
    }
    channels = [(source, targets) for kind, source, targets in avif.references if kind == b"auxl"]
    helpers = {source for source, targets in channels if len(channels) == 1 and targets == (avif.primary,)}
    helpers = helpers if b"alpha" in data else set()
    start, width = avif.primary_at
    for item, kind in avif.items.items():
        is_shown = item == avif.primary and not avif.tracks
        if kind in IMAGES and item not in parts | helpers and not is_shown and width:
            changed = data[:start] + item.to_bytes(width, "big") + data[start + width :]
            yield Embedded("hidden image of an AVIF file", changed)
        elif kind == b"Exif":
            for low, high in avif.places.get(item, ()):
                skip = 4 + _int(data, low, 4)
                yield from in_exif(data[low + skip : high], low + skip)
        elif kind not in IMAGES:
            for low, high in avif.places.get(item, ()):
                yield from sweep(data[low:high], low)
