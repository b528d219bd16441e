"""nsfw-guard integrate: installs, checks and removes the adapter of a user interface."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nsfw_guard.cli import show

if TYPE_CHECKING:
    from nsfw_guard.hosts.running import Running

HOSTS = ("a1111", "comfyui", "sdnext")


def add(commands: Any) -> None:
    """Add the command."""
    command: argparse.ArgumentParser = commands.add_parser(
        "integrate",
        help="put the adapter into sdnext, A1111 / Forge or ComfyUI",
        description="Puts the adapter into a host's folder. nsfw-guard itself must be in the host's own environment.",
    )
    command.add_argument("host", choices=HOSTS)
    command.add_argument("path", metavar="PATH", help="the host's folder, its data folder or its folder of extensions")
    command.add_argument("--into", metavar="FOLDER", help="the folder of extensions, where start files do not name it")
    command.add_argument("--url", help="with --check: ask the running host too, such as http://127.0.0.1:7860")
    way = command.add_mutually_exclusive_group()
    way.add_argument("--link", action="store_true", help="link the folder instead of copying it")
    way.add_argument("--check", action="store_true", help="say what is there; exit 1 when something does not fit")
    way.add_argument("--remove", action="store_true", help="take it out again")
    show.json_flag(command)
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Install the adapter, or check or remove it."""
    from nsfw_guard.errors import ConfigError
    from nsfw_guard.hosts import integrate
    from nsfw_guard.hosts.running import ask

    path, into = Path(args.path), Path(args.into) if args.into else None
    if args.url and not args.check:
        raise ConfigError("--url is only used together with --check: add --check")
    if args.check:
        report = integrate.examine(args.host, path, into=into)
        return _check(report, ask(args.host, args.url) if args.url else None, args.json)
    if args.remove:
        target, done = integrate.remove(args.host, path, into=into), "removed"
    else:
        target = integrate.install(args.host, path, link=args.link, into=into)
        done = "linked" if args.link else "copied"
    if args.json:
        show.as_json({"host": args.host, "done": done, "path": str(target)})
        return 0
    print(show.clean(f"{done}: {target}"))
    if not args.remove:
        show.say("start the host again; nsfw-guard must be installed in its own environment")
        show.say("whether it runs there: nsfw-guard integrate HOST PATH --check --url http://127.0.0.1:PORT")
        if args.host == "comfyui":
            show.say("it covers every graph from then on; NSFW_GUARD_ENFORCE=0 leaves its own two nodes only")
    return 0


def _check(report: dict[str, Any], running: Running | None, as_json: bool) -> int:
    """Prints what is there and, where it was asked, what the running host says; 1 where anything does not fit."""
    faults = () if running is None else running.faults
    fits = report["adapter"] in {"installed", "linked"} and not (report["missing"] or report["new"] or faults)
    if as_json:
        asked = {} if running is None else {"url": running.url, "running": running.says, "faults": list(faults)}
        show.as_json({**report, **asked, "fits": fits})
        return 0 if fits else 1
    rows = [("adapter", report["adapter"]), ("read from", report["folder"]), ("nsfw-guard", report["version"])]
    rows.append((report["host"], _names(report["missing"])))
    rows.append(("callers", _callers(report["new"])))
    if running is not None:
        rows.append((running.url, running.says))
    show.table(rows, ("what", "found"))
    for symbol in report["missing"] or ():
        show.say(f"GONE  {symbol}: this version of the host has it no more; its way out is not closed")
    for caller in report["new"] or ():
        show.say(f"NEW   {caller}: in no row of the ways out: nobody has looked whether it is closed")
    for fault in faults:
        show.say(f"FAULT  {fault}")
    return 0 if fits else 1


def _names(missing: list[str] | None) -> str:
    if missing is None:
        return "its code is not in this folder: ask the running host by --url"
    return f"lacks {len(missing)} of the names that the adapter hooks" if missing else "has every name that is hooked"


def _callers(new: list[str] | None) -> str:
    if new is None:
        return "not looked up"
    return f"{len(new)} of what draws, saves or sends are in no row" if new else "each is in a row of the ways out"
