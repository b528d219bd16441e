"""Each runtime and precision that `nsfw-guard export` writes, against the float32 network in torch.

python benchmarks/export_parity.py [--json] [--images 3000] [--large 60]

`demo-shapes` judges drawn scenes that the exports were not compared on; a network of 384 pixels with random weights
judges fewer. A score of a float32 export may move by 0.00001. No input may be released that the network holds back, at
any threshold, as the export's record lowers it; at the network's own, one verdict in a thousand may change.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from common import finish, machine, medians, table  # first: it sets the threads

import numpy as np
import torch
from torch import Tensor

from nsfw_guard.backends.files.folder import config_of
from nsfw_guard.backends.nets.network import NetBackend
from nsfw_guard.backends.registry import load_model
from nsfw_guard.backends.spec import Label, ModelSpec
from nsfw_guard.demo import shapes
from nsfw_guard.demo.training import album
from nsfw_guard.demo.training.record import wide
from nsfw_guard.errors import NsfwGuardError
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.imaging.preprocess import Preprocess
from nsfw_guard.imaging.views import InputSpec
from nsfw_guard.tools.exporting.columns import Columns, columns_of
from nsfw_guard.tools.exporting.export import export
from nsfw_guard.tools.exporting.pack import PLANS
from nsfw_guard.tools.exporting.parity import by_image, most
from nsfw_guard.tools.exporting.result import EXACT_CHANGE, MAX_FLIPS, ExportResult

SEED = 20261130
WAYS = (
    ("onnx", "fp32"), ("onnx", "fp16"), ("onnx", "int8"), ("openvino", "fp32"), ("openvino", "fp16"),
    ("openvino", "int8"), ("torch-export", "fp32"), ("aoti", "fp32"), ("torchscript", "fp32"),
)  # fmt: skip
BATCH = 32
OPENED: dict[str, Callable[[str], Any]] = {
    "torch-export": lambda path: torch.export.load(path).module(),
    "aoti": torch._inductor.aoti_load_package,
    "torchscript": torch.jit.load,
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One export of one model."""

    model: str
    runtime: str
    precision: str
    method: str
    images: int
    max_change: float
    margin: float
    flips: int
    stricter: int
    released: int
    bytes: int
    ms: float


def scenes(count: int) -> Iterator[Tensor]:
    """So many drawn images: wild ones, scenes in several sizes, and wide ones. Shape: (3, H, W), uint8."""
    rng = np.random.default_rng(SEED)
    long = iter(wide(SEED, count // 8 + 1, safe=False))
    for number in range(count):
        if number % 8 == 7:
            yield next(long)
            continue
        if number % 2:
            image = album.example(rng).image
        else:
            scene = shapes.random_scene(rng, shapes=int(rng.integers(1, 3)))
            image = shapes.draw(scene, side=int(rng.integers(64, 288)), rng=rng)
        yield torch.from_numpy(np.array(image)).permute(2, 0, 1)


def inputs(backend: NetBackend, count: int) -> Iterator[tuple[int, Tensor]]:
    """The number of each image with what the model is shown of it, in every kind of view in turn."""
    for number, levels in enumerate(scenes(count)):
        preprocess = Preprocess(spec=backend.spec.net_input, views=PLANS[number % len(PLANS)])
        yield number, preprocess.prepare(Frames(levels[None])).pixels.flatten(0, 1)


def judged(answer: Callable[[Tensor], Tensor], shown: Tensor) -> Tensor:
    """The probabilities for all inputs."""
    with torch.inference_mode():
        return torch.cat([answer(shown[i : i + BATCH]) for i in range(0, len(shown), BATCH)])


def torchs(backend: NetBackend) -> Callable[[Tensor], Tensor]:
    """What a loaded model answers."""
    return lambda shown: backend.to_probabilities(backend.forward_with_embedding(shown)[0])


def opened(folder: Path, backend: NetBackend, result: ExportResult) -> tuple[Callable[[Tensor], Tensor], Columns]:
    """What the export in a folder answers, and the thresholds of its record."""
    loaded = load_model(folder)
    assert isinstance(loaded, NetBackend)
    if result.target not in OPENED:
        return torchs(loaded), columns_of(loaded.spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # TorchScript is deprecated
        call = OPENED[result.target](str(folder / next(iter(result.files))))
    return lambda shown: backend.to_probabilities(call(backend.preprocess.normalise(shown))[0]), columns_of(loaded.spec)


def measured(backend: NetBackend, count: int, drawn: int) -> tuple[list[Row], dict[str, str]]:
    """A row for each way, and why the others have none."""
    numbered = list(inputs(backend, count))
    owners = torch.tensor([number for number, shown in numbered for _ in shown])
    shown = torch.cat([one for _, one in numbered])
    columns = columns_of(backend.spec)
    expected = columns.of(judged(torchs(backend), shown))
    before = columns.held(expected)
    verdicts = by_image(before, owners)
    timed: dict[str, Callable[[], object]] = {"torch fp32": partial(judged, torchs(backend), shown[:BATCH])}
    rows, absent = [], {}
    with tempfile.TemporaryDirectory() as scratch:
        for target, precision in WAYS:
            name, folder = f"{target} {precision}", Path(scratch) / f"{target}-{precision}"
            try:
                result = export(backend, folder, target=target, precision=precision, images=drawn)  # type: ignore[arg-type]
            except NsfwGuardError as error:
                absent[f"{backend.spec.name}, {name}"] = str(error)
                continue
            answer, lowered = opened(folder, backend, result)
            scores = columns.of(judged(answer, shown))
            after = lowered.held(scores)
            timed[name] = partial(judged, answer, shown[:BATCH])
            rows.append(Row(
                model=backend.spec.name, runtime=target, precision=precision, method=result.method, images=count,
                max_change=float((scores - expected).abs().max()), margin=result.parity.margin,
                flips=most(verdicts != by_image(columns.held(scores), owners)),
                stricter=most(~verdicts & by_image(after, owners)),
                released=int((before & ~after).any(1).sum()), bytes=result.bytes, ms=0.0,
            ))  # fmt: skip
            print(f"... {rows[-1]}", file=sys.stderr, flush=True)
        times = medians(timed, rounds=9)
    rows = [replace(row, ms=times[f"{row.runtime} {row.precision}"] / BATCH) for row in rows]
    eager = Row(
        model=backend.spec.name, runtime="torch", precision="fp32", method="", images=count, max_change=0.0,
        margin=0.0, flips=0, stricter=0, released=0, ms=times["torch fp32"] / BATCH,
        bytes=sum(4 * weights.numel() for weights in backend.net.state_dict().values()),
    )  # fmt: skip
    return [eager, *rows], absent


def breaches(row: Row) -> Iterator[str]:
    """The promises that an export breaks."""
    name = f"{row.model}, {row.runtime} {row.precision}"
    if row.precision == "fp32" and not row.max_change <= EXACT_CHANGE:
        yield f"{name}: a score moves by {row.max_change:.2g}"
    if row.released:
        yield f"{name}: {row.released} inputs that are held back would be released"
    if not row.flips <= MAX_FLIPS * row.images:
        yield f"{name}: {row.flips} of {row.images} images get another verdict"


def large(folder: Path) -> NetBackend:
    """A ViT of 384 pixels with random weights, as large as the default model."""
    import timm
    from safetensors.torch import save_file

    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        model: Any = timm.create_model("vit_tiny_patch16_384", num_classes=2)
        torch.nn.init.normal_(model.get_classifier().weight, std=0.3)
    folder.mkdir()
    save_file(
        {name: weights.contiguous() for name, weights in model.state_dict().items()}, folder / "model.safetensors"
    )
    spec = ModelSpec(
        name="vit_tiny_patch16_384, random", kind="timm", architecture="vit_tiny_patch16_384",
        input=InputSpec(size=384), labels={"unsafe": Label("unsafe"), "safe": None},
    )  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config_of(spec, 192)), encoding="utf-8")
    backend = load_model(folder, labels={"unsafe": "unsafe", "safe": None})
    assert isinstance(backend, NetBackend)
    return backend


def main() -> None:
    """Prints a table of both models."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=3000, help="scenes for demo-shapes")
    parser.add_argument("--large", type=int, default=60, help="scenes for the network of 384 pixels; 0 leaves it out")
    parser.add_argument("--json", action="store_true", help="print the RESULT line only")
    args = parser.parse_args()
    demo = load_model("demo-shapes")
    assert isinstance(demo, NetBackend)
    rows, absent = measured(demo, args.images, 240)
    if args.large:
        with tempfile.TemporaryDirectory() as scratch:
            more, refused = measured(large(Path(scratch) / "large"), args.large, 24)
        rows, absent = rows + more, absent | refused
    if not args.json:
        print(machine() + "\n")
        table(
            ("model", "runtime", "precision", "images", "largest change", "other verdicts", "thresholds lowered by",
             "held back by that", "released", "MB", "ms an input"),
            [(row.model, row.runtime, f"{row.precision} {row.method}".strip(), row.images, f"{row.max_change:.1e}",
              row.flips, f"{row.margin:g}", row.stricter, row.released, row.bytes / 1e6, row.ms) for row in rows],
        )  # fmt: skip
        for name, why in absent.items():
            print(f"not written: {name}: {why}")
    broken = [breach for row in rows for breach in breaches(row)]
    finish("export_parity", {"rows": [asdict(row) for row in rows], "not_written": absent}, broken)


if __name__ == "__main__":
    main()
