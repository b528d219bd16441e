"""NSFW Guard for ComfyUI: two nodes, and hooks for every graph where the owner asked for them.

All that decides anything is in the package nsfw_guard. Where that cannot be imported, this file covers without judging.
"""
# ruff: noqa: N802, N999  (names of the host)

import functools
import inspect
import logging
import os

log = logging.getLogger("nsfw_guard.comfyui")

CURE = "run `python -m pip install nsfw-guard` with the Python of ComfyUI, and start ComfyUI again"
OFF = {"0", "false", "no", "off"}
WEB_DIRECTORY = None


def covered(value):
    """The value with every image in it gone; what may hold one and cannot be covered is refused."""
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, dict):
        return {key: covered(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        items = [covered(one) for one in value]
        return value._make(items) if hasattr(value, "_make") else type(value)(items)
    if type(value).__module__.split(".")[0] == "torch" and hasattr(value, "new_zeros"):
        return value.new_zeros(value.shape)
    raise RuntimeError(f"NSFW Guard: a {type(value).__name__} cannot be covered, so it is stopped: {CURE}")


def wrapped(original):
    """The host's way to run a node, with nothing but covered images for nodes that save or show."""
    try:
        signature = inspect.signature(original)
        known = {"obj", "input_data_all"} <= set(signature.parameters)
    except (TypeError, ValueError):
        known = False
    if not known:

        def stopped(*_args, **_kwargs):
            raise RuntimeError(f"NSFW Guard does not know this ComfyUI and runs nothing: {CURE}")

        return stopped

    def bind_covered(args, kwargs):
        bound = signature.bind(*args, **kwargs)
        node, flags = bound.arguments["obj"], ("OUTPUT_NODE", "HAS_INTERMEDIATE_OUTPUT")
        if hasattr(node, "save_images") or any(getattr(node, flag, False) for flag in flags):
            bound.arguments["input_data_all"] = covered(bound.arguments["input_data_all"])
        return bound

    if inspect.iscoroutinefunction(original):

        @functools.wraps(original)
        async def get_output_data(*args, **kwargs):
            bound = bind_covered(args, kwargs)
            return await original(*bound.args, **bound.kwargs)

    else:

        @functools.wraps(original)
        def get_output_data(*args, **kwargs):
            bound = bind_covered(args, kwargs)
            return original(*bound.args, **bound.kwargs)

    return get_output_data


def cover_everything():
    """Hooks the host without the package. Each hook by itself: what fails does not keep the others away."""
    for hook in (_outputs, _sent):
        try:
            hook()
        except Exception:
            log.exception("NSFW Guard could not hook this ComfyUI: %s", CURE)


def _outputs():
    import execution

    original = getattr(execution, "get_output_data", None)
    hooked = getattr(execution, "_nsfw_guard", None) is not None  # by the package: it works, or stopped the host
    if not hooked and not hasattr(original, "_nsfw_guard_covers"):
        execution.get_output_data = wrapped(original)
        execution.get_output_data._nsfw_guard_covers = True


def _sent():
    """Images on their way to the browser, live previews among them, are not sent."""
    import server

    original = server.PromptServer.send_sync
    if hasattr(original, "_nsfw_guard_covers"):
        return

    @functools.wraps(original)
    def send_sync(self, event, data, *args, **kwargs):
        if isinstance(event, int) and int(event) in {1, 2, 4}:
            return None
        return original(self, event, data, *args, **kwargs)

    send_sync._nsfw_guard_covers = True
    server.PromptServer.send_sync = send_sync


def enforced():
    """Whether every graph is covered: unless the owner of this machine wants the nodes alone, and locked no setting."""
    settings = {name: value.strip().lower() for name, value in os.environ.items() if name.startswith("NSFW_GUARD_")}
    return settings.pop("NSFW_GUARD_ENFORCE", "") not in OFF or any(settings.values())


def stand_in(outputs, category="image/safety"):
    """A node for graphs that have the real one: it lets nothing out."""

    class Covered:
        CATEGORY, FUNCTION, RETURN_TYPES = category, "check", outputs

        @classmethod
        def INPUT_TYPES(cls):
            kind = outputs[0]
            return {"required": {"images" if kind == "IMAGE" else "video": (kind,)}}

        def check(self, images=None, video=None, **_widgets):
            if video is not None or images is None:
                raise RuntimeError(f"NSFW Guard is not installed, so this VIDEO is stopped: {CURE}")
            return covered(images), "[]", images.new_ones(images.shape[:-1]), True

    return Covered


try:
    from nsfw_guard.hosts.comfyui import nodes, session

    NODE_CLASS_MAPPINGS = dict(nodes.NODES)
    NODE_DISPLAY_NAME_MAPPINGS = dict(nodes.NAMES)
    session.start()
except Exception as error:  # noqa: BLE001  (whatever it is: nothing may pass)
    if enforced():
        cover_everything()
    cure = CURE if isinstance(error, ImportError) else "the message says how"
    log.error("NSFW Guard is not at work: what it should judge is covered until this is mended: %s; %s", error, cure)
    if "NODE_CLASS_MAPPINGS" not in globals():
        NODE_CLASS_MAPPINGS = {
            "NSFWGuard": stand_in(("IMAGE", "STRING", "MASK", "BOOLEAN")),
            "NSFWGuardVideo": stand_in(("VIDEO", "STRING", "BOOLEAN")),
        }
        NODE_DISPLAY_NAME_MAPPINGS = {"NSFWGuard": "NSFW Guard", "NSFWGuardVideo": "NSFW Guard (video)"}
