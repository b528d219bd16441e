"""Small web UIs of our own with the manners that real ones were seen to have: order, types, swallowed exceptions.

Each puts what leaves it into sinks: disk, gallery, api, grid, preview, temp, video, metadata, extras, drawn.
"""

from __future__ import annotations

import functools
import importlib.util
import io
import sys
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image

INTEGRATIONS = Path(__file__).parents[2] / "integrations"
ADAPTER = INTEGRATIONS / "webui/sd-webui-nsfw-guard"
ENTRY = ADAPTER / "scripts/nsfw_guard_ext.py"
EVENTS = {
    "sdnext": ("ui_settings", "app_started", "before_process", "after_process", "before_image_saved", "image_grid"),
    "a1111": ("ui_settings", "app_started", "before_image_saved", "image_grid"),
}


class Job:
    """The object `p` of a host."""

    def __init__(self, *draws: np.ndarray, **payload: Any) -> None:
        self.draws = list(draws)  # (H, W, 3) bytes: what the model would draw
        self.prompt, self.negative_prompt, self.all_prompts = "a lighthouse", "", None
        self.width, self.height, self.batch_size, self.n_iter, self.seed = 24, 24, max(1, len(draws)), 1, 1
        self.extra_generation_params: dict[str, Any] = {}
        self.override_settings: dict[str, Any] = {}
        self.script_args: tuple[Any, ...] = ()
        self.save, self.grid, self.scripts, self.control = True, False, True, False
        self.interrupt = self.previews = self.pipeline_previews = False
        self.overlay = self.graded = self.hires = self.video_bytes = None
        self.as_pil = self.mask_composite = self.extra = False
        self.pastes_late = False
        vars(self).update(payload)


class Params:
    """What callbacks and hooks are handed: an object with these attributes."""

    def __init__(self, **payload: Any) -> None:
        vars(self).update(payload)


class Script:
    """The base class of always-on scripts."""

    def title(self) -> str:
        raise NotImplementedError


for _name in ("before_process", "process", "before_process_batch", "postprocess_batch", "postprocess_batch_list",
              "postprocess_image", "postprocess_image_after_composite", "postprocess"):  # fmt: skip
    setattr(Script, _name, lambda self, *args, **kwargs: None)


class ScriptPostprocessing:
    """The base class of steps of the Extras or Process tab."""

    name, order = "", 1000


class Dropdown:
    """A list of gradio whose field takes any text."""

    def __init__(self, choices: Any = (), allow_custom_value: bool = False) -> None:
        self.choices, self.allow_custom_value = choices, allow_custom_value

    @staticmethod
    def update(value: Any = None, choices: Any = None) -> dict[str, Any]:
        """What the host calls when somebody opens a page, with all that it was told of a setting."""
        return {"value": value, "choices": choices}


class OptionInfo:
    """One option, with the arguments that both families have."""

    def __init__(self, default=None, label="", component=None, component_args=None, onchange=None, section=None):
        self.default, self.label, self.component, self.onchange = default, label, component, onchange
        self.component_args, self.section, self.restrict_api = component_args, section, False


class OptionInfoRestricted(OptionInfo):
    """As A1111 has it."""

    def __init__(self, *args: Any, restrict_api: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.restrict_api = restrict_api


class Options:
    """`shared.opts`: set directly by a job's overrides, by `set` from the page and the API."""

    def __init__(self, saved: dict[str, Any]) -> None:
        self.__dict__["data"], self.__dict__["data_labels"] = dict(saved), {}

    def __getattr__(self, key: str) -> Any:
        if key in self.data:
            return self.data[key]
        if key in self.data_labels:
            return self.data_labels[key].default
        raise AttributeError(key)

    def __setattr__(self, key: str, value: Any) -> None:
        self.data[key] = value

    def add_option(self, key: str, info: OptionInfo) -> None:
        self.data_labels[key] = info
        self.data.setdefault(key, info.default)

    def set(self, key: str, value: Any, is_api: bool = False) -> bool:
        info, old = self.data_labels[key], getattr(self, key)
        if is_api and info.restrict_api:
            return False
        try:
            setattr(self, key, value)
        except RuntimeError:  # as real ones do
            return False
        try:
            if info.onchange is not None:
                info.onchange()
        except Exception:  # noqa: BLE001  (as hosts do: the old value is put back)
            self.data[key] = old
            return False
        return True


class State:
    """`shared.state` without its previews."""

    current_image: Any = None

    def assign_current_image(self, image: Any) -> None:
        self.current_image = image


class App:
    """The server: routes by path."""

    def __init__(self) -> None:
        self.routes: list[Any] = []

    def add_api_route(self, path: str, endpoint: Any, methods: Any = (), dependencies: Any = ()) -> None:
        self.routes.append(Params(path=path, endpoint=endpoint, methods=methods, dependencies=list(dependencies)))

    def call(self, path: str, *args: Any) -> Any:
        (route,) = [route for route in self.routes if route.path == path]
        return route.endpoint(*args)


class FakeHost:
    """What both families share: callbacks, scripts, options, saving, grids."""

    family = ""

    def __init__(self, monkeypatch: Any, **saved: Any) -> None:
        self.patch, self.app, self.errors = monkeypatch, App(), []
        self.sinks: dict[str, list[Any]] = {}
        self.callbacks: dict[str, list[Any]] = {}
        self.scripts: list[Any] = []
        self.steps: list[Any] = []
        self.dropped: set[str] = set()
        self.modules: dict[str, ModuleType] = {}
        self._build(saved)
        for name, module in self.modules.items():
            monkeypatch.setitem(sys.modules, name, module)

    def module(self, name: str, **members: Any) -> ModuleType:
        result = self.modules.setdefault(name, ModuleType(name))
        vars(result).update(members)
        if "." in name:
            parent, _, child = name.rpartition(".")
            setattr(self.module(parent), child, result)
        return result

    def _build(self, saved: dict[str, Any]) -> None:
        kinds: dict[str, Any] = {"Checkbox": dict, "Dropdown": Dropdown, "Slider": dict, "Textbox": dict}
        kinds |= {"Accordion": lambda *_, **__: nullcontext(), "Markdown": lambda value: value()}
        self.module("gradio", **kinds)
        adders = {f"on_{name}": self.callbacks.setdefault(name, []).append for name in EVENTS[self.family]}
        for name in ("before_image_saved", "after_process"):
            if name in EVENTS[self.family]:
                adders[f"{name}_callback"] = functools.partial(self.tell, name)
        self.events = self.module("modules.script_callbacks", **adders)
        self.state = self.make_state()
        self.opts = type("Options", (Options,), {})(saved)  # its class is wrapped
        info = OptionInfo if self.family == "sdnext" else OptionInfoRestricted
        self.module("modules.shared", opts=self.opts, state=self.state, OptionInfo=info, cmd_opts=Params())
        self.runner = self.make_runner()
        self.module("modules.scripts", Script=Script, AlwaysVisible=object(), ScriptRunner=type(self.runner))
        self.module("modules.scripts_postprocessing", ScriptPostprocessing=ScriptPostprocessing)
        self.processing = self.module("modules.processing", process_images_inner=self.inner, Processed=self.result)
        self.tab = self.module("modules.postprocessing", run_postprocessing=self.run_extras)

    # --- the extension

    def load(self, entry: Path | None = None) -> Any:
        """Executes the extension's script again, as a reload of the page does."""
        for registered in self.callbacks.values():
            registered.clear()
        spec = importlib.util.spec_from_file_location("nsfw_guard_ext", entry or ENTRY)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        matches = [one for one in vars(module).values() if type(one) is type]
        self.scripts = [one() for one in matches if issubclass(one, Script)]
        self.steps = [one() for one in matches if issubclass(one, ScriptPostprocessing)]
        for script in self.scripts:
            script.ui(False)
        self.tell("ui_settings")
        self.tell("app_started", None, self.app)
        return module

    def tell(self, event: str, *args: Any) -> None:
        for callback in list(self.callbacks.get(event, ())):
            try:
                callback(*args)
            except Exception as error:  # noqa: BLE001  (as every host does)
                self.errors.append(error)

    def run_scripts(self, name: str, p: Job, *args: Any, **kwargs: Any) -> None:
        if p.scripts is None or f"Script.{name}" in self.dropped:
            return
        for script in self.scripts:
            if (
                p.control
                and "installer" in self.modules
                and script.title() not in self.modules["installer"].control_extensions
            ):
                continue
            try:
                getattr(script, name)(p, *args, *p.script_args, **kwargs)
            except Exception as error:  # noqa: BLE001
                self.errors.append(error)

    def take_out(self, hook: str) -> None:
        """Removes one hook or wrap by the name that the adapter reports it under."""
        if hook.startswith("Script."):
            self.dropped.add(hook)
        elif hook == "ScriptPostprocessing.process":
            self.steps = []
        elif hook.startswith("on_"):
            self.callbacks.get(hook.removeprefix("on_"), []).clear()
        elif hook == "control_extensions":
            self.modules["installer"].control_extensions.clear()
        elif hook == "wrap ScriptRunner.run":
            type(self.runner).run = type(self.runner).run.__wrapped__
        elif hook == "wrap state.current_image":
            type(self.state).current_image = None
        elif hook == "wrap state.do_set_current_image":
            vars(self.state).pop("do_set_current_image", None)
        else:
            self._unwrap(*hook.removeprefix("wrap ").split("."))

    def _unwrap(self, owner: str, name: str) -> None:
        (matches,) = [vars(module)[name] for key, module in self.modules.items() if key.split(".")[-1] == owner]
        for module in self.modules.values():
            if vars(module).get(name) is matches and hasattr(matches, "__wrapped__"):
                setattr(module, name, matches.__wrapped__)

    # --- the ways out

    def out(self, sink: str, image: Any) -> None:
        held = image.copy() if isinstance(image, (Image.Image, np.ndarray)) else image
        self.sinks.setdefault(sink, []).append(held)

    def save_image(self, image: Image.Image, p: Any = None, sink: str = "disk") -> None:
        info = {"parameters": f"{getattr(p, 'prompt', '')}\nSteps: 2", **_told(p)}
        params = Params(image=image, p=p, filename="a.png", pnginfo=info)
        self.events.before_image_saved_callback(params)
        self.out(sink, params.image)
        self.out("metadata", dict(params.pnginfo))
        params.image.already_saved_as = "a.png"

    def gallery(self, images: list[Any]) -> None:
        """What the page shows: an image that was not saved goes to a temporary file as it is."""
        for image in images:
            self.out("gallery", image)
            if not hasattr(image, "already_saved_as"):
                self.out("temp", image)

    def answer(self, images: list[Any]) -> None:
        """What the API answers."""
        for image in images:
            file = io.BytesIO()
            image.convert("RGB").save(file, "PNG")
            self.out("api", Image.open(io.BytesIO(file.getvalue())).copy())

    def image_grid(self, images: list[Any]) -> Image.Image:
        params = Params(imgs=list(images), cols=len(images), rows=1)
        self.tell("image_grid", params)
        wide = max(image.width for image in images)
        grid = Image.new("RGB", (wide * len(images), images[0].height))
        for i, image in enumerate(params.imgs):
            grid.paste(image, (i * wide, 0))
        return grid

    def result(self, p: Job, images_list: list[Any], seed: int = -1, info: str = "", infotexts: Any = None) -> Any:
        return Params(images=images_list, extra_images=[], bytes=None, info=info, infotexts=infotexts)

    def make_state(self) -> Any:
        host = self

        class Shown(State):
            def do_set_current_image(self, images: list[Any]) -> None:
                self.assign_current_image(host.preview_of(images))
                host.out("preview", self.current_image)

        return Shown()

    def make_runner(self) -> Any:
        host = self

        class ScriptRunner:
            """A script of the menu that puts an image together out of what its jobs drew; without it, draws itself."""

            def run(self, p: Job, *args: Any) -> Any:
                if not args:
                    return host.result(p, [Image.fromarray(one) for one in p.draws])
                host.process_images(p)
                return host.result(p, [Image.fromarray(args[0].copy())])

        return ScriptRunner()

    def selected(self, image: np.ndarray) -> None:
        result = self.runner.run(Job(np.zeros((24, 24, 3), np.uint8)), image)
        self.gallery(result.images)
        self.answer(result.images)

    def inner(self, p: Job) -> Any:
        raise NotImplementedError

    def preview_of(self, images: list[Any]) -> Any:
        raise NotImplementedError

    def run_extras(self, image: Image.Image, save: bool = True) -> tuple[list[Any], str]:
        """The Extras or Process tab. Here an exception ends the job."""
        pp = Params(image=image.convert("RGB"), info={}, extra_images=[])
        for step in sorted(self.steps, key=lambda one: one.order):
            step.process(pp)
        if save:
            self.save_image(pp.image)
        return [pp.image], ""

    def extras(self, image: Image.Image, save: bool = True) -> None:
        for one in self.tab.run_postprocessing(image, save=save)[0]:
            self.out("extras", one)


class FakeSdnext(FakeHost):
    """The manners of sdnext."""

    family = "sdnext"

    def _build(self, saved: dict[str, Any]) -> None:
        super()._build(saved)
        self.module("installer", control_extensions=["NudeNet"])
        self.processing.processed = None
        save = self.save_video  # one object, which another module imports by name
        self.writer = self.module(
            "modules.video_models.video_save", save_video=save, atomic_save_video=self.atomic_save_video
        )
        self.files = self.module(
            "modules.video", save_video=self.save_file, save_video_atomic=lambda images, filename: self._write(images)
        )
        self.vae = self.module("modules.framepack.framepack_vae", vae_decode=self.vae_decode)
        self.worker = self.module("modules.framepack.framepack_worker", save_video=save)

    def preview_of(self, images: list[Any]) -> Any:
        return self.image_grid(images)

    def process_images(self, p: Job) -> Any:
        self.run_scripts("before_process", p)
        before = dict(self.opts.data)
        for key, value in p.override_settings.items():
            setattr(self.opts, key, value)
        try:
            self.tell("before_process", p)
            result = self.processing.process_images_inner(p)
        finally:
            self.events.after_process_callback(p)
            self.opts.data.update(before)
        self.gallery(result.images)
        self.answer(result.images)
        if result.bytes is not None:
            self.out("video", np.asarray(Image.open(io.BytesIO(result.bytes))))
        return result

    def detail(self, image: np.ndarray, **payload: Any) -> None:
        """A route that makes a job of its own and calls the inner function: no hook of a job is called."""
        result = self.processing.process_images_inner(Job(image, scripts=None, save=False, **payload))
        self.answer(result.images)

    def draw(self, p: Job) -> list[Any]:
        if hasattr(p, "dummy"):
            return [Image.new("RGB", (p.width, p.height)) for _ in p.draws]
        self.out("drawn", p.prompt)
        if p.previews:
            self.state.do_set_current_image([Image.fromarray(one) for one in p.draws])
        if p.pipeline_previews:
            self.state.current_image = Image.fromarray(p.draws[0])
            self.out("preview", self.state.current_image)
        if p.hires is not None:
            self.save_image(Image.fromarray(p.hires), p)
        if p.as_pil:
            return [Image.fromarray(one) for one in p.draws]
        return [floats(one) for one in p.draws]

    def inner(self, p: Job) -> Any:
        images: list[Any] = []
        self.run_scripts("process", p)
        p.prompts = [p.prompt] * p.batch_size
        self.run_scripts("before_process_batch", p, batch_number=0, prompts=p.prompts)
        if p.prompts:
            samples = self.draw(p)
            if p.interrupt:
                samples = [Image.fromarray(p.draws[0])]
            self.run_scripts("postprocess_batch", p, images=samples, batch_number=0)
            pp = Params(images=list(samples))
            self.run_scripts("postprocess_batch_list", p, pp, batch_number=0)
            images = [self.finish(p, sample) for sample in pp.images]
        if p.grid and len(images) > 1:
            grid = self.image_grid(images)
            self.out("grid", grid)
            images.insert(0, grid)
            if p.save:
                self.save_image(grid, p)
        result = self.processing.processed = self.result(p, images)
        result.bytes = p.video_bytes
        if not p.interrupt:
            self.run_scripts("postprocess", p, result)
        return result

    def finish(self, p: Job, sample: Any) -> Image.Image:
        if isinstance(sample, Image.Image):
            image = sample
        else:
            with np.errstate(invalid="ignore"):
                image = Image.fromarray(np.nan_to_num(255.0 * sample).astype(np.uint8))
        if not p.interrupt:
            pp = Params(image=image)
            self.run_scripts("postprocess_image", p, pp)
            image = pp.image if pp.image is not None else image
            if p.graded is not None:
                image = Image.fromarray(p.graded)
            if p.overlay is not None:
                image = image.copy()
                image.paste(Image.fromarray(p.overlay))
        if p.save:
            self.save_image(image, p)
        image.info["parameters"] = f"{p.prompt} {p.extra_generation_params}"
        return image

    # --- video

    def save_video(self, p=None, pixels=None, audio=None, binary=None, mp4_frames=False, reclamp=True):
        if binary is not None:
            self.out("video", np.asarray(Image.open(io.BytesIO(binary))))
            return 0, None, None
        if pixels is None:
            return 0, None, None
        if isinstance(pixels, list):
            pixels = torch.stack([torch.from_numpy(np.array(one)) for one in pixels])[None].permute(0, 4, 1, 2, 3)
            pixels = pixels.float() / 127.5 - 1.0
        elif isinstance(pixels, np.ndarray):
            pixels = torch.from_numpy(2.0 * pixels - 1.0)[None].permute(0, 4, 1, 2, 3)
        pixels = pixels[None] if pixels.ndim == 4 else pixels
        x = torch.clamp(pixels.float(), -1.0, 1.0) * 127.5 + 127.5 if reclamp else pixels.float() * 255.0
        x = torch.nan_to_num(x).to(torch.uint8)[0].permute(1, 2, 3, 0).contiguous()
        if mp4_frames:
            for frame in x:
                self.out("video", frame.numpy())
        self.writer.atomic_save_video("a.mp4", x)
        return len(x), "a.mp4", None

    def atomic_save_video(self, filename: str, tensor: torch.Tensor) -> None:
        self._write([one.numpy() for one in tensor])

    def save_file(self, p, images, filename=None):
        self.files.save_video_atomic(images, filename)

    def _write(self, images: list[Any]) -> None:
        for image in images:
            self.out("video", np.array(image))

    def vae_decode(self, latents: np.ndarray, vae_type: str = "Full") -> np.ndarray:
        return latents

    def framepack(self, *frames: np.ndarray) -> None:
        """Its own loop, which never calls process_images."""
        self.out("preview", self.vae.vae_decode(frames[0].copy(), "Preview"))
        pixels = torch.stack([torch.from_numpy(one).float() / 127.5 - 1.0 for one in frames])[None]
        self.worker.save_video(p=None, pixels=pixels.permute(0, 4, 1, 2, 3), mp4_frames=True)


class FakeA1111(FakeHost):
    """The manners of A1111, Forge and reForge."""

    family = "a1111"

    def _build(self, saved: dict[str, Any]) -> None:
        super()._build(saved)
        self.processing.process_images = self.dispatch
        self.images = self.module("modules.images", save_video=self.save_video)

    def dispatch(self, p: Job) -> Any:
        """As Forge Neo: some models are drawn past the inner function, by a caption that a script put together."""
        if getattr(p, "own_caption", None) is None:
            return self.processing.process_images_inner(p)
        self.out("drawn", p.own_caption)
        return self.result(p, [Image.fromarray(one) for one in p.draws])

    def save_video(self, p: Any, frames: list[np.ndarray], fps: int = 16) -> str:
        for frame in frames:
            self.out("video", frame)
        return "a.mp4"

    def own_pipeline(self, image: np.ndarray, caption: str = "{}") -> None:
        self.answer(self.processing.process_images(Job(image, scripts=None, save=False, own_caption=caption)).images)

    def preview_of(self, images: list[Any]) -> Any:
        return images[0]

    def process_images(self, p: Job) -> Any:
        self.run_scripts("before_process", p)
        before = dict(self.opts.data)
        for key, value in p.override_settings.items():
            setattr(self.opts, key, value)
        try:
            result = self.processing.process_images_inner(p)
        finally:
            self.opts.data.update(before)
        self.gallery(result.images)
        self.answer([*result.images, *result.extra_images])
        return result

    def inner(self, p: Job) -> Any:
        self.run_scripts("process", p)
        p.prompts = [p.prompt] * p.batch_size
        self.run_scripts("before_process_batch", p, batch_number=0, prompts=p.prompts)
        self.out("drawn", p.prompt)
        if p.previews:
            self.state.do_set_current_image([Image.fromarray(one) for one in p.draws])
        if p.hires is not None:
            self.save_image(Image.fromarray(p.hires), p)
        batch = torch.stack([torch.from_numpy(floats(one)) for one in p.draws]).permute(0, 3, 1, 2).contiguous()
        self.run_scripts("postprocess_batch", p, images=batch, batch_number=0)
        pp = Params(images=[batch[i] for i in range(len(batch))])
        self.run_scripts("postprocess_batch_list", p, pp, batch_number=0)
        images: list[Any] = []
        for sample in pp.images:
            images += self.finish(p, sample)
        if p.grid and len(images) > 1:
            grid = self.image_grid(images)
            self.out("grid", grid)
            images.insert(0, grid)
            if p.save:
                self.save_image(grid, p)
        result = self.result(p, images)
        if p.extra:
            result.extra_images.append(Image.fromarray(p.draws[0]))
        self.run_scripts("postprocess", p, result)
        if p.pastes_late:
            result.images[0] = Image.fromarray(p.draws[0])
        return result

    def finish(self, p: Job, sample: torch.Tensor) -> list[Image.Image]:
        array = np.moveaxis(255.0 * sample.cpu().numpy(), 0, 2)
        image = Image.fromarray(np.nan_to_num(array).astype(np.uint8))
        pp = Params(image=image)
        self.run_scripts("postprocess_image", p, pp)
        image = pp.image
        before = image.copy()
        if p.overlay is not None:
            image = image.copy()
            image.paste(Image.fromarray(p.overlay))
        pp = Params(image=image)
        self.run_scripts("postprocess_image_after_composite", p, pp)
        image = pp.image
        if p.save:
            self.save_image(image, p)
        image.info["parameters"] = f"{p.prompt} {p.extra_generation_params}"
        return [image, before] if p.mask_composite else [image]


def floats(image: np.ndarray) -> np.ndarray:
    """An image of bytes as floats that give the same bytes back when they are cut off."""
    return ((image.astype(np.float32) + 0.5) / 255.0).clip(0.0, 1.0)


def _told(p: Any) -> dict[str, Any]:
    return {"extra": str(p.extra_generation_params)} if isinstance(p, Job) else {}


KINDS = {"sdnext": FakeSdnext, "a1111": FakeA1111}
