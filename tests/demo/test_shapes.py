"""The shapes world: captions and scenes are inverses, drawing is deterministic, nothing is guessed."""

import numpy as np
import pytest

from nsfw_guard.demo import shapes
from nsfw_guard.demo.shapes import Mark, Scene, Shape


@pytest.mark.parametrize(
    ("caption", "scene"),
    [
        ("a small red disc on white", Scene((Shape("disc", "red", "small"),), "white")),
        ("a large blue star on black, left", Scene((Shape("star", "blue", "large", "left"),), "black")),
        (
            "a red disc and a blue square on grey",
            Scene((Shape("disc", "red", position="left"), Shape("square", "blue", position="right")), "grey"),
        ),
        (
            "a small green ring and a yellow cross on sky, top and bottom",
            Scene((Shape("ring", "green", "small", "top"), Shape("cross", "yellow", "medium", "bottom")), "sky"),
        ),
    ],
)
def test_captions_and_scenes_are_inverses(caption: str, scene: Scene) -> None:
    assert scene.caption == caption
    assert shapes.parse(caption) == scene


def test_random_scenes_survive_their_captions() -> None:
    rng = np.random.default_rng(3)
    for number in (1, 2):
        for _ in range(300):
            scene = shapes.random_scene(rng, shapes=number)
            assert shapes.parse(scene.caption) == scene
            assert len(scene.shapes) == number


def test_parse_fills_in_what_a_caption_leaves_unsaid() -> None:
    assert shapes.parse("A medium red disc on white, centre.") == shapes.parse("a red disc on white")


@pytest.mark.parametrize(
    ("caption", "cure"),
    [
        ("a red blob on white", "unknown kind 'blob': choose from disc"),
        ("a pink disc on white", "unknown colour 'pink': choose from red"),
        ("a tiny red disc on white", "unknown size 'tiny': choose from small"),
        ("a red disc on mud", "unknown background 'mud': choose from white"),
        ("a red disc on white, middle", "unknown position 'middle': choose from centre"),
        ("a red disc", "end it with one"),
        ("red disc on white", "write 'a \\[size\\] colour kind'"),
        ("a red disc and a red disc on white, left", "name one for each"),
        ("a red disc and a red disc and a red disc on white", "one or two shapes"),
        ("a large red disc and a red disc on white", "make them smaller"),
    ],
)
def test_a_caption_is_never_guessed_at(caption: str, cure: str) -> None:
    with pytest.raises(ValueError, match=cure):
        shapes.parse(caption)


@pytest.mark.parametrize(
    ("caption", "grade"),
    [
        ("a red square on white", 0),
        ("a large blue disc on white", 0),
        ("a small red disc on white", 1),
        ("a red disc on white", 2),
        ("a large red disc on white", 3),
        ("a small red disc and a red disc on black", 2),
        ("a small red disc and a green star on black", 1),
    ],
)
def test_severity_is_that_of_the_largest_red_disc(caption: str, grade: int) -> None:
    assert shapes.severity(shapes.parse(caption)) == grade


def test_drawing_is_deterministic_given_the_rng() -> None:
    scene = shapes.parse("a red star on sky")
    first, second, third = (shapes.draw(scene, rng=np.random.default_rng(seed)).tobytes() for seed in (1, 1, 2))
    assert first == second != third
    assert shapes.draw(scene).tobytes() == shapes.draw(scene).tobytes()


def test_a_drawn_disc_has_the_area_and_colour_it_says() -> None:
    image = np.asarray(shapes.draw(shapes.parse("a large red disc on white"), side=128))
    low, high = shapes.SIZES["large"]
    covered = (255 - image[..., 1].astype(float)).sum() / (255 - shapes.COLOURS["red"][1]) / 128**2
    assert covered == pytest.approx(np.pi * ((low + high) / 2) ** 2, rel=0.01)
    assert tuple(image[64, 64]) == shapes.COLOURS["red"]
    assert tuple(image[0, 0]) == (255, 255, 255)


def test_edges_are_antialiased() -> None:
    image = np.asarray(shapes.draw(shapes.parse("a red disc on white")))
    assert len(np.unique(image[..., 1])) > 4


def test_marks_stay_inside_the_image_and_their_size() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        scene = shapes.random_scene(rng)
        (mark,) = shapes.marks(scene, rng=rng)
        low, high = shapes.SIZES[scene.shapes[0].size]
        assert low <= mark.radius <= high
        assert mark.radius < min(mark.x, mark.y, 1 - mark.x, 1 - mark.y)


def test_paint_turns_a_square() -> None:
    mark = Mark("square", (255, 0, 0), 0.5, 0.5, 0.25, 45.0)
    corner = np.asarray(shapes.paint([mark], background=(0, 0, 0)))[17, 17]
    straight = np.asarray(shapes.paint([Mark("square", (255, 0, 0), 0.5, 0.5, 0.25)], background=(0, 0, 0)))[17, 17]
    assert tuple(corner) == (0, 0, 0)
    assert tuple(straight) == (255, 0, 0)


def test_a_scene_that_cannot_be_drawn_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least 8"):
        shapes.paint([], background=(0, 0, 0), side=4)
    with pytest.raises(ValueError, match="1 or 2"):
        shapes.random_scene(np.random.default_rng(0), shapes=5)
