"""What stands beside an export for people and for other programs: README.md and export.json."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from nsfw_guard.backends.spec import ModelSpec
from nsfw_guard.tools.exporting.result import ExportResult
from nsfw_guard.tools.pages import markdown_text
from nsfw_guard.version import __version__

CARD, FACTS = "README.md", "export.json"
LIBRARIES = ("torch", "timm", "transformers", "onnx", "onnxscript", "onnxruntime", "openvino", "pillow")


def versions() -> dict[str, str]:
    """Return the releases of the libraries that take part, of those that are installed."""
    installed = {"nsfw-guard": __version__}
    for name in LIBRARIES:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue
    return installed


def write_card(folder: Path, result: ExportResult, spec: ModelSpec) -> None:
    """Write both files."""
    (folder / FACTS).write_text(json.dumps(result.to_dict(), indent=2) + "\n", encoding="utf-8")
    (folder / CARD).write_text("\n".join(_lines(result, spec)) + "\n", encoding="utf-8")


def _lines(result: ExportResult, spec: ModelSpec) -> list[str]:
    parity = result.parity
    opset = f", opset {result.opset}" if result.opset else ""
    method = f" ({result.method})" if result.method else ""
    lines = [
        f"# {markdown_text(result.model)}", "",
        f"An export of `{result.source}` to {result.target}{opset}, in {result.precision}{method}, by nsfw-guard "
        f"{__version__}.", "",
        f"- License of the weights: {markdown_text(spec.license)}",
        f"- Source: {markdown_text(spec.source) or 'not recorded'}",
        f"- Labels, in the order of the logits: {', '.join(map(markdown_text, spec.labels))}",
        f"- Files: {', '.join(f'`{name}` (SHA-256 {digest[:12]}...)' for name, digest in result.files.items())}",
        "", "## Compared with the float32 network", "",
        f"On {parity.images} images ({parity.inputs} inputs, {parity.steered} of them moved across the thresholds, "
        f"{parity.blocked} blocked), at every threshold of the record: scores move by at most {parity.max_change:.2g}; "
        f"at one threshold, {parity.flips} images at most get another verdict; {parity.released} blocked inputs would "
        "be released.",
    ]  # fmt: skip
    if parity.margin:
        lines.append(
            f"\nThe thresholds of the record are lower than the model's own by {parity.margin:g}, twice the largest "
            f"change of a score that was measured; {parity.stricter} images more are held back by that, at one "
            "threshold. Lower numbers of your own, in a policy, by as much."
        )
    if pre := result.preprocessing:
        lines.append(
            "\n`model-with-preprocessing.onnx` takes uint8 images (any, 3, height, width) and returns probabilities of "
            f"the authors' own centre view. On {pre.images} drawn images its resize differs from Pillow {pre.pillow} "
            f"by at most {pre.levels_off} levels, its probabilities by at most {pre.max_change:.2g}. Views that cover "
            "the whole of a long image are not in it."
        )
    return lines + (["", *(f"- {note}" for note in result.notes)] if result.notes else [])
