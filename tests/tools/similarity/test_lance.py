"""What only the store by LanceDB has: an index of parts, several processes, files of another library."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from nsfw_guard.errors import ConfigError
from nsfw_guard.tools.lock import locked
from nsfw_guard.tools.similarity import lance
from nsfw_guard.tools.similarity.lance import LanceStore, _quoted

pytest.importorskip("lancedb")

WIDTH, COUNT = 8, 3000


def vectors(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LanceStore:
    """A store with an index, although it is small: 54 parts. One image in 50 is blocked, one in 4 has a category."""
    monkeypatch.setattr(lance, "SMALL", 1000)
    result = LanceStore.create(tmp_path / "store", model="m", revision="r", width=WIDTH)
    facts = [{"outcome": "allow" if n % 50 else "block", "category": "" if n % 4 else "sexual"} for n in range(COUNT)]
    for start in range(0, COUNT, 500):
        part = slice(start, start + 500)
        result.add([f"image {n}" for n in range(COUNT)[part]], vectors(COUNT)[part], facts[part])
    result.close()
    return result


def recall(store: LanceStore, rows: range, where: dict[str, str] | None) -> float:
    asked = torch.nn.functional.normalize(vectors(50, seed=1), dim=1)
    similar = asked @ torch.nn.functional.normalize(vectors(COUNT), dim=1)[list(rows)].T
    right = 0
    for line, matches in zip(similar.topk(10, dim=1).indices.tolist(), store.search(asked, where=where), strict=True):
        right += len({f"image {rows[i]}" for i in line} & {match.key for match in matches})
    return right / 500


def test_the_index_is_used_and_recall_is_stated(store: LanceStore) -> None:
    assert store.stats()["indexed"] == COUNT
    assert recall(store, range(0, COUNT, 50), {"outcome": "block"}) == 1.0  # every part is looked into
    assert recall(store, range(0, COUNT, 4), {"category": "sexual"}) >= 0.9
    assert 0.5 <= recall(store, range(COUNT), None) <= 1.0  # noise without clusters is the worst case
    assert recall(store, range(COUNT), {}) == recall(store, range(COUNT), None)


def test_what_is_added_after_the_index_was_built_is_found(store: LanceStore) -> None:
    store.add(["late"], vectors(1, seed=5), [{"outcome": "block"}])
    assert store.stats()["not indexed"] == 1
    for where in (None, {"outcome": "block"}):
        assert store.search(vectors(1, seed=5), k=1, where=where)[0][0].key == "late"
    assert store.remove(["late", "image 0"]) == 2
    assert store.search(vectors(COUNT)[:1], k=1)[0][0].key != "image 0"


def test_an_index_is_built_again_as_the_store_grows(store: LanceStore) -> None:
    store.add([f"more {n}" for n in range(400)], vectors(400, seed=6), [{}] * 400)
    assert (store.stats()["not indexed"], len(store.search(vectors(1), k=9)[0])) == (400, 9)
    store.close()
    assert store.stats()["not indexed"] == 0


def test_another_process_reads_while_this_one_writes(store: LanceStore, tmp_path: Path) -> None:
    code = (
        "import sys, torch\nfrom pathlib import Path\nfrom nsfw_guard.tools.similarity.lance import LanceStore\n"
        "store = LanceStore.open(Path(sys.argv[1]))\nprint(store.count, flush=True)\nsys.stdin.readline()\n"
        "print(store.count, store.search(torch.ones(1, 8), k=1)[0][0].key, flush=True)\n"
        "store.add(['theirs'], -torch.ones(1, 8), [{}])\n"
    )
    reader = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "store"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert reader.stdout is not None
    assert reader.stdout.readline() == f"{COUNT}\n"
    store.add(["ours"], torch.ones(1, WIDTH), [{}])
    out, _ = reader.communicate("\n", timeout=60)
    assert out == f"{COUNT + 1} ours\n"
    assert store.search(-torch.ones(1, WIDTH), k=1)[0][0].key == "theirs"


@pytest.mark.parametrize(
    "damage",
    ['{"kind": "lance", "schema": 1}', '{"kind": "lance", "schema": 9}', '{"kind": "exact", "schema": 1}', "[]", ""],
)
def test_a_damaged_head_is_refused(damage: str, store: LanceStore) -> None:
    (store.folder / "index.json").write_text(damage)
    with pytest.raises(ConfigError, match=r"damaged|another version"):
        LanceStore.open(store.folder)


def test_a_table_of_another_width_is_refused(store: LanceStore) -> None:
    head = store.folder / "index.json"
    head.write_text(head.read_text().replace(f'"width": {WIDTH}', '"width": 9'))
    with pytest.raises(ConfigError, match="other columns than"):
        LanceStore.open(store.folder)


def test_a_table_that_is_gone_is_refused(store: LanceStore) -> None:
    for path in sorted(store.folder.rglob("*.manifest")):
        path.unlink()
    with pytest.raises(ConfigError, match="damaged"):
        LanceStore.open(store.folder)


def test_writers_wait_for_each_other(store: LanceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with locked(store.folder):
        writer = threading.Thread(target=store.add, args=(["patient"], vectors(1, seed=5), [{}]))
        writer.start()
        writer.join(timeout=0.3)
        assert writer.is_alive()
    writer.join(timeout=60)
    assert store.count == COUNT + 1
    monkeypatch.setattr(lance, "SECONDS", 0.05)
    with locked(store.folder), pytest.raises(ConfigError, match="another process writes"):
        store.remove(["patient"])
    assert store.count == COUNT + 1


def test_quotes_are_doubled() -> None:
    assert _quoted("x' OR '1'='1") == "'x'' OR ''1''=''1'"
