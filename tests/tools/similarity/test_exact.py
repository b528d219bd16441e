"""The exact index: what it finds is what a plain comparison finds, and no damaged file is searched."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nsfw_guard.errors import ConfigError
from nsfw_guard.tools.lock import locked
from nsfw_guard.tools.similarity.exact import ExactIndex
from nsfw_guard.tools.similarity.places import open_store
from nsfw_guard.tools.similarity.segments import HEAD

WIDTH = 12


def vectors(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed))


def keys_of(count: int, start: int = 0) -> list[str]:
    return [f"image {number}" for number in range(start, start + count)]


def facts_of(keys: Sequence[str]) -> list[dict[str, str]]:
    return [{"outcome": "block" if int(key.split()[1]) % 10 == 0 else "allow"} for key in keys]


@pytest.fixture
def index(tmp_path: Path) -> ExactIndex:
    """Two segments of 100 and 50 images."""
    result = ExactIndex.create(tmp_path / "index", model="m", revision="r", width=WIDTH)
    for start, count in ((0, 100), (100, 50)):
        keys = keys_of(count, start)
        result.add(keys, vectors(150)[start : start + count], facts_of(keys))
    return result


def expected(asked: torch.Tensor, rows: Sequence[int], k: int) -> list[list[str]]:
    """Keys by a plain comparison in float64."""
    pool = torch.nn.functional.normalize(vectors(150).double()[list(rows)], dim=1)
    similar = torch.nn.functional.normalize(asked.double(), dim=1) @ pool.T
    return [[f"image {rows[i]}" for i in line] for line in similar.argsort(dim=1, descending=True)[:, :k].tolist()]


def test_what_is_found_is_what_a_plain_comparison_finds(index: ExactIndex) -> None:
    asked = vectors(7, seed=1)
    found = index.search(asked, k=10)
    assert [[match.key for match in matches] for matches in found] == expected(asked, range(150), 10)
    assert all(a.similarity >= b.similarity for matches in found for a, b in itertools.pairwise(matches))


def test_a_filter_misses_nothing(index: ExactIndex) -> None:
    asked = vectors(7, seed=2)
    found = index.search(asked, k=10, where={"outcome": "block"})
    assert [[match.key for match in matches] for matches in found] == expected(asked, range(0, 150, 10), 10)
    assert {match.facts["outcome"] for matches in found for match in matches} == {"block"}
    assert index.search(asked, where={"outcome": "none"}) == [[]] * 7
    with pytest.raises(ConfigError, match="unknown fact 'nothing'"):
        index.search(asked, where={"nothing": "allow"})


def test_an_image_is_most_like_itself_whatever_its_length(index: ExactIndex) -> None:
    (matches,) = index.search(1000 * vectors(150)[42:43], k=1)
    assert matches[0].key == "image 42"
    assert matches[0].similarity == pytest.approx(1.0, abs=1e-6)
    assert matches[0].similarity <= 1.0


def test_more_than_there_are(index: ExactIndex) -> None:
    (matches,) = index.search(vectors(1), k=1000)
    assert len(matches) == index.count == 150


def test_removed_images_are_not_found_and_stay_away(index: ExactIndex, tmp_path: Path) -> None:
    gone = keys_of(5) + keys_of(5, 100)
    assert index.remove([*gone, "image 0", "no image"]) == 10
    for one in (index, ExactIndex.open(tmp_path / "index")):
        assert one.count == 140
        keys = {match.key for match in one.search(vectors(1), k=1000)[0]}
        assert keys == set(keys_of(150)) - set(gone)


def test_an_image_that_is_added_again_takes_the_place_of_the_earlier_one(index: ExactIndex, tmp_path: Path) -> None:
    index.add(["image 3", "new"], vectors(2, seed=9), [{"outcome": "review"}, {"outcome": "allow"}])
    for one in (index, ExactIndex.open(tmp_path / "index")):
        assert one.count == 151
        (matches,) = one.search(vectors(2, seed=9)[:1], k=1000)
        assert matches[0].key == "image 3"
        assert matches[0].facts == {"outcome": "review"}
        assert [match.key for match in matches].count("image 3") == 1


def test_opened_again_it_answers_the_same(index: ExactIndex, tmp_path: Path) -> None:
    asked = vectors(3, seed=4)
    again = ExactIndex.open(tmp_path / "index", model="m", revision="r")
    assert again.search(asked) == index.search(asked)
    index.close()
    assert index.count == 0


@pytest.mark.parametrize("asked", [{"model": "other"}, {"revision": "other"}])
def test_an_index_of_another_model_is_refused_by_name(asked: dict[str, str], index: ExactIndex, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'other'"):
        ExactIndex.open(tmp_path / "index", **asked)


@pytest.mark.parametrize("shape", [(1, WIDTH + 1), (WIDTH,), (1, 1, WIDTH)])
def test_vectors_of_another_width_are_refused(shape: tuple[int, ...], index: ExactIndex) -> None:
    for ask in (index.search, lambda v: index.add(["a"] * len(v), v, [{}] * len(v))):
        with pytest.raises(ConfigError, match=r"vectors of 12 numbers|there twice|12 keys"):
            ask(torch.ones(shape))


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_an_embedding_without_a_direction_is_refused(value: float, index: ExactIndex) -> None:
    with pytest.raises(ConfigError, match="zero or not finite"):
        index.add(["a"], torch.full((1, WIDTH), value), [{}])
    with pytest.raises(ConfigError, match="zero or not finite"):
        index.search(torch.full((1, WIDTH), value))
    assert index.count == 150


@pytest.mark.parametrize("keys", [["a"], ["a", "a"], ["a", "b", "c"]])
def test_keys_that_do_not_fit(keys: list[str], index: ExactIndex) -> None:
    with pytest.raises(ConfigError, match=r"as many of each|there twice"):
        index.add(keys, vectors(2), [{}, {}])


@pytest.mark.parametrize("name", ["segment-000000.safetensors", "segment-000001.jsonl"])
@pytest.mark.parametrize("damage", ["truncated", "changed", "gone"])
def test_a_damaged_index_is_refused(name: str, damage: str, index: ExactIndex, tmp_path: Path) -> None:
    path = tmp_path / "index" / name
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(data[:-9] if damage == "truncated" else data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ConfigError, match=f"{name} in .*(damaged|cannot be read)"):
        ExactIndex.open(tmp_path / "index")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schema": 1}', '{"schema": 2, "kind": "exact", "segments": [{"name": "x"}]}']
)
def test_a_damaged_list_of_segments_is_refused(text: str, index: ExactIndex, tmp_path: Path) -> None:
    (tmp_path / "index" / HEAD).write_text(text)
    with pytest.raises(ConfigError, match=r"damaged|another version"):
        ExactIndex.open(tmp_path / "index")


def test_a_row_count_that_lies_is_refused(index: ExactIndex, tmp_path: Path) -> None:
    path = tmp_path / "index" / HEAD
    content = json.loads(path.read_text())
    content["segments"][0]["count"] = 99
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="another size than recorded"):
        ExactIndex.open(tmp_path / "index")


def test_a_segment_that_was_not_finished_does_not_count(index: ExactIndex, tmp_path: Path) -> None:
    (tmp_path / "index" / "segment-000002.safetensors").write_bytes(b"half")
    again = ExactIndex.open(tmp_path / "index")
    again.add(["a"], vectors(1, seed=5), [{}])
    assert ExactIndex.open(tmp_path / "index").count == 151


def test_two_writers(index: ExactIndex, tmp_path: Path) -> None:
    other = ExactIndex.open(tmp_path / "index")
    index.add(["a"], vectors(1, seed=5), [{}])
    with pytest.raises(ConfigError, match="another process has changed the index"):
        other.add(["b"], vectors(1, seed=6), [{}])
    with pytest.raises(ConfigError, match="another process has changed the index"):
        other.remove(["image 1"])
    assert other.count == 150
    with locked(tmp_path / "index"), pytest.raises(ConfigError, match="another process writes"):
        index.remove(["a"])
    assert ExactIndex.open(tmp_path / "index").count == 151


def test_a_folder_that_is_not_empty_and_a_model_without_embeddings(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("text")
    with pytest.raises(ConfigError, match="is not empty"):
        ExactIndex.create(tmp_path, model="m", revision="", width=3)
    with pytest.raises(ConfigError, match="has no embedding"):
        ExactIndex.create(tmp_path / "new", model="m", revision="", width=0)
    with pytest.raises(ConfigError, match="holds no index"):
        ExactIndex.open(tmp_path / "new")
    with pytest.raises(ConfigError, match="k must be 1 or more"):
        ExactIndex.create(tmp_path / "i", model="m", revision="", width=3).search(torch.ones(1, 3), k=0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, 7.0])
def test_vectors_of_another_hand_are_compared_as_directions_or_refused(
    value: float, index: ExactIndex, tmp_path: Path
) -> None:
    """A segment may have its hash and still hold what was not written here: a NaN would be like everything."""
    from safetensors.torch import save

    data = save({"vectors": torch.full((index.head.segments[0].count, WIDTH), value)})
    segment = replace(index.head.segments[0], vectors_sha256=hashlib.sha256(data).hexdigest())
    (index.folder / f"{segment.name}.safetensors").write_bytes(data)
    head = replace(index.head, segments=(segment, *index.head.segments[1:]))
    (index.folder / HEAD).write_text(head.to_json())
    with pytest.raises(ConfigError, match="damaged"):
        ExactIndex.open(index.folder)


@pytest.mark.parametrize("name", ["safetensors", "jsonl"])
def test_a_segment_of_another_kind_is_refused(name: str, index: ExactIndex) -> None:
    data, segment = b"[1]\n", index.head.segments[0]
    (index.folder / f"{segment.name}.{name}").write_bytes(data)
    hashes = {"vectors_sha256" if name == "safetensors" else "facts_sha256": hashlib.sha256(data).hexdigest()}
    head = replace(index.head, segments=(replace(segment, **hashes), *index.head.segments[1:]))
    (index.folder / HEAD).write_text(head.to_json())
    with pytest.raises(ConfigError, match=r"damaged|another size"):
        ExactIndex.open(index.folder)


@pytest.mark.parametrize(
    "changed",
    [
        {"width": 4.0}, {"model": ["a"]}, {"revision": None}, {"kind": ["exact"]}, {"count": 10**12}, {"count": -1},
        {"count": "x"}, {"count": 2.5},
    ],
)  # fmt: skip
def test_a_head_that_was_edited_is_refused_before_memory_is_taken(changed: dict[str, object], tmp_path: Path) -> None:
    index = ExactIndex.create(tmp_path / "in", model="m", revision="", width=4)
    index.add(["a"], torch.ones(1, 4), [{}])
    head = json.loads((tmp_path / "in" / HEAD).read_text())
    if "count" in changed:
        head["segments"][0] |= changed
    else:
        head |= changed
    (tmp_path / "in" / HEAD).write_text(json.dumps(head))
    with pytest.raises(ConfigError, match="build"):
        open_store(tmp_path / "in")


def test_a_deep_head_is_refused(tmp_path: Path) -> None:
    (tmp_path / HEAD).write_text("[" * 100_000)
    with pytest.raises(ConfigError, match="damaged"):
        open_store(tmp_path)
