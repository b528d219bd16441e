"""Looks for images that leave a guarded pipeline: every class of diffusers that can be built without a network.

python benchmarks/canary.py [--checkout FOLDER] [--only TEXT] [--start-at TEXT] [--part I/N] [--seconds N]

Each class is called without a guard, with one that allows all and with one that blocks all: for every kind of output,
with names and as a tuple, drawn from noise of its own and from `latents=`. What is allowed must come out bit for bit;
of what is blocked nothing may leave but one colour. `--checkout` takes a checkout of diffusers, whose own tests build
over a hundred classes more (pip install parameterized requests-mock ftfy beside what is here).
"""

from __future__ import annotations

import argparse
import inspect
import itertools
import os
import re
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import partial
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

from nsfw_guard.errors import UncoveredError
from nsfw_guard.guard import Guard
from nsfw_guard.pipelines.attach import attach
from nsfw_guard.testing import FakeBackend
from nsfw_guard.verdict import Outcome
from tests.pipelines.zoo import CASES

KINDS = ("pil", "np", "pt", "latent")
REPORTS = {"nsfw_content_detected", "verdicts"}
SOUND = ("Audio", "Music", "Dance", "AceStep")  # draw no images


class Late(BaseException):  # an alarm, which nothing but `main` catches
    """A class took longer than it was given."""


class Result(Enum):
    """How one call fared. The last four are faults of the guard, or of this search."""

    NOT_CALLED = "the class itself raises"
    NOT_REPEATABLE = "allowed, but it never draws the same twice"
    BIT_FOR_BIT = "allowed: bit for bit"
    ALLOWED_REFUSED = "allowed: refused, as latents are"
    NO_IMAGE = "allowed: held as a fault, since its random weights give numbers far outside"
    COVERED = "blocked: covered"
    SOUND = "blocked: covered, and its sound leaves"
    BLOCKED_REFUSED = "blocked: refused, as latents are"
    CHANGED = "ALLOWED AND CHANGED"
    LEAKED = "BLOCKED AND LEAKED"
    BROKEN = "BROKEN"
    LATE = "LATE"


FAULTS = {Result.CHANGED, Result.LEAKED, Result.BROKEN, Result.LATE}
Way = tuple[str, bool, str]  # the kind of output, whether with names, whose noise


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
        if isinstance(tester, BaseException):
            print(f"not imported: {name}: {tester!r}"[:200])
        else:
            yield Subject(name, partial(_build, tester), partial(_inputs_of, tester))


def _build(tester: Any) -> Any:
    torch.manual_seed(0)
    pipe = tester.pipeline_class(**tester().get_dummy_components())
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _inputs_of(tester: Any, pipe: Any) -> dict[str, Any]:
    inputs = tester().get_dummy_inputs
    arguments = inputs("cpu") if "device" in inspect.signature(inputs).parameters else inputs()
    return {key: value for key, value in arguments.items() if key not in {"output_type", "return_dict"}}


def images(value: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """Everything in an output that could be an image, with its place."""
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
    """Whether nothing is left of an image: each of its channels is one level."""
    if array.ndim > 2 and array.shape[-1] <= 4:
        return bool(np.ptp(array.reshape(-1, *array.shape[-3:]), axis=(1, 2)).max() == 0)
    planes = array.reshape(-1, *array.shape[-2:])
    return bool(np.ptp(planes, axis=(1, 2)).max() == 0)


def draw(pipe: Any, subject: Subject, way: Way, latents: Any) -> Any:
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


def judge(pipe: Any, subject: Subject, way: Way, latents: Any) -> Iterator[tuple[Result, str]]:
    """How one way of calling fares under a guard that allows all, and under one that blocks all; with what is wrong."""
    try:
        free = dict(images(draw(pipe, subject, way, latents)))
    except Exception as error:  # noqa: BLE001 - diffusers itself does not do this
        yield Result.NOT_CALLED, type(error).__name__
        return
    for score, refused in ((0.0, Result.ALLOWED_REFUSED), (1.0, Result.BLOCKED_REFUSED)):
        try:
            with attach(pipe, Guard(FakeBackend(score))) as attachment:
                out = dict(images(draw(pipe, subject, way, latents)))
                is_fault = any(verdict.outcome is Outcome.ERROR for verdict in attachment.verdicts)
            if score:
                yield _blocked(out, {**subject.call(pipe), "latents": latents})
            elif is_fault and all(np.abs(np.nan_to_num(array, nan=9)).max() > 1.5 for array in free.values()):
                yield Result.NO_IMAGE, ""
            else:
                yield _allowed(free, out, lambda: dict(images(draw(pipe, subject, way, latents))))
        except UncoveredError:
            yield refused, ""
        except Exception as error:  # noqa: BLE001 - whatever it is, it is counted
            yield Result.BROKEN, f"{type(error).__name__}: {error}"


def _allowed(free: dict[str, Any], out: dict[str, Any], again: Callable[[], dict[str, Any]]) -> tuple[Result, str]:
    changed = _apart(free, out)
    if not changed:
        return Result.BIT_FOR_BIT, ""
    return (Result.NOT_REPEATABLE, "") if _apart(free, again()) else (Result.CHANGED, ", ".join(changed))


def _apart(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The places that one output has and the other has not, or has otherwise."""
    both = set(one) & set(other)
    return sorted(
        (set(one) ^ set(other)) | {at for at in both if not np.array_equal(one[at], other[at], equal_nan=True)}
    )


def _blocked(out: dict[str, Any], given: dict[str, Any]) -> tuple[Result, str]:
    handed_in = [array for _, array in images(given)]
    left = {
        at: array
        for at, array in out.items()
        if not is_one_colour(array) and not any(np.array_equal(array, one) for one in handed_in)
    }
    sound = {at for at, array in left.items() if array.ndim == 3 and array.shape[1] <= 2}  # (batch, channels, samples)
    if set(left) - sound:
        return Result.LEAKED, ", ".join(sorted(set(left) - sound))
    return (Result.SOUND if sound else Result.COVERED), ""


def run(subject: Subject) -> Iterator[tuple[Way, Result, str]]:
    """Each way of calling a class, with how it fared."""
    try:
        pipe = subject.build()
    except Exception as error:  # noqa: BLE001 - a class that cannot be built here
        print(f"not built: {subject.name}: {type(error).__name__}: {error}"[:200].replace("\n", " "), flush=True)
        return
    latents = own_latents(pipe, subject)
    noises = ("its own", "latents=") if latents is not None else ("its own",)
    for way in product(KINDS, (True, False), noises):
        for result, why in judge(pipe, subject, way, latents):
            yield way, result, why


def _alarm(*_: Any) -> None:
    raise Late("too late")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkout", type=Path, help="of diffusers: its own tests build more classes")
    parser.add_argument("--only", default="", help="classes whose name holds this")
    parser.add_argument("--start-at", default="", help="only from the class on whose name or place holds this")
    parser.add_argument("--part", default="1/1", help="such as 2/3: every third class, from the second on")
    parser.add_argument("--seconds", type=int, default=240, help="for each class")
    return parser.parse_args()


def main() -> None:
    """Prints how often each outcome came, and every leak; 1 when there is one."""
    args = _arguments()
    part, parts = map(int, args.part.split("/"))
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, _alarm)
    counts, classes, broken = Counter[Result](), set[str](), list[str]()
    subjects = itertools.dropwhile(
        lambda subject: args.start_at not in subject.name, of_checkout(args.checkout) if args.checkout else of_here()
    )
    for number, subject in enumerate(subjects):
        if number % parts != part - 1 or args.only not in subject.name or any(word in subject.name for word in SOUND):
            continue
        signal.alarm(args.seconds)
        try:
            for way, result, why in run(subject):
                counts[result] += 1
                classes |= {re.split("[ /]", subject.name)[0]} if result is not Result.NOT_CALLED else set()
                if result in FAULTS:
                    broken.append(f"{subject.name} {way}: {result.value}: {why}"[:200])
                    print(broken[-1], flush=True)  # also if the search does not come to its end
        except Late:
            counts[Result.LATE] += 1
            broken.append(f"{subject.name}: took over {args.seconds} s: raise --seconds")
        finally:
            signal.alarm(0)
    print(f"\n{len(classes)} classes, {sum(counts.values())} outcomes\n")
    table(("outcome", "times"), [(result.value, counts[result]) for result in Result if counts[result]])
    finish("canary", {"classes": len(classes), "outcomes": {r.name: n for r, n in counts.items()}}, broken)


if __name__ == "__main__":
    main()
