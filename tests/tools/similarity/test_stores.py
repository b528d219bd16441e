"""What every store of embeddings does alike: the same questions, asked of each of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from nsfw_guard.errors import ConfigError, UnknownNameError
from nsfw_guard.tools.similarity.groups import groups_of
from nsfw_guard.tools.similarity.places import KINDS, create_store, open_store
from nsfw_guard.tools.similarity.store import ListedStore

WIDTH, COUNT = 12, 150
ODD = [
    "x' OR '1'='1", 'x" or "1"=="1', "back\\slash", "100%", "_", "Straße/写真.png", "new\nline\t", "\u2028", "outcome",
    "a'; DROP TABLE images; --", "", " ", "{0}", "\\' OR 1=1 --", '\\" or 1==1 or outcome == "',
]  # fmt: skip


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    if request.param == "lance":
        pytest.importorskip("lancedb")
    return str(request.param)


_numbers = itertools.count()


@pytest.fixture
def new_place(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[], Path | str]:
    """Names places where no store is yet."""
    address = request.getfixturevalue("server") if kind == "milvus" else ""

    def place() -> Path | str:
        number = next(_numbers)
        return f"{address}?collection=c{number}" if address else tmp_path / f"store {number}"

    return place


@pytest.fixture
def place(new_place: Callable[[], Path | str]) -> Path | str:
    return new_place()


@pytest.fixture
def store(kind: str, place: Path | str) -> Iterator[ListedStore]:
    """150 images, every tenth of which is blocked."""
    result = create_store(kind, place, model="m", revision="r", width=WIDTH)
    keys = keys_of(range(COUNT))
    for start, end in ((0, 100), (100, COUNT)):
        result.add(keys[start:end], vectors(COUNT)[start:end], facts_of(range(start, end)))
    yield result
    result.close()


def vectors(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed))


def keys_of(numbers: Sequence[int]) -> list[str]:
    return [f"image {number}" for number in numbers]


def facts_of(numbers: Sequence[int]) -> list[dict[str, str]]:
    return [{"outcome": "allow" if n % 10 else "block", "category": "" if n % 10 else "sexual"} for n in numbers]


def expected(asked: torch.Tensor, rows: Sequence[int], k: int) -> list[list[str]]:
    """Keys by a plain comparison in float64."""
    pool = torch.nn.functional.normalize(vectors(COUNT).double()[list(rows)], dim=1)
    similar = torch.nn.functional.normalize(asked.double(), dim=1) @ pool.T
    return [[f"image {rows[i]}" for i in line] for line in similar.argsort(dim=1, descending=True)[:, :k].tolist()]


def keys_in(matches: Sequence[Any]) -> list[str]:
    return [match.key for match in matches]


def test_what_is_found_is_what_a_plain_comparison_finds(store: ListedStore) -> None:
    asked = vectors(7, seed=1)
    answers = store.search(asked, k=10)
    assert [keys_in(matches) for matches in answers] == expected(asked, range(COUNT), 10)
    unit = torch.nn.functional.normalize(vectors(COUNT), dim=1)
    for one, matches in zip(torch.nn.functional.normalize(asked, dim=1), answers, strict=True):
        for match in matches:
            assert match.similarity == pytest.approx(float(one @ unit[int(match.key.split()[1])]), abs=1e-5)


def test_a_filter_misses_nothing(store: ListedStore) -> None:
    asked = vectors(7, seed=2)
    blocked = range(0, COUNT, 10)
    answers = store.search(asked, k=10, where={"outcome": "block", "category": "sexual"})
    assert [keys_in(matches) for matches in answers] == expected(asked, blocked, 10)
    assert all(match.facts == facts_of([0])[0] for matches in answers for match in matches)
    without = store.search(asked, k=COUNT, where={"category": ""})  # those that have none
    assert {len(matches) for matches in without} == {COUNT - len(blocked)}
    assert "category" not in without[0][0].facts
    assert store.search(asked, where={"outcome": "none"}) == [[]] * 7


def test_more_than_there_are_and_none(store: ListedStore, kind: str, new_place: Callable[[], Path | str]) -> None:
    (matches,) = store.search(vectors(1), k=1000)
    assert len(matches) == store.count == COUNT
    assert store.search(vectors(0)) == []
    empty = create_store(kind, new_place(), model="m", revision="r", width=WIDTH)
    assert (empty.count, empty.search(vectors(2)), empty.remove(["a"])) == (0, [[], []], 0)
    assert list(empty.batches()) == []
    assert groups_of(empty, least=0.5) == []
    empty.add([], vectors(0), [])
    empty.close()


def test_an_image_is_most_like_itself_whatever_its_length(store: ListedStore) -> None:
    (matches,) = store.search(1000 * vectors(COUNT)[42:43], k=1)
    assert matches[0].key == "image 42"
    assert matches[0].similarity == pytest.approx(1.0, abs=1e-5)
    assert matches[0].similarity <= 1.0


def test_removed_images_are_not_found_and_stay_away(store: ListedStore, place: Path | str) -> None:
    gone = keys_of([*range(5), *range(100, 105)])
    assert store.remove([*gone, "image 0", "no image"]) == 10
    assert store.remove(gone) == 0
    for one in (store, open_store(place)):
        assert one.count == COUNT - 10
        assert set(keys_in(one.search(vectors(1), k=1000)[0])) == set(keys_of(range(COUNT))) - set(gone)


def test_an_image_that_is_added_again_takes_the_place_of_the_earlier_one(store: ListedStore, place: Path | str) -> None:
    store.add(["image 3", "new"], vectors(2, seed=9), [{"outcome": "review"}, {"sha256": "0" * 64}])
    for one in (store, open_store(place)):
        assert one.count == COUNT + 1
        (matches,) = one.search(vectors(2, seed=9)[:1], k=1000)
        assert (matches[0].key, matches[0].facts) == ("image 3", {"outcome": "review"})
        assert keys_in(matches).count("image 3") == 1


def test_opened_again_it_answers_the_same(store: ListedStore, place: Path | str) -> None:
    asked = vectors(3, seed=4)
    before = store.search(asked)
    store.close()
    again = open_store(place, model="m", revision="r", width=WIDTH)
    assert vars(again.origin).items() >= {"model": "m", "revision": "r", "width": WIDTH}.items()
    assert again.search(asked) == before
    again.close()


@pytest.mark.parametrize("wanted", [{"model": "other"}, {"revision": "other"}, {"width": WIDTH + 1}], ids=str)
def test_a_store_of_another_model_or_width_is_refused_by_name(
    wanted: dict[str, Any], store: ListedStore, place: Path | str
) -> None:
    (value,) = wanted.values()
    with pytest.raises(ConfigError, match=f"not {value!r}, and these cannot be compared"):
        open_store(place, **wanted)


def test_a_place_that_is_taken_or_empty(
    store: ListedStore, kind: str, place: Path | str, new_place: Callable[[], Path | str]
) -> None:
    with pytest.raises(ConfigError, match=r"is not empty|is there already"):
        create_store(kind, place, model="m", revision="r", width=WIDTH)
    assert store.count == COUNT
    with pytest.raises(ConfigError, match="holds no index"):
        open_store(new_place())
    with pytest.raises(ConfigError, match="has no embedding"):
        create_store(kind, new_place(), model="m", revision="", width=0)


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_an_embedding_without_a_direction_is_refused(value: float, store: ListedStore) -> None:
    mixed = torch.cat([vectors(1), torch.full((1, WIDTH), value)])
    with pytest.raises(ConfigError, match="zero or not finite"):
        store.add(["a", "b"], mixed, [{}, {}])
    with pytest.raises(ConfigError, match="zero or not finite"):
        store.search(mixed)
    assert store.count == COUNT


def test_what_cannot_be_added_or_asked_for(store: ListedStore) -> None:
    for keys, facts, said in (
        (["a"], [{}, {}], "as many of each"), (["a", "a"], [{}, {}], "there twice"),
        (["a", "\ud800"], [{}, {}], "no text"),
        (["a", "b"], [{}, {"outcome": "\ud800"}], "no text"), (["a", "b"], [{}, {"outcome": 1}], "no text"),
        (["a", "b"], [{}, {"colour": "red"}], "unknown fact 'colour'"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=said):
            store.add(keys, vectors(2), facts)  # type: ignore[arg-type]
    for wide in (torch.ones(2, WIDTH + 1), torch.ones(2)):
        with pytest.raises(ConfigError, match="vectors of 12 numbers"):
            store.add(["a", "b"], wide, [{}, {}])
        with pytest.raises(ConfigError, match="vectors of 12 numbers"):
            store.search(wide)
    with pytest.raises(ConfigError, match="k must be 1 or more"):
        store.search(vectors(1), k=0)
    with pytest.raises(UnknownNameError, match="unknown fact"):
        store.search(vectors(1), where={"outcome = 'allow' OR outcome": "x"})
    assert store.count == COUNT


def test_odd_keys_and_facts_mean_nothing_but_themselves(store: ListedStore, place: Path | str) -> None:
    facts = [{"category": value, "outcome": "odd"} for value in ODD]
    store.add(ODD, vectors(len(ODD), seed=3), facts)
    for one in (store, open_store(place)):
        for value in ODD:
            (matches,) = one.search(vectors(1), k=1000, where={"category": value, "outcome": "odd"})
            assert keys_in(matches) == [value]
    for value in ODD:
        assert store.remove([value]) == 1
    assert store.count == COUNT


def test_everything_is_listed_once(store: ListedStore) -> None:
    store.remove(["image 7"])
    listed = {}
    for rows in store.batches():
        assert rows.vectors.norm(dim=1).numpy() == pytest.approx(1.0, abs=1e-5)
        for key, vector, facts in zip(*rows, strict=True):
            assert key not in listed
            listed[key] = (vector, facts)
    assert set(listed) == set(keys_of(range(COUNT))) - {"image 7"}
    unit = torch.nn.functional.normalize(vectors(COUNT), dim=1)
    assert torch.allclose(listed["image 20"][0], unit[20], atol=1e-6)
    assert listed["image 20"][1] == {"outcome": "block", "category": "sexual"}


def test_groups_of_images_that_are_like_each_other(store: ListedStore) -> None:
    near = vectors(COUNT)[[1, 1, 1, 2]] + 0.001 * vectors(4, seed=8)
    store.add(["near 1", "nearer 1", "nearest 1", "near 2"], near, [{}] * 4)
    groups = groups_of(store, least=0.999)
    assert [group.keys for group in groups] == [("image 1", "near 1", "nearer 1", "nearest 1"), ("image 2", "near 2")]
    assert groups[0].facts[0] == {"outcome": "allow"}


def test_stats_name_the_kind(store: ListedStore, kind: str) -> None:
    assert store.stats()["store"] == kind


def test_two_that_write_in_turn(store: ListedStore, kind: str, place: Path | str) -> None:
    if kind == "exact":
        pytest.skip("it refuses: see test_exact.py")
    other = open_store(place)
    other.add(["a"], vectors(1, seed=5), [{}])
    store.add(["b"], vectors(1, seed=6), [{}])
    assert store.count == other.count == COUNT + 2
    assert keys_in(store.search(vectors(1, seed=5), k=1)[0]) == ["a"]
    assert keys_in(other.search(vectors(1, seed=6), k=1)[0]) == ["b"]
    other.close()


def test_kinds_and_places_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'lance'"):
        create_store("lances", tmp_path / "a", model="m", revision="r", width=WIDTH)
    with pytest.raises(ConfigError, match="'milvus' is at an address"):
        create_store("milvus", tmp_path / "a", model="m", revision="r", width=WIDTH)
    with pytest.raises(ConfigError, match="'exact' is at a folder"):
        create_store("exact", "http://127.0.0.1:1", model="m", revision="r", width=WIDTH)
    (tmp_path / "index.json").write_text('{"kind": "of tomorrow"}')
    with pytest.raises(ConfigError, match="written by another version"):
        open_store(tmp_path)
