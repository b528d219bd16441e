"""The output of a stopped generation: images of the requested type, size and number, acted on by the guard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nsfw_guard.actions import Raise, covered
from nsfw_guard.errors import BlockedError
from nsfw_guard.pipelines import seams
from nsfw_guard.pipelines.guarded.leaving import mark
from nsfw_guard.pipelines.guarded.run import GuardedCall
from nsfw_guard.verdict import Verdict

DEFAULT_SIDE = 512  # where the image size is unknown


def blocked_output(
    pipe: Any, verdicts: Sequence[Verdict], size: tuple[int, int] | None, run: GuardedCall, arguments: Mapping[str, Any]
) -> list[Any] | Any:
    """Return an output like that of the call, with the guard's action on a black frame as its images.

    Raises:
        BlockedError: the action is `raise`, or an output of this class cannot be created.
    """
    counted = tuple(run.guard.notify(list(verdicts)))
    cls = type(pipe)
    names = [name for fields in seams.outputs_of(cls) for name in fields if name in seams.IMAGES]
    if isinstance(run.guard.action, Raise) or len(names) != 1:
        raise BlockedError(*counted)
    run.verdicts[:] = counted
    images = _images(counted, size or _size(pipe, arguments), run, arguments, clip=names[0] in seams.CLIPS)
    return _wrapped(cls, names[0], images, run, arguments)


def _size(pipe: Any, arguments: Mapping[str, Any]) -> tuple[int, int]:
    height, width = (arguments.get(name) for name in ("height", "width"))
    if isinstance(height, int) and isinstance(width, int):
        return height, width
    return DEFAULT_SIDE, DEFAULT_SIDE


def _images(
    verdicts: Sequence[Verdict], size: tuple[int, int], run: GuardedCall, arguments: Mapping[str, Any], *, clip: bool
) -> Any:
    device = run.device or torch.device("cpu")
    frames = [covered(torch.zeros(3, *size, device=device), verdict, run.guard.action) for verdict in verdicts]
    count = int(arguments.get("num_frames") or 1) if clip else 0
    kind = arguments.get("output_type", "pil")
    if kind == "pt":
        batch = torch.stack(frames)
        return batch[:, None].expand(-1, count, -1, -1, -1) if clip else batch
    if kind == "pil":
        images = [_pil(frame) for frame in frames]
        return [[image.copy() for _ in range(count)] for image in images] if clip else images
    array = torch.stack(frames).permute(0, 2, 3, 1).cpu().numpy()
    return np.repeat(array[:, None], count, 1) if clip else array


def _pil(frame: Tensor) -> Image.Image:
    return Image.fromarray(frame.mul(255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy())


def _wrapped(cls: type, name: str, images: Any, run: GuardedCall, arguments: Mapping[str, Any]) -> Any:
    """The images in the output type of the class."""
    (output,) = [o for o in seams.output_classes(cls) if name in o.__dataclass_fields__]
    fields = {field: images if field == name else None for field in output.__dataclass_fields__}
    if arguments.get("return_dict", True):
        result = output(**fields)
        mark(result, run)
        return result
    if seams.returns_bare_value(cls):
        return images
    return tuple(run.flags if field in seams.FLAGS else value for field, value in fields.items())
