"""Arrays, tensors and lists given as images: which are refused, and NumPy arrays as tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from nsfw_guard.errors import ImageError

DTYPES = (torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64)
# Other array types may not accept a cover, or may hide values from the check for NaN.
ARRAYS = (np.ndarray, np.memmap)


def refuse_odd(images: Any) -> None:
    """Refuse types that cannot be read completely, or could not be covered afterwards.

    Raises:
        ImageError: the type is refused; the message names what to pass instead.
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
        return "a masked array is not supported, since it hides values: pass array.filled(0)"
    if isinstance(images, np.ndarray) and type(images) not in ARRAYS:
        return f"expected a plain NumPy array, got {name}: pass numpy.array(it)"
    if isinstance(images, tuple) and type(images) is not tuple:
        return f"expected a list or a plain tuple of images, got {name}: pass list(it)"
    return ""


def _odd_tensor(tensor: Tensor) -> str:
    # Asked first: many a question to a nested tensor raises.
    if tensor.is_nested:
        return "expected a tensor of images of one size, got a nested tensor: pass list(it.unbind())"
    if tensor.layout is not torch.strided:
        layout = str(tensor.layout).removeprefix("torch.")
        return f"expected a dense tensor, got the layout {layout}: pass it.to_dense()"
    if tensor.is_quantized:
        return f"expected an unquantised tensor, got {tensor.dtype}: pass it.dequantize()"
    return _without_pixels(tensor)


def _without_pixels(tensor: Tensor) -> str:
    if tensor.device.type == "meta":
        return "a tensor on the device 'meta' has no pixels: pass a tensor on a real device"
    # Subclasses that override every operation: masked, fake and distributed tensors.
    if type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__:
        return f"expected a plain tensor, got {type(tensor).__name__}: convert it to a torch.Tensor first"
    if tensor.dtype not in DTYPES:
        return f"expected uint8 or floats of 16 to 64 bits, got {tensor.dtype}: convert the tensor first"
    return ""


def as_tensor(array: np.ndarray[Any, Any]) -> Tensor | None:
    """Return an array as a tensor whose range the caller states, or None where the decoder reads it from the dtype.

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

    Copied only where needed: torch warns of read-only arrays, and refuses the other kinds.
    """
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    turned = any(step < 0 for step in native.strides)
    return native.copy() if turned or not native.flags.writeable else native
