"""What transparency hides is judged."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from PIL import Image

from nsfw_guard.imaging.decode import decode
from nsfw_guard.imaging.files.formats import FORMATS
from tests.imaging.decode.files import BLUE, RED, chunk, drawn, flat, noise, png, saved, shows


def test_opaque_alpha_is_one_frame() -> None:
    assert len(decode(flat((1, 2, 3, 255), mode="RGBA")).frames) == 1


def test_a_drawing_in_the_alpha_alone_is_seen() -> None:
    frames = decode(saved(drawn("RGBA", (0, 0, 0, 0), (0, 0, 0, 255)))).frames
    assert len(frames) == 2  # on black and bare are both plain black
    black, white = frames
    assert black.max() == 0
    assert white[0, 0].tolist() == [255] * 3
    assert white[2, 2].tolist() == [0] * 3


@pytest.mark.parametrize("kind", [k for k in ("PNG", "WEBP", "TIFF") if k in FORMATS])
def test_a_drawing_in_the_hidden_rgb_alone_is_seen(kind: str) -> None:
    image = drawn("RGBA", (9, 9, 9, 0), (*RED, 0))
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    black, white, hidden = decode(saved(image, kind, **options)).frames
    assert (black.max(), white.min()) == (0, 255)
    assert hidden[2, 2].tolist() == [*RED]
    assert hidden[0, 0].tolist() == [9, 9, 9]


def test_half_alpha_is_exact() -> None:
    black, white, hidden = (f[0, 0].tolist() for f in decode(flat((200, 100, 0, 128), mode="RGBA")).frames)
    assert black == [100, 50, 0]
    assert white == [227, 177, 127]
    assert hidden == [200, 100, 0]


@pytest.mark.parametrize("mode", ["LA", "La", "PA", "RGBa"])
def test_every_alpha_mode_gives_three(mode: str) -> None:
    grey = Image.merge("LA", (Image.fromarray(noise(8, 8)), Image.fromarray(noise(8, 8, seed=1))))
    image = {
        "LA": lambda: grey,
        "La": lambda: grey.convert("La"),
        "PA": lambda: Image.fromarray(noise(8, 8, 4)).convert("PA"),
        "RGBa": lambda: Image.fromarray(noise(8, 8, 4)).convert("RGBa"),
    }[mode]()
    if mode == "PA":
        image.putalpha(Image.fromarray(noise(8, 8, seed=2)))
    assert image.mode == mode
    assert len(decode(image).frames) == 3


def palette(transparency: int | bytes) -> bytes:
    image = Image.new("P", (4, 2), 0)
    image.putpalette([*RED, *BLUE])
    image.paste(1, (0, 0, 2, 2))
    return saved(image, transparency=transparency)


@pytest.mark.parametrize("transparency", [0, b"\x00\xff", b"\x00"])
def test_transparency_of_a_palette(transparency: int | bytes) -> None:
    black, white, hidden = decode(palette(transparency)).frames
    assert [f[0, 3].tolist() for f in (black, white, hidden)] == [[0, 0, 0], [255, 255, 255], [*RED]]
    assert [f[0, 0].tolist() for f in (black, white, hidden)] == [[*BLUE]] * 3


def test_a_palette_with_alpha_of_its_own() -> None:
    image = drawn("RGBA", (*BLUE, 255), (*RED, 0)).quantize(4, method=Image.Quantize.FASTOCTREE)
    assert image.mode == "P"
    assert shows(decode(image), BLUE)
    assert len(decode(image).frames) >= 2


@pytest.mark.parametrize(
    ("image", "named", "hidden"),
    [
        (flat((7,), mode="L"), 7, [7, 7, 7]),
        (flat(RED), RED, [*RED]),
    ],
)
def test_a_transparent_colour(image: Image.Image, named: Any, hidden: list[int]) -> None:
    assert [f[0, 0].tolist() for f in decode(saved(image, transparency=named)).frames] == [[0] * 3, [255] * 3, hidden]


def test_a_transparent_level_of_16_bits() -> None:
    data = png(2, 1, b"\0" + struct.pack(">HH", 257 * 7, 0), depth=16, colour=0, extra=chunk(b"tRNS", b"\x07\x07"))
    assert [f[0, 0, 0].tolist() for f in decode(data).frames] == [0, 255, 7]
