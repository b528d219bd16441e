"""The exact index merges small segments: nothing is lost, whenever it is ended."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from nsfw_guard.errors import ConfigError
from nsfw_guard.tools.similarity import exact, segments
from nsfw_guard.tools.similarity.exact import MOST_SMALL, ExactIndex

WIDTH = 4


def vector(number: int) -> torch.Tensor:
    return torch.randn(1, WIDTH, generator=torch.Generator().manual_seed(number))


def grown(folder: Path, count: int) -> ExactIndex:
    """An index of so many additions of one image."""
    index = ExactIndex.create(folder, model="m", revision="r", width=WIDTH)
    for number in range(count):
        index.add([f"image {number}"], vector(number), [{"outcome": "allow"}])
    return index


def content(index: ExactIndex) -> dict[str, tuple[float, ...]]:
    return {
        key: tuple(round(n, 5) for n in one.tolist())
        for rows in index.batches()
        for key, one in zip(rows.keys, rows.vectors, strict=True)
    }


def wanted(numbers: range) -> dict[str, tuple[float, ...]]:
    unit = {n: torch.nn.functional.normalize(vector(n), dim=1)[0] for n in numbers}
    return {f"image {n}": tuple(round(x, 5) for x in one.tolist()) for n, one in unit.items()}


def test_many_small_additions_make_few_files(tmp_path: Path) -> None:
    index = grown(tmp_path / "index", 100)
    assert len(index.head.segments) <= MOST_SMALL + 1
    files = {path.name.partition(".")[0] for path in (tmp_path / "index").glob("segment-*")}
    assert files == {segment.name for segment in index.head.segments}
    for one in (index, ExactIndex.open(tmp_path / "index")):
        assert content(one) == wanted(range(100))


def test_removed_and_replaced_images_stay_away_after_a_merge(tmp_path: Path) -> None:
    index = grown(tmp_path / "index", MOST_SMALL)
    index.remove(["image 3"])
    index.add(["image 5", "new"], torch.cat([vector(500), vector(501)]), [{}, {}])  # this merges
    assert len(index.head.segments) == 1
    assert index.head.removed == ()
    assert index.remove(["image 7", "image 3"]) == 1
    for one in (index, ExactIndex.open(tmp_path / "index")):
        assert one.count == MOST_SMALL - 1
        assert set(content(one)) == {f"image {n}" for n in range(MOST_SMALL) if n not in (3, 7)} | {"new"}
        assert one.search(vector(500), k=1)[0][0].key == "image 5"
        assert one.search(vector(5), k=1)[0][0].similarity < 0.9999


@pytest.mark.parametrize("at", ["vectors", "facts", "head", "after"])
def test_a_merge_that_is_ended_loses_nothing(at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = grown(tmp_path / "index", MOST_SMALL)
    write, ends = segments.put, {"vectors": ".safetensors", "facts": ".jsonl", "head": ".json"}

    def ended(path: Path, data: bytes) -> None:
        if path.suffix == ends.get(at):
            path.with_name(f"{path.name}.new").write_bytes(data[: len(data) // 2])
            raise KeyboardInterrupt
        write(path, data)

    def ended_after(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(segments, "put", ended)
        patched.setattr(exact, "put", ended)
        if at == "after":
            patched.setattr(exact, "delete_unlisted", ended_after)
        with pytest.raises(KeyboardInterrupt):
            index.add(["late"], vector(99), [{}])
    again = ExactIndex.open(tmp_path / "index")
    assert set(content(again)) == set(wanted(range(MOST_SMALL))) | ({"late"} if at == "after" else set())
    again.add(["later"], vector(98), [{}])
    assert {"later", "image 0"} <= set(content(ExactIndex.open(tmp_path / "index")))


def test_an_index_that_is_merged_while_it_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = grown(tmp_path / "index", MOST_SMALL)
    read, calls = exact.read_head, []

    def slow(folder: Path) -> segments.Head:
        head = read(folder)
        if not calls:
            calls.append(1)
            monkeypatch.setattr(exact, "read_head", read)
            index.add(["late"], vector(99), [{}])  # after the head was read, before its files are
            monkeypatch.setattr(exact, "read_head", slow)
        return head

    monkeypatch.setattr(exact, "read_head", slow)
    assert ExactIndex.open(tmp_path / "index").count == MOST_SMALL + 1


def test_a_segment_outside_the_folder_is_refused(tmp_path: Path) -> None:
    index = grown(tmp_path / "index", 1)
    head = (tmp_path / "index" / "index.json").read_text()
    (tmp_path / "index" / "index.json").write_text(head.replace(index.head.segments[0].name, "../segment-000000"))
    with pytest.raises(ConfigError, match="damaged"):
        ExactIndex.open(tmp_path / "index")


@pytest.mark.slow
def test_opening_takes_time_in_proportion_to_the_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "MOST_SMALL", 1_000_000)
    monkeypatch.setattr(segments.os, "fsync", lambda handle: None)
    seconds = []
    for count in (500, 2000):
        grown(tmp_path / str(count), count).close()
        start = time.perf_counter()
        assert ExactIndex.open(tmp_path / str(count)).count == count
        seconds.append(time.perf_counter() - start)
    assert seconds[1] < 10 * seconds[0]  # 4 times as many; with copies of all for each, 16 times
