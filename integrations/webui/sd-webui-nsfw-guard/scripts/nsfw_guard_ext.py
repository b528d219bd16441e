"""NSFW guard for sdnext, A1111, Forge and reForge: hands every hook on to the package nsfw_guard.

Where that package is missing, every image is painted black: nothing leaves unchecked.
"""

import functools
import importlib
import logging
import sys

from modules import script_callbacks, scripts, scripts_postprocessing
from PIL import Image

log = logging.getLogger("nsfw_guard")
if (shown := logging.getLogger("sd")).handlers:  # sdnext shows what comes by that name, and nothing else
    log.parent = shown
HELD = ("image", "images", "imgs", "extra_images")
WRAPPED = (  # module, function, what becomes of it
    ("modules.processing", "process_images_inner", "result"),
    ("modules.postprocessing", "run_postprocessing", "result"),
    ("modules.video_models.video_save", "save_video", "never"),
    ("modules.video_models.video_save", "atomic_save_video", "never"),
    ("modules.video", "save_video", "never"),
    ("modules.video", "save_video_atomic", "never"),
    ("modules.framepack.framepack_vae", "vae_decode", "result"),
)


def black(value):
    """Whatever holds images, with all of them black: in place where that can be, else another image."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    try:
        if isinstance(value, Image.Image):
            value.load()
            value.info.clear()
            if value.mode in {"P", "PA"}:
                value.putpalette([0] * 768)
            value.paste(0, (0, 0, *value.size))
        elif isinstance(value, list):
            value[:] = [black(one) for one in value]
        elif hasattr(value, "shape"):
            value[...] = 0
        elif any(hasattr(value, name) for name in HELD):
            for name in HELD:
                if getattr(value, name, None) is not None:
                    setattr(value, name, black(getattr(value, name)))
            if getattr(value, "bytes", None) is not None:
                value.bytes = None
        else:
            return Image.new("RGB", (64, 64))
    except Exception:  # noqa: BLE001  (an image that cannot be painted is exchanged)
        return Image.new("RGB", (64, 64))
    return value


class CoverAll:
    """Stands in for the adapter: covers every image of every hook, and says once how to mend it."""

    def __init__(self, why):
        cure = f"EVERY image is covered until you run: {sys.executable} -m pip install nsfw-guard, and start again"
        log.error("NSFW guard cannot start (%s). %s", why, cure)

    def register(self, _script):
        script_callbacks.on_before_image_saved(black)
        script_callbacks.on_image_grid(black)
        script_callbacks.on_app_started(lambda demo, app: self.wrap())
        self.wrap()

    def wrap(self):
        for module, name, kind in WRAPPED:
            try:
                old = getattr(importlib.import_module(module), name)
            except Exception:  # noqa: BLE001, S112  (another version of the host)
                continue
            if hasattr(old, "__nsfw_guard__"):
                continue
            new = functools.wraps(old)(functools.partial(getattr(self, kind), old))
            new.__nsfw_guard__ = True
            for other in list(sys.modules.values()):  # it may have been imported by name
                for key in [key for key, value in list(getattr(other, "__dict__", {}).items()) if value is old]:
                    setattr(other, key, new)
        state = importlib.import_module("modules.shared").state
        put = lambda self, image: vars(self).update(current_image=black(image))  # noqa: E731
        type(state).current_image = property(lambda self: vars(self).get("current_image"), put)
        state.current_image = None

    def result(self, old, *args, **kwargs):
        out = old(*args, **kwargs)
        return (black(out[0]), *out[1:]) if isinstance(out, tuple) else black(out)  # images first, then texts

    def never(self, old, *args, **kwargs):
        raise RuntimeError("NSFW guard cannot start, so no video is written: see the log for how to mend it")

    def postprocess_batch(self, p, *args, images=None, **kwargs):
        black(images)

    def postprocess_extras(self, pp):
        black(pp)

    def __getattr__(self, name):
        """Every other hook: what it is handed beside the job itself and the arguments of the script."""
        return lambda p=None, *value, **more: [black(one) for one in value if any(hasattr(one, n) for n in HELD)][:0]


try:
    from nsfw_guard.hosts.webui.adapter import adapter

    GUARD = adapter()
    GUARD.register(__file__)
except Exception as error:  # noqa: BLE001  (whatever it is, nothing may leave)
    GUARD = CoverAll(f"{type(error).__name__}: {error}")
    GUARD.register(__file__)


def hook(name):
    return lambda self, *args, **kwargs: getattr(GUARD, name)(*args, **kwargs)


class NsfwGuardScript(scripts.Script):
    """Runs for every image. What it shows on the page can only tighten."""

    before_process, process, before_process_batch = map(hook, ("before_process", "process", "before_process_batch"))
    postprocess_batch, postprocess_batch_list = hook("postprocess_batch"), hook("postprocess_batch_list")
    postprocess_image, postprocess = hook("postprocess_image"), hook("postprocess")
    postprocess_image_after_composite = hook("postprocess_image_after_composite")

    def title(self):
        return "NSFW guard"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        return GUARD.ui()


class NsfwGuardPostprocessing(scripts_postprocessing.ScriptPostprocessing):
    """The last step of the Extras or Process tab."""

    name, order = "NSFW guard", 20000

    def ui(self):
        return {}

    def process(self, pp, **args):
        GUARD.postprocess_extras(pp)


GUARD.scripts_found("ScriptPostprocessing.process", *(f"Script.{name}" for name in vars(NsfwGuardScript)))
