"""nsfw-guard index: search by likeness over the embeddings of a scan."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from nsfw_guard.cli import show


def add(commands: Any) -> None:
    """Add the commands."""
    group: argparse.ArgumentParser = commands.add_parser("index", help="search the images of a scan by likeness")
    verbs = group.add_subparsers(required=True, metavar="VERB")
    for name, run, text in (
        ("build", build, "make an index of a scan's embeddings, in a new folder"),
        ("add", extend, "add the images of another scan by the same model"),
        ("search", search, "find the images that are most like some images"),
        ("remove", remove, "remove images by their keys"),
        ("stats", stats, "show what an index holds"),
    ):
        verb: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=text)
        verb.add_argument("index", metavar="INDEX", help="the folder of the index")
        verb.set_defaults(run=run)
        if name in {"build", "add"}:
            verb.add_argument("scan", metavar="SCAN", help="the output of nsfw-guard scan")
        elif name == "remove":
            verb.add_argument("keys", nargs="+", metavar="KEY", help="keys of images, as in the scan")
        elif name == "search":
            verb.add_argument("images", nargs="+", metavar="IMAGE", help="an image, or a folder of images")
            verb.add_argument("--k", type=int, default=10, metavar="N", help="matches per image (default: 10)")
            verb.add_argument(
                "--where", action="append", metavar="NAME=VALUE", help="only images with outcome=, category=, sha256="
            )
            verb.add_argument(
                "--model", metavar="NAME|FOLDER", help="the index's model, where its name does not load it"
            )
        show.json_flag(verb)


def build(args: argparse.Namespace) -> int:
    """Make an index."""
    from nsfw_guard.tools.similarity import build as building

    index = building.build(Path(args.scan), Path(args.index))
    return _say(
        args, {"index": args.index, "images": index.count, "width": index.head.width, "model": index.head.model}
    )


def extend(args: argparse.Namespace) -> int:
    """Add another scan to an index."""
    from nsfw_guard.tools.similarity import build as building
    from nsfw_guard.tools.similarity.exact import ExactIndex

    index = ExactIndex.open(Path(args.index))
    added = building.add(index, Path(args.scan))
    return _say(args, {"index": args.index, "added": added, "images": index.count})


def remove(args: argparse.Namespace) -> int:
    """Remove images; 3 when one of the keys is not there."""
    from nsfw_guard.errors import ConfigError
    from nsfw_guard.tools.similarity.exact import ExactIndex

    index = ExactIndex.open(Path(args.index))
    removed = index.remove(args.keys)
    if not removed:
        raise ConfigError(f"the index in {args.index!r} has none of these keys: write them as in the scan")
    return _say(args, {"index": args.index, "removed": removed, "images": index.count})


def stats(args: argparse.Namespace) -> int:
    """Show what an index holds."""
    from nsfw_guard.tools.similarity.exact import ExactIndex

    index = ExactIndex.open(Path(args.index))
    size = sum(path.stat().st_size for path in Path(args.index).iterdir() if path.is_file())
    head = index.head
    return _say(args, {"index": args.index, "images": index.count, "width": head.width, "model": head.model,
                       "revision": head.revision, "segments": len(head.segments), "bytes": size})  # fmt: skip


def search(args: argparse.Namespace) -> int:
    """Print the images that are most like each given image."""
    from nsfw_guard.guard import Guard
    from nsfw_guard.tools.screen import find
    from nsfw_guard.tools.similarity.build import embed
    from nsfw_guard.tools.similarity.exact import ExactIndex

    where = _where(args.where or [])
    index = ExactIndex.open(Path(args.index))
    guard = Guard.from_pretrained(args.model or index.head.model)
    ExactIndex.open(Path(args.index), model=guard.spec.name, revision=guard.spec.version)
    paths = [source.path for source in find(args.images).sources]
    answers = index.search(embed(guard, paths), k=args.k, where=where)
    rows = []
    for path, matches in zip(paths, answers, strict=True):
        for match in matches:
            if args.json:
                show.as_json({"image": path, **match.to_dict()})
            rows.append((path, f"{match.similarity:.3f}", match.facts.get("outcome", "-"), match.key))
    if not args.json:
        show.table(rows, ("image", "similarity", "outcome", "match"))
    return 0


def _where(pairs: list[str]) -> dict[str, str]:
    from nsfw_guard.errors import ConfigError, suggest
    from nsfw_guard.tools.similarity.build import FACTS

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
