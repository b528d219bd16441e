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
    hashes={
        "group1-shard1of1.min.js": "ef2e0a63f7d2c4960b37b024b669313f65d3c45cd59e9042636c55b39de53517",
        "model.min.js": "c32f104fd562b08cdff5ed69dfe1209643afa47e792fb12751d2949aa61a397a",
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
    hashes={
        "group1-shard1of2.min.js": "f2e79a209e44d668220ec5f1533a98f2be954e3953685bf074d201b82fefc29a",
        "group1-shard2of2.min.js": "f291df992a0131741372506a6072fb9f1645bff7c973c983fd6276f5f9625d5e",
        "model.min.js": "a7a9e701491e2449b221dab7c424957f853e700602b5575da33cfd745616f964",
    },
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
    hashes={
        "group1-shard1of6.min.js": "e9316ac20ff634f990e483062050afe9a4826885c3a212d676ce2cfda93a4884",
        "group1-shard2of6.min.js": "467b33d62b4c470edf8acd3da554e331f2d49f3f93ddd718f944f595c516cd82",
        "group1-shard3of6.min.js": "075300e057ca7e9fd2e282afbc3a6596a0404288c94bf781e9b20658cbeee664",
        "group1-shard4of6.min.js": "b51ee46e062e752e81c28761a56369432671bfb3d59f4f062f5bd4dd58ff5303",
        "group1-shard5of6.min.js": "d4149969b3c61e0d4dde1d4f555f5b00f4fc87f6bab1a4cd4967b24f62725de6",
        "group1-shard6of6.min.js": "b684762a7d7c39b80183d260bdab6f072321349300f9f2ff144a085a382acfc4",
        "model.min.js": "8c2b793b9d277840fc757725bf3b135c96d5a54ec020e2b4ab569fc3df6b3848",
    },
    known_answers=_answers(
        ramp=(0.4181, 0.05453, 0.50254, 0.0182, 0.00663),
        stripes=(0.00638, 0.00046, 0.99237, 0.00069, 0.00009),
        disc=(0.00041, 0.00003, 0.99952, 0.00004, 0.0),
    ),
    metrics="none published for these weights",
    source="the npm package nsfwjs 4.3.0: InceptionV3, weights quantised to bytes; input as its core.js prepares it",
)

NSFWJS_MODELS = (NSFWJS_MOBILENET, NSFWJS_MOBILENET_MID, NSFWJS_INCEPTION)
