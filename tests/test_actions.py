"""What is covered cannot be brought back, and nothing that was given is edited."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from nsfw_guard.actions import ACTIONS, Action, Block, Blur, Flag, Pixelate, Raise, Replace, boxes, covered
from nsfw_guard.errors import BlockedError, ConfigError, UnknownNameError
from nsfw_guard.imaging.put_back import put_back
from nsfw_guard.scores import Region, Scores, Severity
from nsfw_guard.verdict import Outcome, Verdict
from tests.matrix import latin

CELLS = 16


def verdict(*regions: Region, outcome: Outcome = Outcome.BLOCK, flags: tuple[str, ...] = ("red",)) -> Verdict:
    scores = Scores.single({"red": {Severity.HIGH: 0.9}}, regions=regions)
    return Verdict(outcome, "red 0.900 >= 0.5 (full view)", category="red", flags=flags, scores=scores)


def board(
    height: int, width: int, cells: int = CELLS, *, random: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """A board of black and white cells, and its cells. Shape: (3, height, width), (cells, cells)."""
    bits = (torch.arange(cells)[:, None] + torch.arange(cells)) % 2
    if random is not None:
        bits = torch.randint(0, 2, (cells, cells), generator=torch.Generator().manual_seed(random))
    image = functional.interpolate(bits[None, None].float(), (height, width), mode="nearest")[0]
    return image.expand(3, -1, -1).contiguous(), bits


def attempts(outputs: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """What somebody would try who has the covered images: all are (H, W) guesses of brightness."""
    saved = [(o * 255).round() / 255 for o in outputs]
    mean = torch.stack(saved).mean(0).mean(0)
    small = functional.interpolate(mean[None, None], (CELLS * 2, CELLS * 2), mode="area")
    tries = {"as it is": mean, "resized": functional.interpolate(small, mean.shape, mode="bicubic")[0, 0]}
    for size in (3, 9, 31, 61):
        low = functional.avg_pool2d(functional.pad(mean[None, None], (size // 2,) * 4, mode="replicate"), size, 1)[0, 0]
        tries[f"sharpened {size}"] = mean + 20 * (mean - low)
        tries[f"edges {size}"] = mean - low
    return tries


def cells_right(guess: torch.Tensor, bits: torch.Tensor) -> float:
    """The share of cells that a guess gets right; half of them is chance."""
    cells = functional.interpolate(guess[None, None], bits.shape, mode="area")[0, 0]
    return ((cells > cells.median()) == bits.bool()).float().mean().item()


def strongest(action: Action, *images: tuple[torch.Tensor, torch.Tensor]) -> float:
    """How far the best attempt, or its negative, gets on average over the images."""
    rates: dict[str, list[float]] = {}
    for image, bits in images:
        for name, guess in attempts([action(image, verdict()) for _ in range(3)]).items():
            rates.setdefault(name, []).append(cells_right(guess, bits))
    means = [sum(values) / len(values) for values in rates.values()]
    return max(max(mean, 1 - mean) for mean in means)


SIZES = [(512, 512), (500, 500), (384, 683), (1000, 321), (64, 64), (97, 131)]


@pytest.mark.parametrize(("action", "size", "cells"), latin([Blur(), Pixelate()], SIZES, [CELLS, 4]), ids=str)
def test_no_attempt_restores_a_checkerboard(action, size, cells) -> None:
    image, bits = board(*size, cells)

    # The board and its negative: who cannot tell them apart has learnt nothing.
    assert strongest(action, (image, bits), (1 - image, 1 - bits)) <= 0.60


@pytest.mark.parametrize("action", [Blur(), Pixelate()], ids=lambda a: a.name)
def test_no_attempt_restores_random_cells(action) -> None:
    assert strongest(action, *(board(480, 480, random=seed) for seed in range(6))) <= 0.60


@pytest.mark.parametrize("action", [Blur(), Pixelate()], ids=lambda a: a.name)
def test_a_checkerboard_under_a_region_is_gone_too(action) -> None:
    image = torch.full((3, 400, 600), 0.3)
    inner, bits = board(160, 200)
    image[:, 100:260, 150:350] = inner

    result = action(image, verdict(Region(0.25, 0.25, 350 / 600, 0.65, "red")))

    rates = {n: cells_right(g, bits) for n, g in attempts([result[:, 100:260, 150:350]]).items()}
    assert all(0.40 <= rate <= 0.60 for rate in rates.values()), rates
    assert torch.equal(result[:, :80], image[:, :80])
    assert torch.equal(result[:, :, 380:], image[:, :, 380:])


def test_a_weak_blur_fails_the_same_attempts() -> None:
    # The attack works: it is the strength that defeats it.
    image, bits = board(512, 512, 4)
    assert strongest(Blur(strength=0.1), (image, bits), (1 - image, 1 - bits)) > 0.9


@pytest.mark.parametrize("name", sorted(set(ACTIONS) - {"raise"}))
@pytest.mark.parametrize("size", [(1, 1), (1, 60), (7, 5), (64, 48)])
def test_actions_keep_shape_range_and_the_given_frame(name, size) -> None:
    frame = torch.rand(3, *size)
    before = frame.clone()

    result = Action.of(name)(frame, verdict())

    assert result.shape == frame.shape
    assert result.dtype == frame.dtype
    assert 0.0 <= float(result.min()) <= float(result.max()) <= 1.0
    assert torch.equal(frame, before)


@pytest.mark.parametrize("name", sorted(set(ACTIONS) - {"raise"}))
def test_allowed_images_beside_a_covered_one_keep_every_bit(name) -> None:
    frames = torch.rand(3, 3, 20, 30)
    before = frames.clone()
    result = put_back(frames, {1: covered(frames[1], verdict(), Action.of(name))})

    assert torch.equal(result[[0, 2]], before[[0, 2]])
    assert torch.equal(frames, before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_stay_what_they_are(dtype) -> None:
    frame = torch.rand(3, 20, 30).to(dtype)
    assert all(Action.of(n)(frame, verdict()).dtype == dtype for n in set(ACTIONS) - {"raise"})


def test_strength_is_relative_to_the_short_side() -> None:
    small, large = board(128, 128)[0], board(512, 512)[0]
    small[0, :64], large[0, :256] = 1.0, 1.0
    one = Blur()(small, verdict())
    other = functional.interpolate(Blur()(large, verdict())[None], (128, 128), mode="area")[0]
    assert float((one - other).abs().max()) < 0.02


@pytest.mark.parametrize("strength", [0.0, -1.0, 1.1, float("nan")])
def test_a_strength_out_of_range_is_refused(strength) -> None:
    with pytest.raises(ConfigError, match=r"from 0\.1"):
        Blur(strength=strength)


def test_block_has_a_colour() -> None:
    result = Block(colour=(0.25, 0.5, 0.75))(torch.rand(3, 4, 5), verdict())
    assert result[:, 0, 0].tolist() == [0.25, 0.5, 0.75]
    assert len(result.flatten(1).unique(dim=1).t()) == 1


def test_raise_carries_the_verdict() -> None:
    with pytest.raises(BlockedError, match=r"red 0\.900") as caught:
        Raise()(torch.rand(3, 4, 5), verdict())
    assert caught.value.verdicts[0].category == "red"


def test_replace_takes_a_custom_image(tmp_path) -> None:
    from PIL import Image

    Image.new("RGB", (30, 20), (51, 102, 153)).save(tmp_path / "own.png")
    result = Replace(image=tmp_path / "own.png")(torch.rand(3, 12, 9), verdict())
    assert (result[:, 5, 5] * 255).round().tolist() == [51, 102, 153]
    assert result.shape == (3, 12, 9)


def test_an_unknown_action_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'pixelate'"):
        Action.of("pixellate")


def test_regions_are_covered_outwards_with_a_margin() -> None:
    ((top, left, bottom, right),) = boxes(verdict(Region(0.2, 0.4, 0.6, 0.8, "red")), 100, 100)
    assert (top, left, bottom, right) == (38, 18, 82, 62)


def test_regions_of_other_categories_are_left_alone() -> None:
    red, blue = Region(0.0, 0.0, 0.2, 0.2, "red"), Region(0.6, 0.6, 0.8, 0.8, "blue")
    assert boxes(verdict(red, blue), 100, 100) == [red.pixels(100, 100, margin=0.05)]
    assert len(boxes(verdict(red, blue, flags=("blue", "red")), 100, 100)) == 2


@pytest.mark.parametrize(
    ("regions", "flags"),
    [
        ((), ("red",)),  # no region at all
        ((Region(0, 0, 0.5, 0.5, "blue"),), ("red",)),  # only of a category that was not flagged
        ((Region(0, 0, 0.5, 0.5, "red"),), ("blue", "red")),  # a flagged category has none
        ((Region(0, 0, 0.5, 0.5, "red"),), ()),  # nobody says what was flagged
    ],
)
def test_an_image_without_regions_is_covered_whole(regions, flags) -> None:
    assert boxes(verdict(*regions, flags=flags), 50, 70) == [(0, 0, 50, 70)]


def test_boxes_over_the_edge_are_covered_to_the_edge() -> None:
    (box,) = boxes(verdict(Region(-0.3, -0.1, 0.5, 1.7, "red")), 50, 70)
    assert (box[0], box[1], box[2]) == (0, 0, 50)


class Broken(Action):
    """Fails on purpose."""

    name = "broken"

    def __init__(self, how: str) -> None:
        self.how = how

    def __call__(self, frame: torch.Tensor, verdict: Verdict) -> torch.Tensor:
        if self.how == "raises":
            raise RuntimeError("no")
        return {"nan": frame * float("nan"), "small": frame[:, :1], "shows": frame}[self.how]


@pytest.mark.parametrize("how", ["raises", "nan", "small"])
def test_an_action_that_fails_gives_a_solid_image(how, caplog) -> None:
    result = covered(torch.rand(3, 9, 9), verdict(), Broken(how))
    assert result.unique().tolist() == [0.0]
    assert "a solid" in caplog.text


@pytest.mark.parametrize("name", sorted(ACTIONS))
def test_an_error_is_a_solid_image_whatever_the_action(name) -> None:
    result = covered(torch.rand(3, 9, 9), verdict(outcome=Outcome.ERROR), Action.of(name))
    assert result.unique().tolist() == [0.0]


def test_a_held_image_is_never_shown_by_flag() -> None:
    assert covered(torch.rand(3, 9, 9), verdict(), Flag()).unique().tolist() == [0.0]


def test_an_action_must_declare_how_it_covers() -> None:
    with pytest.raises(TypeError, match="define cover"):
        Action()(torch.rand(3, 4, 4), verdict())


# ---- what is drawn, computed again by hand


def shares(length: int, parts: int) -> torch.Tensor:
    """How much of each of `parts` equal parts each pixel is. Shape: (parts, length)."""
    weights = torch.zeros(parts, length)
    for i in range(parts):
        for x in range(length):
            weights[i, x] = max(0.0, min((x + 1) * parts / length, i + 1) - max(x * parts / length, i))
    return weights


def lines(length: int, parts: int) -> torch.Tensor:
    """How much of each of `parts` values is in each pixel, in straight lines between their centres. (length, parts)."""
    weights = torch.zeros(length, parts)
    for x in range(length):
        at = min(max((x + 0.5) * parts / length - 0.5, 0.0), parts - 1.0)
        weights[x, int(at)] += 1 - at + int(at)
        weights[x, min(int(at) + 1, parts - 1)] += at - int(at)
    return weights


def averages(patch: torch.Tensor, strength: float) -> torch.Tensor:
    """The colours that are kept: averages of areas, in sixteenths. Shape: (3, rows, columns)."""
    _, height, width = patch.shape
    rows, columns = (max(1, round(side / (strength * min(height, width)))) for side in (height, width))
    return ((shares(height, rows) @ patch.clamp(0, 1) @ shares(width, columns).t()) * 16).round() / 16


def between(values: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Values drawn larger. Shape: (3, height, width)."""
    return lines(height, values.shape[1]) @ values @ lines(width, values.shape[2]).t()


def blocks(values: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Twelve blocks along the short side, each raised or lowered by up to a twentieth. Shape: (3, height, width)."""
    rows, columns = (max(1, round(12 * side / min(height, width))) for side in (height, width))
    down, across = torch.arange(rows)[:, None], torch.arange(columns)
    small = between(values, rows, columns) + (((3 * down + 5 * across) % 7) - 3) / 60
    ys, xs = torch.arange(height) * rows // height, torch.arange(width) * columns // width
    return small[:, ys][:, :, xs].clamp(0, 1)


DRAWN = {
    "noise": lambda shape: torch.rand(3, *shape, generator=torch.Generator().manual_seed(5)),
    "out of range": lambda shape: torch.rand(3, *shape, generator=torch.Generator().manual_seed(6)) * 4 - 1.5,
    "black": lambda shape: torch.zeros(3, *shape),
    "white": lambda shape: torch.ones(3, *shape),
}


@pytest.mark.parametrize("kind", DRAWN)
@pytest.mark.parametrize("shape", [(24, 24), (13, 31), (29, 14)], ids=str)
@pytest.mark.parametrize("strength", [0.5, 0.3, 1.0])
def test_blur_and_pixelate_draw_a_few_averages_and_nothing_else(kind, shape, strength) -> None:
    frame = DRAWN[kind](shape)
    kept = averages(frame, strength)
    assert kept.shape[1] * kept.shape[2] <= 26
    washed, drawn = Blur(strength=strength)(frame, verdict()), Pixelate(strength=strength)(frame, verdict())
    assert float((washed - between(kept, *shape)).abs().max()) < 1e-5
    assert float((drawn - blocks(kept, *shape)).abs().max()) < 1e-5


def test_nan_is_averaged_as_black() -> None:
    frame = torch.full((3, 12, 12), float("nan"))
    assert Blur()(frame, verdict()).unique().tolist() == [0.0]


# ---- when a cover covers


class Given(Action):
    """Hands back this image."""

    name = "given"

    def __init__(self, image: torch.Tensor) -> None:
        self.image = image

    def __call__(self, frame: torch.Tensor, verdict: Verdict) -> torch.Tensor:
        return self.image


def with_pixels(frame: torch.Tensor, count: int, value: float) -> torch.Tensor:
    changed = frame.clone()
    changed.flatten(1)[1, :count] = value
    return changed


BOARD = board(16, 16, 4)[0]


@pytest.mark.parametrize(("count", "taken"), [(31, False), (32, True), (256, True), (0, False)])
def test_an_eighth_of_the_pixels_must_differ(count, taken) -> None:
    changed = with_pixels(BOARD, count, 0.5)
    assert torch.equal(covered(BOARD, verdict(), Given(changed)), changed if taken else torch.zeros(3, 16, 16))


@pytest.mark.parametrize(("by", "taken"), [(1 / 32, False), (1 / 32 + 2**-20, True), (1 / 64, False)])
def test_a_pixel_differs_when_a_channel_is_more_than_eight_levels_away(by, taken) -> None:
    frame = torch.zeros(3, 16, 16)
    frame[0, :8] = 0.5
    changed = frame.clone()
    changed[2] = by
    assert torch.equal(covered(frame, verdict(), Given(changed)), changed if taken else torch.zeros(3, 16, 16))


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        (1.0, 1.0), (1 + 1 / 256, 1.0), (1 + 1 / 255.5, None), (1 + 1 / 128, None), (1.5, None),
        (0.0, 0.0), (-1 / 256, 0.0), (-1 / 255.5, None), (-1 / 128, None), (-0.5, None),
    ],
)  # fmt: skip
def test_a_rounding_out_of_range_is_clipped_and_more_is_refused(value, taken) -> None:
    result = covered(BOARD * 0.5 + 0.25, verdict(), Given(torch.cat([torch.full((3, 8, 16), value), BOARD[:, 8:]], 1)))
    assert result[0, 0, 0] == (0.0 if taken is None else taken)
    assert (result.unique().tolist() == [0.0]) is (taken is None)


@pytest.mark.parametrize("shape", [(12, 40), (40, 12)], ids=str)
@pytest.mark.parametrize("part", [(0, 0, 0.5, 0.25), (0.5, 0.75, 1, 1), (0.25, 0.5, 0.5, 1)], ids=str)
def test_each_box_must_be_covered_where_it_lies(shape, part) -> None:
    frame = board(*shape, 12)[0]
    region = Region(*part, "red")
    top, left, bottom, right = region.pixels(*shape, margin=0.05)
    inside, outside = frame.clone(), torch.full_like(frame, 0.5)
    inside[:, top:bottom, left:right] = 0.5
    outside[:, top:bottom, left:right] = frame[:, top:bottom, left:right]
    assert torch.equal(covered(frame, verdict(region), Given(inside)), inside)
    assert covered(frame, verdict(region), Given(outside)).unique().tolist() == [0.0]


@pytest.mark.parametrize("shape", [(12, 40), (40, 12)], ids=str)
def test_the_whole_of_an_image_that_is_no_square_is_covered(shape) -> None:
    assert Block()(torch.rand(3, *shape) + 0.1, verdict()).unique().tolist() == [0.0]


@pytest.mark.parametrize(("step", "said"), [(0.0, False), (1 / 32, False), (1 / 32 + 2**-20, True), (0.5, True)])
def test_a_cover_equal_to_a_flat_image_is_no_fault_and_another_is_reported(step, said, caplog) -> None:
    frame = torch.zeros(3, 16, 16)
    frame[1, 3, 5] = step
    assert covered(frame, verdict(), Given(frame)).unique().tolist() == [0.0]
    assert ("shows what it had to cover" in caplog.text) is said


def test_one_box_that_shows_something_is_reported_though_the_other_is_flat(caplog) -> None:
    frame = BOARD.clone()
    frame[:, :8] = 0.5
    regions = Region(0, 0, 1, 0.4, "red"), Region(0, 0.6, 1, 1, "red")
    assert covered(frame, verdict(*regions), Given(frame)).unique().tolist() == [0.0]
    assert "the action given shows what it had to cover" in caplog.text


def test_flag_and_errors_report_no_action_fault(caplog) -> None:
    covered(BOARD, verdict(), Flag())
    covered(BOARD, verdict(outcome=Outcome.ERROR), Given(BOARD))
    assert not caplog.text


def test_raise_raises_when_covered_directly() -> None:
    with pytest.raises(BlockedError):
        covered(BOARD, verdict(), Raise())


def test_a_verdict_without_scores_covers_the_whole() -> None:
    assert boxes(Verdict(Outcome.BLOCK, "", flags=("red",)), 20, 30) == [(0, 0, 20, 30)]


def test_regions_of_no_category_are_covered_beside_those_that_were_flagged() -> None:
    red, bare = Region(0.0, 0.0, 0.25, 0.25, "red"), Region(0.5, 0.5, 0.75, 0.75)
    assert boxes(verdict(red, bare), 100, 100) == [r.pixels(100, 100, margin=0.05) for r in (red, bare)]
