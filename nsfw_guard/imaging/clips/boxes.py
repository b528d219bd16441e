"""The boxes of an MP4 or MOV file: one track of images, no external or hidden parts, and how many images it holds.

Boxes outside the lists are refused by name: a box that one player reads and another one does not may change what is
shown (a crop, a mask, another track, a reference to another file).
"""

from __future__ import annotations

from collections.abc import Iterator

from nsfw_guard.errors import DecodeError
from nsfw_guard.imaging.clips.facts import MAX_PARTS, Facts, check_count, check_notes, name_of, refuse
from nsfw_guard.imaging.limits import Limits

TOP = {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"uuid", b"meta", b"udta"}
MOVIE = {b"mvhd", b"trak", b"udta", b"meta", b"iods", b"uuid", b"free", b"skip"}
TRACK = {b"tkhd", b"edts", b"mdia", b"tref", b"udta", b"meta", b"tapt", b"uuid", b"free", b"skip", b"load"}
MEDIA = {b"mdhd", b"hdlr", b"minf", b"udta", b"uuid", b"free", b"skip", b"elng"}
NOTES = {b"udta", b"meta", b"uuid", b"free", b"skip", b"iods"}
HANDLERS = {b"vide", b"soun", b"tmcd", b"meta", b"hint"}  # images, sound, time codes, data, hints for servers
KINDS = {b"avc1", b"avc3", b"hvc1", b"hev1", b"av01", b"vp08", b"vp09", b"mp4v", b"apco", b"apcs", b"apcn", b"apch"}
# Settings of the decoder, and what is read from each frame again (colours, the ratio of pixels, fields).
PARTS = {b"avcC", b"hvcC", b"av1C", b"vpcC", b"esds", b"colr", b"pasp", b"btrt", b"fiel", b"gama", b"glbl", b"chrm"}
STILLS = {b"heic", b"heix", b"heim", b"heis", b"mif1", b"mif2", b"avif", b"avis", b"crx "}
NAMES = {
    b"moof": "fragments",
    b"sidx": "fragments",
    b"mvex": "fragments",
    b"cmov": "a compressed header",
    b"rmra": "references to other files",
    b"PICT": "a preview image",
    b"pnot": "a preview image",
    b"clap": "a crop for display (clap)",
    b"matt": "a mask",
    b"clip": "a clipping region",
    b"auxv": "a track for transparency or depth",
    b"text": "a track of text",
    b"sbtl": "subtitles",
    b"subt": "subtitles",
    b"clcp": "captions",
    b"dvcC": "Dolby Vision",
    b"dvvC": "Dolby Vision",
    b"mdcv": "HDR",
    b"clli": "HDR",
    b"st3d": "two views (3D)",
    b"sv3d": "a projection (360 degrees)",
    b"encv": "encryption",
}
MAX_SAMPLES = 8_000_000  # of one track; sound without compression has one per sample


def _int(data: bytes, at: int, width: int = 4) -> int:
    return int.from_bytes(data[at : at + width], "big")


class Boxes:
    """The boxes of one file; they are counted, so that a file of empty boxes wastes no time."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.left = MAX_PARTS

    def within(self, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
        """Yield the boxes between two places: kind, and where their content begins and ends.

        Raises:
            DecodeError: a box ends behind the place where it must, as in a file that was cut.
        """
        at = start
        while at + 8 <= end:
            self.left -= 1
            size, kind, head = _int(self.data, at), self.data[at + 4 : at + 8], 8
            if size == 1:
                size, head = _int(self.data, at + 8, 8), 16
            stop = end if size == 0 and kind == b"mdat" and end == len(self.data) else at + size
            if self.left < 0 or stop < at + head:
                raise DecodeError(f"the box {name_of(kind)} has no valid size: save the clip again")
            if stop > end:
                raise DecodeError(f"the clip ends within its box {name_of(kind)}: it was cut, get the whole file")
            yield kind, at + head, stop
            at = stop
        if any(self.data[at:end]):
            raise DecodeError("there are bytes after the last box: it was cut or joined, save the clip again")

    def listed(self, start: int, end: int, known: set[bytes]) -> Iterator[tuple[bytes, int, int]]:
        """Yield the same boxes; refuse kinds that are not known, and notes that hold an image."""
        for kind, low, high in self.within(start, end):
            if kind not in known:
                raise refuse(NAMES.get(kind, f"the box {name_of(kind)}"))
            if kind in NOTES:
                check_notes(self.data[low:high])
            yield kind, low, high

    def one(self, start: int, end: int, kind: bytes) -> tuple[int, int]:
        """Return the only box of a kind."""
        places = [(low, high) for box, low, high in self.within(start, end) if box == kind]
        if len(places) != 1:
            raise DecodeError(f"expected one box {name_of(kind)}, got {len(places)}: save the clip again")
        return places[0]


def read_boxes(data: bytes, limits: Limits) -> Facts:
    """Return what an MP4 or MOV file says of itself.

    Raises:
        DecodeError: it was cut, it claims what it cannot hold, or players may show it in different ways.
    """
    boxes = Boxes(data)
    movies = []
    for kind, low, high in boxes.listed(0, len(data), TOP):
        if kind == b"ftyp" and STILLS & {data[at : at + 4] for at in (low, *range(low + 8, high, 4))}:
            raise DecodeError("an image file (HEIF or AVIF) is no clip: check it as an image")
        if kind == b"moov":
            movies.append((low, high))
    if len(movies) != 1:
        raise DecodeError(f"expected one box 'moov', got {len(movies)}: it was cut, or save the clip again")
    tracks = [(low, high) for kind, low, high in boxes.listed(*movies[0], MOVIE) if kind == b"trak"]
    handlers = [_track(boxes, low, high) for low, high in tracks]
    shown = [place for place, handler in zip(tracks, handlers, strict=True) if handler == b"vide"]
    if len(shown) != 1:
        raise refuse(f"{len(shown)} tracks of images")
    width, height, samples = _images(boxes, *shown[0])
    check_count(samples, limits)
    seconds = _duration(data, *boxes.one(*movies[0], b"mvhd"))
    return Facts(format="mov", width=width, height=height, samples=samples, seconds=seconds, tracks=len(tracks))


def _track(boxes: Boxes, start: int, end: int) -> bytes:
    """The kind of one track, whose boxes are known and whose number of samples fits into the file."""
    for _ in boxes.listed(start, end, TRACK):
        pass
    media = boxes.one(start, end, b"mdia")
    for _ in boxes.listed(*media, MEDIA):
        pass
    low, _ = boxes.one(*media, b"hdlr")
    handler = boxes.data[low + 8 : low + 12]
    if handler not in HANDLERS:
        raise refuse(NAMES.get(handler, f"a track of the kind {name_of(handler)}"))
    _samples(boxes, *_table(boxes, start, end))
    return handler


def _table(boxes: Boxes, start: int, end: int) -> tuple[int, int]:
    media = boxes.one(start, end, b"mdia")
    return boxes.one(*boxes.one(*media, b"minf"), b"stbl")


def _samples(boxes: Boxes, start: int, end: int) -> int:
    """The number of samples of a track, twice: by their sizes, and by their times."""
    data = boxes.data
    low, high = boxes.one(start, end, b"stsz")
    size, count = _int(data, low + 4), _int(data, low + 8)
    needs = count * size if size else count * 4 + 12 - (high - low)
    if count > MAX_SAMPLES or needs > (len(data) if size else 0):
        raise DecodeError(f"it claims {count} samples, more than the file can hold: save the clip again")
    low, high = boxes.one(start, end, b"stts")
    entries = range(low + 8, min(high, low + 8 + 8 * _int(data, low + 4)), 8)
    timed = sum(_int(data, at) for at in entries)
    if timed != count:
        raise DecodeError(f"it has times for {timed} samples and sizes for {count}: save the clip again")
    return count


def _images(boxes: Boxes, start: int, end: int) -> tuple[int, int, int]:
    """Width, height and number of the images of a track, which has one description for all of them."""
    data, table = boxes.data, _table(boxes, start, end)
    low, high = boxes.one(*table, b"stsd")
    if (count := _int(data, low + 4)) != 1:
        raise refuse(f"{count} descriptions of its images (their size may change)")
    (kind, at, stop), *_ = boxes.within(low + 8, high)
    if kind not in KINDS:
        raise refuse(NAMES.get(kind, f"images of the kind {name_of(kind)}"), "save it as H.264 or VP9")
    for _ in boxes.listed(at + 78, stop, PARTS):
        pass
    return _int(data, at + 24, 2), _int(data, at + 26, 2), _samples(boxes, *table)


def _duration(data: bytes, low: int, high: int) -> float:
    wide = data[low] == 1
    scale, at, width = (_int(data, low + 20), low + 24, 8) if wide else (_int(data, low + 12), low + 16, 4)
    duration = _int(data, at, width)
    if not scale or at + width > high or duration == (1 << 8 * width) - 1:
        raise DecodeError("its header gives no duration: save the clip again")
    return duration / scale
