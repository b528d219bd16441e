"""Files that show something else than they seem to, made of single colours: red, or white, is what must not pass."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from tests.imaging.decode.files import chunk
from tests.imaging.decode.files import saved as file_of

RED, WHITE, BLUE, DARK = (255, 0, 0), (255, 255, 255), (0, 0, 255), (40, 40, 40)
SIZE = (32, 24)
PNG = b"\x89PNG\r\n\x1a\n"


def saved(
    colour: Sequence[int], kind: str, *, mode: str = "RGB", size: tuple[int, int] = SIZE, **options: Any
) -> bytes:
    return file_of(Image.new(mode, size, tuple(colour) if len(colour) > 1 else colour[0]), kind, **options)


def jpeg(colour: Sequence[int] = BLUE, **options: Any) -> bytes:
    return saved(colour, "JPEG", **options)


# ---- JPEG


def segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def with_segment(marker: int, payload: bytes, *, data: bytes | None = None) -> bytes:
    data = jpeg() if data is None else data
    return data[:2] + segment(marker, payload) + data[2:]


def ifd(entries: Sequence[tuple[int, int, int, int]], order: str = "<") -> bytes:
    """A directory of entries (tag, kind, count, value), without the pointer to the next one."""
    rows = b"".join(struct.pack(order + "HHLL", *entry) for entry in entries)
    return struct.pack(order + "H", len(entries)) + rows


def exif(thumbnail: bytes, *, extra: Sequence[tuple[int, int, int, int]] = (), fields: bool = True) -> bytes:
    """An EXIF block with a thumbnail; with `extra` it is described otherwise than as a JPEG."""
    entries = [(0x0201, 4, 1, 0), (0x0202, 4, 1, len(thumbnail))] if fields else []
    at = 14 + 2 + 12 * (len(entries) + len(extra)) + 4
    rows = [(t, k, n, at if t in {0x0201, 0x0111} else v) for t, k, n, v in (*entries, *extra)]
    return b"II*\0\x08\0\0\0" + b"\0\0" + struct.pack("<L", 14) + ifd(rows) + bytes(4) + thumbnail


def bare_exif(colour: Sequence[int]) -> bytes:
    """A thumbnail of bare RGB pixels."""
    rows = [(0x0100, 4, 1, 8), (0x0101, 4, 1, 6), (0x0103, 3, 1, 1), (0x0106, 3, 1, 2), (0x0111, 4, 1, 0),
            (0x0115, 3, 1, 3), (0x0117, 4, 1, 144)]  # fmt: skip
    return exif(bytes(colour) * 48, extra=rows, fields=False)


def maker_note(image: bytes) -> bytes:
    return b"II*\0\x08\0\0\0" + ifd([(0x927C, 7, len(image), 26)]) + bytes(4) + image


def xmp(image: bytes) -> bytes:
    return b"<x:xmpmeta><xmpGImg:image>" + base64.encodebytes(image).replace(b"\n", b"&#xA;") + b"</xmpGImg:image>"


def extended_xmp(image: bytes) -> bytes:
    text = xmp(image)
    head = b"http://ns.adobe.com/xmp/extension/\0" + b"0" * 32
    data, half = jpeg(), len(text) // 2
    for at, part in ((half, text[half:]), (0, text[:half])):
        data = with_segment(0xE1, head + struct.pack(">LL", len(text), at) + part, data=data)
    return data


def jfif(colour: Sequence[int]) -> bytes:
    data, payload = jpeg(), b"JFIF\0\1\1\0\0\1\0\1\x05\x04" + bytes(colour) * 20
    assert data[2:4] == b"\xff\xe0"
    return data[:2] + segment(0xE0, payload) + data[4 + int.from_bytes(data[4:6], "big") :]


def jfxx(kind: int, payload: bytes) -> bytes:
    data = jpeg()
    end = 4 + int.from_bytes(data[4:6], "big")
    return data[:end] + segment(0xE0, b"JFXX\0" + bytes([kind]) + payload) + data[end:]


def photoshop(image: bytes) -> bytes:
    head = struct.pack(">LLLLLLHH", 1, 32, 24, 96, 96 * 24, len(image), 24, 1)
    resource = b"8BIM" + struct.pack(">HHL", 1036, 0, len(head) + len(image)) + head + image
    return with_segment(0xED, b"Photoshop 3.0\0" + resource)


def taller(colour: Sequence[int] = RED, *, side: int = 640) -> bytes:
    """A JPEG whose header says that it is much larger than its data."""
    data = bytearray(jpeg(colour, size=(64, 64)))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", side, side)
    return bytes(data)


def halved(*, progressive: bool = False, share: float = 0.5) -> bytes:
    """A detailed JPEG that is cut off in its data and ended properly."""
    image = Image.effect_noise((200, 200), 90).convert("RGB")
    image.paste(RED, (0, 0, 200, 60))
    data = file_of(image, "JPEG", quality=95, progressive=progressive)
    start = data.index(b"\xff\xda")
    cut = start + int((data.find(b"\xff\xc4", start) if progressive else len(data)) * share - start * share)
    return data[:cut] + b"\xff\xd9"


def missing_restart() -> bytes:
    data = jpeg(RED, size=(160, 160), restart_marker_rows=1, subsampling=0)
    if b"\xff\xd0" not in data:
        pytest.skip("this Pillow writes no restart markers")
    at = data.rindex(b"\xff" + bytes([0xD0 + (160 // 8 - 2) % 8]))
    return data[:at] + b"\xff\xd9"


# ---- colour


def with_chunk(kind: bytes, payload: bytes, *, data: bytes) -> bytes:
    at = len(PNG) + 25  # behind the header
    return data[:at] + chunk(kind, payload) + data[at:]


def profile(tags: dict[bytes, bytes], space: bytes = b"RGB ", pcs: bytes = b"XYZ ", kind: bytes = b"mntr") -> bytes:
    """An ICC profile of these tags."""
    tags = {b"desc": b"desc" + bytes(4) + struct.pack(">L", 2) + b"x\0" + bytes(78), **tags}
    tags.setdefault(b"wtpt", xyz(0.9642, 1.0, 0.8249))
    body, index, at = b"", b"", 132 + 12 * len(tags)
    for name, value in tags.items():
        index += name + struct.pack(">LL", at + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    head = struct.pack(">L4sL4s4s4s", at + len(body), b"none", 0x02400000, kind, space, pcs)
    head = (head + bytes(12) + b"acsp").ljust(68, b"\0") + struct.pack(">3l", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + struct.pack(">L", len(tags)) + index + body


def xyz(*values: float) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3l", *(round(v * 65536) for v in values))


def curve(level: Callable[[int], int]) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">L256H", 256, *(level(i) for i in range(256)))


COLUMNS = {
    b"rXYZ": xyz(0.4360, 0.2225, 0.0139),
    b"gXYZ": xyz(0.3851, 0.7169, 0.0971),
    b"bXYZ": xyz(0.1431, 0.0606, 0.7141),
}


def plain(level: int) -> int:
    return round(65535 * (level / 255) ** 2.2)


def wild_between() -> bytes:
    """Curves that leave the sampled levels (multiples of 17) alone and throw level 40 to pure red."""
    red = curve(lambda i: 65535 if i == 40 else plain(i))
    other = curve(lambda i: 0 if i == 40 else plain(i))
    return profile({**COLUMNS, b"rTRC": red, b"gTRC": other, b"bTRC": other})


def red_table(channels: int) -> bytes:
    """A table (lut8) that shows every colour as red."""
    head = struct.pack(">4sLBBBB9l", b"mft1", 0, channels, 3, 2, 0, 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    ramp = bytes(range(256))
    return head + ramp * channels + bytes((138, 209, 198)) * 2**channels + ramp * 3


def red_for_intent(intent: int) -> bytes:
    """A profile whose curves are usual and whose table for one intent shows red."""
    usual = {**COLUMNS, **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve(plain))}
    calm = bytearray(red_table(3))
    tables = {b"A2B%d" % i: bytes(calm) if i == intent else blue_table() for i in range(3)}
    return profile({**usual, **tables}, pcs=b"Lab ")


def blue_table() -> bytes:
    table = red_table(3)
    return table.replace(bytes((138, 209, 198)) * 8, bytes((76, 196, 16)) * 8)


def red_by_curves_alone() -> bytes:
    """Tables that show blue; curves that show red, for viewers that know no tables."""
    curves = {b"rTRC": curve(lambda i: 65535), b"gTRC": curve(lambda i: 0), b"bTRC": curve(lambda i: 0)}
    return profile({**COLUMNS, **curves, b"A2B0": blue_table()}, pcs=b"Lab ")


def white_grey() -> bytes:
    return profile({b"kTRC": curve(lambda i: 65535)}, space=b"GRAY")


def gamma(value: float) -> bytes:
    return struct.pack(">L", round(value * 100_000))


SWAPPED = struct.pack(">8L", 31270, 32900, 15000, 6000, 30000, 60000, 64000, 33000)


def bmp(profile_data: bytes = b"", *, calibrated: bool = False, colour: Sequence[int] = BLUE) -> bytes:
    """A BMP with a header of version 5 that declares its colours."""
    plain_file = saved(colour, "BMP")
    offset, pixels = 14 + 124, plain_file[int.from_bytes(plain_file[10:14], "little") :]
    head = bytearray(plain_file[14 : 14 + 40].ljust(124, b"\0"))
    head[:4] = struct.pack("<L", 124)
    if calibrated:
        blue_green_red = [(0.1804, 0.0722, 0.9505), (0.3576, 0.7152, 0.1192), (0.4124, 0.2126, 0.0193)]
        head[60:96] = struct.pack("<9L", *(round(v * 2**30) for point in blue_green_red for v in point))
        head[96:108] = struct.pack("<3L", *[round(2.2 * 65536)] * 3)
    else:
        head[56:60] = b"sRGB"[::-1]
    if profile_data:
        head[56:60] = b"DEBM"
        head[112:120] = struct.pack("<LL", 124 + len(pixels), len(profile_data))
    size = offset + len(pixels) + len(profile_data)
    return b"BM" + struct.pack("<LLL", size, 0, offset) + bytes(head) + pixels + profile_data


# ---- TIFF, WebP, AVIF, PNG texts


def tiff(colour: Sequence[int], at: int) -> tuple[list[tuple[int, int, int, int]], bytes]:
    """The entries and the pixels of an uncompressed page whose pixels stand at `at`."""
    width, height = SIZE
    rows = [(0x00FE, 4, 1, 0), (0x0100, 4, 1, width), (0x0101, 4, 1, height), (0x0102, 3, 1, 8), (0x0103, 3, 1, 1),
            (0x0106, 3, 1, 2), (0x0111, 4, 1, at), (0x0115, 3, 1, 3), (0x0116, 4, 1, height),
            (0x0117, 4, 1, width * height * 3)]  # fmt: skip
    return rows, bytes(colour) * width * height


def tiff_with_sub_image(shown: Sequence[int], hidden: Sequence[int], *, dng: bool = False) -> bytes:
    """A TIFF whose first directory points to another one that is no page."""
    count = 12 if dng else 11
    first, second = 8, 8 + 2 + 12 * count + 4
    after = second + 2 + 12 * 10 + 4
    rows, pixels = tiff(shown, after)
    rows.append((0x014A, 4, 1, second))
    if dng:
        rows[0] = (0x00FE, 4, 1, 1)
        rows.append((0xC612, 1, 4, 0x00000401))
    inner, hidden_pixels = tiff(hidden, after + len(pixels))
    head = b"II*\0" + struct.pack("<L", first)
    return head + ifd(sorted(rows)) + bytes(4) + ifd(inner) + bytes(4) + pixels + hidden_pixels


def tiff_with_late_sub_image(shown: Sequence[int], hidden: Sequence[int], *, pages: int) -> bytes:
    """A TIFF of many pages, of which only the last one points to an image that is no page."""
    step = 2 + 12 * 11 + 4
    at = 8 + step * pages + step  # the pixels stand behind every directory
    rows, pixels = tiff(shown, at)
    inner, hidden_pixels = tiff(hidden, at + len(pixels))
    directories = b"".join(
        ifd(sorted([*rows, (0x014A, 4, 1, 8 + step * pages) if last else (0x9C9B, 4, 1, 0)]))
        + struct.pack("<L", 0 if last else 8 + step * (index + 1))
        for index, last in enumerate([False] * (pages - 1) + [True])
    )
    return b"II*\0\x08\0\0\0" + directories + (ifd(inner) + bytes(4)).ljust(step, b"\0") + pixels + hidden_pixels


def tiff_with_sub_image_behind_another(shown: Sequence[int], hidden: Sequence[int]) -> bytes:
    """A TIFF whose sub-image is harmless, but a chain of directories leads on from it."""
    first, step = 8, 2 + 12 * 11 + 4
    at = first + step * 3
    rows, pixels = tiff(shown, at)
    inner, hidden_pixels = tiff(hidden, at + len(pixels))
    head = b"II*\0" + struct.pack("<L", first)
    chain = ifd(sorted([*rows, (0x014A, 4, 1, first + step)])) + bytes(4)
    chain += (ifd(rows) + struct.pack("<L", first + 2 * step)).ljust(step, b"\0")
    chain += (ifd(inner) + bytes(4)).ljust(step, b"\0")
    return head + chain + pixels + hidden_pixels


def tiff_of_entries(*extra: tuple[int, int, int, int]) -> bytes:
    """A TIFF whose directory holds these entries besides its own."""
    after = 8 + 2 + 12 * (10 + len(extra)) + 4
    rows, pixels = tiff(BLUE, after)
    return b"II*\0\x08\0\0\0" + ifd(sorted([*rows, *extra])) + bytes(4) + pixels


def tiff_with_thumbnail(image: bytes) -> bytes:
    count = 12
    after = 8 + 2 + 12 * count + 4
    rows, pixels = tiff(BLUE, after)
    rows += [(0x0201, 4, 1, after + len(pixels)), (0x0202, 4, 1, len(image))]
    return b"II*\0\x08\0\0\0" + ifd(sorted(rows)) + bytes(4) + pixels + image


def webp_with_exif(block: bytes) -> bytes:
    return saved(BLUE, "WEBP", exif=b"Exif\0\0" + block)


def webp_with_hidden_still(colour: Sequence[int]) -> bytes:
    """A second image behind the one that is shown."""
    shown, hidden = (
        saved(BLUE, "WEBP", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"),
        saved(colour, "WEBP", lossless=True),
    )
    data = shown + hidden[12:]
    return data[:4] + struct.pack("<L", len(data) - 8) + data[8:]


def png_text(kind: bytes, payload: bytes) -> bytes:
    return with_chunk(kind, payload, data=saved(BLUE, "PNG"))


def raw_profile(block: bytes) -> bytes:
    info = PngImagePlugin.PngInfo()
    raw = b"Exif\0\0" + block
    info.add_text("Raw profile type exif", f"\nexif\n{len(raw):8}\n{raw.hex()}\n", zip=True)
    return saved(BLUE, "PNG", pnginfo=info)


def avif_track(colour: Sequence[int]) -> bytes:
    """An animation whose brand says that it is a still."""
    rest = [Image.new("RGB", (64, 48), tuple(colour))] * 2
    data = file_of(Image.new("RGB", (64, 48), BLUE), "AVIF", save_all=True, append_images=rest)
    assert data[8:12] == b"avis"
    return data[:8] + b"avif" + data[12:]


def avif_with_colours(colour: Sequence[int], primaries: int, transfer: int) -> bytes:
    data = saved(colour, "AVIF", size=(64, 48), quality=100)
    at = data.index(b"colrnclx") + 8
    return data[:at] + struct.pack(">HH", primaries, transfer) + data[at + 4 :]


def animated(kind: str, unsafe: int, count: int = 64) -> bytes:
    frames = [Image.new("RGB", SIZE, (0, 60 + i, 200)) for i in range(count)]
    frames[unsafe] = Image.new("RGB", SIZE, RED)
    return file_of(frames[0], kind, save_all=True, append_images=frames[1:])
