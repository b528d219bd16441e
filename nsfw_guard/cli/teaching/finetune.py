"""nsfw-guard finetune: teaches a model from labelled images."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nsfw_guard.cli import show

if TYPE_CHECKING:
    from nsfw_guard.backends.base import Backend
    from nsfw_guard.tools.finetuning.finetune import Architecture, Finetuned
    from nsfw_guard.tools.finetuning.recipe import Recipe
    from nsfw_guard.tools.finetuning.watching import Stage


STEPS = ("blocks", "epochs", "learning_rate", "weight_decay", "label_smoothing", "mixup", "ema", "patience", "keep",
         "share", "vary", "precision")  # fmt: skip


def add(commands: Any) -> None:
    """Add the command."""
    command: argparse.ArgumentParser = commands.add_parser(
        "finetune",
        help="teach a model from labelled images",
        description="Teaches the last layer of a model, its last blocks or all of it, and writes a folder that every "
        "other command takes as --model. A run that was stopped goes on when the same command is given again. For "
        "several GPUs: accelerate launch -m nsfw_guard finetune ...",
    )
    command.add_argument(
        "sources", nargs="+", metavar="SOURCE",
        help="a folder with a folder for each label, or a .csv, .jsonl or .parquet list with columns path and label",
    )  # fmt: skip
    command.add_argument("--out", required=True, metavar="DIR", help="a new folder for the model")
    _start_flags(command)
    _recipe_flags(command)
    command.add_argument("--half", action="store_true", help="store weights in float16")
    show.json_flag(command)
    command.set_defaults(run=run)


def _start_flags(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--model", default="marqo", metavar="NAME|FOLDER|timm:NAME",
        help="what it begins with: a model, or an architecture of timm with random weights (default: marqo)",
    )  # fmt: skip
    command.add_argument("--weights", metavar="FILE", help="weights in safetensors, for an architecture of timm")
    command.add_argument("--size", type=int, metavar="N", help="side of the input of an architecture of timm")
    command.add_argument(
        "--model-arg", action="append", default=[], metavar="NAME=VALUE", help="of an architecture, as img_size=64"
    )
    command.add_argument(
        "--label", action="append", default=[], metavar="LABEL=CATEGORY[:LEVEL]",
        help="what a label means: a category, at low, medium or high severity; nothing for harmless",
    )  # fmt: skip
    command.add_argument("--fresh", action="store_true", help="forget classes that are no labels of these images")
    command.add_argument("--validation", action="append", default=[], metavar="SOURCE", help="images to measure on")
    command.add_argument(
        "--views", choices=("center", "squash"), default="center", help="what is shown of an image (default: center)"
    )
    command.add_argument("--trust-guard", action="store_true", help="accept a model folder that relaxes its own guard")


def _recipe_flags(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--train", choices=("head", "last", "full"), default="head", help="the part that is taught (default: head)"
    )
    numbers: list[tuple[str, type, Any, str]] = [
        ("blocks", int, 2, "that are taught with --train last"),
        ("epochs", int, 10, "at most"),
        ("learning-rate", float, None, "the highest one"),
        ("weight-decay", float, 0.03, "of AdamW"),
        ("label-smoothing", float, 0.0, "share of a label that is spread over all classes"),
        ("mixup", float, 0.0, "mix images in pairs by Beta(N, N); 0 for never"),
        ("ema", float, 0.99, "decay of the mean of the weights that is kept; 0 for the last weights"),
        ("patience", int, 3, "epochs without a lower validation loss until it stops; 0 for never"),
        ("keep", float, 1.0, "weight of staying with the answers of the model on its classes"),
        ("share", float, 0.2, "of images that is kept for validation"),
    ]
    steps = command.add_argument_group("for --train last and full")
    for name, kind, default, words in numbers:
        shown = "" if default is None else f" (default: {default:g})"
        steps.add_argument(f"--{name}", type=kind, metavar="N", help=words + shown)
    steps.add_argument(
        "--vary", metavar="KINDS",
        help="how images are varied: mirror, flip, transpose, move, shade, noise, erase; nothing for not "
        "(default: mirror,move,shade)",
    )  # fmt: skip
    steps.add_argument("--precision", choices=("no", "bf16", "fp16"), help="of mixed precision (default: no)")
    command.add_argument("--batch", type=int, default=32, metavar="N", help="images at a time, over all processes")
    command.add_argument(
        "--balance", type=float, default=0.5, metavar="N",
        help="from 0, images as they come, to 1, all classes as often (default: 0.5)",
    )  # fmt: skip
    command.add_argument("--seed", type=int, default=0, help="of everything that is drawn (default: 0)")


def run(args: argparse.Namespace) -> int:
    """Teach a model; 2 when an image could not be used."""
    from nsfw_guard.errors import ConfigError
    from nsfw_guard.tools.finetuning.classes import meanings_of
    from nsfw_guard.tools.finetuning.finetune import finetune
    from nsfw_guard.tools.finetuning.processes import processes

    begun = time.monotonic()
    recipe, out = _recipe(args), Path(args.out).resolve()
    if inside := [name for name in (*args.sources, *args.validation) if out.is_relative_to(Path(name).resolve())]:
        raise ConfigError(
            f"--out {args.out} is inside the source {inside[0]}, whose next run would learn from it: move it"
        )
    start = _start(args)
    result = finetune(
        start, _pairs(args.sources), args.out, recipe,
        validation=_pairs(args.validation) if args.validation else (),
        meanings=meanings_of(args.label), fresh=args.fresh, views=args.views, half=args.half,
        trust_guard=args.trust_guard,
        watch=_Bars(),
    )  # fmt: skip
    seconds = time.monotonic() - begun
    if not processes().is_main_process:
        return 0
    if args.json:
        show.as_json(_facts(result, args.out, seconds))
    else:
        _print(result, args.out, seconds)
    return 2 if result.faults else 0


def _pairs(sources: list[str]) -> list[tuple[str, str]]:
    from nsfw_guard.tools.teaching.labelled import labels_in

    return [(path, label) for path, label, _ in labels_in(sources)]


def _recipe(args: argparse.Namespace) -> Recipe:
    from nsfw_guard.errors import ConfigError
    from nsfw_guard.tools.finetuning.recipe import Part, Recipe

    given = {name: getattr(args, name) for name in STEPS if getattr(args, name) is not None}
    if given and args.train == "head":
        option = f"--{next(iter(given)).replace('_', '-')}"
        raise ConfigError(f"{option} is for --train last and full: the last layer is solved for, not taught in steps")
    if args.blocks is not None and args.train != "last":
        raise ConfigError("--blocks is for --train last")
    names = {"share": "validation"}
    if args.vary is not None:
        given["vary"] = tuple(filter(None, args.vary.split(",")))
    return Recipe(
        part=Part(args.train), batch_size=args.batch, balance=args.balance, seed=args.seed,
        **{names.get(name, name): value for name, value in given.items()},
    )  # fmt: skip


def _start(args: argparse.Namespace) -> Backend | Architecture:
    from nsfw_guard.backends.registry import load_model
    from nsfw_guard.errors import ConfigError
    from nsfw_guard.tools.finetuning.finetune import Architecture

    scheme, _, name = args.model.partition(":")
    if scheme == "timm":
        pairs = dict(_argument(text) for text in args.model_arg)
        return Architecture(
            name=name, arguments=pairs, size=args.size, weights=None if args.weights is None else Path(args.weights)
        )
    if args.model_arg or args.weights is not None or args.size is not None:
        raise ConfigError("--model-arg, --size and --weights are for an architecture: --model timm:NAME")
    return load_model(args.model, trust_guard=args.trust_guard)


def _argument(text: str) -> tuple[str, Any]:
    from nsfw_guard.errors import ConfigError

    name, sign, value = text.partition("=")
    if not sign:
        raise ConfigError(f"--model-arg {text}: write NAME=VALUE, as img_size=64")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


class _Bars:
    """A progress bar for each stage, on a terminal."""

    def __init__(self) -> None:
        self.bars: dict[Stage, Any] = {}

    def __call__(self, stage: Stage, done: int, total: int, note: str) -> None:
        from nsfw_guard.tools.finetuning.processes import processes

        if not show.on_terminal() or not processes().is_main_process:
            return
        from tqdm import tqdm

        if stage not in self.bars:
            self.bars[stage] = tqdm(total=total, unit=f" {stage.value}", initial=done)
        bar = self.bars[stage]
        bar.set_postfix_str(note)
        bar.update(done - bar.n)
        if done >= total:
            bar.close()


def _facts(result: Finetuned, out: str, seconds: float) -> dict[str, Any]:
    rates = {name: rate.to_dict() for name, rate in result.recalls.items()}
    return {
        "out": out, "model": result.model.spec.name, "accuracy": result.accuracy.share, "classes": rates,
        "images": dict(result.counts), "epochs": result.epochs, "resumed": result.resumed,
        "weights_hash": result.weights_hash, "faults": dict(result.faults), "notes": result.notes,
        "seconds": round(seconds, 1),
    }  # fmt: skip


def _print(result: Finetuned, out: str, seconds: float) -> None:
    rows = [(name, str(result.counts[name]), str(rate)) for name, rate in result.recalls.items()]
    show.table(
        [*rows, ("all", str(sum(result.counts.values())), str(result.accuracy))], ("class", "images", "right (95%)")
    )
    show.say("right: of images that it did not learn from")
    if result.resumed:
        show.say(f"went on at step {result.resumed}")
    for note in result.notes:
        show.say(note)
    if result.faults:
        path, why = next(iter(result.faults.items()))
        show.say(f"{len(result.faults)} images were left out, such as {path} ({why})")
    show.say(f"{seconds:.0f} s; use it with --model {out}, and set its thresholds with calibrate")
