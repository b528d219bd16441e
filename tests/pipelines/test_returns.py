"""What the calls of diffusers return, read from their source, and what becomes of each part."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

pytest.importorskip("diffusers")

from diffusers import DiffusionPipeline, MarigoldDepthPipeline
from diffusers.utils import BaseOutput

from nsfw_guard.cli.main import main
from nsfw_guard.pipelines.returns import Fate, Part, parts_of, returns
from nsfw_guard.pipelines.survey import survey

# What passes unjudged, as it is written in the classes of diffusers: sound, words, cameras and numbers.
NO_IMAGES = {
    "None", "action", "action_output", "audio", "c2w", "carry_positions", "out_positions", "revised_prompts", "sound",
    "text", "self._safety_text_concept if enable_safety_guidance else None", "video_c2w",
}  # fmt: skip


@pytest.fixture(scope="module")
def installed() -> list[Part]:
    return returns()


def test_no_output_that_passes_unjudged_is_an_image(installed) -> None:
    passing = {part.source for part in installed if part.fate is Fate.OTHER}
    assert passing
    assert passing <= NO_IMAGES, "a part of a new kind passes: look at it, then name it here"


def test_flags_stand_where_flags_are_expected(installed) -> None:
    marks = {part.source for part in installed if part.fate is Fate.MARK}
    assert not {one for one in marks if any(word in one for word in ("image", "video", "frame", "latent"))}


def test_outputs_named_like_images_are_judged(installed) -> None:
    images = [part for part in installed if part.source in {"image", "images", "video", "videos", "frames"}]
    assert len(images) > 100
    assert {part.fate for part in images} <= {Fate.JUDGED, Fate.REFUSED, Fate.SILENT}


def test_every_class_that_draws_returns_something(installed) -> None:
    read = {part.cls for part in installed}
    silent = {name for name, entry in survey().items() if entry.visual and entry.seam and name not in read}
    assert silent == set(), "a call whose returns cannot be read"


@dataclass
class ImageOutput(BaseOutput):
    images: list
    audio: list
    latents: list = None


class Drawing(DiffusionPipeline):
    def __call__(self, return_dict=True):
        def inner():
            return "what stays inside"

        if inner():
            return (self.image, None, self.extra)
        for _ in range(2):
            return ImageOutput(self.image, audio=self.audio, latents=self.latents)
        return self.image


def test_the_parts_of_a_class_are_named_by_place() -> None:
    assert [(part.place, part.source, part.name, part.fate) for part in parts_of(Drawing)] == [
        ("0", "self.image", "images", Fate.JUDGED), ("1", "None", "nsfw_content_detected", Fate.MARK),
        ("2", "self.extra", "watermark_detected", Fate.MARK), ("images", "self.image", "images", Fate.JUDGED),
        ("audio", "self.audio", "audio", Fate.OTHER), ("latents", "self.latents", "latents", Fate.HELD),
        ("0", "self.image", "", Fate.JUDGED),
    ]  # fmt: skip


def test_a_class_that_is_refused_says_so() -> None:
    assert {part.fate for part in parts_of(MarigoldDepthPipeline)} == {Fate.REFUSED}


def test_a_call_whose_source_cannot_be_read_has_no_parts() -> None:
    namespace = {}
    exec("class Hidden:\n    def __call__(self):\n        return self.image\n", namespace)  # noqa: S102 - no file holds it
    assert parts_of(namespace["Hidden"]) == []


def test_the_doctor_prints_what_passes(capsys) -> None:
    assert main(["doctor", "--returns"]) == 0
    printed = capsys.readouterr().out
    assert "released as sound, text or numbers" in printed
    assert main(["doctor", "--returns", "--json"]) == 0
    parts = json.loads(capsys.readouterr().out)["parts"]
    assert {"cls": "FluxPipeline", "place": "0", "source": "image", "name": "images", "fate": "judged"} in parts
