"""Checks the configuration of a model folder before timm or transformers reads it.

Both pass it on to code that opens files, downloads and, in some releases, unpickles. So timm gets only arguments that
are listed here, within bounds, and transformers no key that could name a file, code or a kernel.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nsfw_guard.backends.files.inside import short
from nsfw_guard.errors import ConfigError, WeightsUnfitError, suggest

NAME = re.compile(r"[a-z0-9_]{1,100}(\.[a-z0-9_]{1,100})?", re.ASCII)
MODEL_TYPE = re.compile(r"[A-Za-z0-9_-]{1,60}", re.ASCII)
WIDEST, DEEPEST, SIDE = 4096, 100, 2048


@dataclass(frozen=True)
class Number:
    """A number from `low` to `high`, or a short list of them."""

    low: float
    high: float
    whole: bool = True
    several: bool = False

    def takes(self, value: object) -> bool:
        """Return whether a JSON value is allowed."""
        if isinstance(value, (list, tuple)):
            return self.several and 1 <= len(value) <= 8 and all(self._one(each) for each in value)
        return self._one(value)

    def _one(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int if self.whole else (int, float)):
            return False
        return self.low <= value <= self.high

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        return f"{kind} from {self.low:g} to {self.high:g}{', or a short list of them' if self.several else ''}"


@dataclass(frozen=True)
class Words:
    """One of a few words."""

    known: tuple[str, ...]

    def takes(self, value: object) -> bool:
        """Return whether a JSON value is allowed."""
        return isinstance(value, str) and value in self.known

    def __str__(self) -> str:
        return f"one of {', '.join(map(repr, self.known))}"


@dataclass(frozen=True)
class Flag:
    """True or false."""

    def takes(self, value: object) -> bool:
        """Return whether a JSON value is allowed."""
        return isinstance(value, bool)

    def __str__(self) -> str:
        return "true or false"


_SIDES, _WIDTHS = Number(1, SIDE, several=True), Number(1, WIDEST, several=True)
_DEPTHS, _HEADS = Number(1, DEEPEST, several=True), Number(1, 128, several=True)
_RATIOS, _RATE = Number(0.1, 16, whole=False, several=True), Number(0, 1, whole=False)
_SMALL, _KERNELS = Number(0, 1, whole=False), Number(1, 64, several=True)
_NORMS = Words(
    ("layernorm", "layernorm2d", "batchnorm", "batchnorm2d", "groupnorm", "groupnorm1", "rmsnorm", "rmsnorm2d")
)
_ACTS = Words(("gelu", "gelu_tanh", "quick_gelu", "relu", "relu6", "leaky_relu", "silu", "swish", "mish", "hard_swish",
               "elu", "prelu", "sigmoid", "tanh"))  # fmt: skip
# The arguments that shape timm's image classifiers, by timm's names.
ARGUMENTS: Mapping[str, Number | Words | Flag] = {
    "img_size": _SIDES, "input_size": _SIDES, "patch_size": _SIDES, "window_size": _SIDES, "in_chans": Number(3, 3),
    "pretrained_window_sizes": Number(0, SIDE, several=True), "ref_feat_shape": _SIDES,
    "embed_dim": _WIDTHS, "embed_dims": _WIDTHS, "dims": _WIDTHS, "channels": _WIDTHS, "widths": _WIDTHS,
    "stem_size": _WIDTHS, "stem_chs": _WIDTHS, "stem_width": _WIDTHS, "head_hidden_size": _WIDTHS,
    "base_width": _WIDTHS,
    "depth": _DEPTHS, "depths": _DEPTHS, "layers": _DEPTHS,
    "num_heads": _HEADS, "head_dim": Number(1, 512, several=True), "cardinality": Number(1, 128),
    "mlp_ratio": _RATIOS, "mlp_ratios": _RATIOS, "expand_ratio": _RATIOS, "width_factor": _RATIOS,
    "kernel_size": _KERNELS, "kernel_sizes": _KERNELS, "down_kernel_size": _KERNELS, "sr_ratios": _KERNELS,
    "output_stride": Number(8, 32), "reg_tokens": Number(0, 64),
    "qkv_bias": Flag(), "qk_norm": Flag(), "proj_bias": Flag(), "class_token": Flag(), "no_embed_class": Flag(),
    "pre_norm": Flag(), "fc_norm": Flag(), "final_norm": Flag(), "use_fc_norm": Flag(), "head_norm_first": Flag(),
    "dynamic_img_size": Flag(), "dynamic_img_pad": Flag(), "strict_img_size": Flag(), "always_partition": Flag(),
    "use_abs_pos_emb": Flag(), "use_rot_pos_emb": Flag(), "use_rel_pos_bias": Flag(), "use_shared_rel_pos_bias": Flag(),
    "use_mean_pooling": Flag(), "use_post_norm": Flag(), "swiglu_mlp": Flag(), "scale_mlp": Flag(), "qkv_fused": Flag(),
    "conv_mlp": Flag(), "conv_bias": Flag(), "use_grn": Flag(), "avg_down": Flag(), "distillation": Flag(),
    "zero_init_last": Flag(), "preact": Flag(),
    "drop_rate": _RATE, "pos_drop_rate": _RATE, "patch_drop_rate": _RATE, "proj_drop_rate": _RATE,
    "attn_drop_rate": _RATE, "drop_path_rate": _RATE, "drop_block_rate": _RATE,
    "init_values": _SMALL, "ls_init_value": _SMALL, "layer_scale_init_value": _SMALL, "norm_eps": _SMALL,
    "head_init_scale": Number(0, 16, whole=False), "rope_temperature": Number(1, 1e6, whole=False),
    "global_pool": Words(("", "avg", "avgmax", "catavgmax", "fast", "fastavg", "map", "max", "token")),
    "pos_embed": Words(("", "learn", "none")), "act_layer": _ACTS, "norm_layer": _NORMS, "norm_layer_cl": _NORMS,
    "stem_type": Words(("", "deep", "deep_tiered", "overlap", "patch", "s16")), "pad_type": Words(("", "same")),
    "weight_init": Words(("", "jax", "jax_nlhb", "moco", "reset", "skip")),
}  # fmt: skip


def timm_arguments(args: object, *, what: str) -> dict[str, Any]:
    """Return the checked arguments of a network. Nulls are left out, as timm does.

    Raises:
        ConfigError: an argument is not listed or not within its bounds.
    """
    if not isinstance(args, Mapping):
        raise ConfigError(f"the model_args of {what} must be an object such as {{'img_size': 384}}, got {short(args)}")
    given = {name: value for name, value in args.items() if value is not None}
    for name, value in given.items():
        if name not in ARGUMENTS:
            raise ConfigError(
                f"the model_args of {what} contain {short(name)}, which is not accepted from a folder "
                f"({suggest(name, ARGUMENTS)}): remove it, or build the network yourself with 'timm:architecture'"
            )
        if not ARGUMENTS[name].takes(value):
            raise ConfigError(f"the model_args of {what}: {name} must be {ARGUMENTS[name]}, got {short(value)}")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}


def timm_name(architecture: object) -> str:
    """Return the name of a timm network, checked to contain no source and no path."""
    if not isinstance(architecture, str) or not NAME.fullmatch(architecture):
        raise ConfigError(
            f"the architecture {short(architecture)} is not a timm name: use one such as 'vit_tiny_patch16_224', "
            "without 'hf-hub:', 'local-dir:' or a path"
        )
    return architecture


# transformers ---------------------------------------------------------------------------------------------------------

# Keys that lead to code, other files, a network or a kernel. They are refused at any depth and with any value but an
# empty one (null, false, "", {}). Some endings and parts of names are refused too.
LEADS = {"auto_map", "custom_pipelines", "quantization_config", "adapter_config", "peft_config", "transformers_weights",
         "model_args", "kernel_config", "use_kernels", "checkpoint_path", "_adapter_model_path"}  # fmt: skip
PARTS = ("timm", "backbone")
ATTENTION = ("_implementation", "_implementation_internal")
ENDS = ("_file", "_path", "_dir", "_url", *ATTENTION)
HARMLESS = {"_name_or_path", "name_or_path", "special_tokens_map_file"}  # former places of the model, not followed
PLAIN = {"eager", "sdpa"}  # torch's own attention
BOUNDS: Mapping[str, float] = {
    "num_hidden_layers": 256, "num_layers": 256, "depth": 256, "depths": 256, "hidden_size": 32768, "embed_dim": 32768,
    "hidden_sizes": 32768, "intermediate_size": 262_144, "projection_dim": 32768, "projection_size": 32768,
    "num_attention_heads": 1024, "num_key_value_heads": 1024, "head_dim": 4096, "image_size": 4096, "patch_size": 1024,
    "num_channels": 3, "num_labels": 10_000, "vocab_size": 1_000_000, "num_experts": 1024, "num_local_experts": 1024,
    "mlp_ratio": 64, "window_size": 2048, "type_vocab_size": 1024,
    "model_max_length": math.inf,  # tokenizers without a limit write 1e30
}  # fmt: skip
MAX_NUMBER = 1e10  # any other number: masks are filled with -1e9, positions go to ten million
MAX_ITEMS = 10_000  # entries of a list or an object


def check_config(config: Mapping[str, Any], where: str) -> None:
    """Raise an error when a transformers configuration refers to files or code, or contains an absurd size."""
    model_type = config.get("model_type", "")
    if not isinstance(model_type, str) or not MODEL_TYPE.fullmatch(model_type) or "timm" in model_type:
        raise WeightsUnfitError(
            f"{where} has the model_type {short(model_type)}, which is not supported: use a network of transformers "
            "itself, or 'architecture' for a timm network"
        )
    check_keys(config, where)


def check_keys(config: Mapping[str, Any], where: str) -> None:
    """Raise an error when a JSON object refers to files or code, or contains an absurd size, at any depth."""
    for key, value in _entries(config):
        if value and _leads(key) and not (key.endswith(ATTENTION) and isinstance(value, str) and value in PLAIN):
            raise WeightsUnfitError(
                f"{where} contains {key[:60]!r}, which refers to code or files beside the weights and is not followed: "
                "remove it from the file, if the model works without it"
            )
        if isinstance(value, (dict, list)) and len(value) > MAX_ITEMS and key != "added_tokens_decoder":
            raise WeightsUnfitError(
                f"{where} has {len(value)} entries in {key[:60]!r}, more than {MAX_ITEMS}: fetch it again"
            )
        most = BOUNDS.get(key, MAX_NUMBER)
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, (int, float)) and not abs(number) <= most:
                raise WeightsUnfitError(f"{where} has {key[:60]} = {short(number)}, more than {most:g}: fetch it again")


def _leads(key: str) -> bool:
    name = key.lower()
    return key not in HARMLESS and (name in LEADS or any(part in name for part in PARTS) or name.endswith(ENDS))


def _entries(value: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every key with its value, also in nested lists and objects. The JSON reader has limited their depth."""
    for key, below in value.items():
        yield key, below
        for inner in below if isinstance(below, list) else [below]:
            if isinstance(inner, Mapping):
                yield from _entries(inner)
