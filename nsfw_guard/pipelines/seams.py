"""The table of seams: where the images of a pipeline class can be judged, and which classes are refused.

Seams are found by capability (the code of a class and its output fields), so that future classes are covered too.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar, cast

from nsfw_guard.errors import MissingExtraError, UncoveredError

SEAMS = {
    "processor": "its image processor, on the device, before anything becomes a file",
    "numpy": "numpy_to_pil, before anything becomes a PIL image, and the output of the call",
    "exit": "the output of the call",
    "parts": "the pipelines it contains, and the output of the call",
    "modular": "the processors of its blocks, and the state that the call returns",
}
# Fields of outputs that contain images; the verdicts are those of the first one found.
IMAGES = ("images", "frames", "video", "videos", "image", "rgb", "unsafe_images")
CLIPS = frozenset({"frames", "video", "videos"})
# Values that an image could be made from again: they are returned only if nothing in the call was flagged.
WITHHELD_FIELDS = frozenset({"latent", "latents", "keyframes", "depth"})
# Sound, text, poses, numbers: not images.
OTHER = frozenset({
    "audio", "audios", "sound", "action", "text", "texts", "revised_prompts", "sequences", "c2w", "keyframe_positions",
    "nsfw_content_detected", "nsfw_detected", "watermark_detected", "applied_safety_concept",
})  # fmt: skip
FLAGS = ("nsfw_content_detected", "nsfw_detected")
MARKS = frozenset({*FLAGS, "watermark_detected"})  # released only if they contain flags, numbers or texts
# Classes that return their images alone, without a tuple, for return_dict=False.
BARE = frozenset({"StableCascadeDecoderPipeline", "StableVideoDiffusionPipeline", "WuerstchenDecoderPipeline"})
# The fields of a tuple, where it contains more than images and flags.
TUPLES: tuple[tuple[frozenset[str], tuple[str, ...]], ...] = (
    (frozenset({"LTX2DFRPipeline", "LTX2DFRTemporalRefinePipeline"}), ("frames", "audio", "keyframes", "c2w")),
    (frozenset({"SanaWMPipeline"}), ("frames", "c2w", "latent")),
    (frozenset({"Cosmos3OmniPipeline"}), ("video", "sound", "action")),
    (frozenset({"UniDiffuserPipeline"}), ("images", "text")),
    (frozenset({"StableDiffusionPipelineSafe"}), ("images", "nsfw_detected", "applied_safety_concept", "images")),
)
SOUND = ("frames", "audio")  # every LTX2 and Kandinsky6
LATENT = frozenset({"latent", "latents", "mesh"})
# The images of these are estimates of something else, which no image model was trained on.
REFUSED = {
    "MarigoldDepthPipeline": "it estimates the depth of an input image: check that image instead",
    "MarigoldNormalsPipeline": "it estimates the normals of an input image: check that image instead",
    "MarigoldIntrinsicsPipeline": "it estimates the materials of an input image: check that image instead",
    "AudioDiffusionPipeline": "its images are spectrograms of sound",
}
SOUND_ONLY = frozenset({"MiniMaxMusic3ModularPipeline"})  # modular pipelines do not declare what they make


Find = TypeVar("Find", bound=Callable[..., Any])


def cached_per_class(find: Find) -> Find:
    """Cache a function's result per class."""
    return cast(Find, cache(find))


@dataclass(frozen=True)
class SeamInfo:
    """The seam of a class, or the reason why it has none."""

    seam: str
    visual: bool = True
    reason: str = ""
    slot: bool = False


@cached_per_class
def classify(cls: Any) -> SeamInfo:
    """Return the seam of a pipeline class."""
    slot = "safety_checker" in _parameters(cls)
    refused = [REFUSED[base.__name__] for base in cls.__mro__ if base.__name__ in REFUSED]
    if refused:
        return SeamInfo("", reason=refused[0], slot=slot)
    names = {field for output in outputs_of(cls) for field in output}
    if cls.__name__ in SOUND_ONLY or (names and not names & set(IMAGES)):
        return SeamInfo("", visual=False, reason="it returns no images: attach to the pipeline that decodes its output")
    return SeamInfo("modular" if is_modular(cls) else _seam(_source(cls)), slot=slot)


def _seam(text: str) -> str:
    """The seam of a class with this source."""
    if re.search(r"_processor\.postprocess", text):
        return "processor"
    if "self.numpy_to_pil" in text:
        return "numpy"
    return "parts" if re.search(r"self\.\w+_pipe\b", text) else "exit"


def check_coverable(pipe: object) -> SeamInfo:
    """Return the seam of a pipeline, or raise an error with the reason why it is refused."""
    if not is_pipeline(pipe):
        raise UncoveredError(f"{why_none(pipe)}: attach to the pipeline that returns images")
    seam = classify(type(pipe))
    if not seam.seam:
        raise UncoveredError(f"{type(pipe).__name__} cannot be guarded: {seam.reason}")
    return seam


def is_pipeline(thing: object) -> bool:
    """Return whether it is a callable diffusers pipeline, modular or not."""
    known = isinstance(thing, library().DiffusionPipeline) or is_modular(type(thing))
    return known and callable(thing)


def why_none(thing: object) -> str:
    """Return why an object is not a callable pipeline."""
    if isinstance(thing, type):
        return f"{thing.__name__} is a class, not a pipeline (make one with {thing.__name__}.from_pretrained(...))"
    name = type(thing).__name__
    if isinstance(thing, library().DiffusionPipeline):
        return f"{name} is a pipeline that cannot be called, since its class has no __call__"
    return f"{name} is not a diffusers pipeline"


def is_modular(cls: type) -> bool:
    """Return whether it is a pipeline of Modular Diffusers; older releases have none."""
    modular = getattr(library(), "ModularPipeline", None)
    return modular is not None and issubclass(cls, modular)


def library() -> Any:
    """Return the module diffusers, or raise an error that says how to install it."""
    try:
        import diffusers
    except ImportError:
        raise MissingExtraError("diffusers", "diffusers") from None
    return diffusers


def outputs_of(cls: type) -> list[tuple[str, ...]]:
    """Return the fields of the outputs that a class's own call creates."""
    return [tuple(f.name for f in dataclasses.fields(output)) for output in output_classes(cls)]


@cached_per_class
def output_classes(cls: Any) -> list[Any]:
    """Return the output classes that a class's own call names."""
    call: Any = inspect.unwrap(cls.__call__)
    try:
        names = set(re.findall(r"\b(\w+Output)\(", inspect.getsource(call)))
    except (OSError, TypeError):
        return []
    named = [call.__globals__.get(name) for name in sorted(names)]
    return [n for n in named if isinstance(n, type) and dataclasses.is_dataclass(n)]


def tuple_fields(cls: type, length: int) -> tuple[str, ...]:
    """Return the field names of the tuple that a class returns for return_dict=False."""
    names = {base.__name__ for base in cls.__mro__}
    for classes, fields in TUPLES:
        if names & classes:
            return fields[:length]
    if any(n.startswith(("LTX2", "Kandinsky6")) for n in names):
        return SOUND[:length]
    flags = ("nsfw_content_detected", "watermark_detected")
    return (_first(cls), *flags)[:length] + ("",) * (length - 3)


def _first(cls: type) -> str:
    """The field name of a class's images."""
    fields = [name for output in outputs_of(cls) for name in output if name in IMAGES]
    return fields[0] if fields else "images"


def asks_for_cosmos(cls: type) -> bool:
    """Return whether a class only calls a CosmosSafetyChecker and ignores any other checker."""
    return "isinstance(self.safety_checker, CosmosSafetyChecker)" in _source(cls)


def returns_watermark_flags(cls: type) -> bool:
    """Return whether a class expects three values from the checker in its slot: images, flags, watermarks."""
    return "watermark_detected" in _source(cls)


def returns_bare_value(cls: type) -> bool:
    """Return whether a class returns its images without a tuple for return_dict=False."""
    return any(base.__name__ in BARE for base in cls.__mro__)


@cached_per_class
def pixel_space(cls: Any) -> bool:
    """Return whether a class denoises pixels, so that its callbacks receive images."""
    text = _source(cls)
    return "scheduler.step" in text and not re.search(r"\.decode\(|decode_latents|vae_decoder", text)


def _parameters(cls: type) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(cls.__init__).parameters  # type: ignore[misc]


def _source(cls: type) -> str:
    """The source of a class and of its bases below the library's own, or empty where it is not on disk."""
    parts = []
    for base in cls.__mro__:
        if base.__name__ in {"DiffusionPipeline", "ConfigMixin", "object"}:
            break
        try:
            parts.append(inspect.getsource(base))
        except (OSError, TypeError):
            continue
    return "\n".join(parts)
