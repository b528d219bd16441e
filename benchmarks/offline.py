"""Stands in for the parts that diffusers' own tests load from a hub: tiny configurations and a tokenizer of letters."""

from __future__ import annotations

import importlib
import pkgutil
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
import transformers

PACKAGE = "their_tests"  # what a checkout's folder "tests" is called here
SMALL = {
    "d_model": 32, "hidden_size": 32, "d_ff": 37, "d_kv": 8, "intermediate_size": 37, "num_heads": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "num_layers": 2, "num_hidden_layers": 2,
    "num_decoder_layers": 2, "vocab_size": 1103, "max_position_embeddings": 512,
}  # fmt: skip
KINDS = ("umt5", "t5", "roberta", "bert", "llama", "gemma")  # a name that holds another comes first
TOKENIZERS = (
    "AutoTokenizer", "CLIPTokenizer", "CLIPTokenizerFast", "GPT2Tokenizer", "GPT2TokenizerFast", "GemmaTokenizer",
    "GemmaTokenizerFast", "LlamaTokenizer", "LlamaTokenizerFast", "Qwen2Tokenizer", "Qwen2TokenizerFast",
    "T5Tokenizer", "T5TokenizerFast", "XLMRobertaTokenizer", "XLMRobertaTokenizerFast", "BertTokenizer",
    "BertTokenizerFast", "RobertaTokenizer", "ByT5Tokenizer", "PreTrainedTokenizerFast",
)  # fmt: skip


def tokenizer(*_: Any, **__: Any) -> Any:
    """One number a letter, with a beginning and an end; the turns of a talk are written one after the other."""
    special = ("<s>", "<pad>", "</s>", "<unk>")
    letters = {letter: number for number, letter in enumerate((*special, *map(chr, range(32, 127))))}
    by_letter = tokenizers.Tokenizer(tokenizers.models.WordLevel(letters, unk_token="<unk>"))
    by_letter.pre_tokenizer = tokenizers.pre_tokenizers.Split("", "isolated")
    by_letter.post_processor = tokenizers.processors.TemplateProcessing("<s> $A </s>", None, [("<s>", 0), ("</s>", 2)])
    whole = transformers.PreTrainedTokenizerFast(
        tokenizer_object=by_letter, bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
        model_max_length=77, padding_side="right",
    )  # fmt: skip
    whole.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    return whole


def _config(name: str, *_: Any, **__: Any) -> Any:
    kind = next((kind for kind in KINDS if kind in str(name).lower()), None)
    if kind is None:
        raise OSError(f"nothing stands in for {name}")
    config = transformers.AutoConfig.for_model(kind)
    for key, value in SMALL.items():
        if hasattr(config, key):
            setattr(config, key, value)
    return config


def _model(cls: Any, name: str, *_: Any, **__: Any) -> Any:
    torch.manual_seed(0)
    config = _config(name)
    return (cls.from_config(config) if cls.__name__.startswith("Auto") else cls(config)).eval()


def take_the_place_of_the_hub() -> None:
    """Patches the classes of transformers that the tests load by name; models of diffusers stay out of reach."""
    for name in TOKENIZERS:
        if hasattr(transformers, name):
            getattr(transformers, name).from_pretrained = staticmethod(tokenizer)
    transformers.AutoConfig.from_pretrained = staticmethod(_config)  # type: ignore[assignment, method-assign]
    for name in ("T5EncoderModel", "UMT5EncoderModel", "BertModel", "LlamaForCausalLM", "LlamaModel", "AutoModel"):
        getattr(transformers, name).from_pretrained = classmethod(_model)


def testers(checkout: Path) -> Iterator[tuple[str, Any]]:
    """Every class of the checkout's tests that makes a tiny pipeline, by its place, or why it cannot be imported."""
    package = types.ModuleType(PACKAGE)
    package.__path__ = [str(checkout / "tests")]
    sys.modules[PACKAGE] = package
    folder = checkout / "tests" / "pipelines"
    for name in ("tests", "tests.pipelines"):  # some import their neighbours by a name that is ours here
        importlib.import_module(name).__path__.append(str(checkout.joinpath(*name.split("."))))
    for test in sorted(pkgutil.walk_packages([str(folder)], f"{PACKAGE}.pipelines."), key=lambda m: m.name):
        place = test.name.removeprefix(f"{PACKAGE}.pipelines.")
        if not place.split(".")[-1].startswith("test_"):
            continue
        try:
            module = importlib.import_module(test.name)
        except (Exception, pytest.skip.Exception) as error:  # noqa: BLE001 - a test of what is not installed
            yield place, error
            continue
        seen = set()
        for name, cls in vars(module).items():
            if not isinstance(cls, type) or cls.__module__ != test.name:  # others may raise whatever they are asked
                continue
            pipeline = getattr(cls, "pipeline_class", None)
            builds = all(callable(getattr(cls, way, None)) for way in ("get_dummy_components", "get_dummy_inputs"))
            if builds and isinstance(pipeline, type) and pipeline not in seen:
                seen.add(pipeline)
                yield f"{pipeline.__name__} ({place}.{name})", cls
