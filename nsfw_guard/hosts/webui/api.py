"""Two routes of one's own on the server of a web UI: check one image, and say what is in effect."""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Callable
from typing import Any

from nsfw_guard.errors import ConfigError
from nsfw_guard.hosts.session import HostGuard
from nsfw_guard.hosts.webui.host import Host
from nsfw_guard.verdict import Verdict

log = logging.getLogger(__name__)

CHECK, STATUS = "/sdapi/v1/nsfw-guard/check", "/sdapi/v1/nsfw-guard/status"
MAX_BASE64_CHARS = 32 * 1024 * 1024  # characters of base64


def check_one(guard: HostGuard, payload: Any) -> dict[str, Any]:
    """Return the verdict on `{"image": base64}`, as its dict. What is no image is an error verdict, never an
    exception.
    """
    text = payload.get("image") if isinstance(payload, dict) else None
    if not isinstance(text, str) or not text:
        return _refused('send {"image": "..."}: one image, as base64 or as a data URL')
    if len(text) > MAX_BASE64_CHARS:
        return _refused(f"more than {MAX_BASE64_CHARS} characters: send a smaller image")
    data = text.partition(",")[2] if text.startswith("data:") else text
    try:
        raw = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return _refused("no base64: encode the bytes of the file")
    return guard.judge(raw).to_dict()


def _refused(why: str) -> dict[str, Any]:
    return Verdict.error(why).to_dict()


def add_routes(host: Host, app: Any, guard: HostGuard, coverage: Callable[[], Any]) -> None:
    """Adds both routes, behind the password of the host where it has one.

    Raises:
        ConfigError: the host asks for a password and its routes cannot be put behind it; then there are none.
    """

    def check(payload: dict) -> dict:  # type: ignore[type-arg]
        return check_one(guard, payload)

    def status() -> dict:  # type: ignore[type-arg]
        return {**guard.status(), "coverage": coverage()}

    taken = {getattr(route, "path", "") for route in getattr(app, "routes", ())}
    add = _adder(host, app)
    for path, handler, method in ((CHECK, check, "POST"), (STATUS, status, "GET")):
        if path not in taken:
            # The annotations above are texts here; web frameworks look at what they mean.
            handler.__annotations__ = {"payload": dict, "return": dict} if handler is check else {"return": dict}
            add(path, handler, methods=[method])


def _adder(host: Host, app: Any) -> Callable[..., Any]:
    """What adds a route behind the host's own password."""
    api = host.get("modules.shared", "api")
    if hasattr(api, "add_api_route"):
        return api.add_api_route  # type: ignore[no-any-return]
    options = host.get("modules.shared", "cmd_opts")
    secret = getattr(options, "api_auth", None) or getattr(options, "auth", None)
    if not secret:
        return app.add_api_route  # type: ignore[no-any-return]
    return _behind(app, _pairs(str(secret)))


def _pairs(secret: str) -> dict[str, str]:
    pairs = {name.strip(): word for name, colon, word in (p.partition(":") for p in secret.split(",")) if colon}
    if not pairs:
        raise ConfigError("the host's --api-auth must be user:password: the guard adds no routes until it is")
    return pairs


def _behind(app: Any, pairs: dict[str, str]) -> Callable[..., Any]:
    """Routes that ask for a name and a password, as the host's own do."""
    import importlib
    import secrets

    try:
        fastapi: Any = importlib.import_module("fastapi")
        security: Any = importlib.import_module("fastapi.security")
    except ImportError as error:
        raise ConfigError("the host asks for a password and has no fastapi: the guard adds no routes") from error

    def asked(credentials: Any) -> bool:
        known = pairs.get(credentials.username)
        if known is None or not secrets.compare_digest(credentials.password.encode(), known.encode()):
            raise fastapi.HTTPException(401, "wrong name or password", headers={"WWW-Authenticate": "Basic"})
        return True

    asked.__annotations__ = {"credentials": security.HTTPBasicCredentials, "return": bool}
    asked.__defaults__ = (fastapi.Depends(security.HTTPBasic()),)

    def add(path: str, handler: Any, methods: list[str]) -> None:
        app.add_api_route(path, handler, methods=methods, dependencies=[fastapi.Depends(asked)])

    return add
