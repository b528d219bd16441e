"""Banks from images, from ordinary images and from lists."""

from __future__ import annotations

import csv
import datetime
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nsfw_guard.backends.examples.bank import Bank
from nsfw_guard.backends.examples.matching import Matcher
from nsfw_guard.backends.wrappers.banked import Banked
from nsfw_guard.demo import shapes
from nsfw_guard.errors import ConfigError, ImageError
from nsfw_guard.guard import Guard
from nsfw_guard.testing import FakeBackend
from nsfw_guard.tools import examples
from nsfw_guard.tools.examples import Decision, add_images, read_list, with_list, with_ordinary, write_list
from nsfw_guard.tools.screening.scan import Scan
from nsfw_guard.tools.screening.scorer import ScanSettings
from nsfw_guard.verdict import Outcome
from tests.images import smooth

BLOCK = Decision(kind="block", reason="reported", label="spot", ticket="T-1")
ALLOW = Decision(kind="allow", reason="a false alarm")


def saved(folder: Path, count: int, seed: int = 0) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:03d}.png" for number in range(count)]
    for path, image in zip(paths, smooth(count, 48, 48, seed=seed), strict=True):
        Image.fromarray((image * 255).byte().permute(1, 2, 0).numpy()).save(path)
    return paths


def test_an_added_image_is_known_by_pixels_hash_and_embedding(tmp_path: Path) -> None:
    (path,) = saved(tmp_path, 1)
    bank, (example,) = add_images(Bank(), Guard(FakeBackend()), [path], BLOCK)
    assert (example.kind, example.reason, example.label, example.ticket) == ("block", "reported", "spot", "T-1")
    assert (len(example.pixels), len(example.pdq), dict(example.ceiling)) == (64, 64, {})
    assert (bank.model, bank.width, set(bank.embeddings)) == ("red", 3, {example.id})
    (verdict,) = Guard(Banked(FakeBackend(0.0), bank)).check([path])
    assert verdict.outcome is Outcome.BLOCK


def test_an_allowed_image_keeps_its_own_score_as_a_ceiling(tmp_path: Path) -> None:
    (path,) = saved(tmp_path, 1)
    _, (example,) = add_images(Bank(), Guard(FakeBackend(0.7)), [path], ALLOW)
    assert dict(example.ceiling) == {"red high": 0.7}


def test_hash_only_keeps_nothing_that_shows_what_was_there(tmp_path: Path) -> None:
    (path,) = saved(tmp_path, 1)
    bank, (example,) = add_images(Bank(), Guard(FakeBackend()), [path], BLOCK, hash_only=True)
    assert (dict(bank.embeddings), bank.model, example.id) == ({}, "", bank.examples[0].id)


def test_every_appearance_of_an_image_is_an_example(tmp_path: Path) -> None:
    half = np.zeros((32, 32, 4), np.uint8)
    half[:16] = (255, 0, 0, 255)
    half[16:] = (0, 90, 0, 128)
    Image.fromarray(half).save(tmp_path / "half.png")
    bank, added = add_images(Bank(), Guard(FakeBackend(0.7)), [tmp_path / "half.png"], ALLOW)
    assert len(added) > 1
    (verdict,) = Guard(Banked(FakeBackend(0.7), bank)).check([tmp_path / "half.png"])
    assert verdict.outcome is Outcome.ALLOW


@pytest.mark.parametrize("backend", [FakeBackend(float("nan")), FakeBackend(1.5)])
def test_what_cannot_be_judged_or_read_is_no_example(backend: FakeBackend, tmp_path: Path) -> None:
    (path,) = saved(tmp_path, 1)
    with pytest.raises(ImageError, match="cannot be judged"):
        add_images(Bank(), Guard(backend), [path], BLOCK)
    path.write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"000\.png"):
        add_images(Bank(), Guard(FakeBackend()), [path], BLOCK)


def test_a_bank_of_another_model_is_refused(tmp_path: Path) -> None:
    (path,) = saved(tmp_path, 1)
    bank, _ = add_images(Bank(), Guard(FakeBackend()), [path], BLOCK)
    other = Guard.from_pretrained("demo-shapes")
    with pytest.raises(ConfigError, match="holds embeddings of 'red'"):
        add_images(bank, other, [path], BLOCK)


def test_ordinary_images_come_from_folders_and_from_what_a_scan_has_allowed(tmp_path: Path) -> None:
    saved(tmp_path / "in", 30)
    guard = Guard.from_pretrained("demo-shapes")
    bank = with_ordinary(Bank(), guard, [str(tmp_path / "in")], budget=0.2)
    assert bank.ordinary is not None
    assert (tuple(bank.ordinary.shape), bank.budget) == ((30, bank.width), 0.2)
    list(Scan([str(tmp_path / "in")], tmp_path / "out", settings=ScanSettings(model="demo-shapes"), kind="jsonl").run())
    scanned = with_ordinary(Bank(), guard, [str(tmp_path / "out")], budget=0.2)
    assert scanned.ordinary is not None
    rows = [json.loads(line) for line in (tmp_path / "out" / "part-000000.jsonl").read_text().splitlines()]
    assert len(scanned.ordinary) == sum(row["outcome"] == "allow" for row in rows) > 0
    with pytest.raises(ConfigError, match="is by 'demo-shapes': scan with 'red'"):
        with_ordinary(Bank(), Guard(FakeBackend()), [str(tmp_path / "out")])


def test_a_budget_that_the_ordinary_images_cannot_hold_is_an_error_before_anything_is_kept(tmp_path: Path) -> None:
    paths = saved(tmp_path / "in", 30)
    guard = Guard.from_pretrained("demo-shapes")
    bank, _ = add_images(Bank(), guard, paths[:1], BLOCK)
    with pytest.raises(ConfigError, match="needs 402 ordinary images at least, got 29"):
        with_ordinary(bank, guard, [str(tmp_path / "in")])


def test_an_example_is_effective_at_once_and_removing_it_undoes_it() -> None:
    """On the shapes world: the model never blocks a blue square, and five examples of one do."""
    rng = np.random.default_rng(20261130)

    def drawn(count: int, kind: str = "") -> list[Image.Image]:
        scene = shapes.Scene((shapes.Shape("square", "blue", "large"),), "white") if kind else None
        return [shapes.draw(scene or shapes.random_scene(rng, shapes=2), side=64, rng=rng) for _ in range(count)]

    plain = Guard.from_pretrained("demo-shapes")
    new = drawn(40, "square")
    assert {v.outcome for v in plain.check(new)} == {Outcome.ALLOW}
    vectors = examples_of(plain, drawn(500))
    bank = Bank(ordinary=vectors, budget=0.01, model=plain.spec.name, revision=plain.spec.version)
    bank, added = add_images(bank, plain, drawn(5, "square"), BLOCK)
    with_bank = Guard(Banked(plain.backend, bank))
    blocked = [v.category == "example" for v in with_bank.check(new)]
    assert sum(blocked) >= 36
    ordinary = drawn(400)
    assert sum(v.category == "example" and v.outcome is Outcome.BLOCK for v in with_bank.check(ordinary)) <= 8
    without = Guard(Banked(plain.backend, bank.without([example.id for example in added])))
    assert {v.outcome for v in without.check(new)} == {Outcome.ALLOW}


def examples_of(guard: Guard, images: list[Image.Image]) -> torch.Tensor:
    from nsfw_guard.tools.similarity.build import embed

    return embed(guard, images)


@pytest.mark.parametrize("name", ["list.csv", "list.json"])
def test_a_list_survives_being_written_and_read(name: str, tmp_path: Path) -> None:
    paths = saved(tmp_path / "in", 3)
    bank, _ = add_images(Bank(), Guard(FakeBackend(0.2)), paths[:2], BLOCK)
    bank, _ = add_images(bank, Guard(FakeBackend(0.2)), paths[2:], ALLOW)
    assert write_list(bank, tmp_path / name) == 3
    again = read_list(tmp_path / name, Decision(kind="allow", reason="unused"))
    assert [(e.id, e.pdq, e.reason, e.ticket) for e in again] == [
        (e.id, e.pdq, e.reason, e.ticket) for e in bank.examples
    ]


def test_a_list_of_bare_hashes_gets_what_was_said_of_all(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("Hash,distance\n" + f"{'AB' * 32},12\n{'cd' * 32},\n")
    first, second = read_list(path, BLOCK, distance=20)
    assert (first.pdq, first.distance, first.ticket) == ("ab" * 32, 12, "T-1")
    assert (second.pdq, second.distance) == ("cd" * 32, 20)


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("a.csv", "pdq\nabc\n", "row 1 of a.csv: a PDQ hash has 64"),
        ("a.csv", f"pdq,distance\n{'ab' * 32},many\n", "row 1 of a.csv"),
        ("a.csv", f"pdq,kind\n{'ab' * 32},allow\n", "can be forged"),
        ("a.csv", "label\nx\n", "neither pdq nor pixels"),
        ("a.json", "{}", "must be a list of objects"),
        ("a.json", "[1]", "must be a list of objects"),
        ("a.json", "[" * 100_000, "is not JSON"),
        ("a.json", '[{"pdq": 7}]', "row 1 of a.json"),
    ],
)
def test_a_list_that_is_none_is_refused_by_row(name: str, text: str, why: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=why):
        read_list(tmp_path / name, BLOCK)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_list(tmp_path / "none.csv", BLOCK)


def test_the_written_list_is_csv(tmp_path: Path) -> None:
    paths = saved(tmp_path / "in", 1)
    bank, _ = add_images(Bank(), Guard(FakeBackend()), paths, Decision(kind="block", reason='a, "b"'))
    write_list(bank, tmp_path / "list.csv")
    with (tmp_path / "list.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["reason"] == 'a, "b"'
    assert tuple(row) == examples.COLUMNS


def test_the_scores_of_an_allow_example_are_those_of_its_model(tmp_path: Path) -> None:
    (path,) = saved(tmp_path, 1)
    bank, _ = add_images(Bank(), Guard(FakeBackend(0.7)), [path], ALLOW, hash_only=True)
    assert (bank.model, bank.width) == ("red", 0)
    with pytest.raises(ConfigError, match="holds scores of 'other'"):
        Banked(FakeBackend(0.7), replace(bank, model="other"))


def test_an_ordinary_image_that_is_a_block_example_does_not_keep_others_from_being_blocked(tmp_path: Path) -> None:
    class Wide(FakeBackend):
        """Its embedding is what the image holds in each eighth."""

        def score(self, stacks, *, embeddings=False, digests=False):  # type: ignore[no-untyped-def]
            frames = [frame for stack in stacks for frame in stack.split()]
            plain = super().score(stacks, embeddings=embeddings, digests=digests)
            vectors = [frame.pixels.float().reshape(8, -1).mean(1) for frame in frames]
            return [replace(one, embedding=vector) for one, vector in zip(plain, vectors, strict=True)]

    guard = Guard(Wide(0.0))
    paths = saved(tmp_path / "ordinary", 120)
    for order in (0, 1):
        bank = with_ordinary(Bank(), guard, [str(tmp_path / "ordinary")], budget=0.1)
        bank, added = add_images(bank, guard, paths[:12], BLOCK)
        if order:
            bank = with_ordinary(bank, guard, [str(tmp_path / "ordinary")], budget=0.1)
        assert bank.ordinary is not None
        assert len(bank.ordinary) <= 108
        like, _ = Matcher(bank, datetime.date(2026, 1, 1)).by_likeness(bank.embeddings[added[0].id] + 1e-4, {})
        assert like is not None


def test_a_list_that_is_to_block_may_not_allow(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(f"kind,pixels\nblock,{'ab' * 32}\nallow,{'cd' * 32}\n")
    with pytest.raises(ConfigError, match=r"row 2 of list\.csv: it allows, in a list that is to block"):
        read_list(tmp_path / "list.csv", BLOCK)
    assert [one.kind for one in read_list(tmp_path / "list.csv", ALLOW)] == ["block", "allow"]


def test_a_list_of_a_bank_that_is_read_into_it_takes_nothing_away(tmp_path: Path) -> None:
    paths = saved(tmp_path, 2)
    bank, _ = add_images(Bank(), Guard(FakeBackend(0.7)), paths[:1], BLOCK)
    bank, _ = add_images(bank, Guard(FakeBackend(0.7)), paths[1:], ALLOW)
    write_list(bank, tmp_path / "list.csv")
    again = with_list(bank, read_list(tmp_path / "list.csv", ALLOW))
    assert set(again.embeddings) == set(bank.embeddings)
    assert {one.id: one.ceiling for one in again.examples} == {one.id: one.ceiling for one in bank.examples}


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.csv", "pdq\n" + "f" * 200_000), ("a.json", '[{"pdq": "' + "f" * 64 + '", "distance": 1e999}]')],
)
def test_a_list_that_cannot_be_read_is_an_error_with_a_cure(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=name.replace(".", r"\.")):
        read_list(tmp_path / name, BLOCK)
