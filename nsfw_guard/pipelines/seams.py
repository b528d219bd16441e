"""The one table of seams: where the pictures of a pipeline class can be judged, and which classes are refused.

Decided by capability (what a class writes, what its output is called), so that a class of tomorrow finds its seam too.
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
    "numpy": "numpy_to_pil, before anything becomes a PIL picture, and what leaves the call",
    "exit": "what leaves the call",
    "parts": "the pipelines it is made of, and what leaves the call",
    "modular": "the processors of its blocks, and the state that leaves the call",
}
# Fields of outputs that hold pictures; the first one found is what verdicts are given for.
PICTURES = ("images", "frames", "video", "videos", "image", "rgb", "unsafe_images")
CLIPS = frozenset({"frames", "video", "videos"})
# What a picture could be made from again: it leaves only where nothing in the call was flagged.
WITHHELD_FIELDS = frozenset({"latent", "latents", "keyframes", "depth"})
# Sound, text, poses, numbers: no pictures.
OTHER = frozenset({
    "audio", "audios", "sound", "action", "text", "texts", "revised_prompts", "sequences", "c2w", "keyframe_positions",
    "nsfw_content_detected", "nsfw_detected", "watermark_detected", "applied_safety_concept",
})  # fmt: skip
FLAGS = ("nsfw_content_detected", "nsfw_detected")
MARKS = frozenset({*FLAGS, "watermark_detected"})  # of these only what is a flag, a number or a text passes
# Classes that give their pictures alone, in no tuple, with return_dict=False.
BARE = frozenset({"StableCascadeDecoderPipeline", "StableVideoDiffusionPipeline", "WuerstchenDecoderPipeline"})
# The fields behind the places of a tuple, where it holds more than pictures and flags.
TUPLES: tuple[tuple[frozenset[str], tuple[str, ...]], ...] = (
    (frozenset({"LTX2DFRPipeline", "LTX2DFRTemporalRefinePipeline"}), ("frames", "audio", "keyframes", "c2w")),
    (frozenset({"SanaWMPipeline"}), ("frames", "c2w", "latent")),
    (frozenset({"Cosmos3OmniPipeline"}), ("video", "sound", "action")),
    (frozenset({"UniDiffuserPipeline"}), ("images", "text")),
    (frozenset({"StableDiffusionPipelineSafe"}), ("images", "nsfw_detected", "applied_safety_concept", "images")),
)
SOUND = ("frames", "audio")  # every LTX2 and Kandinsky6
LATENT = frozenset({"latent", "latents", "mesh"})
# Pictures of these are estimates of something else: nothing a model of pictures was trained on.
REFUSED = {
    "MarigoldDepthPipeline": "it estimates the depth of a picture you hand in: check that picture",
    "MarigoldNormalsPipeline": "it estimates the normals of a picture you hand in: check that picture",
    "MarigoldIntrinsicsPipeline": "it estimates the materials of a picture you hand in: check that picture",
    "AudioDiffusionPipeline": "its pictures are spectrograms of sound",
}
SOUND_ONLY = frozenset({"MiniMaxMusic3ModularPipeline"})  # modular pipelines do not say what they make


Find = TypeVar("Find", bound=Callable[..., Any])


def cached_per_class(find: Find) -> Find:
    """Ask once a class, and remember."""
    return cast(Find, cache(find))


@dataclass(frozen=True)
class SeamInfo:
    """What was found of a class: its seam, or why it has none."""

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
    if cls.__name__ in SOUND_ONLY or (names and not names & set(PICTURES)):
        return SeamInfo(
            "", visual=False, reason="it makes no pictures: attach to the pipeline that decodes what it makes"
        )
    return SeamInfo("modular" if is_modular(cls) else _seam(_source(cls)), slot=slot)


def _seam(text: str) -> str:
    """The seam of a class that says this."""
    if re.search(r"_processor\.postprocess", text):
        return "processor"
    if "self.numpy_to_pil" in text:
        return "numpy"
    return "parts" if re.search(r"self\.\w+_pipe\b", text) else "exit"


def check_coverable(pipe: object) -> SeamInfo:
    """Return the seam of a pipeline, or an error that says why it is refused."""
    if not is_pipeline(pipe):
        raise UncoveredError(f"{why_none(pipe)}: attach to what you call to get pictures")
    seam = classify(type(pipe))
    if not seam.seam:
        raise UncoveredError(f"{type(pipe).__name__} cannot be guarded: {seam.reason}")
    return seam


def is_pipeline(thing: object) -> bool:
    """Return whether it is a diffusers pipeline, modular or not, that can be called."""
    known = isinstance(thing, library().DiffusionPipeline) or is_modular(type(thing))
    return known and callable(thing)


def why_none(thing: object) -> str:
    """Return what something is that is no pipeline which can be called."""
    if isinstance(thing, type):
        return f"{thing.__name__} is a class, and no pipeline yet: {thing.__name__}.from_pretrained(...) gives one"
    name = type(thing).__name__
    if isinstance(thing, library().DiffusionPipeline):
        return f"{name} is a pipeline that cannot be called, since its class has no __call__"
    return f"{name} is no diffusers pipeline"


def is_modular(cls: type) -> bool:
    """Return whether it is a pipeline of Modular Diffusers; older releases have none."""
    modular = getattr(library(), "ModularPipeline", None)
    return modular is not None and issubclass(cls, modular)


def library() -> Any:
    """diffusers, or an error that says how to get it."""
    try:
        import diffusers
    except ImportError:
        raise MissingExtraError("diffusers", "diffusers") from None
    return diffusers


def outputs_of(cls: type) -> list[tuple[str, ...]]:
    """Return the fields of the outputs that a class's own call makes."""
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
    """Return what stands at each place of the tuple that a class gives with return_dict=False."""
    names = {base.__name__ for base in cls.__mro__}
    for classes, fields in TUPLES:
        if names & classes:
            return fields[:length]
    if any(n.startswith(("LTX2", "Kandinsky6")) for n in names):
        return SOUND[:length]
    flags = ("nsfw_content_detected", "watermark_detected")
    return (_first(cls), *flags)[:length] + ("",) * (length - 3)


def _first(cls: type) -> str:
    """What a class calls its pictures."""
    fields = [name for output in outputs_of(cls) for name in output if name in PICTURES]
    return fields[0] if fields else "images"


def asks_for_cosmos(cls: type) -> bool:
    """Return whether a class only asks a checker that is a CosmosSafetyChecker, and passes over any other."""
    return "isinstance(self.safety_checker, CosmosSafetyChecker)" in _source(cls)


def returns_watermark_flags(cls: type) -> bool:
    """Return whether a class wants three values of the checker in its slot: pictures, flags, watermarks."""
    return "watermark_detected" in _source(cls)


def returns_bare_value(cls: type) -> bool:
    """Return whether a class gives its pictures in no tuple with return_dict=False."""
    return any(base.__name__ in BARE for base in cls.__mro__)


@cached_per_class
def pixel_space(cls: Any) -> bool:
    """Return whether a class denoises pixels, so that what its callbacks are handed is a picture."""
    text = _source(cls)
    return "scheduler.step" in text and not re.search(r"\.decode\(|decode_latents|vae_decoder", text)


def _parameters(cls: type) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(cls.__init__).parameters  # type: ignore[misc]


def _source(cls: type) -> str:
    """What a class and its bases below the library's own say, or nothing where that is not on disk."""
    parts = []
    for base in cls.__mro__:
        if base.__name__ in {"DiffusionPipeline", "ConfigMixin", "object"}:
            break
        try:
            parts.append(inspect.getsource(base))
        except (OSError, TypeError):
            continue
    return "\n".join(parts)
