"""What is listed is found however it is spelt, and innocent neighbours are not."""

from __future__ import annotations

import hashlib
import json

import pytest

from nsfw_guard.errors import PolicyError
from nsfw_guard.guard import Guard
from nsfw_guard.listeners.audit import Audit, verify
from nsfw_guard.policy.policy import Policy
from nsfw_guard.policy.prompts import MAX_PROMPT_CHARS, PromptRules, plain
from nsfw_guard.testing import FakeBackend
from nsfw_guard.verdict import Outcome

RULES = PromptRules(words=("dragon", "red disc", "ass", "龍", "Ёж"), patterns=(r"disc\s*#\d+", r"^forbidden"))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "has neither words nor patterns"),
        ({"words": ("",)}, "contains no letter"),
        ({"words": ("...",)}, "contains no letter"),
        ({"words": "dragon"}, "a list of strings"),
        ({"words": (3,)}, "a list of strings"),
        ({"patterns": ("(",)}, "not a valid regular expression"),
        ({"patterns": ("x*",)}, "would refuse every prompt"),
    ],
)
def test_rules_that_cannot_work_are_refused_with_the_cure(settings, says) -> None:
    with pytest.raises(PolicyError, match=says):
        PromptRules(**settings)


@pytest.mark.parametrize(
    "text",
    [
        "a dragon",
        "A DRAGON!",
        "dragon's egg",
        "ｄｒａｇｏｎ",  # full width
        "𝒹𝓇𝒶𝑔ℴ𝓃 in the sky",  # mathematical letters
        "drаgоn",  # Cyrillic a and o
        "ԁrαgοn",
        "DRАGОN",
        "dràgön",
        "d\u0336r\u0336a\u0336g\u0336o\u0336n\u0336",  # struck through
        "dra\u200bgon",
        "dra\u00adgon",
        "\u202edragon",
        "d r a g o n",
        "d.r.a.g.o.n",
        "a d-r-a-g-o-n on white",
        "d_r_a_g_o_n",
        "d  r  a  g  o  n",
        "dra.gon",
        "dra-gon",
        "dra_gon",
        "dr4g0n",
        "dr@gon",
        "draaaaagon",
        "dragooooon",
        "d r 4 g 0 n",
        "(dragon:1.3)",
        "blue,dragon,green",
        "dragon\nblue",
        "🅳🆁🅰🅶🅾🅽",
        "🇩🇷🇦🇬🇴🇳",
        "ᴅʀᴀɢᴏɴ",
        "DRΑGΟΝ",  # Greek capitals
        "đragøn",
        "dr4gon!",
    ],
)
def test_one_word_is_found_however_it_is_spelt(text) -> None:
    assert RULES.find(text) == "word 'dragon'"


@pytest.mark.parametrize(
    "text", ["red disc", "a Red  Disc.", "red-disc", "red_disc", "r e d d i s c", "r3d d1sc", "redddd disc"]
)
def test_a_phrase_is_found_however_it_is_spelt(text) -> None:
    assert RULES.find(text) == "word 'red disc'"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a blue star on grey",
        "dragonfly over a pond",
        "snapdragons",
        "a classic glass vase in the grass",
        "a red square and a blue disc",
        "discred",
        "a s s e m b l y".replace(" ", ""),
        "an assembly line, 4 pieces, size 100",
        "drag on the left",
        "455 images",  # "ass", were it not a number
        "4 5 5 and 4-5-5",
        "the dragoon",
        "a good book and a green tree",
    ],
)
def test_innocent_neighbours_of_a_word_are_not_found(text) -> None:
    assert RULES.find(text) == ""


NOTHING = "\u3164\uffa0\u115f\u1160\u2800\ufffc\ufffd\ue000\U000e1000\u200b\xad\u034f\ufeff"
DASHES = "-\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u2043\uff0d\u22c5"
MARKS = ',:;=#^"\u2019\u2026\u30fb'


@pytest.mark.parametrize("sign", [*NOTHING, *DASHES])
def test_invisible_characters_and_dashes_hide_no_word(sign) -> None:
    for text in (f"dra{sign}gon", sign.join("dragon"), f"red{sign}disc", f"a {sign}dragon{sign} there"):
        assert RULES.find(text), ascii(text)


@pytest.mark.parametrize("sign", [*MARKS])
def test_marks_between_words_hide_no_phrase_and_no_word_of_single_letters(sign) -> None:
    for text in (sign.join("dragon"), f"red{sign}disc", f"a{sign}dragon{sign}there"):
        assert RULES.find(text), ascii(text)


@pytest.mark.parametrize("text", [
    "_dragon_", "my_dragon_pic", "dra\u13c0on", "\ua4d3ragon", "drag\u0585n", "drag\u2c9fn", "drago\u0578",
    "\u13e7rago\u057c", "\ua4d3\ua4e3\ua4ee\ua4d6\ua4f3\ua4e0",
])  # fmt: skip
def test_look_alikes_of_further_scripts_and_lines_below_hide_no_word(text) -> None:
    assert RULES.find(text) == "word 'dragon'"


@pytest.mark.parametrize(
    "text",
    [
        "drag on",
        "drag, onwards",
        "a dragonfly",
        "reddish",
        "red: a disco",
        "d, r and g",
        "drag,on the left",
        "drag:on",
        "areddisc",
        "reddisc",
    ],
)
def test_words_that_only_sound_alike_do_not_match(text) -> None:
    assert RULES.find(text) == ""


def test_words_of_scripts_without_spaces_are_found_inside() -> None:
    assert RULES.find("大きな龍の絵") == "word '龍'"
    assert RULES.find("два ежа") == ""
    assert RULES.find("маленький ЁЖ") == "word 'Ёж'"


@pytest.mark.parametrize(
    ("text", "refused"), [("a DISC #12", True), ("ｄｉｓｃ＃７", True), ("forbidden", True), ("not forbidden", False)]
)
def test_patterns_are_searched_in_the_raw_and_the_plain_text(text, refused) -> None:
    assert RULES.find(text).startswith("pattern") is refused


def test_a_prompt_too_long_to_read_is_refused() -> None:
    assert RULES.find("x " * MAX_PROMPT_CHARS) == f"more than {MAX_PROMPT_CHARS} characters"


def test_normalising_twice_changes_nothing() -> None:
    for text in ("Ｄｒàｇοn", "ÄÖÜ ß ﬁ", "Ёж", "a\u200bb"):
        assert plain(plain(text)) == plain(text)


# in a policy


def policy_of(**prompts):
    return Policy.load({"name": "p", "rules": {"red": {"block": 0.5}}, "prompts": prompts})


def test_a_policy_without_prompts_keeps_its_hash_and_its_shape() -> None:
    without = Policy.load({"name": "p", "rules": {"red": {"block": 0.5}}})
    rules = json.dumps({"red": {"block": 0.5}}, sort_keys=True)
    assert "prompts" not in without.to_dict()
    assert without.hash == hashlib.sha256(rules.encode()).hexdigest()
    assert policy_of(words=["dragon"]).hash != without.hash
    assert policy_of(words=["dragon"]).hash != policy_of(words=["ring"]).hash


def test_a_policy_with_prompts_survives_its_dictionary_and_fitting() -> None:
    policy = policy_of(words=["dragon"], patterns=["a+b"])
    assert Policy.load(policy.to_dict()) == policy
    spec = FakeBackend.spec
    assert policy.bind(spec).prompts == policy.prompts


def test_prompt_rules_alone_are_not_a_policy() -> None:
    with pytest.raises(PolicyError, match="without rules allows everything"):
        Policy.load({"prompts": {"words": ["dragon"]}})


@pytest.mark.parametrize(
    ("prompts", "says"),
    [
        ("dragon", "must be a table"),
        ({"word": ["a"]}, "did you mean 'words'"),
        ({"words": "a"}, "a list of strings"),
        ({}, "has neither words nor patterns"),
    ],
)
def test_a_table_with_a_mistake_is_refused_with_the_cure(prompts, says) -> None:
    with pytest.raises(PolicyError, match=says):
        Policy.load({"rules": {"red": {"block": 0.5}}, "prompts": prompts})


def test_a_policy_that_extends_another_adds_to_its_prompt_rules(tmp_path) -> None:
    (tmp_path / "base.toml").write_text('[rules.red]\nblock = 0.5\n[prompts]\nwords = ["dragon"]\n')
    (tmp_path / "mine.toml").write_text('extends = "base.toml"\n[prompts]\nwords = ["ring"]\npatterns = ["a+b"]\n')
    (tmp_path / "same.toml").write_text('extends = "base.toml"\n')
    mine = Policy.load(tmp_path / "mine.toml").prompts
    assert (mine.words, mine.patterns) == (("dragon", "ring"), ("a+b",))
    assert Policy.load(tmp_path / "same.toml").prompts.words == ("dragon",)


# in a guard


def test_a_prompt_that_is_not_text_is_an_error() -> None:
    (verdict,) = Guard(FakeBackend(), policy=policy_of(words=["dragon"])).check_prompts([None])
    assert verdict.outcome is Outcome.ERROR
    assert "got NoneType" in verdict.reason


def test_a_verdict_names_the_rule_and_never_the_prompt(tmp_path) -> None:
    guard = Guard(FakeBackend(), policy=policy_of(words=["dragon"]), listeners=[Audit(tmp_path / "log.jsonl")])
    blocked, allowed = guard.check_prompts(["my secret dragon", "a ring"])
    assert (blocked.outcome, blocked.reason, blocked.category) == (Outcome.BLOCK, "prompt: word 'dragon'", "prompt")
    assert (allowed.outcome, allowed.scores) == (Outcome.ALLOW, None)
    assert blocked.model == "red"
    text = (tmp_path / "log.jsonl").read_text()
    assert "secret" not in text
    assert text.count("\n") == 1
    assert verify(tmp_path / "log.jsonl").ok
    assert set(guard.counter.counts.values()) == {0}  # it counts images


def test_one_prompt_may_come_alone_and_without_rules_nothing_is_blocked() -> None:
    assert [v.outcome for v in Guard(FakeBackend()).check_prompts("dragon")] == [Outcome.ALLOW]


def test_a_listener_that_fails_makes_blocked_prompts_errors() -> None:
    def fails(verdicts):
        raise OSError("full")

    guard = Guard(FakeBackend(), policy=policy_of(words=["dragon"]), listeners=[fails])
    assert [v.outcome for v in guard.check_prompts("dragon")] == [Outcome.ERROR]
