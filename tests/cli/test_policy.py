"""`policy show`, `lint` and `explain`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nsfw_guard.policy.policy import Policy
from nsfw_guard.policy.rules import Rule
from tests.cli.conftest import Run


@pytest.mark.parametrize("name", ["default", "lenient", "strict"])
def test_a_shown_policy_reads_back_as_itself(name: str, run: Run, tmp_path: Path) -> None:
    for flags in ([], ["--model", "red"], ["--model", "marqo"]):
        shown = run("policy", "show", name, *flags)
        assert (shown.code, shown.err) == (0, "")
        (tmp_path / "again.toml").write_text(shown.out, encoding="utf-8")
        printed = json.loads(run("policy", "show", name, *flags, "--json").out)
        assert Policy.load(tmp_path / "again.toml").to_dict() == {k: v for k, v in printed.items() if k != "hash"}
        assert Policy.load(tmp_path / "again.toml").hash == printed["hash"]


def test_a_policy_with_odd_names_reads_back_as_itself(run: Run, tmp_path: Path) -> None:
    odd = 'a "b" \\ \x1b\n é'
    policy = Policy(rules={odd: Rule(block=0.5, views={"side": 0.25})}, name=odd, description=odd)
    (tmp_path / "one.toml").write_text(
        f"name = {json.dumps(odd)}\ndescription = {json.dumps(odd)}\n"
        f"[rules.{json.dumps(odd)}]\nblock = 0.5\nviews.side = 0.25\n"
    )
    assert Policy.load(tmp_path / "one.toml") == policy
    (tmp_path / "two.toml").write_text(run("policy", "show", tmp_path / "one.toml").out, encoding="utf-8")
    assert Policy.load(tmp_path / "two.toml") == policy


def test_a_fitted_policy_is_shown_with_numbers(run: Run) -> None:
    assert run("policy", "show", "strict", "--model", "red").out.splitlines()[2:] == [
        "", '[rules."red"]', "block = 0.25", "review = 0.1", 'severity = "high"'
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "flags", "code", "said"),
    [
        ("[rules.red]\nblock = 0.5", [], 0, "ok mine "),
        ("[rules.red]\nblock = 0.5", ["--model", "red"], 0, ": red"),
        ("[rules.zebra]\nblock = 0.5", [], 0, ": zebra"),
        ("[rules.zebra]\nblock = 0.5", ["--model", "red"], 1, "does not score: choose from red"),
        ("[rules.red]\nblok = 0.5", [], 1, "did you mean 'block'"),
        ("[rules.red", [], 1, "cannot be read as TOML"),
        ("extends = 'mine.toml'", [], 1, "in a circle"),
    ],
)
def test_lint_says_ok_or_what_is_wrong(
    text: str, flags: list[str], code: int, said: str, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "mine.toml").write_text(text)
    ran = run("policy", "lint", tmp_path / "mine.toml", *flags)
    assert ran.code == code
    good, bad = (ran.out, ran.err) if code == 0 else (ran.err, ran.out)
    assert said in good
    assert bad == ""


def test_lint_as_json_names_the_hash_and_the_categories(run: Run) -> None:
    expected = {"name": "strict", "hash": Policy.load("strict").hash, "categories": ["*"]}
    assert run("policy", "lint", "strict", "--json").lines == [expected]


def test_lint_warns_of_a_policy_that_never_blocks(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "mild.toml"
    path.write_text('name = "mild"\n[rules.red]\nreview = 0.3\n')
    ran = run("policy", "lint", path)
    assert (ran.code, ran.out.splitlines()[1].split(":")[:2]) == (0, ["warning", " nothing is ever blocked"])
    assert len(run("policy", "lint", path, "--json").lines[0]["warnings"]) == 1
    path.write_text('name = "mild"\n[rules.red]\nreview = 0.3\nviews = {side = 0.5}\n')
    ran = run("policy", "lint", path)
    assert (ran.code, ran.out) == (1, "")
    assert "set block" in ran.err
    path.write_text('name = "mild"\n[rules.red]\nreview = 0.3\nblock = 0.6\nviews = {side = 0.5}\n')
    assert len(run("policy", "lint", path).out.splitlines()) == 1


def test_explain_says_each_cut_and_where_it_comes_from(run: Run, tmp_path: Path) -> None:
    ran = run("policy", "explain", "strict", "--model", "red")
    assert ran.out.splitlines() == [
        "red at severity high or worse is blocked from 0.25, held for review from 0.1.",
        "Threshold 'default' of red: chosen.",
        "Threshold 'strict' of red: chosen.",
        "Threshold 'lenient' of red: chosen.",
    ]
    (tmp_path / "mine.toml").write_text("[rules.red]\nblock = 0.5\nviews.side = 0.75")
    explained = run("policy", "explain", tmp_path / "mine.toml", "--model", "red", "--json").lines[0]
    assert explained["rules"] == [
        "red at severity high or worse is blocked from 0.5 in any other view, blocked from 0.75 in a side view."
    ]
    assert "sexual at severity high" in run("policy", "explain", "default").out


def test_prompt_rules_are_shown_linted_and_explained(run: Run, tmp_path: Path) -> None:
    texts = "words = ['red disc', 'dragon']\npatterns = ['b+\\d \"c\"']"
    (tmp_path / "mine.toml").write_text(f"[rules.red]\nblock = 0.5\n[prompts]\n{texts}")
    shown = run("policy", "show", tmp_path / "mine.toml")
    (tmp_path / "again.toml").write_text(shown.out, encoding="utf-8")
    assert Policy.load(tmp_path / "again.toml").prompts == Policy.load(tmp_path / "mine.toml").prompts
    assert run("policy", "show", tmp_path / "mine.toml", "--json").lines[0]["prompts"]["words"] == [
        "red disc",
        "dragon",
    ]
    assert run("policy", "lint", tmp_path / "mine.toml", "--model", "red").code == 0
    explained = run("policy", "explain", tmp_path / "mine.toml", "--model", "red", "--json").lines[0]
    assert explained["rules"][1:] == [
        "A prompt that contains one of these, in any spelling, is refused: 'red disc', 'dragon', 'b+\\\\d \"c\"'."
    ]
    (tmp_path / "one.toml").write_text("[rules.red]\nblock = 0.5\n[prompts]\npatterns = ['dragon']")
    assert "[prompts]\npatterns" in run("policy", "show", tmp_path / "one.toml").out


def test_prompt_rules_are_shown_and_explained(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('[rules.red]\nblock = 0.5\n[prompts]\nwords = ["dragon"]\npatterns = ["a+b"]\n')
    shown = run("policy", "show", tmp_path / "mine.toml").out
    assert '[prompts]\nwords = ["dragon"]\npatterns = ["a+b"]' in shown
    (tmp_path / "again.toml").write_text(shown)
    hashes = [run("policy", "show", tmp_path / name, "--json").lines[0]["hash"] for name in ("mine.toml", "again.toml")]
    assert hashes[0] == hashes[1]
    explained = run("policy", "explain", tmp_path / "mine.toml", "--model", "red").out
    assert "A prompt that contains one of these, in any spelling, is refused: 'dragon', 'a+b'." in explained


def test_a_policy_is_fitted_to_a_model_in_a_folder(run: Run, tiny: Path) -> None:
    ran = run("policy", "explain", "default", "--model", tiny)
    assert ran.out.startswith("sexual at severity high or worse is blocked from 0.5.")


def test_a_rule_for_clips_is_shown_checked_and_explained(run: Run, tmp_path: Path) -> None:
    plain, mine = tmp_path / "plain.toml", tmp_path / "mine.toml"
    plain.write_text("[rules.red]\nblock = 0.5\n")
    mine.write_text("[rules.red]\nblock = 0.5\n[clips]\nrule = 'k-of-n'\nk = 3\nn = 5\n")
    shown = run("policy", "show", mine).out
    assert shown.splitlines()[-4:] == ["[clips]", 'rule = "k-of-n"', "k = 3", "n = 5"]
    (tmp_path / "again.toml").write_text(shown, encoding="utf-8")
    assert Policy.load(tmp_path / "again.toml").hash == Policy.load(mine).hash
    rule = "a clip is flagged by 3 flagged frames among 5 neighbouring ones"
    assert f"warning: {rule}: what is shown more briefly is released" in run("policy", "lint", mine).out
    assert f"In video, {rule}; an error in any frame" in run("policy", "explain", mine, "--model", "red").out
    for verb in ("show", "lint", "explain"):
        assert "clip" not in run("policy", verb, plain, *(["--model", "red"] if verb == "explain" else [])).out
