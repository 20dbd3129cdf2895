import json
import math
from dataclasses import fields

import pytest

from selfreward.config_self_rewarding import CollapseConfig
from selfreward.metrics.collapse import (
    CollapseFigures,
    collapse_reasons,
    length_ratio,
    limits,
    nothing_left,
)

HEALTHY = CollapseFigures(
    unscored=0.02,
    saturation=0.22,
    modal_share=0.41,
    tie_rate=0.1,
    mean_length=512.0,
    length_ratio=1.3,
    distinct_2=0.66,
    near_duplicate_rate=0.18,
    seed_agreement=0.42,
    kl_per_token=0.12,
)
# What is given, the threshold it crosses, and one just inside.
CROSSED = [
    ("unscored", "max_unscored", 0.9, 0.95, 0.85),
    ("saturation", "max_saturation", 0.95, 0.97, 0.94),
    ("modal_share", "max_modal_share", 0.95, 0.96, 0.94),
    ("tie_rate", "max_tie_rate", 0.98, 0.99, 0.97),
    ("length_ratio", "max_length_ratio", 4.0, 4.1, 3.9),
    ("distinct_2", "min_distinct_2", 0.1, 0.08, 0.12),
    ("near_duplicate_rate", "max_near_duplicates", 0.9, 0.93, 0.89),
    ("seed_agreement", "min_seed_agreement", 0.2, -0.1, 0.3),
    ("kl_per_token", "max_kl_per_token", 1.0, 1.2, 0.9),
]


def test_a_healthy_iteration_has_no_reasons() -> None:
    assert collapse_reasons(HEALTHY, CollapseConfig(min_seed_agreement=0.2)) == []


def test_figures_that_were_not_measured_have_no_reasons() -> None:
    assert collapse_reasons(CollapseFigures(), CollapseConfig(min_seed_agreement=0.2)) == []


@pytest.mark.parametrize(("figure", "key", "limit", "beyond", "inside"), CROSSED)
def test_each_threshold(figure: str, key: str, limit: float, beyond: float, inside: float) -> None:
    config = CollapseConfig.model_validate({key: limit})
    (line,) = collapse_reasons(CollapseFigures(**{figure: beyond}), config)
    assert line.startswith(f"collapse.{key}: ")
    assert f"{beyond:g} " in f"{line} " and line.endswith(f"(limit {limit:g})")
    assert "\n" not in line
    for value in (inside, limit):
        assert collapse_reasons(CollapseFigures(**{figure: value}), config) == []
    unwatched = CollapseConfig.model_validate({key: None})
    assert collapse_reasons(CollapseFigures(**{figure: beyond}), unwatched) == []


def test_the_line_of_saturation() -> None:
    lines = collapse_reasons(CollapseFigures(saturation=0.97), CollapseConfig())
    assert lines == [
        "collapse.max_saturation: 0.97 of the scored answers have the top score (limit 0.95)"
    ]


def test_every_threshold_of_the_config_is_watched() -> None:
    # How near scores are one score is no threshold itself.
    assert {key for _, key, *_ in CROSSED} == set(CollapseConfig.model_fields) - {"tie_spread"}


def test_one_score_for_everything_is_a_reason_whichever_it_is() -> None:
    lines = collapse_reasons(CollapseFigures(saturation=0.0, modal_share=1.0), CollapseConfig())
    assert lines == [
        "collapse.max_modal_share: 1 of the scored answers have one score (limit 0.95)"
    ]


def test_the_limits_are_told_by_figure_and_those_switched_off_are_not() -> None:
    found = limits(CollapseConfig(max_length_ratio=None))
    assert found["tie_rate"] == {"side": "max", "limit": 0.98}
    assert found["distinct_2"] == {"side": "min", "limit": 0.1}
    assert not {"length_ratio", "seed_agreement", "mean_length"} & set(found)


def test_several_crossed_thresholds_give_a_line_each_in_order() -> None:
    figures = CollapseFigures(
        kl_per_token=1.5, saturation=1.0, mean_length=9000.0, length_ratio=9.0
    )
    keys = [line.split(":")[0] for line in collapse_reasons(figures, CollapseConfig())]
    assert keys == [
        "collapse.max_saturation",
        "collapse.max_length_ratio",
        "collapse.max_kl_per_token",
    ]


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", [field.name for field in fields(CollapseFigures)])
def test_a_figure_that_is_no_number_is_a_reason(name: str, broken: float) -> None:
    keys = set(CollapseConfig.model_fields) - {"tie_spread"}
    unwatched = CollapseConfig.model_validate(dict.fromkeys(keys))
    for config in (CollapseConfig(), unwatched):
        (line,) = collapse_reasons(CollapseFigures(**{name: broken}), config)
        assert line.startswith("collapse") and f"{name} is {broken}, not a number" in line


def test_a_value_just_beyond_is_told_from_its_limit() -> None:
    (line,) = collapse_reasons(CollapseFigures(saturation=0.95001), CollapseConfig())
    assert "0.95001 of the scored answers" in line
    # 1 - 0.05 in floats, or a mean of as many shares, is the limit and not beyond it.
    assert collapse_reasons(CollapseFigures(saturation=0.95 + 1e-12), CollapseConfig()) == []


def test_the_figures_are_json_ready() -> None:
    assert json.loads(json.dumps(HEALTHY.to_dict()))["distinct_2"] == 0.66


def test_length_ratio_by_hand() -> None:
    assert length_ratio([10, 50], [10, 20]) == 2.0
    assert length_ratio([], []) is None
    assert length_ratio([10], [0]) is None
    with pytest.raises(ValueError, match="not of 1 and 2"):
        length_ratio([10], [10, 20])


def test_what_left_nothing_is_counted_by_reason() -> None:
    told = nothing_left(
        24, "instructions gave a training row", {"low_margin": 3, "tied_scores": 18, "same": 3}
    )
    assert told == (
        "none of 24 instructions gave a training row (tied_scores 18, low_margin 3, same 3)"
    )
    assert nothing_left(0, "instructions", {"tied_scores": 0}) == (
        "none of 0 instructions (nothing was dropped)"
    )
