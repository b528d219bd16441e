"""The elements of a WebM or Matroska file: one track of images, nothing attached, and how many images it holds.

ffmpeg's reader skips damaged parts in silence, so the blocks are counted here: a clip counts as whole only when each of
them was decoded.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from nsfw_guard.errors import DecodeError
from nsfw_guard.imaging.clips.facts import MAX_PARTS, Facts, check_count, check_notes, name_of, refuse
from nsfw_guard.imaging.limits import Limits

HEADER, SEGMENT, INFO, TRACKS, CLUSTER, ATTACHMENTS = (
    0x1A45DFA3, 0x18538067, 0x1549A966, 0x1654AE6B, 0x1F43B675, 0x1941A469)  # fmt: skip
SEEK, CUES, CHAPTERS, TAGS, VOID, CHECKSUM = 0x114D9B74, 0x1C53BB6B, 0x1043A770, 0x1254C367, 0xEC, 0xBF
TOP = {INFO, TRACKS, CLUSTER, SEEK, CUES, CHAPTERS, TAGS, VOID, CHECKSUM, ATTACHMENTS}
TRACK, NUMBER, TYPE, CODEC, VIDEO, ENCODINGS, OPERATION = 0xAE, 0xD7, 0x83, 0x86, 0xE0, 0x6D80, 0xE2
WIDTH, HEIGHT, CROPS = 0xB0, 0xBA, {0x54AA, 0x54BB, 0x54CC, 0x54DD}
ALPHA, STEREO, PROJECTION = 0x53C0, {0x53B8, 0x53B9}, 0x7670
SIMPLE, GROUP, BLOCK, ADDITIONS, ENCRYPTED = 0xA3, 0xA0, 0xA1, 0x75A1, 0xAF
# What else stands in a cluster and in a group of blocks; another part may be a block whose name was damaged.
NUMBERS = {0xE7, 0xA7, 0xAB, CHECKSUM}
IN_CLUSTER = NUMBERS | {0x5854, SIMPLE, GROUP, ENCRYPTED, VOID}
IN_GROUP = {BLOCK, ADDITIONS, 0xFB, 0x9B, 0x75A2, 0xFA, 0xA4, 0xFD, VOID, CHECKSUM}
SCALE, DURATION = 0x2AD7B1, 0x4489
IMAGES, SOUND = 1, 2
CODECS = {b"V_VP8", b"V_VP9", b"V_AV1", b"V_MPEG4/ISO/AVC", b"V_MPEGH/ISO/HEVC", b"V_MPEG4/ISO/ASP"}


@dataclass(frozen=True)
class Element:
    """One element: its ID, and where its content begins and ends."""

    id: int
    start: int
    end: int


class Elements:
    """The elements of one file; they are counted, so that a file of empty ones wastes no time."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.left = MAX_PARTS

    def within(self, start: int, end: int) -> Iterator[Element]:
        """Yield the elements between two places.

        Raises:
            DecodeError: one ends behind the place where it must, as in a file that was cut, or has no size.
        """
        at = start
        while at < end:
            self.left -= 1
            kind, place, _ = self.number(at, keep=True)
            size, place, unknown = self.number(place)
            if unknown:
                raise refuse("parts of unknown length (a live recording)")
            if self.left < 0 or place + size > end:
                raise DecodeError(f"the clip ends within its element {kind:X}: it was cut, get the whole file")
            yield Element(kind, place, place + size)
            at = place + size

    def number(self, at: int, *, keep: bool = False) -> tuple[int, int, bool]:
        """Return a number of variable length, where it ends, and whether all of its bits are set."""
        first = self.data[at] if at < len(self.data) else 0
        width = 9 - first.bit_length()
        if not first or (keep and width > 4) or at + width > len(self.data):
            raise DecodeError("its elements are damaged or cut: get the whole file, or save the clip again")
        value = int.from_bytes(self.data[at : at + width], "big")
        bits = (1 << 7 * width) - 1
        return value if keep else value & bits, at + width, value & bits == bits

    def value(self, element: Element) -> int:
        """Return a whole number."""
        return int.from_bytes(self.data[element.start : min(element.end, element.start + 8)], "big")

    def real(self, element: Element) -> float:
        """Return a number of 4 or 8 bytes."""
        content = self.data[element.start : element.end]
        return float(struct.unpack({4: ">f", 8: ">d"}.get(len(content), "0s"), content)[0] or 0)


def read_elements(data: bytes, limits: Limits) -> Facts:
    """Return what a WebM or Matroska file says of itself.

    Raises:
        DecodeError: it was cut, it claims what it cannot hold, or players may show it in different ways.
    """
    elements = Elements(data)
    head, *others = elements.within(0, len(data))
    segments = [element for element in others if element.id != VOID]
    if head.id != HEADER or len(segments) != 1 or segments[0].id != SEGMENT:
        raise DecodeError("expected one header and one segment: it was cut or joined, save the clip again")
    parts: dict[int, list[Element]] = {}
    for element in elements.within(segments[0].start, segments[0].end):
        if element.id not in TOP:
            raise refuse(f"the element {element.id:X}")
        if element.id in {TAGS, VOID, CHAPTERS}:
            check_notes(data[element.start : element.end])
        parts.setdefault(element.id, []).append(element)
    if ATTACHMENTS in parts:
        raise refuse("attachments, such as a cover image")
    if len(parts.get(INFO, ())) != 1 or len(parts.get(TRACKS, ())) != 1:
        raise DecodeError("expected one part for its duration and one for its tracks: save the clip again")
    tracks = [e for e in elements.within(parts[TRACKS][0].start, parts[TRACKS][0].end) if e.id == TRACK]
    number, width, height = _images(elements, tracks)
    known = {elements.value(e) for track in tracks for e in elements.within(track.start, track.end) if e.id == NUMBER}
    if len(known) != len(tracks):
        raise DecodeError("two tracks have the same number: save the clip again")
    samples = sum(_blocks(elements, cluster, number, known) for cluster in parts.get(CLUSTER, ()))
    check_count(samples, limits)
    seconds = _duration(elements, parts[INFO][0])
    return Facts(format="matroska", width=width, height=height, samples=samples, seconds=seconds, tracks=len(tracks))


def _images(elements: Elements, tracks: list[Element]) -> tuple[int, int, int]:
    """Number, width and height of the only track of images."""
    shown = []
    for track in tracks:
        inner = {element.id: element for element in elements.within(track.start, track.end)}
        if not {NUMBER, TYPE, CODEC} <= set(inner):
            raise DecodeError("a track without number, type or codec: save the clip again")
        kind = elements.value(inner[TYPE])
        if kind not in {IMAGES, SOUND}:
            raise refuse("subtitles" if kind == 17 else f"a track of type {kind}")
        if kind == IMAGES:
            shown.append(inner)
    if len(shown) != 1:
        raise refuse(f"{len(shown)} tracks of images")
    inner = shown[0]
    codec = elements.data[inner[CODEC].start : inner[CODEC].end].rstrip(b"\0")
    if codec not in CODECS:
        raise refuse(f"images of the kind {name_of(codec[:40])}", "save it as H.264 or VP9")
    if inner.keys() & {ENCODINGS, OPERATION} or VIDEO not in inner:
        raise refuse("images that are packed, encrypted or joined from several tracks")
    return elements.value(inner[NUMBER]), *_size(elements, inner[VIDEO])


def _size(elements: Elements, video: Element) -> tuple[int, int]:
    """Width and height; what changes how players show them is refused."""
    settings = {element.id: element for element in elements.within(video.start, video.end)}
    set_to = {kind for kind, element in settings.items() if elements.value(element)}
    if set_to & CROPS:
        raise refuse("a crop for display")
    if ALPHA in set_to:
        raise refuse("transparency")
    if set_to & STEREO:
        raise refuse("two views (3D)")
    if PROJECTION in settings:
        raise refuse("a projection or rotation (360 degrees)")
    if not {WIDTH, HEIGHT} <= set_to:
        raise DecodeError("its track of images has no size: save the clip again")
    return elements.value(settings[WIDTH]), elements.value(settings[HEIGHT])


def _blocks(elements: Elements, cluster: Element, number: int, known: set[int]) -> int:
    """How many images of the track are in one cluster, all of whose blocks belong to known tracks."""
    count = 0
    for element in elements.within(cluster.start, cluster.end):
        large = element.id in NUMBERS and element.end - element.start > 8
        if element.id not in IN_CLUSTER or large:
            raise refuse(f"the element {element.id:X} among its images")
        if element.id == ENCRYPTED:
            raise refuse("encryption")
        if element.id == SIMPLE:
            count += _is_image(elements, element, number, known)
        if element.id == GROUP:
            inner = list(elements.within(element.start, element.end))
            if others := {part.id for part in inner} - IN_GROUP:
                raise refuse(f"the element {min(others):X} among its images")
            images = sum(_is_image(elements, block, number, known) for block in inner if block.id == BLOCK)
            if images and any(part.id == ADDITIONS for part in inner):
                raise refuse("transparency or other additions to its images")
            count += images
    return count


def _is_image(elements: Elements, block: Element, number: int, known: set[int]) -> bool:
    track, at, _ = elements.number(block.start)
    if track not in known:
        raise DecodeError(f"a block of the track {track}, which the clip does not have: get the whole file")
    if track != number:
        return False
    if at + 3 > block.end or elements.data[at + 2] & 0x06:
        raise refuse("several images in a block (lacing)")
    return True


def _duration(elements: Elements, info: Element) -> float:
    inner = {element.id: element for element in elements.within(info.start, info.end)}
    if DURATION not in inner:
        raise refuse("no duration in its header (a live recording)")
    scale = elements.value(inner[SCALE]) if SCALE in inner else 1_000_000
    return elements.real(inner[DURATION]) * scale / 1e9
