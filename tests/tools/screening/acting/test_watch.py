"""A watched folder: each image once, whole, and nothing that is not released stays under its name."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nsfw_guard.errors import ConfigError, UnknownNameError
from nsfw_guard.guard import Guard
from nsfw_guard.testing import FakeBackend, FaultyBackend
from nsfw_guard.tools.screening.acting.watch import Mode, Watch, Watched
from nsfw_guard.verdict import Outcome
from tests.tools.screening.shapes import encoded, paint


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def watching(folder: Path, clock: Clock, mode: Mode = "censor", backend: Any = None, **settings: Any) -> Watch:
    quarantine = None if mode == "log" else folder.parent / "kept"
    return Watch(Guard(backend or FakeBackend(), **settings), folder, mode=mode, quarantine=quarantine, clock=clock)


def settle(watch: Watch, clock: Clock) -> list[Watched]:
    """Two looks at the folder, more than a second apart."""
    first = list(watch.step())
    clock.now += 1.5
    return first + list(watch.step())


def names(results: list[Watched]) -> dict[str, str]:
    return {Path(one.path).name: one.done for one in results}


def kept(folder: Path) -> list[bytes]:
    return sorted(path.read_bytes() for path in (folder.parent / "kept").rglob("*") if path.is_file())


def test_nothing_is_judged_before_it_has_settled(folder: Path, clock: Clock) -> None:
    watch = watching(folder, clock)
    path = paint(folder / "a.png", "block")
    assert list(watch.step()) == []
    clock.now += 0.9
    assert list(watch.step()) == []
    whole = path.read_bytes()
    path.write_bytes(whole[:40])  # its writer goes on
    clock.now += 0.9
    assert list(watch.step()) == []
    path.write_bytes(whole)
    assert list(watch.step()) == []
    assert watch.waiting == 1
    clock.now += 1.1
    assert names(list(watch.step())) == {"a.png": "censored"}
    assert watch.waiting == 0


def test_censor_puts_a_cover_in_place_and_keeps_the_original(folder: Path, clock: Clock) -> None:
    for outcome in ("allow", "review", "block", "error"):
        paint(folder / "below" / f"{outcome}.png", outcome)
    results = settle(watching(folder, clock), clock)
    assert names(results) == {
        "allow.png": "released", "review.png": "released", "block.png": "censored", "error.png": "censored",
    }  # fmt: skip
    assert (folder / "below" / "allow.png").read_bytes() == encoded("allow")
    assert (folder / "below" / "review.png").read_bytes() == encoded("review")
    assert kept(folder) == sorted([encoded("block"), b"no image"])
    for name in ("block.png", "error.png"):
        verdict = Guard(FakeBackend()).check([folder / "below" / name])[0]
        assert verdict.outcome is Outcome.ALLOW
    assert {one.original.split("/kept/")[1].split(".")[0] for one in results if one.original} == {
        "below/block", "below/error",
    }  # fmt: skip


def test_a_cover_is_not_judged_again(folder: Path, clock: Clock) -> None:
    paint(folder / "a.png", "block")
    watch = watching(folder, clock)
    assert len(settle(watch, clock)) == 1
    assert settle(watch, clock) == []
    assert watch.waiting == 0


def test_a_file_that_is_written_again_is_judged_again(folder: Path, clock: Clock) -> None:
    watch = watching(folder, clock)
    paint(folder / "a.png", "allow")
    assert names(settle(watch, clock)) == {"a.png": "released"}
    paint(folder / "a.png", "block")
    os.utime(folder / "a.png", ns=(1, 1))
    assert names(settle(watch, clock)) == {"a.png": "censored"}


def test_move_takes_it_away(folder: Path, clock: Clock) -> None:
    paint(folder / "a.png", "block")
    paint(folder / "b.png", "allow")
    assert names(settle(watching(folder, clock, "move"), clock)) == {"a.png": "moved", "b.png": "released"}
    assert [path.name for path in folder.iterdir()] == ["b.png"]
    assert kept(folder) == [encoded("block")]


def test_log_leaves_it(folder: Path, clock: Clock) -> None:
    paint(folder / "a.png", "block")
    assert names(settle(watching(folder, clock, "log"), clock)) == {"a.png": "logged"}
    assert (folder / "a.png").read_bytes() == encoded("block")
    assert not (folder.parent / "kept").exists()


@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "a.mkv"])
def test_a_video_file_is_not_judged_and_so_not_released(name: str, folder: Path, clock: Clock) -> None:
    (folder / name).write_bytes(b"a film")
    assert names(settle(watching(folder, clock, "move"), clock)) == {name: "moved"}
    assert kept(folder) == [b"a film"]


@pytest.mark.parametrize("mode", ["censor", "move"])
def test_a_model_that_fails_releases_nothing(mode: Mode, folder: Path, clock: Clock) -> None:
    paint(folder / "a.png", "allow")
    assert names(settle(watching(folder, clock, mode, FaultyBackend("raises")), clock)) == {
        "a.png": "censored" if mode == "censor" else "moved"
    }
    assert kept(folder) == [encoded("allow")]


def test_a_file_that_changes_while_it_is_judged_is_judged_again(folder: Path, clock: Clock) -> None:
    path = paint(folder / "a.png", "allow")

    class Writer(FakeBackend):
        """While it judges, the file becomes another one."""

        def score(self, stacks: Any, **wants: bool) -> Any:
            if self.calls == 0:
                paint(path, "block")
                os.utime(path, ns=(5, 5))
            return super().score(stacks, **wants)

    watch = watching(folder, clock, backend=Writer())
    assert names(settle(watch, clock)) == {"a.png": "changed meanwhile"}
    assert watch.waiting == 1
    assert names(settle(watch, clock)) == {"a.png": "censored"}
    assert kept(folder) == [encoded("block")]


def test_two_originals_of_one_name_are_both_kept(folder: Path, clock: Clock) -> None:
    watch = watching(folder, clock, "move")
    for blue in (1, 2):
        image = Image.fromarray(np.full((8, 8, 3), (250, 10, blue), np.uint8))
        image.save(folder / "a.png")
        settle(watch, clock)
    assert len(kept(folder)) == 2


@pytest.mark.parametrize(("name", "kind"), [("a.jpg", "JPEG"), ("a.webp", "WEBP"), ("a.gif", "PNG"), ("a.png", "PNG")])
def test_a_cover_has_the_format_of_its_name(name: str, kind: str, folder: Path, clock: Clock) -> None:
    Image.new("RGB", (16, 16), (255, 0, 0)).save(folder / name)
    assert names(settle(watching(folder, clock), clock)) == {name: "censored"}
    with Image.open(folder / name) as cover:
        assert (cover.format, cover.size) == (kind, (16, 16))


def test_links_pipes_and_other_files_are_left_alone(folder: Path, clock: Clock, tmp_path: Path) -> None:
    (folder / "notes.txt").write_text("text")
    (folder / "link.png").symlink_to(paint(tmp_path / "elsewhere.png", "block"))
    os.mkfifo(folder / "pipe.png")
    assert settle(watching(folder, clock), clock) == []
    assert (tmp_path / "elsewhere.png").read_bytes() == encoded("block")


def test_what_cannot_be_set_up(folder: Path, tmp_path: Path) -> None:
    guard = Guard(FakeBackend())
    with pytest.raises(ConfigError, match="is not a folder"):
        Watch(guard, tmp_path / "nowhere", mode="log")
    with pytest.raises(ConfigError, match="needs a quarantine"):
        Watch(guard, folder, mode="censor")
    with pytest.raises(ConfigError, match="takes no quarantine"):
        Watch(guard, folder, mode="log", quarantine=tmp_path / "kept")
    with pytest.raises(ConfigError, match="is in the watched folder"):
        Watch(guard, folder, mode="move", quarantine=folder / "kept")
    with pytest.raises(UnknownNameError):
        Watch(guard, folder, mode="censer")  # type: ignore[arg-type]


def write_many(folder: str, count: int) -> None:
    """Another program: each file is written in two halves."""
    for number in range(count):
        data = encoded("block" if number % 4 == 0 else "allow", number % 200)
        path = Path(folder, f"{number:04d}.png")
        with path.open("wb") as file:
            file.write(data[:50])
            file.flush()
            if number % 100 == 0:
                time.sleep(0.02)
            file.write(data[50:])


def test_a_thousand_files_of_another_process_are_each_judged_once_and_whole(folder: Path) -> None:
    writer = multiprocessing.get_context("spawn").Process(target=write_many, args=(str(folder), 1000))
    writer.start()
    watch = Watch(Guard(FakeBackend()), folder, mode="censor", quarantine=folder.parent / "kept", settled=0.3)
    results: list[Watched] = []
    end = time.monotonic() + 60
    while (writer.is_alive() or watch.waiting or len(results) < 1000) and time.monotonic() < end:
        results += watch.step()
        time.sleep(0.05)
    writer.join()
    assert Counter(one.done for one in results) == {"released": 750, "censored": 250}
    assert set(Counter(one.path for one in results).values()) == {1}
    assert Outcome.ERROR not in {one.verdict.outcome for one in results}
    assert len(kept(folder)) == 250


@pytest.mark.parametrize("mode", ["censor", "move"])
def test_an_original_that_cannot_be_kept_ends_nothing_and_is_tried_again(
    mode: Mode, folder: Path, clock: Clock
) -> None:
    """The watched program chooses names, and disks become full: the next image is guarded all the same."""
    for name in ("a.png", "b.png"):
        paint(folder / name, "block")
    watch = watching(folder, clock, mode)
    digest = hashlib.sha256((folder / "a.png").read_bytes()).hexdigest()[:12]
    barrier = folder.parent / "kept" / f"a.{digest}.png"
    (barrier / "in the way").mkdir(parents=True)
    acted = "censored" if mode == "censor" else "moved"
    assert names(settle(watch, clock)) == {"a.png": "failed", "b.png": acted}
    assert watch.waiting == 1
    assert list(folder.glob(".*")) == []
    shutil.rmtree(barrier)
    assert names(settle(watch, clock)) == {"a.png": acted}


@pytest.mark.parametrize("name", ["n" * 251 + ".png", "\N{GRINNING FACE}" * 62 + ".png"])
def test_names_as_long_as_a_system_allows(name: str, folder: Path, clock: Clock) -> None:
    paint(folder / name, "block")
    (one,) = settle(watching(folder, clock), clock)
    assert one.done == "censored"
    assert Path(one.original).read_bytes() == encoded("block")


@pytest.mark.parametrize("name", [".a.new", ".a.png.new"])
def test_a_name_like_ours_is_no_way_around_the_guard(name: str, folder: Path, clock: Clock) -> None:
    paint(folder / name, "block")
    assert names(settle(watching(folder, clock, "move"), clock)) == {name: "moved"}


def test_a_file_that_keeps_its_time_and_size_is_judged_again(folder: Path, clock: Clock) -> None:
    path = paint(folder / "a.png")
    watch, before = watching(folder, clock, "log"), path.stat()
    assert names(settle(watch, clock)) == {"a.png": "released"}
    other = encoded("block")
    path.write_bytes(other.ljust(before.st_size, b"\0")[: max(before.st_size, len(other))])
    if path.stat().st_size != before.st_size:
        pytest.skip("the other image is longer")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert names(settle(watch, clock)) == {"a.png": "logged"}


@pytest.mark.parametrize("mode", ["censor", "move"])
def test_an_image_that_came_while_the_original_was_kept_stays(mode: Mode, folder: Path, clock: Clock) -> None:
    """Copying an original takes its time."""

    class Slow(Watch):
        def _keep(self, path: str, quarantine: Path) -> str:
            kept = super()._keep(path, quarantine)
            paint(Path(path), "allow", 99)
            return kept

    paint(folder / "a.png", "block")
    watch = Slow(Guard(FakeBackend()), folder, mode=mode, quarantine=folder.parent / "kept", clock=clock)
    assert names(settle(watch, clock)) == {"a.png": "changed meanwhile"}
    assert (folder / "a.png").read_bytes() == encoded("allow", 99)
    assert names(settle(watch, clock)) == {"a.png": "released"}


def test_a_folder_that_is_gone_is_not_taken_for_an_empty_one(folder: Path, clock: Clock) -> None:
    watch = watching(folder, clock)
    folder.rename(folder.with_name("elsewhere"))
    with pytest.raises(ConfigError, match="is gone"):
        list(watch.step())


def test_a_cover_that_its_format_cannot_hold_is_another(folder: Path, clock: Clock) -> None:
    Image.new("RGB", (16_400, 200), (255, 0, 0)).save(folder / "a.png")
    (folder / "a.png").rename(folder / "a.webp")
    assert names(settle(watching(folder, clock), clock)) == {"a.webp": "censored"}
    with Image.open(folder / "a.webp") as cover:
        assert cover.format == "PNG"
