"""Ray Data as an engine: one real Ray for all of these, in a network namespace with the loopback interface only."""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from nsfw_guard.errors import ConfigError, MissingExtraError
from nsfw_guard.tools.screening import scan
from nsfw_guard.tools.screening.chunks import ChunkScorer
from nsfw_guard.tools.screening.engines import ray_data
from nsfw_guard.tools.screening.engines.ray_data import Ray
from nsfw_guard.tools.screening.engines.worker import TRIES, ChunkWorker, Tries, identity_of
from nsfw_guard.tools.screening.results import rows_of
from nsfw_guard.tools.screening.scorer import ScanSettings, Scorer
from nsfw_guard.tools.screening.sources.entries import Entry
from nsfw_guard.tools.screening.sources.readers import Folder
from tests.tools.screening.engines.drawing import BAD, CHUNK, SETTINGS, command, draw, environment, run, written

pytest.importorskip("ray", reason="Ray is not installed")
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}  # as /proc writes them


def inside(words: Sequence[str], **more: str) -> subprocess.CompletedProcess[str]:
    """Runs a command where only the loopback interface is: elsewhere, Ray would listen on all of them."""
    try:
        subprocess.run(["unshare", "-n", "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("network namespaces are not permitted here, and outside of one Ray would listen on all interfaces")
    return subprocess.run(
        ["unshare", "-n", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *words],
        env={**environment(), **more}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with five chunks of eight images, and one of four."""
    home = tmp_path_factory.mktemp("ray")
    draw(home / "in", 44)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "CHUNK", CHUNK)
        run(home / "in", home / "whole")
    return home


@pytest.fixture(scope="module")
def ran(home: Path) -> Mapping[str, Any]:
    """What happened to a scan that this process began, and Ray went on with."""
    ran = inside([sys.executable, "-m", "tests.tools.screening.engines.over_ray", str(home)])
    assert ran.returncode == 0, ran.stderr
    assert "Deprecat" not in ran.stderr
    content: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return content


def test_a_worker_that_is_killed_loses_nothing_and_the_output_is_that_of_the_local_engine(
    ran: Mapping[str, Any], home: Path
) -> None:
    assert len(ran["killed"]) == 1
    assert len(ran["after"]) == 1
    assert ran["after"] != ran["killed"]
    assert written(home / "out") == written(home / "whole")


def test_a_bad_file_is_a_row(ran: Mapping[str, Any], home: Path) -> None:
    rows = [(Path(row["key"]).name, row["outcome"]) for row in rows_of(home / "out")]
    assert len(rows) == 44
    assert [name for name, outcome in rows if outcome == "error"] == [f"{BAD:04d}.png"]


def test_too_few_processors_are_an_error_and_no_wait(ran: Mapping[str, Any]) -> None:
    assert ran["refused"].startswith(
        "expected room for 2 x 1 processors of workers and 1 for Ray itself, got a cluster of 2 processors and 0 GPUs"
    )
    assert ran["seconds"] < 20


def test_nobody_else_can_reach_it_and_it_is_left_to_who_started_it(ran: Mapping[str, Any]) -> None:
    assert ran["addresses"]
    assert set(ran["addresses"]) <= LOOPBACK
    assert ran["left"] is True


@pytest.mark.slow
def test_the_command_starts_ray_and_ends_it_again(home: Path, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as temporary:  # short, for the sockets of Ray
        words = command(home / "in", tmp_path / "out", "--engine", "ray", "--workers", "2")
        ran = inside(words, TMPDIR=temporary)
        left = list(Path(temporary).glob("ray-*"))
    assert left == []
    assert ran.returncode == 0, ran.stderr
    assert written(tmp_path / "out") == written(home / "whole")
    assert "listens on all interfaces" not in ran.stderr
    assert "44 images, model demo-shapes" in ran.stderr


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://[::1]:1"])
def test_an_address_where_no_cluster_is(address: str, home: Path) -> None:
    judge = ChunkScorer(Scorer(SETTINGS), [Folder(str(home / "in"))])
    with pytest.raises(
        ConfigError, match=rf"Ray cannot be reached at {re.escape(repr(address))} .*: check the address"
    ):
        list(Ray(address=address).judge(judge, iter([(0, [])])))


NODES = [
    {"Alive": True, "Resources": {"CPU": 4.0, "GPU": 2.0}}, {"Alive": True, "Resources": {"CPU": 4.0}},
    {"Alive": False, "Resources": {"CPU": 64.0}},
]  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "needs", "actors"),
    [
        (None, {"num_cpus": 1}, 7),
        (None, {"num_cpus": 2}, 3),
        (None, {"num_cpus": 3}, 2),  # one on each node
        (None, {"num_cpus": 1, "num_gpus": 1}, 2),
        (2, {"num_cpus": 1}, 2),
    ],
)
def test_how_many_actors_fit(wanted: int | None, needs: dict[str, int], actors: int) -> None:
    assert ray_data._actors(NODES, wanted, **needs) == actors


@pytest.mark.parametrize(
    ("wanted", "needs"), [(8, {"num_cpus": 1}), (None, {"num_cpus": 5}), (3, {"num_cpus": 1, "num_gpus": 1})]
)
def test_actors_that_do_not_fit(wanted: int | None, needs: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="got a cluster of 8 processors and 2 GPUs: ask for fewer workers"):
        ray_data._actors(NODES, wanted, **needs)


def test_without_ray_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray.data", None)
    with pytest.raises(MissingExtraError, match=r"ray is not installed: run `pip install 'nsfw-guard\[ray\]'`"):
        Ray()


def test_settings_that_ray_cannot_follow() -> None:
    with pytest.raises(ConfigError, match="workers=0 must be 1 or more"):
        Ray(workers=0)
    with pytest.raises(ConfigError, match="the device is 'cuda:1', but Ray chooses the GPU of each worker"):
        Ray().settings(ScanSettings(device="cuda:1"))
    assert Ray().settings(SETTINGS) is SETTINGS


@pytest.mark.parametrize(
    ("reachable", "address", "said"), [(True, None, True), (True, "auto", False), (False, None, False)]
)
def test_who_starts_ray_is_warned(
    reachable: bool, address: str | None, said: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_data, "_is_reachable", lambda: reachable)
    assert ("listens on all interfaces" in (Ray(address=address).notice() or "")) is said


def test_nothing_left_starts_no_ray(home: Path) -> None:
    judge = ChunkScorer(Scorer(SETTINGS), [Folder(str(home / "in"))])
    assert list(Ray().judge(judge, iter([]))) == []


class Now:
    """An actor whose answers are there at once."""

    def __init__(self, begun: int) -> None:
        self.begin, self.begun = self, begun

    def remote(self, index: int) -> int:
        return self.begun


@pytest.fixture
def worker(home: Path, monkeypatch: pytest.MonkeyPatch) -> ChunkWorker:
    import ray

    monkeypatch.chdir(home)
    monkeypatch.setattr(ray, "get", lambda answer: answer)
    scorer = pickle.loads(pickle.dumps(ChunkScorer(Scorer(SETTINGS), [Folder("in")])))  # noqa: S301 - just written
    return ChunkWorker(scorer, identity_of(scorer.scorer), os.getcwd(), 1, Now(1))


def batch(*names: str) -> dict[str, Any]:
    return {"index": [3], "entries": [ray_data._packed([Entry(f"in/{name}", 0, f"in/{name}") for name in names])]}


def test_a_worker_reads_relative_sources(worker: ChunkWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    answer = worker(batch("0000.png", "none.png"))
    assert (list(answer["index"]), list(answer["error"])) == ([3], [""])
    rows = [(row.key, row.status) for row in answer["rows"][0].rows]
    assert rows == [("in/0000.png", "judged"), ("in/none.png", "error")]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("directory", "/none", "ConfigError: '/none', in which the scan was begun, is not on this node"),
        ("tries", Now(TRIES + 1), "ScoringError: 5 workers were ended at it"),
        ("identity", {"revision": "another"}, "ConfigError: this node has revision ="),
        ("identity", {"version": "0.0.1"}, "and the scan was begun with '0.0.1': install the same on all nodes"),
    ],
)
def test_what_a_worker_cannot_do_is_a_text(name: str, value: Any, said: str, worker: ChunkWorker) -> None:
    setattr(worker, name, value)
    answer = worker(batch("0000.png"))
    assert said in answer["error"][0]
    assert answer["rows"][0].rows == []


def test_tries_are_counted_for_each_chunk() -> None:
    tries = Tries()
    assert [tries.begin(index) for index in (1, 1, 2, 1)] == [1, 2, 1, 3]
