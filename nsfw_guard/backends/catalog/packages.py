"""Models whose weights are in a package of another language: the networks of nsfwjs, an npm package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from nsfw_guard.backends.spec import Label, ModelSpec
from nsfw_guard.imaging.views import InputSpec
from nsfw_guard.policy.rules import Threshold
from nsfw_guard.scores import Severity

# In the order of nsfwjs (its nsfw_classes).
LABELS: Mapping[str, Label | None] = {
    "Drawing": None,
    "Hentai": Label("sexual", Severity.HIGH),
    "Neutral": None,
    "Porn": Label("sexual", Severity.HIGH),
    # Chosen: its README says "sexually explicit images, not pornography", which may be no more than swimwear.
    "Sexy": Label("sexual", Severity.LOW),
}


def _answers(**rows: tuple[float, ...]) -> Mapping[str, Mapping[str, float]]:
    """What a network of the package answers to the synthetic images of the self-test."""
    return {image: dict(zip(LABELS, row, strict=True)) for image, row in rows.items()}


# As nsfwjs prepares an image: the whole of it, divided by 255, resized by TensorFlow with aligned corners.
INPUT = InputSpec(
    size=224, interpolation="bilinear-aligned", crop_mode="squash", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
)

NSFWJS_MOBILENET = ModelSpec(
    name="nsfwjs-mobilenet",
    kind="layers",
    architecture="layers-model",
    input=INPUT,
    labels=LABELS,
    # Chosen: nsfwjs names five classes and calls none of them positive.
    positive=Severity.HIGH,
    thresholds={
        "default": Threshold(block=0.5, review=0.3, source="chosen, not measured"),
        "strict": Threshold(block=0.25, review=0.1, source="chosen, not measured; or cut at severity low"),
        "lenient": Threshold(block=0.8, review=0.5, source="chosen, not measured"),
    },
    files=("config.json", "model.safetensors"),
    license="MIT (nsfwjs); the training set's licence is not stated",
    embedding_dim=128,
    known_answers=_answers(
        ramp=(0.88465, 0.01915, 0.09159, 0.00369, 0.00092),
        stripes=(0.04341, 0.0047, 0.59686, 0.02927, 0.32577),
        disc=(0.29991, 0.00146, 0.69858, 0.00004, 0.00001),
    ),
    metrics="accuracy of about 90% (README, which names no test set)",
    source="the npm package nsfwjs 4.3.0: MobileNetV2, weights quantised to bytes; input as its core.js prepares it",
)

NSFWJS_MOBILENET_MID = replace(
    NSFWJS_MOBILENET,
    name="nsfwjs-mobilenet-mid",
    embedding_dim=1792,
    known_answers=_answers(
        ramp=(0.07246, 0.02303, 0.90224, 0.00097, 0.0013),
        stripes=(0.00055, 0.00004, 0.99941, 0.0, 0.0),
        disc=(0.00749, 0.00021, 0.99229, 0.0, 0.0),
    ),
    metrics="accuracy of about 93% (README, which names no test set)",
    source="the npm package nsfwjs 4.3.0: MobileNetV2Mid, a frozen graph, weights quantised to bytes; input as its "
    "core.js prepares it",
)

NSFWJS_INCEPTION = replace(
    NSFWJS_MOBILENET,
    name="nsfwjs-inception",
    input=replace(INPUT, size=299),
    known_answers=_answers(
        ramp=(0.4181, 0.05453, 0.50254, 0.0182, 0.00663),
        stripes=(0.00638, 0.00046, 0.99237, 0.00069, 0.00009),
        disc=(0.00041, 0.00003, 0.99952, 0.00004, 0.0),
    ),
    metrics="none published for these weights",
    source="the npm package nsfwjs 4.3.0: InceptionV3, weights quantised to bytes; input as its core.js prepares it",
)

NSFWJS_MODELS = (NSFWJS_MOBILENET, NSFWJS_MOBILENET_MID, NSFWJS_INCEPTION)
