"""Engines by their names, for commands."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal, get_args

from nsfw_guard.errors import ConfigError, UnknownNameError
from nsfw_guard.tools.screening.engines.base import Engine, Local
from nsfw_guard.tools.screening.engines.ray_data import Ray
from nsfw_guard.tools.screening.engines.shards import Shards, ranks_of

EngineName = Literal["local", "ray", "shards"]


def engine_of(
    name: str,
    *,
    address: str | None = None,
    workers: int | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Engine:
    """Return the engine of this name.

    Args:
        name: "local", "ray" or "shards".
        address: of a Ray cluster; only for "ray".
        workers: processes of "ray".
        environment: where torchrun names the rank of this process.

    Raises:
        ConfigError: the engine does not fit what started this process, or its other arguments.
    """
    if name not in get_args(EngineName):
        raise UnknownNameError("engine", name, get_args(EngineName))
    if address is not None and name != "ray":
        raise ConfigError(f"an address of Ray is of no use to the engine {name!r}: pass --engine ray, or none")
    if name == "shards":
        return Shards.from_environment(environment)
    ranks = ranks_of(environment) if "RANK" in environment else None
    if ranks is not None and ranks.world > 1:
        raise ConfigError(
            f"{ranks.world} processes were started for one scan by the engine {name!r}, which is for one: pass "
            "--engine shards, or start it without torchrun"
        )
    return Ray(address=address, workers=workers) if name == "ray" else Local()
