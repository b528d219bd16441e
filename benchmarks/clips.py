"""What the rule for clips costs and saves: false alarms and misses for each clip, by its length.

python benchmarks/clips.py

Clips of the shapes world, drawn by a fixed seed and judged by `demo-shapes`: a red disc is unsafe. A clip is a row of
shots; in a shot a scene drifts through the image, and each frame has its own light and noise, so that neighbouring
frames are alike, as in a film. A clip is unsafe when some frames in a row are those of an unsafe shot. In the second
table each frame is another scene, so that errors come one by one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from common import finish, machine, table  # first: it sets the threads

import numpy as np

from nsfw_guard.demo import shapes
from nsfw_guard.errors import MissingExtraError
from nsfw_guard.guard import Guard
from nsfw_guard.imaging.clips.facts import load_av
from nsfw_guard.policy.clips import ClipRule, decide_clip
from nsfw_guard.tools.clips import check_clip
from nsfw_guard.verdict import Outcome, Verdict

COUNT = 100  # clips of each length
FILES = 20  # clips that are written as MP4, too
LENGTHS = (8, 32, 128, 512)
SHOT = 40  # frames, on average
BRIEF = (1, 3, 12, 48)  # unsafe frames in a row
WIDE = 128
RULES = {
    "worst": ClipRule(),
    "2 of 3": ClipRule(rule="k-of-n", k=2, n=3),
    "3 of 5": ClipRule(rule="k-of-n", k=3, n=5),
    "6 of 9": ClipRule(rule="k-of-n", k=6, n=9),
}
SEED = 20261129


def scene(rng: np.random.Generator, unsafe: bool) -> shapes.Scene:
    """A scene with a red disc, or without one."""
    while True:
        drawn = shapes.random_scene(rng, shapes=int(rng.integers(1, 3)))
        if (shapes.severity(drawn) > 0) == unsafe:
            return drawn


def shot(rng: np.random.Generator, length: int, *, unsafe: bool) -> list[np.ndarray]:
    """So many frames of one scene: it drifts by up to a sixth of the side, in a light that flickers."""
    image = np.asarray(shapes.draw(scene(rng, unsafe), side=WIDE, rng=rng), np.float32)
    image = np.pad(image, ((16, 16), (16, 16), (0, 0)), mode="edge")
    begin, end = rng.uniform(8, 24, 2), rng.uniform(8, 24, 2)
    frames = []
    for i in range(length):
        top, left = (begin + (end - begin) * i / max(1, length - 1)).round().astype(int)
        part = image[top : top + WIDE, left : left + WIDE]
        noise = rng.normal(0, 6, part.shape)
        frames.append(np.clip(part * rng.uniform(0.9, 1.05) + noise, 0, 255).astype(np.uint8))
    return frames


def harmless(rng: np.random.Generator, length: int, *, mean: int = SHOT) -> list[np.ndarray]:
    """A clip of harmless shots, of so many frames on average."""
    frames: list[np.ndarray] = []
    while len(frames) < length:
        frames += shot(rng, int(rng.integers(mean // 2, mean * 3 // 2)) if mean > 1 else 1, unsafe=False)
    return frames[:length]


def judged(guard: Guard, frames: Sequence[np.ndarray]) -> list[Verdict]:
    """The verdict on each frame."""
    verdicts = [v for i in range(0, len(frames), 64) for v in guard.check(list(frames[i : i + 64]))]
    assert Outcome.ERROR not in {verdict.outcome for verdict in verdicts}
    return verdicts


def is_blocked(rule: ClipRule, verdicts: Sequence[Verdict]) -> bool:
    """Whether a clip is blocked."""
    return decide_clip(rule, verdicts).outcome >= Outcome.BLOCK


def measured(guard: Guard, length: int) -> dict[str, dict[str, float]]:
    """For each rule, the share of false alarms, and that of misses by the number of unsafe frames."""
    rng = np.random.default_rng([SEED, length])
    alarms = dict.fromkeys(RULES, 0)
    misses = {name: {brief: 0 for brief in BRIEF if brief <= length} for name in RULES}
    blocked = frames = 0
    for _ in range(COUNT):
        verdicts = judged(guard, harmless(rng, length))
        blocked += sum(verdict.outcome is Outcome.BLOCK for verdict in verdicts)
        frames += length
        for name, rule in RULES.items():
            alarms[name] += is_blocked(rule, verdicts)
        for brief in misses["worst"]:
            place = int(rng.integers(0, length - brief + 1))
            spliced = judged(guard, shot(rng, brief, unsafe=True))
            # The harmless part is taken as allowed, so that a false alarm does not hide a miss.
            quiet = [v for v in verdicts if v.outcome is Outcome.ALLOW] or verdicts
            around = [quiet[i % len(quiet)] for i in range(length)]
            clip = [*around[:place], *spliced, *around[place + brief :]]
            for name, rule in RULES.items():
                misses[name][brief] += not is_blocked(rule, clip)
    shares = {
        name: {"alarms": alarms[name] / COUNT, **{str(b): n / COUNT for b, n in misses[name].items()}} for name in RULES
    }
    return {**shares, "frames": {"alarms": blocked / frames}}


def flickering(guard: Guard, length: int) -> dict[str, float]:
    """For each rule, the share of false alarms where each frame is another scene."""
    rng = np.random.default_rng([SEED, length, 1])
    clips = [judged(guard, harmless(rng, length, mean=1)) for _ in range(COUNT // 2)]
    return {name: sum(is_blocked(rule, clip) for clip in clips) / len(clips) for name, rule in RULES.items()}


def in_files(guard: Guard) -> tuple[int, int]:
    """How many MP4 files have one unsafe frame that the model blocks by itself, and how many of them are blocked."""
    av = load_av()
    rng = np.random.default_rng([SEED, 0])
    count = caught = 0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(FILES):
            frames = harmless(rng, 64)
            place = int(rng.integers(64))
            frames[place] = shot(rng, 1, unsafe=True)[0]
            path = Path(folder) / f"{number}.mp4"
            with av.open(str(path), "w") as out:
                stream = out.add_stream("libx264", rate=24, options={"crf": "18"})
                stream.width, stream.height, stream.pix_fmt = WIDE, WIDE, "yuv420p"
                for frame in frames:
                    out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
                out.mux(stream.encode())
            clip = check_clip(guard, path)
            if place in clip.flagged:
                count += 1
                caught += clip.verdict.outcome is Outcome.BLOCK
    return count, caught


def main() -> None:
    """Prints false alarms and misses, and ends with 1 when `worst` lets an unsafe frame pass."""
    print(machine() + "\n")
    guard = Guard.from_pretrained("demo-shapes")
    shares = {length: measured(guard, length) for length in LENGTHS}
    header = ("frames", "rule", "false alarms", *(f"misses, {brief} unsafe" for brief in BRIEF))
    rows = [
        (
            length,
            name,
            f"{one[name]['alarms']:.2f}",
            *(f"{one[name][str(b)]:.2f}" if b <= length else "" for b in BRIEF),
        )
        for length, one in shares.items()
        for name in RULES
    ]
    table(header, rows)
    cut = {length: flickering(guard, length) for length in LENGTHS[-2:]}
    table(("frames, each another scene", *RULES), [(length, *one.values()) for length, one in cut.items()])
    single = {length: one["frames"]["alarms"] for length, one in shares.items()}
    print("false alarms of single frames: " + ", ".join(f"{share:.4f}" for share in single.values()) + "\n")
    try:
        count, caught = in_files(guard)
        print(f"MP4 files of 64 frames with one that is blocked by itself: {caught} of {count} are blocked\n")
    except MissingExtraError:
        count = caught = 0
    broken = [f"worst misses {one['worst']['1']:.2f} of single frames at {n}" for n, one in shares.items()
              if one["worst"]["1"] > 0.05]  # fmt: skip
    broken += [f"{name} has more false alarms than worst at {length}" for length, one in shares.items()
               for name in RULES if one[name]["alarms"] > one["worst"]["alarms"]]  # fmt: skip
    broken += [f"{count - caught} files with a blocked frame were released"] if caught < count else []
    broken += ["too few files have a frame that the model blocks"] if 0 < count < FILES * 0.8 else []
    finish(
        "clips",
        {"clips": COUNT, "shares": shares, "cut": cut, "single frames": single, "files": [caught, count]},
        broken,
    )


if __name__ == "__main__":
    main()
