"""The records of models based on CLIP or SigLIP: the stock checker, LAION's head, and zero-shot categories."""

from __future__ import annotations

from dataclasses import replace

from nsfw_guard.backends.files.folder import CHECKER
from nsfw_guard.backends.files.processor import CLIP, VIT
from nsfw_guard.backends.nets.zeroshot import HARMLESS, TEMPLATES
from nsfw_guard.backends.spec import Label, ModelSpec
from nsfw_guard.policy.rules import Threshold

WORDS = {
    "sexual": ("nudity", "sexually explicit content"),
    "violence": ("graphic violence", "an act of violence"),
    "gore": ("blood and gore", "a severe wound"),
    "hate": ("a hate symbol", "a sign of an extremist group"),
    "self-harm": ("self-harm",),
}
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")

STOCK = ModelSpec(
    name="stable-diffusion",
    kind="checker",
    architecture="clip",
    input=CLIP,
    labels={CHECKER: Label("sexual")},
    thresholds={
        "default": Threshold(
            block=0.5, review=0.4975, source="block: what the stock checker flags; review: 0.01 of a cosine less"
        ),
        "strict": Threshold(
            block=0.495, review=0.4925, source="0.02 of a cosine below what the stock checker flags; chosen"
        ),
        "lenient": Threshold(
            block=0.505, review=0.5, source="0.02 of a cosine above what the stock checker flags; chosen"
        ),
    },
    repo="stable-diffusion-v1-5/stable-diffusion-v1-5",
    revision="451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
    sha256="9d6a233ff6fd5ccb9f76fd99618d73369c52dd3d8222376384d0e601911089e8",
    subfolder="safety_checker",
    license="CreativeML OpenRAIL-M, as the repository; the checker's own card names none",
    pip_extra="diffusers",
    download_bytes=1_215_981_830,
    embedding_dim=768,
    metrics="SenBen: safe/unsafe F1 0.472 (arXiv 2604.08819); UnsafeBench: F1 32.0; knows sexual concepts only "
    "(arXiv 2210.04610)",
    source="diffusers' StableDiffusionSafetyChecker, whose flags it gives; its concept scores stand in the details",
)

LAION = ModelSpec(
    name="laion",
    kind="laion",
    architecture="clip",
    input=CLIP,
    labels={"nsfw": Label("sexual")},
    thresholds={
        "default": Threshold(block=0.5, review=0.3, source="even odds; not measured"),
        "strict": Threshold(block=0.3, review=0.15, source="chosen, not measured"),
        "lenient": Threshold(block=0.8, review=0.5, source="chosen, not measured"),
    },
    repo="openai/clip-vit-large-patch14",
    revision="32bd64288804d66eefd0ccbe215aa642df71cc41",
    sha256="a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb",
    license="MIT (CLIP and, as its README says, the head)",
    pip_extra="diffusers",
    download_bytes=1_710_540_580,
    embedding_dim=768,
    metrics="OS Bench: recall 39.9%, accuracy 60.9% (arXiv 2501.00192); its authors published none",
    source="LAION-AI/CLIP-based-NSFW-Detector; the head is to be put beside CLIP (docs/models.md)",
)

CLIP_L14 = ModelSpec(
    name="clip-l14",
    kind="zeroshot",
    architecture="clip",
    input=CLIP,
    labels={category: Label(category) for category in WORDS},
    thresholds={
        "default": Threshold(
            block=0.5, review=0.4, source="nearer to these words than to the harmless ones; not measured"
        ),
        "strict": Threshold(block=0.4, review=0.3, source="chosen, not measured"),
        "lenient": Threshold(block=0.7, review=0.5, source="chosen, not measured"),
    },
    model_args={"words": WORDS, "against": HARMLESS, "templates": TEMPLATES},
    repo="openai/clip-vit-large-patch14",
    revision="32bd64288804d66eefd0ccbe215aa642df71cc41",
    sha256="a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb",
    files=("config.json", "preprocessor_config.json", "model.safetensors", "vocab.json", "merges.txt", *TOKENIZER),
    license="MIT",
    pip_extra="diffusers",
    download_bytes=1_710_540_580,
    embedding_dim=768,
    metrics="none for these words: measure your own",
    source="repository of the model; the words are ours: choose your own with zeroshot(...)",
)

SIGLIP2 = replace(
    CLIP_L14,
    name="siglip2-so400m",
    architecture="siglip",
    input=replace(VIT, size=384),
    repo="google/siglip2-so400m-patch14-384",
    revision="e8e487298228002f3d8a82e0cd5c8ea9c567f57f",
    sha256="9f4f4a49f908ef0c979bce8ff5a5c0e88882dc6c5dc4304387cbbd152558e2c2",
    files=("config.json", "preprocessor_config.json", "model.safetensors", *TOKENIZER),
    license="Apache-2.0",
    download_bytes=4_544_143_072,
    embedding_dim=1152,
)

CLIP_MODELS = (STOCK, LAION, CLIP_L14, SIGLIP2)
