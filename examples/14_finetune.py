"""Teaches the last layer of a model from twenty images a class, in seconds, and guards with it."""

import tempfile
from pathlib import Path

import numpy as np

from nsfw_guard import Guard, Label, load_model
from nsfw_guard.demo.shapes import draw, parse
from nsfw_guard.tools.finetuning.finetune import finetune
from nsfw_guard.tools.finetuning.recipe import Part, Recipe

GROUNDS, SIZES = ("white", "black", "grey", "cream"), ("small ", "", "large ", "")
rng, pairs = np.random.default_rng(3), []
with tempfile.TemporaryDirectory() as home:  # in earnest: your own images
    for number in range(20):
        ground, size = GROUNDS[number % 4], SIZES[number // 4 % 4]
        for thing, label in (("red disc", "red-disc"), ("green square", "calm")):
            path = Path(home, f"{label}-{number}.png")
            draw(parse(f"a {size}{thing} on {ground}"), side=64, rng=rng).save(path)
            pairs.append((str(path), label))

    start, meanings = load_model("demo-shapes"), {"red-disc": Label("discs"), "calm": None}
    result = finetune(start, pairs, Path(home, "mine"), Recipe(part=Part.HEAD), meanings=meanings, fresh=True)
    print("right, of images that it did not learn from:", result.accuracy)

    guard = Guard.from_pretrained(Path(home, "mine"))
    image = draw(parse("a large red disc on sky"))
    verdict = guard.check([image])[0]
    print("a red disc is", verdict.outcome.name, "as", verdict.category, "| self-test", guard.state["self_test"])
