"""What is written is what was judged: allowed files byte for byte, covered ones as PNG, nothing else."""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nsfw_guard.errors import ConfigError
from nsfw_guard.guard import Guard
from nsfw_guard.imaging.limits import Limits
from nsfw_guard.testing import FakeBackend, FaultyBackend
from nsfw_guard.tools.screen import STDIN, Source, find, screen
from nsfw_guard.verdict import Outcome, Verdict

RED, BLUE = (255, 0, 0), (0, 0, 255)
ALLOW, REVIEW, BLOCK, ERROR = Outcome


def paint(path: Path, colour: tuple[int, int, int] = BLUE, **save: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), colour).save(path, **save)
    return path


def colours(path: str | Path) -> set[tuple[int, ...]]:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return {tuple(c) for c in np.asarray(image.convert("RGB")).reshape(-1, 3).tolist()}


def run(paths: Sequence[Path | str], out: Path | None = None, **rest: Any) -> dict[str, Outcome]:
    guard = rest.pop("guard", None) or Guard(FakeBackend())
    return {f.path: f.verdict.outcome for f in screen(guard, find([str(p) for p in paths]).sources, out=out, **rest)}


def test_a_missing_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the file or folder .*none.png.* does not exist: check the path"):
        find([str(paint(tmp_path / "a.png")), str(tmp_path / "none.png")])
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.txt").write_text("text")
    with pytest.raises(ConfigError, match=r"no image found under .*empty"):
        find([str(tmp_path / "empty")])


def test_files_that_are_not_images_are_named(tmp_path: Path) -> None:
    paint(tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("text")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nothing")
    (tmp_path / "linked").symlink_to(tmp_path.parent)
    os.mkfifo(tmp_path / "pipe.png")
    assert {Path(s.path).name: s.why for s in find([str(tmp_path)]).skipped} == {
        "notes.txt": "not an image by its name or its first bytes",
        "gone.png": "a broken link",
        "linked": "a link to a folder",
        "pipe.png": "not a regular file",
    }


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paint(tmp_path / "a.png")
    (tmp_path / "shut").mkdir()
    scan = os.scandir

    def closed(path: Any) -> Any:
        if Path(path).name == "shut":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", closed)
    (skipped,) = find([str(tmp_path)]).skipped
    assert (Path(skipped.path).name, skipped.why) == ("shut", "a folder that cannot be listed")


@pytest.mark.parametrize("name", ["a.txt", "b", "c.bak", "d.heic", "e.PNG.old"])
def test_an_image_is_recognised_under_any_name(tmp_path: Path, name: str) -> None:
    paint(tmp_path / name, RED, format="PNG")
    assert run([tmp_path]) == {str(tmp_path / name): BLOCK}


@pytest.mark.parametrize(
    "start", [b"\0\0\0\x18ftypheic", b"\0\0\0\x0cjP  \r\n", b"8BPS\0\1", b"\xff\x0a", b"\0\0\1\0\1\0"]
)
def test_an_image_that_nobody_can_read_here_is_an_error_and_not_skipped(tmp_path: Path, start: bytes) -> None:
    (tmp_path / "file.dat").write_bytes(start + bytes(64))
    assert run([tmp_path]) == {str(tmp_path / "file.dat"): ERROR}


def test_a_written_file_has_the_image_and_no_thumbnail(tmp_path: Path) -> None:
    small = io.BytesIO()
    Image.new("RGB", (4, 4), BLUE).save(small, "JPEG")
    tiff = b"II*\0\x08\0\0\0" + b"\0\0" + b"\x0e\0\0\0" + b"\2\0"
    for tag, value in ((0x0201, 14 + 2 + 24 + 4), (0x0202, len(small.getvalue()))):
        tiff += tag.to_bytes(2, "little") + b"\4\0\1\0\0\0" + value.to_bytes(4, "little")
    exif = b"Exif\0\0" + tiff + bytes(4) + small.getvalue()
    paint(tmp_path / "in" / "a.jpg", exif=exif)
    assert small.getvalue() in (tmp_path / "in" / "a.jpg").read_bytes()
    assert run([tmp_path / "in"], tmp_path / "out") == {str(tmp_path / "in" / "a.jpg"): ALLOW}
    written = (tmp_path / "out" / "a.jpg").read_bytes()
    assert b"\xff\xd8\xff" not in written[4:]
    with Image.open(tmp_path / "in" / "a.jpg") as before, Image.open(io.BytesIO(written)) as after:
        assert before.tobytes() == after.tobytes()
    assert run([tmp_path / "out"]) == {str(tmp_path / "out" / "a.jpg"): ALLOW}


def test_a_folder_is_walked_in_order_and_only_for_images(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "deep/er/c.webp", "deep/a.gif"):
        paint(tmp_path / name)
    (tmp_path / "notes.txt").write_text("text")
    (tmp_path / "folder.png").mkdir()
    expected = ["a.JPG", "b.png", "deep/a.gif", "deep/er/c.webp"]
    assert [str(s.keep_as) for s in find([str(tmp_path)]).sources] == expected
    assert [s.path for s in find([str(tmp_path)]).sources] == [str(tmp_path / name) for name in expected]


def test_a_file_named_by_the_user_is_judged_whatever_its_suffix(tmp_path: Path) -> None:
    paint(tmp_path / "a.png").rename(tmp_path / "image")
    assert list(find([str(tmp_path / "image"), STDIN]).sources) == [
        Source(str(tmp_path / "image"), Path("image")),
        Source("-", Path("stdin")),
    ]


def test_without_an_output_folder_nothing_is_written(tmp_path: Path) -> None:
    paint(tmp_path / "a.png", RED)
    before = sorted(tmp_path.rglob("*"))
    (result,) = screen(Guard(FakeBackend()), find([str(tmp_path)]).sources)
    assert (result.verdict.outcome, result.written) == (BLOCK, "")
    assert sorted(tmp_path.rglob("*")) == before


def test_allowed_files_are_kept_byte_for_byte_and_others_covered(tmp_path: Path) -> None:
    allowed = paint(tmp_path / "in" / "deep" / "a.jpg", BLUE, quality=40, comment=b"kept too")
    paint(tmp_path / "in" / "deep" / "b.jpg", RED)
    (tmp_path / "in" / "c.gif").write_bytes(b"no image")
    assert list(run([tmp_path / "in"], tmp_path / "out").values()) == [ERROR, ALLOW, BLOCK]
    written = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.*")}
    assert written == {"deep/a.jpg", "deep/b.png", "c.png"}
    assert (tmp_path / "out" / "deep" / "a.jpg").read_bytes() == allowed.read_bytes()
    assert colours(tmp_path / "out" / "deep" / "b.png") == {(0, 0, 0)}
    assert colours(tmp_path / "out" / "c.png") == {(0, 0, 0)}


@pytest.mark.parametrize(("action", "kept"), [("flag", True), ("block", False), ("pixelate", False), ("blur", False)])
def test_only_flag_keeps_a_blocked_file(action: str, kept: bool, tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[..., 0] = np.linspace(160, 255, 64).reshape(8, 8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    assert run([tmp_path / "a.png"], tmp_path / "out", guard=Guard(FakeBackend(), action=action)) == {
        str(tmp_path / "a.png"): BLOCK
    }
    assert ((tmp_path / "out" / "a.png").read_bytes() == data) is kept


def test_names_that_collide_are_counted(tmp_path: Path) -> None:
    for index, colour in enumerate((BLUE, RED, BLUE, RED)):
        paint(tmp_path / str(index) / "a.png", colour)
    paths = [tmp_path / str(index) / "a.png" for index in range(4)]
    results = list(screen(Guard(FakeBackend()), find([str(p) for p in paths]).sources, out=tmp_path / "out", batch=3))
    assert [Path(f.written).name for f in results] == ["a.png", "a-2.png", "a-3.png", "a-4.png"]
    assert [colours(f.written) for f in results] == [{BLUE}, {(0, 0, 0)}, {BLUE}, {(0, 0, 0)}]


def test_a_covered_file_does_not_write_over_an_allowed_one_of_its_new_name(tmp_path: Path) -> None:
    paint(tmp_path / "in" / "a.jpg", RED)
    paint(tmp_path / "in" / "a.png", BLUE)
    run([tmp_path / "in"], tmp_path / "out")
    assert colours(tmp_path / "out" / "a.png") == {(0, 0, 0)}
    assert colours(tmp_path / "out" / "a-2.png") == {BLUE}


@pytest.mark.parametrize("out", [".", "deep", "deep/.."])
def test_the_files_that_are_judged_are_never_written_over(out: str, tmp_path: Path) -> None:
    for name in ("a.png", "b.jpg", "b.png", "deep/a.png", "deep/b.png"):
        paint(tmp_path / name, RED)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*.*")}
    outcomes = run([tmp_path], tmp_path / out)
    assert set(outcomes.values()) == {BLOCK}
    assert {p: p.read_bytes() for p in before} == before
    assert len(list(tmp_path.rglob("*.*"))) == 2 * len(before)


def test_each_file_is_read_once_so_the_judged_bytes_are_written(tmp_path: Path) -> None:
    path = paint(tmp_path / "a.png", BLUE)
    good = path.read_bytes()
    bad = paint(tmp_path / "bad.png", RED)

    def swap(verdicts: Sequence[Verdict]) -> None:
        path.write_bytes(bad.read_bytes())

    run([path], tmp_path / "out", guard=Guard(FakeBackend(), listeners=[swap]))
    assert path.read_bytes() != good
    assert (tmp_path / "out" / "a.png").read_bytes() == good


@pytest.mark.parametrize(("batch", "calls"), [(1, 5), (2, 3), (5, 1), (16, 1)])
def test_files_are_judged_in_batches(batch: int, calls: int, tmp_path: Path) -> None:
    for index in range(5):
        paint(tmp_path / f"{index}.png", RED if index % 2 else BLUE)
    backend = FakeBackend()
    outcomes = run([tmp_path], guard=Guard(backend), batch=batch)
    assert list(outcomes.values()) == [ALLOW, BLOCK, ALLOW, BLOCK, ALLOW]
    assert backend.calls == calls


class Pipe:
    """Standard input with these bytes."""

    def __init__(self, data: bytes) -> None:
        self.buffer = io.BytesIO(data)


@pytest.mark.parametrize(("colour", "outcome"), [(BLUE, ALLOW), (RED, BLOCK)])
def test_standard_input_is_one_image(
    colour: Any, outcome: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = paint(tmp_path / "a.png", colour).read_bytes()
    monkeypatch.setattr(sys, "stdin", Pipe(data))
    assert run([STDIN], tmp_path / "out") == {"-": outcome}
    assert ((tmp_path / "out" / "stdin.png").read_bytes() == data) is (outcome is ALLOW)


@pytest.mark.parametrize("data", [b"", b"no image", b"\x89PNG\r\n\x1a\n"])
def test_standard_input_that_is_no_image_is_an_error(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Pipe(data))
    assert run([STDIN]) == {"-": ERROR}


def test_a_file_over_the_limit_is_an_error_and_not_read_whole(tmp_path: Path) -> None:
    path = paint(tmp_path / "a.png")
    size = path.stat().st_size
    assert run([path], guard=Guard(FakeBackend(), limits=Limits(bytes=size))) == {str(path): ALLOW}
    assert run([path], guard=Guard(FakeBackend(), limits=Limits(bytes=size - 1))) == {str(path): ERROR}


def test_a_file_that_went_away_is_an_error(tmp_path: Path) -> None:
    sources = find([str(paint(tmp_path / "a.png")), str(paint(tmp_path / "b.png"))]).sources
    (tmp_path / "a.png").unlink()
    results = list(screen(Guard(FakeBackend()), sources, out=tmp_path / "out"))
    assert [f.verdict.outcome for f in results] == [ERROR, ALLOW]
    assert "cannot be read" in results[0].verdict.reason
    assert colours(results[0].written) == {(0, 0, 0)}


def test_a_file_that_may_not_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: Any, **rest: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    guard, sources = Guard(FakeBackend()), find([str(paint(tmp_path / "a.png"))]).sources
    monkeypatch.setattr(Path, "open", refused)
    monkeypatch.setattr("builtins.open", refused)
    (result,) = screen(guard, sources)
    assert (result.verdict.outcome, result.verdict.scores) == (ERROR, None)


def test_an_unreadable_file_is_not_written_even_with_fail_open(tmp_path: Path) -> None:
    sources = find([str(paint(tmp_path / "a.png"))]).sources
    (tmp_path / "a.png").unlink()
    (result,) = screen(Guard(FakeBackend(), fail_open=True), sources, out=tmp_path / "out")
    assert (result.verdict.outcome, result.written) == (ERROR, "")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="POSIX only")
def test_a_pipe_is_an_error_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    outcomes: dict[str, Outcome] = {}
    thread = threading.Thread(target=lambda: outcomes.update(run([tmp_path / "pipe.png"])), daemon=True)
    thread.start()
    thread.join(10)
    assert outcomes == {str(tmp_path / "pipe.png"): ERROR}


def test_a_backend_that_breaks_covers_every_file(tmp_path: Path) -> None:
    for index in range(3):
        paint(tmp_path / "in" / f"{index}.png")
    assert set(run([tmp_path / "in"], tmp_path / "out", guard=Guard(FaultyBackend("raises"))).values()) == {ERROR}
    assert [colours(p) for p in sorted((tmp_path / "out").iterdir())] == [{(0, 0, 0)}] * 3


def test_every_frame_of_an_animation_is_judged(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (BLUE, BLUE, RED)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert run([tmp_path / "a.gif"], tmp_path / "out") == {str(tmp_path / "a.gif"): BLOCK}
    assert colours(tmp_path / "out" / "a.png") == {(0, 0, 0)}


def test_scores_between_the_cuts_are_kept_for_review(tmp_path: Path) -> None:
    data = paint(tmp_path / "a.png").read_bytes()
    guard = Guard(FakeBackend(0.25))
    assert run([tmp_path / "a.png"], tmp_path / "out", guard=guard) == {str(tmp_path / "a.png"): REVIEW}
    assert (tmp_path / "out" / "a.png").read_bytes() == data
    covering = Guard(FakeBackend(0.25), on_review="block")
    run([tmp_path / "a.png"], tmp_path / "covered", guard=covering)
    assert colours(tmp_path / "covered" / "a.png") == {(0, 0, 0)}


def test_copies_are_never_written_through_a_link(tmp_path: Path) -> None:
    home, out, precious = tmp_path / "in", tmp_path / "out", tmp_path / "precious"
    for folder in (home / "below", out):
        folder.mkdir(parents=True)
    precious.mkdir()
    (precious / "kept.png").write_bytes(b"kept")
    for name in ("a.png", "below/b.png"):
        Image.new("RGB", (8, 8), (9, 9, 200)).save(home / name)
    (out / "a.png").symlink_to(precious / "kept.png")
    run([home / "a.png"], out)
    assert (precious / "kept.png").read_bytes() == b"kept"
    assert not (out / "a.png").is_symlink()
    (out / "below").symlink_to(precious, target_is_directory=True)
    with pytest.raises(ConfigError, match="is a link to a place outside it: remove it"):
        run([home], out)
    assert sorted(one.name for one in precious.iterdir()) == ["kept.png"]
    assert not list(out.glob("*.new"))


def test_an_empty_path_is_no_folder() -> None:
    with pytest.raises(ConfigError, match="the path is empty"):
        find([""])
