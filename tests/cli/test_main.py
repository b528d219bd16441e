"""Exit codes, wrong usage, and what is said in one line."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from nsfw_guard.version import __version__
from tests.cli.conftest import CODES, Run, paint


@pytest.mark.parametrize(
    ("fail_on", "outcome", "code"), [(f, o, code) for f, table in CODES.items() for o, code in table.items()]
)
def test_the_exit_code_is_what_the_help_says(fail_on: str, outcome: str, code: int, run: Run, tmp_path: Path) -> None:
    path = paint(tmp_path / "a.png", outcome)
    assert run("check", path, "--model", "red", "--fail-on", fail_on).code == code
    assert run("check", path, "--model", "red", "--fail-on", fail_on, "--json").code == code


@pytest.mark.parametrize(("fail_on", "code"), [("review", 2), ("block", 2), ("error", 2)])
def test_the_worst_of_several_images_counts(fail_on: str, code: int, run: Run, folder: Path) -> None:
    assert run("check", folder, "--model", "red", "--fail-on", fail_on).code == code


def test_by_default_check_fails_on_a_block(run: Run, tmp_path: Path) -> None:
    for outcome, code in CODES["block"].items():
        assert run("check", paint(tmp_path / "a.png", outcome), "--model", "red").code == code


def test_the_help_lists_every_code(run: Run) -> None:
    shown = run("--help")
    assert shown.code == 0
    for code in ("0", "1", "2", "3", "130"):
        assert f"\n  {code} " in shown.out


CANNOT = [
    (["check", "{in}/none.png"], "does not exist: check the path"),
    (["check", "{in}", "--model", "redd"], "did you mean 'red'"),
    (["check", "{in}", "--model", "{in}"], "has no config.json"),
    (["check", "{in}", "--model", "red", "--policy", "strickt"], "did you mean 'strict'"),
    (["check", "{in}", "--model", "red", "--policy", "{in}/none.toml"], "the policy file 'none.toml' does not exist"),
    (["check", "{in}", "--model", "red", "--policy", "{unfit}"], "the model does not score"),
    (["check", "{in}", "--model", "red", "--batch", "0"], "--batch must be at least 1, got 0"),
    (["check", "{in}", "--model", "red", "--timeout", "0"], "timeout must be seconds"),
    (["check", "{in}", "--model", "red", "--timeout", "nan"], "timeout must be seconds"),
    (
        ["check", "{in}", "--model", "red", "--audit", "{in}/none/log"],
        "the audit log must be a file in an existing folder",
    ),
    (["check", "{in}", "--model", "red", "--out", "{in}/allow.png"], "nsfw-guard: "),
    (["check", "{in}", "--model", "{loose}"], "the threshold 'default' is 1"),
    (["check", "{in}", "--model", "{tiny}", "--views", "covers"], "did you mean 'cover'"),
    (["check", "{in}", "--model", "{tiny}", "--device", "gpu"], "unknown device 'gpu'"),
    (["check", "{empty}", "--model", "red"], "no image found under"),
    (["evaluate", "--harmless", "{in}/none", "--model", "red"], "does not exist: check the path"),
    (["evaluate", "--harmless", "-", "--model", "red"], "standard input cannot be measured with"),
    (["evaluate", "--harmless", "{empty}", "--model", "red"], "no image found under"),
    (["evaluate", "--harmless", "{in}", "--model", "redd"], "did you mean 'red'"),
    (["evaluate", "--harmless", "{in}", "--model", "red", "--worst", "0"], "--worst must be at least 1, got 0"),
    (["evaluate", "--harmless", "{in}", "--model", "red", "--batch", "0"], "--batch must be at least 1, got 0"),
    (["evaluate", "--harmless", "{in}", "--model", "red", "--out", "{in}/out"], "is in the measured folder"),
    (
        ["evaluate", "--harmless", "{in}", "--model", "red", "--out", "{in}/../in/allow.png/x"],
        "is in the measured folder",
    ),
    (["evaluate", "--harmless", "{in}", "--model", "{loose}"], "the threshold 'default' is 1"),
    (["evaluate", "{in}", "--model", "red"], "is in no folder that names a label"),
    (["evaluate", "{labelled}", "--model", "red", "--out", "{labelled}/out"], "is in the measured folder"),
    (["evaluate", "{labelled}", "--model", "{tiny}"], "the label 'red' of"),
    (["evaluate", "{labelled}", "--model", "red", "--label", "x"], "write LABEL=CATEGORY"),
    (["evaluate", "{labelled}", "--model", "red", "--slice", "style"], "folders have no columns, give a list"),
    (["evaluate", "{list}", "--model", "red"], "row 1 of list.csv has no texts 'path' and 'label'"),
    (["evaluate", "{labelled}", "--model", "red", "--calibration", "{shapes}"], "was fitted on 'demo-shapes'"),
    (["evaluate", "{labelled}", "--model", "red", "--draw", "5"], "--draw is of no use here: it is for another use"),
    (["evaluate", "{labelled}", "--model", "red", "--policy-swap", "red"], "write CATEGORY=RULE"),
    (["evaluate", "{labelled}", "--model", "red", "--policy-swap", "red=a"], "does not go by written rules"),
    (
        ["evaluate", "--harmless", "{in}", "--model", "red", "--parity"],
        "--parity is of no use here: it is for another use",
    ),
    (["evaluate", "--harmless", "{in}", "--model", "red", "--sheet", "hidden"], "cannot hide anything: write blurred"),
    (["evaluate", "--estimate-recall", "{in}", "--draw", "5"], "plan.jsonl' cannot be read"),
    (["evaluate", "--estimate-recall", "{scan}"], "needs --draw N for a sample, or --labels FILE"),
    (
        ["evaluate", "--estimate-recall", "{scan}", "--draw", "5", "--model", "red"],
        "--model is of no use here: the scan",
    ),
    (["evaluate", "--estimate-recall", "{scan}", "--labels", "a", "--sheet", "none"], "--sheet is of no use here"),
    (["evaluate", "--estimate-recall", "{scan}", "--draw", "0"], "--draw must be at least 1, got 0"),
    (["evaluate", "--estimate-recall", "{scan}", "--labels", "{list}"], "list.csv is no sample of a scan"),
    (["scan", "{in}/none", "--out", "{empty}", "--model", "red", "--format", "csv"], "does not exist: check the path"),
    (["scan", "{empty}", "--out", "{out}", "--model", "red", "--format", "csv"], "the sources hold no image"),
    (["scan", "{in}", "--out", "{out}", "--model", "redd"], "did you mean 'red'"),
    (["scan", "{in}", "--out", "{out}", "--model", "red", "--batch", "0"], "must be 1 or more"),
    (["scan", "{in}", "--out", "{out}", "--model", "red", "--workers", "0"], "must be 1 or more"),
    (["scan", "{in}", "--out", "{out}", "--engine", "shards"], "shards need RANK, WORLD_SIZE, LOCAL_RANK"),
    (["scan", "{in}", "--out", "{out}", "--ray-address", "auto"], "is of no use to the engine 'local'"),
    (["scan", "{in}", "--out", "{nothing}", "--model", "red"], "nsfw-guard: "),
    (["scan", "{in}", "--out", "{out}", "--model", "{loose}"], "the threshold 'default' is 1"),
    (
        ["check", "{in}", "--model", "red", "--bank", "{in}"],
        "cannot be read (No such file or directory): bring it back",
    ),
    (["bank", "test", "{empty}", "{in}", "--model", "red"], "bank.json in 'empty' cannot be read"),
    (["bank", "test", "{bank}", "{in}/allow.png", "--model", "broken"], "nsfw-guard: "),
    (["bank", "list", "{empty}"], "bank.json in 'empty' cannot be read"),
    (["bank", "remove", "{bank}", "zz"], "the bank has no example 'zz'"),
    (["bank", "add", "{bank}", "{in}", "--model", "red", "--block", "--reason", " "], "needs a reason"),
    (["bank", "ordinary", "{bank}", "{in}", "--model", "red", "--budget", "0"], "above 0 and below 0.5"),
    (["bank", "import", "{bank}", "{in}/allow.png", "--block", "--reason", "r"], "cannot be read"),
    (["replay", "{in}"], "holds no scan"),
    (["replay", "{scan}", "--flips", "{in}/allow.png"], "is there already: name a new file"),
    (["replay", "{scan}", "--calibration", "{calibration}"], "the calibration is of 'red'"),
    (["replay", "{scan}", "--decisions", "{list}"], "it needs key and decision"),
    (["policy", "diff", "strict", "strickt"], "did you mean 'strict'"),
    (["compare-models", "red", "redd", "--on", "{in}"], "did you mean 'red'"),
    (["compare-models", "red", "red", "--on", "{empty}"], "no image found under"),
    (["compare-models", "red", "red", "--on", "{in}", "--batch", "0"], "--batch must be at least 1"),
    (["compare-models", "red", "{loose}", "--on", "{in}"], "the threshold 'default' is 1"),
    (["compare-models", "red", "red", "--on", "{in}", "--calibration-b", "{shapes}"], "demo-shapes"),
    (["verify", "redd"], "did you mean 'red'"),
    (["verify", "{tiny}"], "belong into its own record"),
    (["verify", "marqo"], "nsfw-guard fetch marqo"),
    (["verify", "red"], "is no network of its own"),
    (["verify", "red", "--forget", "--weights", "{tiny}"], "leave --weights out"),
    (["finetune", "{labelled}", "--out", "{in}", "--model", "{tiny}", "--label", "red=x"], "is there already"),
    (["finetune", "{labelled}", "--out", "{labelled}/x", "--model", "{tiny}"], "is inside the source"),
    (["finetune", "{labelled}", "--out", "{out}", "--model", "demo-shapes"], "the label 'red' means nothing yet"),
    (["finetune", "{labelled}", "--out", "{out}", "--model", "red"], "'red' cannot be taught"),
    (["finetune", "{labelled}", "--out", "{out}", "--model", "{loose}"], "the threshold 'default' is 1"),
    (
        ["finetune", "{labelled}", "--out", "{out}", "--model", "{tiny}", "--epochs", "2"],
        "--epochs is for --train last and full",
    ),
    (
        ["finetune", "{labelled}", "--out", "{out}", "--model", "{tiny}", "--train", "full", "--blocks", "1"],
        "--blocks is",
    ),
    (
        ["finetune", "{labelled}", "--out", "{out}", "--model", "{tiny}", "--batch", "0"],
        "batch_size must be at least 1",
    ),
    (["finetune", "{labelled}", "--out", "{out}", "--model", "{tiny}", "--size", "9"], "are for an architecture"),
    (
        ["finetune", "{labelled}", "--out", "{out}", "--model", "timm:nothing", "--train", "full", "--label", "red=x"],
        "unknown timm architecture 'nothing'",
    ),
    (
        ["finetune", "{labelled}", "--out", "{out}", "--model", "{tiny}", "--train", "full", "--vary", "x"],
        "unknown way",
    ),
    (["finetune", "{labelled}", "--out", "{out}", "--model", "{tiny}", "--label", "x"], "must be LABEL=CATEGORY"),
    (["finetune", "{in}", "--out", "{out}", "--model", "demo-shapes"], "is in no folder that names a label"),
    (["calibrate", "{labelled}", "--out", "{in}", "--model", "red"], "is not empty: name a new folder"),
    (["calibrate", "{labelled}", "--out", "{out}", "--model", "dull"], "all images have the same score"),
    (["calibrate", "{labelled}", "--out", "{out}", "--model", "red", "--batch", "0"], "--batch must be at least 1"),
    (["calibrate", "{labelled}", "--out", "{out}", "--model", "red", "--misses", "0.01"], "needs 299 independent"),
    (["calibrate", "{labelled}", "--out", "{out}", "--model", "red", "--label", "x"], "write LABEL=CATEGORY"),
    (["calibrate", "{labelled}", "--out", "{out}", "--model", "{tiny}"], "the label 'red' of"),
    (["calibrate", "{labelled}", "--out", "{out}", "--model", "{loose}"], "the threshold 'default' is 1"),
    (["calibrate", "{in}", "--out", "{out}", "--model", "red"], "is in no folder that names a label"),
    (["index", "build", "{index2}", "{in}"], "holds no part of a scan"),
    (["index", "build", "{index}", "{scan}"], "is not empty: name a new folder"),
    (["index", "search", "{in}", "{in}"], "holds no index"),
    (["index", "search", "{index}", "{in}/allow.png", "--k", "0"], "k must be 1 or more"),
    (["index", "search", "{index}", "{in}/allow.png", "--where", "colour=red"], "write outcome=VALUE"),
    (["index", "search", "{index}", "{in}/allow.png", "--model", "demo-shapes-graded"], "cannot be compared"),
    (["index", "remove", "{index}", "nowhere.png"], "has none of these keys"),
    (["index", "stats", "{in}"], "holds no index"),
    (["index", "build", "{index2}", "{scan}", "--store", "milvus"], "'milvus' is at an address"),
    (["index", "build", "http://127.0.0.1:1", "{scan}"], "'exact' is at a folder"),
    (["index", "clusters", "{index}", "--least", "2"], "must be above 0 and at most 1"),
    (["index", "clusters", "{index}", "--html", "{in}/allow.png"], "must be a .html file"),
    (["index", "search", "{index}", "{in}", "--html", "{in}/none/a.html"], "must be a .html file"),
    (["export", "redd", "--to", "onnx", "--out", "{out}"], "did you mean 'red'"),
    (["export", "red", "--to", "onnx", "--out", "{out}"], "'red' cannot be exported: its kind is"),
    (["export", "{loose}", "--to", "onnx", "--out", "{out}"], "the threshold 'default' is 1"),
    (["export", "{tiny}", "--to", "onnx", "--out", "{in}"], "is not an empty folder: name a new one"),
    (["export", "{tiny}", "--to", "onnx", "--out", "{out}/none/a"], "is no folder: make it"),
    (["export", "{tiny}", "--to", "aoti", "--precision", "int8", "--out", "{out}"], "aoti is exported in fp32 only"),
    (["export", "{tiny}", "--to", "openvino", "--with-preprocessing", "--out", "{out}"], "is for --to onnx"),
    (["export", "{tiny}", "--to", "onnx", "--images", "0", "--out", "{out}"], "must be at least 1, got 0"),
    (
        ["export", "{tiny}", "--to", "torchscript", "--parity", "{in}", "--images", "1", "--out", "{out}"],
        "error.png cannot be compared",
    ),
    (["convert", "{in}", "--to", "npy", "{out}"], "plan.jsonl' cannot be read"),
    (["convert", "{scan}", "--to", "npy", "{in}"], "is there already: name a new one"),
    (["convert", "{scan}", "--to", "npy", "{scan}/npy"], "is in the folder of the scan"),
    (["convert", "{scan}", "--to", "parquet", "{out}/none/a.parquet"], "is no folder: make it"),
    (["convert", "{scan}", "--to", "npy", "{out}", "--url-prefix", "/"], "is of no use to 'npy'"),
    (["watch", "{in}/none", "--model", "red"], "is not a folder: name the one to guard"),
    (["watch", "{in}", "--model", "red", "--mode", "move"], "needs a quarantine"),
    (["watch", "{in}", "--model", "red", "--quarantine", "{out}"], "takes no quarantine"),
    (["watch", "{in}", "--model", "red", "--mode", "move", "--quarantine", "{in}"], "is in the watched folder"),
    (["watch", "{in}", "--model", "red", "--settled", "-1"], "--settled must be seconds from 0"),
    (["watch", "{in}", "--model", "red", "--interval", "nan"], "--interval must be seconds from 0"),
    (["watch", "{in}", "--model", "{loose}", "--once"], "the threshold 'default' is 1"),
    (["report", "{in}"], "holds no scan"),
    (["fetch", "redd"], "did you mean 'red'"),
    (["policy", "show", "strickt"], "did you mean 'strict'"),
    (["policy", "show", "strict", "--model", "redd"], "did you mean 'red'"),
    (["policy", "explain", "{unfit}"], "the model does not score"),
    (["audit", "verify", "{in}/none"], "the log cannot be read"),
    (["audit", "verify", "{log}", "--key-file", "{in}/none"], "the key file cannot be read"),
    (["audit", "verify", "{log}", "--key-file", "{nothing}"], "the key file is empty"),
    (["audit", "verify", "{log}", "--head", "{in}/none"], "the kept head cannot be read"),
    (["audit", "verify", "{log}", "--head", "{nothing}"], "the kept head cannot be read"),
]
MISUSED = [
    [], ["judge"], ["check"], ["check", "{in}", "--speed", "9"], ["check", "{in}", "--action", "raise"],
    ["check", "{in}", "--fail-on", "allow"], ["check", "{in}", "--resize", "exactly"],
    ["check", "{in}", "--batch", "many"], ["check", "{in}", "--timeout", "soon"], ["check", "{in}", "--model"],
    ["policy"], ["policy", "show"], ["policy", "diff", "strict"],
    ["replay"], ["audit"], ["audit", "verify"], ["fetch"], ["models", "red", "dull"],
    ["doctor", "--fix"], ["scan"], ["scan", "{in}"], ["index", "build", "{in}", "{in}", "--store", "zvec"],
    ["export"], ["export", "{tiny}", "--out", "{out}"], ["export", "{tiny}", "--to", "onnx"],
    ["export", "{tiny}", "--to", "tflite", "--out", "{out}"],
    ["convert", "{scan}", "{out}"], ["convert", "{scan}", "--to", "csv", "{out}"], ["convert", "--to", "npy", "{scan}"],
    ["scan", "{in}", "--out", "{out}", "--engine", "spark"],
    ["scan", "{in}", "--out", "{out}", "--copy", "{out}", "--move", "{out}"], ["evaluate"],
    ["evaluate", "--model", "red"], ["evaluate", "{labelled}", "--harmless", "{in}"],
    ["evaluate", "--harmless", "{in}", "--estimate-recall", "{scan}"], ["evaluate", "--policy-swap", "a=b"],
    ["finetune", "{labelled}"], ["calibrate", "{labelled}"],
    ["calibrate", "{labelled}", "--out", "{out}", "--misses", "0.1", "--alarms", "0.1"], ["bank"],
    ["bank", "add", "{bank}", "{in}", "--reason", "r"],
    ["bank", "add", "{bank}", "{in}", "--block"], ["bank", "import", "{bank}", "{hashes}", "--reason", "r"],
]  # fmt: skip


@pytest.mark.parametrize(("argv", "said"), CANNOT, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_a_command_that_cannot_run_exits_with_3_and_one_line(argv: list[str], said: str, run: Run, filled: Any) -> None:
    ran = run(*filled(argv))
    assert (ran.code, ran.out) == (3, "")
    assert ran.err.startswith("nsfw-guard: ")
    assert ran.err.count("\n") == 1
    assert said in ran.err


@pytest.mark.parametrize("argv", MISUSED, ids=" ".join)
def test_wrong_usage_exits_with_3_and_the_usage(argv: list[str], run: Run, filled: Any) -> None:
    ran = run(*filled(argv))
    assert (ran.code, ran.out) == (3, "")
    assert ran.err.startswith("usage: nsfw-guard")


def test_the_bare_command_prints_its_help(run: Run) -> None:
    ran = run()
    assert (ran.code, ran.out) == (3, "")
    assert "judge files, folders or standard input" in ran.err


def test_an_interrupt_exits_with_130(run: Run, folder: Path) -> None:
    ran = run("check", folder, "--model", "interrupted")
    assert (ran.code, ran.out, ran.err) == (130, "", "nsfw-guard: interrupted\n")


def test_an_unexpected_error_exits_with_3_not_with_the_code_of_a_block(run: Run, folder: Path) -> None:
    ran = run("check", folder, "--model", "unbuildable")
    assert (ran.code, ran.out) == (3, "")
    assert ran.err == "nsfw-guard: RuntimeError: no such\\ndevice (--verbose shows the traceback)\n"
    logging.getLogger().handlers = []
    assert "Traceback" in run("-v", "check", folder, "--model", "unbuildable").err


def test_the_version_is_printed(run: Run) -> None:
    ran = run("--version")
    assert (ran.code, ran.out, ran.err) == (0, f"nsfw-guard {__version__}\n", "")
