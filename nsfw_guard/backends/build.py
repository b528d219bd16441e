"""Builders of models in a user's own words, beside `load_model`: zero-shot categories, and judges with questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from nsfw_guard.backends import loaders, registry
from nsfw_guard.backends.base import Backend, Label, Options
from nsfw_guard.backends.files import weights as files
from nsfw_guard.backends.files.folder import read_spec, zeroshot_spec
from nsfw_guard.backends.files.inside import folder_of, is_path
from nsfw_guard.backends.judges.judge import Judge
from nsfw_guard.backends.judges.judge import load_files as load_judge
from nsfw_guard.backends.judges.prompts import checked
from nsfw_guard.backends.nets.zeroshot import HARMLESS, TEMPLATES
from nsfw_guard.errors import ConfigError


def zeroshot(
    *wanted: str,
    model: str | Path = "clip-l14",
    against: Sequence[str] = HARMLESS,
    templates: Sequence[str] = TEMPLATES,
    cache: str | Path | None = None,
    weights: str | Path | None = None,
    options: Options | None = None,
) -> Backend:
    """A backend for categories in your own words.

    Args:
        wanted: "category: words, more words", such as "weapons: a gun, a knife".
        model: a zero-shot model of the catalogue, or a folder of CLIP or SigLIP in transformers' layout.
        against: words for what is harmless.
        templates: sentences that each of the words is put into; their embeddings are averaged.
        cache: where embeddings of words are kept; `$XDG_CACHE_HOME/nsfw-guard` unless said.
        weights: the folder of a model of the catalogue, where it is not in the hub's cache.
        options: how the model is run.
    """
    words = dict(_category(text) for text in wanted)
    if not words or len(words) < len(wanted):
        raise ConfigError(f"{list(wanted)}: give each category once, such as 'weapons: a gun, a knife'")
    args = {"words": words, "against": tuple(against), "templates": tuple(templates), "cache": cache}
    labels = {category: Label(category) for category in words}
    if is_path(model):
        base = zeroshot_spec(folder_of(model))
        weights = weights or folder_of(model)
    else:
        base = registry.spec(str(model))
        if base.kind != "zeroshot":
            raise ConfigError(f"{base.name!r} has no text side: choose one of kind zeroshot in `nsfw-guard models`")
    spec = replace(base, name=f"{base.name}: {', '.join(words)}", labels=labels, model_args=args)
    if weights is not None:
        return loaders.load_files(spec, Path(weights), options or Options())
    return loaders.load_hub(spec, options or Options())


def judge(
    ref: str | Path,
    *,
    questions: Mapping[str, str] | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype = "float32",
    batch_size: int = 32,
) -> Judge:
    """A judge that goes by your own rules.

    Args:
        ref: the name of a judge in the catalogue, or a folder that holds one.
        questions: per category what is not allowed, in a few words: {"violence": "blood or wounds are shown"}.
        device, dtype, batch_size: see `Options`; a batch counts questions. "bfloat16" takes half of the memory.
    """
    options = Options(device=device, dtype=dtype, batch_size=batch_size)
    named = not is_path(ref)
    spec = registry.spec(str(ref)) if named else read_spec(folder_of(ref))
    if spec.kind != "judge":
        judges = ", ".join(name for name in registry.list_models() if registry.spec(name).kind == "judge")
        raise ConfigError(f"{spec.name!r} takes no questions: choose one of {judges}, or a folder with such a model")
    if questions is not None:
        asked = checked(questions)
        # Known answers were recorded for other questions.
        spec = replace(spec, questions=asked, labels={c: Label(c) for c in asked}, answers={})
    folder = files.fetch(spec) if named else folder_of(ref)
    if named and not spec.revision:
        spec = replace(spec, revision=files.commit_of(folder))
    return load_judge(spec, folder, options)


def _category(text: str) -> tuple[str, tuple[str, ...]]:
    name, _, words = text.partition(":")
    phrases = tuple(word.strip() for word in words.split(",") if word.strip())
    if not name.strip() or not phrases:
        raise ConfigError(f"{text!r} is no category: say it as 'weapons: a gun, a knife'")
    return name.strip(), phrases
