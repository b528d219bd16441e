"""Arrays, tensors and lists as they come in: which are refused unread, and NumPy's as the tensors that they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from nsfw_guard.errors import ImageError

DTYPES = (torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64)
# Other kinds of array may keep a cover from being written, or hide values from whoever looks for NaN.
ARRAYS = (np.ndarray, np.memmap)


def refuse_odd(images: Any) -> None:
    """Refuses what cannot be looked at whole, or could not be covered afterwards.

    Raises:
        ImageError: with what to hand over in its place.
    """
    why = _odd_tensor(images) if isinstance(images, Tensor) else _odd(images)
    if why:
        raise ImageError(why)


def is_odd(images: Any) -> bool:
    """Return whether `refuse_odd` refuses it."""
    try:
        refuse_odd(images)
    except ImageError:
        return True
    return False


def _odd(images: Any) -> str:
    name = type(images).__name__
    if isinstance(images, np.ma.MaskedArray):
        return "a masked array hides values and keeps covers out: hand over array.filled(0)"
    if isinstance(images, np.ndarray) and type(images) not in ARRAYS:
        return f"expected a plain NumPy array, got {name}: hand over numpy.array(it)"
    if isinstance(images, tuple) and type(images) is not tuple:
        return f"expected a list or a plain tuple of pictures, got {name}: hand over list(it)"
    return ""


def _odd_tensor(tensor: Tensor) -> str:
    # Asked first: many a question to a nested tensor raises.
    if tensor.is_nested:
        return "expected a tensor whose pictures are of one size, got a nested one: hand over list(it.unbind())"
    if tensor.layout is not torch.strided:
        layout = str(tensor.layout).removeprefix("torch.")
        return f"expected a dense tensor, got the layout {layout}: hand over it.to_dense()"
    if tensor.is_quantized:
        return f"expected plain numbers, got quantised ones ({tensor.dtype}): hand over it.dequantize()"
    return _without_pixels(tensor)


def _without_pixels(tensor: Tensor) -> str:
    if tensor.device.type == "meta":
        return "a tensor on the device 'meta' holds no pixels: hand over one that was computed"
    # Classes that answer for every operation: masked tensors, fake ones, those of several machines.
    if type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__:
        return f"expected a plain tensor, got {type(tensor).__name__}: hand over what it stands for, as a torch.Tensor"
    if tensor.dtype not in DTYPES:
        return f"frames are uint8 or floating point of 16 to 64 bits, not {tensor.dtype}: convert them first"
    return ""


def as_tensor(array: np.ndarray[Any, Any]) -> Tensor | None:
    """Return an array as a tensor whose range is told with it, or nothing where the decoder reads the range from the
    type.

    Shape: (H, W) or (H, W, C) to (C, H, W).
    """
    floats = array.dtype.kind == "f"
    if array.ndim == 2 and floats:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in ({1, 3, 4} if floats else {3}):
        return None
    if not floats and array.dtype != np.uint8:
        return None
    if array.dtype.itemsize > 8:  # long doubles, which torch does not know; one too large becomes infinite: a fault
        with np.errstate(over="ignore"):
            array = array.astype(np.float64)
    return torch.from_numpy(plain(array)).permute(2, 0, 1)


def plain(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return an array that torch takes: this machine's byte order, rows that go forward, memory that may be written.

    A copy only where it is none of these: torch warns of arrays that nobody may write, and refuses the others.
    """
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    turned = any(step < 0 for step in native.strides)
    return native.copy() if turned or not native.flags.writeable else native
