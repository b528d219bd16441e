"""Listed words are found through their disguises, and nowhere else."""

from __future__ import annotations

import dataclasses
import pickle
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsfw_guard.errors import PolicyError
from nsfw_guard.prompts import LONGEST, PromptRules

RULES = PromptRules(words=("red disc", "dragon", "forbidden", "red", "slate"), patterns=(r"gl\w+x", r"#\d{3}"))


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({}, "match nothing"),
        ({"words": (), "patterns": ()}, "match nothing"),
        ({"words": "dragon"}, 'words is a list of texts, such as ["red disc"]'),
        ({"words": ["dragon", 3]}, "words is a list of texts"),
        ({"patterns": {"a": "b"}}, "patterns is a list of texts"),
        ({"words": ("dragon", "")}, "words holds an empty text"),
        ({"words": (" \t",)}, "words holds an empty text"),
        ({"words": ("--",)}, "'--' has no letter or digit"),
        ({"words": ("\u200b.",)}, "has no letter or digit"),
        ({"patterns": ("",)}, "patterns holds an empty text"),
        ({"patterns": ("(",)}, "is no regular expression"),
        ({"patterns": ("a{99999999999999999999}",)}, "is no regular expression"),
        ({"patterns": ("(a+)+b",)}, "repeats a repetition"),
        ({"patterns": ("x*",)}, "matches the empty text"),
    ],
)
def test_rules_that_say_nothing_are_refused_with_the_cure(told: dict[str, object], said: str) -> None:
    with pytest.raises(PolicyError) as caught:
        PromptRules(**told)  # type: ignore[arg-type]
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "", "a castle", "a reed by the lake", "a redd fish", "scared", "s c a r e d", "credo", "dragonfly", "dragons",
        "reddisc", "slated", "translate", "5147", "51473", "ideas: 5 1 4 7 3", "a t-shirt", "gl", "#12",
        "plan b, e and d", "\u200b", "???", "d r", "d ragon", "dra\ngon", "12345",
    ],
)  # fmt: skip
def test_innocent_text_does_not_match(text: str) -> None:
    assert RULES.find(text) == ""


@pytest.mark.parametrize(
    "text",
    [
        "dragon", "a DRAGON, please", "my_dragon_art", "dragon's", "(dragon:1.3)", "<dragon>", "@dragon", "dragon!",
        "ｄｒａｇｏｎ", "𝖉𝖗𝖆𝖌𝖔𝖓", "ⓓⓡⓐⓖⓞⓝ", "🅳🆁🅰🅶🅾🅽", "🇩🇷🇦🇬🇴🇳", "ᴅʀᴀɢᴏɴ", "dragоn", "drаgοn", "DRΑGΟΝ", "đragøn",
        "drágön", "d\u0336r\u0336a\u0336gon", "d\u0489ragon", "d\u200br\u200da\u2060g\ufeffo\u00adn", "dra\u202egon",
        "dra\x00gon", "dra\U000e0067gon", "drag0n", "dr4gon", "dr@g0n", "d r a g o n", "d.r.a.g.o.n", "d_r_a_g_o_n",
        "d-r-a-g-o-n", "d . r . a . g . o . n", "d r 4 g 0 n", "a d r a g o n", "d r a g o n  a r t", "draaagon",
        "dddrrraaagggooonnn", "d\u200br\u200ba\u200bg\u200bo\u200bn",
    ],
)  # fmt: skip
def test_a_word_is_found_through_its_disguises(text: str) -> None:
    assert RULES.find(text) == "dragon"
    assert RULES.find(f"a picture of {text} on white") == "dragon"


@pytest.mark.parametrize(
    "text", ["red disc", "RED\n\nDISC", "red-disc", "r e d  d i s c", "r e d d i s c", "a r e d d i s c", "r3d d1sc"]
)
def test_a_phrase_is_found_however_it_is_spaced(text: str) -> None:
    assert RULES.find(text) == "red disc"


@pytest.mark.parametrize("text", ["5l4te", "s1ate", "$late", "s|ate", "SLA7E", "5l473 x"])
def test_a_digit_stands_for_each_letter_it_may_be(text: str) -> None:
    assert RULES.find(text) == "slate"


def test_a_number_is_not_a_word_in_disguise_but_may_be_listed() -> None:
    assert PromptRules(words=("slate",)).find("51473") == ""
    assert PromptRules(words=("51473",)).find("in 51473 steps") == "51473"
    assert PromptRules(words=("51473",)).find("in 514733 steps") == ""


def test_a_doubled_letter_belongs_to_the_word() -> None:
    moon = PromptRules(words=("moon",))
    assert [moon.find(text) for text in ("mon", "moon", "mooon", "moooooon")] == ["", "moon", "moon", "moon"]


def test_a_listed_word_may_itself_be_in_another_script() -> None:
    rules = PromptRules(words=("дракон", "δράκος"))
    assert rules.find("большой ДРАКОН") == "дракон"
    assert rules.find("ένας ΔΡΑΚΟΣ") == "δράκος"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a glooox", r"gl\w+x"), ("GLÓX", r"gl\w+x"), ("gl0x", r"gl\w+x"), ("g l o x", r"gl\w+x"), ("#123", r"#\d{3}"),
        ("9l0x", r"gl\w+x"), ("ｇｌｏｘ", r"gl\w+x"), ("#12", ""),
    ],
)  # fmt: skip
def test_patterns_see_the_text_as_it_is_and_undisguised(text: str, found: str) -> None:
    assert RULES.find(text) == found


def test_a_text_too_long_to_search_matches_as_such() -> None:
    said = f"longer than {LONGEST} characters"
    assert RULES.find("a" * LONGEST) == ""
    assert RULES.find("a" * (LONGEST + 1)) == said
    assert RULES.find("\ufdfa" * (LONGEST // 10)) == said  # one character that folds to eighteen


def test_long_texts_take_no_time() -> None:
    start = time.perf_counter()
    for text in ("a " * 4999, "d" * LONGEST, "r e d d " * 1200, "@" * LONGEST, "d\u0301" * 5000):
        RULES.find(text)
    assert time.perf_counter() - start < 3


def test_the_rules_are_a_value() -> None:
    assert PromptRules(words=["dragon", "dragon"]) == PromptRules(words=("dragon",))  # type: ignore[arg-type]
    assert PromptRules(words=("dragon",)).to_dict() == {"words": ["dragon"]}
    assert PromptRules(**RULES.to_dict()) == RULES
    again = pickle.loads(pickle.dumps(RULES))  # noqa: S301
    assert (again, again.find("drag0n")) == (RULES, "dragon")
    with pytest.raises(dataclasses.FrozenInstanceError):
        RULES.words = ()  # type: ignore[misc]


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_no_text_breaks_the_search_and_a_word_after_it_is_found(text: str) -> None:
    RULES.find(text)
    assert RULES.find(f"{text} , dragon") != ""
