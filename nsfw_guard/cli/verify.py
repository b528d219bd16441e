"""nsfw-guard verify: records a model's answers to the self-test on this machine."""

from __future__ import annotations

import argparse
from typing import Any

from nsfw_guard.cli import show


def add(commands: Any) -> None:
    """Add the command."""
    command: argparse.ArgumentParser = commands.add_parser(
        "verify",
        help="record a model's answers on this machine, for its self-test",
        description="Records what a model of the catalogue or of the hub answers to the images of the self-test, where "
        "its record has no answers. From then on its self-test is 'passed' and not 'answers unrecorded', and other "
        "weights, labels or preprocessing are refused.",
    )
    command.add_argument("model", help="a name from `nsfw-guard models`, or hf:owner/name@commit")
    command.add_argument("--weights", metavar="FOLDER", help="the folder of the model's files")
    command.add_argument("--forget", action="store_true", help="remove what was recorded for it here")
    show.json_flag(command)
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Record the answers, and print them."""
    from nsfw_guard.errors import ConfigError
    from nsfw_guard.tools.verify import forget, verify

    if args.forget:
        if args.weights:
            raise ConfigError("--forget removes records, and loads nothing: leave --weights out")
        removed = [str(path) for path in forget(args.model)]
        if args.json:
            show.as_json({"model": args.model, "removed": removed})
        else:
            show.say(f"removed {len(removed)} records of {args.model}")
        return 0
    result = verify(args.model, weights=args.weights)
    if args.json:
        answers = {name: dict(row) for name, row in result.answers.items()}
        path = None if result.path is None else str(result.path)
        show.as_json({"model": result.model, "version": result.version, "answers": answers, "path": path})
        return 0
    labels = list(next(iter(result.answers.values()), {}))
    show.table([(name, *(f"{row[label]:.6f}" for label in labels)) for name, row in result.answers.items()],
               ("image", *labels))  # fmt: skip
    here = f"recorded in {result.path}" if result.path else "they were recorded before, and are the same"
    show.say(f"answers of {result.model} {result.version[:12]}: {here}")
    return 0
