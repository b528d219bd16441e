"""python -m nsfw_guard.hosts coverage: every way out of every host, and how it is closed."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence

from nsfw_guard.hosts.coverage import Exit
from nsfw_guard.hosts.exits_comfy import COMFYUI
from nsfw_guard.hosts.exits_webui import A1111, SDNEXT

EXITS = (*SDNEXT, *A1111, *COMFYUI)


def lines(exits: Sequence[Exit], *, as_json: bool) -> Iterator[str]:
    """The table as Markdown, or one JSON value a line."""
    if not as_json:
        yield "| host | way out | how it is closed |"
        yield "|---|---|---|"
    for one in exits:
        if as_json:
            yield json.dumps({"host": one.host, "way": one.way, "hooks": list(one.hooks), "how": one.how})
        else:
            yield f"| {one.host} | {one.way} | {'' if one.coverable else '**not closed**: '}{one.how} |"


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m nsfw_guard.hosts", description=__doc__)
    parser.add_argument("what", choices=["coverage"])
    parser.add_argument("--json", action="store_true", help="print JSON, one value a line")
    args = parser.parse_args(argv)
    try:
        sys.stdout.writelines(f"{line}\n" for line in lines(EXITS, as_json=args.json))
        sys.stdout.flush()
    except BrokenPipeError:  # the reader went away (`| head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
