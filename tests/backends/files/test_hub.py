"""Whether the hub answers: asked once, and briefly."""

from __future__ import annotations

import http.server
import socket
import threading
import time

import pytest

from nsfw_guard.backends.files import hub, weights
from nsfw_guard.backends.spec import RepoFiles
from nsfw_guard.errors import WeightsMissingError


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    monkeypatch.setattr(hub, "_answered", set())
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server():
    asked = []

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            asked.append(self.path)
            self.send_response(404)
            self.end_headers()

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", asked
        running.shutdown()
        thread.join()


@pytest.fixture
def closed():
    """An address at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    return f"http://127.0.0.1:{port}"


def test_any_answer_counts_and_is_asked_for_once(server) -> None:
    address, asked = server
    assert [hub.absence(address), hub.absence(address)] == ["", ""]
    assert len(asked) == 1


def test_an_absent_server_is_reported_with_its_address(closed) -> None:
    assert hub.absence(closed).startswith(f"{closed.removeprefix('http://')} does not answer (")
    assert hub._answered == set()


def test_a_silent_server_is_waited_for_briefly() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        away = hub.absence(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.2)
        assert time.monotonic() - start < 2
    assert "timed out" in away


@pytest.mark.parametrize("address", ["file:///etc/passwd", "hub", ""])
def test_an_address_of_another_kind_is_not_opened(address) -> None:
    assert "must begin with https://" in hub.absence(address)


def test_a_certificate_is_left_to_the_hubs_own_client(monkeypatch) -> None:
    import ssl
    import urllib.error

    def refuse(*args, **kwargs):
        raise urllib.error.URLError(ssl.SSLCertVerificationError("unknown"))

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    assert hub.absence("https://127.0.0.1:1") == ""


def test_weights_are_not_waited_for_when_the_hub_is_unreachable(closed, tmp_path, monkeypatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", closed)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *args, **_: pytest.fail("its client was asked"))
    spec = RepoFiles(name="one", repo="some/one", revision="ab" * 20)
    with pytest.raises(WeightsMissingError, match="does not answer") as caught:
        weights.fetch(spec)
    assert "\n" not in str(caught.value)
