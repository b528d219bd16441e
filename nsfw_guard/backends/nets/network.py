"""A network as a backend: one forward pass for scores and embedding, and one wait for the device."""

from __future__ import annotations

import copy
import hashlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from nsfw_guard.backends.base import Options
from nsfw_guard.backends.batches import in_batches
from nsfw_guard.backends.files.folder import write_record
from nsfw_guard.backends.selftest import TOLERANCE, by_label, canaries, compare, more_images
from nsfw_guard.backends.spec import ModelSpec
from nsfw_guard.errors import ConfigError, ImageError, SelfTestError
from nsfw_guard.imaging.frames import Frames
from nsfw_guard.imaging.preprocess import Prepared, Preprocess
from nsfw_guard.imaging.views import plan
from nsfw_guard.scores import Fixed, Scores, Severity, View, ViewScores


class Net(nn.Module):
    """A network of any library, as a backend runs it. The self-test compares `forward` and `forward_with_embedding`.

    Attributes:
        width: size of an embedding, read from the network; 0 where it has none.
        extra_score_names: one name for each column of `extra_scores`.
        state_notes: further keys and values for `state()`.
        runtime: the name of the runtime, for the state.
        hashes: hashes of the files that `save` writes, for an exported network.
    """

    width: int
    extra_score_names: tuple[str, ...] = ()
    state_notes: Mapping[str, str] = {}
    runtime: str = "torch"
    hashes: Mapping[str, str] = Fixed()

    def forward_with_embedding(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the network's numbers, and the embedding that they are computed from. Shape: (R, K), (R, width)."""
        raise NotImplementedError

    def forward(self, values: Tensor) -> Tensor:
        """Return the network's numbers from its own forward. Shape: (R, K)."""
        raise NotImplementedError

    def to_probabilities(self, numbers: Tensor) -> Tensor:
        """Return a probability for each label of the record, in float32. Shape: (R, labels)."""
        return numbers.float().softmax(-1)

    def extra_scores(self, numbers: Tensor) -> Tensor:
        """Return further numbers, one for each of `extra_score_names`. Shape: (R, names)."""
        return numbers.new_empty(len(numbers), 0).float()

    def save(self, folder: Path, spec: ModelSpec) -> None:
        """Write configuration and weights in the layout of the network's library."""
        raise ConfigError(f"{spec.name!r} cannot be saved: use the folder that it was loaded from")

    def with_head(self, names: Sequence[str], rows: Sequence[int | None]) -> Net:
        """Return a copy with a head for other classes.

        Args:
            names: of the classes.
            rows: for each class the row of this head that it begins with; None for zeros.
        """
        raise ConfigError(
            f"{type(self).__name__} cannot be taught: choose an image classifier in the layout of timm or transformers"
        )

    def head(self) -> nn.Linear:
        """Return the last layer, which turns an embedding into the network's numbers."""
        raise ConfigError(f"{type(self).__name__} has no last layer that could be taught: choose another model")


def fill_head(head: nn.Linear, before: nn.Linear, rows: Sequence[int | None]) -> None:
    """Give a new last layer the rows of another one; rows that are new begin with zeros and the lowest bias."""
    with torch.no_grad():
        head.weight.zero_()
        if head.bias is not None:
            head.bias.fill_(0.0 if before.bias is None or all(row is None for row in rows) else before.bias.min())
        for at, row in enumerate(rows):
            if row is not None:
                head.weight[at] = before.weight[row]
                if head.bias is not None and before.bias is not None:
                    head.bias[at] = before.bias[row]


class NetBackend:
    """A network with its record."""

    def __init__(self, net: Net, spec: ModelSpec, options: Options) -> None:
        self.spec = spec
        if taken := [name for name in spec.details if name in net.extra_score_names]:
            raise ConfigError(
                f"{spec.name!r} has a number called {taken[0]!r} already: choose another name for this detail"
            )
        self.options = options
        self.preprocess = Preprocess(spec=spec.net_input, views=options.views, resize=options.resize)
        self.dtype: torch.dtype = options.dtype  # type: ignore[assignment]  # Options made it one
        self.home = torch.device(options.device or "cpu")
        try:
            self._nets = {self.home: net.eval().requires_grad_(False).to(self.home, self.dtype)}
        except (AssertionError, NotImplementedError, RuntimeError) as error:
            raise ConfigError(f"the device '{self.home}' is not available: use 'cpu', or omit device") from error
        self._lock = threading.Lock()
        self._self_test = compare(
            spec, self._canary_rows, TOLERANCE[self.dtype], more=lambda: self._rows(more_images())
        )

    @property
    def net(self) -> Net:
        """The network itself, on its first device: for whoever teaches or exports it."""
        return self._nets[self.home]

    @property
    def width(self) -> int:
        """Size of an embedding, read from the network."""
        return self.net.width

    def score(self, stacks: Sequence[Frames], *, embeddings: bool = False, digests: bool = False) -> list[Scores]:
        """Return one Scores per frame, in order, over all stacks; the host waits for the device once.

        With `views="content"` it waits once more for each stack, to find what is in the images. An image that needs too
        many looks gets a fault; the others are judged.
        """
        refused = [self._refused(stack) for stack in stacks]
        sound = [stack for stack, why in zip(stacks, refused, strict=True) if not why]
        judged = iter(self._judged(sound, embeddings, digests) if sound else [])
        return [
            Scores((), fault=why) if why else next(judged)
            for stack, why in zip(stacks, refused, strict=True)
            for _ in range(len(stack))
        ]

    def _refused(self, stack: Frames) -> str:
        """Why a stack cannot be judged, or an empty text."""
        try:
            plan(*map(int, stack.pixels.shape[-2:]), self.preprocess.spec, self.options.views)
        except ImageError as error:
            return str(error)
        return ""

    def _judged(self, stacks: Sequence[Frames], embeddings: bool, digests: bool) -> list[Scores]:
        device = self._device(stacks)
        parts = [(stack, part) for stack in stacks for part in self.preprocess.parts(stack)]
        shown = torch.cat([part.pixels.flatten(0, 1).to(device) for _, part in parts])
        with torch.inference_mode():
            raw, features = self.forward_with_embedding(shown)
            outputs = torch.cat([self.to_probabilities(raw), self.net.extra_scores(raw)], 1)
            flat = shown.flatten(1)
            blank = (flat.amin(1) == flat.amax(1)).float()
            extremes = [part.extremes.to(device).flatten() for _, part in parts if part.extremes is not None]
            numbers = torch.cat([outputs.flatten(), blank, *extremes]).tolist()
        seen = shown.cpu() if digests else None
        kept = features.clone() if embeddings and features.shape[1] else None
        return list(self._scores(parts, numbers, seen, kept))

    def forward_with_embedding(self, shown: Tensor) -> tuple[Tensor, Tensor]:
        """Return numbers and embeddings of 8-bit images, in batches that fit the device. Shape: (R, 3, S, S)."""
        parts = in_batches(lambda a, b: self._pass(shown[a:b]), len(shown), self.options.batch_size, self.spec.name)
        numbers, features = zip(*parts, strict=True)
        return torch.cat(numbers), torch.cat(features)

    def known_answers(self) -> dict[str, dict[str, float]]:
        """Score each canary and return the answers by label, as a record stores them."""
        return by_label(self.spec, self._canary_rows())

    def _canary_rows(self) -> dict[str, tuple[float, ...]]:
        images = canaries()
        return dict(zip(images, self._rows(list(images.values())), strict=True))

    def _rows(self, images: list[Tensor]) -> list[tuple[float, ...]]:
        """The probabilities of each label for some images."""
        # Always with the authors' own preprocessing, so that answers do not depend on the user's options.
        preprocess = Preprocess(spec=self.spec.net_input, views="center", resize="exact")
        shown = torch.stack([preprocess.prepare(Frames(p[None].to(self.home))).pixels[0, 0] for p in images])
        return list(map(tuple, self._probabilities(shown).tolist()))

    @torch.inference_mode()
    def _probabilities(self, shown: Tensor) -> Tensor:
        """The answers from features and head, checked to equal those of the network's own forward."""
        whole = self.forward(shown)
        try:
            split, _ = self.forward_with_embedding(shown)
        except TypeError:  # more than one head: there is no single classifier to call
            split = torch.full_like(whole, torch.inf) if isinstance(whole, Tensor) else torch.empty(0)
        if not isinstance(whole, Tensor) or split.shape != whole.shape:
            raise SelfTestError(
                f"{self.spec.name!r} does not return one row of numbers per image: choose another network"
            )
        answers, expected = (self.to_probabilities(numbers) for numbers in (split, whole))
        if not torch.allclose(answers, expected, rtol=0, atol=TOLERANCE[self.dtype], equal_nan=True):
            raise SelfTestError(
                f"{self.spec.name!r} and its features followed by its head give different answers: choose a network "
                "with one head"
            )
        return answers

    def state(self) -> Mapping[str, str]:
        """Return the settings in effect."""
        return {
            "self_test": self._self_test.value,
            "runtime": self.net.runtime,
            "device": str(self.home) if self.options.device else "follows the image",
            "dtype": str(self.dtype).removeprefix("torch."),
            "resize": self.preprocess.effective(self.home if self.options.device else None),
            "views": self.options.views,
            **self.net.state_notes,
        }

    def save_pretrained(self, folder: Path) -> None:
        """Write configuration, weights and our record into a folder that `load_model` reads."""
        folder.mkdir(parents=True, exist_ok=True)
        net = self.net
        net.save(folder, self.spec)
        write_record(folder, replace(self.spec, hashes=net.hashes))

    def _device(self, stacks: Sequence[Frames]) -> torch.device:
        return self.home if self.options.device or not stacks else stacks[0].pixels.device

    def _on(self, device: torch.device) -> Net:
        """The network on a device: copied there once, and kept on the others."""
        with self._lock:
            if device not in self._nets:
                self._nets[device] = copy.deepcopy(self._nets[self.home]).to(device)
            return self._nets[device]

    def forward(self, shown: Tensor) -> Tensor:
        """Return the network's numbers; those of `forward_with_embedding` must be equal. Shape: (R, 3, S, S)."""
        with torch.autocast(shown.device.type, enabled=False):
            return self._on(shown.device).forward(self.preprocess.normalise(shown).to(self.dtype))

    def to_probabilities(self, numbers: Tensor) -> Tensor:
        """Return the network's numbers as probabilities, one for each label. Shape: (R, labels)."""
        return self.net.to_probabilities(numbers)

    def _pass(self, shown: Tensor) -> tuple[Tensor, Tensor]:
        net = self._on(shown.device)
        # A pipeline may run under autocast, but scores must not depend on it.
        with torch.autocast(shown.device.type, enabled=False):
            return net.forward_with_embedding(self.preprocess.normalise(shown).to(self.dtype))

    def _scores(
        self,
        parts: Sequence[tuple[Frames, Prepared]],
        numbers: list[float],
        seen: Tensor | None,
        features: Tensor | None,
    ) -> Iterator[Scores]:
        """The flat list of numbers from the device, split into frames."""
        names = self.net.extra_score_names
        columns = len(self.spec.labels) + len(names)
        rows = sum(part.pixels.shape[0] * part.pixels.shape[1] for _, part in parts)
        flags = iter(numbers[rows * columns :])
        blank = [next(flags) == 1.0 for _ in range(rows)]
        row = 0
        for stack, inputs in parts:
            for _ in inputs.pixels:
                end = row + len(inputs.views)
                fault = "" if inputs.extremes is None else stack.fault(next(flags), next(flags))
                chunks = [numbers[r * columns : (r + 1) * columns] for r in range(row, end)]
                yield Scores(
                    tuple(self._view(view, names, chunk) for view, chunk in zip(inputs.views, chunks, strict=True)),
                    embedding=None if features is None else features[row],
                    digest="" if seen is None else hashlib.sha256(seen[row:end].numpy().tobytes()).hexdigest(),
                    blank=all(blank[row:end]),
                    fault=fault,
                )
                row = end

    def _view(self, view: View, names: Sequence[str], chunk: list[float]) -> ViewScores:
        """One view's numbers: a probability for each label, then the network's further numbers."""
        classes = len(self.spec.labels)
        by_label = dict(zip(self.spec.labels, chunk[:classes], strict=True))
        details = {name: by_label[label] for name, label in self.spec.details.items()}
        return ViewScores(
            view, self._levels(chunk[:classes]), {**dict(zip(names, chunk[classes:], strict=True)), **details}
        )

    def _levels(self, probabilities: list[float]) -> dict[str, dict[Severity, float]]:
        """P(severity >= level): sums from the highest level down, which can only rise."""
        levels: dict[str, dict[Severity, float]] = {c: dict.fromkeys(ls, 0.0) for c, ls in self.spec.levels.items()}
        for label, p in zip(self.spec.labels.values(), probabilities, strict=True):
            if label is not None:
                for level in levels[label.category]:
                    if level <= label.severity:
                        levels[label.category][level] += p
        # min keeps a NaN in first place; a sum may exceed 1 by rounding.
        return {c: {level: min(p, 1.0) for level, p in ls.items()} for c, ls in levels.items()}
