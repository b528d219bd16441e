"""Gathers the pages of the site: the documents as they stand, and references made from the code itself.

python docs/site.py, then mkdocs build --strict (`make docs` does both).
"""

from __future__ import annotations

import argparse
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import nsfw_guard
from nsfw_guard.cli.main import parser

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "site-pages"
# Documents that stand elsewhere in the repository, with their names on the site.
MOVED = {
    "README.md": "index.md", "SECURITY.md": "security.md", "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md", "benchmarks/RESULTS.md": "results.md",
}  # fmt: skip
GROUPS = {
    "Judging": ("guard", "verdict", "policy", "scores"),
    "Images": ("imaging",),
    "Models": ("backends", "calibration"),
    "Acting and telling": ("actions", "listeners"),
    "Pipelines": ("pipelines",),
    "Errors": ("errors",),
}


def main() -> None:
    """Write every page into `site-pages/`."""
    shutil.rmtree(PAGES, ignore_errors=True)
    PAGES.mkdir()
    for path in (ROOT / "docs").iterdir():
        if path.suffix in {".md", ".png"}:
            _copy(path, PAGES / path.name)
    for source, name in MOVED.items():
        _copy(ROOT / source, PAGES / name)
    (PAGES / "command-line.md").write_text("\n".join(command_line()), encoding="utf-8")
    (PAGES / "api.md").write_text("\n".join(api()), encoding="utf-8")


def _copy(source: Path, target: Path) -> None:
    if source.suffix != ".md":
        shutil.copy(source, target)
        return
    text = source.read_text(encoding="utf-8")
    for old, new in MOVED.items():
        text = re.sub(rf"\]\((?:\.\./)*{re.escape(old)}(#[\w-]+)?\)", rf"]({new}\1)", text)
    target.write_text(text.replace("](docs/", "]("), encoding="utf-8")


def command_line() -> Iterator[str]:
    """Yield the reference of the command, made from its parsers."""
    top = parser()
    yield "# Command line\n"
    yield f"```text\n{top.format_help().rstrip()}\n```\n"
    for words, command in _commands(top, ("nsfw-guard",)):
        yield f"## {' '.join(words[1:])}\n"
        yield f"```text\n{command.format_help().rstrip()}\n```\n"


def _commands(
    command: argparse.ArgumentParser, words: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    for action in command._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield (*words, name), inner
                yield from _commands(inner, (*words, name))


def api() -> Iterator[str]:
    """Yield the reference of every public name, in groups, made from the docstrings."""
    yield "# Python\n"
    yield "All of it is imported from the top: `from nsfw_guard import Guard`.\n"
    for group, rooms in GROUPS.items():
        yield f"## {group}\n"
        for name, home in nsfw_guard._HOME_OF.items():
            if home.split(".")[0] in rooms:
                yield f"::: nsfw_guard.{home}.{name}\n"
    left = {n for n, home in nsfw_guard._HOME_OF.items() if home.split(".")[0] not in sum(GROUPS.values(), ())}
    if left:
        raise SystemExit(f"no group of the reference holds {', '.join(sorted(left))}: name its room in GROUPS")


if __name__ == "__main__":
    main()
