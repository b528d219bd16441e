"""The models that come with their facts. Adding one is adding a record, with the source of every number."""

from __future__ import annotations

from pathlib import Path

from nsfw_guard.backends.base import Label, ModelSpec
from nsfw_guard.backends.registry import Register
from nsfw_guard.rules import Cut
from nsfw_guard.scores import Severity
from nsfw_guard.views import InputSpec

DEMO = Path(__file__).parent.parent / "demo" / "weights"

MARQO = ModelSpec(
    name="marqo",
    architecture="vit_tiny_patch16_384",
    input=InputSpec(size=384, interpolation="bicubic", crop_pct=1.0, crop_mode="center"),
    labels={"NSFW": Label("sexual", Severity.HIGH), "SFW": None},
    cuts={
        "default": Cut(
            block=0.5,
            review=0.3,
            views={"side": 0.6, "tile": 0.8, "squash": 0.5},
            source="block: the class the model itself picks, inside the flat part (0.1 to 0.9) of the precision and "
            "recall curve on its card; review: the 'balanced' cut of a third party; side 0.6: that party's 'relaxed' "
            "cut; tile and squash: chosen, not measured",
        ),
        "strict": Cut(
            block=0.15,
            review=0.1,
            views={"side": 0.3, "tile": 0.6, "squash": 0.15},
            source="block: a third party's 'strict' cut; review: just above harmless photographs, measured by that "
            "party at 0.047 to 0.094 (label smoothing keeps them off 0); views: chosen, not measured",
        ),
        "lenient": Cut(
            block=0.8,
            review=0.5,
            views={"side": 0.85, "tile": 0.9, "squash": 0.8},
            source="chosen below 0.9, above which recall falls sharply on the model's card; not measured",
        ),
    },
    repo="Marqo/nsfw-image-detection-384",
    revision="0c26ec22111b83f106d72a55f611ec35962bcb65",
    licence="Apache-2.0",
    size=22_404_720,
    source="model card and config.json of the repository; card: 98.56% accuracy on a private set of 20,000",
)


def register_models(register: Register) -> None:
    """Brings the built-in models in, by the same door that a plug-in uses."""
    from nsfw_guard.backends.catalog_judges import JUDGES
    from nsfw_guard.backends.folder import read_spec
    from nsfw_guard.backends.loaders import load_folder, load_hub

    for spec in (MARQO, *JUDGES):
        register(spec, load_hub)
    for name in ("demo-shapes", "demo-shapes-graded"):
        if (DEMO / name).is_dir():
            register(read_spec(DEMO / name), lambda spec, options: load_folder(DEMO / spec.name, options))
