"""TensorFlow's layers written out with loops in NumPy, on one image (H, W, C) in double precision."""

from __future__ import annotations

import math

import numpy as np


def edges(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """How much "same" pads before and after: as many windows as strides, the odd pixel after."""
    total = max(0, (math.ceil(side / stride) - 1) * stride + kernel - side)
    return total // 2, total - total // 2


def windows(image: np.ndarray, kernel: tuple[int, int], strides: tuple[int, int], padding: str, fill: float):
    """Every window with its place, padded with `fill`."""
    around = [edges(image.shape[i], kernel[i], strides[i]) if padding == "same" else (0, 0) for i in range(2)]
    padded = np.pad(image.astype(np.float64), [*around, (0, 0)], constant_values=fill)
    for y in range((padded.shape[0] - kernel[0]) // strides[0] + 1):
        for x in range((padded.shape[1] - kernel[1]) // strides[1] + 1):
            top, left = y * strides[0], x * strides[1]
            yield y, x, padded[top : top + kernel[0], left : left + kernel[1]]


def slide(image, kernel, strides, padding, function, fill=0.0) -> np.ndarray:
    """What a function makes of every window."""
    cells = {(y, x): function(w) for y, x, w in windows(image, kernel, strides, padding, fill)}
    height, width = (1 + max(place[i] for place in cells) for i in range(2))
    return np.array([[cells[y, x] for x in range(width)] for y in range(height)])


def conv(image, kernel, strides=(1, 1), padding="same") -> np.ndarray:
    """Conv2D, kernel (h, w, in, out)."""
    return slide(image, kernel.shape[:2], strides, padding, lambda w: np.einsum("hwi,hwio->o", w, kernel))


def depthwise(image, kernel, strides=(1, 1), padding="same") -> np.ndarray:
    """DepthwiseConv2D, kernel (h, w, in, times)."""
    return slide(image, kernel.shape[:2], strides, padding, lambda w: np.einsum("hwi,hwim->im", w, kernel).reshape(-1))


def mean(image, pool, strides, padding) -> np.ndarray:
    """AveragePooling2D: only pixels of the image count."""
    return slide(image, pool, strides, padding, lambda w: np.nanmean(w, axis=(0, 1)), np.nan)


def most(image, pool, strides, padding) -> np.ndarray:
    """MaxPooling2D."""
    return slide(image, pool, strides, padding, lambda w: w.max((0, 1)), -np.inf)


def norm(image, tensors, name, epsilon) -> np.ndarray:
    """BatchNormalization after training."""
    gamma, beta = tensors.get(f"{name}/gamma", 1.0), tensors.get(f"{name}/beta", 0.0)
    scale = gamma / np.sqrt(tensors[f"{name}/moving_variance"] + epsilon)
    return (image - tensors[f"{name}/moving_mean"]) * scale + beta


def softmax(numbers) -> np.ndarray:
    """Softmax of a vector."""
    powers = np.exp(numbers - numbers.max())
    return powers / powers.sum()


def small(image, t) -> tuple[np.ndarray, np.ndarray]:
    """The network of `bundles.small`: probabilities and embedding."""
    x = conv(np.pad(image, [(0, 1), (0, 1), (0, 0)]), t["conv/kernel"], (2, 2), "valid")
    x = np.clip(norm(x, t, "norm", 0.001), 0, 6)
    x = x + norm(depthwise(x, t["deep/depthwise_kernel"]), t, "norm2", 0.01)
    x = np.maximum(np.concatenate([mean(x, (3, 3), (1, 1), "same"), most(x, (3, 3), (1, 1), "same")], -1), 0)
    flat = mean(x, (3, 3), (3, 3), "valid").reshape(-1)
    embedding = np.maximum(flat @ t["first/kernel"] + t["first/bias"], 0)
    return softmax(embedding @ t["last/kernel"] + t["last/bias"]), embedding
