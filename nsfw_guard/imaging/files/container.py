"""The structure of any supported file, read before decoding: the work it takes, its colours, its other images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nsfw_guard.errors import DecodeError
from nsfw_guard.imaging.files import avif, gif, jpeg, pages, png, tiffs, webp
from nsfw_guard.imaging.files.colour import gamma_profile
from nsfw_guard.imaging.files.metadata import Embedded, blanked
from nsfw_guard.imaging.files.moving import Piece
from nsfw_guard.imaging.limits import Limits


@dataclass(frozen=True)
class Container:
    """The structure of a file.

    Args:
        passes: how often a decoder must go over its pixels.
        frames: the number of images, where its structure counts them; else 0.
        profiles: the colours that it declares beside an embedded profile, as profiles.
        embedded: returns the further images in the file.
        lacks: a description of the missing parts.
        split: the image comes in several parts, so that data may be missing before its end.
        filled: the file with noise after its data, to see whether a decoder reads beyond them; None for other formats.
        is_short: tells whether the packed pixels end too early; None for formats whose decoder reports it.
        corners: per page, the lower right corners of the JPEGs in it.
        clear_level: the transparent level, where Pillow uses a wrong one.
        pieces: the frames of a GIF or APNG, each by itself; `canvas` is the size that they are drawn on.
        further: the images after the first in a multi-image file, each with the place of its bytes.
    """

    passes: int = 1
    frames: int = 0
    profiles: tuple[bytes, ...] = ()
    embedded: Callable[[int], Iterator[Embedded]] = field(default=lambda shown: iter(()))
    lacks: str = ""
    split: bool = False
    filled: Callable[[], bytes] | None = None
    is_short: Callable[[], bool] | None = None
    corners: Mapping[int, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    further: tuple[tuple[slice, Container], ...] = ()
    clear_level: int | None = None
    pieces: tuple[Piece, ...] = ()
    canvas: tuple[int, int] = (0, 0)


def inspect(data: bytes, limits: Limits) -> Container:
    """Return the structure of a file.

    Raises:
        DecodeError: it takes more work than the limits allow, or its format is not supported.
    """
    kind = _kind(data)
    return kind(data, limits) if kind else Container()


def _kind(data: bytes) -> Callable[[bytes, Limits], Container] | None:
    starts = {b"\xff\xd8": _jpeg, png.START: _png, b"GIF8": _gif, b"BM": _bmp}
    for start, kind in starts.items():
        if data.startswith(start):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp
    if data[4:8] == b"ftyp":
        return _avif
    return _tiff if tiffs.Layout.of(data) else None


def _jpeg(data: bytes, limits: Limits) -> Container:
    first = jpeg.read(data, most_scans=limits.scans)
    spans = jpeg.further(data, first)
    parts = [(low, high, jpeg.read(data[low:high], most_scans=limits.scans)) for low, high in spans]

    def embedded(_: int) -> Iterator[Embedded]:
        yield from jpeg.embedded(data, first)
        for low, _, part in parts:
            for image in jpeg.embedded(data[low:], part):
                yield Embedded(image.where, image.data)

    return Container(
        passes=max(len(part.scans) for part in (first, *(part for _, _, part in parts))),
        embedded=embedded,
        further=tuple((slice(low, high), Container(**_whole(data[low:high], part))) for low, high, part in parts),
        **_whole(data, first),
    )


def _whole(data: bytes, read: jpeg.Jpeg) -> dict[str, Any]:
    """The settings of a Container that show whether a JPEG is complete."""
    return {
        "lacks": jpeg.lacks(read),
        "split": sum(scan.begins for scan in read.scans) > 1,
        "filled": lambda: jpeg.with_filler(data, read),
    }


def _png(data: bytes, limits: Limits) -> Container:
    chunks = png.read(data, most_chunks=limits.chunks)
    return Container(
        frames=max(chunks.frames, chunks.counted),
        profiles=tuple(png.profiles(data, chunks)),
        embedded=lambda _: png.embedded(data, chunks),
        split=chunks.header[4] or bool(chunks.controls),
        clear_level=png.clear_level(data, chunks),
        pieces=tuple(png.pieces(data, chunks)),
        canvas=chunks.header[:2],
        is_short=lambda: png.lacks_pixels(data, chunks),
    )


def _webp(data: bytes, limits: Limits) -> Container:
    rows = webp.chunks(data, most=limits.chunks)

    def embedded(shown: int) -> Iterator[Embedded]:
        webp.check_frames(rows, shown)
        yield from webp.embedded(data, rows)

    profiles = tuple(data[low:high] for kind, low, high in rows if kind == b"ICCP")
    return Container(
        frames=sum(kind == b"ANMF" for kind, _, _ in rows),
        profiles=() if webp.declares_profile(data, rows) else profiles,  # else the image carries it itself
        embedded=embedded,
    )


def _most_frames(limits: Limits) -> int:
    """The most frames that are counted: with "review" a longer file is judged in part, so it may have more."""
    return limits.frames if limits.unseen == "error" else 20_000


def _gif(data: bytes, limits: Limits) -> Container:
    read = gif.read(data, most=_most_frames(limits))
    return Container(frames=len(read.images), pieces=tuple(gif.pieces(data, read)), canvas=read.size)


def _avif(data: bytes, _: Limits) -> Container:
    boxes = avif.read(data)
    return Container(profiles=tuple(avif.profiles(boxes)), embedded=lambda shown: avif.others(data, boxes, shown=shown))


def _bmp(data: bytes, _: Limits) -> Container:
    bits, packing = (int.from_bytes(data[at : at + size], "little") for at, size in ((28, 2), (30, 4)))
    head = int.from_bytes(data[14:18], "little")
    if head >= 40 and packing in {1, 2, 4, 5}:  # pixels that are skipped are clear to some viewers, black to others
        raise DecodeError("a compressed BMP, on which viewers do not agree: save it as PNG")
    if head >= 56 and bits == 16 and any(data[66:70]):
        raise DecodeError("a BMP of 16 bits with transparency, on which viewers do not agree: save it as PNG")
    return Container(profiles=tuple(_bmp_profiles(data)))


def _tiff(data: bytes, limits: Limits) -> Container:
    directories = pages.read(data, most=_most_frames(limits))
    jpegs = {index: page for index, page in enumerate(directories) if page.number(pages.PACKING) in {6, 7}}
    cut = any(not pages.ends_whole(data, page) for page in jpegs.values() if page.number(pages.PACKING) == 7)
    few = any(map(pages.lacks_strips, directories))
    return Container(
        frames=len(directories),
        embedded=lambda _: pages.embedded(data, directories),
        lacks="a JPEG inside it is truncated" if cut else "some of its strips are missing" if few else "",
        corners={index: pages.corners(page) for index, page in jpegs.items()},
    )


def _bmp_profiles(data: bytes) -> Iterator[bytes]:
    """The colours that a BMP's version 4 or 5 header declares: calibrated ones, or an embedded profile."""
    size, kind = int.from_bytes(data[14:18], "little"), data[70:74]
    if size >= 108 and kind == bytes(4):
        values = [int.from_bytes(data[at : at + 4], "little") for at in range(74, 122, 4)]
        gammas = {v / 65536 for v in values[9:12]}
        points = [0.3127, 0.3290]
        for i in (0, 3, 6):
            whole = sum(values[i : i + 3]) or 1
            points += [values[i] / whole, values[i + 1] / whole]
        for gamma in gammas - {0.0}:
            yield from gamma_profile(1 / gamma, points)
    if size >= 124 and kind == b"DEBM":
        offset, length = (int.from_bytes(data[at : at + 4], "little") for at in (126, 130))
        yield data[14 + offset : 14 + offset + length]


def without_embedded(data: bytes, limits: Limits) -> bytes:
    """Return the file with its thumbnails and previews overwritten by zeros, and its main image bit for bit.

    An embedded image that cannot be removed without rewriting the file stays; it was judged with the rest.
    """
    shown = 1_000_000  # frames were counted when the file was judged
    images = [image for image in inspect(data, limits).embedded(shown) if image.spans]
    if not images:
        return data
    clean = blanked(data, images)
    return png.mended(clean, png.read(data, most_chunks=limits.chunks)) if data.startswith(png.START) else clean
