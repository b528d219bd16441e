"""Writes the files of an export, compares it, and lets the folder load itself."""

from __future__ import annotations

import shutil
from dataclasses import replace
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from nsfw_guard.backends.files.folder import write_record
from nsfw_guard.backends.files.ir_file import IR, IR_WEIGHTS
from nsfw_guard.backends.files.onnx_file import hashes_of
from nsfw_guard.backends.files.weights import sha256_of
from nsfw_guard.backends.nets.exported import ONNX
from nsfw_guard.backends.nets.network import NetBackend
from nsfw_guard.backends.nets.openvino_model import quiet_openvino
from nsfw_guard.backends.registry import load_model
from nsfw_guard.backends.spec import ModelSpec
from nsfw_guard.errors import ConfigError, SelfTestError
from nsfw_guard.tools.exporting.card import versions
from nsfw_guard.tools.exporting.columns import columns_of, lowered
from nsfw_guard.tools.exporting.deviation import preprocessing_parity
from nsfw_guard.tools.exporting.formats.onnx_export import OPSET, needs_onnx, write_onnx
from nsfw_guard.tools.exporting.formats.openvino_export import write_ir
from nsfw_guard.tools.exporting.formats.reduced import Reduce, to_dynamic, to_half, to_weights_only
from nsfw_guard.tools.exporting.formats.torch_export import NOTES, write_torch
from nsfw_guard.tools.exporting.pack import inputs_of, steered
from nsfw_guard.tools.exporting.parity import Answer, compare, refusal, why_refused
from nsfw_guard.tools.exporting.preprocessing import add_preprocessing
from nsfw_guard.tools.exporting.result import ExportResult, Parity
from nsfw_guard.tools.exporting.wanted import LOADED, Wanted
from nsfw_guard.verdict import SelfTest

WITH_PREPROCESSING, SCRATCH = "model-with-preprocessing.onnx", "scratch.onnx"
ROUNDED = (
    "sessions of ONNX Runtime that are not opened by load_model need session.qdq_matmulnbits_accuracy_level=1: by "
    "default they would round activations, too"
)
# The ways to reach a precision, tried in order. OpenVINO rounds to float16 itself while it writes.
WAYS: dict[tuple[str, str], dict[str, Reduce | None]] = {
    ("onnx", "fp16"): {"float16": to_half},
    ("onnx", "int8"): {"dynamic": to_dynamic, "weights-only": to_weights_only},
    ("openvino", "fp16"): {"float16 weights": None},
    ("openvino", "int8"): {"weights-only": to_weights_only},
}


def write_network(model: NetBackend, part: Path, wanted: Wanted) -> ExportResult:
    """Write configuration, network and record into a folder, and return what was measured.

    Raises:
        SelfTestError: the export gives other verdicts.
    """
    model.net.save(part, model.spec)
    return (_loaded if wanted.target in LOADED else _torch)(model, part, wanted)


def _loaded(model: NetBackend, part: Path, wanted: Wanted) -> ExportResult:
    """A network that `load_model` runs, in the first way to its precision that passes."""
    needs_onnx()
    if wanted.target == "openvino":
        quiet_openvino()
    for path in part.glob("*.safetensors*"):
        path.unlink()
    write_onnx(model, part / ONNX)
    ways = WAYS.get((wanted.target, wanted.precision), {"": None})
    if any(ways.values()):
        shutil.copyfile(part / ONNX, part / SCRATCH)
    tried: dict[str, Parity] = {}
    for way, reduce in ways.items():
        if reduce is not None:
            shutil.copyfile(part / SCRATCH, part / ONNX)
            reduce(part / ONNX)
        record = _recorded(model, part, wanted)
        export = _load(part, record, wanted)
        tried[way] = _compared(model, _answer(export), wanted)
        if not why_refused(tried[way], wanted.precision):
            (part / SCRATCH).unlink(missing_ok=True)
            return _finished(model, part, wanted, record, way, tried[way])
    raise refusal(f"{model.spec.name!r} in {wanted.target}, {wanted.precision}", tried, wanted.precision)


def _finished(
    model: NetBackend, part: Path, wanted: Wanted, record: ModelSpec, way: str, parity: Parity
) -> ExportResult:
    """The record with lowered thresholds and the export's own answers, by which the folder is loaded once more."""
    thresholds = lowered(record.thresholds, parity.margin, wanted.precision)
    record = replace(record, thresholds=thresholds)
    export = _load(part, record, wanted)
    record = replace(record, known_answers=export.known_answers())
    _tested(_load(part, record, wanted), model)
    files, preprocessing = dict(record.hashes), None
    if wanted.with_preprocessing:
        graph = part / WITH_PREPROCESSING
        add_preprocessing(part / ONNX, graph, record.net_input, len(record.labels))
        preprocessing = preprocessing_parity(export, graph, part / SCRATCH, OPSET)
        files[graph.name] = sha256_of(graph)
    return ExportResult(
        folder=part, model=record.name, source=model.spec.name, target=wanted.target, precision=wanted.precision,
        method=way, opset=OPSET, files=files, bytes=sum((part / name).stat().st_size for name in files),
        parity=parity, preprocessing=preprocessing, versions=versions(),
        notes=(ROUNDED,) if (wanted.target, way) == ("onnx", "weights-only") else (),
    )  # fmt: skip


def _recorded(model: NetBackend, part: Path, wanted: Wanted) -> ModelSpec:
    """The record of the network that was written, still without answers."""
    if wanted.target == "openvino":
        left = list(hashes_of(part, ONNX))
        write_ir(part / ONNX, half=wanted.precision == "fp16")
        for name in left:
            (part / name).unlink()
        hashes = {name: sha256_of(part / name) for name in (IR, IR_WEIGHTS)}
    else:
        hashes = hashes_of(part, ONNX)
    name = model.spec.name if wanted.precision == "fp32" else f"{model.spec.name}-{wanted.precision}"
    return replace(model.spec, name=name, hashes=hashes, known_answers={})


def _torch(model: NetBackend, part: Path, wanted: Wanted) -> ExportResult:
    """A file for torch, beside the weights that `load_model` reads in its place."""
    record = replace(model.spec, hashes={}, known_answers=model.known_answers())
    _tested(_load(part, record, wanted), model)
    path, call = write_torch(model, part, wanted.target)
    parity = _compared(model, lambda shown: model.to_probabilities(call(model.preprocess.normalise(shown))[0]), wanted)
    if why_refused(parity, wanted.precision):
        raise refusal(f"{record.name!r} in {wanted.target}", {"": parity}, wanted.precision)
    return ExportResult(
        folder=part, model=record.name, source=model.spec.name, target=wanted.target, precision=wanted.precision,
        method="", opset=0, files={path.name: sha256_of(path)}, bytes=path.stat().st_size, parity=parity,
        preprocessing=None, versions=versions(), notes=NOTES[wanted.target],
    )  # fmt: skip


def _compared(model: NetBackend, export: Answer, wanted: Wanted) -> Parity:
    columns = columns_of(model.spec)
    inputs = chain(inputs_of(model, wanted.images, wanted.parity), steered(model, columns))

    def answer(shown: Tensor) -> Tensor:
        with torch.inference_mode():
            return export(shown)

    return compare(_answer(model), answer, inputs, columns, exact=wanted.precision == "fp32")


def _answer(backend: NetBackend) -> Answer:
    def answer(shown: Tensor) -> Tensor:
        with torch.inference_mode():
            return backend.to_probabilities(backend.forward_with_embedding(shown)[0])

    return answer


def _load(part: Path, record: ModelSpec, wanted: Wanted) -> NetBackend:
    """Write the record, and load the folder as its users will."""
    write_record(part, record)
    backend = load_model(part, trust_guard=wanted.trust_guard)
    assert isinstance(backend, NetBackend)  # noqa: S101  (folders of these kinds are networks)
    return backend


def _tested(export: NetBackend, model: NetBackend) -> None:
    """Raise an error when the folder does not say what the model's record says, or its self-test did not compare."""
    for what, says, wanted in (
        ("input", export.spec.input, model.spec.input), ("labels", export.spec.labels, model.spec.labels),
    ):  # fmt: skip
        if says != wanted:
            raise ConfigError(
                f"the {what} of {model.spec.name!r} cannot be written into a folder: expected {wanted}, it would be "
                f"read as {says}. Export a model whose folder says it"
            )
    if export.state()["self_test"] != SelfTest.PASSED.value:
        raise SelfTestError(f"the self-test of {export.spec.name!r} compared no answers: export it again")
