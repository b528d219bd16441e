"""Ways round by what a file holds beside, behind or instead of the image that it seems to be. None may pass."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageFile

from nsfw_guard.guard import Guard
from nsfw_guard.imaging.files import gif, tiffs
from nsfw_guard.imaging.files.formats import FORMATS
from nsfw_guard.imaging.limits import Limits
from nsfw_guard.testing import FakeBackend
from nsfw_guard.verdict import Outcome
from tests.attacks import files as make
from tests.attacks.files import BLUE, DARK, RED, WHITE, jpeg, saved
from tests.imaging.decode.files import saved as file_of

GREY100 = (100, 100, 100)


def unsafe(levels) -> float:
    """Strongly red, or nearly white."""
    red, green, blue = levels.int()
    strong = (red > 120) & (green < 110) & (blue < 110)
    return float((strong | (levels.int().amin(0) > 235)).float().mean())


GUARD = Guard(FakeBackend(unsafe), on_review="block")
KEPT = Outcome.BLOCK, Outcome.ERROR


def _one_scan_of_three() -> bytes:
    data = jpeg(RED)
    at = data.index(b"\xff\xda")
    return data[:at] + make.segment(0xDA, b"\1\1\0\0\x3f\0") + data[at + 14 :]


def _gif_of_two() -> bytes:
    """The first two of three frames, each of them whole."""
    frames = [Image.new("RGB", (64, 64), colour) for colour in (BLUE, DARK, RED)]
    data = file_of(frames[0], "GIF", save_all=True, append_images=frames[1:])
    return data[: gif.read(data, most=3).images[-1][0]]


def _png_of(colour: tuple[int, ...], *, rows: int = 64, interlaced: bool = False) -> bytes:
    """A PNG of 64 rows that brings so many of them."""
    sizes = [(8, 8), (8, 8), (16, 8), (16, 16), (32, 16), (32, 32), (64, 32)] if interlaced else [(64, 64)]
    lines = [b"\0" + bytes(colour) * columns for columns, count in sizes for _ in range(count)]
    head = struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, interlaced)
    packed = zlib.compress(b"".join(lines[: rows * len(lines) // 64]))
    return make.PNG + make.chunk(b"IHDR", head) + make.chunk(b"IDAT", packed) + make.chunk(b"IEND", b"")


def _jpeg_tiff(*, ended: bool) -> bytes:
    """A TIFF made of a JPEG that is cut off, with an end mark of its own or without one."""
    image = Image.effect_noise((64, 64), 90).convert("RGB")
    data = bytearray(file_of(image, "TIFF", compression="jpeg"))
    page = next(tiffs.directories(bytes(data)))
    sizes, offset = page.entries[0x0117], page.number(0x0111)
    half = page.number(0x0117) // 2
    data[sizes.at : sizes.at + 4] = half.to_bytes(4, "little") if sizes.kind == 4 else data[sizes.at : sizes.at + 4]
    if sizes.kind == 3:
        data[sizes.at : sizes.at + 2] = half.to_bytes(2, "little")
    if ended:
        data[offset + half - 2 : offset + half] = b"\xff\xd9"
    return bytes(data)


COLOURS: dict[str, Callable[[], bytes]] = {
    "ICC, wild between sampled levels": lambda: saved((40, 40, 40), "PNG", icc_profile=make.wild_between()),
    "ICC in a JPEG": lambda: jpeg((40, 40, 40), icc_profile=make.wild_between(), quality=100, subsampling=0),
    "ICC table for perceptual": lambda: saved(BLUE, "PNG", icc_profile=make.red_for_intent(0)),
    "ICC table for relative": lambda: saved(BLUE, "PNG", icc_profile=make.red_for_intent(1)),
    "ICC table for saturation": lambda: saved(BLUE, "PNG", icc_profile=make.red_for_intent(2)),
    "ICC curves behind a table": lambda: saved(BLUE, "PNG", icc_profile=make.red_by_curves_alone()),
    "ICC of a CMYK JPEG": lambda: jpeg(
        (255, 255, 0, 0), mode="CMYK", icc_profile=make.profile({b"A2B0": make.red_table(4)}, b"CMYK", b"Lab ", b"prtr")
    ),
    "ICC of a CMYK TIFF": lambda: saved(
        (255, 255, 0, 0),
        "TIFF",
        mode="CMYK",
        icc_profile=make.profile({b"A2B0": make.red_table(4)}, b"CMYK", b"Lab ", b"prtr"),
    ),
    "ICC of a grey PNG": lambda: saved((90,), "PNG", mode="L", icc_profile=make.white_grey()),
    "ICC of a grey JPEG": lambda: jpeg((90,), mode="L", icc_profile=make.white_grey()),
    "ICC of a grey PNG with alpha": lambda: saved((90, 200), "PNG", mode="LA", icc_profile=make.white_grey()),
    "ICC of a palette": lambda: saved((0,), "PNG", mode="P", icc_profile=make.red_by_curves_alone()),
    "gAMA": lambda: make.with_chunk(b"gAMA", make.gamma(10), data=saved(GREY100, "PNG")),
    "gAMA and cHRM": lambda: make.with_chunk(
        b"gAMA", make.gamma(1 / 2.2), data=make.with_chunk(b"cHRM", make.SWAPPED, data=saved(BLUE, "PNG"))
    ),
    "cHRM": lambda: make.with_chunk(b"cHRM", make.SWAPPED, data=saved(BLUE, "PNG")),
    "cHRM behind an sRGB chunk": lambda: make.with_chunk(
        b"cHRM", make.SWAPPED, data=make.with_chunk(b"sRGB", b"\0", data=saved(BLUE, "PNG"))
    ),
    "cICP": lambda: make.with_chunk(b"cICP", bytes((9, 16, 0, 1)), data=saved((190, 190, 190), "PNG")),
    "BMP with a profile": lambda: make.bmp(make.red_by_curves_alone()),
    "BMP with calibrated colours": lambda: make.bmp(calibrated=True),
}
EMBEDDED: dict[str, Callable[[tuple[int, ...]], bytes]] = {
    "EXIF thumbnail": lambda c: make.with_segment(0xE1, b"Exif\0\0" + make.exif(jpeg(c))),
    "EXIF thumbnail, bare": lambda c: make.with_segment(0xE1, b"Exif\0\0" + make.bare_exif(c)),
    "EXIF maker note": lambda c: make.with_segment(0xE1, b"Exif\0\0" + make.maker_note(jpeg(c))),
    "JFIF thumbnail": make.jfif,
    "JFXX thumbnail, JPEG": lambda c: make.jfxx(0x10, jpeg(c)),
    "JFXX thumbnail, palette": lambda c: make.jfxx(0x11, b"\x04\x03" + bytes(c) * 256 + bytes(12)),
    "JFXX thumbnail, RGB": lambda c: make.jfxx(0x13, b"\x04\x03" + bytes(c) * 12),
    "Photoshop thumbnail": lambda c: make.photoshop(jpeg(c)),
    "XMP thumbnail": lambda c: make.with_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + make.xmp(jpeg(c))),
    "XMP thumbnail, PNG": lambda c: make.with_segment(
        0xE1, b"http://ns.adobe.com/xap/1.0/\0" + make.xmp(saved(c, "PNG"))
    ),
    "XMP in pieces": lambda c: make.extended_xmp(jpeg(c)),
    "unknown segment": lambda c: make.with_segment(0xEB, b"own\0" + jpeg(c)),
    "comment": lambda c: make.with_segment(0xFE, jpeg(c)),
    "second of two previews": lambda c: make.with_segment(0xEB, jpeg() + jpeg(c)),
    "thumbnail of a PNG": lambda c: make.png_text(b"eXIf", make.exif(jpeg(c))),
    "text of a PNG": lambda c: make.png_text(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + make.xmp(jpeg(c))),
    "packed text of a PNG": lambda c: make.png_text(b"zTXt", b"preview\0\0" + zlib.compress(make.xmp(jpeg(c)))),
    "packed iTXt of a PNG": lambda c: make.png_text(b"iTXt", b"x\0\1\0\0\0" + zlib.compress(make.xmp(jpeg(c)))),
    "EXIF in a text of a PNG": lambda c: make.raw_profile(make.exif(jpeg(c))),
    "unknown chunk of a PNG": lambda c: make.png_text(b"prVW", saved(c, "PNG")),
    "thumbnail of a WebP": lambda c: make.webp_with_exif(make.exif(jpeg(c))),
    "sub-image of a TIFF": lambda c: make.tiff_with_sub_image(BLUE, c),
    "behind a sub-image of a TIFF": lambda c: make.tiff_with_sub_image_behind_another(BLUE, c),
    "main image of a DNG": lambda c: make.tiff_with_sub_image(BLUE, c, dng=True),
    "thumbnail of a TIFF": lambda c: make.tiff_with_thumbnail(jpeg(c)),
}
REFUSED: dict[str, Callable[[], bytes]] = {
    "second image of a WebP": lambda: make.webp_with_hidden_still(RED),
    "JPEG larger than its data": make.taller,
    "JPEG cut off": make.halved,
    "JPEG cut off early": lambda: make.halved(share=0.2),
    "progressive JPEG cut off": lambda: make.halved(progressive=True),
    "JPEG without its last restarts": make.missing_restart,
    "thumbnail cut off": lambda: make.with_segment(0xE1, b"Exif\0\0" + make.exif(jpeg(RED)[:300])),
    "17 previews": lambda: make.with_segment(0xEB, b"".join(jpeg(size=(16, 16)) for _ in range(17))),
    "arithmetic JPEG": lambda: jpeg().replace(b"\xff\xc0", b"\xff\xc9"),
    "JPEG without its colours": _one_scan_of_three,
    "PNG cut off": lambda: _png_of(RED, rows=3),
    "PNG cut off at its last row": lambda: _png_of(RED, rows=63),
    "interlaced PNG cut off": lambda: _png_of(RED, rows=40, interlaced=True),
    "GIF cut off behind its second frame": _gif_of_two,
    "GIF without its end mark": lambda: saved(RED, "GIF")[:-1],
    "TIFF made of a JPEG cut off": lambda: _jpeg_tiff(ended=False),
    "TIFF made of a JPEG cut off and ended": lambda: _jpeg_tiff(ended=True),
}


def _large_profile(tags: int, size: int) -> bytes:
    """A profile that only a reader without LittleCMS's bounds would follow."""
    plain = make.wild_between()
    return plain[:128] + struct.pack(">L", tags) + plain[132:].ljust(size, b"\0")


DISPUTED: dict[str, Callable[[], bytes]] = {
    "profile of 5 MB": lambda: jpeg(icc_profile=_large_profile(8, 5 << 20)),
    "profile of 101 tags": lambda: jpeg(icc_profile=_large_profile(101, 3000)),
    "gAMA twice": lambda: make.with_chunk(
        b"gAMA", make.gamma(0.45455), data=make.with_chunk(b"gAMA", make.gamma(10), data=saved(GREY100, "PNG"))
    ),
    "cHRM twice": lambda: make.with_chunk(
        b"cHRM", make.SWAPPED, data=make.with_chunk(b"cHRM", bytes(32), data=saved(BLUE, "PNG"))
    ),
    "sub-images twice": lambda: make.tiff_of_entries((0x014A, 4, 1, 8), (0x014A, 4, 1, 8)),
    "sub-images of no whole numbers": lambda: make.tiff_of_entries((0x014A, 11, 1, 8)),
    "directory of 5,000 entries": lambda: make.tiff_of_entries(*[(60000, 3, 1, 0)] * 5000),
}


@pytest.mark.parametrize("name", DISPUTED)
def test_a_file_that_readers_disagree_on_is_refused(name: str) -> None:
    (verdict,) = GUARD.check([DISPUTED[name]()])
    assert verdict.outcome is Outcome.ERROR
    assert "save" in verdict.reason


def test_the_sub_image_of_a_late_page_is_judged() -> None:
    """Where a clip's frames are sampled, what hides behind those that were not is judged all the same."""
    guard = Guard(FakeBackend(unsafe), on_review="flag", limits=Limits(frames=2, unseen="review"))
    pages = [make.tiff_with_late_sub_image(BLUE, colour, pages=1200) for colour in (BLUE, RED)]
    assert [v.outcome for v in guard.check(pages)] == [Outcome.REVIEW, Outcome.BLOCK]


def test_a_second_thumbnail_behind_the_first_is_judged() -> None:
    two = make.with_segment(0xE1, b"Exif\0\0" + make.exif(jpeg(DARK) + jpeg(RED)))
    assert GUARD.check([two])[0].outcome is Outcome.BLOCK


AVIF = pytest.mark.skipif("AVIF" not in FORMATS, reason="this Pillow has no AVIF")


def forms(data: bytes, folder: Path):
    """The file as bytes, by its path, as PIL opens it and as PIL has loaded it from a stream and from a path."""
    path = folder / "file"
    path.write_bytes(data)
    yield "bytes", data
    yield "path", path
    try:
        lazy, loaded, from_path = Image.open(io.BytesIO(data)), Image.open(io.BytesIO(data)), Image.open(path)
        loaded.load()
        from_path.load()
    except (OSError, SyntaxError, ValueError):
        return  # Pillow cannot open it: there is no such image
    yield "lazy", lazy
    yield "from a path", from_path
    yield "loaded", loaded


def outcomes(data: bytes, folder: Path, *, loaded: bool = True) -> dict[str, Outcome]:
    given = {name: form for name, form in forms(data, folder) if loaded or name != "loaded"}
    verdicts = GUARD.check(list(given.values()))
    for form in given.values():
        if isinstance(form, Image.Image):
            form.close()
    return dict(zip(given, (v.outcome for v in verdicts), strict=True))


@pytest.mark.parametrize("name", COLOURS)
def test_what_a_colour_managed_viewer_shows_is_judged(name: str, tmp_path: Path) -> None:
    data = COLOURS[name]()
    # What only the file says is gone with it, once PIL has loaded it from a stream; then nobody can save it either.
    in_info = name.startswith("ICC")
    assert set(outcomes(data, tmp_path, loaded=in_info).values()) == {Outcome.BLOCK}


@pytest.mark.parametrize("name", EMBEDDED)
def test_an_image_beside_the_image_is_judged(name: str, tmp_path: Path) -> None:
    assert set(outcomes(EMBEDDED[name](RED), tmp_path, loaded=False).values()) == {Outcome.BLOCK}


@pytest.mark.parametrize("name", EMBEDDED)
def test_a_harmless_image_beside_the_image_passes(name: str, tmp_path: Path) -> None:
    assert set(outcomes(EMBEDDED[name](DARK), tmp_path).values()) == {Outcome.ALLOW}


@pytest.mark.parametrize("name", REFUSED)
def test_truncated_and_unreadable_images_are_refused(name: str, tmp_path: Path) -> None:
    assert set(outcomes(REFUSED[name](), tmp_path, loaded=False).values()) == {Outcome.ERROR}


@pytest.mark.parametrize("name", [n for n in REFUSED if "cut" in n or "larger" in n])
def test_settings_of_the_process_cannot_make_a_truncated_image_pass(name: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    assert set(outcomes(REFUSED[name](), tmp_path, loaded=False).values()) == {Outcome.ERROR}
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


@pytest.mark.parametrize("unsafe_at", [0, 1, 37, 63])
@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_every_frame_is_looked_at(kind: str, unsafe_at: int, tmp_path: Path) -> None:
    assert set(outcomes(make.animated(kind, unsafe_at), tmp_path).values()) == {Outcome.BLOCK}


@AVIF
def test_a_track_behind_the_brand_of_a_still_is_refused(tmp_path: Path) -> None:
    assert set(outcomes(make.avif_track(RED), tmp_path, loaded=False).values()) == {Outcome.ERROR}


@AVIF
@pytest.mark.parametrize(("level", "outcome"), [(250, Outcome.BLOCK), (90, Outcome.ALLOW)])
def test_an_unreferenced_image_of_an_avif_is_judged(level: int, outcome: Outcome, tmp_path: Path) -> None:
    data = saved((*DARK, level), "AVIF", mode="RGBA", size=(64, 48))
    assert data.count(b"auxl") == 1
    for name in (b"zzzz", b"dimg"):  # referred to by nothing known, or a part of what is put together from nothing
        assert set(outcomes(data.replace(b"auxl", name), tmp_path, loaded=False).values()) == {outcome}


@AVIF
def test_colours_that_an_avif_declares_are_judged(tmp_path: Path) -> None:
    data = make.avif_with_colours((190, 190, 190), 9, 16)
    assert set(outcomes(data, tmp_path, loaded=False).values()) == {Outcome.BLOCK}
    assert set(outcomes(make.avif_with_colours(BLUE, 1, 13), tmp_path).values()) == {Outcome.ALLOW}


HARMLESS: dict[str, Callable[[], bytes]] = {
    "progressive": lambda: jpeg(progressive=True),
    "grey that ends in 128": lambda: jpeg((128, 128, 128)),
    "restart markers": lambda: jpeg(restart_marker_rows=1, size=(160, 160)),
    "subsampled": lambda: jpeg(subsampling=2, size=(33, 17)),
    "grey": lambda: jpeg((90,), mode="L"),
    "CMYK": lambda: jpeg((255, 255, 0, 0), mode="CMYK"),
    "bytes after the end": lambda: jpeg() + jpeg(RED),
    "usual gAMA and cHRM": lambda: make.with_chunk(
        b"gAMA", make.gamma(0.45455),
        data=make.with_chunk(
            b"cHRM", struct.pack(">8L", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000), data=saved(BLUE, "PNG")
        ),
    ),
    "black to the end": lambda: saved((0, 0, 0), "PNG"),
    "interlaced": lambda: _png_of(BLUE, interlaced=True),
    "JPEG in a TIFF": lambda: saved(BLUE, "TIFF", compression="jpeg"),
    "broken cHRM": lambda: make.with_chunk(b"cHRM", bytes(32), data=saved(BLUE, "PNG")),
    "EXIF without a thumbnail": lambda: jpeg(exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"),
    "BMP of version 5": make.bmp,
    "junk profile": lambda: jpeg(icc_profile=b"junk" * 40),
}  # fmt: skip


@pytest.mark.parametrize("name", HARMLESS)
def test_usual_files_pass(name: str, tmp_path: Path) -> None:
    assert set(outcomes(HARMLESS[name](), tmp_path).values()) == {Outcome.ALLOW}


@pytest.mark.parametrize("name", [*EMBEDDED, *COLOURS])
def test_a_separate_process_sees_the_same(name: str) -> None:
    guard = Guard(FakeBackend(unsafe), limits=Limits(process=True, seconds=20))
    data = EMBEDDED[name](RED) if name in EMBEDDED else COLOURS[name]()
    assert guard.check([data])[0].outcome is Outcome.BLOCK
    assert WHITE != RED
