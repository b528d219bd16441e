"""Any image classifier of transformers as a backend: ViT, Swin, SigLIP, FocalNet ... From safetensors only."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nsfw_guard.backends.base import Options
from nsfw_guard.backends.files import weights
from nsfw_guard.backends.files.arguments import check_config, check_keys
from nsfw_guard.backends.files.bounded import at_most
from nsfw_guard.backends.files.folder import check_against_record
from nsfw_guard.backends.files.header import numbers_in, shapes_of
from nsfw_guard.backends.files.processor import PROCESSOR
from nsfw_guard.backends.nets.network import Net, NetBackend
from nsfw_guard.backends.spec import ModelSpec
from nsfw_guard.errors import MissingExtraError, WeightsUnfitError, first_line
from nsfw_guard.jsonfile import read_json

ADAPTER = "adapter_config.json"
# What transformers reads of a folder besides config.json and vocabularies.
READ = {PROCESSOR, "processor_config.json", "video_preprocessor_config.json", "generation_config.json",
        "tokenizer_config.json", "special_tokens_map.json", "chat_template.json"}  # fmt: skip
MAX_VOCABULARY_BYTES = 64 << 20  # bytes of a vocabulary or a template; the largest that is published has 33 MB


class HFNet(Net):
    """A network whose last layer is `classifier`. Its body is the same network, sharing every weight, without it."""

    def __init__(self, model: nn.Module, side: int) -> None:
        super().__init__()
        self.model: Any = model
        self.body: Any = copy.copy(model)
        self.body._modules = {**model._modules, "classifier": nn.Identity()}
        try:
            with torch.inference_mode():
                self.width = int(self.body(pixel_values=torch.zeros(1, 3, side, side)).logits.shape[-1])
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
            raise WeightsUnfitError(
                f"{type(model).__name__} does not take a picture of {side}x{side}: {first_line(error)}. "
                f"Mend {weights.CONFIG} or {PROCESSOR}"
            ) from error

    def forward_with_embedding(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the body, then the last layer."""
        features: Tensor = self.body(pixel_values=values).logits
        return self.model.classifier(features), features

    def forward(self, values: Tensor) -> Tensor:
        """Return the network's own forward."""
        logits: Tensor = self.model(pixel_values=values).logits
        return logits

    def save(self, folder: Path, spec: ModelSpec) -> None:
        """Write config.json, preprocessor_config.json and model.safetensors, as transformers lays them out."""
        self.model.save_pretrained(folder)
        shown = spec.net_input
        config = {
            "image_processor_type": "ViTImageProcessor",
            "do_resize": True, "do_rescale": True, "do_normalize": True, "rescale_factor": 1 / 255,
            "do_center_crop": shown.crop_mode == "center",
            "size": {"shortest_edge": shown.scale_size} if shown.crop_mode == "center"
            else {"height": shown.size, "width": shown.size},
            "crop_size": {"height": shown.size, "width": shown.size},
            "resample": 3 if shown.interpolation == "bicubic" else 2,
            "image_mean": list(shown.mean), "image_std": list(shown.std),
        }  # fmt: skip
        (folder / PROCESSOR).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def load_files(spec: ModelSpec, folder: Path, options: Options) -> NetBackend:
    """Return the classifier in a folder in transformers' layout: every key, no code, no pickle."""
    check_against_record(spec, folder)
    weights.verify(folder / weights.WEIGHTS, spec.sha256)
    leads_nowhere(folder)
    return NetBackend(HFNet(_read(spec, folder), spec.net_input.size), spec, options)


def leads_nowhere(folder: Path) -> None:
    """Raises when a file of a folder would lead transformers to code, to another folder or to a network.

    It is called before transformers opens anything: adapters, for one, are followed without being asked for.
    """
    if (folder / ADAPTER).exists():
        raise WeightsUnfitError(
            f"{folder.name!r} holds {ADAPTER}, which is not followed: merge the adapter, and save that"
        )
    check_config(weights.read_config(folder), f"{weights.CONFIG} in {folder.name!r}")
    for path in sorted(folder.iterdir()):
        if path.name in READ:
            check_keys(read_json(path, error=WeightsUnfitError), f"{path.name} in {folder.name!r}")
        elif path.suffix in {".json", ".jinja", ".txt"} and path.stat().st_size > MAX_VOCABULARY_BYTES:
            raise WeightsUnfitError(
                f"{path.name} in {folder.name!r} is larger than {MAX_VOCABULARY_BYTES >> 20} MB: fetch it again"
            )


def _read(spec: ModelSpec, folder: Path) -> nn.Module:
    model = from_folder("AutoModelForImageClassification", spec, folder)
    if not isinstance(getattr(model, "classifier", None), nn.Module):
        raise WeightsUnfitError(
            f"{type(model).__name__} has no layer named 'classifier' to take the embedding from: choose another network"
        )
    return model


def from_folder(
    name: str, spec: ModelSpec, folder: Path, *, dtype: torch.dtype | None = None, **settings: Any
) -> nn.Module:
    """Return a model of transformers from a local folder, by the name of its class, when every weight has its place.

    It comes in float32. With `dtype` it is read in that one, and no copy in float32 is ever made.
    """
    leads_nowhere(folder)
    numbers = sum(numbers_in(shapes_of(path)) for path in weights.weight_files(folder))
    try:
        import transformers
    except ModuleNotFoundError:
        raise MissingExtraError("transformers", "diffusers") from None
    try:
        with at_most(numbers, repr(spec.name)):
            model, report = getattr(transformers, name).from_pretrained(
                folder, local_files_only=True, use_safetensors=True, trust_remote_code=False, output_loading_info=True,
                **({} if dtype is None else {"dtype": dtype}), **settings,
            )  # fmt: skip
    except WeightsUnfitError:
        raise
    except Exception as error:  # whatever a network raises over a configuration that it cannot use
        raise WeightsUnfitError(
            f"transformers cannot read {spec.name!r}: {first_line(error)}. Fetch it again"
        ) from error
    faults = [f"{what.partition('_')[0]} {key}" for what in ("missing_keys", "unexpected_keys") for key in report[what]]
    faults += [str(problem) for problem in (*report.get("mismatched_keys", ()), *report.get("error_msgs", ()))]
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise WeightsUnfitError(f"the weights do not fit {spec.architecture}: {'; '.join(sorted(faults)[:3])}{more}")
    # Not model.to(dtype): it would round what the network keeps in float32 on purpose, such as rotary frequencies.
    network: nn.Module = model.float() if dtype is None else model
    return network
