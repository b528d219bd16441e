"""The pages of the site: all in the navigation, no link to a page that is not there, every public name."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

import nsfw_guard

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    script = runpy.run_path(str(ROOT / "docs" / "site.py"))
    script["main"].__globals__["PAGES"] = folder / "pages"
    script["main"]()
    return folder / "pages"


def test_every_page_is_in_the_navigation(pages) -> None:
    named = set(re.findall(r": ([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    assert {path.name for path in pages.glob("*.md")} == named


def test_links_between_pages_lead_somewhere(pages) -> None:
    for path in pages.glob("*.md"):
        for link in re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", path.read_text()):
            assert (pages / link).exists(), f"{path.name} links to {link}"


def test_the_reference_has_every_public_name_once(pages) -> None:
    named = re.findall(r"^::: nsfw_guard\.[\w.]+\.(\w+)$", (pages / "api.md").read_text(), re.MULTILINE)
    assert sorted(named) == sorted(nsfw_guard._HOME_OF)


def test_the_reference_of_the_command_has_every_option(pages) -> None:
    text = (pages / "command-line.md").read_text()
    assert all(f"## {command}\n" in text for command in ("check", "fetch", "audit verify", "policy lint", "integrate"))
    assert "--fail-on" in text
