"""Teaches a network by gradient descent. A run that was stopped goes on to the same weights."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from nsfw_guard.backends.nets.network import Net
from nsfw_guard.errors import ConfigError, ScoringError
from nsfw_guard.tools.finetuning.learning import checkpoint
from nsfw_guard.tools.finetuning.learning.average import Average, rate_at, set_rate
from nsfw_guard.tools.finetuning.learning.batches import mixed, order_of, seed_of, targets_of
from nsfw_guard.tools.finetuning.learning.lesson import Epoch, Lesson, Trained, hash_of
from nsfw_guard.tools.finetuning.learning.student import Student, choose, set_training
from nsfw_guard.tools.finetuning.learning.varied import vary
from nsfw_guard.tools.finetuning.processes import library
from nsfw_guard.tools.finetuning.recipe import LEAST_STEPS, Recipe
from nsfw_guard.tools.finetuning.watching import Stage, Watch, quiet

SECONDS = 30.0  # between checkpoints
STEEPEST = 1.0  # norm of a gradient; a longer one is cut to it


@dataclass
class Progress:
    """Where a run is."""

    step: int = 0
    epochs: list[Epoch] = field(default_factory=list)
    best: int = -1
    loss: float = 0.0
    summed: int = 0


def train(
    student: Student, lesson: Lesson, recipe: Recipe, *, cpu: bool = False, folder: Path | None = None,
    seconds: float = SECONDS, watch: Watch = quiet,
) -> Trained:  # fmt: skip
    """Teach a network, and return it with the weights of its best epoch.

    Under `accelerate launch` every process takes a part of each batch. The caller's random numbers are not touched.

    Args:
        student: what is taught.
        lesson: what it is taught from.
        recipe: how.
        cpu: teach on the CPU, whatever accelerate finds.
        folder: where checkpoints are kept, and looked for; None for none.
        seconds: between two checkpoints.
        watch: is called after each step.

    Raises:
        ScoringError: the loss is no number.
        ConfigError: the checkpoint is of another run.
    """
    accelerate = library()
    try:
        accelerator = accelerate.Accelerator(cpu=cpu, mixed_precision=recipe.precision)
    except (ValueError, RuntimeError, ImportError) as error:
        raise ConfigError(f"precision={recipe.precision!r} does not run here ({error}): use 'no'") from error
    with torch.random.fork_rng():
        run = _Run(accelerator, student, lesson, recipe)
        resumed = run.restore(folder) if folder else 0
        saved = time.monotonic()
        while not run.finished:
            run.advance()
            note = f"loss {run.progress.epochs[-1].validation:.4f}" if run.progress.epochs else ""
            watch(Stage.TRAINING, run.progress.step, run.steps, note)
            due = run.progress.step % run.per_epoch == 0 or time.monotonic() - saved >= seconds
            if folder and due and accelerator.is_main_process:
                run.save(folder)
                saved = time.monotonic()
        accelerator.wait_for_everyone()
        return Trained(run.best.cpu(), tuple(run.progress.epochs), run.progress.best, resumed)


class _Run:
    """One run: all of its state is in the network, the mean, the best, the optimizer and `progress`."""

    def __init__(self, accelerator: Any, student: Student, lesson: Lesson, recipe: Recipe) -> None:
        self.accelerator, self.student, self.lesson, self.recipe = accelerator, student, lesson, recipe
        self.device: torch.device = accelerator.device
        if recipe.batch_size % accelerator.num_processes:
            raise ConfigError(
                f"batch_size {recipe.batch_size} cannot be shared by {accelerator.num_processes} processes: use a "
                "multiple of their number"
            )
        self.start = hash_of(student.net)
        choose(student.net, recipe)
        net = student.net.to(self.device)
        self.mean = Average(net, decay=recipe.ema)
        self.best: Net = Average(net).module
        self.before = None if student.before is None or not recipe.keep else student.before.to(self.device).eval()
        optimizer = torch.optim.AdamW(_groups(net, recipe.weight_decay), lr=recipe.rate, betas=(0.9, 0.98))
        self.net, self.optimizer = accelerator.prepare(net, optimizer)
        self.per_epoch = max(LEAST_STEPS, math.ceil(len(lesson.split.training) / recipe.batch_size))
        self.steps = self.per_epoch * recipe.epochs
        self.progress = Progress()
        counts = torch.bincount(lesson.classes[list(lesson.split.training)], minlength=len(student.rows))
        self.weights = counts.clamp(min=1).double() ** -recipe.balance
        self.order: tuple[int, Tensor] = (-1, torch.empty(0))

    @property
    def finished(self) -> bool:
        """Whether all epochs are over, or it has not become better for too long."""
        progress = self.progress
        waited = len(progress.epochs) - 1 - progress.best
        return progress.step >= self.steps or bool(self.recipe.patience and waited >= self.recipe.patience)

    def advance(self) -> None:
        """Take one step; at the end of an epoch, measure."""
        at = self.progress.step
        set_rate(self.optimizer, rate_at(at, self.steps, peak=self.recipe.rate, warm=self.recipe.warmup))
        torch.manual_seed(seed_of(self.recipe.seed, "network", at, self.accelerator.process_index))
        set_training(self.plain)
        loss = self._loss(at)
        number = float(loss.detach())
        if not math.isfinite(number):
            raise ScoringError(
                f"the loss became {number} at step {at}: use a lower learning rate than {self.recipe.rate:g}"
            )
        self.optimizer.zero_grad()
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_([p for p in self.plain.parameters() if p.requires_grad], STEEPEST)
        self.optimizer.step()
        self.mean.update(self.plain)
        self.progress.step, self.progress.loss, self.progress.summed = (
            at + 1, self.progress.loss + number, self.progress.summed + 1
        )  # fmt: skip
        if (at + 1) % self.per_epoch == 0:
            self._measure()

    @property
    def plain(self) -> Net:
        """The network without what accelerate has put around it."""
        net: Net = self.accelerator.unwrap_model(self.net)
        return net

    def _loss(self, at: int) -> Tensor:
        """The loss on this process' part of a batch."""
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        chosen = self._batch(at)[rank::processes]
        generator = Generator().manual_seed(seed_of(self.recipe.seed, "images", at, rank))
        levels = vary(self.lesson.rows(chosen).to(self.device), self.recipe.vary, generator)
        targets = targets_of(self.lesson.classes[chosen], len(self.student.rows), self.recipe.label_smoothing)
        targets = targets.to(self.device)
        if self.recipe.mixup:
            levels, targets = mixed(levels, targets, self.recipe.mixup, seed_of(self.recipe.seed, "mixup", at, rank))
        values = self.student.normalise(levels)
        numbers = self.net(values).float()
        loss: Tensor = -(targets * numbers.log_softmax(-1)).sum(-1).mean()
        kept = self.student.kept
        if self.before is None or len(kept) < 2:
            return loss
        with torch.no_grad():
            rows = [row for row in self.student.rows if row is not None]
            wanted = self.before(values).float()[:, rows].softmax(-1)
        drift = functional.kl_div(numbers[:, kept].log_softmax(-1), wanted, reduction="batchmean")
        total: Tensor = loss + self.recipe.keep * drift
        return total

    def _batch(self, at: int) -> Tensor:
        """The images of a step; rare classes come more often, as the recipe says."""
        epoch, place = divmod(at, self.per_epoch)
        if self.order[0] != epoch:
            training = torch.tensor(self.lesson.split.training)
            weights, count = self.weights[self.lesson.classes[training]], self.per_epoch * self.recipe.batch_size
            self.order = (epoch, order_of(training, weights, self.recipe, epoch=epoch, count=count))
        return self.order[1][place * self.recipe.batch_size : (place + 1) * self.recipe.batch_size]

    @torch.no_grad()
    def _measure(self) -> None:
        """Measure the mean of the weights on validation images, and keep it when it is the best so far."""
        net = self.mean.module
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        mine = torch.tensor(self.lesson.split.validation)[rank::processes]
        classes = len(self.student.rows)
        answers = torch.zeros(classes, classes, dtype=torch.float64)
        summed = torch.zeros(2, dtype=torch.float64)
        for part in torch.split(mine, self.recipe.batch_size * 4):
            numbers = net(self.student.normalise(self.lesson.rows(part).to(self.device))).float().cpu()
            expected = self.lesson.classes[part]
            weights = self.weights[expected]
            losses = functional.cross_entropy(numbers, expected, reduction="none").double()
            summed += torch.stack([(weights * losses).sum(), weights.sum()])
            answers.index_put_((expected, numbers.argmax(1)), torch.ones(len(part)).double(), accumulate=True)
        whole = self.accelerator.reduce(torch.cat([summed, answers.flatten()]).float().to(self.device)).cpu().double()
        table = tuple(tuple(int(n) for n in row) for row in whole[2:].reshape(classes, classes).round().tolist())
        progress = self.progress
        loss = float(whole[0] / whole[1])
        progress.epochs.append(Epoch(progress.loss / max(1, progress.summed), loss, table))
        progress.loss, progress.summed = 0.0, 0
        if progress.best < 0 or loss < progress.epochs[progress.best].validation:
            progress.best = len(progress.epochs) - 1
            self.best.load_state_dict(net.state_dict())

    def save(self, folder: Path) -> None:
        """Write a checkpoint."""
        tensors: dict[str, Tensor] = {}
        nets: Mapping[str, nn.Module] = {"net": self.plain, "mean": self.mean.module, "best": self.best}
        for name, net in nets.items():
            tensors |= {f"{name}:{key}": value for key, value in net.state_dict().items()}
        tensors |= {f"optimizer:{key}": value for key, value in checkpoint.flatten(self._optimizer).items()}
        scaler = getattr(self.accelerator, "scaler", None)
        facts = {
            "run": self._identity, "mean": self.mean.steps, "progress": asdict(self.progress),
            "scaler": {} if scaler is None else dict(scaler.state_dict()),
        }  # fmt: skip
        checkpoint.save(folder, tensors, facts)

    def restore(self, folder: Path) -> int:
        """Go on from the checkpoint in a folder, if there is one; return the step."""
        if (state := checkpoint.load(folder)) is None:
            return 0
        tensors, facts = state
        if facts.get("run") != self._identity:
            raise ConfigError(
                "the run in this folder was begun with other images, another model or other settings: give the same "
                "ones, or another --out"
            )
        for name, net in (("net", self.plain), ("mean", self.mean.module), ("best", self.best)):
            net.load_state_dict(checkpoint.part_of(tensors, f"{name}:"))
        checkpoint.restore(self._optimizer, checkpoint.part_of(tensors, "optimizer:"))
        if facts["scaler"] and getattr(self.accelerator, "scaler", None) is not None:
            self.accelerator.scaler.load_state_dict(facts["scaler"])
        self.mean.steps = facts["mean"]
        progress = facts["progress"]
        epochs = [Epoch(e["training"], e["validation"], tuple(map(tuple, e["answers"]))) for e in progress["epochs"]]
        self.progress = Progress(**{**progress, "epochs": epochs})
        return self.progress.step

    @property
    def _optimizer(self) -> torch.optim.Optimizer:
        plain: torch.optim.Optimizer = getattr(self.optimizer, "optimizer", self.optimizer)
        return plain

    @property
    def _identity(self) -> str:
        """What makes a run this run: its settings, its images and what it began with."""
        parts = [self.recipe.hash, self.lesson.hash, str(self.accelerator.num_processes), str(self.student.rows)]
        parts += [str(self.lesson.split), hashlib.sha256(self.lesson.classes.numpy().tobytes()).hexdigest()]
        return hashlib.sha256(" ".join([*parts, self.start]).encode()).hexdigest()


def _groups(net: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Parameters with weight decay, and vectors such as biases without."""
    chosen = [p for p in net.parameters() if p.requires_grad]
    groups = [([p for p in chosen if p.ndim > 1], decay), ([p for p in chosen if p.ndim <= 1], 0.0)]
    return [{"params": params, "weight_decay": of} for params, of in groups if params]
