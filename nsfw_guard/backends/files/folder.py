"""A model as a folder: config.json and weights as timm or transformers lay them out, and our record beside them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nsfw_guard.backends.files.inside import MAX_NAME_CHARS, short
from nsfw_guard.backends.files.labels import KNOWN_LABELS, label_map
from nsfw_guard.backends.files.processor import CLIP, PROCESSOR, read_processor
from nsfw_guard.backends.files.weights import CONFIG, WEIGHTS, read_config, sha256_of
from nsfw_guard.backends.judges.prompts import FAMILIES, is_judge
from nsfw_guard.backends.spec import Label, ModelSpec, ScoreSpec
from nsfw_guard.errors import ConfigError, WeightsUnfitError, first_line
from nsfw_guard.imaging.views import InputSpec
from nsfw_guard.jsonfile import read_json
from nsfw_guard.policy.rules import Threshold
from nsfw_guard.relaxed import loose_thresholds, refuse
from nsfw_guard.scores import Severity

RECORD = "nsfw_guard.json"
CHECKER = "nsfw"  # the one answer of the stock checker
WIDTH = {"timm": "num_features", "layers": "num_features", "transformers": "hidden_size"}
LAYERS_MODEL = "layers-model"  # the model_type of networks that are kept as a list of layers
NEARER = Threshold(block=0.5, source="nearer to these words than to the harmless ones; not measured: calibrate it")
ARGMAX = Threshold(
    block=0.5, source="the class that the model itself picks; not measured: calibrate it on your own images"
)


def read_spec(
    folder: Path, labels: Mapping[str, str | Label | None] | None = None, *, trust_guard: bool = False
) -> ModelSpec:
    """Return the record of the model in a folder: ours where there is one, else what its configuration says.

    Raises:
        ConfigError: the record relaxes the guard, and nobody said `trust_guard`.
    """
    config = read_config(folder)
    record = folder / RECORD
    with _readable(folder, "the record"):
        spec = _spec(config, read_json(record, error=WeightsUnfitError) if record.is_file() else {}, folder, labels)
    if not trust_guard:
        refuse(relaxed_record(spec, labels), folder.name)
    return spec


def relaxed_record(spec: ScoreSpec, labels: Mapping[str, str | Label | None] | None = None) -> list[str]:
    """Return what a folder's record relaxes: thresholds that hardly any score reaches, and well-known names made
    harmless.

    Args:
        spec: the record.
        labels: what the caller maps: that is the caller's own word.
    """
    harmless = [
        n for n, to in spec.labels.items() if to is None and n.lower() in KNOWN_LABELS and n not in (labels or {})
    ]
    return [*loose_thresholds(spec.thresholds), *(f"the label {short(name)} counts as harmless" for name in harmless)]


def _spec(
    config: Mapping[str, Any],
    settings: Mapping[str, Any],
    folder: Path,
    labels: Mapping[str, str | Label | None] | None,
) -> ModelSpec:
    kind = kind_of(config)
    meant = {name: _label(to) for name, to in settings.get("labels", {}).items()}
    questions = settings.get("questions") or FAMILIES[config["model_type"]].questions if kind == "judge" else {}
    order = tuple(questions) or _order(kind, config, folder.name)
    if meant and tuple(meant) != order:
        raise WeightsUnfitError(
            f"the labels of {folder.name!r} changed: recorded {tuple(meant)}, the folder says {order}. The names in "
            f"{RECORD} must be those of {CONFIG}, in their order: save the model again"
        )
    if kind == "checker":
        meant = {CHECKER: Label("sexual"), **meant}
    if kind == "judge":
        meant = {**{category: Label(category) for category in questions}, **meant}
    width = config.get(WIDTH.get(kind, ""), 0)
    return ModelSpec(
        name=_text(settings, "name", folder.name),
        kind=kind,
        architecture=_architecture(kind, config),
        model_args=config.get("model_args") or {},
        input=_input(kind, config, folder),
        labels=label_map(order, meant if labels is None else {**meant, **labels}),
        questions=questions,
        details={str(name): _text(settings["details"], name) for name in settings.get("details", {})},
        thresholds={
            n: Threshold(**threshold) for n, threshold in settings.get("thresholds", settings.get("cuts", {})).items()
        }
        or {"default": ARGMAX},
        positive=Severity.of(settings["positive"]) if "positive" in settings else None,
        revision=_text(settings, "revision"),
        sha256=_text(settings, "sha256"),
        hashes={str(name): _text(settings["hashes"], name) for name in settings.get("hashes", {})},
        files=files_of(kind),
        optional_files=also_of(kind),
        license=_text(settings, "license", _text(settings, "licence", "unknown")),
        download_bytes=int(settings.get("size", 0)),
        embedding_dim=width if isinstance(width, int) else 0,
        known_answers={
            name: _answers(row, tuple(settings.get("labels", ()))) for name, row in settings.get("answers", {}).items()
        },
        source=_text(settings, "source"),
    )


@contextmanager
def _readable(folder: Path, what: str) -> Iterator[None]:
    """What a strange value does to the code that reads it, as one error."""
    try:
        yield
    except (AttributeError, TypeError, LookupError, ValueError, ArithmeticError) as error:
        if isinstance(error, ConfigError):
            raise
        raise WeightsUnfitError(
            f"{what} of {folder.name!r} is unreadable ({type(error).__name__}: {first_line(error)}): fetch it again"
        ) from error


def _text(content: Mapping[str, Any], key: str, default: str = "") -> str:
    value = content.get(key, default)
    if not isinstance(value, str):
        raise WeightsUnfitError(f"{key} in {RECORD} must be a string, got {short(value)}: save the model again")
    return value


def _label(to: object) -> Label | None:
    """What a record says of a class: null, or category and severity."""
    if to is None:
        return None
    if not (isinstance(to, list) and len(to) == 2 and isinstance(to[0], str) and to[0]):
        raise WeightsUnfitError(f'a label in {RECORD} means {short(to)}: write ["sexual", "high"] or null')
    return Label(to[0], Severity.of(to[1]))


def _answers(row: Any, order: tuple[str, ...]) -> dict[str, float]:
    """The known answers to one image by label. Old records list them, in the order of the labels that they name."""
    if isinstance(row, list) and not (order and len(row) == len(order)):
        raise WeightsUnfitError(
            f"{RECORD} lists {len(row)} answers an image and names {len(order)} labels: save the model again, "
            "which writes each answer beside its label"
        )
    named = dict(zip(order, row, strict=True)) if isinstance(row, list) else row
    return {label: float(p) for label, p in named.items()}


def kind_of(config: Mapping[str, Any]) -> str:
    """Return which loader takes a model with this config.json."""
    if "architecture" in config:
        return "timm"  # also as transformers wraps it
    if config.get("model_type") == LAYERS_MODEL:
        return "layers"
    if is_judge(config):
        return "judge"
    names = config.get("architectures")
    if isinstance(names, list) and "StableDiffusionSafetyChecker" in names:
        return "checker"
    return "transformers"


def files_of(kind: str, weights: str = WEIGHTS) -> tuple[str, ...]:
    """Return the files that a model of this kind is made of."""
    if kind == "judge":
        return (CONFIG, "tokenizer.json", "tokenizer_config.json", weights)
    return (CONFIG, PROCESSOR, weights) if kind == "transformers" else (CONFIG, weights)


def also_of(kind: str) -> tuple[str, ...]:
    """Return the files that a model of this kind may have: each release of transformers puts the same things into
    others.
    """
    if kind != "judge":
        return ()
    return (PROCESSOR, "processor_config.json", "chat_template.jinja", "chat_template.json", "special_tokens_map.json",
            "added_tokens.json", "video_preprocessor_config.json")  # fmt: skip


def _order(kind: str, config: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """The names of the classes, in order. From id2label, never label2id, whose values are strings in some files."""
    if kind == "checker":
        return (CHECKER,)
    numbered = {int(i): label for i, label in (config.get("id2label") or {}).items()}
    order = tuple(config.get("label_names") or (numbered[i] for i in sorted(numbered)))
    if not order or (numbered and sorted(numbered) != list(range(len(numbered)))):
        raise WeightsUnfitError(
            f"{CONFIG} of {name!r} names no classes: add label_names or id2label with their names, in order"
        )
    texts = all(isinstance(label, str) and 0 < len(label) <= MAX_NAME_CHARS for label in order)
    if not texts or len(set(order)) < len(order):
        raise WeightsUnfitError(
            f"{CONFIG} of {name!r} names a class twice, or by something other than a string: give each its own name"
        )
    return order


def _input(kind: str, config: Mapping[str, Any], folder: Path) -> InputSpec | None:
    if kind in {"timm", "layers"}:
        return input_of(config.get("pretrained_cfg", config))
    if kind == "judge":
        return None
    return CLIP if kind == "checker" else read_processor(folder)


def agree_on_input(spec: ModelSpec, folder: Path) -> None:
    """Raises when the processor of a folder is not the one of its record."""
    processor_input = read_processor(folder)
    if processor_input != spec.input:
        raise WeightsUnfitError(
            f"the input of {spec.name!r} changed: recorded {spec.input}, the folder says {processor_input}"
        )


def zeroshot_spec(folder: Path, labels: Mapping[str, Label]) -> ModelSpec:
    """Return the record of a model with an image and a text side in a folder."""
    config = read_config(folder)
    return ModelSpec(
        name=folder.name, kind="zeroshot", architecture=config.get("model_type", "?"), input=read_processor(folder),
        labels=labels, thresholds={"default": NEARER},
    )  # fmt: skip


def check_against_record(spec: ModelSpec, folder: Path) -> None:
    """Raises when a folder holds another model than its record says."""
    config = read_config(folder)
    kind = kind_of(config)
    with _readable(folder, "the configuration"):
        both = (
            ("labels", tuple(spec.labels), _order(kind, config, folder.name)),
            ("input", spec.input, _input(kind, config, folder)),
            ("architecture", spec.architecture, _architecture(kind, config)),
        )
    for what, recorded, read in both:
        if recorded != read:
            raise WeightsUnfitError(f"the {what} of {spec.name!r} changed: recorded {recorded}, the folder says {read}")


def _architecture(kind: str, config: Mapping[str, Any]) -> str:
    return str(config["architecture" if kind == "timm" else "model_type"])


def input_of(cfg: Mapping[str, Any]) -> InputSpec:
    """timm's pretrained_cfg as an InputSpec; what we cannot reproduce is refused."""
    size = cfg.get("input_size", (3, 224, 224))
    if len(size) != 3 or size[0] != 3 or size[1] != size[2]:
        raise ConfigError(f"input_size {tuple(size)} is not square RGB: only (3, S, S) is supported")
    return InputSpec(
        size=size[1],
        interpolation=cfg.get("interpolation", "bicubic"),
        crop_pct=cfg.get("crop_pct", 0.875),
        crop_mode=cfg.get("crop_mode", "center"),
        mean=cfg.get("mean", (0.485, 0.456, 0.406)),
        std=cfg.get("std", (0.229, 0.224, 0.225)),
    )


def write_record(folder: Path, spec: ModelSpec) -> None:
    """Write our record beside the weights of a folder: meanings, thresholds, hash and known answers."""
    files = [folder / name for name in spec.hashes or [WEIGHTS]]
    record = {
        "name": spec.name,
        "labels": {n: [m.category, m.severity.name.lower()] if m else None for n, m in spec.labels.items()},
        "thresholds": {
            n: {k: v for k, v in vars(threshold).items() if v not in (None, {}, "")}
            for n, threshold in spec.thresholds.items()
        },
        "revision": spec.revision,
        "size": sum(file.stat().st_size for file in files),
        **({"hashes": dict(spec.hashes)} if spec.hashes else {"sha256": sha256_of(folder / WEIGHTS)}),
        "license": spec.license,
        "source": spec.source,
        "answers": {n: {label: round(p, 6) for label, p in row.items()} for n, row in spec.known_answers.items()},
        **({"positive": spec.positive.name.lower()} if spec.positive else {}),
        **({"details": dict(spec.details)} if spec.details else {}),
    }
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def config_of(spec: ModelSpec, width: int) -> dict[str, Any]:
    """Return config.json in the layout that timm pushes to the hub."""
    shown = spec.net_input
    side = shown.size
    cfg = {
        "tag": "", "custom_load": False, "input_size": [3, side, side], "fixed_input_size": True,
        "interpolation": shown.interpolation, "crop_pct": shown.crop_pct, "crop_mode": shown.crop_mode,
        "mean": list(shown.mean), "std": list(shown.std), "num_classes": len(spec.labels),
    }  # fmt: skip
    config: dict[str, Any] = {"architecture": spec.architecture, "num_classes": len(spec.labels), "num_features": width}
    config |= {"label_names": list(spec.labels), "pretrained_cfg": cfg}
    return {**config, "model_args": dict(spec.model_args)} if spec.model_args else config
