"""What a search or a comparison has found, as one page with small images behind a blur."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePath

from PIL import Image

from nsfw_guard.errors import ConfigError
from nsfw_guard.imaging.clips.clip import CLIP_LIMITS
from nsfw_guard.imaging.limits import Limits
from nsfw_guard.tools.clips import CLIP_SUFFIXES
from nsfw_guard.tools.pages import page, text
from nsfw_guard.tools.screening.sources.containers import read_file
from nsfw_guard.tools.sheets import figure, small_copy
from nsfw_guard.tools.similarity.groups import Group
from nsfw_guard.tools.similarity.store import Facts, Match

MOST_GROUPS, MOST_IMAGES = 100, 24  # on a page of groups, and of each group


def write_search(file: Path, images: Sequence[str], answers: Sequence[Sequence[Match]]) -> None:
    """Write a page with each image that was asked about, and its matches.

    Args:
        file: of the page, ending with .html.
        images: the paths that were asked about.
        answers: the matches of each.

    Raises:
        ConfigError: the file is no .html, or its folder does not exist.
    """
    sections = []
    for image, matches in zip(images, answers, strict=True):
        asked = figure(_copy(image, None), f"<b>asked</b><br><small>{text(image)}</small>")
        shown = [_figure(match.key, match.facts, f"{match.similarity:.3f}") for match in matches]
        sections.append(f"<section><h2>{text(image)}</h2><div class=sheet>{asked}{''.join(shown)}</div></section>")
    _write(file, page("Images by likeness", "\n".join(sections)))


def write_groups(file: Path, groups: Sequence[Group], least: float) -> None:
    """Write a page with the largest groups.

    Args:
        file: of the page, ending with .html.
        groups: the largest first.
        least: the least similarity by which images were joined.

    Raises:
        ConfigError: the file is no .html, or its folder does not exist.
    """
    count = sum(len(group.keys) for group in groups)
    sections = [
        f"<section><p>{len(groups)} groups with {count} images, joined by a similarity of {least:g} or more. Shown are "
        f"the {MOST_GROUPS} largest groups, and {MOST_IMAGES} images of each.</p></section>"
    ]
    for group in groups[:MOST_GROUPS]:
        pairs = zip(group.keys[:MOST_IMAGES], group.facts, strict=False)
        shown = "".join(_figure(key, facts, "") for key, facts in pairs)
        sections.append(f"<section><h2>{len(group.keys)} images</h2><div class=sheet>{shown}</div></section>")
    _write(file, page("Groups of images by likeness", "\n".join(sections)))


def check_page(file: Path) -> None:
    """Raise an error where no page can be written, before the work that it shows.

    Raises:
        ConfigError: the file is no .html, or its folder does not exist.
    """
    if file.suffix.lower() not in {".html", ".htm"} or file.is_dir() or not file.parent.is_dir():
        raise ConfigError(f"a page must be a .html file in a folder that exists, got {str(file)!r}: correct the path")


def _figure(key: str, facts: Facts, similarity: str) -> str:
    words = " ".join(filter(None, (facts.get("outcome", "").upper(), facts.get("category", ""), similarity)))
    # Only what is still the judged file is shown: its name may hold another image by now, or be no file at all.
    sha256 = facts.get("sha256")
    return figure(_copy(key, sha256) if sha256 else None, f"<b>{text(words)}</b><br><small>{text(key)}</small>")


def _copy(path: str, sha256: str | None) -> Image.Image | None:
    is_clip, limits = PurePath(path).suffix.lower() in CLIP_SUFFIXES, Limits()
    content = read_file(path, CLIP_LIMITS.bytes if is_clip else limits.bytes)
    return small_copy(content, sha256=sha256, is_clip=is_clip, limits=limits)


def _write(file: Path, content: str) -> None:
    check_page(file)
    part = file.with_name(f"{file.name}.new")
    part.write_text(content, encoding="utf-8")
    part.replace(file)
