"""Teaches models of the shapes world by `nsfw-guard finetune`, and measures them on images drawn anew.

python benchmarks/teach.py [--draws 5] [--no-kill]

A network that has never seen a blue star learns 29 kinds of shapes from random weights. Its last layer learns "a red
disc is unsafe" from twenty images of each label, and then "a blue star is unsafe" from twenty more beside ordinary
images, none of them a red disc; both several times, each from other images. The last layer of demo-shapes, which knows
red discs already, learns from the same images. The first run is made once more, killed
in the middle and started again.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import finish, machine, table  # first: it sets the threads

import numpy as np

from nsfw_guard import Guard, Outcome
from nsfw_guard.demo import shapes

LEAST_FULL, LEAST_PROBE, MOST_LOST = 0.99, 0.95, 0.01
RARE = {"red-disc": ("disc", "red"), "blue-star": ("star", "blue")}
Name = Callable[[shapes.Shape], str]


def kind_of(shape: shapes.Shape) -> str:
    """The name of a kind of shape."""
    return f"{shape.colour}-{shape.kind}"


def label_of(shape: shapes.Shape) -> str:
    """What both policies say of a shape."""
    return kind_of(shape) if kind_of(shape) in RARE else "other"


def draw(folder: Path, counts: dict[str, int], *, seed: int) -> Path:
    """Draw so many scenes of one shape for each label."""
    rng = np.random.default_rng(seed)
    for label, count in counts.items():
        (folder / label).mkdir(parents=True)
        for number in range(count):
            (shape,) = (scene := shapes.random_scene(rng)).shapes
            while label_of(shape) != label and label not in RARE:
                (shape,) = (scene := shapes.random_scene(rng)).shapes
            if label in RARE:
                kind, colour = RARE[label]
                scene = replace(scene, shapes=(replace(shape, kind=kind, colour=colour),))
            shapes.draw(scene, side=64, rng=rng).save(folder / label / f"{number}.png")
    return folder


def draw_kinds(folder: Path, count: int, *, seed: int) -> Path:
    """Draw scenes of every kind but the blue star, each into the folder of its kind."""
    rng = np.random.default_rng(seed)
    while count:
        scene = shapes.random_scene(rng)
        kind = kind_of(scene.shapes[0])
        if kind == "blue-star":
            continue
        count -= 1
        (folder / kind).mkdir(parents=True, exist_ok=True)
        shapes.draw(scene, side=64, rng=rng).save(folder / kind / f"{count}.png")
    return folder


def command(*words: str | Path) -> list[str]:
    """The command line of a run."""
    return [sys.executable, "-m", "nsfw_guard", "finetune", *map(str, words), "--json"]


def run(*words: str | Path) -> dict[str, Any]:
    """What a run reports; its exit code must be 0."""
    done = subprocess.run(command(*words), capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise SystemExit(done.stderr)
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


def blocked(model: Path, test: Path) -> dict[str, dict[str, float]]:
    """For each label the share of its images that a guard blocks, by the category that it names."""
    guard = Guard.from_pretrained(model)
    shares: dict[str, dict[str, float]] = {}
    for folder in sorted(test.iterdir()):
        verdicts = guard.check(sorted(folder.iterdir()))
        found = [v.category for v in verdicts if v.outcome is Outcome.BLOCK]
        shares[folder.name] = {name: found.count(name) / len(verdicts) for name in (*RARE, "other")}
    return shares


def right(shares: dict[str, dict[str, float]]) -> float:
    """How many of as many red discs and others a guard is right about."""
    return (shares["red-disc"]["red-disc"] + 1 - shares["other"]["red-disc"]) / 2


def full(home: Path) -> tuple[dict[str, Any], list[str]]:
    """All of a network, from random weights."""
    train, test = draw_kinds(home / "kinds", 6000, seed=1), draw_kinds(home / "kinds2", 2000, seed=2)
    means = [f"{path.name}={'red-disc' if path.name == 'red-disc' else ''}" for path in sorted(train.iterdir())]
    words = [str(train), "--model", "timm:test_resnet", "--size", "64", "--train", "full", "--epochs", "4",
             *(word for text in means for word in ("--label", text)), "--learning-rate", "0.003", "--patience", "0",
             "--validation", str(test)]  # fmt: skip
    return run(*words, "--out", home / "full"), words


def killed(home: Path, words: Sequence[str]) -> dict[str, Any]:
    """The same run, killed in the middle and started again."""
    out = home / "killed"
    process = subprocess.Popen(command(*words, "--out", out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
    while not (home / "killed.run" / "state.safetensors").exists():
        time.sleep(0.2)
        if process.poll() is not None:
            raise SystemExit("the run ended before it could be killed")
    time.sleep(3)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    return run(*words, "--out", out)


def taught(home: Path, number: int) -> dict[str, float]:
    """Both policies from images of one draw, on test images that all draws share."""
    policy, both = home / f"policy{number}", home / f"both{number}"
    twenty = draw(home / f"twenty{number}", {"red-disc": 20, "other": 20}, seed=100 + number)
    first = run(twenty, "--model", home / "full", "--fresh", "--label", "red-disc=red-disc", "--out", policy)
    known = home / f"known{number}"
    run(twenty, "--model", "demo-shapes", "--fresh", "--out", known)
    star = draw(home / f"star{number}", {"blue-star": 20, "other": 1000}, seed=200 + number)
    second = run(star, "--model", policy, "--label", "blue-star=blue-star", "--out", both)
    before, after = blocked(policy, home / "test"), blocked(both, home / "test")
    return {
        "probe": right(before), "probe of demo-shapes": right(blocked(known, home / "test")),
        "probe seconds": first["seconds"], "new seconds": second["seconds"],
        "new found": after["blue-star"]["blue-star"], "new false alarms": after["other"]["blue-star"],
        "old before": before["red-disc"]["red-disc"], "old after": after["red-disc"]["red-disc"],
        "lost": before["red-disc"]["red-disc"] - after["red-disc"]["red-disc"],
    }  # fmt: skip


def main() -> None:
    """Teach, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--no-kill", action="store_true", help="leave the killed run out, which takes as long again")
    args = parser.parse_args()
    print(machine() + "\n")
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        whole, words = full(home)
        print(f"all of a network: {whole['accuracy']:.2%} of 29 kinds right, in {whole['seconds']:.0f} s\n", flush=True)
        draw(home / "test", {"red-disc": 1000, "other": 1000, "blue-star": 1000}, seed=3)
        draws = [taught(home, number) for number in range(args.draws)]
        again = None if args.no_kill else killed(home, words)
    rows = [[name, *(min(columns), statistics.median(columns), max(columns))]
            for name in draws[0] for columns in [[one[name] for one in draws]]]  # fmt: skip
    table(["from twenty images a class", "lowest", "median", "highest"],
          [[name, *(f"{value:.3f}" for value in values)] for name, *values in rows])  # fmt: skip
    broken = [] if whole["accuracy"] > LEAST_FULL else [f"all of a network: {whole['accuracy']:.3f} right"]
    for what in ("probe", "probe of demo-shapes"):
        middle = statistics.median(one[what] for one in draws)
        broken += [f"{what}: {middle:.3f} right in the middle of the draws"] if middle < LEAST_PROBE else []
    broken += [f"a draw: {one['lost']:.3f} of the old class lost" for one in draws if one["lost"] > MOST_LOST]
    if again:
        same = again["weights_hash"] == whole["weights_hash"]
        print(f"killed, and resumed at step {again['resumed']}: {'the same' if same else 'OTHER'} weights\n")
        broken += [] if same and again["resumed"] else ["the killed run ended with other weights"]
    resumed = {} if again is None else {"resumed": again["resumed"], "same weights": same}
    finish("teach", {"full": whole["accuracy"], "seconds": whole["seconds"], "draws": draws, **resumed}, broken)


if __name__ == "__main__":
    main()
