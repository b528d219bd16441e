"""What players, browsers and other readers show, and Pillow does not: each of their readings is judged, or refused."""

from __future__ import annotations

import io
import random
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

import nsfw_guard.imaging.decode as reader
from nsfw_guard.cli.main import main
from nsfw_guard.errors import DecodeError
from nsfw_guard.imaging.decode import Stream, decode
from nsfw_guard.imaging.files import avif, gif
from nsfw_guard.imaging.files.formats import FORMATS, opened
from nsfw_guard.imaging.files.moving import compose, is_plain
from nsfw_guard.imaging.limits import Limits
from nsfw_guard.verdict import Outcome
from tests.attacks import files as make
from tests.attacks import players
from tests.attacks.files import BLUE, DARK, RED, jpeg, saved
from tests.attacks.test_containers import AVIF, GUARD

# A file that is shown as something unsafe by some.
SEEN: dict[str, Callable[[], bytes]] = {
    "GIF: unspecified disposal behind a restoring one": lambda: players.sliced_gif(0),
    "GIF: cleared to nothing": lambda: players.gif_hole(2),
    "GIF: a first frame that does not cover the canvas": lambda: players.gif(players.gif_frame((0, 0, 64, 3), 0, 1)),
    "APNG: slices behind a restoring frame": players.sliced_apng,
    "PNG: clear level of 4 bits": lambda: players.small_grey(4),
    "PNG: clear level of 2 bits": lambda: players.small_grey(2),
    "PNG: clear level of 1 bit": lambda: players.small_grey(1),
    "TIFF: a channel that nobody named": lambda: players.tiff_with_extra(0, (20, 20, 20), 0),
    "TIFF: colours under a multiplied alpha": lambda: players.tiff_with_extra(1, RED, 0),
    "thumbnail that begins with fill bytes": lambda: make.photoshop(b"\xff\xd8\xff" + jpeg(RED)[2:]),
    "thumbnail that is a GIF": lambda: make.photoshop(saved(RED, "GIF")),
    "thumbnail that is a WebP": lambda: make.photoshop(saved(RED, "WEBP")),
}
WHOLE, DOT, SOLID = (0, 0, 64, 64), (0, 0, 9, 9), (*BLUE, 255)
REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    **{f"GIF: reserved disposal {n}": (lambda n=n: players.sliced_gif(n), "reserved") for n in range(4, 8)},
    "APNG: a frame beyond its canvas": (
        lambda: players.apng([(WHOLE, SOLID, 0, 0), ((60, 0, 64, 64), SOLID, 0, 0)]), "exceeds the canvas"),
    "APNG: an unknown disposal": (
        lambda: players.apng([(WHOLE, SOLID, 3, 0), (DOT, SOLID, 0, 0)]), "unknown disposal or blending"),
    "APNG: an unknown blending": (
        lambda: players.apng([(WHOLE, SOLID, 0, 2), (DOT, SOLID, 0, 0)]), "unknown disposal or blending"),
    "PNG: two clear colours": (
        lambda: make.with_chunk(b"tRNS", bytes(6), data=make.with_chunk(b"tRNS", bytes(6), data=saved(BLUE, "PNG"))),
        "occurs twice"),
    "PNG: a damaged profile": (players.damaged_profile, "colour profile is damaged"),
    "PNG: a flood of texts": (lambda: players.texts(17), "more than 16 MB of texts"),
    "JPEG: pieces of a profile swapped": (lambda: players.with_pieces([(2, 2), (1, 2)]), "fit together"),
    "JPEG: a piece of a profile twice": (lambda: players.with_pieces([(1, 1), (1, 1)]), "fit together"),
    "JPEG: a piece of a profile too many": (lambda: players.with_pieces([(1, 2), (2, 2), (3, 2)]), "fit together"),
    "JPEG: a profile behind the frame header": (lambda: players.with_pieces([(1, 1)], late=True), "fit together"),
    "JPEG: further images over each other": (lambda: players.overlapping_mpo(5), "overlap"),
    "JPEG: a flood of markers": (lambda: jpeg() + b"\xff\x01" * 8_000_001, "too many markers"),
    "profile of another class": (lambda: players.changed_profile(12, b"abst"), "do not agree"),
    "profile with a tag twice": (lambda: players.changed_profile(144, make.wild_between()[132:136]), "do not agree"),
    "profile of an unknown version": (lambda: players.changed_profile(8, b"c"), "do not agree"),
    "BMP: packed pixels": (players.bmp_rle, "compressed BMP"),
    "BMP: 16 bits with transparency": (players.bmp_16, "16 bits with transparency"),
    "TIFF: a strip of four": (players.tiff_of_few_strips, "strips are missing|is truncated"),
    "TIFF: a tile beyond all measure": (players.tiff_of_large_tiles, "tiles of the TIFF are too large"),
}  # fmt: skip
REFUSED_AVIF: dict[str, tuple[Callable[[], bytes], str]] = {
    "cropped": (players.avif_cropped, "crop for display"),
    "an item of an unknown kind": (lambda: players.avif_with_item(b"unci"), "item of the unknown type unci"),
    "an image of another coding": (lambda: players.avif_with_item(b"avc1"), "item of the unknown type avc1"),
}


@pytest.mark.parametrize("name", SEEN)
def test_what_only_some_players_show_is_judged(name: str) -> None:
    assert GUARD.check([SEEN[name]()])[0].outcome is Outcome.BLOCK


@pytest.mark.parametrize("name", SEEN)
def test_it_is_judged_when_the_user_has_opened_the_image_too(name: str) -> None:
    assert GUARD.check([Image.open(io.BytesIO(SEEN[name]()))])[0].outcome is Outcome.BLOCK


@pytest.mark.parametrize("name", [*REFUSED, *(pytest.param(name, marks=AVIF) for name in REFUSED_AVIF)])
def test_a_file_that_players_show_differently_is_refused(name: str) -> None:
    build, why = (REFUSED | REFUSED_AVIF)[name]
    (verdict,) = GUARD.check([build()])
    assert verdict.outcome is Outcome.ERROR
    assert re.search(why, verdict.reason)


@AVIF
def test_a_sequence_of_two_tracks_is_refused() -> None:
    data = players.avif_tracks()
    read = avif.read(data)
    assert (read.tracks, read.alphas) == (2, 0)
    with pytest.raises(DecodeError, match="with several tracks"):
        list(avif.others(data, read, shown=3))


@AVIF
@pytest.mark.parametrize(("colour", "outcome"), [(RED, Outcome.BLOCK), (DARK, Outcome.ALLOW)])
def test_the_still_image_of_a_sequence_is_judged(colour: tuple[int, int, int], outcome: Outcome) -> None:
    assert GUARD.check([players.avif_still(colour)])[0].outcome is outcome


@pytest.mark.parametrize("build", [
    lambda: players.gif(players.gif_frame((0, 0, 64, 64), 3, 1), players.gif_frame((5, 5, 9, 9), 0, 0)),
    lambda: players.apng([((0, 0, 64, 64), (*BLUE, 255), 0, 0), ((5, 5, 9, 9), (*DARK, 255), 0, 1)]),
    lambda: players.with_pieces([(1, 2), (2, 2)]),
    lambda: players.texts(3),
    lambda: players.tiff_with_extra(2, BLUE, 255),
])  # fmt: skip
def test_plain_versions_of_these_files_pass(build: Callable[[], bytes]) -> None:
    assert GUARD.check([build()])[0].outcome is Outcome.ALLOW


@pytest.mark.parametrize("opener", [bytes, lambda data: Image.open(io.BytesIO(data))])
def test_frames_that_pillow_does_not_count_are_not_left_out(opener: Callable[[bytes], Any], monkeypatch) -> None:
    """Two whole frames of a GIF, and a reader that goes no further than the first."""
    data = players.gif(players.gif_frame((0, 0, 64, 64), 3, 1), players.gif_frame((0, 0, 64, 64), 1, 1))
    monkeypatch.setattr(reader, "_count", lambda image: 1)
    (verdict,) = GUARD.check([opener(data)])
    assert verdict.outcome is Outcome.ERROR
    assert "2 frames, but its header counts 1" in verdict.reason


def drawn(frames: list[tuple], side: int = 16) -> list[np.ndarray]:
    """The canvases of a GIF by the words of its standard, with -1 for clear."""
    canvas, shown = np.full((side, side), -1), []
    for index, ((left, top, width, height), levels, disposal, clear) in enumerate(frames):
        place = canvas[top : top + height, left : left + width]
        before = canvas.copy()
        place[levels != clear] = levels[levels != clear]
        shown.append(canvas.copy())
        if disposal == 3 and index:
            canvas = before
        elif disposal >= 2:
            place[:] = -1
    return shown


@pytest.mark.parametrize("seed", range(60))
def test_frames_are_composed_as_the_standard_says(seed: int) -> None:
    chance = random.Random(seed)
    frames = []
    for index in range(chance.randint(2, 5)):
        width, height = (16, 16) if index == 0 and seed % 2 else (chance.randint(1, 16), chance.randint(1, 16))
        box = (chance.randint(0, 16 - width), chance.randint(0, 16 - height), width, height)
        levels = np.random.default_rng(chance.randint(0, 9999)).integers(0, 4, (height, width))
        frames.append((box, levels, chance.randint(0, 3), chance.choice([None, 2])))
    data = players.gif(*(players.gif_frame(*frame) for frame in frames), side=16)
    read = gif.read(data, most=256)
    colours = np.array([*((*colour, 255) for colour in players.PALETTE), (0, 0, 0, 0)], np.uint8)
    pieces = gif.pieces(data, read)
    for canvas, shown in zip(drawn(frames), compose(pieces, read.size, opened), strict=True):
        wanted, actual = colours[canvas], np.array(shown.convert("RGBA"))
        actual[actual[..., 3] == 0] = 0
        np.testing.assert_array_equal(actual, wanted)
    if is_plain(pieces, read.size):  # then Pillow's reading is trusted
        with Image.open(io.BytesIO(data)) as image:
            for index, canvas in enumerate(drawn(frames)):
                image.seek(index)
                solid = canvas >= 0
                shown_by_pillow = np.asarray(image.convert("RGB"))
                np.testing.assert_array_equal(shown_by_pillow[solid], colours[canvas][..., :3][solid])


def test_half_clear_frames_lie_over_each_other_by_their_alpha() -> None:
    whole = (0, 0, 64, 64)
    data = players.apng([(whole, (200, 0, 0, 255), 0, 0), (whole, (0, 0, 200, 51), 2, 1), (whole, (0, 0, 0, 0), 0, 1)])
    colours = {tuple(frame[0, 0].tolist()) for frame in decode(data).frames}
    assert {(200, 0, 0), (160, 0, 40)} <= colours


@pytest.mark.parametrize("kind", FORMATS)
def test_what_is_written_is_what_was_seen(kind: str, tmp_path) -> None:
    """A thumbnail that declares more bytes than its block has takes nothing of the image with it."""
    (tmp_path / "in").mkdir()
    data = make.with_segment(0xE1, b"Exif\0\0" + make.exif(jpeg(BLUE)), data=jpeg(DARK))
    at = data.index(b"\x02\x02\x04\x00\x01\x00\x00\x00")
    data = data[: at + 8] + (len(data) - 100).to_bytes(4, "little") + data[at + 12 :] + jpeg(RED)[2:]
    name = tmp_path / "in" / f"a.{kind.lower()}"
    name.write_bytes(data if kind == "JPEG" else saved(BLUE, kind))
    main(["check", str(tmp_path / "in"), "--model", "demo-shapes", "--out", str(tmp_path / "out")])
    (written,) = (tmp_path / "out").iterdir()
    seen = [np.asarray(Image.open(io.BytesIO(one.read_bytes())).convert("RGB")) for one in (name, written)]
    np.testing.assert_array_equal(*seen)


def stair(steps: int, disposal: int) -> bytes:
    """Frame after frame one more stripe is drawn, behind a frame that is taken back: no two are alike."""
    stripes = [players.gif_frame((0, top, 64, 1), 1, disposal) for top in range(steps)]
    return players.gif(players.gif_frame((0, 0, 64, 64), 3, 1), players.gif_frame((0, 0, 1, 1), 0, 3), *stripes)


def test_sampled_frames_of_a_long_animation_are_composed_as_players_do() -> None:
    """One in three of nine: the first, the fifth and the ninth."""
    data = stair(7, 0)
    read = gif.read(data, most=256)
    shown = [np.asarray(frame.convert("RGB")) for frame in compose(gif.pieces(data, read), read.size, opened)]
    stream = Stream(data, limits=Limits(frames=3, unseen="review"))
    frames = list(stream)
    assert stream.partial == "3 of 9 frames"
    seen = [any(np.array_equal(one, frame) for frame in frames) for one in shown]
    assert [index for index, is_seen in enumerate(seen) if is_seen] == [0, 4, 8]


def test_composing_frames_counts_as_work() -> None:
    """Each of nine: making it, and looking at it. A tiny frame counts as one of 128 x 128."""
    composed, only_read = Stream(stair(7, 0)), Stream(players.gif(*[players.gif_frame((0, 0, 64, 64), 3, 1)] * 9))
    left = []
    for stream in (composed, only_read):
        list(stream)
        left.append(stream._budget.pixels)
    assert left[1] - left[0] >= 9 * 2 * 16384
