"""Covered copies: of all that was flagged, of nothing else, and never with what they have to cover."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from nsfw_guard.errors import ConfigError
from nsfw_guard.guard import Guard
from nsfw_guard.testing import FakeBackend
from nsfw_guard.tools.screening.acting.censor import censor
from nsfw_guard.tools.screening.acting.covers import generated_mark
from nsfw_guard.tools.screening.acting.placing import COVERS, Placed, place
from nsfw_guard.tools.screening.scan import Scan
from nsfw_guard.tools.screening.scorer import ScanSettings
from nsfw_guard.tools.screening.sources.readers import readers_of
from tests.tools.screening.shapes import RED, encoded, paint, red, shard  # noqa: F401

GUARD = Guard(FakeBackend())


def scanned(source: Path, out: Path) -> None:
    list(Scan([str(source)], out, settings=ScanSettings(model=RED), kind="jsonl").run())


def censored(source: Path, out: Path, into: Path, guard: Guard = GUARD) -> list[Placed]:
    return list(censor(out, into, guard, readers_of([str(source)])))


def files(into: Path) -> dict[str, Path]:
    return {path.name: path for path in into.rglob("*") if path.is_file() and path.name != COVERS}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for number, outcome in enumerate(["allow", "block", "review", "error", "block"]):
        paint(tmp_path / "in" / "deep" / f"{number} {outcome}.png", outcome, 100 + number)
    return tmp_path / "in"


def test_what_is_blocked_or_was_not_judged_has_a_covered_copy(source: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in source.rglob("*.png")}
    scanned(source, tmp_path / "out")
    placed = censored(source, tmp_path / "out", tmp_path / "into")
    assert [Path(one.key).name for one in placed] == ["1 block.png", "3 error.png", "4 block.png"]
    assert [Path(one.path).name for one in placed] == ["1 block.png", "3 error.png", "4 block.png"]
    for path in files(tmp_path / "into").values():
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        assert not ((pixels[..., 0] == 255) & (pixels[..., 2] == 0)).any()
    assert {path: path.read_bytes() for path in source.rglob("*.png")} == before


def test_it_goes_on_where_it_was_ended_and_refuses_a_folder_of_others(source: Path, tmp_path: Path) -> None:
    scanned(source, tmp_path / "out")
    copies = censor(tmp_path / "out", tmp_path / "into", GUARD, readers_of([str(source)]))
    next(copies)
    copies.close()
    first = {name: path.stat().st_mtime_ns for name, path in files(tmp_path / "into").items()}
    assert list(first) == ["1 block.png"]
    assert len(censored(source, tmp_path / "out", tmp_path / "into")) == 3
    assert files(tmp_path / "into")["1 block.png"].stat().st_mtime_ns == first["1 block.png"]
    scanned(source / "deep" / "1 block.png", tmp_path / "other")
    with pytest.raises(ConfigError, match="holds other files, which could be taken for covers"):
        censored(source, tmp_path / "other", tmp_path / "into")
    with pytest.raises(ConfigError, match="holds other files"):
        censored(source, tmp_path / "out", source)


def test_an_image_that_was_changed_after_it_was_judged_has_no_copy(source: Path, tmp_path: Path) -> None:
    scanned(source, tmp_path / "out")
    paint(source / "deep" / "1 block.png", "allow")
    (source / "deep" / "4 block.png").unlink()
    placed = {Path(one.key).name: one for one in censored(source, tmp_path / "out", tmp_path / "into")}
    assert placed["1 block.png"].why_not.startswith("it could not be read, or was changed")
    assert placed["4 block.png"].why_not == "cannot be read: there is no such file"
    assert set(files(tmp_path / "into")) == {"3 error.png"}


def test_what_the_scan_has_flagged_is_covered_whatever_the_model_says_now(source: Path, tmp_path: Path) -> None:
    scanned(source, tmp_path / "out")
    censored(source, tmp_path / "out", tmp_path / "into", Guard(FakeBackend(0.0)))
    with Image.open(files(tmp_path / "into")["1 block.png"]) as image:
        assert not (np.asarray(image)[..., 0] == 255).any()


@pytest.mark.parametrize("releasing", [{"action": "flag"}, {"fail_open": True}])
def test_a_guard_that_would_release_what_it_should_cover_is_refused(
    releasing: dict[str, Any], source: Path, tmp_path: Path
) -> None:
    scanned(source, tmp_path / "out")
    with pytest.raises(ConfigError, match="releases what it should cover"):
        censored(source, tmp_path / "out", tmp_path / "into", Guard(FakeBackend(), **releasing))
    assert not (tmp_path / "into").exists()


def test_a_member_of_a_shard_has_a_copy_and_other_formats_become_png(tmp_path: Path) -> None:
    gif = io.BytesIO()
    Image.open(io.BytesIO(encoded("block"))).save(gif, "GIF")
    shard(tmp_path / "a.tar", {"x/one.png": encoded("block"), "two.gif": gif.getvalue(), "three.png": encoded("allow")})
    scanned(tmp_path / "a.tar", tmp_path / "out")
    censored(tmp_path / "a.tar", tmp_path / "out", tmp_path / "into")
    assert set(files(tmp_path / "into")) == {"one.png", "two.gif.png"}


def test_of_the_metadata_only_the_mark_of_a_generated_image_is_kept(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "a secret prompt")
    info.add_itxt("XML:com.adobe.xmp", "<x>digitalsourcetype/trainedAlgorithmicMedia</x>", zip=True)
    (tmp_path / "in").mkdir()
    Image.open(io.BytesIO(encoded("block"))).save(tmp_path / "in" / "a.png", pnginfo=info)
    scanned(tmp_path / "in", tmp_path / "out")
    censored(tmp_path / "in", tmp_path / "out", tmp_path / "into")
    data = files(tmp_path / "into")["a.png"].read_bytes()
    assert generated_mark(data) == "trainedAlgorithmicMedia"
    assert b"secret" not in data


def test_a_clip_is_covered_around_its_flagged_frames_and_keeps_its_sound(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    from tests.imaging.clips.drawing import clip

    plain, flagged = np.full((48, 64, 3), (0, 0, 200), np.uint8), np.full((48, 64, 3), (255, 0, 0), np.uint8)
    (tmp_path / "in").mkdir()
    frames = [flagged if i == 30 else plain for i in range(60)]
    (tmp_path / "in" / "a.mp4").write_bytes(clip(frames, sound="aac"))
    scanned(tmp_path / "in", tmp_path / "out")
    (one,) = censored(tmp_path / "in", tmp_path / "out", tmp_path / "into")
    with av.open(one.path) as container:
        assert len(container.streams.audio) == 1
        shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(shown) == 60
    blue = [bool(frame[..., 2].mean() > 120) for frame in shown]
    assert not any(frame[..., 0].mean() > 120 for frame in shown)
    assert blue[0]
    assert blue[-1]
    covered = [i for i, is_blue in enumerate(blue) if not is_blue]
    assert covered == list(range(covered[0], covered[-1] + 1))
    assert {20, 30, 40} <= set(covered)


def test_a_clip_that_cannot_be_read_has_no_copy(tmp_path: Path) -> None:
    pytest.importorskip("av")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.mp4").write_bytes(b"no clip")
    scanned(tmp_path / "in", tmp_path / "out")
    (one,) = censored(tmp_path / "in", tmp_path / "out", tmp_path / "into")
    assert one.path == ""
    assert "DecodeError" in one.why_not
    assert files(tmp_path / "into") == {}


def test_images_whose_copies_would_have_one_name_have_one_each(tmp_path: Path) -> None:
    members = {"a.tiff": 100, "A.tiff.png": 101, "../b.png": 102, "b.png": 103}
    shard(tmp_path / "a.tar", {name: encoded("block", blue) for name, blue in members.items()})
    scanned(tmp_path / "a.tar", tmp_path / "out")
    for _ in range(2):
        placed = censored(tmp_path / "a.tar", tmp_path / "out", tmp_path / "into")
        assert len({one.path.casefold() for one in placed if one.path}) == len(placed) >= 2
        assert len(files(tmp_path / "into")) == len(placed)


def test_an_image_whose_copy_can_have_no_name_is_left_and_the_others_are_not(tmp_path: Path) -> None:
    members = {"a.png/b.png": 100, "a.png": 101, f"{'n' * 251}.gif": 102, "c.png": 103}
    shard(tmp_path / "a.tar", {name: encoded("block", blue) for name, blue in members.items()})
    scanned(tmp_path / "a.tar", tmp_path / "out")
    placed = {
        Path(one.key).name[:9]: one.why_not for one in censored(tmp_path / "a.tar", tmp_path / "out", tmp_path / "into")
    }
    assert [name for name, why in placed.items() if why] == ["a.png", "nnnnnnnnn"]
    assert set(files(tmp_path / "into")) == {"b.png", "c.png"}


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_link_in_the_folder_is_not_taken_for_a_cover(kind: str, source: Path, tmp_path: Path) -> None:
    scanned(source, tmp_path / "out")
    copies = censor(tmp_path / "out", tmp_path / "into", GUARD, readers_of([str(source)]))
    first = Path(next(copies).path)
    copies.close()
    first.unlink()
    if kind == "folder":
        first.parent.rmdir()
        first.parent.symlink_to(source / "deep")
    else:
        first.symlink_to(source / "deep" / "1 block.png")
    placed = censored(source, tmp_path / "out", tmp_path / "into")
    assert placed[0].path == ""
    assert "is a link" in placed[0].why_not


def test_covers_and_images_are_not_put_into_one_folder(source: Path, tmp_path: Path) -> None:
    scanned(source, tmp_path / "out")
    censored(source, tmp_path / "out", tmp_path / "into")
    with pytest.raises(ConfigError, match="holds covered copies"):
        list(place(tmp_path / "out", tmp_path / "into", "copy"))


def test_an_outcome_that_no_scan_writes_leaves_nothing_uncovered_without_a_word(source: Path, tmp_path: Path) -> None:
    scanned(source, tmp_path / "out")
    part = tmp_path / "out" / "part-000000.jsonl"
    part.write_text(part.read_text().replace('"outcome": "block"', '"outcome": "Block"'))
    with pytest.raises(ConfigError, match="the outcome 'Block', which no scan writes"):
        censored(source, tmp_path / "out", tmp_path / "into")
