"""Looks for pictures that leave a guarded pipeline: every class of diffusers that can be built without a network.

python benchmarks/canary.py [--checkout FOLDER] [--only TEXT] [--part I/N] [--seconds N]

Each class is called without a guard, with one that allows all and with one that blocks all: for every kind of output,
with names and as a tuple, drawn from noise of its own and from `latents=`. What is allowed must come out bit for bit;
of what is blocked nothing may leave but one colour. `--checkout` takes a checkout of diffusers, whose own tests build
over a hundred classes more (pip install parameterized requests-mock ftfy beside what is here).
"""

from __future__ import annotations

import argparse
import inspect
import os
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
from common import finish, table

import numpy as np
import PIL.Image
import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from nsfw_guard.errors import NsfwGuardError
from nsfw_guard.guard import Guard
from nsfw_guard.pipelines.attach import attach
from nsfw_guard.testing import FakeBackend
from nsfw_guard.verdict import Outcome
from tests.pipelines.zoo import CASES

KINDS = ("pil", "np", "pt", "latent")
REPORTS = {"nsfw_content_detected", "verdicts"}
SOUND = ("Audio", "Music", "Dance", "AceStep")  # draw no pictures


class Late(Exception):  # noqa: N818 - an alarm
    """A class took longer than it was given."""


@dataclass(frozen=True)
class Subject:
    """One class: how it is built, and the arguments of one call."""

    name: str
    build: Callable[[], Any]
    call: Callable[[Any], dict[str, Any]]


def of_here() -> Iterator[Subject]:
    """The classes that the tests of this project build."""
    for case in CASES.values():
        yield Subject(case.name, case.build, case.call)


def of_checkout(checkout: Path) -> Iterator[Subject]:
    """The classes that diffusers' own tests build."""
    import offline

    offline.take_the_place_of_the_hub()
    for name, tester in offline.testers(checkout):
        if isinstance(tester, Exception):
            print(f"not imported: {name}: {tester!r}"[:200])
        else:
            yield Subject(name, lambda tester=tester: _build(tester), lambda pipe, tester=tester: _inputs(tester))


def _build(tester: Any) -> Any:
    torch.manual_seed(0)
    pipe = tester.pipeline_class(**tester().get_dummy_components())
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _inputs(tester: Any) -> dict[str, Any]:
    inputs = tester().get_dummy_inputs
    made = inputs("cpu") if "device" in inspect.signature(inputs).parameters else inputs()
    return {key: value for key, value in made.items() if key not in {"output_type", "return_dict"}}


def images(value: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """Everything in an output that could be a picture, with its place."""
    if isinstance(value, (torch.Tensor, np.ndarray)):
        array = value.detach().float().numpy() if isinstance(value, torch.Tensor) else value
        if array.dtype == object:
            yield from images(list(array.flat), at)
        elif array.ndim >= 3:
            yield at, array
    elif isinstance(value, PIL.Image.Image):
        yield at, np.asarray(value)
    elif isinstance(value, dict) or hasattr(value, "__dict__"):
        held = {**vars(value)} if hasattr(value, "__dict__") else {}
        held |= value if isinstance(value, dict) else {}
        for key, part in held.items():
            if key not in REPORTS:
                yield from images(part, f"{at}.{key}")
    elif isinstance(value, (list, tuple)):
        for index, part in enumerate(value):
            yield from images(part, f"{at}[{index}]")


def is_one_colour(array: Any) -> bool:
    """Whether nothing is left of a picture: each of its channels is one level, or it is what no picture can be."""
    flat = np.asarray(array, np.float64).reshape(-1, *array.shape[-3:])
    last, first = (np.ptp(flat, axis=axes).max(initial=0) == 0 for axes in ((1, 2), (2, 3)))
    return bool(last or first)


def draw(pipe: Any, subject: Subject, way: tuple[str, bool, str], latents: Any) -> Any:
    kind, named, noise = way
    arguments = {**subject.call(pipe), "output_type": kind, "return_dict": named}
    if noise == "latents=":
        arguments["latents"] = latents.clone()
    known = inspect.signature(type(pipe).__call__).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in known.values()):
        arguments = {key: value for key, value in arguments.items() if key in known}
    torch.manual_seed(0)
    np.random.seed(0)
    return pipe(**arguments)


def own_latents(pipe: Any, subject: Subject) -> Any:
    """Noise of the form that the pipeline itself begins with, or nothing where it takes none."""
    if "latents" not in inspect.signature(type(pipe).__call__).parameters:
        return None
    try:
        out = draw(pipe, subject, ("latent", False, "its own"), None)
    except Exception:  # noqa: BLE001 - it gives no latents
        return None
    first = out[0] if isinstance(out, (tuple, list)) else out
    noise = torch.Generator().manual_seed(1)
    return torch.randn(first.shape, generator=noise) if isinstance(first, torch.Tensor) else None


def judge(pipe: Any, subject: Subject, way: tuple[str, bool, str], latents: Any) -> Iterator[str]:
    """How one way of calling fares: a word for the allowing and one for the blocking guard."""
    try:
        free = dict(images(draw(pipe, subject, way, latents)))
    except Late:
        raise
    except Exception as error:  # noqa: BLE001 - diffusers itself does not do this
        yield f"not called: {type(error).__name__}"
        return
    for score, word in ((0.0, "allowed"), (1.0, "blocked")):
        try:
            with attach(pipe, Guard(FakeBackend(lambda levels, score=score: score))) as attachment:
                out = dict(images(draw(pipe, subject, way, latents)))
                faults = [verdict for verdict in attachment.verdicts if verdict.outcome is Outcome.ERROR]
        except Late:
            raise
        except NsfwGuardError as error:
            yield f"{word}: refused ({type(error).__name__})"
        except Exception as error:  # noqa: BLE001
            yield f"{word}: BROKEN {type(error).__name__}: {error}"[:150]
        else:
            given = {**subject.call(pipe), "latents": latents}
            if score:
                yield f"{word}: {_leaks(free, out, given)}"
            elif faults and all(np.abs(np.nan_to_num(array, nan=9)).max() > 1.5 for array in free.values()):
                yield f"{word}: covered, no picture (random weights gave values far outside)"
            else:
                same = _compare(free, out)
                repeats = not same or not _compare(free, dict(images(draw(pipe, subject, way, latents))))
                yield f"{word}: {(same if repeats else 'not repeatable') or ('bit for bit' if free else 'no picture')}"


def _compare(free: dict[str, Any], out: dict[str, Any]) -> str:
    if set(free) != set(out):
        return f"CHANGED places {sorted(set(free) ^ set(out))}"
    changed = [at for at in free if not np.array_equal(free[at], out[at], equal_nan=True)]
    return f"CHANGED {changed}" if changed else ""


def _leaks(free: dict[str, Any], out: dict[str, Any], given: Any) -> str:
    handed_in = [array for _, array in images(given)]
    kept = {at: array for at, array in out.items() if not is_one_colour(array)}
    leaked = [at for at, array in kept.items() if not any(np.array_equal(array, one) for one in handed_in)]
    if sound := [at for at in leaked if free[at].shape[-2] <= 2]:  # (batch, channels, samples)
        return "covered, its sound leaves" if sound == leaked else f"LEAKED {leaked}"
    if leaked:
        return f"LEAKED {leaked}"
    return "covered" if out else "held back" if free else "no picture"


def run(subject: Subject, seconds: int) -> tuple[str, list[tuple[tuple[str, bool, str], str]]]:
    """The class's own name, and each way with how it fared."""
    pipe = subject.build()
    latents = own_latents(pipe, subject)
    noises = ("its own", "latents=") if latents is not None else ("its own",)
    found = []
    for way in product(KINDS, (True, False), noises):
        found += [(way, word) for word in judge(pipe, subject, way, latents)]
    return type(pipe).__name__, found


def _alarm(*_: Any) -> None:
    raise Late("too late")


def main() -> None:
    """Prints how often each outcome came, and every leak; 1 when there is one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkout", type=Path, help="of diffusers: its own tests build more classes")
    parser.add_argument("--only", default="", help="classes whose name holds this")
    parser.add_argument("--part", default="1/1", help="such as 2/3: every third class, from the second on")
    parser.add_argument("--seconds", type=int, default=240, help="for each class")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, _alarm)
    subjects = of_checkout(args.checkout) if args.checkout else of_here()
    counts, classes, broken = Counter[str](), set(), []
    part, parts = map(int, args.part.split("/"))
    for number, subject in enumerate(subjects):
        if number % parts != part - 1:
            continue
        if args.only not in subject.name or any(word in subject.name for word in SOUND):
            continue
        signal.alarm(args.seconds)
        try:
            name, found = run(subject, args.seconds)
        except Exception as error:  # noqa: BLE001 - a class that cannot be built here
            print(f"not built: {subject.name}: {type(error).__name__}: {error}"[:200].replace("\n", " "), flush=True)
            continue
        finally:
            signal.alarm(0)
        classes |= {name} if any(": " in word and not word.startswith("not") for _, word in found) else set()
        for way, word in found:
            counts[word if word.isascii() and word.islower() else word.split("[")[0]] += 1
            if any(bad in word for bad in ("LEAKED", "CHANGED", "BROKEN")):
                broken.append(f"{subject.name} {way}: {word}")
                print(broken[-1], flush=True)
    print(f"\n{len(classes)} classes, {sum(counts.values())} outcomes\n")
    table(("outcome", "times"), sorted(counts.items()))
    finish("canary", {"classes": len(classes), "outcomes": dict(counts)}, broken)


if __name__ == "__main__":
    main()
