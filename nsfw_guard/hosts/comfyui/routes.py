"""A route of our own on the server of ComfyUI: what is in effect, for whoever asks whether the guard runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nsfw_guard.hosts.running import COMFYUI


def add_status(server: Any, status: Callable[[], dict[str, Any]]) -> None:
    """Adds the route, where the server is there and has it not yet."""
    routes, web = server.PromptServer.instance.routes, server.web  # the host's own name for aiohttp.web
    if any(getattr(route, "path", "") == COMFYUI for route in routes):
        return

    async def answer(_request: Any) -> Any:
        return web.json_response(status())

    routes.get(COMFYUI)(answer)
