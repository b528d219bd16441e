"""What a file can cost at the default limits: the largest accepted ones, files built to cost more, and damaged ones.

Each file is judged in a process of its own, by a guard with `demo-shapes`: processor seconds and what its peak memory
adds. `--mutants N` judges N damaged files as well. Promised: at most 2 seconds and 1 GB a file, no crash, and nothing
allowed of which a part is missing.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import resource
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from PIL import Image, ImageCms

from common import finish, machine, table

SECONDS, MEMORY = 2.0, 1024
SEED = 11


def textured(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """An image with some structure everywhere, as photographs have it."""
    bands = len(Image.new(mode, (1, 1)).getbands())
    rough = np.random.default_rng(SEED).integers(0, 256, (max(2, height // 10), max(2, width // 10), bands), np.uint8)
    image = Image.fromarray(rough if bands > 1 else rough[..., 0], mode if mode != "CMYK" else None)
    image = image if mode != "CMYK" else Image.frombytes("CMYK", image.size, rough.tobytes())
    return image.resize((width, height), Image.Resampling.BICUBIC)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def display_p3() -> bytes:
    from nsfw_guard.imaging.files.colour import cicp_profile

    return next(cicp_profile(primaries=12, transfer=13))


def wide_grey(side: int) -> Image.Image:
    return Image.fromarray((np.add.outer(np.arange(side), np.arange(side)) % 65536).astype(np.uint16))


def scans(count: int) -> bytes:
    """A progressive JPEG of 40 megapixels whose last scan comes again and again."""
    data = saved(Image.new("RGB", (6300, 6300), (90, 120, 60)), "JPEG", progressive=True)
    at = data.rindex(b"\xff\xda")
    return data[:-2] + data[at:-2] * count + b"\xff\xd9"


def pages(count: int) -> bytes:
    """A TIFF of many pages of one pixel."""
    entry = struct.Struct("<HHLL")
    parts, at = [b"II*\0", struct.pack("<L", 8)], 8
    for index in range(count):
        size = 2 + 12 * 9 + 4
        tags = [(256, 3, 1, 1), (257, 3, 1, 1), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8),
                (277, 3, 1, 1), (278, 3, 1, 1), (279, 4, 1, 1)]  # fmt: skip
        following = at + size if index + 1 < count else 0
        parts += [struct.pack("<H", 9), *(entry.pack(*tag) for tag in tags), struct.pack("<L", following)]
        at += size
    return b"".join(parts)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width: int, height: int, *extra: bytes, rows: bytes = b"") -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(extra) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def animation(kind: str, count: int, size: tuple[int, int], mode: str = "RGB", **more: int) -> bytes:
    base = textured(*size, mode)
    frames = [base.rotate(90 * (i % 4), expand=False) for i in range(count)]
    more |= {"method": 0} if kind == "WEBP" else {}
    return saved(frames[0], kind, save_all=True, append_images=frames[1:], **more)


def gif_frames(count: int) -> bytes:
    head = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\0\0\0\xff\xff\xff"
    return head + b"\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\x00" * count + b";"


LARGEST: dict[str, Callable[[], bytes]] = {
    "JPEG, 40 MP": lambda: saved(textured(6324, 6324), "JPEG"),
    "JPEG, progressive, 40 MP": lambda: saved(textured(6324, 6324), "JPEG", progressive=True),
    "JPEG, grey, 40 MP": lambda: saved(textured(6324, 6324, "L"), "JPEG"),
    "JPEG, CMYK, 40 MP": lambda: saved(textured(6324, 6324, "CMYK"), "JPEG"),
    "JPEG, 99:1": lambda: saved(textured(62_900, 635), "JPEG"),
    "JPEG with a Display P3 profile, 24 MP": lambda: saved(textured(4900, 4900), "JPEG", icc_profile=display_p3()),
    "PNG, 36 MP": lambda: saved(textured(6000, 6000), "PNG"),
    "PNG with alpha, 13 MP": lambda: saved(textured(3600, 3600, "RGBA"), "PNG", compress_level=1),
    "PNG, 16-bit grey, 40 MP": lambda: saved(wide_grey(6324), "PNG", compress_level=1),
    "PNG with declared colours, 20 MP": lambda: _declared(saved(textured(4450, 4450), "PNG", compress_level=1)),
    "WebP, 33 MP": lambda: saved(textured(5760, 5760), "WEBP", method=0, quality=60),
    "WebP with alpha, 12 MP": lambda: saved(textured(3500, 3500, "RGBA"), "WEBP", method=0, quality=60),
    "WebP with alpha and a profile, 6 MP": lambda: saved(
        textured(2500, 2500, "RGBA"), "WEBP", method=0, quality=60, icc_profile=display_p3()
    ),
    "WebP animation, 30 frames of 0.4 MP": lambda: animation("WEBP", 30, (640, 640)),
    "GIF, 40 MP": lambda: saved(textured(6324, 6324, "L"), "GIF"),
    "GIF animation, 256 frames": lambda: animation("GIF", 256, (300, 300)),
    "APNG, 25 frames of 1 MP": lambda: animation("PNG", 25, (1000, 1000)),
    "GIF that is put together, 100 frames": lambda: animation("GIF", 100, (300, 300), disposal=2),
    "APNG that goes back, 10 frames of 1 MP": lambda: animation("PNG", 10, (1000, 1000), disposal=2),
    "BMP, 22 MP": lambda: saved(textured(4690, 4690), "BMP"),
    "TIFF, LZW, 14 MP": lambda: saved(textured(3700, 3700), "TIFF", compression="tiff_lzw"),
    "TIFF, 256 pages": lambda: animation("TIFF", 256, (200, 200)),
    "AVIF, 33 MP": lambda: saved(textured(5760, 5760), "AVIF", speed=9, quality=60),
}


def _declared(data: bytes) -> bytes:
    return data[:33] + chunk(b"cICP", bytes((12, 13, 0, 1))) + data[33:]


BUILT_TO_COST: dict[str, Callable[[], bytes]] = {
    "progressive JPEG, 200 scans": lambda: scans(190),
    "progressive JPEG, 3,000 scans": lambda: scans(2990),
    "TIFF, 12,000 pages": lambda: pages(12_000),
    "TIFF, 500,000 pages": lambda: pages(500_000),
    "WebP animation with alpha, 194 MP": lambda: animation("WEBP", 31, (2500, 2500), "RGBA"),
    "WebP with alpha and a profile, 40 MP": lambda: saved(
        textured(6300, 6300, "RGBA"), "WEBP", method=0, quality=60, icc_profile=display_p3()
    ),
    "PNG with alpha, 40 MP": lambda: saved(Image.new("RGBA", (6300, 6300), (9, 90, 200, 90)), "PNG"),
    "PNG, 5,000,000 chunks": lambda: png_of(8, 8, chunk(b"teSt", b"") * 5_000_000),
    "PNG, 200 MB of packed text": lambda: png_of(8, 8, chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(200_000_000)))),
    "PNG, 200 MB of profile": lambda: png_of(8, 8, chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(200_000_000)))),
    "PNG, 1 GB behind 64 x 64": lambda: png_of(64, 64, rows=bytes(1_000_000_000)),
    "GIF, 32 frames of 6 MP": lambda: animation("GIF", 32, (2500, 2500), "L"),
    "GIF, 100,000 frames": lambda: gif_frames(100_000),
    "PNG, 2 x 40,000": lambda: png_of(2, 40_000),
    "PNG, 30,000 x 30,000": lambda: png_of(30_000, 30_000),
    "strip of 100:1": lambda: saved(textured(6400, 64), "PNG"),
}


def resident() -> int:
    """Kilobytes in memory now; the peak since the start of this process where the system does not tell."""
    status = Path("/proc/self/statm")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(status.read_text().split()[1]) * resource.getpagesize() // 1024


def peak() -> int:
    """Kilobytes at the most since `forget_peak`; a new process would otherwise begin with the peak of its parent."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))


def forget_peak() -> None:
    """Lets the peak begin anew, where the system can."""
    forget = Path("/proc/self/clear_refs")
    if forget.exists():
        forget.write_text("5")


def judge_one(path: str) -> None:
    """In a process of its own: one verdict, with what it cost."""
    from nsfw_guard import Guard
    from nsfw_guard.backends.registry import load_model

    guard = Guard(load_model("demo-shapes"))
    guard.warm_up()
    guard.check([saved(Image.new("RGB", (64, 64)), "PNG", icc_profile=ImageCms.ImageCmsProfile(
        ImageCms.createProfile("sRGB")).tobytes())])  # fmt: skip
    forget_peak()
    before = resident()
    start, wall = time.process_time(), time.perf_counter()
    (verdict,) = guard.check([path])
    seconds, wall = time.process_time() - start, time.perf_counter() - wall
    print(json.dumps([verdict.outcome.name, verdict.reason[:60], seconds, wall, (peak() - before) / 1024]))


def measure(name: str, data: bytes, folder: Path) -> tuple[str, str, str, float, float, str]:
    """A row: the file, its size, what became of it, seconds and megabytes."""
    path = folder / "file"
    path.write_bytes(data)
    ran = subprocess.run(  # noqa: S603 - this very script
        [sys.executable, __file__, "--one", str(path)], capture_output=True, text=True, check=True
    )
    outcome, reason, seconds, wall, added = json.loads(ran.stdout.splitlines()[-1])
    why = reason if outcome == "ERROR" else ""
    return name, f"{len(data) / 1e6:.1f}", outcome, min(seconds, wall), added, why


# ---- damaged files


def seeds() -> list[bytes]:
    """Small files of every format and kind."""
    rgb, rgba, grey = textured(48, 40), textured(48, 40, "RGBA"), textured(48, 40, "L")
    files = [saved(image, kind) for kind in ("PNG", "WEBP", "TIFF", "BMP") for image in (rgb, rgba)]
    files += [saved(image, kind) for kind in ("JPEG", "GIF") for image in (rgb, grey)]
    files += [saved(rgb, "JPEG", progressive=True), saved(rgb, "JPEG", restart_marker_rows=1), saved(rgb, "AVIF")]
    files += [saved(rgb, "TIFF", compression=c) for c in ("tiff_lzw", "jpeg", "packbits", "tiff_adobe_deflate")]
    files += [animation(kind, 4, (40, 32)) for kind in ("GIF", "WEBP", "PNG", "TIFF", "AVIF")]
    files += [
        saved(rgb, "JPEG", icc_profile=display_p3()),
        _declared(saved(rgb, "PNG")),
        saved(grey.convert("P"), "PNG"),
    ]
    return files


def mutants(count: int) -> Iterator[tuple[int, str, bytes]]:
    """Damaged files: the seed's number, the kind of damage, the bytes."""
    chance, files = random.Random(SEED), seeds()  # noqa: S311 - the same damage every time
    for _ in range(count):
        index = chance.randrange(len(files))
        data = bytearray(files[index])
        kind = chance.choice(("flip", "flip", "cut", "repeat", "zeros", "length"))
        at = chance.randrange(len(data))
        if kind == "flip":
            for _ in range(chance.choice((1, 2, 8))):
                data[chance.randrange(len(data))] = chance.randrange(256)
        elif kind == "cut":
            del data[at:]
        elif kind == "repeat":
            data[at:at] = data[at : at + chance.randrange(1, 64)]
        elif kind == "zeros":
            data[at : at + chance.randrange(1, 32)] = bytes(chance.randrange(1, 32))
        else:
            data[at : at + 4] = struct.pack(chance.choice("<>") + "L", chance.choice((0, 1, 2**31, 2**32 - 1, 65536)))
        yield index, kind, bytes(data)


def judge_mutants(count: int) -> dict[str, Any]:
    """Judges damaged files; a cut one is allowed only where every frame of its seed is still there.

    `peak_mb` is what the most expensive of them added, with all that the process came to hold on the way.
    """
    import logging
    import warnings

    from nsfw_guard import Guard, Outcome
    from nsfw_guard.imaging.decode import decode
    from nsfw_guard.testing import FakeBackend

    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    guard, whole = Guard(FakeBackend()), [decode(seed).frames for seed in seeds()]
    forget_peak()
    before = resident()
    outcomes: dict[str, int] = {}
    slowest, late, halves = 0.0, 0, 0
    for index, kind, data in mutants(count):
        start = time.process_time()
        outcome = guard.check([data])[0].outcome
        seconds = time.process_time() - start
        slowest, late = max(slowest, seconds), late + (seconds > SECONDS)
        outcomes[outcome.name] = outcomes.get(outcome.name, 0) + 1
        if kind == "cut" and outcome in {Outcome.ALLOW, Outcome.REVIEW}:
            frames = decode(data).frames
            same = len(frames) == len(whole[index])
            halves += not (same and all(np.array_equal(a, b) for a, b in zip(frames, whole[index], strict=True)))
    return {"files": count, "outcomes": outcomes, "slowest": round(slowest, 3), "late": late, "halves": halves,
            "peak_mb": round((peak() - before) / 1024)}  # fmt: skip


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=2000, help="damaged files (default: 2000)")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--only", default="", help="only files whose name holds this")
    args = parser.parse_args()
    if args.one:
        judge_one(args.one)
        return
    print(machine() + "\n")
    broken, worst = [], [0.0, 0.0]
    with tempfile.TemporaryDirectory() as folder:
        for title, files in (("largest accepted", LARGEST), ("built to cost", BUILT_TO_COST)):
            rows = []
            for name, make in files.items():
                if args.only in name:
                    rows.append(measure(name, make(), Path(folder)))
                    print(f"... {rows[-1]}", file=sys.stderr, flush=True)
            table((title, "MB", "outcome", "s", "peak MB", "why"), rows)
            for name, _, outcome, seconds, added, _ in rows:
                worst = [max(worst[0], seconds), max(worst[1], added)]
                if seconds > SECONDS or added > MEMORY:
                    broken.append(f"{name}: {seconds:.2f} s, {added:.0f} MB")
                if title == "largest accepted" and outcome == "ERROR":
                    broken.append(f"{name} is refused")
    damaged = judge_mutants(args.mutants) if args.mutants else {}
    if damaged:
        print(damaged, "\n")
        broken += [f"{damaged['late']} damaged files late"] if damaged["late"] else []
        broken += [f"{damaged['halves']} halves allowed"] if damaged["halves"] else []
        broken += [f"{damaged['peak_mb']} MB for a damaged file"] if damaged["peak_mb"] > MEMORY else []
    finish("files", {"seconds": round(worst[0], 2), "peak_mb": round(worst[1]), "damaged": damaged}, broken)


if __name__ == "__main__":
    main()
