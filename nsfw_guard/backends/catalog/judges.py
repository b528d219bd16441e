"""Records of the vision-language models that judge by a written rule. None of their thresholds was measured."""

from __future__ import annotations

from collections.abc import Mapping

from nsfw_guard.backends.files.folder import also_of, files_of
from nsfw_guard.backends.judges.prompts import family_of
from nsfw_guard.backends.spec import Label, ModelSpec
from nsfw_guard.policy.rules import Threshold

CUTS: Mapping[str, Threshold] = {
    "default": Threshold(block=0.5, review=0.3, source="chosen, not measured: P(yes) at even odds; review below it"),
    "strict": Threshold(block=0.3, review=0.15, source="chosen, not measured: below even odds"),
    "lenient": Threshold(block=0.8, review=0.5, source="chosen, not measured: P(yes) at four to one"),
}


def _judge(
    name: str,
    architecture: str,
    repo: str,
    revision: str,
    *,
    license: str,
    billions: float,
    source: str,
    metrics: str = "",
    gated: bool = False,
) -> ModelSpec:
    """A record; its download size is that of its parameters in bfloat16."""
    questions = family_of(architecture).questions
    return ModelSpec(
        name=name,
        kind="judge",
        architecture=architecture,
        labels={category: Label(category) for category in questions},
        questions=questions,
        thresholds=CUTS,
        repo=repo,
        revision=revision,
        files=files_of("judge"),
        optional_files=also_of("judge"),
        license=license,
        gated=gated,
        pip_extra="diffusers",
        download_bytes=int(billions * 2e9),
        metrics=metrics,
        source=source,
    )


SHIELDGEMMA = _judge(
    "shieldgemma2",
    "shieldgemma2",
    "google/shieldgemma-2-4b-it",
    "eaf60452b5fc41a911338a022e628b0c15283897",
    license="Gemma terms of use",
    gated=True,
    billions=4.3,
    metrics="its card, about 500 images a policy, precision / recall / F1: sexual 87.6 / 89.7 / 88.6, dangerous "
    "95.6 / 91.9 / 93.7, violence 80.3 / 90.4 / 85.0. Elsewhere: 64.8% accuracy on UnsafeBench-Sexual "
    "(arXiv 2603.16181), F1 54.9 on UnsafeBench (Shieldstral's card): its vendor's numbers do not transfer",
    source="model card; ShieldGemma2ForImageClassification and ShieldGemma2Processor in transformers: the answer Yes "
    "means that the policy is violated",
)
LLAMA_GUARD = _judge(
    "llama-guard-4",
    "llama4",
    "meta-llama/Llama-Guard-4-12B",
    "87acb4b94e930c3d679e6e7ee9d57e2feab9ea71",
    license="Llama 4 community license; its multimodal use is limited in the EU",
    gated=True,
    billions=12.0,
    metrics="its card, own test of single images: recall 41%, false positives 9%, F1 38%. Elsewhere: F1 30.8 on "
    "UnsafeBench (Shieldstral's card)",
    source="model card and Meta's prompt format page, which says that it is made for conversations, not for images "
    "alone, and does not support generated images: a poor fit here",
)
_QWEN = "model card: a general model, its vendor publishes no moderation figures; Qwen3VLForConditionalGeneration"
QWENS = tuple(
    _judge(
        f"qwen3-vl-{size}b",
        "qwen3_vl",
        f"Qwen/Qwen3-VL-{size}B-Instruct",
        revision,
        license="Apache-2.0",
        billions=size,
        metrics=metrics,
        source=_QWEN,
    )
    for size, revision, metrics in (
        (2, "89644892e4d85e24eaac8bacfd4f463576704203", ""),
        (4, "ebb281ec70b05090aa6165b016eac8ec08e71b17", ""),
        (8, "0c351dd01ed87e9c1b53cbc748cba10e6187ff3b", "F1 .469 over 16 tags of film frames (arXiv 2604.08819)"),
    )
)
LLAVAGUARDS = tuple(
    _judge(
        f"llavaguard-{size}",
        "llava_onevision",
        f"AIML-TUDA/LlavaGuard-v1.2-{size.upper()}-OV-hf",
        "",
        license="code Apache-2.0; of the weights nothing is stated",
        billions=billions,
        metrics=f"its paper, balanced accuracy / recall / precision: {paper}, for its own policy of 9 categories",
        source="github.com/ml-research/LlavaGuard at 840699c; no commit of the weights is known here, so they are "
        "fetched by `nsfw-guard fetch` only",
    )
    for size, billions, paper in (("0.5b", 0.89, "88.70 / 86.67 / 87.89"), ("7b", 8.0, "90.84 / 91.39 / 87.97"))
)
JUDGES = (SHIELDGEMMA, LLAMA_GUARD, *QWENS, *LLAVAGUARDS)
