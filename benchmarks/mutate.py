"""Puts one small fault after the other into the modules that decide, and counts those that the tests notice.

python benchmarks/mutate.py [MODULE ...] [--every N] [--workers N] [--list]

Each fault gets a process of its own, forked from one that has loaded torch and pytest but nothing of this package, and
the tests that must notice it run there until the first one fails; those that noticed earlier faults run first. Nothing
on the disk is changed. A fault that they pass is run against the slower tests too, where there are some. What survives
must be argued for in `argued.py`.
"""

from __future__ import annotations

import argparse
import ast
import gc
import importlib.abc
import importlib.machinery
import importlib.util
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from common import finish, machine, table  # first: it sets the threads

import argued
import hypothesis
import numpy as np
import PIL.Image
import pytest
import torch
from mutants import mutants

ROOT = Path(__file__).parent.parent
WANTED = 0.95  # of the faults of each module must be noticed
ATTACKS = "tests/attacks/test_faults.py"
CONTAINERS, BOMBS = "tests/attacks/test_containers.py", "tests/attacks/test_bombs.py"
PLAYERS = "tests/attacks/test_players.py"
DECODE = "tests/imaging/decode"
LISTENERS = "tests/attacks/test_listeners.py"
# Until the first failure, and without what costs half a second a process: rewritten asserts, collecting garbage.
QUICKLY = ("-x", "-q", "--tb=no", "--assert=plain", "-p", "no:unraisableexception", "-p", "no:threadexception")
SLOWEST = 900  # seconds that the tests of a module may take where there is no fault
MOST_FIRST = 12  # of the tests that noticed most so far, run first
SAMPLED = {"imaging.frames": 3, "imaging.decode": 3, "imaging.appearances": 3}  # 1,100 faults, and slow tests
LOADED = (np, PIL.Image, torch)  # by the one process that is forked


@dataclass(frozen=True)
class Target:
    """The tests that must notice the faults of a module, and slower ones for what these pass."""

    tests: tuple[str, ...]
    slower: tuple[str, ...] = ()


# Paths and `-k` expressions; what takes long is left to the slower ones.
TARGETS = {
    "verdict": Target(("tests/test_verdict.py",), ("tests/test_guard.py", "tests/test_guard_frames.py")),
    "scores": Target(("tests/test_scores.py",), ("tests/test_actions.py", "-k", "region", ATTACKS)),
    "policy.policy": Target(
        ("tests/policy/test_policy.py", "tests/policy/test_policy_properties.py"),
        ("tests/policy/test_toml.py", "tests/test_guard.py"),
    ),
    "guard": Target(
        (
            "tests/test_guard.py",
            "tests/test_guard_frames.py",
            "tests/test_guard_prompts.py",
            LISTENERS,
            "-k",
            "not full_disk and not hangs and not threads",
        ),
        ("tests/test_guard.py", "tests/test_guard_frames.py", "tests/test_guard_folder.py", ATTACKS, "-k", "not strip"),
    ),
    "listeners.base": Target(
        (LISTENERS, "-k", "not full_disk and not saved_guard"), ("tests/test_guard.py", "tests/test_guard_prompts.py")
    ),
    "actions": Target(
        ("tests/test_actions.py", ATTACKS, "-k", "not attempt and not checkerboard and not strip"),
        ("tests/test_actions.py", "-k", "size4 or weak"),
    ),
    "imaging.frames": Target(
        ("tests/imaging/test_frames.py", "tests/imaging/test_channels.py", "tests/imaging/test_arrays.py"),
        ("tests/test_guard.py", "tests/test_guard_frames.py", ATTACKS),
    ),
    "imaging.put_back": Target(
        ("tests/imaging/test_frames.py", "tests/imaging/test_arrays.py"),
        ("tests/test_guard.py", "tests/test_guard_frames.py", "tests/test_actions.py"),
    ),
    "imaging.decode": Target(
        (DECODE, "-k", "not mutated and not random and not bomb and not 3000 and not nothing_but and not quick"),
        (CONTAINERS, BOMBS, PLAYERS, "tests/imaging/test_process.py"),
    ),
    "imaging.appearances": Target(
        ("tests/imaging/test_appearances.py",),
        (DECODE, "-k", "not mutated and not random and not bomb and not 3000", CONTAINERS, BOMBS),
    ),
}


@dataclass
class Score:
    """How a module fared."""

    mutants: int = 0
    killed: int = 0
    argued: int = 0
    survivors: list[str] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Of those that could be noticed at all."""
        return self.killed / max(1, self.mutants - self.argued)


def path_of(module: str) -> Path:
    """Where a module of the package is, by its dotted name."""
    return ROOT.joinpath("nsfw_guard", *module.split(".")).with_suffix(".py")


class Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads one module from a tree instead of from its file."""

    def __init__(self, name: str, path: Path, tree: ast.Module) -> None:
        self.name, self.path, self.tree = name, path, tree

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The spec of that module; of others nothing."""
        return importlib.util.spec_from_file_location(name, self.path, loader=self) if name == self.name else None

    def exec_module(self, module: ModuleType) -> None:
        """Runs the tree."""
        exec(compile(self.tree, str(self.path), "exec"), vars(module))  # noqa: S102  (our own source)


def source(module: str) -> ast.Module:
    """A module's tree."""
    return ast.parse(path_of(module).read_text())


def start(module: str, number: int | None, tests: Sequence[str], folder: str) -> int:
    """Forks a process that runs the tests against one fault, or against none; its exit code says how they went."""
    child = os.fork()
    if child:
        return child
    code = 99
    try:
        os.setsid()
        quiet = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(quiet, fd)
        tree = source(module)
        if number is not None:
            mutants(tree)[number].apply()
        sys.meta_path.insert(0, Changed(f"nsfw_guard.{module}", path_of(module), tree))
        hypothesis.settings.register_profile("mutants", derandomize=True, database=None, deadline=None)
        hypothesis.settings.load_profile("mutants")
        gc.disable()
        code = int(pytest.main([*QUICKLY, f"--basetemp={folder}", *tests], plugins=[Watch(folder)]))
    finally:
        os._exit(code)


class Watch:
    """Writes down which test was the first to fail."""

    def __init__(self, folder: str) -> None:
        self.path = Path(folder + ".first")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self.path.exists():
            self.path.write_text(report.nodeid, encoding="utf-8")


class Crew:
    """A few processes at a time, each with a limit."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.noticed_by = Counter[str]()  # tests, by how many faults each was the first to notice
        self.failed = ""  # the test that ended the last run that a test ended

    def run(self, module: str, numbers: Sequence[int | None], tests: Sequence[str], limit: float) -> dict[int, bool]:
        """By number: whether the tests noticed it. One that hangs is noticed."""
        left, running, noticed = list(numbers), dict[int, tuple[int, float, str]](), dict[int, bool]()
        while left or running:
            while left and len(running) < self.workers:
                folder = tempfile.mkdtemp(prefix="mutant-")
                number = left.pop(0)
                first = [] if number is None else [name for name, _ in self.noticed_by.most_common(MOST_FIRST)]
                pid = start(module, number, [*first, *tests], folder)
                running[pid] = (-1 if number is None else number, time.monotonic() + limit, folder)
            for pid in list(running):
                number, until, folder = running[pid]
                done, status = os.waitpid(pid, os.WNOHANG)
                if not done and time.monotonic() < until:
                    continue
                if not done:
                    os.killpg(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                noticed[number] = not (done and os.waitstatus_to_exitcode(status) == 0)
                del running[pid]
                self._learn(Path(folder + ".first"), count=number >= 0)
                shutil.rmtree(folder, ignore_errors=True)
            time.sleep(0.01)
        return noticed

    def _learn(self, path: Path, *, count: bool) -> None:
        if path.exists():
            self.failed = path.read_text(encoding="utf-8")
            self.noticed_by[self.failed] += count
            path.unlink()


def judge(module: str, crew: Crew, every: int) -> Score:
    """One in `every` faults of a module against its tests."""
    target, faults = TARGETS[module], mutants(source(module))
    numbers = list(range(0, len(faults), every))
    survivors: list[int] = numbers
    crew.noticed_by.clear()
    for tests in (target.tests, target.slower):
        if tests and survivors:
            begun, crew.failed = time.monotonic(), ""
            if crew.run(module, [None], tests, SLOWEST)[-1]:
                raise SystemExit(
                    f"without any fault the tests of {module} fail, or take over {SLOWEST} s: mend them first "
                    f"({crew.failed or ' '.join(tests)})"
                )
            limit = 10 + 6 * (time.monotonic() - begun)
            noticed = crew.run(module, survivors, tests, limit)
            survivors = [number for number in survivors if not noticed[number]]
    score = Score(len(numbers), len(numbers) - len(survivors))
    called = names(module)
    for number in survivors:
        if called[number] in argued.EQUIVALENT:
            score.argued += 1
        else:
            score.survivors.append(f"{path_of(module).relative_to(ROOT)}:{faults[number].line} {faults[number].change}")
    return score


def names(module: str) -> list[str]:
    """What the faults of a module are called, in order: that stays when lines move. Equal ones are numbered."""
    seen, result = Counter[str](), []
    for mutant in mutants(source(module)):
        name = f"{module}.{mutant.where}: {mutant.change}"
        seen[name] += 1
        result.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return result


def main() -> None:
    """Prints a row for each module and every survivor by name; 1 when too many survive, or one that nobody argued."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", default=list(TARGETS), help="those to put faults into; all unless said")
    parser.add_argument(
        "--every", type=int, help="one fault in so many (default: all; of those that read files, a third)"
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--list", action="store_true", help="print the faults by their names, and run nothing")
    args = parser.parse_args()
    if args.list:
        for module in args.modules:
            print("\n".join(names(module)))
        return
    os.chdir(ROOT)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    sys.path.insert(0, str(ROOT))
    if any(name.split(".")[0] == "nsfw_guard" for name in sys.modules):
        raise SystemExit("nsfw_guard is loaded already: its modules could not be exchanged")
    print(machine() + "\n", flush=True)
    gc.freeze()
    crew, rows, scores = Crew(args.workers), [], {}
    for module in args.modules:
        begun = time.monotonic()
        scores[module] = score = judge(module, crew, args.every or SAMPLED.get(module, 1))
        took = f"{(time.monotonic() - begun) / 60:.1f} min"
        counts = score.mutants, score.killed, score.argued, len(score.survivors)
        rows.append((module, *counts, f"{score.share:.1%}", took))
        print(f"{module}: {score.killed} of {score.mutants}, {took}", *score.survivors, sep="\n  ", flush=True)
    print()
    table(("module", "faults", "noticed", "argued", "survivors", "noticed of the rest", "took"), rows)
    known = {name for module in args.modules for name in names(module)}
    gone = [name for name in argued.EQUIVALENT if name.split(".")[0] in args.modules and name not in known]
    broken = [f"{m}: {s.share:.1%} noticed, {WANTED:.0%} wanted" for m, s in scores.items() if s.share < WANTED]
    broken += [f"{m}: {len(s.survivors)} survivors that nobody argued for" for m, s in scores.items() if s.survivors]
    broken += [f"argued for, and no longer there: {name}" for name in gone]
    payload = {m: {"faults": s.mutants, "noticed": s.killed, "argued": s.argued} for m, s in scores.items()}
    finish("mutate", {"modules": payload}, broken)


if __name__ == "__main__":
    main()
