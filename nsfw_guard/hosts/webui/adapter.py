"""The adapter for sdnext and for A1111, Forge and reForge: what each hook of a host does with what it is handed.

Hosts swallow whatever a hook raises and go on, so a hook that fails first paints everything it was handed.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

import numpy as np
from torch import Tensor

from nsfw_guard.hosts import host_images
from nsfw_guard.hosts.build import Build, build_guard
from nsfw_guard.hosts.label import describe
from nsfw_guard.hosts.session import GuardedImages, HostGuard
from nsfw_guard.hosts.webui import wraps
from nsfw_guard.hosts.webui.api import add_routes
from nsfw_guard.hosts.webui.exits import A1111, SDNEXT
from nsfw_guard.hosts.webui.host import Host
from nsfw_guard.hosts.webui.job_images import as_image_list, covers_on_failure, guard_job_images, paint_all
from nsfw_guard.hosts.webui.jobs import TITLE, Jobs
from nsfw_guard.hosts.webui.options import keep_loaded
from nsfw_guard.hosts.webui.settings import Page, counted, job_fields
from nsfw_guard.verdict import Verdict

log = logging.getLogger(__name__)

CALLBACKS = ("on_ui_settings", "on_app_started", "on_before_process", "on_before_image_saved", "on_image_grid",
             "on_after_process")  # fmt: skip


class Adapter:
    """One guard in one web UI. The extension's script calls the methods that are named like the host's hooks.

    Args:
        build: makes the guard; for tests.
    """

    def __init__(self, *, build: Build = build_guard) -> None:
        self.host = Host()
        self.guard = HostGuard(self.host.family, SDNEXT if self.host.family == "sdnext" else A1111, build=build)
        self.page = Page(self.host, self.guard.configure)
        self.jobs = Jobs(self.host, self.guard)
        self.drawing: ContextVar[bool] = ContextVar("nsfw_guard_drawing", default=False)

    def register(self, script: str = "") -> None:
        """Registers every callback that this host has, and puts the wraps on. Again after each reload of the page.

        Args:
            script: the file of the extension that calls.
        """
        callbacks = self.host.module("modules.script_callbacks")
        for name in CALLBACKS:
            on = getattr(callbacks, name, None)
            method = self.begins if name == "on_before_process" else getattr(self, name.removeprefix("on_"))
            if on is None:
                self.guard.coverage.missing(name, "this version has no such callback")
                continue
            try:
                on(method)
                self.guard.coverage.installed(name)
            except Exception as error:
                log.exception("%s could not be registered", name)
                self.guard.coverage.missing(name, f"{type(error).__name__}: {error}")
        self._allow_in_control()
        if why := keep_loaded(self.host, lambda: self.guard.locked_settings is not None, script):
            log.warning("NSFW guard: an option could take a locked guard out: %s", why)
        wraps.install(self, load=False)

    def scripts_found(self, *names: str) -> None:
        """Note which hooks the extension's script defined, such as "Script.postprocess"."""
        for name in names:
            self.guard.coverage.installed(name)

    def coverage(self) -> list[dict[str, str]]:
        """Return each way out with its state."""
        return self.guard.coverage.rows()

    def _allow_in_control(self) -> None:
        """The Control tab of sdnext drops scripts whose title is not in its list."""
        known = self.host.get("installer", "control_extensions")
        if isinstance(known, list):
            if TITLE not in known:
                known.append(TITLE)
            self.guard.coverage.installed("control_extensions")
        else:
            self.guard.coverage.missing("control_extensions", "this version has no such list")

    # --- callbacks of the host

    def ui_settings(self) -> None:
        """Add the settings page. Without one the defaults hold, or what the owner locked."""
        try:
            self.page.add()
        except Exception as error:  # noqa: BLE001  (images are checked without a page as well)
            log.error("NSFW guard: no settings page: %s", error)

    def app_started(self, demo: Any, app: Any) -> None:
        """Wrap what was not importable before, load the model and add the routes, now that the server is up."""
        wraps.install(self, load=True)
        if not self.page.read:  # a host that serves its API only builds no page
            self.ui_settings()
        self.guard.warm_up()
        self.guard.announce()
        for way in self.guard.coverage.open:
            log.warning("NSFW guard: not closed on this version of the host: %s", way)
        try:
            add_routes(self.host, app, self.guard, self.coverage)
        except Exception as error:  # noqa: BLE001  (images are checked without routes as well)
            log.error("NSFW guard: no routes: %s", error)

    @covers_on_failure
    def begins(self, p: Any) -> None:
        """Begin a job of sdnext, also one without scripts."""
        self.jobs.start(p, running=True)

    @covers_on_failure
    def before_process(self, p: Any, *args: Any) -> None:
        """Read the prompt, and what the job asks for, before any step."""
        self.jobs.start(p, *args)

    @covers_on_failure
    def process(self, p: Any, *args: Any) -> None:
        """Styles and wildcards are in the prompts by now."""
        self.jobs.start(p, *args)

    @covers_on_failure
    def before_process_batch(self, p: Any, *args: Any, prompts: Sequence[str] = (), **kwargs: Any) -> None:
        """See the prompts of a batch for the last time."""
        self.jobs.batch(p, prompts)

    @covers_on_failure
    def postprocess_batch(self, p: Any, *args: Any, images: Any = None, **kwargs: Any) -> None:
        """Guard a batch of arrays or tensors, painted where they stand."""
        if not isinstance(images, (list, np.ndarray, Tensor)):
            return  # nothing that could be painted; the sweep of the result is still to come
        listed = as_image_list(images)
        safe = self._guard_images(listed, p, "postprocess_batch").images
        for i, (old, new) in enumerate(zip(listed, safe, strict=True)):
            if new is not old:
                images[i] = new

    @covers_on_failure
    def postprocess_batch_list(self, p: Any, pp: Any, *args: Any, **kwargs: Any) -> None:
        """Guard the same batch as a list, whose images may be exchanged."""
        pp.images[:] = self._guard_images(list(pp.images), p, "postprocess_batch_list").images

    @covers_on_failure
    def postprocess_image(self, p: Any, pp: Any, *args: Any) -> None:
        """Guard one image before its infotext is made."""
        guarded = self._guard_images([pp.image], p, "postprocess_image")
        pp.image = guarded.images[0]
        self._mark(p, guarded.verdicts[0])

    @covers_on_failure
    def postprocess_image_after_composite(self, p: Any, pp: Any, *args: Any) -> None:
        """Guard one image once the original was pasted back around the mask."""
        guarded = self._guard_images([pp.image], p, "postprocess_image_after_composite")
        pp.image = guarded.images[0]
        self._mark(p, guarded.verdicts[0])

    @covers_on_failure
    def postprocess(self, p: Any, processed: Any, *args: Any) -> None:
        """Guard everything that the job returns."""
        self._result(processed, p, "postprocess")

    @covers_on_failure
    def before_image_saved(self, params: Any) -> None:
        """Guard whatever is written to disk: samples, grids, steps between, the Save button."""
        guarded = self._guard_images([params.image], getattr(params, "p", None), "before_image_saved")
        params.image = guarded.images[0]
        self._note(params, guarded.verdicts[0])

    @covers_on_failure
    def image_grid(self, params: Any) -> None:
        """Guard the parts of a grid, and in sdnext of each preview."""
        if self.drawing.get():
            params.imgs[:] = [self.preview(image) for image in params.imgs]
        else:
            params.imgs[:] = self._guard_images(list(params.imgs), None, "image_grid").images

    @covers_on_failure
    def after_process(self, p: Any) -> None:
        """End a job of sdnext, also one that was interrupted."""
        self._result(self.processed(), p, "after_process")
        self.jobs.end(p)

    @covers_on_failure
    def postprocess_extras(self, pp: Any) -> None:
        """Guard one image of the Extras or Process tab."""
        if getattr(pp, "image", None) is not None:
            guarded = self._guard_images([pp.image], None, "extras")
            pp.image = guarded.images[0]
            if self.guard.settings.metadata and guarded.verdicts[0] is not None and isinstance(pp.info, dict):
                pp.info[TITLE] = describe(guarded.verdicts[0])
        for more in getattr(pp, "extra_images", None) or []:
            if getattr(more, "image", None) is not None and more is not pp:
                more.image = self._guard_images([more.image], None, "extras").images[0]
            elif host_images.is_image(more):
                self._guard_images([more], None, "extras")

    # --- what the wraps ask for

    def preview(self, image: Any) -> Any:
        """Return an image that is still being drawn, as it may be shown."""
        if image is not None and self.jobs.current.refused is not None and self.guard.settings.enabled:
            return host_images.solid(64, 64)
        return wraps.shown(self, image)

    @covers_on_failure
    def extras(self, images: list[Any]) -> None:
        """Guard the list that the Extras or Process tab returns."""
        images[:] = self._guard_images(list(images), None, "extras").images

    def returned(self, p: Any, processed: Any) -> Any:
        """Guard the result of a job or of a script of the menu."""
        try:
            self._result(processed, p, "returned")
        except BaseException as error:
            self.guard.faults.say("a result could not be swept: every image of it is covered", error)
            paint_all(processed)
            if not isinstance(error, Exception):
                raise
        return processed

    @covers_on_failure
    def asked(self, p: Any) -> None:
        """Begin a script of the menu: what its own prompt asks for is known, whether or not it starts a job."""
        self.jobs.start(p)

    def processed(self) -> Any:
        """Guard the last result of the host, where it keeps one."""
        return self.host.get("modules.processing", "processed") if self.host.family == "sdnext" else None

    def ui(self) -> list[Any]:
        """Return the fields of the script; without any where they cannot be made."""
        try:
            return job_fields(lambda: counted(self.guard))
        except Exception:
            log.exception("no fields on the page; the guard works without them")
            return []

    # --- inside

    def _guard_images(self, images: Sequence[Any], p: Any, where: str) -> GuardedImages[Verdict | None]:
        return guard_job_images(self.guard, images, self.jobs.of(p), where)

    def _result(self, processed: Any, p: Any, where: str) -> None:
        for name in ("images", "extra_images"):
            held = getattr(processed, name, None)
            if held is None:
                continue
            safe = self._guard_images(list(held), p, where).images
            if isinstance(held, list):
                held[:] = safe
            else:
                setattr(processed, name, safe)
        if getattr(processed, "bytes", None) is not None and self.guard.settings.enabled:
            processed.bytes = None
            self.guard.counts["videos dropped"] += 1
            log.warning("a video came as bytes, which cannot be checked: it is not handed out")

    def _mark(self, p: Any, verdict: Verdict | None) -> None:
        """The verdict into the infotext that the host makes next."""
        infotext = getattr(p, "extra_generation_params", None)
        if verdict is not None and self.guard.settings.metadata and isinstance(infotext, dict):
            infotext[TITLE] = describe(verdict)

    def _note(self, params: Any, verdict: Verdict | None) -> None:
        """The verdict into the metadata of the file."""
        infotext = getattr(params, "pnginfo", None)
        if verdict is None or not self.guard.settings.metadata or not isinstance(infotext, dict):
            return
        infotext["nsfw_guard"] = text = describe(verdict)
        known = infotext.get("parameters")
        if isinstance(known, str) and known and f"{TITLE}:" not in known:
            infotext["parameters"] = f"{known}, {TITLE}: {json.dumps(text)}"


_ONE: dict[str, Adapter] = {}
_LOCK = threading.Lock()


def adapter(*, build: Build = build_guard) -> Adapter:
    """Return the one adapter of this process: a reload of the page, which runs the extension's script
    again, finds it.
    """
    with _LOCK:
        if "adapter" not in _ONE:
            _ONE["adapter"] = Adapter(build=build)
        return _ONE["adapter"]
