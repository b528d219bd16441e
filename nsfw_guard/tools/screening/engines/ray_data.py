"""Ray Data as an engine: an actor pool on this machine or a cluster. Entries go in, rows come out, images never do."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import socket
import tempfile
import zlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any

from nsfw_guard.errors import ConfigError, MissingExtraError, ScoringError
from nsfw_guard.tools.screening.chunks import ChunkScorer
from nsfw_guard.tools.screening.engines.base import Chunk, Judged, Local
from nsfw_guard.tools.screening.engines.worker import ChunkWorker, Tries, identity_of
from nsfw_guard.tools.screening.scorer import ScanSettings

SHARE = 1  # of the processors, which the actors leave to Ray itself: a pool that takes all of them may wait for ever
SECONDS_TO_START = 600  # in which the actors must be there
SECONDS_TO_CONNECT = 10
STORE = 256 << 20  # bytes of the object store of a Ray that is started here: rows only


class Ray(Local):
    """Judges with actors of Ray Data, each of which loads the model once and reads the images itself.

    Args:
        address: of a running cluster, such as "auto"; without one, Ray is started on this machine, and ended again.
            A Ray that this program has started already is used as it is.
        workers: actors; by default as many as there are GPUs with `device="cuda"`, else as many as the processors hold.

    Example:
        ```python
        settings = ScanSettings(model="demo-shapes")
        scan = Scan(["/shared/photos"], Path("scanned"), settings=settings, engine=Ray(workers=2))
        ```
    """

    def __init__(self, *, address: str | None = None, workers: int | None = None) -> None:
        if workers is not None and workers < 1:
            raise ConfigError(f"workers={workers} must be 1 or more")
        try:
            import ray.data  # noqa: F401
        except ImportError:
            raise MissingExtraError("ray", "ray") from None
        self.address, self.workers = address, workers

    def settings(self, settings: ScanSettings) -> ScanSettings:
        """Return the settings, unless they name one GPU: Ray gives each actor its own."""
        if (settings.device or "").startswith("cuda:"):
            raise ConfigError(f"the device is {settings.device!r}, but Ray chooses the GPU of each worker: pass 'cuda'")
        return settings

    def notice(self) -> str | None:
        """Return that Ray can be reached from elsewhere, where it is started here and can be."""
        if self.address is not None or not _is_reachable():
            return None
        return (
            "Ray listens on all interfaces of this machine while the scan runs, and whoever reaches it may run "
            "programs here: use it behind a firewall, or in a network namespace with the loopback interface only"
        )

    def judge(self, scorer: ChunkScorer, chunks: Iterator[Chunk]) -> Generator[Judged, None, None]:
        """Yield the rows of each chunk as it is done. A chunk whose worker is killed is given to another one.

        Raises:
            ConfigError: the cluster has fewer processors or GPUs than the workers need.
            ScoringError: a worker answers with another model or version, or died again and again.
        """
        # Compressed, these are a few bytes an image: less than the plan itself holds when it is written.
        items = [{"index": index, "entries": _packed(entries)} for index, entries in chunks]
        if not items:
            return
        from ray.exceptions import RayError

        with self._started():
            try:
                yield from self._stream(scorer, items)
            except RayError as error:
                text = str(error).strip().partition("\n")[0]
                raise ScoringError(
                    f"Ray has ended ({type(error).__name__}: {text}): run the same command again, which goes on"
                ) from error

    def _stream(self, scorer: ChunkScorer, items: Sequence[Mapping[str, Any]]) -> Iterator[Judged]:
        import ray.data
        import torch

        tries = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Tries).remote()
        threads = torch.get_num_threads()  # of each actor as well: with others, the last digits of scores may differ
        needs = {"num_cpus": threads, **({"num_gpus": 1} if _wants_gpu(scorer.scorer.settings) else {})}
        actors = min(len(items), _actors(ray.nodes(), self.workers, **needs))
        sent = ChunkScorer(scorer.scorer, scorer.readers, workers=min(scorer.workers, threads))
        data = ray.data.from_items(list(items), override_num_blocks=len(items)).map_batches(
            ChunkWorker,
            fn_constructor_args=(sent, identity_of(scorer.scorer), os.getcwd(), threads, tries),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=actors),
            **needs,
        )
        for row in data.iter_rows():
            if row["error"]:
                raise ScoringError(f"a Ray worker could not judge chunk {row['index']}: {row['error']}")
            yield int(row["index"]), row["rows"].rows

    @contextlib.contextmanager
    def _started(self) -> Iterator[None]:
        """A Ray to work with: that of this program, the cluster, or one that is started here and ended again."""
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing of a scan is reported to anybody
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # the standard error belongs to the scan
        import ray

        begun = not ray.is_initialized()
        folder = tempfile.mkdtemp(prefix="ray-", dir=_short()) if begun and self.address is None else ""
        try:
            if begun:
                self._connect(folder)
            _hush()
            yield
        finally:
            if begun:
                ray.shutdown()
            if folder:
                shutil.rmtree(folder, ignore_errors=True)

    def _connect(self, folder: str) -> None:
        """Join the cluster, or start Ray here, with its files in a folder."""
        import ray

        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        try:
            if self.address is not None:
                _reach(self.address)
                ray.init(address=self.address, **quiet)
                return
            ray.init(
                address="local", num_cpus=self._processors() + SHARE, include_dashboard=False,
                object_store_memory=STORE, _temp_dir=folder, **quiet,
            )  # fmt: skip
        except (OSError, ValueError, RuntimeError) as error:
            what = "started here" if self.address is None else f"reached at {self.address!r}"
            cure = "make room and memory" if self.address is None else "check the address"
            raise ConfigError(f"Ray cannot be {what} ({error}): {cure}") from error

    def _processors(self) -> int:
        """How many processors a Ray that is started here is said to have: those that the actors ask for."""
        import torch

        threads = torch.get_num_threads()
        return threads * (self.workers or max(1, (os.cpu_count() or 1) // threads))


def _actors(nodes: Sequence[Mapping[str, Any]], wanted: int | None, *, num_cpus: int, num_gpus: int = 0) -> int:
    """How many actors the nodes hold beside the share of Ray itself, or as many as are wanted, where they fit."""
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    processors = sum(resources.get("CPU", 0) for resources in alive)
    gpus = sum(resources.get("GPU", 0) for resources in alive)
    room = min(
        sum(int(resources.get("CPU", 0) // num_cpus) for resources in alive), int((processors - SHARE) // num_cpus)
    )
    room = min(room, int(gpus // num_gpus)) if num_gpus else room
    if room < (wanted or 1):
        raise ConfigError(
            f"expected room for {wanted or 1} x {num_cpus} processors{f' and {num_gpus} GPU' if num_gpus else ''} of "
            f"workers and {SHARE} for Ray itself, got a cluster of {processors:g} processors and {gpus:g} GPUs: ask "
            "for fewer workers, set OMP_NUM_THREADS to fewer processors for each, or add nodes"
        )
    return wanted or room


def _reach(address: str) -> None:
    """Connect to an address with a port once: Ray itself would try for many minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=SECONDS_TO_CONNECT).close()


def _short() -> str:
    """A folder whose name leaves room for those of Ray's sockets, which may have 107 letters in all."""
    folder = tempfile.gettempdir()
    return "/tmp" if len(folder) > 30 and os.path.isdir("/tmp") else folder  # noqa: S108 - mkdtemp makes one of its own


def _hush() -> None:
    """Leave the standard error to the scan."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.wait_for_min_actors_s = SECONDS_TO_START
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def _wants_gpu(settings: ScanSettings) -> bool:
    return settings.device == "cuda"


def _packed(entries: Sequence[Any]) -> bytes:
    return zlib.compress(json.dumps([entry.to_line() for entry in entries]).encode("ascii"))


def _is_reachable() -> bool:
    """Whether this machine has an address beside the loopback's, as Ray finds out: nothing is sent."""
    for family, address in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
            return True
    return False
