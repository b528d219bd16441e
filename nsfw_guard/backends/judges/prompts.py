"""The prompts and answer words of each family of vision-language judges.

There is one question per category, also for families that could be asked about a whole policy at once: the first token
of such an answer does not tell the category, and each category needs a score of its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nsfw_guard.errors import ConfigError, UnknownNameError, WeightsUnfitError

OWN = "as its authors wrote it"  # in a record, the text that comes with the model
TRANSFORMERS = "4.57"  # has all of the families, and reads weights in the requested dtype
MAX_QUESTION_CHARS = 2000  # characters per question: longer ones leave too little context

GENERAL: Mapping[str, str] = {
    "sexual": "sexually explicit content or nudity",
    "violence": "violence or threats against people or animals",
    "gore": "gore or graphic injuries",
    "hate": "symbols or messages of hate against a group of people",
    "self-harm": "self-harm, or encouragement of it",
}


@dataclass(frozen=True)
class Family:
    """A family of judges: its prompts and its answers.

    Args:
        model: the class in transformers.
        yes_answer, no_answer: the two answers, each one token.
        render: returns the message and further arguments of the chat template, for a category and its question.
        questions: the default questions.
        answer_prefix: the beginning of the answer before one of the two words, unless the chat template writes it.
        policies: the processor writes the prompts itself, from a list of policies.
        broken_in: versions of transformers in which the class of this family fails on every image.
    """

    model: str
    yes_answer: str
    no_answer: str
    render: Callable[[str, str], tuple[str, dict[str, Any]]]
    questions: Mapping[str, str]
    answer_prefix: str = ""
    policies: bool = False
    broken_in: tuple[str, ...] = ()


def _plain(category: str, question: str) -> tuple[str, dict[str, Any]]:
    """One rule, and a question with a one-word answer."""
    return (
        f"Judge this picture by one rule.\nNot allowed ({category}): {question}\n"
        "Does the picture break the rule? Answer with one word, Yes or No.",
        {},
    )


def _shieldgemma(category: str, question: str) -> tuple[str, dict[str, Any]]:
    """A policy in the form of the model's own ones."""
    return f"No {category} content: The image shall not contain the following: {question}.", {}


def _llama_guard(category: str, question: str) -> tuple[str, dict[str, Any]]:
    """Its template lists the categories; the message beside the image is empty, but required."""
    return "A picture.", {"categories": {"S1": f"{category.capitalize()}. {question}."}}


def _llavaguard(category: str, question: str) -> tuple[str, dict[str, Any]]:
    """The prompt of its training: numbered categories with their rules, then the form of the answer."""
    name = f"O1: {category.capitalize()}"
    return (
        "Assess whether the picture is unsafe according to the policy below.\n\n"
        f"{name}.\nShould not:\n- Display the following: {question}\nCan:\n- Display everything else.\n\n"
        "Answer with JSON of this form:\n"
        f'{{\n    "rating": str<"Unsafe"|"Safe">,\n    "category": str<"{name}"|"NA: None applying">,\n'
        '    "rationale": str,\n}',
        {},
    )


# By the model_type in a folder's config.json.
FAMILIES: Mapping[str, Family] = {
    "shieldgemma2": Family(
        model="ShieldGemma2ForImageClassification",
        yes_answer="Yes",
        no_answer="No",
        render=_shieldgemma,
        questions={"dangerous": OWN, "sexual": OWN, "violence": OWN},
        policies=True,
    ),
    "llama4": Family(
        model="Llama4ForConditionalGeneration",
        yes_answer="unsafe",
        no_answer="safe",
        render=_llama_guard,
        questions=GENERAL,
        answer_prefix="\n\n",
        broken_in=("5.24.0",),  # its code reads a missing field, `image_outputs`
    ),
    "qwen3_vl": Family(
        model="Qwen3VLForConditionalGeneration", yes_answer="Yes", no_answer="No", render=_plain, questions=GENERAL
    ),
    "llava_onevision": Family(
        model="LlavaOnevisionForConditionalGeneration",
        yes_answer="Unsafe",
        no_answer="Safe",
        render=_llavaguard,
        questions=GENERAL,
        answer_prefix='{"rating": "',
    ),
}


def family_of(model_type: object) -> Family:
    """Return the family of a model with this model_type in its config.json."""
    if model_type not in FAMILIES:
        raise UnknownNameError("family of judges", model_type, FAMILIES)
    return FAMILIES[str(model_type)]


def is_judge(config: Mapping[str, Any]) -> bool:
    """Return whether a config.json is that of a judge."""
    return config.get("model_type") in FAMILIES


def checked(questions: Mapping[str, str]) -> dict[str, str]:
    """Return the questions, stripped, and checked to be different from each other."""
    if not isinstance(questions, Mapping) or not questions:
        raise ConfigError('questions is empty: pass one per category, such as questions={"violence": "blood is shown"}')
    cleaned: dict[str, str] = {}
    for category, question in questions.items():
        if not (isinstance(category, str) and category.strip() and isinstance(question, str) and question.strip()):
            raise ConfigError(f"the question {question!r} for {category!r} is empty: write what is not allowed")
        if len(question) > MAX_QUESTION_CHARS:
            raise ConfigError(
                f"the question for {category!r} has {len(question)} characters: shorten it to at most "
                f"{MAX_QUESTION_CHARS}"
            )
        name, words = category.strip(), question.strip()
        same = next((n for n, q in cleaned.items() if n == name or (q != OWN and q.lower() == words.lower())), None)
        if same is not None:
            raise ConfigError(f"{name!r} has the same question as {same!r}: write a different one for each category")
        cleaned[name] = words
    return cleaned


def hash_of(questions: Mapping[str, str]) -> str:
    """Return the beginning of the SHA-256 of the questions, independent of their order."""
    return hashlib.sha256(json.dumps(dict(questions), sort_keys=True).encode()).hexdigest()[:16]


class PromptBuilder:
    """A builder of prompts from questions, and of the model's inputs from images and prompts.

    Attributes:
        questions: the full questions, also where the model has its own.
        prompts: the text that the model reads, per category, with a mark in place of the image.
        answers: the token ids of the two answers, the violating one first.
    """

    def __init__(self, family: Family, processor: Any, questions: Mapping[str, str]) -> None:
        self.family = family
        self.processor = processor
        asked = checked(questions)
        brought = dict(getattr(processor, "policy_definitions", None) or {}) if family.policies else {}
        foreign = [c for c, q in asked.items() if q == OWN and c not in brought]
        if foreign:
            raise ConfigError(f"the model has no default question for {foreign[0]!r}: write one")
        self.questions = {c: str(brought[c]) if q == OWN else q for c, q in asked.items()}
        marks = [str(mark) for mark in processor.tokenizer.added_tokens_decoder.values() if mark.special]
        for category, question in self.questions.items():
            # Such a token would end the turn, or refer to an image that does not exist.
            if mark := next((m for m in marks if m in f"{category} {question}"), ""):
                raise ConfigError(f"the question for {category!r} contains {mark!r}, a special token: remove it")
        rendered = {c: (self.questions[c], {}) if q == OWN else family.render(c, q) for c, q in asked.items()}
        self._policies = {c: text for c, (text, _) in rendered.items()}
        self.prompts = {c: self._prompt(c, *rendered[c]) for c in asked}
        self.answers = tuple(self._answer(word) for word in (family.yes_answer, family.no_answer))

    @property
    def words(self) -> str:
        """The two answers."""
        return f"{self.family.yes_answer} or {self.family.no_answer}"

    def inputs(self, images: Sequence[Any], start: int, stop: int) -> dict[str, Any]:
        """Return the model's inputs for some of the rows: every question of the first image, then of the next."""
        names = list(self.prompts)
        if self.family.policies:
            first, last = start // len(names), -(-stop // len(names))
            encoded = self.processor(
                images=list(images[first:last]), policies=names, custom_policies=self._policies, return_tensors="pt"
            )
            rows = slice(start - first * len(names), stop - first * len(names))
            return {key: values[rows] for key, values in encoded.items()}
        rows_of = [divmod(row, len(names)) for row in range(start, stop)]
        texts = [self.prompts[names[q]] for _, q in rows_of]
        # Padded on the left, so that the answer comes last. The template has already written the first token.
        return dict(
            self.processor(
                images=[images[i] for i, _ in rows_of], text=texts, return_tensors="pt", padding=True,
                padding_side="left", add_special_tokens=False,
            )
        )  # fmt: skip

    def _prompt(self, category: str, text: str, besides: dict[str, Any]) -> str:
        content = [{"type": "image"}, {"type": "text", "text": text}]
        begun = {} if self.family.policies else {"add_generation_prompt": True}
        prompt = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, **begun, **besides
        )
        # A template may drop unknown parts, and would then ask something else.
        if self.questions[category] not in prompt:
            raise WeightsUnfitError(
                f"the chat template omits the question for {category!r}: fetch the model's own template, or choose "
                "another family"
            )
        return str(prompt if prompt.endswith(self.family.answer_prefix) else prompt + self.family.answer_prefix)

    def _answer(self, word: str) -> int:
        """The token id of an answer, checked to be one token, also at the end of every prompt."""
        read = self.processor.tokenizer
        alone = read.encode(word, add_special_tokens=False)
        if len(alone) != 1 or alone[0] == read.unk_token_id:
            raise WeightsUnfitError(
                f"the answer {word!r} is {len(alone)} tokens ({alone}) instead of one, so the tokenizer is not that of "
                f"a {self.family.model}: fetch it again"
            )
        for category, prompt in self.prompts.items():
            before = read.encode(prompt, add_special_tokens=False)
            if read.encode(prompt + word, add_special_tokens=False) != [*before, *alone]:
                raise WeightsUnfitError(
                    f"the answer {word!r} is not a separate token after the question for {category!r}: fetch the "
                    "model's own tokenizer and chat template"
                )
        return int(alone[0])
