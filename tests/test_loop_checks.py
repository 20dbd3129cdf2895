"""What the self-rewarding loop checks before it starts, and decides after each model."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from selfreward.config import RunConfig
from selfreward.errors import ConfigError
from selfreward.layout import Layout, join
from selfreward.loops.kinds import check_sections
from selfreward.loops.pools import PlacedModel
from selfreward.loops.self_rewarding import check_recipe
from selfreward.loops.sources import Source
from selfreward.loops.verdict import Decision, decide, promote_first, stop_untrained
from selfreward.records import ModelRef, Position, ResponsePair
from selfreward.storage import files
from selfreward.storage.checkpoints import read_current
from tests.run_folders import ask, judgment, write_stage

# --- recipes -------------------------------------------------------------------------------------


def recipe(**changes: Any) -> RunConfig:
    data: dict[str, Any] = {
        "loop": {"kind": "self_rewarding", "iterations": 3},
        "training": {"objective": "dpo"},
    }
    for section, values in changes.items():
        data[section] = data.get(section, {}) | values
    return RunConfig.model_validate(data)


def test_a_recipe_that_fits_gives_its_rubric(tmp_path: Path) -> None:
    assert check_recipe(recipe()).id == "pointwise_additive"
    # The seeds alone are learnt: what later rounds would train with has no say.
    one = {"loop": {"iterations": 1}, "training": {"objective": "sft"}}
    assert check_recipe(recipe(**one)).id == "pointwise_additive"
    positive = {"preferences": {"kind": "positive_only"}, "training": {"objective": "sft"}}
    assert check_recipe(recipe(**positive)).scale == (0, 5)
    path = tmp_path / "mine.yaml"
    path.write_text("id: mine\nstatements: [It is kind., It is short.]\n")
    assert check_recipe(recipe(rating={"rubric": str(path)})).id == "mine"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rating": {"rubric": "pointwise_aditive"}}, "did you mean 'pointwise_additive'?"),
        ({"rating": {"rubric": "none/such.yaml"}}, "no rubric file at none/such.yaml"),
        ({"judge": {"rubric": "pairwise"}}, "pairwise_reasoned"),
        ({"meta_judge": {"rubric": "meta"}}, "unknown meta rubric 'meta'"),
        ({"engine": {"kind": "classifier"}}, "engine.kind=classifier"),
        ({"seed_training": {"objective": "dpo"}}, "seed_training.objective=dpo"),
        ({"training": {"objective": "sft"}}, "set training.objective=dpo"),
        ({"preferences": {"kind": "positive_only"}}, "set training.objective=sft"),
        # To sort a pool costs a reading of every row.
        (
            {"select_instructions": {"enabled": True}},
            "select_instructions.enabled=true sorts the pool's instructions, and with"
            " self_instruct.enabled=true none of them is trained on; set one of the two to false",
        ),
        (
            {"preferences": {"positives_with_seeds": True}},
            "preferences.positives_with_seeds=true has no part in preferences.kind=pairs",
        ),
        (
            {
                "meta_judge": {"enabled": True, "max_pairs_per_response": 6},
                "rating": {"num_draws": 11},
            },
            "meta_judge.max_pairs_per_response=6 compares 7 of rating.num_draws=11 judgments; set"
            " it to 10 or more, or leave it out for all pairs",
        ),
        (
            {
                "preferences": {"kind": "positive_only"},
                "training": {"objective": "sft"},
                "meta_judge": {"enabled": True},
            },
            "meta_judge.enabled=true is about pairs; preferences.kind=positive_only makes none",
        ),
        (
            {"rating": {"num_draws": 4, "sampling": {"temperature": 0.0}}},
            "rating.num_draws=4 greedy draws are all alike",
        ),
        (
            {"rating": {"num_draws": 1, "sampling": {"temperature": 0.0}}},
            "seeds.draws_per_response=8 greedy draws are all alike",
        ),
        (
            {
                "preferences": {"kind": "positive_only"},
                "training": {"objective": "sft"},
                "rating": {"expected": True},
            },
            "preferences.min_positive_score=5: expected scores hardly ever reach 5",
        ),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_recipe(recipe(**changes))
    text = str(caught.value)
    assert told in text
    assert "\n" not in text


def test_instructions_of_the_pool_are_selected_where_they_are_trained_on() -> None:
    check_recipe(recipe(select_instructions={"enabled": True}, self_instruct={"enabled": False}))


@pytest.mark.parametrize("pairs", [None, 10, 55])
def test_a_meta_judge_that_compares_every_judgment_is_allowed(pairs: int | None) -> None:
    meta = {"enabled": True, "max_pairs_per_response": pairs}
    check_recipe(recipe(meta_judge=meta, rating={"num_draws": 11}))


def test_one_greedy_reading_is_allowed() -> None:
    greedy = {"num_draws": 1, "sampling": {"temperature": 0.0}}
    check_recipe(recipe(rating=greedy, seeds={"draws_per_response": 1}))
    check_recipe(recipe(rating=greedy, seeds={"ranked": []}))


# --- promotion and stopping ----------------------------------------------------------------------

MODELS = {
    i: PlacedModel(ref=ModelRef(name=f"m{i}", iteration=i, fingerprint=f"f{i}"), location=f"at/{i}")
    for i in range(4)
}


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """As much of a run as deciding needs; `run.told` are the lines that were shown."""
    told: list[str] = []
    made = SimpleNamespace(
        config=recipe(),
        layout=Layout(str(tmp_path / "run")),
        display=SimpleNamespace(line=told.append),
        told=told,
    )
    promote_first(made, MODELS[0])  # type: ignore[arg-type]
    return made


def figures(
    rival: int, counts: tuple[int, int, int] | None = (6, 1, 0), collapse: tuple[str, ...] = ()
) -> dict[str, Any]:
    """`counts`: wins, ties and losses."""
    report = None
    if counts is not None:
        names = ("num_wins", "num_ties", "num_losses")
        failed = {"unparsed": 0 if sum(counts) else 4, "refused": 0}
        named = dict(zip(names, counts, strict=True))
        report = {"n": sum(counts), "failed_readings": failed, **named}
    return {
        "collapse": {"reasons": [*collapse]},
        "head_to_head": {f"M{rival}": report},
        "card": {"n": 0},
    }


def pointed(run: Any) -> tuple[int, str]:
    found = read_current(run.layout)
    assert found is not None
    return found.iteration, found.fingerprint


def promotion(run: Any, iteration: int) -> dict[str, Any]:
    found: dict[str, Any] = files.read_json(join(run.layout.iteration(iteration), "promotion.json"))
    return found


def test_the_seed_is_current_first_and_stays_what_it_is(run: Any) -> None:
    assert pointed(run) == (0, "f0")
    assert read_current(run.layout).checkpoint == "m0"  # type: ignore[union-attr]
    decide(run, MODELS, 1, figures(0), {}, 0)
    promote_first(run, MODELS[0])
    assert pointed(run) == (1, "f1"), "a second attempt does not begin anew"


@pytest.mark.parametrize(
    ("counts", "promoted", "p"),
    [
        # Of 2^5 ways that five comparisons can fall, one; of 2^10 for ten, 10 + 1.
        ((5, 1, 0), True, "0.031 <= 0.05"),
        ((9, 3, 1), True, "0.011 <= 0.05"),
        # Four wins of four are one way of 16: too few to know.
        ((4, 0, 0), False, "0.062 > 0.05"),
        ((3, 1, 2), False, "0.5 > 0.05"),
        ((2, 9, 2), False, "0.69 > 0.05"),
        ((0, 5, 0), False, "1 > 0.05"),
    ],
)
def test_a_comparison_promotes_that_is_won_by_more_than_chance_explains(
    run: Any, counts: tuple[int, int, int], promoted: bool, p: str
) -> None:
    decision = decide(run, MODELS, 1, figures(0, counts), {}, 0)
    assert decision == Decision(current=1 if promoted else 0, stop=False)
    assert pointed(run) == ((1, "f1") if promoted else (0, "f0"))
    wins, ties, losses = counts
    reason = f"{wins} wins, {ties} ties, {losses} losses against M0, one-sided sign test p {p}"
    reason = f"{'promoted' if promoted else 'not promoted'}: {reason}"
    assert promotion(run, 1) == {
        "promoted": promoted,
        "compared_with": 0,
        "accuracy": None,
        "reason": reason,
        "stopped": False,
        "card": {"n": 0},
    }
    assert run.told == [f"M1 {reason}"]


def test_more_losses_than_wins_never_promote(run: Any) -> None:
    run.config = recipe(promotion={"max_p_value": 1.0})
    assert decide(run, MODELS, 1, figures(0, (3, 0, 3)), {}, 0).current == 0
    assert decide(run, MODELS, 1, figures(0, (3, 0, 2)), {}, 0).current == 1


def test_a_collapsed_model_stops_the_loop_and_keeps_current(run: Any) -> None:
    decide(run, MODELS, 1, figures(0), {}, 0)
    why = ("99% of the candidates have the top score", "and so on")
    # It won every comparison, by its answers' length perhaps.
    decision = decide(run, MODELS, 2, figures(1, (9, 0, 0), why), {}, 1)
    assert decision == Decision(current=1, stop=True)
    assert pointed(run) == (1, "f1")
    found = promotion(run, 2)
    assert (found["promoted"], found["stopped"]) == (False, True)
    assert found["reason"] == f"not promoted: {why[0]}; {why[1]}"
    assert run.told[-1] == (
        "stopped after iteration 2, 1 left: the loop is collapsing; M1 stays current"
    )


def test_a_round_without_a_training_row_stops_the_loop_and_keeps_current(run: Any) -> None:
    decide(run, MODELS, 1, figures(0), {}, 0)
    stop_untrained(run, 2, "none of 24 instructions gave a training row (tied_scores 24)", 1)
    assert pointed(run) == (1, "f1")
    assert promotion(run, 2) == {
        "promoted": False,
        "compared_with": None,
        "accuracy": None,
        "reason": "not trained: none of 24 instructions gave a training row (tied_scores 24)",
        "stopped": True,
        "card": {},
    }
    assert run.told[-2:] == [
        "M2 not trained: none of 24 instructions gave a training row (tied_scores 24)",
        "stopped after iteration 2, 1 left: the loop is collapsing; M1 stays current",
    ]


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        (None, "not promoted: no held-out instruction was answered by M0 too"),
        (
            (0, 0, 0),
            "not promoted: no comparison with M0 has a verdict (readings: unparsed 4); set"
            " judge.guided=true or name another evaluation.head_to_head_judge",
        ),
    ],
)
def test_without_a_comparison_nothing_is_promoted_and_the_loop_goes_on(
    run: Any, counts: Any, told: str
) -> None:
    assert decide(run, MODELS, 1, figures(0, counts), {}, 0) == Decision(current=0, stop=False)
    assert run.told == [f"M1 {told}"]


def test_a_section_of_the_other_loop_is_refused() -> None:
    taught = RunConfig.model_validate({"candidates": {"num_candidates": 8}})
    with pytest.raises(ConfigError, match=r"^candidates: loop\.kind=self_taught does not read"):
        check_sections(taught)
    with pytest.raises(ConfigError, match=r"set loop\.kind=self_taught$"):
        check_sections(recipe(select={"balance": False}))
    # Written out with its defaults, as a run saves it, a section says nothing.
    check_sections(RunConfig.model_validate(recipe().model_dump()))


@pytest.mark.parametrize("kind", ["self_rewarding", "custom_llm"])
@pytest.mark.parametrize(
    ("key", "value"),
    [("start_from", "previous"), ("judge_with", "promoted"), ("new_pairs_each_iteration", True)],
)
def test_a_key_of_the_self_taught_loop_is_refused(kind: str, key: str, value: Any) -> None:
    config = RunConfig.model_validate({"loop": {"kind": kind, key: value}})
    told = f"loop.{key}: loop.kind={kind} does not read this key; remove it, or set"
    with pytest.raises(ConfigError, match=f"^{told} loop.kind=self_taught$"):
        check_sections(config)
    check_sections(RunConfig.model_validate({"loop": {key: value}}))


def test_stages_are_not_iterations() -> None:
    config = RunConfig.model_validate({"loop": {"kind": "custom_llm", "iterations": 3}})
    told = r"^loop\.iterations: loop\.kind=custom_llm does not read this key; .* stages in custom"
    with pytest.raises(ConfigError, match=told):
        check_sections(config)
    check_sections(recipe(loop={"kind": "self_rewarding", "iterations": 3}))


def test_promotion_can_be_switched_off(run: Any) -> None:
    run.config = recipe(promotion={"enabled": False})
    assert decide(run, MODELS, 1, figures(0), {}, 0) == Decision(current=0, stop=False)
    assert pointed(run) == (0, "f0")


def test_another_attempt_decides_the_same_and_leaves_the_pointer_alone(run: Any) -> None:
    def attempt() -> list[Decision]:
        second = decide(run, MODELS, 2, figures(1, (1, 0, 5)), {}, 1)
        return [second, decide(run, MODELS, 3, figures(1), {}, 1)]

    decide(run, MODELS, 1, figures(0), {}, 0)
    first = attempt()
    assert [d.current for d in first] == [1, 3]
    before = files.read_json(run.layout.current)
    assert attempt() == first
    assert files.read_json(run.layout.current) == before


def test_a_tightened_threshold_takes_back_what_it_stops(run: Any) -> None:
    for iteration in (1, 2, 3):
        decide(run, MODELS, iteration, figures(iteration - 1), {}, iteration - 1)
    assert pointed(run) == (3, "f3")
    decide(run, MODELS, 2, figures(1, collapse=("it says one thing only",)), {}, 1)
    assert pointed(run) == (1, "f1")


def label(run: Any, readings: dict[int, str]) -> dict[str, Source]:
    """Twelve labelled pairs that each model reads with the same two letters, one an order."""
    pairs = [
        ResponsePair.new(
            instruction_id=f"ins-{n}",
            messages=ask(f"Task {n}").messages,
            chosen=f"good {n}",
            rejected=f"bad {n}",
            corruption="labelled",
        )
        for n in range(12)
    ]
    folder = join(run.layout.root, "labelled", "mine")
    manifest = write_stage(folder, "labelled", pairs)
    for iteration, letters in readings.items():
        judged = [
            judgment(pair.id, MODELS[iteration].ref, position, 0, letter)
            for pair in pairs
            for position, letter in zip(Position, letters, strict=True)
        ]
        write_stage(join(run.layout.evaluation(iteration), "mine"), "judge", judged)
    return {"mine": Source.of(folder, manifest)}


def test_a_judge_that_is_right_by_position_is_not_promoted(run: Any) -> None:
    # From never right to right in one order: better, and now it always names the first.
    labelled = label(run, {0: "BA", 1: "AA"})
    decision = decide(run, MODELS, 1, figures(0, (0, 5, 4)), labelled, 0)
    assert decision == Decision(current=0, stop=False)
    reason = promotion(run, 1)["reason"]
    assert reason.startswith("not promoted: accuracy 0.500 against 0.000 on 12 pairs")
    assert "position bias |first position rate - 0.5| rose from 0.000 to 0.500" in reason


def test_labelled_pairs_decide_where_there_are_some(run: Any) -> None:
    # M0 names the worse response in both orders, M1 and M2 the better: 12 of 12 pairs turn.
    labelled = label(run, {0: "BA", 1: "AB", 2: "AB"})
    # Four losses without a win can be chance: one way of 16.
    decision = decide(run, MODELS, 1, figures(0, (0, 5, 4)), labelled, 0)
    assert decision == Decision(current=1, stop=False)
    found = promotion(run, 1)
    assert (found["promoted"], found["accuracy"]) == (True, 1.0)
    assert found["reason"].startswith("promoted: accuracy 1.000 against 0.000 on 12 pairs")
    assert read_current(run.layout).accuracy == 1.0  # type: ignore[union-attr]
    # No better on the pairs: a won comparison does not help.
    decision = decide(run, MODELS, 2, figures(1, (9, 0, 0)), labelled, 1)
    assert decision == Decision(current=1, stop=False)
    assert promotion(run, 2)["reason"].endswith("not better")
    assert pointed(run) == (1, "f1")


def test_a_better_judge_whose_answers_lose_is_not_promoted(run: Any) -> None:
    labelled = label(run, {0: "BA", 1: "AB"})
    decision = decide(run, MODELS, 1, figures(0, (1, 0, 8)), labelled, 0)
    assert decision == Decision(current=0, stop=False)
    assert pointed(run) == (0, "f0")
    # Of 2^9 ways that nine comparisons can fall, 9 + 1.
    found = promotion(run, 1)
    assert (found["promoted"], found["accuracy"]) == (False, 1.0)
    assert found["reason"].startswith("not promoted: accuracy 1.000 against 0.000 on 12 pairs")
    assert found["reason"].endswith(
        ", but its answers lose: 1 wins, 0 ties, 8 losses against M0, one-sided sign test p"
        " 0.02 <= 0.05"
    )


@pytest.mark.parametrize("counts", [None, (0, 0, 0)])
def test_a_better_judge_whose_answers_nobody_compared_is_promoted(run: Any, counts: Any) -> None:
    labelled = label(run, {0: "BA", 1: "AB"})
    assert decide(run, MODELS, 1, figures(0, counts), labelled, 0).current == 1


def test_readings_that_the_engine_refused_are_named_with_the_mend(run: Any) -> None:
    refused = figures(0, (0, 0, 0))
    failed = {"unparsed": 1, "refused": 0, "prompt_too_long": 8}
    refused["head_to_head"]["M0"] |= {"num_failed": 5, "failed_readings": failed}
    decide(run, MODELS, 1, refused, {}, 0)
    assert promotion(run, 1)["reason"] == (
        "not promoted: no comparison with M0 has a verdict (readings: unparsed 1, prompt_too_long"
        " 8); they do not fit the judge's context; lower respond.sampling.max_tokens, or raise"
        " engine.max_model_len=2048"
    )


def test_a_collapse_counts_before_labelled_pairs(run: Any) -> None:
    labelled = label(run, {0: "BA", 1: "AB"})
    decision = decide(run, MODELS, 1, figures(0, collapse=("all ties",)), labelled, 0)
    assert decision == Decision(current=0, stop=True)
    assert promotion(run, 1)["accuracy"] is None
