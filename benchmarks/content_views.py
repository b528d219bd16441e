"""What `views="content"` finds in borders, under letterbox bars and in collages, and what it costs beside `cover`.

python benchmarks/content_views.py [--json] [--images N]

Scenes of the shapes world, drawn by a fixed seed and judged by `demo-shapes`: a red disc is unsafe. An image is found
when it is blocked at the record's thresholds; a false alarm is the same arrangement of harmless scenes, blocked.
"Matched" raises the threshold of the further looks until no more harmless images are blocked than by `cover`. Promised
is what is found in each arrangement, all colours together. With --json only the RESULT line.
"""

from __future__ import annotations

import argparse
import contextlib
import io
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from common import finish, machine, medians, table  # first: it sets the threads

import numpy as np
import torch
from PIL import Image

from nsfw_guard.backends.registry import load_model
from nsfw_guard.demo import shapes
from nsfw_guard.imaging.frames import Frames

COUNT = 60  # images a row, and as many harmless ones
SIDE = 512
WAYS = ("cover", "tiles(2)", "content")
EXTRA = {"tiles(2)": "tile", "content": "content"}  # the kind of the looks that are not those of cover
SEED = 20261130
WANTED = 0.95
QUALITY = 85  # of the JPEG that every image has been
COLOURS = {
    "white": (255, 255, 255), "black": (0, 0, 0), "blue": (30, 60, 120), "grey": (128, 128, 128),
    "unsafe": shapes.COLOURS["red"],
}  # fmt: skip

Draw = Callable[[np.random.Generator, bool], Image.Image]
Scored = list[dict[str, float]]  # the highest score of each image, by kind of view


def scene(rng: np.random.Generator, unsafe: bool, side: int) -> Image.Image:
    """A square scene with a red disc, or without one."""
    while True:
        drawn = shapes.random_scene(rng, shapes=int(rng.integers(1, 3)))
        if (shapes.severity(drawn) > 0) == unsafe:
            return shapes.draw(drawn, side=side, rng=rng)


def bordered(rng: np.random.Generator, unsafe: bool, *, share: float, colour: str) -> Image.Image:
    """The scene anywhere in an image of one colour, which is `share` of the side larger."""
    image, side = Image.new("RGB", (SIDE, SIDE), COLOURS[colour]), round(SIDE * (1 - share))
    left, top = (int(at) for at in rng.integers(0, SIDE - side + 1, 2))
    image.paste(scene(rng, unsafe, side), (left, top))
    return image


def letterbox(rng: np.random.Generator, unsafe: bool, *, share: float, colour: str) -> Image.Image:
    """The scene and a harmless one side by side between two bars, which are `share` of the side."""
    image, side = Image.new("RGB", (SIDE, SIDE), COLOURS[colour]), round(SIDE * (1 - share))
    top = (SIDE - side) // 2
    places = [0, SIDE - side]
    rng.shuffle(places)
    image.paste(scene(rng, False, side), (places[0], top))
    image.paste(scene(rng, unsafe, side), (places[1], top))
    return image.transpose(Image.Transpose.ROTATE_90) if rng.random() < 0.5 else image


def collage(rng: np.random.Generator, unsafe: bool, *, cells: int, colour: str) -> Image.Image:
    """The scene in one of `cells` by `cells` places, harmless ones in the others, with gutters of 2% to 4%."""
    gap, at = round(SIDE * rng.uniform(0.02, 0.04)), int(rng.integers(cells * cells))
    side = (SIDE - (cells - 1) * gap) // cells
    image = Image.new("RGB", (side * cells + gap * (cells - 1),) * 2, COLOURS[colour])
    for i in range(cells * cells):
        image.paste(scene(rng, unsafe and i == at, side), (i % cells * (side + gap), i // cells * (side + gap)))
    return image


ROWS: Mapping[str, Draw] = {
    "the whole image": partial(scene, side=SIDE),
    **{
        f"border {share:.0%} {colour}": partial(bordered, share=share, colour=colour)
        for share in (0.1, 0.3, 0.5, 0.6)
        for colour in ("white", "black", "blue", "unsafe")
    },
    **{
        f"bars {share:.0%} {colour}": partial(letterbox, share=share, colour=colour)
        for share in (0.3, 0.5)
        for colour in ("white", "black", "unsafe")
    },
    **{
        f"collage {n} x {n} {colour}": partial(collage, cells=n, colour=colour)
        for n in (2, 3, 4)
        for colour in ("white", "black", "grey")
    },
}


GROUPS = (
    *(f"border {share}%" for share in (10, 30, 50, 60)), "bars 30%", "bars 50%",
    *(f"collage {n} x {n}" for n in (2, 3, 4)),
)  # fmt: skip


def pixels(image: Image.Image) -> torch.Tensor:
    """The image as it is read from a JPEG file. Shape: uint8 (1, 3, H, W)."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY)
    with Image.open(file) as saved:
        return torch.from_numpy(np.array(saved.convert("RGB"))).permute(2, 0, 1)[None]


def scored(backend: object, images: list[torch.Tensor]) -> Scored:
    """The highest score of each image in each kind of view."""
    rows: Scored = []
    for scores in backend.score([Frames(image) for image in images]):  # type: ignore[attr-defined]
        assert not scores.fault
        of_kinds: dict[str, float] = {}
        for view in scores.views:
            score = max(p for levels in view.levels.values() for p in levels.values())
            of_kinds[view.view.kind] = max(of_kinds.get(view.view.kind, 0.0), score)
        rows.append(of_kinds)
    return rows


def flagged(images: Scored, cuts: Mapping[str, float]) -> int:
    """How many images have a score at or above the threshold of its kind."""
    return sum(any(score >= cuts[kind] for kind, score in image.items()) for image in images)


def matched(images: Scored, cuts: Mapping[str, float], kind: str, most: int) -> dict[str, float]:
    """The thresholds, with that of a kind raised until at most so many images are flagged."""
    higher = sorted({image.get(kind, 0.0) + 1e-6 for image in images if image.get(kind, 0.0) >= cuts[kind]})
    for cut in (cuts[kind], *higher):
        raised = {**cuts, kind: cut}
        if flagged(images, raised) <= most:
            return raised
    raise AssertionError("the looks of cover flag more by themselves")


def costs(backends: Mapping[str, object]) -> Iterator[tuple[str, int, dict[str, float]]]:
    """Milliseconds an image, by way, of what each cell has and of images in which nothing is found."""
    for side in (512, 1024):
        rng = np.random.default_rng(SEED)
        scale = Image.Resampling.BICUBIC
        images = {
            "noise: no cell": torch.randint(0, 256, (1, 3, side, side), dtype=torch.uint8),
            "border 50%: one cell": pixels(bordered(rng, False, share=0.5, colour="blue").resize((side, side), scale)),
            "collage 4 x 4": pixels(collage(rng, False, cells=4, colour="blue").resize((side, side), scale)),
        }
        for name, image in images.items():
            ways = {way: partial(backend.score, [Frames(image)]) for way, backend in backends.items()}  # type: ignore[attr-defined]
            yield name, side, medians(ways, rounds=15)


def run(count: int) -> None:
    """Prints what is found, the false alarms and the costs."""
    print(machine() + "\n")
    backends = {way: load_model("demo-shapes", views=way) for way in WAYS}
    threshold = backends["cover"].spec.thresholds["default"]
    cuts = {"center": threshold.block, **threshold.views}
    bad: dict[str, dict[str, Scored]] = {way: {} for way in WAYS}
    good: dict[str, Scored] = {way: [] for way in WAYS}
    alarms: dict[str, dict[str, int]] = {}
    for number, (name, draw) in enumerate(ROWS.items()):
        rng = np.random.default_rng([SEED, number])
        images = {unsafe: [pixels(draw(rng, unsafe)) for _ in range(count)] for unsafe in (True, False)}
        harmless = {way: scored(backend, images[False]) for way, backend in backends.items()}
        alarms[name] = {way: flagged(harmless[way], cuts) for way in WAYS}
        for way, backend in backends.items():
            bad[way][name] = scored(backend, images[True])
            good[way] += harmless[way]
    most = flagged(good["cover"], cuts)
    raised = {way: matched(good[way], cuts, kind, most) for way, kind in EXTRA.items()}
    shares = {
        name: {
            **{way: flagged(bad[way][name], cuts) / count for way in WAYS},
            **{f"{way}, matched": flagged(bad[way][name], raised[way]) / count for way in EXTRA},
        }
        for name in ROWS
    }
    columns = list(next(iter(shares.values())))
    table(
        ("where the unsafe image is", *columns, "false alarms: " + " / ".join(WAYS)),
        [
            (name, *(f"{share:.3f}" for share in one.values()), " / ".join(str(alarms[name][way]) for way in WAYS))
            for name, one in shares.items()
        ],
    )
    total = {way: flagged(good[way], cuts) for way in WAYS}
    table(
        (f"of {len(good['cover'])} harmless images", "false alarms", "threshold", "matched threshold"),
        [
            (way, total[way], cuts[EXTRA[way]] if way in EXTRA else cuts["center"],
             f"{raised[way][EXTRA[way]]:.4f}" if way in EXTRA else "")
            for way in WAYS
        ],
    )  # fmt: skip
    spent = list(costs(backends))
    table(
        ("one image, one thread", "side", *(f"{way}, ms" for way in WAYS)), [(n, s, *t.values()) for n, s, t in spent]
    )
    pooled = {
        group: {
            way: float(np.mean([one[way] for name, one in shares.items() if name.startswith(group)])) for way in columns
        }
        for group in GROUPS
    }
    table(
        ("all colours together", *columns),
        [(g, *(f"{share:.3f}" for share in one.values())) for g, one in pooled.items()],
    )
    broken = [
        f"{way} misses {1 - one[way]:.3f} of: {group}"
        for group, one in pooled.items()
        for way in ("content", "content, matched")
        if one[way] < WANTED
    ]
    result = {
        "images": count, "shares": shares, "pooled": pooled, "alarms": total, "harmless": len(good["cover"]),
        "matched": {way: raised[way][kind] for way, kind in EXTRA.items()},
        "ms": {f"{name}, {side}": times for name, side, times in spent},
    }  # fmt: skip
    finish("content_views", result, broken)


def main() -> None:
    """Reads the arguments and runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print only the RESULT line")
    parser.add_argument("--images", type=int, default=COUNT, help=f"images a row (default: {COUNT})")
    args = parser.parse_args()
    if not args.json:
        run(args.images)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            run(args.images)
    finally:
        print(printed.getvalue().splitlines()[-1])


if __name__ == "__main__":
    main()
