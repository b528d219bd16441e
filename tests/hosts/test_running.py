"""What a running host says of its guard, from small servers on this machine."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from nsfw_guard.errors import ConfigError
from nsfw_guard.hosts.running import COMFYUI, LOGIN, WEBUI, ask
from nsfw_guard.version import __version__

GOOD: dict[str, Any] = {
    "host": "sdnext", "version": __version__, "enabled": True, "locked": True, "fault": "", "open": [],
    "settings": {"model": "marqo", "action": "blur"},
}  # fmt: skip
Serve = Callable[..., str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a server that answers with one text, and gives its address."""
    servers = []

    def start(body: Any, *, path: str = WEBUI, login: str = "") -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                known = "Basic " + base64.b64encode(login.encode()).decode()
                code = 401 if login and self.headers.get("Authorization") != known else 200
                self.send_response(code if self.path == path else 404)
                self.end_headers()
                self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())

            def log_message(self, *_: Any) -> None: ...

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(("said", "fault"), [
    ({"enabled": False}, "the guard is off: nothing is checked"),
    ({"fault": "no weights"}, "every image is covered: no weights"),
    ({"open": ["live previews"]}, "not closed on this version of the host: live previews"),
    ({"enforced": False}, "its nodes alone are there"),
    ({"version": "0.0.1"}, "it runs nsfw-guard 0.0.1"),
    ({"host": "comfyui"}, "this is comfyui, not sdnext"),
])  # fmt: skip
def test_what_is_wrong_is_said(serve, said, fault):
    (matches,) = ask("sdnext", serve({**GOOD, **said})).faults
    assert matches.startswith(fault)


def test_a_guard_that_works_has_no_faults(serve):
    running = ask("sdnext", serve(GOOD))
    assert (running.says, running.faults) == ("on: marqo, blur, locked by the owner", ())
    running = ask("comfyui", serve({**GOOD, "host": "comfyui", "enforced": True, "locked": False}, path=COMFYUI))
    assert (running.says, running.faults) == ("on: marqo, blur, as chosen", ())
    assert ask("sdnext", serve({**GOOD, "enabled": False})).says == "OFF"


def test_a_host_without_the_guard_is_no_all_clear(serve):
    running = ask("sdnext", serve(GOOD, path="/elsewhere"))
    assert running.says == "not there"
    assert "runs without the guard (it answers 404)" in running.faults[0]


@pytest.mark.parametrize("page", [b"<html>", b"{}", b"[]", b"\xff", b'{"enabled": true}', b" " * (2 << 20)])
def test_another_page_is_no_guard(serve, page):
    assert ask("sdnext", serve(page)).faults == ("what answers there is no guard of a host: is that the right port?",)


def test_a_password_is_asked_for_and_taken_from_the_environment(serve):
    url = serve(GOOD, login="me:secret")
    for environment in ({}, {LOGIN: "me:wrong"}):
        with pytest.raises(ConfigError, match="asks for a password: set NSFW_GUARD_LOGIN=user:password"):
            ask("sdnext", url, environment=environment)
    assert ask("sdnext", url, environment={LOGIN: "me:secret"}).faults == ()


@pytest.mark.parametrize("url", ["127.0.0.1:7860", "file:///etc/passwd", "http://", "ftp://127.0.0.1"])
def test_what_is_no_address_is_refused(url):
    with pytest.raises(ConfigError, match="is not the address of a host: give one such as"):
        ask("sdnext", url)


def test_nobody_there_is_said(serve):
    with pytest.raises(ConfigError, match=r"no host answers at .* start it, or give the port"):
        ask("sdnext", "http://127.0.0.1:9", timeout=2.0)
