"""nsfw-guard export: a model for other runtimes."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from nsfw_guard.cli import show

if TYPE_CHECKING:
    from nsfw_guard.tools.exporting.result import ExportResult

TARGETS = ("onnx", "openvino", "torch-export", "aoti", "torchscript")


def add(commands: Any) -> None:
    """Add the command."""
    command: argparse.ArgumentParser = commands.add_parser(
        "export",
        help="write a model for other runtimes, where its verdicts stay the same",
        description="Writes a network for ONNX Runtime, OpenVINO or torch's own formats into a new folder, which "
        "--model reads. It is compared with the float32 network first; where a verdict would become milder, nothing "
        "is written.",
    )
    command.add_argument("model", metavar="MODEL", help="a name or a folder (see models)")
    command.add_argument("--to", required=True, choices=TARGETS, help="what it is exported to")
    command.add_argument("--out", required=True, metavar="DIR", help="a new folder")
    command.add_argument(
        "--precision", choices=("fp32", "fp16", "int8"), default="fp32", help="of the weights (default: fp32)"
    )
    command.add_argument(
        "--with-preprocessing", action="store_true",
        help="for onnx: also a file that takes 8-bit images of any size and returns probabilities",
    )  # fmt: skip
    command.add_argument(
        "--parity", action="append", default=[], metavar="DIR", help="compare on the images of a folder, too"
    )
    command.add_argument("--images", type=int, default=240, metavar="N", help="drawn images to compare on (240)")
    command.add_argument("--trust-guard", action="store_true", help="accept a model folder that relaxes its own guard")
    show.json_flag(command)
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Export, and print what was measured."""
    from nsfw_guard.tools.exporting.export import export, source_model

    result = export(
        source_model(args.model, trust_guard=args.trust_guard), args.out, target=args.to, precision=args.precision,
        with_preprocessing=args.with_preprocessing, parity=args.parity, images=args.images,
        trust_guard=args.trust_guard,
    )  # fmt: skip
    if args.json:
        show.as_json({"out": args.out, **result.to_dict()})
    else:
        _print(result, args.out)
    return 0


def _print(result: ExportResult, out: str) -> None:
    parity = result.parity
    rows = [
        ("model", result.model), ("target", result.target), ("precision", result.precision),
        *([("method", result.method)] if result.method else []),
        *((name, digest[:12]) for name, digest in result.files.items()),
        ("bytes", str(result.bytes)),
        ("images compared", f"{parity.images} ({parity.inputs} inputs, {parity.blocked} blocked)"),
        ("largest change", f"{parity.max_change:.2g}"), ("other verdicts", str(parity.flips)),
        ("released", str(parity.released)), ("thresholds lowered by", f"{parity.margin:g}"),
        ("held back by that", str(parity.stricter)),
    ]  # fmt: skip
    if result.preprocessing:
        rows.append(("levels off, with preprocessing", str(result.preprocessing.levels_off)))
    show.table(rows, ("what", "value"))
    for note in result.notes:
        show.say(f"note: {note}")
    show.say(f"written: use it with --model {out}")
