"""A few ONNX nodes at a time, named as they are added."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

FLOAT, INT32, INT64, DOUBLE = 1, 6, 7, 11  # ONNX's numbers for types


class Graph:
    """Nodes and constants, whose names begin with a prefix that no exporter uses."""

    def __init__(self, prefix: str = "image.") -> None:
        self.prefix = prefix
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add a node, and return the name of its output."""
        from onnx import helper

        name = output or f"{self.prefix}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, value: object, dtype: npt.DTypeLike) -> str:
        """Add a constant, and return its name."""
        from onnx import numpy_helper

        name = f"{self.prefix}constant.{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def double(self, value: float) -> str:
        """Add a number in double precision."""
        return self.constant(value, np.float64)

    def whole(self, value: int) -> str:
        """Add a whole number of 64 bits."""
        return self.constant(value, np.int64)

    def cast(self, name: str, dtype: int) -> str:
        """Add a conversion; from fractions to whole numbers it cuts off."""
        return self.add("Cast", name, to=dtype)

    def truncated(self, name: str) -> str:
        """Add the cutting off of fractions, as C does it."""
        return self.cast(self.cast(name, INT64), DOUBLE)

    def branch(self) -> Any:
        """Return the nodes as a branch of an If, whose result is the output of the last one."""
        from onnx import helper

        output = helper.make_tensor_value_info(self.nodes[-1].output[0], FLOAT, None)
        return helper.make_graph(self.nodes, self.prefix, [], [output], self.constants)
