"""Scores as columns: every level of a record, every threshold that may be applied to it."""

from __future__ import annotations

import pytest
import torch

from nsfw_guard.backends.spec import Label, ModelSpec
from nsfw_guard.errors import SelfTestError
from nsfw_guard.policy.rules import Threshold
from nsfw_guard.scores import Severity
from nsfw_guard.tools.exporting.columns import Columns, columns_of, lowered

GRADED = ModelSpec(
    name="graded", kind="timm",
    labels={"low": Label("gore", Severity.LOW), "high": Label("gore", Severity.HIGH), "sexual": Label("sexual"),
            "safe": None},
    thresholds={
        "default": Threshold(block=0.5, review=0.2, views={"tile": 0.9}, blocks={"gore": 0.6}, source="chosen"),
        "strict": Threshold(block=0.3),
    },
)  # fmt: skip


def test_each_level_sums_the_labels_from_it_upwards() -> None:
    columns = columns_of(GRADED)
    assert columns.of(torch.tensor([[0.1, 0.2, 0.3, 0.4]])).tolist() == [pytest.approx([0.3, 0.2, 0.3])]


def test_the_thresholds_of_all_names_and_views_are_compared() -> None:
    assert columns_of(GRADED).thresholds == ((0.2, 0.3, 0.6, 0.9), (0.2, 0.3, 0.6, 0.9), (0.2, 0.3, 0.5, 0.9))


def test_a_score_at_the_threshold_and_a_nan_are_held_back() -> None:
    columns = Columns(torch.ones(1, 1), ((0.5,),))
    scores = torch.tensor([[0.49], [0.5], [float("nan")]], dtype=torch.float64)
    assert columns.held(scores)[:, 0].tolist() == [False, True, True]
    assert columns.held(scores, 0.02)[:, 0].tolist() == [True, True, True]


def test_goals_go_through_columns_and_then_thresholds() -> None:
    columns = columns_of(GRADED)
    assert [columns.goal(number)[1] for number in range(6)] == [0.2, 0.2, 0.2, 0.3, 0.3, 0.3]
    assert columns.goal(2)[0].tolist() == [0, 0, 1, 0]


def test_a_margin_that_leaves_nothing_of_a_threshold_is_refused() -> None:
    with pytest.raises(SelfTestError, match=r"lower by 0\.2, but one is 0\.2"):
        lowered(GRADED.thresholds, 0.2, "int8")


def test_every_number_is_lowered_and_the_source_says_so() -> None:
    thresholds = lowered(GRADED.thresholds, 0.1, "int8")
    assert thresholds["default"] == Threshold(
        block=0.4, review=0.1, views={"tile": 0.8}, blocks={"gore": 0.5}, source="chosen; lowered by 0.1 for int8"
    )
    assert thresholds["strict"] == Threshold(block=0.2, source="lowered by 0.1 for int8")
    assert lowered(GRADED.thresholds, 0.0, "fp32") == GRADED.thresholds
