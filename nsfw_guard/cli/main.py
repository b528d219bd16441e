"""The parser. Imports nothing heavy, so that help comes at once."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from typing import NoReturn

from nsfw_guard.cli import audit, check, demo, doctor, models, policy
from nsfw_guard.errors import NsfwGuardError
from nsfw_guard.version import __version__

EXITS = """exit codes:
  0    done; no picture reached --fail-on
  1    a picture was blocked (or held for review, with --fail-on review); a log or a policy that does not verify
  2    a picture could not be judged
  3    the command could not run: unknown model, unfit policy, missing file, wrong usage
  130  interrupted
"""


class Parser(argparse.ArgumentParser):
    """argparse that leaves 2 to pictures which could not be judged."""

    def error(self, message: str) -> NoReturn:
        """Says what is wrong, and ends with 3."""
        self.print_usage(sys.stderr)
        self.exit(3, f"{self.prog}: {message}\n")


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = Parser(
        prog="nsfw-guard",
        description="Screens pictures with a model, a policy and an action. Fails closed.",
        epilog=EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"nsfw-guard {__version__}")
    top.add_argument("-v", "--verbose", action="store_true", help="show the log, with the cause of every ERROR")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for module in (check, models, policy, audit, demo, doctor):
        module.add(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; gives its exit code."""
    args = parser().parse_args(argv)
    logging.basicConfig(
        level=logging.INFO if args.verbose else logging.CRITICAL, stream=sys.stderr, format="%(name)s: %(message)s"
    )
    try:
        code: int = args.run(args)
    except NsfwGuardError as error:
        print(f"nsfw-guard: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("nsfw-guard: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output went away (`| head`): nothing to complain about, and nothing more to write.
        sys.stderr.close()
        return 0
    return code


if __name__ == "__main__":
    sys.exit(main())
