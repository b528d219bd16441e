"""Measures the graph with the resize in it against this package's own preprocessing."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import __version__ as pillow_version

from nsfw_guard.backends.nets.network import NetBackend
from nsfw_guard.backends.nets.onnx_model import OnnxRunner
from nsfw_guard.errors import SelfTestError
from nsfw_guard.imaging.preprocess import Preprocess
from nsfw_guard.tools.exporting.pack import frames_of
from nsfw_guard.tools.exporting.preprocessing import write_resize
from nsfw_guard.tools.exporting.result import EXACT_CHANGE, PreprocessingParity

IMAGES = 300  # drawn images of many sizes
FIRST = 100_000  # the number of the first one: they are others than those that the network is compared on


def preprocessing_parity(backend: NetBackend, graph: Path, scratch: Path, opset: int) -> PreprocessingParity:
    """Return how a graph compares that takes images, and refuse one that differs.

    Args:
        backend: the export without the resize, loaded.
        graph: the file with the resize.
        scratch: a file that may be written, and is removed.
        opset: of ONNX's operators.

    Raises:
        SelfTestError: a level or a probability differs.
    """
    spec = backend.spec.net_input
    write_resize(scratch, spec, opset)
    resize, whole = OnnxRunner(scratch), OnnxRunner(graph)
    preprocess = Preprocess(spec=spec, views="center")
    worst, off, total, change = 0, 0, 0, 0.0
    for number in range(FIRST, FIRST + IMAGES):
        frames = frames_of(number)
        shown = preprocess.prepare(frames).pixels[:, 0]
        apart = (resize.run(frames.pixels.contiguous())[0] - shown.float()).abs()
        worst, off, total = max(worst, int(apart.max())), off + int((apart > 0).sum()), total + apart.numel()
        expected = backend.to_probabilities(backend.forward_with_embedding(shown)[0])
        moved = (whole.run(frames.pixels.contiguous())[0] - expected).abs().max()
        change = float(torch.maximum(torch.tensor(change), moved))  # keeps a NaN
    scratch.unlink()
    measured = PreprocessingParity(
        images=IMAGES, levels_off=worst, share_off=off / total, max_change=change, pillow=pillow_version
    )
    if worst or not change <= EXACT_CHANGE:
        raise SelfTestError(
            f"the resize in the graph differs from Pillow {pillow_version} by up to {worst} levels, and probabilities "
            f"by {change:.2g}: leave out --with-preprocessing, and resize by Pillow"
        )
    return measured
