"""nsfw-guard integrate: the adapter of a user interface, put in, looked at, taken out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from nsfw_guard.cli import show

HOSTS = ("a1111", "comfyui", "sdnext")


def add(commands: Any) -> None:
    """Adds the command."""
    command: argparse.ArgumentParser = commands.add_parser(
        "integrate",
        help="put the adapter into sdnext, A1111 / Forge or ComfyUI",
        description="Puts the adapter into a host's folder. nsfw-guard itself must be in the host's own environment.",
    )
    command.add_argument("host", choices=HOSTS)
    command.add_argument("path", metavar="PATH", help="the host's folder")
    way = command.add_mutually_exclusive_group()
    way.add_argument("--link", action="store_true", help="link the folder instead of copying it")
    way.add_argument("--check", action="store_true", help="say what is there; exit 1 when something does not fit")
    way.add_argument("--remove", action="store_true", help="take it out again")
    show.json_flag(command)
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Puts it in, or does what was asked for instead."""
    from nsfw_guard.hosts import integrate

    checkout = Path(args.path)
    if args.check:
        return _check(integrate.examine(args.host, checkout), args.json)
    target = (
        integrate.remove(args.host, checkout) if args.remove else integrate.install(args.host, checkout, link=args.link)
    )
    done = "removed" if args.remove else "linked" if args.link else "copied"
    if args.json:
        show.as_json({"host": args.host, "done": done, "path": str(target)})
    else:
        print(show.clean(f"{done}: {target}"))
        if not args.remove:
            show.say("start the host again; nsfw-guard must be installed in its own environment")
            if args.host == "comfyui":
                show.say("it covers every graph from then on; NSFW_GUARD_ENFORCE=0 leaves its own two nodes only")
    return 0


def _check(found: dict[str, Any], as_json: bool) -> int:
    fits = found["adapter"] in {"installed", "linked"} and not found["missing"]
    if as_json:
        show.as_json({**found, "fits": fits})
        return 0 if fits else 1
    gone = len(found["missing"])
    host = f"lacks {gone} of the names that the adapter hooks" if gone else "has every name that the adapter hooks"
    show.table(
        [("adapter", found["adapter"]), ("nsfw-guard", found["version"]), (found["host"], host)], ("what", "found")
    )
    for symbol in found["missing"]:
        show.say(f"GONE  {symbol}: this version of the host has it no more; its way out is not closed")
    return 0 if fits else 1
