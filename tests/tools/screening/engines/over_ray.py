"""What the tests of Ray look at, as a program: it runs in a network namespace, where nobody else can reach Ray.

python -m tests.tools.screening.engines.over_ray HOME: the images are in HOME/in; JSON goes to standard output.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nsfw_guard.errors import ConfigError
from nsfw_guard.tools.screening import scan
from nsfw_guard.tools.screening.engines.ray_data import Ray
from tests.tools.screening.engines.drawing import CHUNK, run, scan_of


def listeners() -> list[str]:
    """The addresses at which anybody in this namespace listens."""
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            if state == "0A":
                found.append(local.partition(":")[0])
    return sorted(set(found))


def workers() -> list[int]:
    """The processes of the actors that judge."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            # Only those of this namespace: other tests may run beside this one.
            here = os.readlink(folder / "ns" / "net") == os.readlink("/proc/self/ns/net")
            if here and b"MapWorker" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


def killing(progress: Iterator[Any]) -> tuple[list[int], list[int]]:
    """Kills the worker after the second part that it has judged; returns it, and those that came after it."""
    killed, judged = [], 0
    for one in progress:
        judged += bool(one.rows)
        if judged == 2 and not killed:
            killed = workers()
            for pid in killed:
                os.kill(pid, signal.SIGKILL)
    return killed, workers()


def refused(source: Path, out: Path, count: int) -> tuple[str, float]:
    """What more workers than the cluster holds are answered with, and after how many seconds."""
    began = time.monotonic()
    try:
        run(source, out, Ray(workers=count))
    except ConfigError as error:
        return str(error), time.monotonic() - began
    return "", time.monotonic() - began


def main(argv: Sequence[str]) -> None:
    warnings.simplefilter("error", FutureWarning)
    scan.CHUNK = CHUNK
    home = Path(argv[0])
    begun = scan_of(home / "in", home / "out").run()
    next(begun)  # the first part is that of the local engine
    begun.close()
    import ray

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(address="local", num_cpus=2, include_dashboard=False, object_store_memory=100 << 20, log_to_driver=False)
    try:
        said, seconds = refused(home / "in", home / "few", 2)
        killed, after = killing(scan_of(home / "in", home / "out", Ray(workers=1)).run())
        addresses, left = listeners(), ray.is_initialized()
    finally:
        ray.shutdown()
    content = {"refused": said, "seconds": seconds, "killed": killed, "after": after}
    sys.stdout.write(json.dumps({**content, "addresses": addresses, "left": left}))


if __name__ == "__main__":
    main(sys.argv[1:])
