"""Categories in the user's own words, by CLIP or SigLIP: compares an image with them and with harmless words."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nsfw_guard.backends.base import Options
from nsfw_guard.backends.files import weights
from nsfw_guard.backends.files.cache import cache_home
from nsfw_guard.backends.files.folder import agree_on_input
from nsfw_guard.backends.nets.hf_model import from_folder
from nsfw_guard.backends.nets.network import Net, NetBackend
from nsfw_guard.backends.spec import ModelSpec
from nsfw_guard.errors import ConfigError, ModelError, WeightsUnfitError, first_line

HARMLESS = ("an ordinary image", "a landscape", "people in everyday clothes", "an animal", "a drawing of an object")
TEMPLATES = ("{}", "a photo of {}", "an image of {}", "a drawing of {}")
TWO_SIDED = ("clip", "siglip", "siglip2", "metaclip_2")
MAX_TOKENS = 64  # SigLIP was trained with this length, and a few words need less


class ZeroShotNet(Net):
    """The vision model of a CLIP or SigLIP, compared with embeddings of words."""

    def __init__(self, model: nn.Module, text: Tensor, scale: float, names: Sequence[str], notes: Mapping[str, str]):
        super().__init__()
        self.model: Any = model
        self.text = nn.Parameter(text, requires_grad=False)
        self.scale = scale
        self.width = int(text.shape[1])
        self.extra_score_names = tuple(f"cosine {name}" for name in (*names, "harmless"))
        self.state_notes = notes

    def forward_with_embedding(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the cosines to the words of each category and to the harmless ones, and the image's embedding."""
        embedding = _features(self.model.get_image_features(pixel_values=values))
        return functional.normalize(embedding) @ self.text.t(), embedding

    def forward(self, values: Tensor) -> Tensor:
        """Return the same cosines: the embeddings of words were made when the model was loaded."""
        return self.forward_with_embedding(values)[0]

    def to_probabilities(self, numbers: Tensor) -> Tensor:
        """Return for each category the softmax of its words and the harmless ones, at the model's own temperature."""
        cosines = numbers.float()
        return ((cosines[:, :-1] - cosines[:, -1:]) * self.scale).sigmoid()

    def extra_scores(self, numbers: Tensor) -> Tensor:
        """Return every cosine."""
        return numbers.float()


def load_files(spec: ModelSpec, folder: Path, options: Options) -> NetBackend:
    """Load the model in a folder, with the words of its record."""
    agree_on_input(spec, folder)
    file = weights.verify(folder / weights.WEIGHTS, spec.sha256)
    model_type = weights.read_config(folder).get("model_type")
    if model_type not in TWO_SIDED:  # others may fetch a network of their own while they are built
        raise WeightsUnfitError(
            f"{folder.name!r} contains a {model_type}, which is not supported: use a {' or '.join(TWO_SIDED)}"
        )
    model: Any = from_folder("AutoModel", spec, folder)
    scale = getattr(model, "logit_scale", None)
    if scale is None or not hasattr(model, "get_text_features"):
        raise WeightsUnfitError(f"{type(model).__name__} has no text model: use a complete CLIP or SigLIP")
    settings = dict(spec.model_args)
    prompts = [_prompts(words, settings["templates"]) for words in (*settings["words"].values(), settings["against"])]
    text = _cached(model, folder, prompts, spec.sha256 or weights.sha256_of(file), settings.get("cache"))
    model.text_model = None  # no longer needed
    said = {"words": settings["words"], "against": settings["against"], "templates": settings["templates"]}
    notes = {"words": hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()}
    return NetBackend(
        ZeroShotNet(model, text, float(scale.detach().exp()), tuple(settings["words"]), notes), spec, options
    )


def _prompts(words: Sequence[str], templates: Sequence[str]) -> list[str]:
    broken = [template for template in templates if template.count("{}") != 1]
    if broken or not templates or not words:
        raise ConfigError(
            f"zeroshot needs templates with one {{}} each and at least one word, got templates={list(templates)} and "
            f"words={list(words)}"
        )
    return [template.format(word) for word in words for template in templates]


def _cached(model: Any, folder: Path, prompts: Sequence[Sequence[str]], weights_hash: str, cache: Any) -> Tensor:
    """The embeddings of words, from the cache on disk if they were made with these weights before."""
    from safetensors.torch import save_file

    home = Path(cache or cache_home())
    key = hashlib.sha256(json.dumps([weights_hash, prompts]).encode()).hexdigest()
    path = home / f"words-{key[:32]}.safetensors"
    kept = _kept(path)
    if kept is not None and len(kept) == len(prompts) and bool(kept.isfinite().all()):
        return kept
    text = torch.stack([_embedded(model, folder, some) for some in prompts])
    try:
        home.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}")
        save_file({"text": text}, part)
        part.replace(path)
    except OSError:
        return text  # without the cache they are only made again
    return text


def _kept(path: Path) -> Tensor | None:
    try:
        return weights.read_weights(path).get("text")
    except ModelError:
        return None  # missing or incomplete: they are made again


@torch.inference_mode()
def _embedded(model: Any, folder: Path, prompts: Sequence[str]) -> Tensor:
    """The mean of the normalised embeddings of some prompts, normalised. Shape: (width,)."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # tokenizers raise errors of any type for unusable files
        raise WeightsUnfitError(
            f"transformers cannot read the tokenizer in {folder.name!r} ({first_line(error)}): fetch its files again"
        ) from error
    most = min(MAX_TOKENS, int(model.config.text_config.max_position_embeddings))
    # SigLIP reads a fixed length, CLIP any length.
    fixed = "siglip" in model.config.model_type
    tokens = tokenizer(
        list(prompts), padding="max_length" if fixed else True, truncation=True, max_length=most, return_tensors="pt"
    )
    given = {"input_ids": tokens["input_ids"]} if fixed else dict(tokens)
    each = functional.normalize(_features(model.get_text_features(**given)).float())
    return functional.normalize(each.mean(0), dim=0)


def _features(output: Any) -> Tensor:
    """The pooled embedding, which is a field of an output since transformers 5 and was a tensor before."""
    features: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return features
