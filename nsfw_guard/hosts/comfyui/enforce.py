"""Hooks for every graph of ComfyUI: no output node, preview or message carries an image that was not judged.

The host swallows what a handler raises, but not what a node raises: so output nodes are stopped by an exception, and
prompts are refused by being emptied.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from nsfw_guard.errors import UncoveredError
from nsfw_guard.hosts.comfyui.exits import HELPERS, OUTPUTS, PREVIEWS, PROMPTS, SENT
from nsfw_guard.hosts.comfyui.messages import Messages
from nsfw_guard.hosts.comfyui.node_guard import NodeGuard
from nsfw_guard.hosts.comfyui.prompts import texts
from nsfw_guard.hosts.session import HostGuard
from nsfw_guard.verdict import Outcome

log = logging.getLogger(__name__)

GUARDED_ATTR = "_nsfw_guard"
NEEDED = {"obj", "input_data_all"}
HELPER, SAVES = "comfy_api.latest._ui", ("save_images", "save_animated_png", "save_animated_webp")
CURE = (
    "every node is stopped until this is mended: update nsfw-guard to a release that knows this ComfyUI; where another "
    "custom node wraps execution.get_output_data, rename its folder so that it loads after ComfyUI-NSFW-Guard"
)
_judged: ContextVar[tuple[Tensor, ...]] = ContextVar("nsfw_guard_judged", default=())


class Enforcement:
    """Puts the hooks in place, each at most once.

    Args:
        guard: the one of this process.
        latents: output nodes may have latents, unjudged.
    """

    def __init__(self, guard: HostGuard, *, latents: bool = False) -> None:
        self.guard, self.node_guard = guard, NodeGuard(guard, latents=latents)
        self.messages = Messages(guard, _was_judged)
        self.fault = ""

    def install(self, execution: Any, latent_preview: Any = None, server: Any = None, helpers: Any = None) -> None:
        """Hooks the modules of the host.

        Raises:
            UncoveredError: the host cannot be covered; then all its nodes are stopped and all prompts refused.
        """
        try:
            self._outputs(execution)
        except UncoveredError as error:
            self.fault = str(error)
            self.guard.coverage.missing(OUTPUTS, self.fault)
            _stop(execution, self.fault)
        for hook, put, module in (
            (PREVIEWS, self._previews, latent_preview),
            (SENT, self._sent, server),
            (PROMPTS, self._prompts, server),
            (HELPERS, self._helpers, helpers),
        ):
            try:
                put(module)
                self.guard.coverage.installed(hook)
            except Exception as error:
                log.exception("%s are not covered on this version of ComfyUI", hook)
                self.guard.coverage.missing(hook, f"{type(error).__name__}: {error}")
        if self.fault:
            raise UncoveredError(self.fault)

    def _outputs(self, execution: Any) -> None:
        original = getattr(execution, "get_output_data", None)
        if getattr(execution, GUARDED_ATTR, None) not in {None, original}:  # ours is in place, or inside another's
            self.guard.coverage.installed(OUTPUTS)
            return
        wrapped = self._wrapped(original)
        setattr(execution, GUARDED_ATTR, original)
        execution.get_output_data = wrapped
        self.guard.coverage.installed(OUTPUTS)

    def _wrapped(self, original: Any) -> Callable[..., Any]:
        signature = _signature(original)

        def before(args: Any, kwargs: Any) -> tuple[Any, Any, tuple[Tensor, ...]]:
            bound = signature.bind(*args, **kwargs)
            if not is_output(bound.arguments["obj"]):
                return args, kwargs, ()
            guarded = self.node_guard.inputs(bound.arguments["obj"], bound.arguments["input_data_all"])
            bound.arguments["input_data_all"] = guarded
            return bound.args, bound.kwargs, tuple(_tensors(guarded))

        if inspect.iscoroutinefunction(original):

            @functools.wraps(original)
            async def get_output_data(*args: Any, **kwargs: Any) -> Any:
                args, kwargs, judged = before(args, kwargs)
                with _while(judged):
                    return await original(*args, **kwargs)

        else:

            @functools.wraps(original)
            def get_output_data(*args: Any, **kwargs: Any) -> Any:
                args, kwargs, judged = before(args, kwargs)
                with _while(judged):
                    return original(*args, **kwargs)

        return get_output_data

    def _previews(self, latent_preview: Any) -> None:
        owner = latent_preview.LatentPreviewer
        original = owner.decode_latent_to_preview_image
        if getattr(original, GUARDED_ATTR, False):
            return

        @functools.wraps(original)
        def decode_latent_to_preview_image(*args: Any, **kwargs: Any) -> Any:
            return self.messages.shown(original(*args, **kwargs))

        setattr(decode_latent_to_preview_image, GUARDED_ATTR, True)
        owner.decode_latent_to_preview_image = decode_latent_to_preview_image

    def _sent(self, server: Any) -> None:
        owner = server.PromptServer
        original = owner.send_sync
        if getattr(original, GUARDED_ATTR, False):
            return

        @functools.wraps(original)
        def send_sync(this: Any, event: Any, data: Any, *args: Any, **kwargs: Any) -> Any:
            data = self.messages.guard_message(event, data, is_judged=bool(_judged.get()))
            return None if data is None else original(this, event, data, *args, **kwargs)

        setattr(send_sync, GUARDED_ATTR, True)
        owner.send_sync = send_sync

    def _helpers(self, helpers: Any) -> None:
        """The host's own savers receive covered images, whatever node calls them; older hosts have none."""
        owner = getattr(helpers, "ImageSaveHelper", None)
        for name in SAVES if owner is not None else ():
            original = getattr(owner, name, None)
            if original is not None and not getattr(original, GUARDED_ATTR, False):
                setattr(owner, name, staticmethod(self._saver(original)))

    def _saver(self, original: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(original)
        if "images" not in signature.parameters:
            raise UncoveredError(f"ImageSaveHelper.{original.__name__}{signature} is unknown: update nsfw-guard")

        @functools.wraps(original)
        def save(*args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(*args, **kwargs)
            bound.arguments["images"] = self.node_guard.value(bound.arguments["images"])
            return original(*bound.args, **bound.kwargs)

        setattr(save, GUARDED_ATTR, True)
        return save

    def _prompts(self, server: Any) -> None:
        instance = server.PromptServer.instance
        if getattr(instance, GUARDED_ATTR, False):
            return
        instance.add_on_prompt_handler(self.on_prompt)
        setattr(instance, GUARDED_ATTR, True)

    def on_prompt(self, request: Any) -> Any:
        """Return the request as it came, or with an empty graph, which the host answers with 400. Never raises."""
        self.guard.faults.begin_job()
        try:
            prompts = texts(request["prompt"])
            refused = self.guard.refuse(prompts) if prompts else None
            if not self.fault and refused is None:
                return request
            is_fault = refused is None or refused.outcome is Outcome.ERROR
            self.guard.count_refusal(self.fault or getattr(refused, "reason", ""), is_fault=is_fault)
        except Exception as error:  # noqa: BLE001
            self.guard.faults.say("a prompt could not be read: it is refused", error)
        return {**request, "prompt": {}} if isinstance(request, dict) else {}


def is_output(node: Any) -> bool:
    """Return whether a node shows or saves what it is handed: said by its flags, or known by its heritage."""
    flags = ("OUTPUT_NODE", "HAS_INTERMEDIATE_OUTPUT")
    return any(bool(getattr(node, flag, False)) for flag in flags) or hasattr(node, "save_images")


def _signature(original: Any) -> inspect.Signature:
    """How the host runs a node, or an error that names the cure."""
    if not callable(original):
        raise UncoveredError(f"this ComfyUI has no execution.get_output_data: {CURE}")
    try:
        signature = inspect.signature(original)
    except (TypeError, ValueError):
        raise UncoveredError(f"execution.get_output_data cannot be read: {CURE}") from None
    if not set(signature.parameters) >= NEEDED:
        raise UncoveredError(f"execution.get_output_data{signature} is unknown: {CURE}")
    return signature


def _stop(execution: Any, why: str) -> None:
    """Nothing runs any more: which of the arguments is the node cannot be told."""

    def stopped(*_: Any, **__: Any) -> Any:
        raise UncoveredError(why)

    if execution is None:
        return
    there = callable(getattr(execution, "get_output_data", None))
    execution.get_output_data = stopped
    setattr(execution, GUARDED_ATTR, stopped)
    executor = getattr(execution, "PromptExecutor", SimpleNamespace())
    for name in () if there else ("execute", "execute_async"):
        if hasattr(executor, name):
            setattr(executor, name, stopped)


@contextmanager
def _while(judged: tuple[Tensor, ...]) -> Iterator[None]:
    token = _judged.set(judged)
    try:
        yield
    finally:
        _judged.reset(token)


def _tensors(value: Any) -> Iterator[Tensor]:
    """The images among what an output node gets."""
    if isinstance(value, Tensor) and value.ndim >= 3:
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _tensors(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _tensors(one)


def _was_judged(image: Image.Image) -> bool:
    """Whether this is one of the images that the running output node was handed, in the host's 8 bits."""
    given = np.asarray(image)
    for tensor in _judged.get():
        for frame in tensor.reshape(-1, *tensor.shape[-3:]):
            if tuple(frame.shape) == given.shape:
                levels = (frame.detach().float().cpu().numpy() * 255.0).clip(0, 255).astype(np.uint8)
                if np.array_equal(levels, given):
                    return True
    return False
