"""nsfw-guard bank: examples that block or allow images like them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nsfw_guard.cli import show

if TYPE_CHECKING:
    from nsfw_guard.backends.examples.bank import Bank
    from nsfw_guard.guard import Guard
    from nsfw_guard.tools.examples import Decision

SECONDS = 60.0  # to wait for another command that changes the bank


def add(commands: Any) -> None:
    """Add the commands."""
    group: argparse.ArgumentParser = commands.add_parser(
        "bank", help="block or allow by example, at once and without training"
    )
    verbs = group.add_subparsers(required=True, metavar="VERB")
    for name, run, text in (
        ("add", extend, "add images that block or allow what is like them"),
        ("ordinary", ordinary, "give the harmless images by which likeness is measured"),
        ("test", test, "show which example images are like; exit code 1 if one would be blocked"),
        ("list", show_list, "show the examples"),
        ("remove", remove, "remove examples by their ids"),
        ("import", take, "add hashes from a CSV or JSON list"),
        ("export", give, "write the hashes as a CSV or JSON list"),
    ):
        verb: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=text)
        verb.add_argument("bank", metavar="BANK", help="the folder of the bank")
        verb.set_defaults(run=run)
        _arguments(verb, name)
        show.json_flag(verb)


def _arguments(verb: argparse.ArgumentParser, name: str) -> None:
    if name in {"add", "test"}:
        verb.add_argument("images", nargs="+", metavar="IMAGE", help="an image, or a folder of images")
    if name in {"add", "ordinary", "test"}:
        verb.add_argument("--model", metavar="NAME|FOLDER", help="the model (default: the bank's own, or marqo)")
    if name in {"add", "import"}:
        kinds = verb.add_mutually_exclusive_group(required=True)
        kinds.add_argument("--block", dest="kind", action="store_const", const="block", help="block images like these")
        kinds.add_argument("--allow", dest="kind", action="store_const", const="allow", help="allow images like these")
        verb.add_argument("--reason", required=True, metavar="TEXT", help="why; verdicts name it")
        verb.add_argument("--label", default="", metavar="TEXT", help="what they show; one radius for each label")
        verb.add_argument("--ticket", default="", metavar="TEXT", help="where it was decided")
        verb.add_argument("--expires", default="", metavar="YYYY-MM-DD", help="the last day on which they count")
    if name == "add":
        verb.add_argument(
            "--hash-only", action="store_true", help="keep hashes and no embedding: only copies are recognized"
        )
    elif name == "ordinary":
        verb.add_argument("sources", nargs="+", metavar="SOURCE", help="a folder of harmless images, or a scan of one")
        verb.add_argument(
            "--budget", type=float, default=0.005, metavar="SHARE",
            help="the share of them that may be like an example (default: 0.005)",
        )  # fmt: skip
    elif name == "remove":
        verb.add_argument("ids", nargs="+", metavar="ID", help="ids of examples, as `bank list` shows them")
    elif name in {"import", "export"}:
        verb.add_argument("file", metavar="FILE", help="a .csv or .json file")
    if name == "import":
        verb.add_argument("--distance", type=int, default=31, metavar="BITS", help="where the list has none (31)")


def extend(args: argparse.Namespace) -> int:
    """Add images."""
    from nsfw_guard.tools.examples import add_images
    from nsfw_guard.tools.screen import find

    paths = [source.path for source in find(args.images).sources]
    with _changing(args.bank):
        bank = _opened(args.bank)
        bank, examples = add_images(bank, _guard(args, bank), paths, _decision(args), hash_only=args.hash_only)
        bank.save(args.bank)
    if args.kind == "allow" and bank.ordinary is None:
        show.say(
            "copies are allowed by a hash, which can be forged: give ordinary images with `bank ordinary`, so that the "
            "embedding must agree"
        )
    return _say(args, bank, {"added": len(examples)})


def ordinary(args: argparse.Namespace) -> int:
    """Give the sample by which likeness is measured."""
    from nsfw_guard.tools.examples import with_ordinary

    with _changing(args.bank):
        bank = _opened(args.bank)
        bank = with_ordinary(bank, _guard(args, bank), args.sources, budget=args.budget)
        bank.save(args.bank)
    return _say(args, bank, {"ordinary": 0 if bank.ordinary is None else len(bank.ordinary)})


def test(args: argparse.Namespace) -> int:
    """Show what images are like; 1 when one would be blocked."""
    from nsfw_guard.backends.examples.bank import Bank
    from nsfw_guard.backends.examples.matching import Matcher
    from nsfw_guard.backends.wrappers.banked import today
    from nsfw_guard.tools.examples import matches
    from nsfw_guard.tools.screen import find

    bank = Bank.load(args.bank)
    guard, matcher = _guard(args, bank), Matcher(bank, today())
    blocked, rows = False, []
    for source in find(args.images).sources:
        likes = matches(matcher, guard, source.path)
        blocked |= any(like.example.kind == "block" for like in likes)
        described: list[dict[str, str]] = [
            {"kind": like.example.kind, "id": like.example.id, "by": like.by, "reason": like.example.reason}
            for like in likes
        ]
        for says in described or [{}]:
            if args.json:
                show.as_json({"image": source.path, **says})
            rows.append((source.path, *(says.get(name, "-") for name in ("kind", "id", "by", "reason"))))
    if not args.json:
        show.table(rows, ("image", "kind", "example", "by", "reason"))
    return 1 if blocked else 0


def show_list(args: argparse.Namespace) -> int:
    """Show the examples."""
    from nsfw_guard.backends.examples.bank import Bank
    from nsfw_guard.backends.examples.matching import Matcher
    from nsfw_guard.backends.wrappers.banked import today

    bank = Bank.load(args.bank)
    radii = Matcher(bank, today()).radii
    rows = []
    for example in bank.examples:
        by = [name for name in ("pixels", "pdq") if getattr(example, name)]
        by += ["likeness"] if example.id in bank.embeddings and bank.ordinary is not None else []
        state = "expired" if example.expired(today()) else example.expires or "-"
        if args.json:
            show.as_json({**example.to_dict(), "by": by, "expired": example.expired(today())})
        rows.append((example.id, example.kind, example.label or "-", "+".join(by), state, example.reason))
    if not args.json:
        show.table(rows, ("id", "kind", "label", "by", "until", "reason"))
    for (kind, label), radius in radii.items():
        of = f", {radius.neighbours:.0%} of them are like another one" if radius.neighbours is not None else ""
        show.say(f"{kind} {label or '(no label)'}: similarity from {radius.least:.3f} on{of}")
    if bank.embeddings and bank.ordinary is None:
        show.say("only copies are recognized: give ordinary images with `nsfw-guard bank ordinary`")
    return 0


def remove(args: argparse.Namespace) -> int:
    """Remove examples."""
    from nsfw_guard.backends.examples.bank import Bank

    Bank.load(args.bank)  # an error where there is none
    with _changing(args.bank):
        bank = Bank.load(args.bank).without(args.ids)
        bank.save(args.bank)
    return _say(args, bank, {"removed": len(set(args.ids))})


def take(args: argparse.Namespace) -> int:
    """Add hashes from a list."""
    from nsfw_guard.tools.examples import read_list, with_list

    examples = read_list(Path(args.file), _decision(args), distance=args.distance)
    with _changing(args.bank):
        bank = with_list(_opened(args.bank), examples)
        bank.save(args.bank)
    return _say(args, bank, {"read": len(examples)})


def give(args: argparse.Namespace) -> int:
    """Write the hashes as a list."""
    from nsfw_guard.backends.examples.bank import Bank
    from nsfw_guard.tools.examples import write_list

    bank = Bank.load(args.bank)
    return _say(args, bank, {"written": write_list(bank, Path(args.file))})


@contextmanager
def _changing(folder: str) -> Iterator[None]:
    """Keep others from changing the bank meanwhile, whose examples would be lost."""
    from nsfw_guard.tools.lock import locked

    Path(folder).mkdir(parents=True, exist_ok=True)
    with locked(Path(folder), wait=SECONDS):
        yield


def _opened(folder: str) -> Bank:
    from nsfw_guard.backends.examples.bank import HEAD, Bank

    return Bank.load(folder) if Path(folder, HEAD).exists() else Bank()


def _guard(args: argparse.Namespace, bank: Bank) -> Guard:
    from nsfw_guard.guard import Guard

    return Guard.from_pretrained(args.model or bank.model or "marqo")


def _decision(args: argparse.Namespace) -> Decision:
    from nsfw_guard.tools.examples import Decision

    return Decision(kind=args.kind, reason=args.reason, label=args.label, ticket=args.ticket, expires=args.expires)


def _say(args: argparse.Namespace, bank: Bank, facts: dict[str, int]) -> int:
    facts = {**facts, "examples": len(bank.examples)}
    if args.json:
        show.as_json({"bank": args.bank, **facts})
    else:
        show.table([(name, str(value)) for name, value in facts.items()], ("what", "count"))
    return 0
