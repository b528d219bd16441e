"""Builders of models in a user's own words, beside `load_model`: zero-shot categories, and judges with questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from nsfw_guard.backends import loaders, registry
from nsfw_guard.backends.base import Backend, Options
from nsfw_guard.backends.files import weights as files
from nsfw_guard.backends.files.folder import read_spec, zeroshot_spec
from nsfw_guard.backends.files.inside import folder_of, is_path
from nsfw_guard.backends.judges.judge import Judge
from nsfw_guard.backends.judges.judge import load_files as load_judge
from nsfw_guard.backends.judges.prompts import checked
from nsfw_guard.backends.nets.zeroshot import HARMLESS, TEMPLATES
from nsfw_guard.backends.spec import Label
from nsfw_guard.errors import ConfigError
from nsfw_guard.imaging.preprocess import Resize


def zeroshot(
    categories: Mapping[str, str | Sequence[str]],
    *,
    model: str | Path = "clip-l14",
    against: Sequence[str] = HARMLESS,
    templates: Sequence[str] = TEMPLATES,
    cache: str | Path | None = None,
    weights: str | Path | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype = "float32",
    views: str = "cover",
    resize: Resize = "exact",
    batch_size: int = 32,
    local_files_only: bool = False,
) -> Backend:
    """Build a backend for categories in your own words.

    Args:
        categories: per category a phrase or several of them.
        model: a zero-shot model of the catalogue, or a folder of CLIP or SigLIP in transformers' layout.
        against: phrases for what is harmless.
        templates: sentences that each of the phrases is put into; their embeddings are averaged.
        cache: where embeddings of phrases are kept; `$XDG_CACHE_HOME/nsfw-guard` unless said.
        weights: the folder of a model of the catalogue, where it is not in the hub's cache.
        device, dtype, views, resize, batch_size, local_files_only: see `Options`.

    Example:
        ```python
        backend = zeroshot({"weapons": ["a gun", "a knife"], "fire": "a burning house"}, model="clip-l14")
        guard = Guard(backend, policy={"rules": {"weapons": {"block": 0.8}, "fire": {"review": 0.5}}})
        ```
    """
    options = Options(
        device=device, dtype=dtype, views=views, resize=resize, batch_size=batch_size,
        local_files_only=local_files_only,
    )  # fmt: skip
    words = _phrases_of(categories)
    args = {"words": words, "against": tuple(against), "templates": tuple(templates), "cache": cache}
    labels = {category: Label(category) for category in words}
    if is_path(model):
        base = zeroshot_spec(folder_of(model), labels)
        weights = weights or folder_of(model)
    else:
        base = registry.spec(str(model))
        if base.kind != "zeroshot":
            raise ConfigError(
                f"{base.name!r} has no text encoder: choose a model of kind zeroshot from `nsfw-guard models`"
            )
    spec = replace(base, name=f"{base.name}: {', '.join(words)}", labels=labels, details={}, model_args=args)
    if weights is not None:
        return loaders.load_files(spec, Path(weights), options)
    return loaders.load_hub(spec, options)


def judge(
    ref: str | Path,
    *,
    questions: Mapping[str, str] | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype = "float32",
    batch_size: int = 32,
    local_files_only: bool = False,
) -> Judge:
    """Build a judge that goes by your own rules.

    Args:
        ref: the name of a judge in the catalogue, or a folder that holds one.
        questions: per category what is not allowed, in a few words: {"violence": "blood or wounds are shown"}.
        device, dtype, batch_size, local_files_only: see `Options`; a batch counts questions. "bfloat16" takes half of
            the memory.

    Example:
        ```python
        backend = judge("qwen3-vl-2b", questions={"violence": "blood or wounds are shown"}, dtype="bfloat16")
        ```
    """
    options = Options(device=device, dtype=dtype, batch_size=batch_size, local_files_only=local_files_only)
    named = not is_path(ref)
    spec = registry.spec(str(ref)) if named else read_spec(folder_of(ref))
    if spec.kind != "judge":
        judges = ", ".join(name for name in registry.list_models() if registry.spec(name).kind == "judge")
        raise ConfigError(f"{spec.name!r} takes no questions: choose one of {judges}, or a folder with such a model")
    if questions is not None:
        asked = checked(questions)
        # Known answers and details were recorded for other questions.
        spec = replace(spec, questions=asked, labels={c: Label(c) for c in asked}, details={}, known_answers={})
    folder = files.fetch(spec, local_files_only=local_files_only) if named else folder_of(ref)
    if named and not spec.revision:
        spec = replace(spec, revision=files.commit_of(folder))
    return load_judge(spec, folder, options)


def _phrases_of(categories: Mapping[str, str | Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Each category with its phrases."""
    if not isinstance(categories, Mapping) or not categories:
        raise ConfigError(f"categories must be a mapping such as {{'weapons': ['a gun']}}, got {categories!r}")
    phrases = {name: (said,) if isinstance(said, str) else tuple(said) for name, said in categories.items()}
    for name, said in phrases.items():
        texts = all(isinstance(text, str) and text.strip() for text in (name, *said))
        if not (texts and said):
            raise ConfigError(f"category {name!r} must have a name and at least one phrase, got {said!r}")
    return phrases
