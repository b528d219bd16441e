"""Any timm network as a backend: one forward pass gives the scores and the embedding."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nsfw_guard.backends import weights
from nsfw_guard.backends.base import Label, ModelSpec, Options, is_commit
from nsfw_guard.backends.folder import ARGMAX, config_of, input_of, label_map, read_spec, write_record
from nsfw_guard.backends.selftest import self_test
from nsfw_guard.errors import ConfigError, UnknownNameError, WeightsUnfitError
from nsfw_guard.images import Frames
from nsfw_guard.preprocess import Prepared, Preprocess
from nsfw_guard.scores import Scores, Severity, ViewScores

log = logging.getLogger(__name__)


class TimmBackend:
    """A timm network with its record."""

    def __init__(self, model: nn.Module, spec: ModelSpec, options: Options) -> None:
        self.spec = spec
        self.options = options
        self.preprocess = Preprocess(spec=spec.input, views=options.views, resize=options.resize)
        self.dtype: torch.dtype = options.dtype  # type: ignore[assignment]  # Options made it one
        self.home = torch.device(options.device or "cpu")
        try:
            self._models = {self.home: model.eval().requires_grad_(False).to(self.home, self.dtype)}
        except (AssertionError, NotImplementedError, RuntimeError) as error:
            raise ConfigError(f"the device '{self.home}' cannot be used here: say 'cpu', or leave it out") from error
        self._lock = threading.Lock()
        self._self_test = self_test(self)

    @property
    def width(self) -> int:
        """Numbers in an embedding, read from the network."""
        return int(self._models[self.home].num_features)  # type: ignore[arg-type]

    def score(self, stacks: Sequence[Frames], *, embeddings: bool = False, digests: bool = False) -> list[Scores]:
        """One Scores a frame, in order, over all stacks; the host waits for the device once."""
        device = self._device(stacks)
        prepared = [self.preprocess.prepare(stack) for stack in stacks]
        shown = torch.cat([p.pixels.flatten(0, 1).to(device) for p in prepared])
        with torch.inference_mode():
            logits, features = self.forward(shown)
            probabilities = logits.float().softmax(-1)
            flat = shown.flatten(1)
            blank = (flat.amin(1) == flat.amax(1)).float()
            extremes = [p.extremes.to(device).flatten() for p in prepared if p.extremes is not None]
            numbers = torch.cat([probabilities.flatten(), blank, *extremes]).tolist()
        seen = shown.cpu() if digests else None
        kept = features.clone() if embeddings else None
        return list(self._scores(stacks, prepared, numbers, seen, kept))

    def forward(self, shown: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and embeddings of 8-bit pictures, in batches that the device can hold. Shape: (R, 3, S, S)."""
        step = min(self.options.batch, len(shown))
        while True:
            try:
                parts = [self._pass(shown[i : i + step]) for i in range(0, len(shown), step)]
                logits, features = zip(*parts, strict=True)
                return torch.cat(logits), torch.cat(features)
            except (MemoryError, RuntimeError) as error:
                if step == 1 or not _out_of_memory(error):
                    raise
                step //= 2
                log.warning("out of memory: %s goes on with batches of %d", self.spec.name, step)

    def state(self) -> Mapping[str, str]:
        """What is really in effect."""
        return {
            "self_test": self._self_test,
            "device": str(self.home) if self.options.device else "follows the picture",
            "dtype": str(self.dtype).removeprefix("torch."),
            "resize": self.preprocess.effective(self.home if self.options.device else None),
            "views": self.options.views,
        }

    def save_pretrained(self, folder: Path) -> None:
        """Writes config.json, model.safetensors and our record into a folder that `load` reads."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        tensors = {k: v.detach().cpu().contiguous() for k, v in self._models[self.home].state_dict().items()}
        save_file(tensors, folder / weights.WEIGHTS, metadata={"format": "pt"})
        (folder / weights.CONFIG).write_text(json.dumps(config_of(self.spec, self.width), indent=2) + "\n")
        write_record(folder, self.spec)

    def _device(self, stacks: Sequence[Frames]) -> torch.device:
        return self.home if self.options.device or not stacks else stacks[0].pixels.device

    def _on(self, device: torch.device) -> nn.Module:
        """The network on a device: moved there once, kept where it was."""
        with self._lock:
            if device not in self._models:
                self._models[device] = copy.deepcopy(self._models[self.home]).to(device)
            return self._models[device]

    def whole(self, shown: Tensor) -> Tensor:
        """The network's own logits, from its own forward: what `forward` must give too. Shape: (R, 3, S, S)."""
        with torch.autocast(shown.device.type, enabled=False):
            logits: Tensor = self._on(shown.device)(self.preprocess.normalise(shown).to(self.dtype))
        return logits

    def _pass(self, shown: Tensor) -> tuple[Tensor, Tensor]:
        model: Any = self._on(shown.device)
        # A pipeline may run under autocast; the guard's numbers must not depend on it.
        with torch.autocast(shown.device.type, enabled=False):
            values = self.preprocess.normalise(shown).to(self.dtype)
            features: Tensor = model.forward_head(model.forward_features(values), pre_logits=True)
            logits: Tensor = model.get_classifier()(features)
        return logits, features

    def _scores(
        self,
        stacks: Sequence[Frames],
        prepared: Sequence[Prepared],
        numbers: list[float],
        seen: Tensor | None,
        features: Tensor | None,
    ) -> Iterator[Scores]:
        """The flat list that came from the device, taken apart frame by frame."""
        classes = len(self.spec.labels)
        rows = sum(p.pixels.shape[0] * p.pixels.shape[1] for p in prepared)
        flags = iter(numbers[rows * classes :])
        blank = [next(flags) == 1.0 for _ in range(rows)]
        row = 0
        for stack, made in zip(stacks, prepared, strict=True):
            for _ in range(len(stack)):
                end = row + len(made.views)
                fault = "" if made.extremes is None else stack.fault(next(flags), next(flags))
                chunks = [numbers[r * classes : (r + 1) * classes] for r in range(row, end)]
                yield Scores(
                    tuple(ViewScores(v, self._levels(c)) for v, c in zip(made.views, chunks, strict=True)),
                    embedding=None if features is None else features[row],
                    digest="" if seen is None else hashlib.sha256(seen[row:end].numpy().tobytes()).hexdigest(),
                    blank=all(blank[row:end]),
                    fault=fault,
                )
                row = end

    def _levels(self, probabilities: list[float]) -> dict[str, dict[Severity, float]]:
        """P(severity >= level): sums from the highest level down, so that they can only rise."""
        levels: dict[str, dict[Severity, float]] = {c: dict.fromkeys(ls, 0.0) for c, ls in self.spec.levels.items()}
        for label, p in zip(self.spec.labels.values(), probabilities, strict=True):
            if label is not None:
                for level in levels[label.category]:
                    if level <= label.severity:
                        levels[label.category][level] += p
        # min keeps a NaN that stands first; a sum may pass 1 by a rounding.
        return {c: {level: min(p, 1.0) for level, p in ls.items()} for c, ls in levels.items()}


def load_files(spec: ModelSpec, folder: Path, options: Options) -> TimmBackend:
    """The model whose files are in a folder. What the record says must be what the folder says."""
    config = weights.read_config(folder)
    found = read_spec(folder, labels=dict(spec.labels))
    for what, recorded, read in (
        ("labels", tuple(spec.labels), tuple(found.labels)),
        ("input", spec.input, found.input),
        ("architecture", spec.architecture, found.architecture),
    ):
        if recorded != read:
            raise WeightsUnfitError(f"the {what} of {spec.name!r} changed: recorded {recorded}, the folder says {read}")
    args = dict(spec.model_args)
    if "global_pool" in config:
        args["global_pool"] = config["global_pool"]
    model = _create(spec.architecture, len(spec.labels), args)
    weights.fit(model, weights.read_weights(folder / weights.WEIGHTS, spec.sha256), spec.architecture)
    return TimmBackend(model, spec, options)


def load_hub(spec: ModelSpec, options: Options) -> TimmBackend:
    """A recorded model, from the cache or the hub."""
    return load_files(spec, weights.fetch(spec), options)


def load_repo(rest: str, labels: Mapping[str, str | Label | None] | None, options: Options) -> TimmBackend:
    """Any repository in timm's layout: "owner/name@commit"."""
    repo, _, revision = rest.partition("@")
    if not is_commit(revision):
        raise ConfigError(f"'hf:{rest}' is not pinned: say 'hf:{repo}@<commit>', the 40 letters of its commit")
    named = ModelSpec(
        name=f"hf:{rest}", architecture="", input=input_of({}), labels={"?": Label("?")}, repo=repo, revision=revision
    )
    folder = weights.fetch(named)
    spec = replace(read_spec(folder, labels), name=f"hf:{repo}", repo=repo, revision=revision)
    return load_files(spec, folder, options)


def load_architecture(
    architecture: str, file: str | Path | None, labels: Mapping[str, str | Label | None] | None, options: Options
) -> TimmBackend:
    """A network by its name in timm, with weights and labels of one's own."""
    if file is None or not labels:
        raise ConfigError(
            f"'timm:{architecture}' alone is an untrained network: add weights='model.safetensors' and "
            "labels={'NSFW': 'sexual', 'SFW': None} in the order of its classes"
        )
    model = _create(architecture, len(labels), {})
    spec = ModelSpec(
        name=f"timm:{architecture}",
        architecture=architecture,
        input=input_of(model.pretrained_cfg),  # type: ignore[arg-type]
        labels=label_map(tuple(labels), labels),
        cuts={"default": ARGMAX},
    )
    weights.fit(model, weights.read_weights(Path(file)), architecture)
    return TimmBackend(model, replace(spec, sha256=weights.sha256_of(Path(file))), options)


def _create(architecture: str, classes: int, args: Mapping[str, Any]) -> nn.Module:
    import timm

    name = architecture.partition(".")[0]
    if not timm.is_model(name):
        raise UnknownNameError("timm architecture", name, timm.list_models())
    model: nn.Module = timm.create_model(architecture, pretrained=False, num_classes=classes, **args)
    if not hasattr(model, "forward_head"):
        raise ConfigError(f"{architecture} has no separate head in timm {timm.__version__}: choose another network")
    return model


def _out_of_memory(error: BaseException) -> bool:
    return isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)) or "out of memory" in str(error).lower()
