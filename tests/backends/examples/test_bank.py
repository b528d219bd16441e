"""A bank on the disk: whole or refused."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from nsfw_guard.backends.examples.bank import Bank
from nsfw_guard.backends.examples.example import Example
from nsfw_guard.errors import ConfigError

FIRST = Example(kind="block", reason="first", pixels="ab" * 32, label="logo")
SECOND = Example(kind="allow", reason="second", pixels="cd" * 32, expires="2026-01-31")
HASHED = Example(kind="block", reason="third", pdq="ef" * 32, distance=20)


def filled() -> Bank:
    vectors = {FIRST.id: torch.arange(4.0), SECOND.id: torch.ones(4)}
    sample = torch.randn(500, 4, generator=torch.Generator().manual_seed(0))
    return Bank(
        examples=(FIRST, SECOND, HASHED), embeddings=vectors, ordinary=sample, budget=0.01, model="red", revision="1"
    )


def test_a_bank_is_read_as_it_was_saved(tmp_path: Path) -> None:
    bank = filled()
    bank.save(tmp_path / "bank")
    again = Bank.load(tmp_path / "bank")
    assert again == bank
    assert (again.width, again.mark) == (4, bank.mark)
    assert torch.equal(again.embeddings[FIRST.id], torch.arange(4.0))
    assert again.ordinary is not None
    assert torch.equal(again.ordinary, bank.ordinary)
    assert len(list((tmp_path / "bank").iterdir())) == 2


def test_what_no_longer_belongs_to_it_is_removed(tmp_path: Path) -> None:
    filled().save(tmp_path / "bank")
    filled().without([FIRST.id]).save(tmp_path / "bank")
    assert len(list((tmp_path / "bank").iterdir())) == 2
    assert [example.id for example in Bank.load(tmp_path / "bank").examples] == [SECOND.id, HASHED.id]
    Bank(examples=(HASHED,)).save(tmp_path / "bank")
    assert [path.name for path in (tmp_path / "bank").iterdir()] == ["bank.json"]


def test_removing_what_is_not_there_is_an_error() -> None:
    with pytest.raises(ConfigError, match="the bank has no example 'zz'"):
        filled().without(["zz", FIRST.id])


def test_an_image_that_is_added_again_is_replaced() -> None:
    newer = Example(kind="block", reason="newer", pixels="ab" * 32)
    bank = filled().with_examples([newer], {})
    assert [example.reason for example in bank.examples] == ["second", "third", "newer"]
    assert set(bank.embeddings) == {SECOND.id}


def test_it_says_what_counts_on_a_day_and_its_mark_changes_with_it() -> None:
    bank = filled()
    assert bank.describe(datetime.date(2026, 1, 1)).startswith("2 block, 1 allow, ")
    assert bank.describe(datetime.date(2026, 2, 1)).startswith("2 block, 0 allow, 1 expired, ")
    other = Bank(examples=(Example(kind="block", reason="other", pdq="ef" * 32),))
    assert len({bank.mark, other.mark, bank.without([HASHED.id]).mark}) == 3


def _cut(folder: Path) -> None:
    path = folder / "bank.json"
    path.write_bytes(path.read_bytes()[:-40])


def _changed(**values: Any) -> Any:
    def change(folder: Path) -> None:
        path = folder / "bank.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return change


def _remove(folder: Path) -> None:
    (path,) = folder.glob("tensors-*")
    path.unlink()


def _flip(folder: Path) -> None:
    (path,) = folder.glob("tensors-*")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (_cut, "not usable JSON"),
        (_flip, "is damaged, its hash is another"),
        (_remove, r"tensors-\w+.safetensors is missing: build the bank again"),
        (_changed(schema=2), "another version"),
        (_changed(embedded=[FIRST.id]), "another number of embeddings"),
        (_changed(examples=[{"kind": "block"}]), "is damaged"),
        (_changed(examples="none"), "is damaged|has the fields"),
        (_changed(tensors="../elsewhere.safetensors"), "names a file elsewhere"),
        (_changed(tensors=".."), "is no file of up to"),
        (_changed(budget=10**400), "is damaged"),
        (_changed(examples=[FIRST.to_dict(), FIRST.to_dict(), SECOND.to_dict()]), "an example twice"),
        (_changed(model=""), "needs the name of their model"),
    ],
)
def test_a_damaged_bank_is_refused(damage: Any, why: str, tmp_path: Path) -> None:
    filled().save(tmp_path / "bank")
    damage(tmp_path / "bank")
    with pytest.raises(ConfigError, match=why):
        Bank.load(tmp_path / "bank")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 1e30])
def test_embeddings_that_are_no_numbers_are_refused(number: float, tmp_path: Path) -> None:
    sample = torch.randn(500, 4)
    sample[7] = number  # beyond float16 it would make a radius that nothing reaches
    with pytest.raises(ConfigError, match="not finite"):
        Bank(examples=(FIRST,), ordinary=sample, model="red")
    filled().save(tmp_path / "bank")
    _tensors(tmp_path / "bank", {"embeddings": torch.ones(2, 4), "ordinary": sample})
    with pytest.raises(ConfigError, match="not finite"):
        Bank.load(tmp_path / "bank")


def _tensors(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Put other tensors into a bank, with their right hash."""
    data = save(tensors)
    digest = hashlib.sha256(data).hexdigest()
    (folder / f"tensors-{digest[:16]}.safetensors").write_bytes(data)
    _changed(tensors=f"tensors-{digest[:16]}.safetensors", sha256=digest)(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_place_of_the_tensors_is_not_waited_for(tmp_path: Path) -> None:
    filled().save(tmp_path / "bank")
    (path,) = (tmp_path / "bank").glob("tensors-*")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ConfigError, match="is no file of up to"):
        Bank.load(tmp_path / "bank")


def test_embeddings_of_two_widths_are_refused() -> None:
    with pytest.raises(ConfigError, match="different widths"):
        Bank(examples=(FIRST,), embeddings={FIRST.id: torch.ones(4)}, ordinary=torch.ones(5, 3), model="red")


def test_who_reads_while_it_is_saved_gets_a_whole_bank(tmp_path: Path) -> None:
    folder, stop = tmp_path / "bank", threading.Event()
    banks = [filled(), filled().without([FIRST.id])]
    banks[0].save(folder)

    def write() -> None:
        for number in range(60):
            banks[number % 2].save(folder)
        stop.set()

    writer = threading.Thread(target=write)
    writer.start()
    marks = set()
    while not stop.is_set():
        marks.add(Bank.load(folder).mark)
    writer.join()
    assert marks <= {bank.mark for bank in banks}
    assert marks
