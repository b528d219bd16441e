"""nsfw-guard index: search by likeness over the embeddings of a scan."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from nsfw_guard.cli import show

TEXTS = {
    "build": "make an index of a scan's embeddings, in a new folder or on a server",
    "add": "add the images of another scan by the same model",
    "search": "find the images that are most like some images",
    "remove": "remove images by their keys",
    "stats": "show what an index holds",
    "clusters": "list groups of images that are like each other, the largest first",
}


def add(commands: Any) -> None:
    """Add the commands."""
    group: argparse.ArgumentParser = commands.add_parser("index", help="search the images of a scan by likeness")
    verbs = group.add_subparsers(required=True, metavar="VERB")
    runs = {"build": build, "add": extend, "search": search, "remove": remove, "stats": stats, "clusters": clusters}
    for name, run in runs.items():
        verb: argparse.ArgumentParser = verbs.add_parser(name, help=TEXTS[name], description=TEXTS[name])
        verb.add_argument("index", metavar="INDEX", help="its folder, or address: http://HOST:PORT?collection=NAME")
        _flags(name, verb)
        show.json_flag(verb)
        verb.set_defaults(run=run)


def _flags(name: str, verb: argparse.ArgumentParser) -> None:
    if name in {"build", "add"}:
        verb.add_argument("scan", metavar="SCAN", help="the output of nsfw-guard scan")
    if name in {"search", "clusters"}:
        verb.add_argument("--html", metavar="FILE", help="write a page with small images, blurred until clicked")
    if name == "build":
        verb.add_argument(
            "--store", choices=("exact", "lance", "milvus"), default="exact",
            help="exact compares every vector (default); lance, for millions, and milvus, a server, are extras",
        )  # fmt: skip
    elif name == "remove":
        verb.add_argument("keys", nargs="+", metavar="KEY", help="keys of images, as in the scan")
    elif name == "search":
        verb.add_argument("images", nargs="+", metavar="IMAGE", help="an image, or a folder of images")
        verb.add_argument("--k", type=int, default=10, metavar="N", help="matches per image (default: 10)")
        verb.add_argument(
            "--where", action="append", metavar="NAME=VALUE", help="only images with outcome=, category=, sha256="
        )
        verb.add_argument("--model", metavar="NAME|FOLDER", help="the index's model, where its name does not load it")
    elif name == "clusters":
        verb.add_argument(
            "--least", type=float, default=0.95, metavar="S", help="the least similarity of a pair (default: 0.95)"
        )


def build(args: argparse.Namespace) -> int:
    """Make an index."""
    from nsfw_guard.tools.similarity import build as building

    index = building.build(Path(args.scan), args.index, kind=args.store)
    facts = {"index": args.index, "images": index.count, "width": index.origin.width, "model": index.origin.model}
    index.close()
    return _say(args, {**facts, "store": args.store})


def extend(args: argparse.Namespace) -> int:
    """Add another scan to an index."""
    from nsfw_guard.tools.similarity import build as building
    from nsfw_guard.tools.similarity.places import open_store

    index = open_store(args.index)
    added, count = building.add(index, Path(args.scan)), index.count
    index.close()
    return _say(args, {"index": args.index, "added": added, "images": count})


def remove(args: argparse.Namespace) -> int:
    """Remove images; 3 when none of the keys is there."""
    from nsfw_guard.errors import ConfigError
    from nsfw_guard.tools.similarity.places import open_store

    index = open_store(args.index)
    removed, count = index.remove(args.keys), index.count
    index.close()
    if not removed:
        raise ConfigError(f"the index in {args.index!r} has none of these keys: write them as in the scan")
    return _say(args, {"index": args.index, "removed": removed, "images": count})


def stats(args: argparse.Namespace) -> int:
    """Show what an index holds."""
    from nsfw_guard.tools.similarity.places import open_store

    index = open_store(args.index)
    of = index.origin
    return _say(args, {"index": args.index, "images": index.count, "width": of.width, "model": of.model,
                       "revision": of.revision, **index.stats()})  # fmt: skip


def search(args: argparse.Namespace) -> int:
    """Print the images that are most like each given image."""
    from nsfw_guard.guard import Guard
    from nsfw_guard.tools.screen import find
    from nsfw_guard.tools.similarity import page
    from nsfw_guard.tools.similarity.build import embed
    from nsfw_guard.tools.similarity.places import open_store

    where = _where(args.where or [])
    if args.html:
        page.check_page(Path(args.html))
    index = open_store(args.index)
    guard = Guard.from_pretrained(args.model or index.origin.model)
    index.origin.refuse_others(args.index, model=guard.spec.name, revision=guard.spec.version)
    paths = [source.path for source in find(args.images).sources]
    answers = index.search(embed(guard, paths), k=args.k, where=where)
    if args.html:
        page.write_search(Path(args.html), paths, answers)
    rows = []
    for path, matches in zip(paths, answers, strict=True):
        for match in matches:
            if args.json:
                show.as_json({"image": path, **match.to_dict()})
            rows.append((path, f"{match.similarity:.3f}", match.facts.get("outcome", "-"), match.key))
    if not args.json:
        show.table(rows, ("image", "similarity", "outcome", "match"))
    return 0


def clusters(args: argparse.Namespace) -> int:
    """Print groups of images that are like each other."""
    from nsfw_guard.tools.similarity import page
    from nsfw_guard.tools.similarity.groups import groups_of
    from nsfw_guard.tools.similarity.places import open_store

    if args.html:
        page.check_page(Path(args.html))
    groups = groups_of(open_store(args.index), least=args.least)
    if args.html:
        page.write_groups(Path(args.html), groups, args.least)
    if args.json:
        for group in groups:
            show.as_json(group.to_dict())
    else:
        show.table([(str(len(group.keys)), group.keys[0]) for group in groups], ("images", "the first of them"))
    return 0


def _where(pairs: list[str]) -> dict[str, str]:
    from nsfw_guard.errors import ConfigError, suggest
    from nsfw_guard.tools.similarity.store import FACTS

    where = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign or name not in FACTS:
            raise ConfigError(
                f"--where {pair}: write {', '.join(f'{fact}=VALUE' for fact in FACTS)}; {suggest(name, FACTS)}"
            )
        where[name] = value
    return where


def _say(args: argparse.Namespace, facts: dict[str, Any]) -> int:
    if args.json:
        show.as_json(facts)
    else:
        show.table([(name, str(value)) for name, value in facts.items()], ("what", "value"))
    return 0
