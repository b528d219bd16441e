"""Ranks of a job: together they write what one process would, and one that is killed is missed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from nsfw_guard.errors import ConfigError, UnknownNameError
from nsfw_guard.tools import lock
from nsfw_guard.tools.screening import scan
from nsfw_guard.tools.screening.engines.base import Local
from nsfw_guard.tools.screening.engines.choose import engine_of
from nsfw_guard.tools.screening.engines.shards import Shards
from nsfw_guard.tools.screening.results import rows_of
from nsfw_guard.tools.screening.scorer import ScanSettings
from tests.tools.screening.engines.drawing import BAD, CHUNK, command, draw, environment, run, scan_of, written


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "CHUNK", CHUNK)
    monkeypatch.setattr(scan, "_PAUSE", 0.01)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five chunks of eight images, and one of four."""
    return draw(tmp_path_factory.mktemp("images") / "in", 44)


@pytest.fixture
def whole(source: Path, tmp_path: Path) -> Mapping[str, bytes]:
    """What one process writes."""
    run(source, tmp_path / "whole")
    return written(tmp_path / "whole")


def started(source: Path, out: Path, rank: int, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(source, out, "--engine", "shards", *words),
        env=environment(rank), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_two_processes_write_what_one_would_and_only_rank_0_speaks(
    source: Path, whole: Mapping[str, bytes], tmp_path: Path
) -> None:
    out, copies = tmp_path / "out", tmp_path / "copies"
    ranks = [started(source, out, rank, "--json", "--copy", str(copies)) for rank in (1, 0)]
    said = [rank.communicate(timeout=120) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], said
    assert written(out) == whole
    assert said[0] == ("", "")
    assert json.loads(said[1][0])["images"] == 44
    assert len(list(copies.rglob("*.png"))) == 44
    errors = [Path(row["key"]).name for row in rows_of(out) if row["outcome"] == "error"]
    assert errors == [f"{BAD:04d}.png"]


def test_a_rank_that_is_killed_is_missed_and_another_engine_goes_on(
    source: Path, whole: Mapping[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    rank_1 = started(source, out, 1)
    first = scan_of(source, out, Shards(0, 2)).run()
    next(first)  # it holds the folder now, and rank 1 is let in
    deadline = time.monotonic() + 60
    while not (out / "part-000001.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(rank_1.pid, signal.SIGSTOP)
    next(first)
    os.kill(rank_1.pid, signal.SIGKILL)
    rank_1.communicate()
    for index in (1, 3, 5):  # as if it had been killed before it came to any of these
        (out / f"part-{index:06d}.jsonl").unlink(missing_ok=index > 1)
    with pytest.raises(ConfigError, match=r"rank 1 has ended without part 1: run the same command again"):
        list(first)
    assert sorted(path.name for path in out.glob("part-*.jsonl")) == [f"part-{i:06d}.jsonl" for i in (0, 2, 4)]
    (out / "part-000003.jsonl.0123.new").write_text("half a part")
    progress = run(source, out)
    assert [bool(one.rows) for one in progress] == [False, True] * 3
    assert written(out) == whole
    assert not list(out.glob("*.new"))


def test_ranks_in_one_process_and_their_progress(source: Path, whole: Mapping[str, bytes], tmp_path: Path) -> None:
    """Begun by one process, gone on with by three ranks, of which one comes before rank 0."""
    out = tmp_path / "out"
    begun = scan_of(source, out).run()
    assert next(begun).index == 0
    begun.close()
    progress: dict[int, list[tuple[int, bool, bool]]] = {}

    def judge(rank: int) -> None:
        ran = run(source, out, Shards(rank, 3))
        progress[rank] = [(one.index, bool(one.rows), one.elsewhere) for one in ran]

    others = [threading.Thread(target=judge, args=(rank,)) for rank in (1, 2)]
    for other in others:
        other.start()
    judge(0)
    for other in others:
        other.join()
    assert progress[1] == [(1, True, False), (4, True, False)]
    assert progress[2] == [(2, True, False), (5, True, False)]
    others_parts = [(index, False, True) for index in (1, 2, 4, 5)]
    assert progress[0] == [(0, False, False), (3, True, False), *others_parts]
    assert written(out) == whole
    again = run(source, out, Shards(1, 3))  # rank 0 is long gone, but there is nothing to do
    assert [bool(one.rows) for one in again] == [False, False]


def test_a_second_job_is_refused_while_a_rank_lives(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "SECONDS_TO_START", 0.2)
    first = scan_of(source, tmp_path / "out", Shards(0, 2)).run()
    next(first)
    for engine in (Local(), Shards(0, 2)):
        with pytest.raises(ConfigError, match="another process writes into"):
            run(source, tmp_path / "out", engine)
    first.close()
    with pytest.raises(ConfigError, match="has waited 0 s for rank 0"):
        run(source, tmp_path / "out", Shards(1, 2))


def test_a_rank_that_never_comes_is_an_error(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "SECONDS_TO_START", 0.2)
    with pytest.raises(ConfigError, match="rank 1 has ended without part 1"):
        run(source, tmp_path / "out", Shards(0, 2))


@pytest.mark.parametrize(
    ("asked", "device"), [(None, "cuda:1"), ("cuda", "cuda:1"), ("cpu", "cpu"), ("cuda:0", "cuda:0")]
)
def test_each_rank_has_a_gpu(asked: str | None, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    settings = ScanSettings(model="demo-shapes", device=asked)
    assert Shards(3, 4, local=1).settings(settings).device == device
    if asked in {None, "cuda"}:
        with pytest.raises(ConfigError, match="rank 3 wants GPU 3, but this host has 2"):
            Shards(3, 4).settings(settings)


def test_without_gpus_the_device_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Shards(1, 2).settings(ScanSettings(model="demo-shapes")).device is None


class OnGpu(Local):
    """Judges on a device with a number, of which a scan must not know."""

    def settings(self, settings: ScanSettings) -> ScanSettings:
        return ScanSettings(model="demo-shapes", batch_size=3, device="cpu:0")


def test_the_number_of_the_device_is_not_recorded(source: Path, tmp_path: Path) -> None:
    next(scan_of(source, tmp_path / "out", OnGpu()).run())
    content = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (content["settings"]["device"], content["state"]["device"]) == (None, "cuda")


ONE = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
TWO = {**ONE, "WORLD_SIZE": "2"}


def test_engines_by_name() -> None:
    assert type(engine_of("local", environment={})) is Local
    assert type(engine_of("local", environment=ONE)) is Local
    engine = engine_of("shards", environment={"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"})
    assert isinstance(engine, Shards)
    assert (engine.rank, engine.world, engine.local, engine.notice()) == (5, 8, 1, None)


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("shards", {}, "has none: start it with `torchrun"),
        ("shards", {"RANK": "0"}, "the environment lacks WORLD_SIZE, LOCAL_RANK: start it with `torchrun"),
        ("shards", {**ONE, "RANK": "1"}, "expected a rank below WORLD_SIZE, which is at most 1024, got RANK='1'"),
        ("shards", {**ONE, "RANK": "first"}, "got RANK='first'"),
        ("shards", {**ONE, "LOCAL_RANK": "-1"}, "LOCAL_RANK='-1'"),
        ("shards", {**ONE, "WORLD_SIZE": "2000"}, "at most 1024"),
        ("local", TWO, "2 processes were started for one scan by the engine 'local'"),
        ("ray", TWO, "pass --engine shards, or start it without torchrun"),
    ],
)
def test_environments_that_do_not_fit(name: str, given: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        engine_of(name, environment=given)


def test_names_and_ranks_that_cannot_be() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'shards'"):
        engine_of("shard", environment={})
    with pytest.raises(ConfigError, match="is of no use to the engine 'shards'"):
        engine_of("shards", address="auto", environment=ONE)
    with pytest.raises(ConfigError, match="rank=2 must be from 0 to below world=2"):
        Shards(2, 2)


class Forgetful(Local):
    """Gives a row too few, or no chunk at all."""

    def __init__(self, few: bool) -> None:
        self.few = few

    def judge(self, scorer, chunks):
        for index, entries in chunks:
            if self.few:
                yield index, scorer(entries)[1:]


@pytest.mark.parametrize(("few", "said"), [(True, "gave 7 rows for chunk 0"), (False, "ended without 6 chunks")])
def test_an_engine_that_loses_rows_is_an_error(few: bool, said: str, source: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        run(source, tmp_path / "out", Forgetful(few))
    assert not list((tmp_path / "out").glob("part-*"))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("unshare") is None, reason="torchrun listens: it needs a network namespace")
def test_torchrun_starts_the_ranks(source: Path, whole: Mapping[str, bytes], tmp_path: Path) -> None:
    words = command(source, tmp_path / "out", "--engine", "shards")
    launch = [words[0], "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *words[1:]]
    ran = subprocess.run(
        ["unshare", "-n", "sh", "-c", 'ip link set lo up; exec "$@"', "sh", *launch],
        env=environment(), capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    if "unshare failed" in ran.stderr:
        pytest.skip("network namespaces are not permitted here")
    assert ran.returncode == 0, ran.stderr
    assert written(tmp_path / "out") == whole
