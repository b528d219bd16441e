"""Which classes a model is taught."""

from __future__ import annotations

import pytest

from nsfw_guard.backends.spec import Label
from nsfw_guard.errors import ConfigError
from nsfw_guard.scores import Severity
from nsfw_guard.tools.finetuning.classes import classes_of, meaning_of, meanings_of

BEFORE = {"red-disc": Label("red-disc"), "other": None}


def test_a_label_without_a_meaning_is_refused_with_the_way_to_give_one() -> None:
    with pytest.raises(ConfigError, match=r"'blue-star' means nothing yet: .*blue-star=violence"):
        classes_of(["blue-star", "other"], BEFORE, {})


def test_classes_of_one_kind_only_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least two, one of them with a category"):
        classes_of(["safe", "other"], {}, {})
    with pytest.raises(ConfigError, match="at least two"):
        classes_of(["nsfw"], {}, {})


def test_a_meaning_for_a_label_that_no_image_has_is_refused() -> None:
    with pytest.raises(ConfigError, match="no image is labelled 'blue-star'"):
        classes_of(["red-disc", "other"], BEFORE, {"blue-star": Label("stars")})


def test_a_new_label_is_added_behind_those_of_the_model_which_keep_their_rows() -> None:
    classes = classes_of(["blue-star", "other"], BEFORE, {"blue-star": Label("stars")})
    assert classes.names == ("red-disc", "other", "blue-star")
    assert classes.rows == (0, 1, None)
    assert classes.numbers == {"blue-star": 2, "other": 1}
    assert classes.without_images({2: 20, 1: 20}) == ["red-disc"]


def test_harmless_words_are_the_one_harmless_class_of_the_model() -> None:
    classes = classes_of(["safe", "red-disc"], BEFORE, {})
    assert classes.names == ("red-disc", "other")
    assert classes.numbers == {"safe": 1, "red-disc": 0}


def test_with_several_harmless_classes_a_harmless_word_is_a_new_one() -> None:
    before = {"porn": Label("sexual"), "drawing": None, "neutral": None}
    classes = classes_of(["safe", "porn"], before, {})
    assert classes.names == ("porn", "drawing", "neutral", "safe")
    assert classes.meanings["safe"] is None


def test_fresh_classes_are_those_of_the_images_and_no_others() -> None:
    classes = classes_of(["other", "red-disc"], {**BEFORE, "ring": None}, {}, fresh=True)
    assert classes.names == ("other", "red-disc")
    assert classes.rows == (None, None)
    assert classes.meanings == {"other": None, "red-disc": Label("red-disc")}


def test_a_meaning_may_name_a_level() -> None:
    assert meaning_of("gore=violence:low") == ("gore", Label("violence", Severity.LOW))
    assert meaning_of("gore=violence") == ("gore", Label("violence"))
    assert meaning_of("beach=") == ("beach", None)


@pytest.mark.parametrize("text", ["gore", "=violence", "gore=:low", "gore=violence:severe"])
def test_a_meaning_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"gore|=violence"):
        meaning_of(text)


def test_a_label_may_hold_an_equals_sign_and_has_one_meaning() -> None:
    assert meaning_of("a=b=violence") == ("a=b", Label("violence"))
    with pytest.raises(ConfigError, match="'gore' is given two meanings"):
        meanings_of(["gore=violence", "gore="])


@pytest.mark.parametrize("label", ["", " ", "a\nb", "x" * 300])
def test_a_label_that_no_configuration_could_hold_is_refused(label: str) -> None:
    with pytest.raises(ConfigError, match="letters that can be printed"):
        classes_of([label, "red-disc"], BEFORE, {})


@pytest.mark.parametrize("category", [" ", "x" * 300, "a\tb"])
def test_a_category_that_no_terminal_could_hold_is_refused(category: str) -> None:
    with pytest.raises(ConfigError, match=r"the category .* letters that can be printed"):
        meaning_of(f"gore={category}")
