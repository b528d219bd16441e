"""The guard of a host: never an exception, one check an image, and what was not checked is covered."""

from __future__ import annotations

import io
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from nsfw_guard.errors import WeightsMissingError
from nsfw_guard.guard import Guard
from nsfw_guard.hosts.coverage import Coverage, Exit
from nsfw_guard.hosts.host_images import GROUND
from nsfw_guard.hosts.label import describe
from nsfw_guard.hosts.session import HostGuard
from nsfw_guard.hosts.settings import Settings
from nsfw_guard.testing import FAULTS, FakeBackend, FaultyBackend
from nsfw_guard.verdict import Outcome, Verdict

RED, BLUE = (220, 30, 30), (30, 30, 220)


def red(size: tuple[int, int] = (32, 24)) -> Image.Image:
    return Image.new("RGB", size, RED)


def blue(size: tuple[int, int] = (32, 24)) -> Image.Image:
    return Image.new("RGB", size, BLUE)


def shows(image: object) -> bool:
    """Whether the marker can be seen anywhere in an image."""
    values = np.asarray(image.convert("RGB") if isinstance(image, Image.Image) else image).reshape(-1, 3)
    return bool(((values[:, 0] > 200) & (values[:, 1] < 40) & (values[:, 2] < 40)).any())


def test_what_is_flagged_is_covered_in_place_and_the_rest_stays_as_it_is(make):
    host, _ = make(action="block")
    bad, good = red(), blue()
    before = good.tobytes()
    out = host.guard_images([bad, good], where="a hook")
    assert out.images[0] is bad
    assert out.images[1] is good
    assert bad.getpixel((3, 3)) == (0, 0, 0)
    assert good.tobytes() == before
    assert out.covered == [True, False]
    assert [v.outcome for v in out.verdicts] == [Outcome.BLOCK, Outcome.ALLOW]
    assert describe(out.verdicts[0]).startswith("block: red 1.000 >= 0.5")


@pytest.mark.parametrize("action", ["block", "blur", "pixelate", "replace"])
def test_a_cover_says_so_unless_its_owner_wants_none(make, action):
    """The same cover with and without: only the corner differs."""
    result = {}
    for label in (True, False):
        host, _ = make(action=action, label=label)
        image = red((256, 192))
        host.guard_images([image])
        result[label] = np.asarray(image)
    differs = (result[True] != result[False]).any(axis=-1)
    assert differs[:150].sum() == 0
    assert 200 < differs[150:].sum() < 0.1 * 256 * 192


def test_solid_covers_of_faults_and_refused_prompts_say_so_too(make):
    host, _ = make()
    fault = Verdict(Outcome.ERROR, "no", state={"self_test": "none"})
    frame = np.zeros((192, 256, 3), np.float32)
    (covered,) = host.cover([frame], fault).images
    assert covered is frame
    assert frame.max() > 0.7
    broken, _ = make(FaultyBackend("raises"))
    image = blue((256, 192))
    broken.guard_images([image])
    assert np.asarray(image).max() > 180
    assert image.getpixel((200, 20)) == GROUND


def test_what_is_covered_is_not_judged_again_for_its_label(make):
    host, backend = make()
    image = red((256, 192))
    host.guard_images([image])
    before = image.tobytes()
    host.guard_images([image])
    assert (image.tobytes(), backend.frames) == (before, 1)


def test_what_only_says_what_becomes_of_verdicts_loads_no_model_again(make):
    host, _ = make()
    host.warm_up()
    guard = host._guard
    host.configure(replace(host.settings, metadata=False, previews="hide", label=False, originals=""))
    assert host._guard is guard
    host.configure(replace(host.settings, strength=0.9))
    assert host._guard is None
    assert host.configure(replace(host.settings, strength=0.8), try_out=True).strength == 0.8
    assert host._guard is not None


def test_what_cannot_be_built_is_not_taken():
    host = HostGuard("test", build=missing)
    with pytest.raises(WeightsMissingError):
        host.configure(Settings(action="block"), try_out=True)
    assert (host.settings, host.startup_error) == (Settings(), "")
    assert host.configure(Settings(enabled=False), try_out=True).enabled is False  # off: nothing is built
    host.configure(Settings())
    host.warm_up()
    assert host.configure(Settings(action="block"), try_out=True).action == "block"  # it fails either way


def test_what_hides_in_an_alpha_is_painted_over_too(make):
    host, backend = make(action="block")
    bad, good = red((8, 8)), blue((8, 8))
    host.guard_images([bad, good])
    saved = [image.convert("RGBA") for image in (bad, good)]
    for image in saved:
        image.putpixel((1, 1), (*image.getpixel((1, 1))[:3], 254))
    before = saved[1].tobytes()
    host.guard_images(saved)
    assert backend.frames == 2
    assert set(saved[0].getchannel("A").tobytes()) == {255}
    assert saved[1].tobytes() == before


def animated(*frames):
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=list(frames[1:]))
    return Image.open(io.BytesIO(file.getvalue()))


def test_what_moves_is_not_taken_for_its_first_frame(make):
    host, _ = make(action="block")
    clip = animated(blue(), red())
    assert [v.outcome for v in host.guard_images([clip.copy()]).verdicts] == [Outcome.ALLOW]
    out = host.guard_images([clip])
    assert [v.outcome for v in out.verdicts] == [Outcome.BLOCK]
    file = io.BytesIO()
    out.images[0].save(file, "GIF", save_all=True)
    assert not any(shows(frame.convert("RGB")) for frame in ImageSequence.Iterator(Image.open(file)))


def test_what_transparency_shows_is_not_taken_for_what_it_hid(make):
    host, backend = make(action="block")
    plain = Image.new("P", (8, 8), 0)
    plain.putpalette([*BLUE, *RED] + [0] * 762)
    clear = plain.copy()
    clear.info["transparency"] = 0
    host.guard_images([plain])
    host.guard_images([clear])
    assert backend.frames > 2  # on black, on white, bare


def test_a_verdict_of_the_settings_before_is_not_kept(make):
    host, backend = make(action="block")
    judged = host._ready()

    def settings_change(images):
        payload = Guard.check(judged, images)
        host.configure(Settings(action="blur"))
        return payload

    judged.check = settings_change
    host.guard_images([blue()])
    assert backend.frames == 1
    host.guard_images([blue()])
    assert backend.frames == 2


def test_the_log_says_why_an_image_is_covered_once(make, caplog):
    host, _ = make(action="block", previews="check")
    bad = red()
    host.preview(bad)
    assert not caplog.records
    host.guard_images([red((8, 8)), blue()], where="a hook")
    host.guard_images([red((8, 8))], where="another")
    assert [record.message.partition(" (")[0] for record in caplog.records] == ["NSFW guard: block: red 1.000 >= 0.5"]


@pytest.mark.parametrize("action", ["block", "blur", "pixelate", "replace"])
def test_every_action_hides_the_marker(make, action):
    host, _ = make(action=action, strength=1.0)
    image = Image.new("RGB", (64, 64), BLUE)
    image.paste(RED, (0, 0, 64, 40))
    host.guard_images([image])
    assert not shows(image)


def test_marking_only_is_what_flag_does(make):
    host, _ = make(action="flag")
    image = red()
    out = host.guard_images([image])
    assert shows(image)
    assert out.verdicts[0].outcome is Outcome.BLOCK


def test_an_image_is_checked_once_however_many_hooks_see_it(make):
    host, backend = make()
    bad, good = red(), blue()
    for hook in ("before saving", "after", "grid"):
        out = host.guard_images([bad, good, good.copy()], where=hook)
        assert [v.outcome for v in out.verdicts] == [Outcome.BLOCK, Outcome.ALLOW, Outcome.ALLOW]
    assert backend.frames == 2
    assert not shows(bad)
    good.putpixel((0, 0), (1, 2, 3))
    host.guard_images([good])
    assert backend.frames == 3  # what was changed since is another image


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "hangs"])
def test_a_model_that_fails_covers_everything_and_raises_nothing(make, fault):
    host, _ = make(FaultyBackend(fault), action="flag")
    images = [red(), blue()]
    out = host.guard_images(images)
    assert [v.outcome for v in out.verdicts] == [Outcome.ERROR] * 2
    assert [p.getpixel((0, 0)) for p in images] == [GROUND] * 2


def test_a_model_that_hangs_is_an_error_in_time(make):
    host, _ = make(FaultyBackend("hangs", seconds=3), timeout=0.1)
    image = red()
    assert host.guard_images([image]).verdicts[0].outcome is Outcome.ERROR
    assert not shows(image)


def missing(settings, only_tighter):
    raise WeightsMissingError("the weights of 'marqo' are not in the cache. Run `nsfw-guard fetch marqo`")


def test_without_a_model_every_image_is_covered_and_the_cure_stands_in_the_status():
    host = HostGuard("test", build=missing)
    assert "nsfw-guard fetch marqo" in host.warm_up()
    image = blue()
    assert host.guard_images([image]).verdicts[0].reason.endswith("Run `nsfw-guard fetch marqo`")
    assert image.getpixel((0, 0)) == GROUND
    assert "nsfw-guard fetch marqo" in host.status()["fault"]
    assert host.refuse("a blue star").outcome is Outcome.ERROR


@pytest.mark.parametrize(
    ("image", "layout"),
    [
        (np.full((9, 7, 3), (0.9, 0.1, 0.1), np.float32), "hwc"),
        (np.full((9, 7, 3), RED, np.uint8), "hwc"),
        (torch.tensor(RED).view(3, 1, 1).expand(3, 9, 7).clone().to(torch.uint8), "chw"),
        (torch.tensor([0.9, 0.1, 0.1]).view(3, 1, 1).expand(3, 9, 7).clone(), "chw"),
        (torch.tensor([0.9, 0.1, 0.1]).expand(9, 7, 3).clone(), "hwc"),
    ],
)
def test_arrays_and_tensors_are_covered_where_they_stand(make, image, layout):
    host, _ = make(action="block")
    (result,) = host.guard_images([image], layout=layout).images
    assert result is image
    assert float(np.asarray(image).max()) == 0.0


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "I;16", "CMYK"])
def test_every_mode_is_judged_or_covered(make, mode):
    host, _ = make()
    image = Image.new("I;16", (8, 8), 40_000) if mode == "I;16" else red((8, 8)).convert(mode)
    out = host.guard_images([image])
    assert out.verdicts[0].outcome is not Outcome.ERROR
    assert not shows(out.images[0]) or mode == "CMYK"
    assert host.guard_images([Image.new("RGB", (1, 1), RED)]).covered == [True]


def test_nan_and_what_is_no_image_are_errors_of_their_own(make):
    host, backend = make()
    bad = torch.full((3, 8, 8), float("nan"))
    good = blue()
    out = host.guard_images([bad, None, good, "text"])
    assert [v.outcome.name for v in out.verdicts] == ["ERROR", "ERROR", "ALLOW", "ERROR"]
    assert bool(bad.isfinite().all())
    assert out.images[2] is good
    assert all(isinstance(p, Image.Image) for p in (out.images[1], out.images[3]))
    assert backend.calls == 1


def test_a_host_that_is_off_does_nothing(make):
    host, backend = make(enabled=False)
    image = red()
    assert host.guard_images([image]).verdicts == []
    assert shows(image)
    assert host.preview(image) is image
    assert host.refuse("anything") is None
    assert backend.calls == 0


@pytest.mark.parametrize("previews", ["pixelate", "check", "hide"])
def test_previews_hide_the_marker_and_leave_the_hosts_own_image(make, previews):
    host, _ = make(previews=previews, action="block")
    image = Image.new("RGB", (64, 64), BLUE)
    image.paste(RED, (8, 8, 20, 20))
    before = image.tobytes()
    result = host.preview(image)
    assert result.size == (64, 64)
    assert image.tobytes() == before
    whole = host.preview(red((64, 64)))
    assert previews == "pixelate" or not shows(whole)
    assert previews == "check" or not shows(result)  # a small shape is checked, and allowed


def test_previews_that_cannot_be_read_are_replaced(make):
    host, _ = make()
    assert host.preview(None) is None
    assert host.preview("what").size == (64, 64)


def test_a_prompt_is_refused_by_the_policys_rules(tmp_path, make):
    file = tmp_path / "mine.toml"
    file.write_text('extends = "default"\n[prompts]\nwords = ["dragon"]\n')
    host, _ = make(policy=str(file))
    assert host.refuse("a blue star") is None
    assert host.refuse(["a blue star", "a d.r.4.g.o.n"]).reason == "prompt: word 'dragon'"
    assert host.refuse(3).outcome is Outcome.ERROR
    host.configure(Settings(policy=str(file), prompts=False))
    assert host.refuse("a dragon") is None


def test_originals_are_kept_only_in_a_folder_that_was_named(make, tmp_path):
    host, _ = make(originals=str(tmp_path / "kept"))
    host.guard_images([red(), blue()])
    (file,) = (tmp_path / "kept").iterdir()
    assert shows(Image.open(file))
    full, _ = make(originals=str(file))  # a file where a folder should be
    image = red()
    full.guard_images([image])
    assert not shows(image)


def test_a_lock_that_cannot_be_read_covers_everything(monkeypatch):
    monkeypatch.setenv("NSFW_GUARD_SETTINGS", "nowhere.toml")
    host = HostGuard("test", build=missing)
    host.configure(Settings(enabled=False, action="flag"))
    image = blue()
    assert "locked settings cannot be read" in host.guard_images([image]).verdicts[0].reason
    assert image.getpixel((0, 0)) == GROUND
    assert host.status()["locked"]


def test_what_the_owner_locked_stays_whatever_a_user_chooses(monkeypatch):
    monkeypatch.setenv("NSFW_GUARD_ACTION", "block")
    host = HostGuard("test", build=missing)
    assert host.configure(Settings(enabled=False, action="flag", previews="hide")) == Settings(
        action="block", previews="hide"
    )


def test_the_status_says_what_is_in_effect(make):
    host, _ = make()
    host.guard_images([red()], where="after")
    payload = host.status()
    assert (payload["enabled"], payload["locked"], payload["fault"]) == (True, False, "")
    assert payload["counts"] == {"hook after": 1, "block": 1}
    assert payload["guard"]["self_test"] == "passed"


def test_threads_get_their_own_images_covered(make):
    host, _ = make(action="block")
    leaks: list[int] = []

    def work(seed: int) -> None:
        for i in range(20):
            image = Image.new("RGB", (16 + seed, 16 + i % 3), RED)
            host.guard_images([image])
            if shows(image):
                leaks.append(i)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not leaks


def test_an_interrupt_leaves_nothing_uncovered(make):
    class Interrupted(FakeBackend):
        def score(self, stacks, *, embeddings=False, digests=False):
            raise KeyboardInterrupt

    host, _ = make(Interrupted(), timeout=5.0)
    image = red()
    with pytest.raises(KeyboardInterrupt):
        host.guard_images([image])
    assert not shows(image)


def test_coverage_says_what_is_open():
    seen = Coverage(
        [
            Exit("x", "disk", ("save",), "edited in place"),
            Exit("x", "grid", ("grid", "sweep"), "both"),
            Exit("x", "shell", (), "whoever has a shell can take it out"),
        ]
    )
    assert seen.open == ["disk", "grid"]
    for hook in ("save", "grid"):
        seen.installed(hook)
    seen.missing("sweep", "this version has none")
    assert [row["state"] for row in seen.rows()] == [
        "closed",
        "open: sweep (this version has none)",
        "cannot be closed",
    ]
    assert not seen.exits[2].coverable


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "NSFW guard: on: marqo, blur, as chosen"),
        ({"model": "falconsai", "action": "block"}, "NSFW guard: on: falconsai, block, as chosen"),
        ({"enabled": False}, "NSFW guard: OFF, since `enabled` is false (as chosen): nothing is checked"),
    ],
)
def test_a_start_says_in_one_line_what_is_in_effect(settings, says, monkeypatch, caplog):
    guard = HostGuard("here", build=lambda *_: Guard(FakeBackend()))
    guard.configure(Settings(**settings))
    with caplog.at_level("INFO"):
        guard.announce()
    assert [record.getMessage() for record in caplog.records] == [says]


def test_a_start_says_that_it_is_locked_or_at_fault(monkeypatch, caplog):
    monkeypatch.setenv("NSFW_GUARD_ENABLED", "false")
    with caplog.at_level("INFO"):
        HostGuard("here").announce()
    monkeypatch.setenv("NSFW_GUARD_ENABLED", "perhaps")
    with caplog.at_level("INFO"):
        HostGuard("here").announce()
    off, fault = (record.getMessage() for record in caplog.records)
    assert off == "NSFW guard: OFF, since `enabled` is false (locked by the owner): nothing is checked"
    assert fault.startswith(
        "NSFW guard: every image is covered: the locked settings cannot be read: NSFW_GUARD_ENABLED"
    )
