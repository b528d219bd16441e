"""What is covered cannot be brought back, and nothing that was given is edited."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from nsfw_guard.actions import ACTIONS, Action, Block, Blur, Flag, Pixelate, Raise, Replace, boxes, covered
from nsfw_guard.errors import BlockedError, ConfigError, UnknownNameError
from nsfw_guard.images import put_back
from nsfw_guard.scores import Region, Scores, Severity
from nsfw_guard.verdict import Outcome, Verdict

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
    picture = functional.interpolate(bits[None, None].float(), (height, width), mode="nearest")[0]
    return picture.expand(3, -1, -1).contiguous(), bits


def attempts(outputs: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """What somebody would try who has the covered pictures: all are (H, W) guesses of brightness."""
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


def strongest(action: Action, *pictures: tuple[torch.Tensor, torch.Tensor]) -> float:
    """How far the best attempt, or its negative, gets on average over the pictures."""
    rates: dict[str, list[float]] = {}
    for picture, bits in pictures:
        for name, guess in attempts([action(picture, verdict()) for _ in range(3)]).items():
            rates.setdefault(name, []).append(cells_right(guess, bits))
    means = [sum(found) / len(found) for found in rates.values()]
    return max(max(mean, 1 - mean) for mean in means)


@pytest.mark.parametrize("action", [Blur(), Pixelate()], ids=lambda a: a.name)
@pytest.mark.parametrize("size", [(512, 512), (500, 500), (384, 683), (1000, 321), (64, 64), (97, 131)])
@pytest.mark.parametrize("cells", [CELLS, 4])
def test_no_attempt_brings_a_checkerboard_back(action, size, cells):
    picture, bits = board(*size, cells)

    # The board and its negative: who cannot tell them apart has learnt nothing.
    assert strongest(action, (picture, bits), (1 - picture, 1 - bits)) <= 0.60


@pytest.mark.parametrize("action", [Blur(), Pixelate()], ids=lambda a: a.name)
def test_no_attempt_brings_random_cells_back(action):
    assert strongest(action, *(board(480, 480, random=seed) for seed in range(6))) <= 0.60


@pytest.mark.parametrize("action", [Blur(), Pixelate()], ids=lambda a: a.name)
def test_a_checkerboard_under_a_region_is_gone_too(action):
    picture = torch.full((3, 400, 600), 0.3)
    inner, bits = board(160, 200)
    picture[:, 100:260, 150:350] = inner

    made = action(picture, verdict(Region(0.25, 0.25, 350 / 600, 0.65, "red")))

    found = {n: cells_right(g, bits) for n, g in attempts([made[:, 100:260, 150:350]]).items()}
    assert all(0.40 <= rate <= 0.60 for rate in found.values()), found
    assert torch.equal(made[:, :80], picture[:, :80])
    assert torch.equal(made[:, :, 380:], picture[:, :, 380:])


def test_a_weak_blur_fails_the_same_attempts():
    # The attack works: it is the strength that defeats it.
    picture, bits = board(512, 512, 4)
    assert strongest(Blur(strength=0.1), (picture, bits), (1 - picture, 1 - bits)) > 0.9


@pytest.mark.parametrize("name", sorted(set(ACTIONS) - {"raise"}))
@pytest.mark.parametrize("size", [(1, 1), (1, 60), (7, 5), (64, 48)])
def test_actions_keep_shape_range_and_the_given_frame(name, size):
    frame = torch.rand(3, *size)
    before = frame.clone()

    made = Action.of(name)(frame, verdict())

    assert made.shape == frame.shape
    assert made.dtype == frame.dtype
    assert 0.0 <= float(made.min()) <= float(made.max()) <= 1.0
    assert torch.equal(frame, before)


@pytest.mark.parametrize("name", sorted(set(ACTIONS) - {"raise"}))
def test_allowed_pictures_beside_a_covered_one_keep_every_bit(name):
    frames = torch.rand(3, 3, 20, 30)
    before = frames.clone()
    made = put_back(frames, {1: covered(frames[1], verdict(), Action.of(name))})

    assert torch.equal(made[[0, 2]], before[[0, 2]])
    assert torch.equal(frames, before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_stay_what_they_are(dtype):
    frame = torch.rand(3, 20, 30).to(dtype)
    assert all(Action.of(n)(frame, verdict()).dtype == dtype for n in set(ACTIONS) - {"raise"})


def test_strength_is_relative_to_the_short_side():
    small, large = board(128, 128)[0], board(512, 512)[0]
    small[0, :64], large[0, :256] = 1.0, 1.0
    one = Blur()(small, verdict())
    other = functional.interpolate(Blur()(large, verdict())[None], (128, 128), mode="area")[0]
    assert float((one - other).abs().max()) < 0.02


@pytest.mark.parametrize("strength", [0.0, -1.0, 1.1, float("nan")])
def test_a_strength_out_of_range_is_refused(strength):
    with pytest.raises(ConfigError, match=r"from 0\.1"):
        Blur(strength=strength)


def test_block_has_a_colour():
    made = Block(colour=(0.25, 0.5, 0.75))(torch.rand(3, 4, 5), verdict())
    assert made[:, 0, 0].tolist() == [0.25, 0.5, 0.75]
    assert len(made.flatten(1).unique(dim=1).t()) == 1


def test_raise_carries_the_verdict():
    with pytest.raises(BlockedError, match=r"red 0\.900") as caught:
        Raise()(torch.rand(3, 4, 5), verdict())
    assert caught.value.verdicts[0].category == "red"


def test_replace_takes_a_picture_of_ones_own(tmp_path):
    from PIL import Image

    Image.new("RGB", (30, 20), (51, 102, 153)).save(tmp_path / "own.png")
    made = Replace(picture=tmp_path / "own.png")(torch.rand(3, 12, 9), verdict())
    assert (made[:, 5, 5] * 255).round().tolist() == [51, 102, 153]
    assert made.shape == (3, 12, 9)


def test_an_unknown_action_names_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'pixelate'"):
        Action.of("pixellate")


def test_regions_are_covered_outwards_with_a_margin():
    ((top, left, bottom, right),) = boxes(verdict(Region(0.2, 0.4, 0.6, 0.8, "red")), 100, 100)
    assert (top, left, bottom, right) == (38, 18, 82, 62)


def test_regions_of_other_categories_are_left_alone():
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
def test_what_has_no_region_is_covered_whole(regions, flags):
    assert boxes(verdict(*regions, flags=flags), 50, 70) == [(0, 0, 50, 70)]


def test_boxes_over_the_edge_are_covered_to_the_edge():
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
def test_an_action_that_fails_gives_a_solid_picture(how, caplog):
    made = covered(torch.rand(3, 9, 9), verdict(), Broken(how))
    assert made.unique().tolist() == [0.0]
    assert "a solid" in caplog.text


@pytest.mark.parametrize("name", sorted(ACTIONS))
def test_an_error_is_a_solid_picture_whatever_the_action(name):
    made = covered(torch.rand(3, 9, 9), verdict(outcome=Outcome.ERROR), Action.of(name))
    assert made.unique().tolist() == [0.0]


def test_a_held_picture_is_never_shown_by_flag():
    assert covered(torch.rand(3, 9, 9), verdict(), Flag()).unique().tolist() == [0.0]


def test_an_action_must_say_how_it_covers():
    with pytest.raises(TypeError, match="define cover"):
        Action()(torch.rand(3, 4, 4), verdict())
