"""Public names are listed, sorted, there, and documented; versions and bounds agree with each other."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

import nsfw_guard

ROOT = Path(__file__).parent.parent


def test_all_is_sorted_and_complete() -> None:
    assert nsfw_guard.__all__ == sorted(nsfw_guard.__all__)
    assert set(nsfw_guard.__all__) == {*nsfw_guard._HOME_OF, "__version__"}
    assert dir(nsfw_guard) == nsfw_guard.__all__


@pytest.mark.parametrize("name", nsfw_guard.__all__)
def test_every_name_is_there_and_documented(name) -> None:
    if nsfw_guard._HOME_OF.get(name) in {"pipelines.blocks", "pipelines.early.callback", "pipelines.checker"}:
        pytest.importorskip("diffusers")
    value = getattr(nsfw_guard, name)
    assert name == "__version__" or (value.__doc__ or "").strip()


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Gard'"):
        _ = nsfw_guard.Gard


def test_the_names_of_the_checker_and_of_the_types_agree() -> None:
    source = (ROOT / "nsfw_guard" / "__init__.py").read_text()
    typed = source[source.index("if TYPE_CHECKING") : source.index("_HOMES")]
    assert all(re.search(rf"\b{name}\b", typed) for name in nsfw_guard._HOME_OF)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib came with Python 3.11")
def test_the_lower_bounds_are_the_versions_that_are_tested() -> None:
    import tomllib

    bounds = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    lowest = dict(re.findall(r"^([\w-]+)==([\d.]+)", (ROOT / "constraints-lowest.txt").read_text(), re.MULTILINE))
    for bound in bounds:
        name, version = re.match(r"([\w-]+)>=([\d.]+)", bound).groups()
        if name != "tomli":
            assert lowest[name].removesuffix(".0") == version.removesuffix(".0"), bound


@pytest.mark.parametrize("file", ["constraints.txt", "constraints-lowest.txt", "pyproject.toml"])
def test_no_address_of_an_index_is_written_down(file) -> None:
    text = (ROOT / file).read_text()
    assert "://" not in text
    assert "index-url" not in text


def test_the_version_is_in_the_changelog() -> None:
    assert f"## {nsfw_guard.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_version_is_the_one_to_cite() -> None:
    assert f"\nversion: {nsfw_guard.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_workflows_run_commands_that_exist() -> None:
    """What the files for contributors call is there: targets of the Makefile, versions of Python that are declared."""
    workflow = (ROOT / ".github" / "workflows" / "test.yml").read_text()
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"run: make ([\w-]+)", workflow)
    assert targets
    assert all(f"\n{target}:" in makefile for target in targets)
    declared = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text())
    assert re.findall(r'"(3\.\d+)"', re.search(r"python: \[(.*)\]", workflow)[1]) == declared
