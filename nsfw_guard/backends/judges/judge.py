"""Vision-language models as judges: one written rule per category, one forward pass, the answer from two logits."""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor, nn

from nsfw_guard.backends.base import Options
from nsfw_guard.backends.batches import in_batches
from nsfw_guard.backends.files import weights
from nsfw_guard.backends.judges.prompts import OWN, TRANSFORMERS, Family, PromptBuilder, family_of, hash_of
from nsfw_guard.backends.nets.hf_model import from_folder, leads_nowhere
from nsfw_guard.backends.selftest import TOLERANCE, by_label, canaries, compare
from nsfw_guard.backends.spec import Label, ModelSpec
from nsfw_guard.errors import (
    ConfigError,
    MissingExtraError,
    ScoringError,
    SelfTestError,
    WeightsMissingError,
    WeightsUnfitError,
    first_line,
)
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.scores import Scores, Severity

MIN_ANSWER_SHARE = 0.5  # the least share of the softmax for the two answers; below it the model answers otherwise


def load_files(spec: ModelSpec, folder: Path, options: Options) -> Judge:
    """Load the judge in a folder in transformers' layout: every key, no code, no pickle."""
    model_type = weights.read_config(folder).get("model_type")
    family = family_of(model_type)
    if model_type != spec.architecture:
        raise WeightsUnfitError(
            f"{folder.name!r} contains a {model_type}, but {spec.name!r} is a {spec.architecture}: fetch its own files"
        )
    missing = [name for name in spec.files if name.endswith(".json") and not (folder / name).is_file()]
    if missing:
        raise WeightsMissingError(f"{folder.name!r} has no {' and no '.join(missing)}: fetch the missing files too")
    if options.views != "cover" or options.resize != "exact":
        raise ConfigError("a judge sees the whole image through its own processor: omit views and resize")
    if spec.details:
        raise ConfigError(f"{spec.name!r} is a judge, which has no details: leave details out of its record")
    asked = {name: q for name, q in spec.questions.items() if spec.labels.get(name)}
    if set(asked) != {name for name, label in spec.labels.items() if label}:
        raise ConfigError(f"the labels and questions of {spec.name!r} differ: write one question for each category")
    answers = {image: {n: p for n, p in row.items() if n in asked} for image, row in spec.known_answers.items()}
    spec = replace(spec, labels={name: spec.labels[name] for name in asked}, questions=asked, known_answers=answers)
    weights.weight_files(folder, spec.sha256)
    leads_nowhere(folder)
    asker = PromptBuilder(family, _processor(family, spec, folder), asked)
    model: Any = from_folder(family.model, spec, folder, dtype=cast(torch.dtype, options.dtype))
    _mend(model, asker)
    return Judge(model, asker, replace(spec, questions=asker.questions), options)


def _processor(family: Family, spec: ModelSpec, folder: Path) -> Any:
    """The model's own processor, from local files."""
    try:
        import transformers
    except ModuleNotFoundError:
        raise MissingExtraError("transformers", "diffusers") from None
    if not hasattr(transformers, family.model):
        raise ConfigError(
            f"the installed transformers has no {family.model}: run `pip install 'transformers>={TRANSFORMERS}'`"
        )
    if transformers.__version__ in family.broken_in:
        raise ConfigError(
            f"transformers {transformers.__version__} cannot run {family.model}, since its code fails on every image: "
            f"run `pip install 'transformers!={transformers.__version__}'`"
        )
    try:
        processor = transformers.AutoProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # processors raise errors of any type for unusable files
        raise WeightsUnfitError(
            f"transformers cannot read the processor of {spec.name!r} ({first_line(error)}): fetch its files again "
            f"({', '.join((*spec.files, *spec.optional_files))})"
        ) from error
    if not hasattr(processor, "tokenizer") or not getattr(processor, "chat_template", None):
        raise WeightsUnfitError(
            f"the processor of {spec.name!r} lacks its tokenizer or its chat template: "
            f"fetch {', '.join(spec.optional_files)} too"
        )
    return processor


def _mend(model: Any, asker: PromptBuilder) -> None:
    """Check that model and tokenizer fit together, and set what a configuration left open."""
    tokens = getattr(model, "yes_token_index", None), getattr(model, "no_token_index", None)
    if None not in tokens and tokens != asker.answers:
        raise WeightsUnfitError(
            f"the model answers with the tokens {tokens}, but {asker.family.yes_answer!r} and "
            f"{asker.family.no_answer!r} are {asker.answers} in the tokenizer: fetch model and tokenizer again"
        )
    text = model.config.get_text_config()
    # Llama Guard 4 does not set its chunk size, which transformers refuses: one chunk of maximum length disables it.
    if asker.family.model.startswith("Llama4") and getattr(text, "attention_chunk_size", None) is None:
        text.attention_chunk_size = text.max_position_embeddings


@dataclass(frozen=True)
class _Shown:
    """One frame as the model is shown it, and its fault where it is not an image."""

    image: Image.Image
    fault: str

    @property
    def blank(self) -> bool:
        # Of an RGB image: one pair a channel.
        extremes = cast(tuple[tuple[int, int], ...], self.image.getextrema())
        return all(low == high for low, high in extremes)


class Judge:
    """A vision-language model that answers one question per category. It is on one device at a time."""

    def __init__(self, model: nn.Module, asker: PromptBuilder, spec: ModelSpec, options: Options) -> None:
        self.spec = spec
        self.options = options
        self.asker = asker
        self.model: Any = model.eval().requires_grad_(False)
        self.home = torch.device(options.device or "cpu")
        self._lock = threading.Lock()
        try:
            self.model.to(self.home)
        except (AssertionError, NotImplementedError, RuntimeError) as error:
            raise ConfigError(
                f"{spec.name!r} cannot be moved to the device '{self.home}': use 'cpu', or omit device"
            ) from error
        self._answered = ""
        self._self_test = compare(spec, self._answers, TOLERANCE.get(cast(torch.dtype, options.dtype), 0.0))

    def with_questions(self, questions: Mapping[str, str]) -> Judge:
        """Return a judge with the same network, in the same memory, that goes by other rules."""
        # The full text of the model's own rules is in `spec`; written as one of ours it would be asked differently.
        brought = getattr(self.asker.processor, "policy_definitions", None) or {}
        asked = {category: OWN if brought.get(category) == q else q for category, q in questions.items()}
        asker = PromptBuilder(self.asker.family, self.asker.processor, asked)
        labels = {category: self.spec.labels.get(category) or Label(category) for category in asked}
        spec = replace(self.spec, questions=asker.questions, labels=labels, known_answers={})
        return Judge(self.model, asker, spec, self.options)

    def score(self, stacks: Sequence[Frames], *, embeddings: bool = False, digests: bool = False) -> list[Scores]:
        """Return one Scores per frame, in order, over all stacks. A judge has no embeddings."""
        shown = [frame for stack in stacks for frame in _shown(stack)]
        sound = [frame.image for frame in shown if not frame.fault]
        device = self.home if self.options.device or not stacks else stacks[0].pixels.device
        answers = iter(self.ask(sound, device))
        return [self._scores(frame, None if frame.fault else next(answers), digests) for frame in shown]

    def ask(self, images: Sequence[Image.Image], device: torch.device | None = None) -> list[list[list[float]]]:
        """Return P(violates) and the share of the two answers, per image and question.

        Shape: (images, questions, 2).
        """
        rows = len(images) * len(self.asker.prompts)
        if not rows:
            return []
        where = device or self.home
        with self._lock, torch.inference_mode(), torch.autocast(where.type, enabled=False):
            # Moved to the device of the images without a copy: two of these models rarely fit.
            self.model.to(where)
            parts = in_batches(
                lambda start, stop: self._pass(images, start, stop, where),
                rows,
                self.options.batch_size,
                self.spec.name,
            )
            logits: list[list[list[float]]] = torch.cat(parts).view(len(images), -1, 2).tolist()
        return logits

    def state(self) -> Mapping[str, str]:
        """Return the settings in effect. `questions` is the hash of the rules, `prompts` that of the full prompts."""
        return {
            "self_test": self._self_test.value,
            "device": str(self.home) if self.options.device else "follows the image",
            "dtype": str(self.options.dtype).removeprefix("torch."),
            "resize": "the model's own processor",
            "views": "full",
            "questions": hash_of(self.spec.questions),
            "prompts": hash_of(self.asker.prompts),
            "answered": self._answered,
        }

    def _pass(self, images: Sequence[Image.Image], start: int, stop: int, device: torch.device) -> Tensor:
        """P(violates) and the share of the two answers. Shape: (stop - start, 2), float32."""
        encoded = self.asker.inputs(images, start, stop)
        # Checked on the host first: the last position of every row must be a real token.
        if len(encoded["input_ids"]) != stop - start or not bool(encoded["attention_mask"][:, -1].all()):
            raise ScoringError(f"the processor of {self.spec.name!r} returned unexpected rows: update transformers")
        inputs = {key: self._moved(value, device) for key, value in encoded.items()}
        # ShieldGemma 2 returns only its two answers; the model inside it has the logits of all others.
        speaks = self.model.model if self.asker.family.policies else self.model
        logits: Tensor = speaks(**inputs, logits_to_keep=1, use_cache=False).logits[:, -1].float()
        answers = list(self.asker.answers)
        # From the two logits alone: dividing their shares would lose precision to softmax.
        violates = logits[:, answers].softmax(-1)[:, 0]
        return torch.stack([violates, logits.softmax(-1)[:, answers].sum(-1)], 1)

    def _moved(self, value: Any, device: torch.device) -> Any:
        if not isinstance(value, Tensor):
            return value
        return value.to(device, cast(torch.dtype, self.options.dtype) if value.is_floating_point() else None)

    def _scores(self, frame: _Shown, answers: list[list[float]] | None, digests: bool) -> Scores:
        """The answers as scores; a missing answer becomes NaN and a fault of the frame, never a score."""
        levels = {c: dict.fromkeys(ls, math.nan) for c, ls in self.spec.levels.items()}
        fault = frame.fault
        if answers is not None:
            fault = "; ".join(self._unanswered(answers))
            levels = self._levels([violates if share >= MIN_ANSWER_SHARE else math.nan for violates, share in answers])
        return Scores.single(
            levels,
            digest=hashlib.sha256(frame.image.tobytes()).hexdigest() if digests else "",
            blank=frame.blank,
            fault=fault,
        )

    def _unanswered(self, answers: list[list[float]]) -> Iterator[str]:
        words = self.asker.words
        for category, (_, share) in zip(self.spec.labels, answers, strict=True):
            if not share >= MIN_ANSWER_SHARE:
                yield f"not evaluated: the model did not answer {category!r} with {words} (share {share:.2f})"

    def _levels(self, answers: list[float]) -> dict[str, dict[Severity, float]]:
        """P(severity >= level): the worst answer of several questions for a level, and NaN where one is missing."""
        levels: dict[str, dict[Severity, float]] = {c: dict.fromkeys(ls, 0.0) for c, ls in self.spec.levels.items()}
        for label, p in zip(self.spec.labels.values(), answers, strict=True):
            if label is None:
                continue  # load_files left those out
            for level, worst in levels[label.category].items():
                if level <= label.severity and not p <= worst and not math.isnan(worst):
                    levels[label.category][level] = p
        return levels

    def known_answers(self) -> dict[str, dict[str, float]]:
        """Judge each canary, and return the answers by label, as a record stores them."""
        return by_label(self.spec, self._answers())

    def _answers(self) -> dict[str, tuple[float, ...]]:
        """The answers to each canary, by label, as far as the model answers."""
        images = {name: _image(pixels) for name, pixels in canaries().items()}
        rows = dict(zip(images, self.ask(list(images.values())), strict=True))
        shares = [share for answers in rows.values() for _, share in answers]
        answered = sum(share >= MIN_ANSWER_SHARE for share in shares)
        self._answered = f"{answered} of {len(shares)} questions of the self-test"
        if not answered and not any(math.isnan(share) for share in shares):
            raise SelfTestError(
                f"{self.spec.name!r} answers no question with {self.asker.words}: its chat template or weights are "
                "wrong, fetch them again"
            )
        return {name: tuple(violates for violates, _ in answers) for name, answers in rows.items()}


def _shown(stack: Frames) -> Iterator[_Shown]:
    """Each frame of a stack in 8 bit on the host."""
    pixels, extremes = stack.quantise()
    faults = [""] * len(stack) if extremes is None else [stack.fault(*pair) for pair in extremes.tolist()]
    for frame, fault in zip(pixels.cpu(), faults, strict=True):
        yield _Shown(_image(frame), fault)


def _image(pixels: Tensor) -> Image.Image:
    """8-bit pixels as a PIL image. Shape: (3, H, W)."""
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
