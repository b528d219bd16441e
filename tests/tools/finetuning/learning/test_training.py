"""Teaching by steps: a run that was stopped goes on to the same weights."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nsfw_guard.backends.spec import Label
from nsfw_guard.errors import ConfigError, ScoringError
from nsfw_guard.tools.finetuning.classes import Classes
from nsfw_guard.tools.finetuning.learning import training
from nsfw_guard.tools.finetuning.learning.checkpoint import STATE
from nsfw_guard.tools.finetuning.learning.lesson import Lesson, Trained, hash_of
from nsfw_guard.tools.finetuning.learning.student import (
    Student,
    choose,
    from_architecture,
    last_blocks,
    numbers,
    set_training,
)
from nsfw_guard.tools.finetuning.learning.training import train
from nsfw_guard.tools.finetuning.recipe import Part, Recipe
from nsfw_guard.tools.finetuning.split import Split
from nsfw_guard.tools.finetuning.watching import Stage

EPOCH = 12  # steps
SMALL = {"img_size": 16, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 3}
CLASSES = Classes({"bright": Label("bright"), "dark": None}, (None, None), {"bright": 0, "dark": 1})
RECIPE = Recipe(part=Part.FULL, epochs=3, batch_size=8, learning_rate=3e-3, patience=0, vary=("mirror", "noise"))


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let epochs be short."""
    monkeypatch.setattr(training, "LEAST_STEPS", EPOCH)


def student(seed: int = 0) -> Student:
    return from_architecture(
        "vit_tiny_patch16_224", CLASSES, name="small", arguments=SMALL, size=None, file=None, seed=seed
    )


def lesson(count: int = 60, seed: int = 0) -> Lesson:
    """Bright and dark noise."""
    generator = torch.Generator().manual_seed(seed)
    classes = torch.arange(count) % 2
    level = torch.where(classes == 0, 150, 100)[:, None, None, None]
    pixels = (level + torch.randint(-60, 60, (count, 3, 16, 16), generator=generator)).to(torch.uint8)
    cut = count * 4 // 5
    return Lesson(pixels, torch.arange(count), classes, Split(tuple(range(cut)), tuple(range(cut, count))), "a hash")


class StoppedError(Exception):
    """The run was stopped at a step."""


def stop_at(step: int):
    def watch(stage: Stage, done: int, total: int, note: str) -> None:
        if done == step:
            raise StoppedError

    return watch


def run(folder: Path | None = None, recipe: Recipe = RECIPE, **settings: object) -> Trained:
    return train(student(), lesson(), recipe, cpu=True, folder=folder, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("settings", [{}, {"mixup": 0.4, "label_smoothing": 0.1, "ema": 0.0, "balance": 0.0}])
def test_a_run_that_was_stopped_twice_ends_with_the_weights_of_one_that_was_not(
    tmp_path: Path, settings: dict[str, float]
) -> None:
    recipe = replace(RECIPE, **settings)
    for step in (EPOCH - 3, 2 * EPOCH + 7):
        with pytest.raises(StoppedError):
            run(tmp_path, recipe, seconds=0.0, watch=stop_at(step))
    resumed = run(tmp_path, recipe, seconds=0.0)
    whole = run(recipe=recipe)
    # The step in which it stopped had not been saved: it is taken again.
    assert resumed.resumed == 2 * EPOCH + 6
    assert hash_of(resumed.net) == hash_of(whole.net)
    assert resumed.epochs == whole.epochs
    assert whole.resumed == 0


def test_a_run_begun_with_other_settings_or_images_is_not_continued(tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        run(tmp_path, seconds=0.0, watch=stop_at(5))
    others = [(lesson(), replace(RECIPE, seed=1), student()), (replace(lesson(), hash="another"), RECIPE, student()),
              (lesson(), RECIPE, student(1))]  # fmt: skip
    for images, recipe, net in others:
        with pytest.raises(ConfigError, match="begun with other images, another model or other settings"):
            train(net, images, recipe, cpu=True, folder=tmp_path)


def test_a_damaged_checkpoint_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / STATE).write_bytes(b"\x10")
    with pytest.raises(ConfigError, match=r"state\.safetensors cannot be read"):
        run(tmp_path)


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_rate() -> None:
    broken = student()
    with torch.no_grad():
        broken.net.head().bias[0] = math.nan
    with pytest.raises(ScoringError, match=r"the loss became nan at step 0: use a lower learning rate than 0\.003"):
        train(broken, lesson(), RECIPE, cpu=True)


def test_what_is_learnt_is_measured_on_other_images() -> None:
    result = run()
    assert result.epochs[result.best].accuracy >= 0.9
    assert result.epochs[0].training > result.epochs[-1].training
    assert sum(map(sum, result.epochs[0].answers)) == 12
    loss = [epoch.validation for epoch in result.epochs]
    assert result.best == loss.index(min(loss))


def test_it_stops_when_it_has_not_become_better_for_long_enough() -> None:
    noise = lesson()
    shuffled = replace(noise, classes=noise.classes[torch.randperm(60, generator=torch.Generator().manual_seed(1))])
    recipe = replace(RECIPE, epochs=30, patience=2, learning_rate=1e-2, ema=0.0)
    result = train(student(), shuffled, recipe, cpu=True)
    assert len(result.epochs) == result.best + 3 < 30


def test_the_callers_random_numbers_are_not_touched() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    run(recipe=replace(RECIPE, epochs=1))
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_last_blocks_and_what_follows_them_change_and_nothing_else() -> None:
    one = student()
    before = {name: tensor.clone() for name, tensor in one.net.state_dict().items()}
    recipe = replace(RECIPE, part=Part.LAST, blocks=1, epochs=1, ema=0.0)
    result = train(one, lesson(), recipe, cpu=True)
    changed = {name for name, tensor in result.net.state_dict().items() if not torch.equal(tensor, before[name])}
    assert {name.split(".")[1] for name in changed} == {"blocks", "norm", "head"}
    assert {name.split(".")[2] for name in changed if ".blocks." in name} == {"2"}


def test_more_blocks_than_there_are_is_an_error_that_counts_them() -> None:
    with pytest.raises(ConfigError, match="has 3 blocks, got 3"):
        last_blocks(student().net, 3)


def test_the_head_alone_is_the_smallest_part() -> None:
    net = student().net
    counts: list[int] = []
    for part in Part:
        choose(net, replace(RECIPE, part=part, blocks=1))
        counts.append(numbers(net, trained=True))
    assert counts[0] == 24 * 2 + 2
    assert counts == sorted(counts)
    assert counts[-1] == numbers(net)


def test_keeping_the_answers_of_the_model_before_holds_them() -> None:
    """A new class is taught; how the two old ones stand to each other moves less when it is to be kept."""
    first = train(student(), lesson(), RECIPE, cpu=True).net
    images = lesson()
    three = replace(images, classes=torch.where(torch.arange(60) % 5 == 0, 2, images.classes))

    def drift(keep: float) -> float:
        net = first.with_head(("bright", "dark", "new"), (0, 1, None))
        one = Student(net, student().spec, (0, 1, None), first.with_head(("bright", "dark"), (0, 1)))
        recipe = replace(RECIPE, keep=keep, epochs=1, ema=0.0)
        taught = train(one, three, recipe, cpu=True).net.eval()
        values = one.normalise(images.pixels)
        with torch.no_grad():
            both: list[Tensor] = [net(values)[:, :2].softmax(1) for net in (taught, first.eval())]
        return float((both[0] - both[1]).abs().mean())

    assert drift(5.0) < drift(0.0) * 0.7


def test_dropout_is_active_in_what_may_change_and_only_there() -> None:
    arguments = {**SMALL, "drop_rate": 0.5, "proj_drop_rate": 0.5}
    net = from_architecture(
        "vit_tiny_patch16_224", CLASSES, name="x", arguments=arguments, size=None, file=None, seed=0
    ).net
    choose(net, RECIPE)
    set_training(net)
    assert all(module.training for module in net.modules())
    choose(net, replace(RECIPE, part=Part.LAST, blocks=1))
    set_training(net)
    blocks = net.model.blocks  # type: ignore[union-attr]
    assert [all(module.training for module in block.modules()) for block in blocks] == [False, False, True]  # type: ignore[union-attr]
    assert not any(module.training for module in blocks[0].modules())  # type: ignore[index, union-attr]


def test_a_size_that_a_network_does_not_take_is_an_error_that_names_it() -> None:
    with pytest.raises(ConfigError, match="does not take an image of 64 x 64"):
        from_architecture("vit_tiny_patch16_224", CLASSES, name="x", arguments=SMALL, size=64, file=None, seed=0)
