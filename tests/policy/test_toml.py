"""Policies as files: whatever is misspelt, missing or goes in a circle is refused, with the cure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nsfw_guard.backends.catalog.classifiers import MARQO
from nsfw_guard.errors import ConfigError, PolicyError, UnknownNameError
from nsfw_guard.policy.policy import Policy
from nsfw_guard.policy.prompts import PromptRules
from nsfw_guard.policy.rules import Rule
from nsfw_guard.policy.toml import PRESETS, presets
from nsfw_guard.scores import Severity


def write(folder: Path, **files: str) -> Path:
    """Writes each text as <name>.toml; gives the folder."""
    for name, text in files.items():
        (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    return folder


def test_the_presets_are_the_files_of_the_package() -> None:
    assert presets() == ("default", "lenient", "strict")
    assert PRESETS.is_dir()


@pytest.mark.parametrize("name", presets())
def test_each_preset_cuts_every_category_by_its_own_name(name: str) -> None:
    policy = Policy.load(name)
    assert policy.rules == {"*": Rule(block=name, review=name)}
    assert policy.name == name
    assert policy.description.endswith(".")


def test_the_presets_are_ordered_for_the_model_of_the_catalogue() -> None:
    fitted = {n: Policy.load(n).bind(MARQO).rules["sexual"] for n in presets()}
    strict, default, lenient = (fitted[name] for name in ("strict", "default", "lenient"))
    assert (strict.block, default.block, lenient.block) == (0.15, 0.5, 0.8)
    assert (strict.review, default.review, lenient.review) == (0.1, 0.3, 0.5)
    assert set(strict.views) == set(default.views) == set(lenient.views)
    assert all(strict.views[k] < default.views[k] < lenient.views[k] for k in default.views)


def test_the_descriptions_of_the_presets_differ() -> None:
    assert len({Policy.load(name).description for name in presets()}) == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "allows everything"),
        ("rules = {}", "allows everything"),
        ("ruels = {}", "unknown key 'ruels' in policy: did you mean 'rules'?"),
        ("block = 0.5", "unknown key 'block' in policy: choose from clips, description, name, prompts, rules"),
        ("[rules.a]\nblok = 0.5", "unknown key 'blok' in rule 'a': did you mean 'block'?"),
        ("[rules.a]\nblock = 0.5\nreveiw = 0.1", "unknown key 'reveiw' in rule 'a': did you mean 'review'?"),
        ("[rules.a]\nblock = 0.5\nseverty = 'low'", "did you mean 'severity'?"),
        ("[rules.a]", "needs a threshold"),
        ("[rules.a]\nblock = 0", "a threshold must be above 0"),
        ("[rules.a]\nblock = 1.5", "up to 1"),
        ("[rules.a]\nblock = nan", "a threshold must be a number"),
        ("[rules.a]\nblock = inf", "a threshold must be a number"),
        ("[rules.a]\nblock = true", "a threshold must be a number"),
        (
            "[rules.a]\nblock = '0.5'",
            "is neither a number nor a threshold's name: choose from default, lenient, strict",
        ),
        ("[rules.a]\nblock = 'strickt'", "did you mean 'strict'?"),
        ("[rules.a]\nblock = [0.5]", "a threshold must be a number"),
        ("[rules.a]\nblock = 2026-01-01", "a threshold must be a number"),
        ("[rules.a]\nblock = 0.5\nseverity = 'worst'", "severity must be low, medium or high"),
        ("[rules.a]\nblock = 0.5\nseverity = true", "severity must be low, medium or high"),
        ("[rules.a]\nblock = 0.5\nviews = 3", "views must map kinds of view to thresholds"),
        ("[rules.a]\nblock = 0.5\nviews.side = 'strict'", "side = 'strict': a threshold must be a number"),
        ("rules = 3", "rules must be a table of tables"),
        ("rules = [1]", "rules must be a table of tables"),
        ("rules.a = 0.5", "rules must be a table of tables"),
        ("[[rules.a]]\nblock = 0.5", "rules must be a table of tables"),
        ("extends = 3", "extends must be the name of one preset or file, got 3"),
        ("extends = ['default']", "must be the name of one preset or file"),
        ("extends = ''", "must be the name of one preset or file"),
        ("extends = 'defualt'", "unknown policy 'defualt': did you mean 'default'?"),
        ("extends = 'other.toml'", "the policy file 'other.toml' does not exist"),
        ("[rules.a]\nblock = 0.5\n[rules.a]", "mine.toml cannot be read as TOML"),
        ("[rules.a", "mine.toml cannot be read as TOML"),
        ("block = 0.5.5", "mine.toml cannot be read as TOML"),
    ],
)
def test_a_file_with_a_mistake_is_refused_with_the_cure(text: str, said: str, tmp_path: Path) -> None:
    path = write(tmp_path, mine=text) / "mine.toml"
    with pytest.raises(ConfigError) as caught:
        Policy.load(path)
    assert said in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("data", [b"\xff\xfe", b"name = '\xff'", b"\x00"])
def test_bytes_that_are_no_text_are_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(data)
    with pytest.raises(PolicyError, match="cannot be read as TOML"):
        Policy.load(tmp_path / "mine.toml")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("strickt", "unknown policy 'strickt': did you mean 'strict'?"),
        ("zebra", "unknown policy 'zebra': choose from default, lenient, strict"),
        ("", "unknown policy '': choose from default, lenient, strict"),
    ],
)
def test_an_unknown_name_names_the_nearest(name: str, said: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        Policy.load(name)
    assert str(caught.value) == said


def test_a_missing_file_is_named_without_its_folder(tmp_path: Path) -> None:
    with pytest.raises(PolicyError) as caught:
        Policy.load(tmp_path / "mine.toml")
    assert "the policy file 'mine.toml' does not exist: pass a TOML file, or one of default" in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_a_folder_is_no_policy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        Policy.load(tmp_path)


@pytest.mark.parametrize("source", [None, 3, 0.5, ["default"], b"default"], ids=repr)
def test_a_source_of_another_type_is_refused(source: Any) -> None:
    with pytest.raises(PolicyError, match="a policy must be a preset's name, a TOML file or a mapping"):
        Policy.load(source)


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    text = """
name = "ours"
description = "what we said"
[rules.sexual]
block = 0.75
review = "default"
severity = "low"
[rules.sexual.views]
side = 1
[rules."*"]
review = 0.5
"""
    policy = Policy.load(write(tmp_path, mine=text) / "mine.toml")
    assert (policy.name, policy.description) == ("ours", "what we said")
    assert policy.rules == {
        "sexual": Rule(block=0.75, review="default", severity=Severity.LOW, views={"side": 1.0}),
        "*": Rule(review=0.5),
    }


@pytest.mark.parametrize(("mapping", "name"), [({}, "policy"), ({"name": "mine"}, "mine"), ({"name": 3}, "3")])
def test_a_mapping_is_read_like_a_file(mapping: dict[str, Any], name: str) -> None:
    policy = Policy.load({**mapping, "rules": {"a": {"block": 0.5}}})
    assert (policy.name, policy.rules) == (name, {"a": Rule(block=0.5)})


def test_a_policy_without_a_name_is_named_after_its_file(tmp_path: Path) -> None:
    write(tmp_path, mine="[rules.a]\nblock = 0.5", child="extends = 'mine.toml'")
    assert Policy.load(tmp_path / "mine.toml").name == "mine"
    assert Policy.load(tmp_path / "child.toml").name == "child"


def test_a_review_rule_keeps_the_parents_block(tmp_path: Path) -> None:
    """Else 0.999 of a category that "strict" blocks would be released for naming it."""
    policy = Policy.load({"extends": "strict", "rules": {"gore": {"review": 0.01}}})
    assert policy.rules["gore"] == Rule(block="strict", review=0.01)
    both = Policy.load({"extends": "strict", "rules": {"*": {"block": 0.1}, "gore": {"review": 0.01}}})
    assert both.rules["gore"] == Rule(block=0.1, review=0.01)  # what stands above it in the same file, too
    base = {"*": {"block": 0.8, "views": {"side": 0.2}}}
    (tmp_path / "base.toml").write_text('[rules."*"]\nblock = 0.8\nviews = { side = 0.2 }')
    viewed = Policy.load({"extends": str(tmp_path / "base.toml"), "rules": {"gore": {"review": 0.1}}})
    assert viewed.rules["gore"] == Rule(review=0.1, **base["*"])
    alone = Policy.load({"rules": {"gore": {"review": 0.01}, "*": {"block": 0.5}}})  # says all that it means itself
    assert alone.rules["gore"] == Rule(review=0.01)
    assert alone.reviews_only == ("gore",)
    assert policy.reviews_only == ()


def test_a_policy_that_extends_a_preset_changes_only_what_it_names() -> None:
    policy = Policy.load({"extends": "strict", "rules": {"*": {"review": 0.125}, "gore": {"block": 0.5}}})
    assert policy.rules == {"*": Rule(block="strict", review=0.125), "gore": Rule(block=0.5)}
    assert policy.description == Policy.load("strict").description


def test_a_file_extends_a_file_beside_it_over_several_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "below" / "deep").mkdir(parents=True)
    write(tmp_path, top="extends = 'default'\n[rules.a]\nblock = 0.5\nreview = 0.25")
    write(tmp_path / "below", middle="extends = '../top.toml'\n[rules.a]\nblock = 0.75")
    write(tmp_path / "below" / "deep", mine="extends = '../middle.toml'\n[rules.b]\nreview = 0.25")
    every = {"*": Rule(block="default", review="default")}
    expected = {**every, "a": Rule(block=0.75, review=0.25), "b": Rule(block="default", review=0.25)}
    assert Policy.load(tmp_path / "below" / "deep" / "mine.toml").rules == expected
    monkeypatch.chdir(tmp_path / "below")
    assert Policy.load("deep/mine.toml").rules == expected


def test_a_file_may_extend_a_file_by_its_whole_path(tmp_path: Path) -> None:
    write(tmp_path, top="[rules.a]\nblock = 0.5")
    assert Policy.load({"extends": str(tmp_path / "top.toml")}).rules == {"a": Rule(block=0.5)}


@pytest.mark.parametrize(
    "files",
    [
        {"a": "extends = 'a.toml'"},
        {"a": "extends = 'b.toml'", "b": "extends = 'a.toml'"},
        {"a": "extends = 'b.toml'", "b": "extends = './b.toml'"},
        {"a": "extends = 'b.toml'", "b": "extends = 'c.toml'", "c": "extends = 'b.toml'"},
    ],
    ids=len,
)
@pytest.mark.parametrize("inside", [True, False], ids=["in the folder", "from elsewhere"])
def test_a_circle_is_refused(files: dict[str, str], inside: bool, tmp_path: Path, monkeypatch: Any) -> None:
    write(tmp_path, **files)
    if inside:
        monkeypatch.chdir(tmp_path)
    with pytest.raises(PolicyError, match=r"extend each other in a circle \(a.toml -> "):
        Policy.load("a.toml" if inside else tmp_path / "a.toml")


def test_a_file_that_is_named_like_the_preset_it_extends_is_no_circle(tmp_path: Path) -> None:
    write(tmp_path, strict="extends = 'strict'\n[rules.a]\nblock = 0.5")
    assert set(Policy.load(tmp_path / "strict.toml").rules) == {"*", "a"}


def test_a_parent_reached_twice_is_not_a_circle(tmp_path: Path) -> None:
    write(tmp_path, top="[rules.a]\nblock = 0.5", mine="extends = 'top.toml'")
    assert Policy.load(tmp_path / "mine.toml") == Policy(rules={"a": Rule(block=0.5)}, name="mine")


def test_a_mapping_that_was_given_is_left_as_it_was() -> None:
    mapping = {"extends": "strict", "rules": {"*": {"review": 0.125}}}
    Policy.load(mapping)
    assert mapping == {"extends": "strict", "rules": {"*": {"review": 0.125}}}


RED = "[rules.red]\nblock = 0.5\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prompts = 3\n" + RED, "prompts must be a table"),
        ("prompts = ['dragon']\n" + RED, "prompts must be a table"),
        (RED + "[prompts]\nwrods = ['dragon']", "unknown key 'wrods' in prompts: did you mean 'words'?"),
        (RED + "[prompts]\nwords = 'dragon'", "must be a list of strings"),
        (RED + "[prompts]\nwords = [3]", "must be a list of strings"),
        (RED + "[prompts]\npatterns = ['(']", "is not a valid regular expression"),
        (RED + "[prompts]", "has neither words nor patterns"),
        ("[prompts]\nwords = ['dragon']", "allows everything"),
        ("extends = 'parent.toml'\n[prompts]\nwords = 'dragon'", "must be a list of strings"),
    ],
)
def test_invalid_prompt_rules_are_refused(text: str, said: str, tmp_path: Path) -> None:
    write(tmp_path, mine=text, parent=RED + "[prompts]\nwords = ['castle']")
    with pytest.raises(ConfigError) as caught:
        Policy.load(tmp_path / "mine.toml")
    assert said in str(caught.value)


def test_prompt_rules_are_read_and_those_of_a_parent_come_first(tmp_path: Path) -> None:
    write(
        tmp_path,
        parent=RED + "[prompts]\nwords = ['castle', 'lake']",
        mine="extends = 'parent.toml'\n[prompts]\nwords = ['dragon', 'lake']\npatterns = ['b+c']",
        heir="extends = 'mine.toml'",
        bare=RED,
    )
    assert Policy.load(tmp_path / "parent.toml").prompts == PromptRules(words=("castle", "lake"))
    both = PromptRules(words=("castle", "lake", "dragon"), patterns=("b+c",))
    assert Policy.load(tmp_path / "mine.toml").prompts == both
    assert Policy.load(tmp_path / "heir.toml").prompts == both
    assert Policy.load(tmp_path / "bare.toml").prompts is None
