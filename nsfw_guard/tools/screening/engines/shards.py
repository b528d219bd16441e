"""Several processes on one host, such as one for each GPU, started by torchrun or `accelerate launch`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

from nsfw_guard.errors import ConfigError
from nsfw_guard.tools.lock import MOST_RANKS
from nsfw_guard.tools.screening.engines.base import Local
from nsfw_guard.tools.screening.scorer import ScanSettings

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
_START = "start it with `torchrun --nproc-per-node N -m nsfw_guard.cli.main scan ... --engine shards`"


@dataclass(frozen=True)
class Ranks:
    """The place of this process among those of its job."""

    rank: int
    world: int
    local: int


def ranks_of(environment: Mapping[str, str]) -> Ranks | None:
    """Return what torchrun or `accelerate launch` has set; None where it has set nothing.

    Raises:
        ConfigError: it is incomplete, or not a rank below the number of ranks.
    """
    given = {name: environment[name] for name in VARIABLES if name in environment}
    if not given:
        return None
    missing = [name for name in VARIABLES if name not in given]
    if missing:
        raise ConfigError(f"of {', '.join(VARIABLES)}, the environment lacks {', '.join(missing)}: {_START}")
    try:
        ranks = Ranks(*(int(given[name]) for name in VARIABLES))
    except ValueError:
        ranks = Ranks(-1, 0, 0)
    if not 0 <= ranks.rank < ranks.world <= MOST_RANKS or ranks.local < 0:
        shown = ", ".join(f"{name}={value!r}" for name, value in given.items())
        raise ConfigError(f"expected a rank below WORLD_SIZE, which is at most {MOST_RANKS}, got {shown}: {_START}")
    return ranks


class Shards(Local):
    """Judges every chunk whose index belongs to this rank, on the GPU of this rank.

    Args:
        rank: from 0; rank 0 writes the plan, and waits for the parts of the others.
        world: the number of ranks.
        local: the number of this process on its host, which is that of its GPU; by default the rank.

    Example:
        ```python
        engine = Shards.from_environment({"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"})
        scan = Scan(["photos"], Path("scanned"), settings=ScanSettings(model="demo-shapes"), engine=engine)
        ```
    """

    def __init__(self, rank: int, world: int, *, local: int | None = None) -> None:
        if not 0 <= rank < world <= MOST_RANKS:
            raise ConfigError(f"rank={rank} must be from 0 to below world={world}, which is at most {MOST_RANKS}")
        self.rank, self.world, self.local = rank, world, rank if local is None else local

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Shards:
        """Return the engine for the rank that the environment names.

        Raises:
            ConfigError: it names none.
        """
        ranks = ranks_of(environment)
        if ranks is None:
            raise ConfigError(f"shards need {', '.join(VARIABLES)} in the environment, which has none: {_START}")
        return cls(ranks.rank, ranks.world, local=ranks.local)

    def settings(self, settings: ScanSettings) -> ScanSettings:
        """Return the settings with the GPU of this rank, where there are GPUs and no other device was asked for."""
        import torch

        if settings.device not in {None, "cuda"} or not torch.cuda.is_available():
            return settings
        if self.local >= torch.cuda.device_count():
            raise ConfigError(
                f"rank {self.rank} wants GPU {self.local}, but this host has {torch.cuda.device_count()}: start as "
                "many processes as there are GPUs, or pass a device"
            )
        return replace(settings, device=f"cuda:{self.local}")
