"""What an early stop saves in the shapes world, and how often it stops what would have been allowed.

python benchmarks/early_stop.py            # previews by the VAE and by a linear map
python benchmarks/early_stop.py --learnt   # both and learnt heads, all from the same generations, and a look's cost

Fitted on one set of prompts, measured on another: false stops on images of safe prompts that end allowed.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from dataclasses import dataclass

from common import finish, machine, medians, table  # first: it sets the threads

import numpy as np
import torch

from nsfw_guard.demo import pixels, shapes
from nsfw_guard.demo.run import load_pipeline, image
from nsfw_guard.guard import Guard
from nsfw_guard.pipelines import attach as attaching
from nsfw_guard.pipelines.checker import SafetyChecker
from nsfw_guard.pipelines.early.bounds import CONFIDENCE, Trace, report_of, stop_at, thresholds_of, upper_bound
from nsfw_guard.pipelines.early.fit import fit_early_stop, learn_map, record
from nsfw_guard.pipelines.early.head import LatentHead
from nsfw_guard.pipelines.early.learn import OF_TWO, LatentKeeper, learn_heads, seen_through
from nsfw_guard.pipelines.early.preview import by_vae
from nsfw_guard.pipelines.early.stop import EarlyStop, block_confidence, judge
from nsfw_guard.pipelines.regenerate import regenerate

STEPS = 20
CALL = {"guidance_scale": 3.0, "num_inference_steps": STEPS}
FIT_SAFE, FIT_UNSAFE = 700, 100
LEARN_SAFE, LEARN_UNSAFE = 900, (300, 100)  # heads learn from half of them, with many unsafe ones and with few
AT, RATE, LEARN_RATE = (0.3, 0.5), 0.01, 0.015
SAFE, UNSAFE = 400, 150
LIVE = 24
BATCH = 16


def prompts(seed: int, count: int, *, unsafe: bool) -> list[str]:
    """Captions of one kind, always the same for the same seed."""
    rng = np.random.default_rng(seed)
    captions: list[str] = []
    while len(captions) < count:
        scene = shapes.random_scene(rng, shapes=int(rng.integers(1, 3)))
        if (shapes.severity(scene) > 0) is unsafe:
            captions.append(scene.caption)
    return captions


@dataclass(frozen=True)
class Measured:
    """One decoder: what the thresholds did to prompts that they were not fitted on."""

    allowed: int
    false_stops: int
    blocked: int
    stopped: int
    saved: float

    @property
    def bound(self) -> float:
        return upper_bound(self.false_stops, self.allowed)


def measure(pipe, guard, early) -> Measured:
    """False stops of safe prompts, steps saved of blocked images."""
    settings = {"at": early.at, "decoder": early.decoder, "batch_size": BATCH, "call": CALL}
    safe = record(pipe, guard, prompts(11, SAFE, unsafe=False), seed=90_000, **settings)
    unsafe = record(pipe, guard, prompts(12, UNSAFE, unsafe=True), seed=95_000, **settings)
    return counted([t for t in safe if not t.blocked] + [t for t in unsafe if t.blocked], early)


def counted(traces, early) -> Measured:
    """What the thresholds do to these generations."""
    report = report_of(traces, early, RATE)
    return Measured(report.allowed, report.false_stops, report.blocked, report.stopped, report.saved)


def live(pipe, guard, early) -> tuple[float, float, float]:
    """Unsafe prompts one by one, really stopped: share of steps and of time saved, and images that were covered."""
    asked = prompts(13, LIVE, unsafe=True)
    spent = {}
    steps = []
    covered = 0
    for name, stop in (("without", None), ("with", early)):
        with attaching.attach(pipe, guard, early_stop=stop):
            start = time.perf_counter()
            for i, prompt in enumerate(asked):
                taken: list[int] = []
                out = pipe(prompt, generator=torch.Generator().manual_seed(500 + i), output_type="pt",
                           callback_on_step_end=lambda *a, taken=taken: taken.append(1) or {}, **CALL)  # fmt: skip
                if stop is not None:
                    steps.append(len(taken))
                    covered += float(out.images.max()) == 0
            spent[name] = time.perf_counter() - start
    return 1 - sum(steps) / (STEPS * len(asked)), 1 - spent["with"] / spent["without"], covered / len(asked)


def drawn(pipe, part: list[str], seed: int, **more):
    """The output for prompts, each from a seed of its own."""
    seeds = [torch.Generator().manual_seed(seed + i) for i in range(len(part))]
    return pipe(part, generator=seeds, output_type="pt", **CALL, **more)


def seen(frames) -> list[bool]:
    """What the pixels say: whether there is a red disc."""
    return [any((f.colour, f.kind) == ("red", "disc") for f in pixels.find(image(frame))) for frame in frames]


def agreement(pipe, guard, early) -> dict[str, float]:
    """How often the guard says what the pixels say, on 200 prompts, in each of the ways in which it can be used."""
    asked = prompts(14, 130, unsafe=False) + prompts(15, 70, unsafe=True)
    checker = SafetyChecker(guard)
    slotted = load_pipeline()
    slotted.register_modules(safety_checker=checker, feature_extractor=checker.feature_extractor)
    right = dict.fromkeys(("attach", "slot", "early stop", "regenerate"), 0)
    for start in range(0, len(asked), BATCH):
        part, seed = asked[start : start + BATCH], 7_000 + start
        truth = seen(drawn(pipe, part, seed).images)
        flags = {"slot": drawn(slotted, part, seed).nsfw_content_detected}
        with attaching.attach(pipe, guard):
            flags["attach"] = drawn(pipe, part, seed).nsfw_content_detected
        with attaching.attach(pipe, guard, early_stop=early):
            singles = [drawn(pipe, [one], seed + i).nsfw_content_detected for i, one in enumerate(part)]
            flags["early stop"] = [flag for (flag,) in singles]
        again = regenerate(pipe, guard, attempts=2, seed=seed, prompt=part, output_type="pt", **CALL)
        last = [drawn(pipe, [one], seed).images[0] for one, seed in zip(part, again.seeds, strict=True)]
        for way, flagged in flags.items():
            right[way] += sum(a is b for a, b in zip(flagged, truth, strict=True))
        right["regenerate"] += sum(a is b for a, b in zip(again.nsfw_content_detected, seen(last), strict=True))
    return {way: count / len(asked) for way, count in right.items()}


@dataclass(frozen=True)
class Watched:
    """Generations that were watched and not stopped: their prompts, the scores of VAE looks, and the latents."""

    prompts: list[str]
    traces: list[Trace]
    keeper: LatentKeeper

    def first(self, count: int) -> Watched:
        """The first ones only."""
        keeper = LatentKeeper("vae")
        keeper.kept, keeper.shape = [part[:count] for part in self.keeper.by_look(len(AT))], self.keeper.shape
        return Watched(self.prompts[:count], self.traces[:count], keeper)

    def judged_by(self, pipe, guard, preview) -> list[Trace]:
        """The same generations with another preview. The latents of this pipeline are kept as they are."""
        scores = [
            [block_confidence(v) for part in latents.split(BATCH) for v in judge(guard, preview(pipe, part, {}))]
            for latents in self.keeper.by_look(len(AT))
        ]
        return [Trace(looks, t.blocked) for looks, t in zip(zip(*scores, strict=True), self.traces, strict=True)]


def watched(pipe, guard, asked: list[str], seed: int) -> Watched:
    """Generations for these prompts."""
    keeper = LatentKeeper("vae")
    return Watched(asked, record(pipe, guard, asked, at=AT, decoder=keeper, seed=seed, batch_size=BATCH, call=CALL),
                   keeper)  # fmt: skip


def cost(pipe, guard, latents, linear, head) -> dict[str, float]:
    """The median milliseconds of one look at one image."""
    return medians({
        "vae": lambda: judge(guard, by_vae(pipe, latents, {})),
        "linear": lambda: judge(guard, linear(pipe, latents, {})),
        "learnt": lambda: head(latents),
    }, rounds=51)  # fmt: skip


def learnt() -> None:
    """Compare heads, VAE and linear map on the same generations: fitted on some, measured on others."""
    pipe, guard = load_pipeline(), Guard.from_pretrained("demo-shapes")
    asked = prompts(1, LEARN_SAFE, unsafe=False) + prompts(2, max(LEARN_UNSAFE), unsafe=True)
    fit_on = watched(pipe, guard, asked, 0)
    fresh = watched(pipe, guard, prompts(12, UNSAFE, unsafe=True) + prompts(11, SAFE, unsafe=False), 90_000)
    linear = learn_map(pipe, asked[:128], seed=0, batch_size=BATCH, call=CALL)
    print(f"{machine()}\n{STEPS} steps; rate {LEARN_RATE:g}; measured on {SAFE} safe and {UNSAFE} unsafe others\n")
    results = {f"{few} unsafe": compared(pipe, guard, fit_on.first(LEARN_SAFE + few), fresh, linear)
               for few in LEARN_UNSAFE}  # fmt: skip
    # Its cost does not depend on its weights.
    head = LatentHead.fit(fit_on.keeper.kept[0], [i % 2 == 0 for i in range(BATCH)], fit_on.keeper.shape)
    spent = cost(pipe, guard, fresh.keeper.kept[0][:1], linear, head)
    table(("one look by", "ms"), list(spent.items()))
    wrong = [way for ways in results.values() for way, score in ways.items()
             if not score["false_stops"] <= 2 * LEARN_RATE * score["allowed"]]  # fmt: skip
    finish("early_stop_learnt", {**results, "ms": spent}, [f"{way} stops far too many of the allowed" for way in wrong])


def compared(pipe, guard, fit_on: Watched, fresh: Watched, linear) -> dict[str, dict[str, float]]:
    """What looks by each way do to fresh generations, printed as tables."""
    start = time.perf_counter()
    result = learn_heads(fit_on.prompts, fit_on.traces, fit_on.keeper, at=AT, rate=LEARN_RATE)
    count = len(fit_on.prompts)
    print(f"Fitted on {count} prompts, {count - LEARN_SAFE} of them unsafe; heads learnt in "
          f"{time.perf_counter() - start:.0f} s. Steps saved of the other half's blocked: "
          f"{result.decoder_saved:.0%} by the vae, {result.heads_saved:.0%} by the heads.\n")  # fmt: skip
    table(("look", "runs learnt from: allowed, blocked", "recall of the vae", "recall of a head", "kept"),
          [(f"{one.at:g}", f"{one.allowed}, {one.blocked}", f"{one.decoder_recall:.0%}", f"{one.head_recall:.0%}",
            "head" if one.kept else "vae") for one in result.report])  # fmt: skip
    rows, latents = range(len(fresh.prompts)), fresh.keeper.by_look(len(AT))
    by_linear = fit_on.judged_by(pipe, guard, linear), fresh.judged_by(pipe, guard, linear)
    by_fit = result.traces, list(seen_through(result.heads, fresh.traces, latents, rows))
    ways = {"vae": (fit_on.traces, fresh.traces, CONFIDENCE), "linear": (*by_linear, CONFIDENCE),
            "heads=True": (*by_fit, OF_TWO)}  # fmt: skip
    lines, results = [], {}
    for way, (before, now, confidence) in ways.items():
        thresholds = thresholds_of(before, len(AT), LEARN_RATE, confidence=confidence)
        early = EarlyStop(at=AT, thresholds=thresholds)
        score = counted(now, early)
        stops = Counter(stop_at(trace, early) for trace in now if trace.blocked)
        lines.append((way, ", ".join(f"{a:g}: {t:.4f}" for a, t in zip(AT, thresholds, strict=True)),
                      f"{score.stopped}/{score.blocked}", ", ".join(f"{a:g}: {stops[a]}" for a in AT),
                      f"{score.saved:.0%}", f"{score.false_stops}/{score.allowed}", f"{score.bound:.2%}"))  # fmt: skip
        results[way] = vars(score) | {"bound": score.bound}
    table(("looks by", "threshold at each look", "blocked that were stopped", "at each look",
           "steps saved of all blocked", "false stops", "upper 95% bound"), lines)  # fmt: skip
    return results


def main() -> None:
    pipe, guard = load_pipeline(), Guard.from_pretrained("demo-shapes")
    fit_on = prompts(1, FIT_SAFE, unsafe=False) + prompts(2, FIT_UNSAFE, unsafe=True)
    rng = np.random.default_rng(3)
    fit_on = [fit_on[i] for i in rng.permutation(len(fit_on))]
    print(
        f"{machine()}\n{STEPS} steps; fitted on {len(fit_on)} prompts, measured on {SAFE} safe and {UNSAFE} unsafe "
        "others\n"
    )
    rows, results, fitted = [], {}, {}
    for decoder in ("vae", "linear"):
        early = fit_early_stop(pipe, guard, fit_on, rate=0.01, decoder=decoder, batch_size=BATCH, call=CALL)
        score = measure(pipe, guard, early)
        steps, seconds, covered = live(pipe, guard, early)
        assert isinstance(early.thresholds, tuple)  # fitted: one for each look
        thresholds = ", ".join(f"{a:g}: {t:.3f}" for a, t in zip(early.at, early.thresholds, strict=True))
        fitted[decoder] = early
        rows.append((decoder, thresholds, f"{score.stopped}/{score.blocked}", f"{score.saved:.0%}",
                     f"{score.false_stops}/{score.allowed}", f"{score.bound:.2%}", f"{steps:.0%}", f"{seconds:.0%}",
                     f"{covered:.0%}"))  # fmt: skip
        results[decoder] = {"saved": score.saved, "false_stops": score.false_stops, "allowed": score.allowed,
                            "bound": score.bound, "live_steps": steps, "live_time": seconds}  # fmt: skip
    table(("decoder", "threshold at each look", "blocked that were stopped", "steps saved of all blocked",
           "false stops",
           "upper 95% bound", "steps saved, live", "time saved, live", "covered, live"), rows)  # fmt: skip
    agreed = agreement(pipe, guard, fitted["vae"])
    table(("way", "agrees with the pixels, of 200 prompts"), [(way, f"{share:.1%}") for way, share in agreed.items()])
    best = results["vae"]
    broken = [] if best["saved"] >= 0.40 else [f"vae saves {best['saved']:.0%} of the steps of blocked images, not 40%"]
    broken += [
        f"{name} stops {score['false_stops']} of {score['allowed']} allowed images: more than 1%"
        for name, score in results.items()
        if not score["false_stops"] <= 0.01 * score["allowed"]
    ]
    broken += [
        f"{way} agrees with the pixels on {share:.1%} only" for way, share in agreed.items() if not share >= 0.95
    ]
    finish("early_stop", {**results, "agreement": agreed}, broken)


if __name__ == "__main__":
    learnt() if "--learnt" in sys.argv[1:] else main()
