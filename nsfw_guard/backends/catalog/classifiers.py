"""The built-in models. To add one, add a record with the source of every number."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nsfw_guard.backends.base import Register
from nsfw_guard.backends.catalog.clip import CLIP_MODELS
from nsfw_guard.backends.files.processor import OPENAI_MEAN, OPENAI_STD, VIT
from nsfw_guard.backends.spec import Label, ModelSpec
from nsfw_guard.imaging.views import InputSpec
from nsfw_guard.policy.rules import Threshold
from nsfw_guard.scores import Severity

DEMO = Path(__file__).parents[2] / "demo" / "weights"

MARQO = ModelSpec(
    name="marqo",
    kind="timm",
    architecture="vit_tiny_patch16_384",
    input=InputSpec(size=384, interpolation="bicubic", crop_pct=1.0, crop_mode="center"),
    labels={"NSFW": Label("sexual", Severity.HIGH), "SFW": None},
    thresholds={
        "default": Threshold(
            block=0.5,
            review=0.3,
            views={"side": 0.6, "tile": 0.8, "squash": 0.5, "content": 0.8},
            source="block: the class the model itself picks, inside the flat part (0.1 to 0.9) of the precision and "
            "recall curve on its card; review: the 'balanced' threshold of a third party; side 0.6: that party's "
            "'relaxed' threshold; tile, squash and content: chosen, not measured",
        ),
        "strict": Threshold(
            block=0.15,
            review=0.1,
            views={"side": 0.3, "tile": 0.6, "squash": 0.15, "content": 0.6},
            source="block: a third party's 'strict' threshold; review: just above harmless photographs, measured by "
            "that party at 0.047 to 0.094 (label smoothing keeps them off 0); views: chosen, not measured",
        ),
        "lenient": Threshold(
            block=0.8,
            review=0.5,
            views={"side": 0.85, "tile": 0.9, "squash": 0.8, "content": 0.9},
            source="chosen below 0.9, above which recall falls sharply on the model's card; not measured",
        ),
    },
    repo="Marqo/nsfw-image-detection-384",
    revision="0c26ec22111b83f106d72a55f611ec35962bcb65",
    sha256="6bf2e0f64a1d20169736c2836e3a787b12379fdc08ba87f7d94a7a3d58eeefce",
    license="Apache-2.0",
    download_bytes=22_404_720,
    embedding_dim=192,
    metrics="98.56% accuracy on a private set of 20,000 (card); no independent test was found",
    source="model card and config.json of the repository",
)

FREEPIK = ModelSpec(
    name="freepik",
    kind="timm",
    architecture="eva02_base_patch14_448",
    input=InputSpec(size=448, crop_mode="squash", mean=OPENAI_MEAN, std=OPENAI_STD),
    labels={
        "neutral": None,
        "low": Label("sexual", Severity.LOW),
        "medium": Label("sexual", Severity.MEDIUM),
        "high": Label("sexual", Severity.HIGH),
    },
    positive=Severity.MEDIUM,
    thresholds={
        "default": Threshold(block=0.5, review=0.3, source="block: the default of its own package; review: chosen"),
        "strict": Threshold(block=0.25, review=0.15, source="chosen, not measured; or cut at severity low"),
        "lenient": Threshold(block=0.8, review=0.5, source="chosen, not measured; or cut at severity high"),
    },
    repo="Freepik/nsfw_image_detector",
    revision="15b85477e4fd2000db76ae9aae0f89a72f95e2e3",
    sha256="024a9d4818fae2656403bf626c9f8c9e7789c2da274749fbebb1060d8fdaa7ab",
    license="MIT",
    download_bytes=172_725_672,
    embedding_dim=768,
    metrics="its own set, 'at least' each level: high 99.54%, medium 97.02%, low 98.31% (card); UnsafeBench-Sexual: "
    "F1 81.1, recall 76.1 (a competitor's paper, arXiv 2603.16181)",
    source="model card; input as its own package makes it (timm's for the base model), checked at load",
)

FALCONSAI = ModelSpec(
    name="falconsai",
    kind="transformers",
    architecture="vit",
    input=VIT,
    labels={"normal": None, "nsfw": Label("sexual")},
    thresholds={
        "default": Threshold(block=0.5, review=0.3, source="block: the class the model itself picks; review: chosen"),
        "strict": Threshold(block=0.25, review=0.1, source="chosen, not measured"),
        "lenient": Threshold(
            block=0.85, review=0.5, source="block: the threshold of the FLUX repositories; review: chosen"
        ),
    },
    repo="Falconsai/nsfw_image_detection",
    revision="96cb0d0342c7afb80cab76ecc58b265fa44da256",
    sha256="97b2ce64ec146884b37f98ee7944ca4891aa72f6827dc0cb10684a1cbecd5830",
    files=("config.json", "preprocessor_config.json", "model.safetensors"),
    license="Apache-2.0",
    pip_extra="diffusers",
    download_bytes=343_223_968,
    embedding_dim=768,
    metrics="98.04% accuracy on a private set (card); UnsafeBench-Sexual: F1 56.3, recall 40.7 (a competitor's paper, "
    "arXiv 2603.16181); false alarms 21% at 0.5 (report of 2026-09-26)",
    source="model card, config.json and preprocessor_config.json",
)

BFL = replace(
    FALCONSAI,
    name="bfl",
    thresholds={
        "default": Threshold(
            block=0.85,
            source="NSFW_THRESHOLD of the flux and flux2 repositories, which block above it; a guard blocks at it too",
        ),
        "strict": Threshold(block=0.5, review=0.3, source="the class the model itself picks"),
        "lenient": Threshold(block=0.95, review=0.85, source="chosen, not measured"),
    },
    source="Falconsai's model as the FLUX repositories use it; they look at the first image of a batch only, and cut "
    "floats off where images round them: half of the pixels differ by one level",
)

ADAMCODD = ModelSpec(
    name="adamcodd",
    kind="transformers",
    architecture="vit",
    input=replace(VIT, size=384),
    labels={"sfw": None, "nsfw": Label("sexual")},
    thresholds={
        "default": Threshold(block=0.5, review=0.3, source="block: the class the model itself picks; review: chosen"),
        "strict": Threshold(block=0.25, review=0.1, source="chosen, not measured"),
        "lenient": Threshold(block=0.8, review=0.5, source="chosen, not measured"),
    },
    repo="AdamCodd/vit-base-nsfw-detector",
    revision="8587de998f441aac03fdd57a85d2e4cb808c7d64",
    files=("config.json", "preprocessor_config.json", "model.safetensors"),
    license="Apache-2.0",
    pip_extra="diffusers",
    download_bytes=344_000_000,
    embedding_dim=768,
    metrics="96.54% accuracy; 86.00% on generated images (card); UnsafeBench-Sexual: F1 73.9, recall 67.8 (a "
    "competitor's paper, arXiv 2603.16181); strict on purpose, and black-and-white images are often wrong (card)",
    source="model card; input as others feed it, checked against preprocessor_config.json at load",
)

GIACOMO = ModelSpec(
    name="giacomo",
    kind="transformers",
    architecture="vit",
    input=VIT,
    labels={
        "drawings": None,
        "hentai": Label("sexual", Severity.HIGH),
        "neutral": None,
        "porn": Label("sexual", Severity.HIGH),
        "sexy": Label("sexual", Severity.LOW),
    },
    positive=Severity.HIGH,
    thresholds={
        "default": Threshold(block=0.5, review=0.3, source="chosen, not measured"),
        "strict": Threshold(block=0.25, review=0.1, source="chosen, not measured; or cut at severity low"),
        "lenient": Threshold(block=0.8, review=0.5, source="chosen, not measured"),
    },
    repo="giacomoarienti/nsfw-classifier",
    revision="29f43cab33874e62db8a1973bd0f84b0c69ff057",
    files=("config.json", "preprocessor_config.json", "model.safetensors"),
    license="CC-BY-NC-ND-4.0: not for commercial use",
    pip_extra="diffusers",
    download_bytes=343_000_000,
    embedding_dim=768,
    metrics="92% accuracy on deepghs/nsfw_detect (card); false alarms 44% at 0.5 (report of 2026-09-26)",
    source="model card and config.json; input of its base model, checked against preprocessor_config.json at load",
)

FACE, LOW, MEDIUM, HIGH = Label("face"), *(Label("sexual", level) for level in Severity)
CANARIES = ("ramp", "stripes", "disc")
# The highest score of each label on these synthetic images, with the weights of the wheel.
NUDENET_ANSWERS = {
    "FEMALE_GENITALIA_COVERED": (0.0001, 0.0071, 0.0001),
    "FACE_FEMALE": (0.0022, 0.0044, 0.0011),
    "BUTTOCKS_EXPOSED": (0.0401, 0.0095, 0.1166),
    "FEMALE_BREAST_EXPOSED": (0.0014, 0.0006, 0.0062),
    "FEMALE_GENITALIA_EXPOSED": (0.0012, 0.0003, 0.0003),
    "MALE_BREAST_EXPOSED": (0.0001, 0.0001, 0.0001),
    "ANUS_EXPOSED": (0.0001, 0.0001, 0.0001),
    "FEET_EXPOSED": (0.0002, 0.0002, 0.0001),
    "BELLY_COVERED": (0.0002, 0.0031, 0.0021),
    "FEET_COVERED": (0.0001, 0.0007, 0.0001),
    "ARMPITS_COVERED": (0.0001, 0.0001, 0.0001),
    "ARMPITS_EXPOSED": (0.0001, 0.0002, 0.0001),
    "FACE_MALE": (0.0001, 0.0001, 0.0001),
    "BELLY_EXPOSED": (0.0007, 0.003, 0.0018),
    "MALE_GENITALIA_EXPOSED": (0.0005, 0.0002, 0.0007),
    "ANUS_COVERED": (0.0001, 0.0001, 0.0001),
    "FEMALE_BREAST_COVERED": (0.0004, 0.0067, 0.0015),
    "BUTTOCKS_COVERED": (0.0014, 0.0037, 0.2984),
}
NUDENET = ModelSpec(
    name="nudenet",
    kind="nudenet",
    architecture="yolov8n",
    # In fact placed at the upper left of a black square: nudenet.py does this, like NudeNet.
    input=InputSpec(size=320, interpolation="bilinear", crop_mode="border", mean=(0.0,) * 3, std=(1.0,) * 3),
    # Chosen: genitals and anus bare are high; breast and buttocks bare medium, as on many a beach; the same parts
    # covered low. A man's chest, feet, bellies and armpits mean nothing: map them by labels={"FEET_EXPOSED": "feet"}.
    labels={
        "FEMALE_GENITALIA_COVERED": LOW,
        "FACE_FEMALE": FACE,
        "BUTTOCKS_EXPOSED": MEDIUM,
        "FEMALE_BREAST_EXPOSED": MEDIUM,
        "FEMALE_GENITALIA_EXPOSED": HIGH,
        "MALE_BREAST_EXPOSED": None,
        "ANUS_EXPOSED": HIGH,
        "FEET_EXPOSED": None,
        "BELLY_COVERED": None,
        "FEET_COVERED": None,
        "ARMPITS_COVERED": None,
        "ARMPITS_EXPOSED": None,
        "FACE_MALE": FACE,
        "BELLY_EXPOSED": None,
        "MALE_GENITALIA_EXPOSED": HIGH,
        "ANUS_COVERED": LOW,
        "FEMALE_BREAST_COVERED": LOW,
        "BUTTOCKS_COVERED": LOW,
    },
    positive=Severity.MEDIUM,
    neutral=("face",),
    thresholds={
        "default": Threshold(
            block=0.5, review=0.25, source="block: chosen, not measured; review: all that NudeNet reports"
        ),
        "strict": Threshold(block=0.25, source="all that NudeNet reports: its own code drops boxes of 0.25 and less"),
        "lenient": Threshold(block=0.7, review=0.5, source="chosen, not measured"),
    },
    sha256="c15d8273adad2d0a92f014cc69ab2d6c311a06777a55545f2c4eb46f51911f0f",
    files=("320n.onnx",),
    license="disputed: AGPL-3.0 (its repository, the license file in its wheel, the weights' metadata) or MIT (PyPI)",
    pip_extra="nudenet",
    download_bytes=12_150_158,
    known_answers={name: {label: row[i] for label, row in NUDENET_ANSWERS.items()} for i, name in enumerate(CANARIES)},
    metrics="none published for these weights",
    source="the wheel nudenet 3.4.2 (code, metadata of 320n.onnx); a child protection centre reported suspected abuse "
    "material among the images that NudeNet was trained on (C3P, October 2025)",
)


def register_models(register: Register) -> None:
    """Register the built-in models, in the same way as a plug-in."""
    from nsfw_guard.backends.catalog.judges import JUDGES
    from nsfw_guard.backends.catalog.packages import PACKAGE_MODELS
    from nsfw_guard.backends.files.folder import read_spec
    from nsfw_guard.backends.loaders import load_folder, load_hub, load_package
    from nsfw_guard.backends.nudenet.nudenet import load_installed

    for spec in (MARQO, FREEPIK, FALCONSAI, BFL, ADAMCODD, GIACOMO, *CLIP_MODELS, *JUDGES):
        register(spec, load_hub)
    for spec in PACKAGE_MODELS:
        register(spec, load_package)
    register(NUDENET, load_installed)
    for name in ("demo-shapes", "demo-shapes-graded"):
        if (DEMO / name).is_dir():
            register(read_spec(DEMO / name), lambda spec, options: load_folder(DEMO / spec.name, options))
