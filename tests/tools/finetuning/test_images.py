"""Images as a network takes them, decoded once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nsfw_guard.errors import ConfigError
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.imaging.preprocess import Preprocess
from nsfw_guard.imaging.views import InputSpec
from nsfw_guard.tools.finetuning import images
from nsfw_guard.tools.finetuning.images import PIXELS, decode
from nsfw_guard.tools.finetuning.watching import Stage

SHOWN = InputSpec(size=32)


def drawn(folder: Path, count: int) -> list[str]:
    rng = np.random.default_rng(0)
    paths = []
    for number in range(count):
        array = rng.integers(0, 256, (40, 56, 3), dtype=np.uint8)
        paths.append(str(folder / f"{number}.png"))
        Image.fromarray(array).save(paths[-1])
    return paths


def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir(exist_ok=True)
    return folder


def test_a_file_that_is_no_image_has_a_fault_and_the_others_keep_their_places(tmp_path: Path) -> None:
    paths = drawn(tmp_path, 40)
    Path(paths[17]).write_bytes(b"no image")
    decoded = decode(paths, SHOWN, folder=work(tmp_path))
    assert list(decoded.faults) == [17]
    assert decoded.looks[17] is None
    assert not decoded.pixels[17].any()
    for at in (0, 16, 18, 39):
        expected = Preprocess(spec=SHOWN, views="center").prepare(
            Frames(torch.from_numpy(np.array(Image.open(paths[at]))).permute(2, 0, 1)[None])
        )
        assert torch.equal(decoded.pixels[at], expected.pixels[0, 0])


def test_a_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'nowhere\.png' cannot be read"):
        decode(["nowhere.png"], SHOWN, folder=work(tmp_path))


def test_a_path_that_no_system_takes_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'a\\x00b' cannot be read"):
        decode(["a\0b"], SHOWN, folder=work(tmp_path))


def test_a_full_disk_is_an_error_before_anything_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "LEFT", 1 << 62)
    with pytest.raises(ConfigError, match="use another --out"):
        decode(drawn(tmp_path, 2), SHOWN, folder=work(tmp_path))
    assert not (work(tmp_path) / PIXELS).exists()


def test_images_are_decoded_again_only_when_a_file_or_the_input_is_another(tmp_path: Path) -> None:
    paths, folder = drawn(tmp_path, 20), work(tmp_path)
    calls: list[int] = []

    def count(stage: Stage, done: int, total: int, note: str) -> None:
        calls.append(done)

    first = decode(paths, SHOWN, folder=folder, watch=count)
    assert calls == [16, 20]
    again = decode(paths, SHOWN, folder=folder, watch=count)
    assert calls == [16, 20]
    assert torch.equal(first.pixels, again.pixels)
    assert first.hash == again.hash
    assert [one and one.hashed for one in first.looks] == [one and one.hashed for one in again.looks]
    Image.new("RGB", (50, 50), "red").save(paths[3])
    assert decode(paths, SHOWN, folder=folder, watch=count).hash != first.hash
    assert decode(paths, InputSpec(size=16), folder=folder, watch=count).pixels.shape[-1] == 16
    assert calls == [16, 20] * 3


def test_an_animation_counts_by_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=100)
    decoded = decode([str(tmp_path / "a.gif")], SHOWN, folder=work(tmp_path))
    assert decoded.pixels[0, :, 5, 5].tolist() == [255, 0, 0]
