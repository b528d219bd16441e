"""Folders in the layout of each kind of model, tiny and with random weights; and what the reference makes of them.

A record needs nothing here when its kind is known: the folder is made from the record.
"""

from __future__ import annotations

import itertools
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from nsfw_guard.backends.files.folder import config_of
from nsfw_guard.backends.files.weights import sha256_of
from nsfw_guard.backends.layers.layers_model import LayersNet
from nsfw_guard.backends.layers.topology import Draft
from nsfw_guard.backends.spec import ModelSpec

# How each architecture is made small; the names of its arguments are timm's.
SMALL: Mapping[str, dict[str, Any]] = {
    "vit_tiny_patch16_384": {"embed_dim": 24, "depth": 2, "num_heads": 2},
    "eva02_base_patch14_448": {"embed_dim": 48, "depth": 2, "num_heads": 2},
}
# The parts of CLIP, small: the image's side is the record's.
SIDE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


def make(spec: ModelSpec, folder: Path, *, full: bool = False, seed: int = 0) -> ModelSpec:
    """Writes the model of a record, with random weights, and gives the record with their hash."""
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        KINDS[spec.kind](spec, folder, full)
    return replace(spec, sha256=sha256_of(folder / weights_of(spec)), known_answers={})


def weights_of(spec: ModelSpec) -> str:
    """The name of the file that the hash in a record is of."""
    return spec.files[0] if spec.kind == "open-nsfw" else "model.safetensors"


def _timm(spec: ModelSpec, folder: Path, full: bool) -> None:
    import timm

    args = {} if full else SMALL[spec.architecture]
    model = timm.create_model(spec.architecture, num_classes=len(spec.labels), **args)
    torch.nn.init.normal_(model.get_classifier().weight, std=0.3)
    config = config_of(replace(spec, model_args=args), model.num_features)
    tensors = {k: v.contiguous() for k, v in model.state_dict().items()}
    if spec.name == "freepik":  # as transformers wraps it, in bfloat16
        config |= {"model_type": "timm_wrapper", "architectures": ["TimmWrapperForImageClassification"]}
        tensors = {f"timm_model.{k}": v.bfloat16() if v.is_floating_point() else v for k, v in tensors.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))


def _transformers(spec: ModelSpec, folder: Path, full: bool) -> None:
    from transformers import ViTConfig, ViTForImageClassification

    small = {} if full else SIDE
    names = dict(enumerate(spec.labels))
    config = ViTConfig(image_size=spec.input.size, id2label=names, label2id={n: i for i, n in names.items()}, **small)
    model = ViTForImageClassification(config)
    torch.nn.init.normal_(model.classifier.weight, std=0.5)
    model.save_pretrained(folder)
    written = json.loads((folder / "config.json").read_text())
    written["label2id"] = {n: str(i) for n, i in written["label2id"].items()}  # as the real files have it
    (folder / "config.json").write_text(json.dumps(written))
    _processor("ViTImageProcessor", spec, folder)


def _checker(spec: ModelSpec, folder: Path, full: bool) -> None:
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker

    model = StableDiffusionSafetyChecker(_clip_config(spec, full))
    torch.nn.init.normal_(model.visual_projection.weight)
    for name in ("concept_embeds", "special_care_embeds"):
        torch.nn.init.normal_(getattr(model, name))
    for name in ("concept_embeds_weights", "special_care_embeds_weights"):
        torch.nn.init.uniform_(getattr(model, name), 0.45, 0.75)
    model.save_pretrained(folder)
    # Older files, the real one among them, say the prefix twice and carry a position buffer.
    tensors = load_file(folder / "model.safetensors")
    old = {k.replace("vision_model.", "vision_model.vision_model.", 1): v for k, v in tensors.items()}
    count = model.vision_model.config.image_size // model.vision_model.config.patch_size
    old["vision_model.vision_model.embeddings.position_ids"] = torch.arange(count**2 + 1)[None]
    save_file(old, folder / "model.safetensors", metadata={"format": "pt"})


def _clip_config(spec: ModelSpec, full: bool) -> Any:
    from transformers import CLIPConfig

    small = {**SIDE, "projection_dim": 16}
    vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    vision_config = {
        **(vision if full else small),
        "image_size": spec.input.size,
        "patch_size": 14,
        "projection_dim": 768,
    }
    text = {**small, "max_position_embeddings": 32, "vocab_size": len(VOCABULARY), "eos_token_id": 1, "bos_token_id": 0}
    width = 768 if full else 16
    return CLIPConfig(
        vision_config={**vision_config, "projection_dim": width}, text_config={**text, "projection_dim": width},
        projection_dim=width,
    )  # fmt: skip


def _laion(spec: ModelSpec, folder: Path, full: bool) -> None:
    from transformers import CLIPModel

    model = CLIPModel(_clip_config(spec, full))
    torch.nn.init.normal_(model.visual_projection.weight)
    model.save_pretrained(folder)
    width = model.config.projection_dim
    sizes = (width, 64, 512, 256, 1) if full else (width, 8, 12, 6, 1)
    head = {"mean": torch.randn(width) * 0.1, "variance": torch.rand(width) * 0.1 + 0.01}
    for i, (a, b) in enumerate(itertools.pairwise(sizes)):
        head |= {f"layers.{i}.weight": torch.randn(b, a) / a**0.5, f"layers.{i}.bias": torch.randn(b) * 0.1}
    save_file(head, folder / "head.safetensors")


# One token a word: enough for every word of the records.
WORDS = [
    "a",
    "an",
    "of",
    "the",
    "in",
    "to",
    "photo",
    "image",
    "drawing",
    "object",
    "ordinary",
    "landscape",
    "people",
    "everyday",
    "clothes",
    "animal",
    "nudity",
    "sexually",
    "explicit",
    "content",
    "graphic",
    "violence",
    "act",
    "blood",
    "and",
    "gore",
    "severe",
    "wound",
    "hate",
    "symbol",
    "sign",
    "extremist",
    "group",
    "self",
    "harm",
    "-",
    "red",
    "disc",
    "blue",
    "star",
    "gun",
    "knife",
]
VOCABULARY = {word: i for i, word in enumerate(["<start>", "<end>", "<unknown>", *dict.fromkeys(WORDS)])}


def _zeroshot(spec: ModelSpec, folder: Path, full: bool) -> None:
    from transformers import CLIPModel, SiglipConfig, SiglipModel

    if spec.architecture == "clip":
        model = CLIPModel(_clip_config(spec, full))
    else:
        vision = {**SIDE, "image_size": spec.input.size, "patch_size": 14}
        text = {**SIDE, "max_position_embeddings": 16, "vocab_size": len(VOCABULARY), "pad_token_id": 1}
        model = SiglipModel(SiglipConfig(vision_config=vision, text_config={**text, "projection_size": 32}))
        torch.nn.init.constant_(model.logit_scale, 2.0)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    _processor("CLIPImageProcessor" if spec.architecture == "clip" else "SiglipImageProcessor", spec, folder)


def tokenizer() -> Any:
    """A real fast tokenizer over a few words."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel(VOCABULARY, unk_token="<unknown>"))
    words.normalizer = normalizers.Lowercase()
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 0), ("<end>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        model_input_names=["input_ids", "attention_mask"],
        bos_token="<start>",
        eos_token="<end>",
        unk_token="<unknown>",
        pad_token="<end>",
    )


def _judge(spec: ModelSpec, folder: Path, full: bool) -> None:
    from tests.backends.tiny_judges import write

    write(folder, spec.architecture)


def _open_nsfw(spec: ModelSpec, folder: Path, full: bool) -> None:
    from tests.backends.open_nsfw_file import write

    write(folder / weights_of(spec), len(spec.labels))


def _processor(kind: str, spec: ModelSpec, folder: Path) -> None:
    side = {"height": spec.input.size, "width": spec.input.size}
    crops = spec.input.crop_mode == "center"
    settings = {
        "image_processor_type": kind, "do_resize": True, "do_rescale": True, "do_normalize": True,
        "rescale_factor": 1 / 255, "image_mean": list(spec.input.mean), "image_std": list(spec.input.std),
        "resample": 3 if spec.input.interpolation == "bicubic" else 2,
        "size": {"shortest_edge": spec.input.scale_size} if crops else side,
        **({"do_center_crop": True, "crop_size": side} if crops else {}),
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))


def _layers(spec: ModelSpec, folder: Path, full: bool) -> None:
    draft = Draft({})
    number = draft.add("Input", [], size=spec.net_input.size)
    sizes = {"kernel": [8, 8], "strides": [8, 8], "dilation": [1, 1], "padding": "same"}
    number = draft.add("Conv2D", [number], filters=6, bias=True, **sizes)
    number = draft.add("GlobalAveragePooling2D", [draft.activation("relu6", number)])
    draft.activation("softmax", draft.add("Dense", [number], units=len(spec.labels), bias=True))
    net = LayersNet(draft.finish()[0])
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    net.save(folder, spec)


KINDS: Mapping[str, Callable[[ModelSpec, Path, bool], None]] = {
    "timm": _timm, "transformers": _transformers, "checker": _checker, "laion": _laion, "zeroshot": _zeroshot,
    "judge": _judge, "open-nsfw": _open_nsfw, "layers": _layers,
}  # fmt: skip

Reference = Callable[[Image.Image], torch.Tensor]


def reference(spec: ModelSpec, folder: Path) -> tuple[str, Reference]:
    """The implementation to compare with, by name, and what it makes of one image: its raw numbers."""
    return REFERENCES[spec.kind](spec, folder)


def _by_timm(spec: ModelSpec, folder: Path) -> tuple[str, Reference]:
    import timm
    from timm.data import create_transform

    config = json.loads((folder / "config.json").read_text())
    model = timm.create_model(config["architecture"], num_classes=config["num_classes"], **config.get("model_args", {}))
    tensors = load_file(folder / "model.safetensors")
    model.load_state_dict({k.removeprefix("timm_model."): v.float() for k, v in tensors.items()})
    cfg = config["pretrained_cfg"]
    transform = create_transform(
        tuple(cfg["input_size"]), is_training=False, interpolation=cfg["interpolation"], crop_pct=cfg["crop_pct"],
        crop_mode=cfg["crop_mode"], mean=cfg["mean"], std=cfg["std"],
    )  # fmt: skip
    model.eval()
    return "timm's transform and model", lambda image: model(transform(image)[None])[0]


def pil_processor(folder: Path) -> Any:
    """The processor of a folder in its PIL form, in which these models were trained."""
    transformers = pytest.importorskip("transformers")
    kind = json.loads((folder / "preprocessor_config.json").read_text())["image_processor_type"]
    return getattr(transformers, f"{kind}Pil", getattr(transformers, kind)).from_pretrained(folder)


def _by_transformers(spec: ModelSpec, folder: Path) -> tuple[str, Reference]:
    from transformers import AutoModelForImageClassification, pipeline

    model = AutoModelForImageClassification.from_pretrained(folder, local_files_only=True).eval()
    run = pipeline("image-classification", model=model, image_processor=pil_processor(folder), device="cpu")

    def numbers(image: Image.Image) -> torch.Tensor:
        return run.forward(run.preprocess(image)).logits[0]

    return "transformers.pipeline", numbers


def _by_diffusers(spec: ModelSpec, folder: Path) -> tuple[str, Reference]:
    model, processor = stock(folder)

    def flag(image: Image.Image) -> torch.Tensor:
        values = processor(image, return_tensors="pt").pixel_values
        return torch.tensor(model(values, [np.ones((2, 2, 3))])[1]).float()

    return "diffusers' StableDiffusionSafetyChecker", flag


def stock(folder: Path) -> tuple[Any, Any]:
    """diffusers' own checker on these weights, and the processor that its pipelines carry."""
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig

    transformers = pytest.importorskip("transformers")
    model = StableDiffusionSafetyChecker(CLIPConfig.from_pretrained(folder)).eval()
    tensors = load_file(folder / "model.safetensors")
    state = model.state_dict()
    model.load_state_dict(
        {k: v for k, v in ((_stripped(k, state), v) for k, v in tensors.items()) if not k.endswith("position_ids")}
    )
    return model, getattr(transformers, "CLIPImageProcessorPil", transformers.CLIPImageProcessor)()


def _stripped(key: str, state: Mapping[str, Any]) -> str:
    return key if key in state else key.replace("vision_model.vision_model.", "vision_model.", 1)


def _by_formula(spec: ModelSpec, folder: Path) -> tuple[str, Reference]:
    """CLIP by transformers, the head in NumPy, in double precision."""
    import transformers
    from transformers import CLIPImageProcessor, CLIPModel

    model = CLIPModel.from_pretrained(folder).eval()
    processor = getattr(transformers, "CLIPImageProcessorPil", CLIPImageProcessor)()
    head = {k: v.double().numpy() for k, v in load_file(folder / "head.safetensors").items()}

    def numbers(image: Image.Image) -> torch.Tensor:
        features = model.get_image_features(pixel_values=processor(image, return_tensors="pt").pixel_values)
        x = (features if isinstance(features, torch.Tensor) else features.pooler_output)[0].double().numpy()
        x = (x / np.linalg.norm(x) - head["mean"]) / np.maximum(np.sqrt(head["variance"]), 1e-7)
        for i in range(4):
            x = head[f"layers.{i}.weight"] @ (np.maximum(x, 0) if i else x) + head[f"layers.{i}.bias"]
        return torch.from_numpy(x).float()

    return "CLIP by transformers, the head in NumPy", numbers


def _by_both_sides(spec: ModelSpec, folder: Path) -> tuple[str, Reference]:
    """The model's own logits_per_image for every sentence; cosines averaged as the record says."""
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder).eval()
    processor, words = pil_processor(folder), tokenizer()
    args: Any = spec.model_args
    groups = [
        [t.format(w) for w in some for t in args["templates"]] for some in (*args["words"].values(), args["against"])
    ]
    fixed = spec.architecture == "siglip"

    words_of = []
    for sentences in groups:
        tokens = words(
            sentences, padding="max_length" if fixed else True, max_length=16, truncation=True, return_tensors="pt"
        )
        given = {"input_ids": tokens["input_ids"]} if fixed else dict(tokens)
        blank = torch.zeros(1, 3, spec.input.size, spec.input.size)
        mean = model(pixel_values=blank, **given).text_embeds.mean(0).detach()
        words_of.append(mean / mean.norm())
    any_words = given

    def numbers(image: Image.Image) -> torch.Tensor:
        values = processor(image, return_tensors="pt").pixel_values
        return torch.stack(words_of) @ model(pixel_values=values, **any_words).image_embeds[0]

    return "both sides by transformers", numbers


def _by_onnxruntime(spec: ModelSpec, folder: Path) -> tuple[str, Reference]:
    from tests.backends.open_nsfw_file import answer, prepared, session

    runs = session(folder / weights_of(spec))
    return "the published preprocessing and ONNX Runtime", lambda image: answer(runs, prepared(image))


REFERENCES: Mapping[str, Callable[[ModelSpec, Path], tuple[str, Reference]]] = {
    "timm": _by_timm, "transformers": _by_transformers, "checker": _by_diffusers, "laion": _by_formula,
    "zeroshot": _by_both_sides, "open-nsfw": _by_onnxruntime,
}  # fmt: skip
