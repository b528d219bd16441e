"""A Milvus server of this machine for tests: milvus-lite, on the loopback interface only."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SECONDS = 60.0  # in which it must answer


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of a server; its whole process group is ended afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [Path(sys.executable).with_name("milvus-lite"), "server", "--data-dir", folder / "data"]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    try:
        _wait(server, port, folder / "log")
        assert listening(server.pid) == {("127.0.0.1", port)}
        yield f"http://127.0.0.1:{port}"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait(timeout=10)


def listening(process: int) -> set[tuple[str, int]]:
    """The addresses at which a process and its children wait for connections."""
    import psutil

    parent = psutil.Process(process)
    return {
        (one.laddr.ip.removeprefix("::ffff:"), one.laddr.port)
        for each in (parent, *parent.children(recursive=True))
        for one in each.net_connections(kind="inet")
        if one.status == psutil.CONN_LISTEN
    }


def _wait(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        assert server.poll() is None, log.read_text()
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise AssertionError(log.read_text())
