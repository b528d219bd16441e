"""Train the weights of the demonstration policy "a red disc is unsafe", or measure them; it is not an NSFW model.

Best in the order pipeline, graded, policy: each starts from the weights of the one before.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nsfw_guard.demo.training import autoencoder, pipeline, policy, record, report

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"


def main(arguments: list[str] | None = None) -> int:
    """Run one recipe, and return the exit status."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    begun = time.perf_counter()
    if options.recipe == "report":
        _report(options)
        return 0
    if options.recipe == "pipeline":
        _pipeline(options)
    elif options.recipe == "record":
        for task in policy.TASKS.values():
            record.record(options.out / task.name, task, seed=options.seed + 20_000, images=options.images)
    else:
        _policy(options)
    print(f"done in {(time.perf_counter() - begun) / 60:.1f} minutes: {options.out}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m nsfw_guard.demo.training", description=__doc__)
    recipes = parser.add_subparsers(dest="recipe", required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--out", type=Path, default=WEIGHTS, help="folder of the weights (default: the package's own)")
    shared.add_argument("--seed", type=int, default=0)
    shared.add_argument("--threads", type=int, default=1, help="processor cores (default: 1)")
    for name, task in policy.TASKS.items():
        recipe = recipes.add_parser(name, parents=[shared], help=f"train the {task.name} model")
        recipe.add_argument("--steps", type=int, default=4500)
        recipe.add_argument("--images", type=int, default=24000, help="how many to draw and train on")
        recipe.add_argument("--resume", action="store_true", help="begin from the weights that are there")
    recipe = recipes.add_parser("pipeline", parents=[shared], help="train the text-to-image pipeline")
    recipe.add_argument("--vae-steps", type=int, default=1700, help="0 keeps the autoencoder that is there")
    recipe.add_argument("--decoder-steps", type=int, default=2600, help="further steps for the decoder alone")
    recipe.add_argument("--steps", type=int, default=11000)
    recipe.add_argument("--scenes", type=int, default=40000, help="how many to draw and train the UNet on")
    recipe = recipes.add_parser("record", parents=[shared], help="write the policy models' records anew")
    recipe.add_argument("--images", type=int, default=1000, help="how many of each kind to measure on")
    recipe = recipes.add_parser("report", parents=[shared], help="measure the weights")
    recipe.add_argument("--json", action="store_true", help="print JSON instead of lines")
    recipe.add_argument("--held-out", type=int, default=4000, help="drawn images for the policy models")
    recipe.add_argument("--generated", type=int, default=300, help="images the pipeline makes for each figure")
    return parser


def _policy(options: argparse.Namespace) -> None:
    task = policy.TASKS[options.recipe]
    vae = pipeline.load_vae(options.out / "pipeline") if (options.out / "pipeline" / "vae").is_dir() else None
    book = policy.pages(np.random.default_rng(options.seed + 100), options.images, vae=vae)
    start = policy.load(options.out / task.name, task) if options.resume else _other(options.out, task)
    model = policy.train(task, book, steps=options.steps, seed=options.seed, start=start)
    policy.save(model, task, options.out / task.name)
    record.record(options.out / task.name, task, seed=options.seed + 20_000, images=1000)


def _other(folder: Path, task: policy.Task) -> Any:
    """The graded model, when there is one, knows already most of what the binary one has to learn."""
    if task is policy.BINARY and (folder / policy.GRADED.name).is_dir():
        return policy.load(folder / policy.GRADED.name, policy.GRADED)
    return None


def _pipeline(options: argparse.Namespace) -> None:
    folder = options.out / "pipeline"
    if options.vae_steps:
        vae = autoencoder.train(steps=options.vae_steps, seed=options.seed)
        autoencoder.sharpen(vae, steps=options.decoder_steps, seed=options.seed)
    else:
        vae = pipeline.load_vae(folder)
    pipe = pipeline.train(vae, folder=folder, steps=options.steps, scenes=options.scenes, seed=options.seed)
    pipeline.save(pipe, folder)


def _report(options: argparse.Namespace) -> None:
    figures = report.report(
        options.out, seed=options.seed + 10_000, held_out=options.held_out, generated=options.generated
    )
    if options.json:
        print(json.dumps(figures, indent=2))
        return
    for part, values in figures.items():
        print(part)
        for name, value in values.items():
            print(f"  {name}: {value}")


if __name__ == "__main__":
    raise SystemExit(main())
