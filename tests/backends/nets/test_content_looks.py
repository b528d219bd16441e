"""With views="content" each image has its own number of looks, and every number stays with its image."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from nsfw_guard.backends.registry import load_model
from nsfw_guard.demo import shapes
from nsfw_guard.guard import Guard
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.verdict import Outcome
from tests.images import smooth

UNSAFE = torch.tensor(shapes.COLOURS["red"], dtype=torch.uint8)[:, None, None]
LOOKS = [1, 2, 1, 5, 2, 2]


def drawn(caption: str, side: int) -> torch.Tensor:
    return torch.from_numpy(np.array(shapes.draw(shapes.parse(caption), side=side))).permute(2, 0, 1)


def whole(seed: int) -> torch.Tensor:
    return (smooth(1, 160, 160, seed=seed)[0] * 255).to(torch.uint8)


def bordered(seed: int) -> torch.Tensor:
    image = torch.full((3, 160, 160), 250, dtype=torch.uint8)
    image[:, 20:90, 60:130] = whole(seed)[:, :70, :70]
    return image


def collage(seed: int) -> torch.Tensor:
    image = whole(seed)
    image[:, 77:83], image[:, :, 77:83] = 0, 0
    return image


def mixed() -> torch.Tensor:
    """Images with the numbers of looks that LOOKS says."""
    return torch.stack([whole(1), bordered(2), whole(3), collage(4), bordered(5), bordered(6)])


@pytest.fixture(scope="module")
def backend(tiny):
    return load_model(tiny, device="cpu", views="content")


def test_a_stack_of_mixed_images_gives_each_its_own_looks(backend) -> None:
    scores = backend.score([Frames(mixed())])
    assert [len(one.views) for one in scores] == LOOKS
    kinds = [[view.view.kind for view in one.views] for one in scores]
    assert kinds == [["center", *["content"] * (count - 1)] for count in LOOKS]


def test_numbers_digests_and_embeddings_belong_to_their_image(backend) -> None:
    images = mixed()
    together = backend.score([Frames(images[:4]), Frames(images[4:])], embeddings=True, digests=True)
    for image, one in zip(images, together, strict=True):
        (alone,) = backend.score([Frames(image[None])], embeddings=True, digests=True)
        assert [view.view for view in one.views] == [view.view for view in alone.views]
        assert list(one.numbers()) == pytest.approx(list(alone.numbers()), abs=1e-5)
        assert torch.allclose(one.embedding, alone.embedding, rtol=1e-3, atol=1e-4)
        shown = backend.preprocess.prepare(Frames(image[None])).pixels
        assert one.digest == alone.digest == hashlib.sha256(shown.numpy().tobytes()).hexdigest()
    assert len({one.digest for one in together}) == len(LOOKS)


def test_scores_of_the_authors_own_look_are_those_of_cover(tiny, backend) -> None:
    cover = load_model(tiny, device="cpu").score([Frames(mixed())])
    for one, other in zip(backend.score([Frames(mixed())]), cover, strict=True):
        assert one.views[0].view == other.views[0].view
        assert one.views[0].levels["sexual"] == pytest.approx(other.views[0].levels["sexual"], abs=1e-5)


def test_a_fault_stays_with_its_frame_among_mixed_looks(backend) -> None:
    floats = mixed().float() / 255
    floats[3, 0, 0, 0] = torch.nan
    floats[4, 1, 5, 5] = 7.0
    faults = [one.fault for one in backend.score([Frames(floats)])]
    assert [bool(fault) for fault in faults] == [False, False, False, True, True, False]
    assert "NaN" in faults[3]
    assert "values from" in faults[4]


def test_what_fills_a_border_is_blocked_and_what_is_allowed_is_unchanged() -> None:
    unsafe = UNSAFE.expand(3, 256, 256).clone()  # even a border of the unsafe colour hides nothing
    unsafe[:, 40:140, 90:190] = drawn("a red disc on white", 100)
    harmless = torch.full((3, 256, 256), 255, dtype=torch.uint8)
    harmless[:, 40:140, 90:190] = drawn("a blue square on cream", 100)
    images = torch.stack([harmless, unsafe, drawn("a green star on sky", 256)])
    before = images.clone()
    content, cover = (Guard.from_pretrained("demo-shapes", views=views) for views in ("content", "cover"))

    released, verdicts = content(images)

    assert [v.outcome for v in verdicts] == [Outcome.ALLOW, Outcome.BLOCK, Outcome.ALLOW]
    assert verdicts[1].view == "content"
    assert cover.check(images)[1].outcome is not Outcome.BLOCK
    assert torch.equal(images, before)
    assert torch.equal(released[0], before[0])
    assert torch.equal(released[2], before[2])
    assert not torch.equal(released[1], before[1])


def test_an_image_without_cells_is_judged_as_by_cover() -> None:
    content, cover = (load_model("demo-shapes", views=views) for views in ("content", "cover"))
    pixels = (smooth(3, 90, 200) * 255).to(torch.uint8)
    for one, other in zip(content.score([Frames(pixels)]), cover.score([Frames(pixels)]), strict=True):
        assert [view.view for view in one.views] == [view.view for view in other.views]
        assert list(one.numbers()) == pytest.approx(list(other.numbers()), abs=1e-5)


def test_records_of_the_demonstration_have_a_threshold_for_content() -> None:
    for name in ("demo-shapes", "demo-shapes-graded"):
        thresholds = load_model(name).spec.thresholds
        assert all(one.block < one.views["content"] < 1 for one in thresholds.values())
