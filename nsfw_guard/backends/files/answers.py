"""Answers to the self-test that a user's own machine has recorded, for models whose record has none."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from nsfw_guard.backends.files.cache import cache_home, put
from nsfw_guard.backends.spec import ModelSpec
from nsfw_guard.errors import ConfigError, SelfTestError
from nsfw_guard.jsonfile import read_json

CURE = "run `nsfw-guard verify {name} --forget`, and verify it again"
Answers = Mapping[str, Mapping[str, float]]


def answers_path(spec: ModelSpec) -> Path:
    """Return where the answers of a model are kept: one file for each version, set of labels and input.

    Raises:
        ConfigError: its version is not known, so other weights could come under the same name.
    """
    if not spec.version:
        raise ConfigError(f"the version of {spec.name!r} is not known: name a commit, as in hf:owner/name@commit")
    asked = [list(spec.labels), dict(spec.questions), dict(spec.model_args), str(spec.input)]
    key = hashlib.sha256(json.dumps([spec.name, spec.version, asked], sort_keys=True, default=str).encode())
    return _home() / f"{key.hexdigest()}.json"


def _home() -> Path:
    return cache_home() / "answers"


def with_answers(spec: ModelSpec) -> ModelSpec:
    """Return a record with the answers that this machine has recorded, where it has none itself.

    Raises:
        SelfTestError: the file is damaged.
    """
    if spec.known_answers or not spec.version or not (path := answers_path(spec)).exists():
        return spec
    try:
        content = read_json(path)
        answers = {str(n): {str(label): float(p) for label, p in row.items()} for n, row in content["answers"].items()}
        # A judge answers for the categories that it was asked about, which may be fewer than its record has.
        whole = answers and all(row and set(row) <= set(spec.labels) for row in answers.values())
        if content["model"] != spec.name or not whole:
            raise ConfigError("it holds no answers of this model")
    except (ConfigError, KeyError, AttributeError, TypeError, ValueError) as error:
        raise SelfTestError(f"{path} is damaged ({error}): {CURE.format(name=spec.name)}") from error
    return replace(spec, known_answers=answers)


@contextmanager
def compared(spec: ModelSpec) -> Iterator[ModelSpec]:
    """Yield a record with the answers that this machine has recorded; an error that comes of them names the cure."""
    known = with_answers(spec)
    try:
        yield known
    except SelfTestError as error:
        if known is spec:
            raise
        raise SelfTestError(
            f"{error}. Its answers were recorded on this machine: if the change is wanted, "
            f"{CURE.format(name=spec.name)}"
        ) from error


def write_answers(spec: ModelSpec, answers: Answers) -> Path:
    """Keep the answers of a model, and return the file."""
    path = answers_path(spec)
    rounded = {name: {label: round(p, 6) for label, p in row.items()} for name, row in answers.items()}
    content = {"model": spec.name, "version": spec.version, "answers": rounded}
    put(path, json.dumps(content, indent=2).encode())
    return path


def remove_answers(name: str, spec: ModelSpec | None = None) -> list[Path]:
    """Remove all answers that were recorded for a model, and files that nobody can read; return what was removed.

    Args:
        name: of the model.
        spec: its record, whose file is removed whatever it holds.
    """
    removed = []
    mine = answers_path(spec) if spec is not None and spec.version else None
    for path in sorted(_home().glob("*.json")):
        try:
            model = read_json(path).get("model")
        except ConfigError:
            model = None
        if path == mine or model == name or not isinstance(model, str):
            path.unlink()
            removed.append(path)
    return removed
