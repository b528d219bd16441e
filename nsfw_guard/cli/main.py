"""The parser. Imports nothing heavy, so that help comes at once."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from nsfw_guard.cli import audit, check, demo, doctor, export, integrate, models, policy, show, verify
from nsfw_guard.cli.screening import convert, index, report, scan, watch
from nsfw_guard.cli.teaching import bank, calibrate, compare_models, evaluate, finetune, replay
from nsfw_guard.errors import NsfwGuardError
from nsfw_guard.version import __version__

log = logging.getLogger(__name__)

EXITS = """exit codes:
  0    done; no image reached --fail-on
  1    an image was blocked (or held for review, with --fail-on review), or a log or a policy does
       not verify, a bank would block an image, two policies differ, or a model allows what it
       blocks under another setting (evaluate --parity)
  2    an image could not be judged
  3    the command failed: unknown model, unfit policy, missing file, wrong usage, closed output
  130  interrupted
"""


class Parser(argparse.ArgumentParser):
    """argparse with the exit code 3 for wrong usage: 2 means that an image could not be judged."""

    def error(self, message: str) -> NoReturn:
        """Print the error, and exit with 3."""
        self.print_usage(sys.stderr)
        self.exit(3, f"{self.prog}: {show.clean(message)}\n")


def parser() -> argparse.ArgumentParser:
    """Return the whole command line."""
    top = Parser(
        prog="nsfw-guard",
        description="Screens images with a model, a policy and an action. Fails closed.",
        epilog=EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"nsfw-guard {__version__}")
    top.add_argument("-v", "--verbose", action="store_true", help="show the log, with the cause of every ERROR")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    scans, teaching = (
        (check, scan, report, watch, index, convert),
        (bank, finetune, calibrate, evaluate, compare_models, replay),
    )
    for module in (*scans, *teaching, models, verify, export, policy, audit, demo, doctor, integrate):
        module.add(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    if not words:
        parser().print_help(sys.stderr)
        return 3
    args = parser().parse_args(words)
    logging.basicConfig(
        level=logging.INFO if args.verbose else logging.CRITICAL, stream=sys.stderr, format="%(name)s: %(message)s"
    )
    if not args.verbose:  # the hub's client has its own log handler; problems that matter raise errors
        logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)
    try:
        code: int = args.run(args)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of our output has closed it (`| head`). No message is needed, but the code must not be 0, since
        # not every verdict was printed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 3
    except (NsfwGuardError, OSError) as error:
        show.say(f"nsfw-guard: {error}")
        return 3
    except KeyboardInterrupt:
        show.say("nsfw-guard: interrupted")
        return 130
    except Exception as error:
        # Python would exit with 1, which means that an image was blocked.
        log.exception("the command failed")
        show.say(f"nsfw-guard: {type(error).__name__}: {error} (--verbose shows the traceback)")
        return 3
    return code


if __name__ == "__main__":
    sys.exit(main())
