"""The ways out of a web UI that no hook sees: previews that are set from anywhere, video writers, the last return.

Each is wrapped where it is, once. A writer whose frames could not be judged does not write.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from PIL import Image

from nsfw_guard.errors import ImageError
from nsfw_guard.hosts import host_images
from nsfw_guard.hosts.webui.host import WRAPPED_ATTR, Host, wrap
from nsfw_guard.hosts.webui.job_images import as_image_list, layout_of
from nsfw_guard.hosts.webui.video import clean_frames

if TYPE_CHECKING:
    from nsfw_guard.hosts.webui.adapter import Adapter

log = logging.getLogger(__name__)

WRITERS = (  # of videos in sdnext, with the argument that holds the frames
    ("modules.video_models.video_save", "save_video", "pixels"),
    ("modules.video_models.video_save", "atomic_save_video", "tensor"),
    ("modules.video", "save_video", "images"),
    ("modules.video", "save_video_atomic", "images"),
)
FINAL = ("Full", "Tiny", "Remote", "Local")  # kinds of decoding for the video writer; any other is a preview


def install(adapter: Adapter, *, load: bool) -> None:
    """Puts every wrap on that this host needs, and tells the coverage which are in place.

    `load`: modules that the host has not imported yet are imported now. Not while it still starts.
    """
    coverage = adapter.guard.coverage
    for name, add in _table(adapter, load):
        try:
            why = add()
        except Exception as error:
            log.exception("%s could not be put in place", name)
            why = f"{type(error).__name__}: {error}"
        if why:
            coverage.missing(name, why)
        else:
            coverage.installed(name)


def _table(adapter: Adapter, load: bool) -> list[tuple[str, Callable[[], str]]]:
    host = adapter.host

    def on(module: str, name: str, make: Callable[..., Any]) -> Callable[[], str]:
        def add() -> str:
            module_found = host.module(module, load=load)
            return (
                wrap(module_found, name, functools.partial(make, adapter))
                if module_found is not None
                else f"no {module}"
            )

        return add

    def runner() -> str:
        kind = host.get("modules.scripts_manager", "ScriptRunner") or host.get("modules.scripts", "ScriptRunner")
        return wrap(kind, "run", functools.partial(_selected, adapter))

    def behind(event: str) -> Callable[[], str]:
        make = functools.partial(_behind, event=event)
        return on("modules.script_callbacks", f"{event}_callback", make)

    rows: list[tuple[str, Callable[[], str]]] = [
        ("wrap state.current_image", lambda: _current_image(adapter)),
        (
            "wrap state.do_set_current_image",
            lambda: wrap(host.state, "do_set_current_image", functools.partial(_drawing, adapter)),
        ),
        ("wrap postprocessing.run_postprocessing", on("modules.postprocessing", "run_postprocessing", _extras)),
        ("wrap ScriptRunner.run", runner),
        ("wrap processing.process_images_inner", on("modules.processing", "process_images_inner", _job)),
        ("wrap script_callbacks.before_image_saved_callback", behind("before_image_saved")),
    ]
    if host.family == "sdnext":
        rows.append(("wrap script_callbacks.after_process_callback", behind("after_process")))
    return rows + (_of_sdnext(on) if host.family == "sdnext" else _of_a1111(on, host))


def _of_sdnext(on: Callable[..., Callable[[], str]]) -> list[tuple[str, Callable[[], str]]]:
    hooks = [
        (f"wrap {module.rpartition('.')[2]}.{name}", on(module, name, functools.partial(_writer, names=(frames,))))
        for module, name, frames in WRITERS
    ]
    return [*hooks, ("wrap framepack_vae.vae_decode", on("modules.framepack.framepack_vae", "vae_decode", _decoder))]


def _of_a1111(on: Callable[..., Callable[[], str]], host: Host) -> list[tuple[str, Callable[[], str]]]:
    """Forge Neo writes videos and has pipelines of its own; on a host without them there is nothing to close."""
    video = on("modules.images", "save_video", functools.partial(_writer, names=("frames",)))
    return [
        ("wrap processing.process_images", on("modules.processing", "process_images", _job)),
        ("wrap images.save_video", lambda: video() if host.get("modules.images", "save_video") is not None else ""),
    ]


def _current_image(adapter: Adapter) -> str:
    """Replace the attribute by a property, so that what pipelines assign to it in their callbacks is guarded too."""
    state = adapter.host.state
    if state is None:
        return "this version has no shared.state"
    kind = type(state)
    if getattr(kind.__dict__.get("current_image"), WRAPPED_ATTR, False):
        return ""

    def get(self: Any) -> Any:
        return self.__dict__.get("current_image")

    def put(self: Any, image: Any) -> None:
        # Away with the old one first: if anything fails here, nothing is shown.
        self.__dict__["current_image"] = None
        self.__dict__["current_image"] = adapter.preview(image)

    held = get(state)
    try:
        kind.current_image = _GuardedProperty(get, put)
    except (AttributeError, TypeError):  # a class that cannot be changed: then the method that sets it
        return wrap(state, "assign_current_image", functools.partial(_assigned, adapter))
    if held is not None:
        state.current_image = held
    return ""


class _GuardedProperty(property):
    """A property that is known as ours."""


setattr(_GuardedProperty, WRAPPED_ATTR, True)


def _assigned(adapter: Adapter, old: Callable[..., Any]) -> Callable[..., Any]:
    def assign_current_image(image: Any) -> Any:
        return old(adapter.preview(image))

    return assign_current_image


def _drawing(adapter: Adapter, old: Callable[..., Any]) -> Callable[..., Any]:
    """Tells `image_grid` that what it is handed is a preview."""

    def do_set_current_image(*args: Any, **kwargs: Any) -> Any:
        token = adapter.drawing.set(True)
        try:
            return old(*args, **kwargs)
        finally:
            adapter.drawing.reset(token)

    return do_set_current_image


def _writer(adapter: Adapter, old: Callable[..., Any], *, names: tuple[str, ...]) -> Callable[..., Any]:
    """A video writer that is handed covered frames, and no bytes at all of a video that nobody could look into."""
    signature = inspect.signature(old)
    unknown = sorted(set(names) - set(signature.parameters))

    def write(*args: Any, **kwargs: Any) -> Any:
        if not adapter.guard.settings.enabled:
            return old(*args, **kwargs)
        if unknown:
            raise ImageError(
                f"{old.__name__} of this host takes no argument {unknown[0]!r}, so no video is written: "
                "update nsfw-guard"
            )
        bound = signature.bind(*args, **kwargs)
        arguments = bound.arguments
        if arguments.get("binary") is not None:
            arguments["binary"] = None
            adapter.guard.counts["videos dropped"] += 1
            log.warning("a video came as bytes, which cannot be checked: it is not written")
        signed = "pixels" in names and arguments.get("reclamp", True)
        for name in names:
            if arguments.get(name) is not None:
                arguments[name] = clean_frames(adapter, arguments[name], signed=bool(signed), where=old.__name__)
        return old(*bound.args, **bound.kwargs)

    return write


def _decoder(adapter: Adapter, old: Callable[..., Any]) -> Callable[..., Any]:
    """FramePack hands its previews to the page itself."""

    def vae_decode(*args: Any, **kwargs: Any) -> Any:
        decoded = old(*args, **kwargs)
        kind = kwargs.get("vae_type", args[1] if len(args) > 1 else None)
        return decoded if kind in FINAL else adapter.preview(decoded)

    return vae_decode


def _job(adapter: Adapter, old: Callable[..., Any]) -> Callable[..., Any]:
    """The last line: whatever scripts there are, and whoever calls it, what returns from here was guarded."""

    def process_images(p: Any, *args: Any, **kwargs: Any) -> Any:
        known = adapter.jobs.runs(p)  # the host told of it, or the same wrap further out
        if not known:
            adapter.jobs.start(p, running=True)
        try:
            # sdnext draws one black image where it told of a job whose prompt is refused.
            stub = None if known and adapter.host.family == "sdnext" else adapter.jobs.instead(p)
            return adapter.returned(p, old(p, *args, **kwargs)) if stub is None else stub
        finally:
            if not known:
                adapter.jobs.end(p)

    return process_images


def _behind(adapter: Adapter, old: Callable[..., Any], *, event: str) -> Callable[..., Any]:
    """The host calls every callback of an event here; another extension's may run behind the guard's."""

    def callback(*args: Any, **kwargs: Any) -> Any:
        try:
            return old(*args, **kwargs)
        finally:
            getattr(adapter, event)(*args, **kwargs)

    return callback


def _selected(adapter: Adapter, old: Callable[..., Any]) -> Callable[..., Any]:
    """A script of the menu may put images together after its jobs: tiles, loops, grids. Some draw past the jobs."""

    def run(self: Any, p: Any, *args: Any, **kwargs: Any) -> Any:
        adapter.asked(p)
        return adapter.returned(p, old(self, p, *args, **kwargs))

    return run


def _extras(adapter: Adapter, old: Callable[..., Any]) -> Callable[..., Any]:
    """What the Extras or Process tab returns, also where the guard's own step was taken out of it."""

    def run_postprocessing(*args: Any, **kwargs: Any) -> Any:
        result = old(*args, **kwargs)
        if isinstance(result, tuple) and result and isinstance(result[0], list):
            adapter.extras(result[0])
        return result

    return run_postprocessing


def shown(adapter: Adapter, image: Any) -> Any:
    """Return an image that is still being drawn, as it may be shown: PIL, an array, or a list of them."""
    if isinstance(image, (list, tuple)):
        return [shown(adapter, one) for one in image]
    if image is None or isinstance(image, Image.Image) or not host_images.is_image(image) or image.ndim <= 3:
        return adapter.guard.preview(image, layout=layout_of(image))
    parts = as_image_list(image)
    return [shown(adapter, one) for one in parts]
