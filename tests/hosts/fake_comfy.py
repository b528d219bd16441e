"""A small ComfyUI: an executor that caches, nodes that save and show, a server that swallows, and every sink in a list.

Written from what the host does, not from its code. The modules are made anew for each host, since hooks edit them.
"""

from __future__ import annotations

import asyncio
import io
import json
from dataclasses import dataclass, field
from fractions import Fraction
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image

RED, GREEN = (235, 30, 30), (30, 160, 60)


def plain(colour, *, count=1, height=24, width=32):
    """Images of one colour as the host's IMAGE. Shape: (B, H, W, 3) in [0, 1]."""
    return (torch.tensor(colour).float() / 255).expand(count, height, width, 3).clone()


def eight(image):
    """A frame as the host saves it."""
    return (image.detach().float().numpy() * 255.0).clip(0, 255).astype(np.uint8)


def red(array):
    """The share of strongly red pixels of an 8-bit image, or of floats."""
    array = array.detach().float().numpy() if isinstance(array, torch.Tensor) else np.asarray(array)
    array = (array * 255).astype(int) if array.dtype.kind == "f" else array.astype(int)
    if array.ndim < 3 or array.shape[-1] < 3:
        return 0.0
    return float(((array[..., 0] > 150) & (array[..., 1] < 110) & (array[..., 2] < 110)).mean())


@dataclass
class Components:
    images: torch.Tensor
    frame_rate: Fraction
    audio: Any = None
    alpha: Any = None


class VideoFromComponents:
    def __init__(self, components):
        self._components = components

    def get_components(self):
        return self._components


class Node:
    """What every node has. `host` is set on the subclass that belongs to one host."""

    host: FakeComfy
    FUNCTION = "run"
    RETURN_TYPES: tuple[str, ...] = ()
    TAKES: ClassVar = {"images": ("IMAGE",), "image": ("IMAGE", {}), "video": ("VIDEO",), "samples": ("LATENT",)}

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802 - the host's name for it
        return {"required": cls.TAKES, "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"}}


class Given(Node):
    RETURN_TYPES = ("IMAGE",)

    def run(self, key):
        self.host.runs += 1
        return (self.host.given[key],)


class ApiImage(Given):
    """What a service far away sent."""

    async def run(self, key):
        await asyncio.sleep(0)
        return super().run(key)


class GivenList(Given):
    OUTPUT_IS_LIST = (True,)


class SaveImage(Node):
    OUTPUT_NODE = True
    sink = "disk"

    def run(self, images, prompt=None, extra_pnginfo=None):
        self.host.sinks[self.sink] += [eight(image) for image in images]
        self.host.metadata.append((prompt, extra_pnginfo))
        return {"ui": {"images": [self.sink] * len(images)}}


class PreviewImage(SaveImage):
    sink = "temp"


class SaveAnimatedWEBP(SaveImage):
    pass


class SaveAnimatedPNG(SaveImage):
    pass


class SaveImageWebsocket(Node):
    OUTPUT_NODE = True

    def run(self, images, **_):
        for image in images:
            self.host.server.PromptServer.instance.send_sync(2, ("PNG", Image.fromarray(eight(image)), None))
        return {}


class SaveImageList(SaveImage):
    INPUT_IS_LIST = True

    def run(self, images, **_):
        for batch in images:
            super().run(batch)
        return {}


class CreateVideo(Node):
    def run(self, images, fps=8):
        return (VideoFromComponents(Components(images, Fraction(fps))),)


class SaveVideo(Node):
    OUTPUT_NODE = True

    def run(self, video, **_):
        self.host.sinks["video"] += [eight(frame) for frame in video.get_components().images]
        return {}


class Encode(Node):
    def run(self, images):
        return ({"samples": images.permute(0, 3, 1, 2)},)


class SaveLatent(Node):
    OUTPUT_NODE = True

    def run(self, samples, **_):
        self.host.sinks["latents"] += [eight(one.permute(1, 2, 0)) for one in samples["samples"]]
        return {}


class MaskPreview(Node):
    OUTPUT_NODE = True

    def run(self, mask, **_):
        self.host.sinks["temp"] += [eight(one[..., None].repeat(1, 1, 3)) for one in mask]
        return {}


class SaveAny(Node):
    """Saves whatever it is handed."""

    OUTPUT_NODE = True
    TAKES: ClassVar = {
        "anything": ("IMAGE",),
        "mask_or_image": ("MASK,IMAGE",),
        "lora": ("LORA_MODEL",),
        "conditioning": ("CONDITIONING", {"tooltip": "what steers a drawing"}),
        "choice": (["a", "b"],),
        "wild": ("*",),
    }

    def run(self, **given):
        self.host.sinks["disk"].append(next(value for name, value in given.items() if name in self.TAKES))
        return {}


class Crop(Node):
    """No output node, but one that shows what it was handed."""

    HAS_INTERMEDIATE_OUTPUT = True

    def run(self, images):
        self.host.sinks["temp"] += [eight(image) for image in images]
        return (images,)


class Heir(SaveImage):
    """Saves by what it inherits, and does not say that it is an output node."""

    OUTPUT_NODE = False

    def save_images(self, images):
        return super().run(images)

    def run(self, images, **_):
        self.save_images(images)
        return (images,)


class WritesByItself(Node):
    """Writes a file and says nothing of it."""

    def run(self, images):
        self.host.sinks["disk"] += [eight(image) for image in images]
        return (images,)


class Sampler(Node):
    """Shows a preview in the host's way, and hands the images on."""

    def run(self, images):
        shown = self.host.latent_preview.Previewer().decode_latent_to_preview_image("JPEG", images)
        if shown is not None:
            self.host.server.PromptServer.instance.send_sync(2, shown)
        return (images,)


class OwnPreviews(Node):
    """Sends images by itself: three kinds of message."""

    def run(self, images):
        send, image = self.host.server.PromptServer.instance.send_sync, Image.fromarray(eight(images[0]))
        packed = io.BytesIO(b"\0\0\0\2")  # the header: a PNG
        packed.seek(4)
        image.save(packed, "PNG")
        send(2, ("JPEG", image, 512))
        send(4, (("JPEG", image, 512), {"node": "1"}))
        send(1, packed.getvalue())
        send("progress", {"value": 1})
        return (images,)


class ShowsByHelper(Node):
    """No output node: it shows what it was handed by the host's own helper."""

    def run(self, images):
        self.host.find("comfy_api.latest._ui").ImageSaveHelper.save_images(images, "a", "temp", cls=None)
        return (images,)


class SendsFiles(Node):
    """An output node that sends finished files, as those of SwarmUI do: of 16 bits, and of several frames."""

    OUTPUT_NODE = True

    def run(self, images, **_):
        send, frames = self.host.server.PromptServer.instance.send_sync, [Image.fromarray(eight(i)) for i in images]
        deep, clip = io.BytesIO(b"\0\0\0\2"), io.BytesIO(b"\0\0\0\3")
        for file in (deep, clip):
            file.seek(4)
        Image.fromarray(np.asarray(frames[0].convert("L")).astype(np.uint16) * 257).save(deep, "PNG")
        frames[0].save(clip, "WEBP", save_all=True, append_images=frames[1:], lossless=True)
        for event, file in ((1, deep), (10, deep), (1, clip)):
            send(event, file.getvalue())
        return {}


class SendsAnother(Node):
    """An output node that sends an image which it was not handed."""

    OUTPUT_NODE = True

    def run(self, images, **_):
        other = Image.fromarray(eight(plain(RED, height=images.shape[1], width=images.shape[2])[0]))
        self.host.server.PromptServer.instance.send_sync(2, ("PNG", other, None))
        return {}


class Expander(Node):
    """Makes a graph at run time, with an output node in it."""

    RETURN_TYPES = ("IMAGE",)

    def run(self, images):
        return {"expand": {"inner": {"class_type": "PreviewImage", "inputs": {"images": images}}}, "result": (images,)}


class SlowSave(SaveImage):
    async def run(self, images, **_):  # type: ignore[override]
        await asyncio.sleep(0)
        return super().run(images)


NODES = [
    Given, ApiImage, GivenList,
    SaveImage, PreviewImage, SaveAnimatedWEBP, SaveAnimatedPNG, SaveImageWebsocket, SaveImageList,
    CreateVideo, SaveVideo, Encode, SaveLatent, MaskPreview, SaveAny, Crop, Heir, WritesByItself, Sampler, OwnPreviews,
    Expander, SlowSave, SendsAnother, SendsFiles, ShowsByHelper,
]  # fmt: skip
SINKS = ("disk", "temp", "websocket", "video", "latents")


@dataclass
class FakeComfy:
    """One host. `flavour`: how its release runs a node: "oldest", "sync" or "async"."""

    flavour: str = "async"
    given: dict[str, Any] = field(default_factory=dict)
    nodes: dict[str, type] = field(default_factory=dict)

    def __post_init__(self):
        self.sinks: dict[str, list[Any]] = {name: [] for name in SINKS}
        self.metadata: list[Any] = []
        self.events: list[Any] = []
        self.files: list[Any] = []
        self.errors: list[BaseException] = []
        self.cache: dict[Any, Any] = {}
        self.runs = 0
        self.nodes = {one.__name__: type(one.__name__, (one,), {"host": self}) for one in NODES} | self.nodes
        self.server = _server(self)
        self.latent_preview = _latent_preview()
        self.execution = _execution(self)
        self.helpers = _helpers(self)

    def find(self, name):
        """A module of this host."""
        known = {"execution": self.execution, "latent_preview": self.latent_preview, "server": self.server}
        known |= {"comfy_api.latest._ui": self.helpers} if self.flavour == "async" else {}
        if name not in known:
            raise ModuleNotFoundError(name)
        return known[name]

    def post(self, graph, **more):
        """POST /prompt: 200 when it ran, 400 when there was nothing to run."""
        return self.server.PromptServer.instance.post({"prompt": graph, **more})

    def worst(self):
        """The reddest of all that left."""
        return max((red(one) for sink in self.sinks.values() for one in sink), default=0.0)

    def left(self):
        """How much left."""
        return sum(map(len, self.sinks.values()))


def _latent_preview():
    class LatentPreviewer:
        def decode_latent_to_preview(self, x0):
            return None

        def decode_latent_to_preview_image(self, preview_format, x0):
            return ("JPEG", self.decode_latent_to_preview(x0), 512)

    class Previewer(LatentPreviewer):
        def decode_latent_to_preview(self, x0):
            return Image.fromarray(eight(x0[0]))

    module: Any = ModuleType("latent_preview")
    module.LatentPreviewer, module.Previewer = LatentPreviewer, Previewer
    return module


def _helpers(host):
    class ImageSaveHelper:
        @staticmethod
        def save_images(images, filename_prefix, folder_type, cls, compress_level=4):
            host.sinks[folder_type] += [eight(image) for image in images]
            return [filename_prefix] * len(images)

        save_animated_png = save_animated_webp = save_images

    module: Any = ModuleType("comfy_api.latest._ui")
    module.ImageSaveHelper = ImageSaveHelper
    return module


class Routes(list[Any]):
    """The routes of the server: each knows its path."""

    def get(self, path):
        return lambda handler: self.append(SimpleNamespace(path=path, handler=handler)) or handler


def _server(host):
    class PromptServer:
        instance: Any = None

        def __init__(self):
            self.handlers = []
            self.routes = Routes()

        def add_on_prompt_handler(self, handler):
            self.handlers.append(handler)

        def send_sync(self, event, data, sid=None):
            if event == 10 or (event == 1 and data[3] == 3):
                host.files.append((event, data))
            elif event == 1:
                host.sinks["websocket"].append(np.asarray(Image.open(io.BytesIO(data[4:]))))
            elif event in {2, 4}:
                image = data[1] if event == 2 else data[0][1]
                host.sinks["websocket"].append(np.array(image.convert("RGB")))
            else:
                host.events.append((event, data))

        def post(self, request):
            for handler in self.handlers:
                try:
                    request = handler(request)
                except Exception as error:  # noqa: BLE001  (so does the host)
                    host.events.append(("swallowed", error))
            if not request.get("prompt"):
                return 400
            host.execution.PromptExecutor().execute(request["prompt"], request.get("extra_data", {}))
            return 200

    PromptServer.instance = PromptServer()
    module: Any = ModuleType("server")
    module.web = SimpleNamespace(json_response=json.dumps)
    module.PromptServer = PromptServer
    return module


def _calls(node, given):
    """The node's function, once a slice of its inputs."""
    function = getattr(node, node.FUNCTION)
    if getattr(node, "INPUT_IS_LIST", False):
        return [function(**given)]
    longest = max((len(one) for one in given.values()), default=1)
    return [function(**{k: v[min(i, len(v) - 1)] for k, v in given.items()}) for i in range(longest)]


def _merged(node, results):
    """(outputs, expanded graph)."""
    expanded = next((one["expand"] for one in results if isinstance(one, dict) and "expand" in one), None)
    rows = [one.get("result", ()) if isinstance(one, dict) else one for one in results]
    width, lists = max(map(len, rows), default=0), getattr(node, "OUTPUT_IS_LIST", ())
    outputs = []
    for i in range(width):
        flat = i < len(lists) and lists[i]
        outputs.append([x for row in rows for x in row[i]] if flat else [row[i] for row in rows])
    return outputs, expanded


def _execution(host):
    def oldest(obj, input_data_all):
        return _merged(obj, _calls(obj, input_data_all))

    def sync(obj, input_data_all, execution_block_cb=None, pre_execute_cb=None):
        return _merged(obj, _calls(obj, input_data_all))

    async def newest(
        prompt_id, unique_id, obj, input_data_all, execution_block_cb=None, pre_execute_cb=None, v3_data=None
    ):
        matches = _calls(obj, input_data_all)
        return _merged(obj, [await one if asyncio.iscoroutine(one) else one for one in matches])

    module: Any = ModuleType("execution")
    module.get_output_data = {"oldest": oldest, "sync": sync, "async": newest}[host.flavour]
    module.PromptExecutor = type("PromptExecutor", (Executor,), {"host": host})
    return module


class Executor:
    """Runs a graph. The outputs of a node are the same objects for all who use them, and in the next run."""

    host: FakeComfy

    def execute(self, graph, extra):
        host, done = self.host, {}
        with torch.inference_mode():
            for key, node in graph.items():
                try:
                    self._run(graph, key, node, extra, done)
                except Exception as error:  # noqa: BLE001  (the host reports it, and ends the run)
                    host.errors.append(error)
                    return

    def _run(self, graph, key, node, extra, done):
        host, inputs = self.host, {}
        named = (key, node["class_type"], repr(sorted(node["inputs"].items())))
        if named in host.cache:
            done[key] = host.cache[named]
            return
        for name, value in node["inputs"].items():
            linked = isinstance(value, list) and len(value) == 2 and value[0] in graph
            inputs[name] = done[value[0]][value[1]] if linked else [value]
        kind = host.nodes[node["class_type"]]
        if getattr(kind, "OUTPUT_NODE", False):
            inputs["prompt"], inputs["extra_pnginfo"] = [graph], [extra.get("extra_pnginfo")]
            if "prompt" not in kind.run.__code__.co_varnames and not kind.run.__code__.co_flags & 8:
                del inputs["prompt"], inputs["extra_pnginfo"]
        outputs, expanded = self._call(key, kind(), inputs)
        for inner, one in (expanded or {}).items():
            self._run(expanded, f"{key}.{inner}", one, extra, done)
        done[key] = host.cache[named] = outputs

    def _call(self, key, node, inputs):
        run = self.host.execution.get_output_data
        if self.host.flavour == "async":
            return asyncio.run(run("p", key, node, inputs, execution_block_cb=None, pre_execute_cb=None, v3_data={}))
        if self.host.flavour == "sync":
            return run(node, inputs, execution_block_cb=None, pre_execute_cb=None)
        return run(node, inputs)


def graph(*steps, key="x"):
    """A graph: `Given` first, then each step on the one before. A step is a class, or (class, input name)."""
    result = {"0": {"class_type": "Given", "inputs": {"key": key}}}
    for index, step in enumerate(steps, 1):
        kind, name = step if isinstance(step, tuple) else (step, "images")
        result[str(index)] = {"class_type": kind, "inputs": {name: [str(index - 1), 0]}}
    return result


def beside(*kinds, key="x"):
    """A graph in which many nodes hang on one."""
    result = {"0": {"class_type": "Given", "inputs": {"key": key}}}
    for index, kind in enumerate(kinds, 1):
        result[str(index)] = {"class_type": kind, "inputs": {"images": ["0", 0]}}
    return result


__all__ = [
    "GREEN", "RED", "FakeComfy", "VideoFromComponents", "beside", "eight", "graph", "plain", "red",
]  # fmt: skip
