"""Asks a running host what its guard does: the only answer that no folder or start file can falsify."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from nsfw_guard.errors import ConfigError
from nsfw_guard.jsonfile import parse_json
from nsfw_guard.version import __version__

WEBUI, COMFYUI = "/sdapi/v1/nsfw-guard/status", "/nsfw-guard/status"
LOGIN = "NSFW_GUARD_LOGIN"  # "user:password"; not on the command line, which other users of a machine can read
MAX_ANSWER_BYTES = 1 << 20


@dataclass(frozen=True)
class Running:
    """What the guard of a running host said, and what is wrong with it: nothing where it covers every way out."""

    url: str
    says: str
    faults: tuple[str, ...]


def ask(host: str, url: str, *, timeout: float = 10.0, environment: Mapping[str, str] | None = None) -> Running:
    """Gives what the guard of a running host says of itself.

    Args:
        host: "sdnext", "a1111" or "comfyui".
        url: where it listens, such as "http://127.0.0.1:7860".
        timeout: seconds to wait for an answer.
        environment: in place of the process's own; `NSFW_GUARD_LOGIN` is the host's "user:password".

    Raises:
        ConfigError: nobody answers there, or nothing that can be read.

    Example:
        >>> ask("sdnext", "http://127.0.0.1:7860").faults
        ()
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise ConfigError(f"{url!r} is not the address of a host: give one such as http://127.0.0.1:7860")
    environ = os.environ if environment is None else environment
    request = Request(url.rstrip("/") + (COMFYUI if host == "comfyui" else WEBUI))  # noqa: S310  (checked above)
    if login := environ.get(LOGIN):
        request.add_header("Authorization", "Basic " + base64.b64encode(login.encode()).decode())
    try:
        with urlopen(request, timeout=timeout) as answer:  # noqa: S310
            data = answer.read(MAX_ANSWER_BYTES + 1)
    except HTTPError as error:
        if error.code in {401, 403}:
            raise ConfigError(f"the host asks for a password: set {LOGIN}=user:password") from error
        gone = f"the host runs without the guard (it answers {error.code}): it reads its extensions from another folder"
        return Running(url, "not there", (gone,))
    except (URLError, OSError, ValueError) as error:
        why = getattr(error, "reason", error)
        raise ConfigError(f"no host answers at {url} ({why}): start it, or give the port it listens on") from error
    return _read(host, url, data)


def _read(host: str, url: str, data: bytes) -> Running:
    try:
        status = parse_json(data, f"the answer of {url}")
    except ConfigError:
        status = {}
    if "enabled" not in status or "settings" not in status:  # some page of another server
        return Running(url, "not there", ("what answers there is no guard of a host: is that the right port?",))
    return Running(url, _says(status), tuple(_faults(host, status)))


def _says(status: Mapping[str, Any]) -> str:
    if not status["enabled"]:
        return "OFF"
    settings = status["settings"]
    locked = "locked by the owner" if status.get("locked") else "as chosen"
    return f"on: {settings.get('model')}, {settings.get('action')}, {locked}"


def _faults(host: str, status: Mapping[str, Any]) -> list[str]:
    faults = []
    if status.get("host") != host:
        faults.append(f"this is {status.get('host')}, not {host}: give the port of {host}")
    if status.get("version") != __version__:
        faults.append(f"it runs nsfw-guard {status.get('version')}, this is {__version__}: start it again")
    if not status["enabled"]:
        faults.append("the guard is off: nothing is checked")
    if status.get("enforced") is False:
        faults.append("its nodes alone are there, no graph is covered: take NSFW_GUARD_ENFORCE=0 away")
    if status.get("fault"):
        faults.append(f"every image is covered: {status['fault']}")
    return faults + [f"not closed on this version of the host: {way}" for way in status.get("open", ())]
