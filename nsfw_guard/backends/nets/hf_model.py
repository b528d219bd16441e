"""Any image classifier of transformers as a backend (ViT, Swin, SigLIP, FocalNet ...), from safetensors only."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
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
from nsfw_guard.backends.nets.network import Net, NetBackend, fill_head
from nsfw_guard.backends.spec import ModelSpec
from nsfw_guard.errors import ConfigError, MissingExtraError, WeightsUnfitError, first_line
from nsfw_guard.jsonfile import read_json

ADAPTER = "adapter_config.json"
# The files that transformers reads in a folder besides config.json and vocabularies.
READ = {PROCESSOR, "processor_config.json", "video_preprocessor_config.json", "generation_config.json",
        "tokenizer_config.json", "special_tokens_map.json", "chat_template.json"}  # fmt: skip
MAX_VOCABULARY_BYTES = 64 << 20  # bytes of a vocabulary or a template; the largest published one has 33 MB


class HFNet(Net):
    """A network whose last layer is `classifier`. Its body is a copy without that layer that shares every weight."""

    def __init__(self, model: nn.Module, side: int) -> None:
        super().__init__()
        self.model: Any = model
        self.side = side
        self.body: Any = copy.copy(model)
        self.body._modules = {**model._modules, "classifier": nn.Identity()}
        try:
            with torch.inference_mode():
                self.width = int(self.body(pixel_values=torch.zeros(1, 3, side, side)).logits.shape[-1])
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
            raise WeightsUnfitError(
                f"{type(model).__name__} does not accept an image of {side}x{side} ({first_line(error)}): correct "
                f"{weights.CONFIG} or {PROCESSOR}"
            ) from error

    def forward_with_embedding(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the numbers of the last layer, and the embedding of the body."""
        features: Tensor = self.body(pixel_values=values).logits
        return self.model.classifier(features), features

    def forward(self, values: Tensor) -> Tensor:
        """Return the numbers of the network's own forward."""
        logits: Tensor = self.model(pixel_values=values).logits
        return logits

    def head(self) -> nn.Linear:
        """Return the layer named `classifier`."""
        if not isinstance(self.model.classifier, nn.Linear):
            raise ConfigError(
                f"the last layer of {type(self.model).__name__} is {type(self.model.classifier).__name__}, not linear: "
                "choose another model"
            )
        return self.model.classifier

    def with_head(self, names: Sequence[str], rows: Sequence[int | None]) -> HFNet:
        """Return a copy with a head for other classes, and a configuration that names them."""
        before = self.head()
        model: Any = copy.deepcopy(self.model)
        head = nn.Linear(before.in_features, len(names), bias=before.bias is not None).to(before.weight)
        fill_head(head, before, rows)
        model.classifier = head
        model.config.id2label = dict(enumerate(names))
        model.config.label2id = {name: at for at, name in enumerate(names)}
        if hasattr(model, "num_labels"):
            model.num_labels = len(names)
        return HFNet(model, self.side)

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
    """Load the classifier in a folder in transformers' layout: every key, no code, no pickle."""
    check_against_record(spec, folder)
    weights.verify(folder / weights.WEIGHTS, spec.sha256)
    leads_nowhere(folder)
    return NetBackend(HFNet(_read(spec, folder), spec.net_input.size), spec, options)


def leads_nowhere(folder: Path) -> None:
    """Raise an error when a file of a folder would lead transformers to code, another folder or the network.

    Called before transformers opens anything, since it follows adapters, for example, by itself.
    """
    if (folder / ADAPTER).exists():
        raise WeightsUnfitError(
            f"{folder.name!r} contains {ADAPTER}, but adapters are not supported: merge it into the model and save that"
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
        raise WeightsUnfitError(f"{type(model).__name__} has no last layer named 'classifier': choose another network")
    return model


def from_folder(
    name: str, spec: ModelSpec, folder: Path, *, dtype: torch.dtype | None = None, **settings: Any
) -> nn.Module:
    """Load a transformers model from a local folder, by the name of its class; every weight must have its place.

    It is loaded in float32, or directly in `dtype` without a copy in float32.
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
    except Exception as error:  # networks raise errors of any type for an unusable configuration
        raise WeightsUnfitError(
            f"transformers cannot read {spec.name!r} ({first_line(error)}): fetch it again"
        ) from error
    faults = [f"{what.partition('_')[0]} {key}" for what in ("missing_keys", "unexpected_keys") for key in report[what]]
    faults += [str(problem) for problem in (*report.get("mismatched_keys", ()), *report.get("error_msgs", ()))]
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise WeightsUnfitError(
            f"the weights do not fit {spec.architecture} ({'; '.join(sorted(faults)[:3])}{more}): fetch its own weights"
        )
    # Not model.to(dtype), which would round what the network keeps in float32 on purpose, such as rotary frequencies.
    network: nn.Module = model.float() if dtype is None else model
    return network
