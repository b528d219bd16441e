"""Covers as files: in the format that was promised, with the mark of a generated image and nothing else."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from nsfw_guard.tools.screening.acting.covers import SOURCE_TYPE, generated_mark, save_cover

TERM = "trainedAlgorithmicMedia"
XMP = f'<x:xmpmeta><rdf Iptc4xmpExt:DigitalSourceType="{SOURCE_TYPE}{TERM}"/></x:xmpmeta>'
COVER = Image.new("RGB", (20, 10), (1, 2, 3))


def png(*, compressed: bool, text: str = XMP) -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", text, zip=compressed)
    file = io.BytesIO()
    COVER.save(file, "PNG", pnginfo=info)
    return file.getvalue()


@pytest.mark.parametrize("compressed", [False, True])
def test_the_mark_of_a_generated_image_is_read(compressed: bool) -> None:
    assert generated_mark(png(compressed=compressed)) == TERM
    other = png(compressed=compressed, text=XMP.replace(TERM, "compositeWithTrainedAlgorithmicMedia"))
    assert generated_mark(other) == "compositeWithTrainedAlgorithmicMedia"


@pytest.mark.parametrize(
    "data", [b"", b"no image", png(compressed=False, text="digitalCapture"), png(compressed=True)[:70]]
)
def test_a_file_without_one_has_none(data: bytes) -> None:
    assert generated_mark(data) == ""


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [(".png", "PNG"), (".jpg", "JPEG"), (".jfif", "JPEG"), (".webp", "WEBP"), (".bmp", "BMP"), (".tif", "PNG")],
)
@pytest.mark.parametrize("mark", ["", TERM])
def test_a_cover_is_readable_and_keeps_the_mark(suffix: str, kind: str, mark: str, tmp_path: Path) -> None:
    path = tmp_path / f"cover{suffix}"
    assert save_cover(COVER, path, suffix, mark=mark)
    with Image.open(path) as image:
        assert (image.format, image.size) == (kind, (20, 10))
        image.load()
    assert generated_mark(path.read_bytes()) == ("" if kind == "BMP" else mark)


def test_a_cover_that_its_format_cannot_hold_is_a_png(tmp_path: Path) -> None:
    wide = Image.new("RGB", (70_000, 1))
    assert save_cover(wide, tmp_path / "wide.jpg", ".jpg", mark=TERM)
    with Image.open(tmp_path / "wide.jpg") as image:
        assert image.format == "PNG"
    assert not save_cover(COVER, tmp_path / "none" / "a.png", ".png")
