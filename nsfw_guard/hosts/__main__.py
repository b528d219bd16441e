"""Every way out of every host, and how it is closed; or who in a checkout of one draws, saves and sends images.

python -m nsfw_guard.hosts coverage
python -m nsfw_guard.hosts callers sdnext path/to/sdnext
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from nsfw_guard.hosts.callers import Placed, State, placed
from nsfw_guard.hosts.comfyui.exits import COMFYUI
from nsfw_guard.hosts.coverage import Exit
from nsfw_guard.hosts.integrate import HOSTS
from nsfw_guard.hosts.webui.exits import A1111, SDNEXT

EXITS = (*SDNEXT, *A1111, *COMFYUI)


def lines(exits: Sequence[Exit], *, as_json: bool) -> Iterator[str]:
    """Return the table as Markdown, or one JSON value a line."""
    if not as_json:
        yield "| host | way out | how it is closed |"
        yield "|---|---|---|"
    for one in exits:
        if as_json:
            yield json.dumps({"host": one.host, "way": one.way, "hooks": list(one.hooks), "how": one.how})
        else:
            yield f"| {one.host} | {one.way} | {'' if one.coverable else '**not closed**: '}{one.how} |"


def caller_lines(callers: Sequence[Placed], host: str, *, as_json: bool) -> Iterator[str]:
    """Return the callers of a checkout as Markdown, or one JSON value a line."""
    closed = {one.way: one.coverable for one in EXITS if one.host == host}
    if not as_json:
        yield "| caller | state | row, or why it needs none |"
        yield "|---|---|---|"
    for one in callers:
        state = one.state.value
        if one.state is State.IN_A_ROW:
            state = "closed" if closed[one.text] else "not closed"
        if as_json:
            yield json.dumps({**vars(one.caller), "state": state, "text": one.text})
        else:
            yield f"| {one.caller} | {'closed' if state == 'closed' else f'**{state}**'} | {one.text} |"


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table; 1 where a caller stands in no row."""
    parser = argparse.ArgumentParser(prog="python -m nsfw_guard.hosts", description=__doc__)
    what = parser.add_subparsers(dest="what", required=True)
    shows = [what.add_parser("coverage", help="every way out of every host")]
    callers = what.add_parser("callers", help="who in a checkout draws, saves and sends images")
    callers.add_argument("host", choices=sorted(HOSTS))
    callers.add_argument("path", type=Path, help="the checkout")
    for one in (*shows, callers):
        one.add_argument("--json", action="store_true", help="print JSON, one value a line")
    args = parser.parse_args(argv)
    listed = placed(args.path, args.host) if args.what == "callers" else []
    table = (
        lines(EXITS, as_json=args.json)
        if args.what == "coverage"
        else caller_lines(listed, args.host, as_json=args.json)
    )
    try:
        sys.stdout.writelines(f"{line}\n" for line in table)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader went away (`| head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 3
    return 1 if any(one.state is State.NEW for one in listed) else 0


if __name__ == "__main__":
    sys.exit(main())
