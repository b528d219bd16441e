"""Judges the result of a call (an output, a tuple, a bare value, a state), and adds flags and verdicts to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from nsfw_guard.pipelines import seams
from nsfw_guard.pipelines.guarded import layouts
from nsfw_guard.pipelines.guarded.inputs import Latents
from nsfw_guard.pipelines.guarded.modular import leave_state
from nsfw_guard.pipelines.guarded.ranges import tensor_range
from nsfw_guard.pipelines.guarded.run import ExitRange, GuardedCall


def guard_output(
    pipe: Any, out: Any, run: GuardedCall, latents: Latents, arguments: Mapping[str, Any], *, outermost: bool = True
) -> Any:
    """Return the judged result of a call; without flags and verdicts for a part of another pipeline."""
    cls = type(pipe)
    if latents == "allow" and arguments.get("output_type") in seams.LATENT:
        return out  # unchecked on purpose, so it has no flags
    if seams.is_modular(cls):
        return leave_state(out, run, latents, run.given, arguments.get("output"))
    ends = exit_range(cls)
    if dataclasses.is_dataclass(out) and not isinstance(out, type):
        return _leave_output(out, run, ends, outermost=outermost)
    if isinstance(out, Mapping) or hasattr(out, "_fields"):
        return _leave_mapping(out, run, ends, outermost=outermost)
    if isinstance(out, tuple):
        return _leave_tuple(cls, out, run, ends, outermost=outermost)
    return run.finish(out, clips=_clips(cls), value_range=ends, main=outermost)


def exit_range(cls: type) -> ExitRange:
    """Return the range of the arrays and tensors that a class returns."""
    return "hdr" if any(base.__name__ == "LTX2HDRPipeline" for base in cls.__mro__) else tensor_range(cls)


def _leave_output(out: Any, run: GuardedCall, ends: ExitRange, *, outermost: bool) -> Any:
    """An output with named fields: the same object, with flags and verdicts added."""
    for name in _in_order(dict.fromkeys(_names(out))):
        old = getattr(out, name) if name in vars(out) else out[name]
        new = _field(name, old, run, ends, outermost=outermost)
        if new is not old:
            _set(out, name, new)
    if outermost:
        mark(out, run)
    return out


def _names(out: Any) -> Iterator[str]:
    """The fields of an output, and any other attributes set on it."""
    yield from (f.name for f in dataclasses.fields(out))
    yield from vars(out)
    yield from out if isinstance(out, dict) else ()


def _leave_mapping(out: Any, run: GuardedCall, ends: ExitRange, *, outermost: bool) -> Any:
    """A mapping, or a named tuple."""
    named = out if isinstance(out, Mapping) else out._asdict()
    parts = _leave_named([str(name) for name in named], list(named.values()), run, ends, outermost=outermost)
    same = all(new is old for new, old in zip(parts, named.values(), strict=True))
    return out if same else layouts.rebuilt(out, parts)


def _leave_named(
    names: Sequence[str], values: Sequence[Any], run: GuardedCall, ends: ExitRange, *, outermost: bool
) -> list[Any]:
    """Named values, in their original order."""
    parts = list(values)
    for place in sorted(range(len(parts)), key=lambda i: names[i] in seams.WITHHELD_FIELDS):
        parts[place] = _field(names[place], parts[place], run, ends, outermost=outermost)
    return parts


def _leave_tuple(
    cls: type, out: tuple[Any, ...], run: GuardedCall, ends: ExitRange, *, outermost: bool
) -> tuple[Any, ...]:
    names = seams.tuple_fields(cls, len(out))
    parts = _leave_named(names, out, run, ends, outermost=outermost)
    if outermost and len(parts) > 1 and seams.classify(cls).slot and _flags(out[1]):
        parts[1] = run.flags
    return tuple(parts)


def _field(name: str, value: Any, run: GuardedCall, ends: ExitRange, *, outermost: bool) -> Any:
    """The judged value of one field: treated as images if it can be, unless its name denotes something else."""
    other = name in seams.OTHER and name not in seams.MARKS
    if layouts.is_data(value) or (other and not layouts.looks_like_images(value)):
        return value
    if name in seams.WITHHELD_FIELDS:
        return None if run.flagged else value
    main = outermost and not run.verdicts
    if ends == "signed" and isinstance(value, Tensor) and value.ndim == 5:
        # As a video decoder returns it: the channels of a clip come before its frames, for any number of frames.
        turned = value.transpose(1, 2)
        safe = run.finish(turned, clips=name in seams.CLIPS, value_range=ends, main=main)
        return value if safe is turned else safe.transpose(1, 2)
    return run.finish(value, clips=name in seams.CLIPS, value_range=ends, main=main)


def mark(out: Any, run: GuardedCall) -> None:
    """Add flags and verdicts to an output, in its own field for them if it has one."""
    names = {f.name for f in dataclasses.fields(out)}
    for name in seams.FLAGS:
        if name in names:
            _set(out, name, run.flags)
    out.nsfw_content_detected = run.flags
    out.verdicts = tuple(run.verdicts)


def _in_order(names: Iterable[str]) -> list[str]:
    """The names in order of judging: values that are held back when something is flagged come last."""
    return sorted(names, key=lambda name: name in seams.WITHHELD_FIELDS)


def _set(out: Any, name: str, value: Any) -> None:
    if value is None:  # an output never loses a key
        dict.__setitem__(out, name, None) if isinstance(out, dict) and name in out else None
        object.__setattr__(out, name, None)
    elif isinstance(out, dict):
        out[name] = value
    else:
        setattr(out, name, value)


def _clips(cls: type) -> bool:
    return any(name in seams.CLIPS for fields in seams.outputs_of(cls) for name in fields)


def _flags(value: Any) -> bool:
    return value is None or (isinstance(value, (list, tuple)) and all(isinstance(v, bool) for v in value))
