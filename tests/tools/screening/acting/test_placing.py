"""Images are placed by the outcome of exactly these bytes; nothing is lost, replaced or placed twice."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nsfw_guard.errors import ConfigError, UnknownNameError
from nsfw_guard.tools.screening import scan
from nsfw_guard.tools.screening.acting import placing
from nsfw_guard.tools.screening.acting.placing import Placed, Way, place
from nsfw_guard.tools.screening.scan import Scan
from nsfw_guard.tools.screening.scorer import ScanSettings
from tests.tools.screening.shapes import RED, encoded, paint, red, shard  # noqa: F401

OUTCOMES = ("allow", "block", "review", "error")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for outcome in OUTCOMES:
        paint(tmp_path / "in" / "below" / f"{outcome}.png", outcome)
    return tmp_path / "in"


@pytest.fixture
def out(folder: Path, tmp_path: Path) -> Path:
    scanned(folder, tmp_path / "out")
    return tmp_path / "out"


def scanned(source: Path, out: Path) -> None:
    list(Scan([str(source)], out, settings=ScanSettings(model=RED), kind="jsonl").run())


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def placed(into: Path, folder: Path) -> dict[str, str]:
    """Outcome and name of each file that was placed."""
    below = str(Path(*folder.parts[1:]) / "below")
    return {path.split("/")[0]: path.split(below + "/")[1] for path in files(into)}


@pytest.mark.parametrize("way", ["copy", "move", "link"])
def test_every_image_goes_into_the_folder_of_its_outcome(way: Way, folder: Path, out: Path, tmp_path: Path) -> None:
    before = files(folder)
    result = list(place(out, tmp_path / "into", way))
    assert [(one.outcome, one.why_not) for one in result] == [(name, "") for name in sorted(OUTCOMES)]
    assert placed(tmp_path / "into", folder) == {name: f"{name}.png" for name in OUTCOMES}
    assert sorted(files(tmp_path / "into").values()) == sorted(before.values())
    assert files(folder) == ({} if way == "move" else before)
    assert all(Path(one.path).is_symlink() == (way == "link") for one in result)


@pytest.mark.parametrize("way", ["copy", "move", "link"])
def test_done_again_it_changes_nothing(way: Way, folder: Path, out: Path, tmp_path: Path) -> None:
    first = list(place(out, tmp_path / "into", way))
    before = files(tmp_path / "into")
    assert list(place(out, tmp_path / "into", way)) == first
    assert files(tmp_path / "into") == before


def test_a_move_that_was_ended_between_copy_and_delete_goes_on(folder: Path, out: Path, tmp_path: Path) -> None:
    list(place(out, tmp_path / "into", "copy"))
    list(place(out, tmp_path / "into", "move"))
    assert files(folder) == {}
    assert len(files(tmp_path / "into")) == 4


def test_an_image_that_was_changed_after_it_was_judged_stays(folder: Path, out: Path, tmp_path: Path) -> None:
    (folder / "below" / "allow.png").write_bytes(encoded("block"))
    result = {one.outcome: one for one in place(out, tmp_path / "into", "move")}
    assert result["allow"].why_not == "it could not be read, or was changed after it was judged"
    assert (folder / "below" / "allow.png").read_bytes() == encoded("block")
    assert "allow" not in placed(tmp_path / "into", folder)


def test_no_file_is_replaced(folder: Path, out: Path, tmp_path: Path) -> None:
    target = next(Path(one.path) for one in place(out, tmp_path / "into", "copy") if one.outcome == "allow")
    target.write_bytes(b"another")
    result = {one.outcome: one for one in place(out, tmp_path / "into", "move")}
    assert result["allow"].why_not == f"another file is at {target}"
    assert target.read_bytes() == b"another"
    assert (folder / "below" / "allow.png").exists()


def test_members_of_a_shard_are_no_files(tmp_path: Path) -> None:
    tar = shard(tmp_path / "a.tar", {"x.png": encoded("block")})
    scanned(tar, tmp_path / "out")
    (result,) = place(tmp_path / "out", tmp_path / "into", "move")
    assert result == Placed(f"{tar}/x.png", "block", why_not="not a file of its own, or no longer there")
    assert tar.exists()


@pytest.mark.parametrize("key", ["../../up.png", "/etc/../up.png", "a/../../up.png"])
def test_keys_lead_nowhere_else(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home" / "deep").mkdir(parents=True)
    (tmp_path / "home" / "list.txt").write_text(f"{key}\n")
    paint(Path(os.path.normpath(tmp_path / "home" / key)) if not key.startswith("/etc") else tmp_path / "up.png")
    scanned(tmp_path / "home" / "list.txt", tmp_path / "out")
    into = tmp_path / "into"
    list(place(tmp_path / "out", into, "copy"))
    assert not list(tmp_path.rglob("*.new"))
    assert all(Path(path).parts[0] in OUTCOMES for path in files(into))


@pytest.mark.parametrize("outcome", ["../../away", "/away", "", "allowed"])
def test_an_outcome_that_no_scan_writes_leads_nowhere(outcome: str, folder: Path, out: Path, tmp_path: Path) -> None:
    (part,) = out.glob("part-*")
    part.write_text(part.read_text().replace('"outcome": "allow"', f'"outcome": "{outcome}"'))
    with pytest.raises(ConfigError, match="which no scan writes"):
        list(place(out, tmp_path / "a" / "into", "move"))
    assert (folder / "below" / "allow.png").exists()
    assert not (tmp_path / "away").exists()


def test_an_unfinished_scan_is_refused(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "CHUNK", 1)
    started = Scan([str(folder)], tmp_path / "out", settings=ScanSettings(model=RED), kind="jsonl").run()
    next(started)
    started.close()
    with pytest.raises(ConfigError, match="is not finished: run the same command again"):
        list(place(tmp_path / "out", tmp_path / "into", "copy"))


def test_an_unknown_way_is_refused(out: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError):
        list(place(out, tmp_path / "into", "copie"))  # type: ignore[arg-type]


def test_a_file_that_cannot_be_finished_leaves_nothing(
    folder: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(place: str, path: Path) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(placing.shutil, "copy2", full)
    with pytest.raises(OSError, match="No space left"):
        list(place(out, tmp_path / "into", "move"))
    assert files(tmp_path / "into") == {}
    assert len(files(folder)) == 4


@pytest.mark.parametrize("way", ["copy", "move"])
def test_bytes_that_change_while_they_are_copied_are_not_placed(
    way: Way, folder: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(place: str, path: Path) -> None:
        paint(Path(place), "review", 7)
        Path(path).write_bytes(Path(place).read_bytes())

    monkeypatch.setattr(placing.shutil, "copy2", late)
    results = {one.outcome: one for one in place(out, tmp_path / "into", way)}
    assert results["allow"].why_not == "it could not be read, or was changed after it was judged"
    assert files(tmp_path / "into") == {}
    assert len(files(folder)) == 4


@pytest.mark.skipif(os.name == "nt", reason="these are no names there")
def test_names_that_differ_in_a_colon_are_two_files(tmp_path: Path) -> None:
    for name in ("a:b.png", "a_b.png"):
        paint(tmp_path / "in" / name)
    scanned(tmp_path / "in", tmp_path / "out")
    assert [one.why_not for one in place(tmp_path / "out", tmp_path / "into", "move")] == ["", ""]
    assert [Path(path).name for path in files(tmp_path / "into")] == ["a:b.png", "a_b.png"]


def test_one_file_without_a_place_keeps_no_other_from_its_own(tmp_path: Path) -> None:
    """A name as long as a system allows, and a file where a folder is needed."""
    for name in ("\N{GRINNING FACE}" * 62 + ".png", "s/a.png", "t/b.png"):
        paint(tmp_path / "in" / name)
    scanned(tmp_path / "in", tmp_path / "out")
    below = tmp_path / "into" / "allow" / Path(*(tmp_path / "in").parts[1:])
    below.mkdir(parents=True)
    (below / "s").write_text("in the way")
    why = {Path(one.key).name[-5:]: one.why_not for one in place(tmp_path / "out", tmp_path / "into", "move")}
    assert why == {"\N{GRINNING FACE}.png": "", "a.png": "FileExistsError: File exists", "b.png": ""}
    assert [Path(path).name for path in files(tmp_path / "in")] == ["a.png"]
