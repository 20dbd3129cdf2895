"""From judged pairs on storage to a measured judge."""

from pathlib import Path
from typing import Any, Literal

import pytest

from selfreward.config import EvaluationConfig
from selfreward.errors import DataError
from selfreward.evaluation.draws import draws_by_outcome
from selfreward.evaluation.evaluated import Evaluated, Ratings
from selfreward.evaluation.outcomes import common_outcomes, measure, read_outcomes
from selfreward.evaluation.reports import reducer
from selfreward.loops import compare
from selfreward.loops.compare import comparison_report
from selfreward.loops.evaluate_request import EvaluateRequest
from selfreward.metrics.pairwise import PairOutcome, accuracy_per_pair
from selfreward.records import (
    Judgment,
    Message,
    ModelRef,
    Outcome,
    Position,
    ResponsePair,
    Verdict,
)
from selfreward.storage.shards import shard_name, write_records

PAIRS = [
    ResponsePair.new(
        instruction_id=f"ins-{i}",
        messages=(Message(role="user", content=f"Task {i}"),),
        chosen="yes " * (i + 1),
        rejected="no",
        corruption="rewrite" if i % 2 else "modified_instruction",
    )
    for i in range(4)
]


def judgment(
    pair: ResponsePair, position: Position, choice: Literal["first", "second"], draw: int = 0
) -> Judgment:
    return Judgment.new(
        pair_id=pair.id,
        judge=ModelRef(name="m", iteration=0, fingerprint="f"),
        rubric_id="r",
        position=position,
        draw=draw,
        text="A",
        finish_reason="stop",
        num_tokens=1,
        num_prompt_tokens=1,
        verdict=Verdict(outcome=Outcome.CHOICE, choice=choice),
    )


def right(pair: ResponsePair) -> list[Judgment]:
    return [
        judgment(pair, Position.REJECTED_FIRST, "second"),
        judgment(pair, Position.CHOSEN_FIRST, "first"),
        # Only the first draw of each order counts.
        judgment(pair, Position.CHOSEN_FIRST, "second", draw=1),
    ]


def always_first(pair: ResponsePair) -> list[Judgment]:
    return [judgment(pair, position, "first") for position in Position]


def write(tmp_path: Path, name: str, shards: list[list[Judgment]]) -> str:
    for index, judgments in enumerate(shards):
        write_records(f"{tmp_path}/{name}/{shard_name(index)}", judgments, Judgment)
    return f"{tmp_path}/{name}"


@pytest.fixture
def pairs(tmp_path: Path) -> str:
    write_records(f"{tmp_path}/pairs/{shard_name(0)}", PAIRS[:3], ResponsePair)
    write_records(f"{tmp_path}/pairs/{shard_name(1)}", PAIRS[3:], ResponsePair)
    return f"{tmp_path}/pairs"


def test_pairs_meet_their_two_readings_in_order(tmp_path: Path, pairs: str) -> None:
    # Pair 1 was read in one order only, its prompt was too long in the other.
    first = [*always_first(PAIRS[2]), *right(PAIRS[0]), right(PAIRS[1])[0]]
    outcomes = read_outcomes(pairs, write(tmp_path, "j", [first, right(PAIRS[3])]))
    assert [o.pair_id for o in outcomes] == [PAIRS[i].id for i in (0, 2, 3)]
    assert [o.choices for o in outcomes] == [(True, True), (True, False), (True, True)]
    assert [o.group for o in outcomes] == ["ins-0", "ins-2", "ins-3"]
    assert [o.subset for o in outcomes] == ["modified_instruction"] * 2 + ["rewrite"]
    assert [(o.chosen_length, o.rejected_length) for o in outcomes] == [(4, 2), (12, 2), (16, 2)]


def test_draws_are_made_into_one_verdict_as_asked_for() -> None:
    def drawn(choice: Literal["first", "second"], p_first: float) -> Verdict:
        return Verdict(outcome=Outcome.CHOICE, choice=choice, probability_first=p_first)

    draws = [drawn("first", 0.55), drawn("first", 0.55), drawn("second", 0.1)]
    # Two votes of three, the first alone, and (.55 + .55 + .1) / 3 = .4.
    assert reducer("sampled", 3)(draws).choice == "first"
    assert reducer("greedy", 1)(draws[::-1]).choice == "second"
    by_mean = reducer("probability", 3)(draws)
    assert (by_mean.choice, by_mean.probability_first) == ("second", pytest.approx(0.4))
    # A draw without a probability has no say in the mean; where none has one, the draws failed.
    failed = Verdict(outcome=Outcome.TRUNCATED)
    assert reducer("probability", 2)([failed, drawn("first", 0.6)]).choice == "first"
    assert reducer("probability", 2)([failed, failed]).outcome is Outcome.TRUNCATED
    unsaid = Verdict(outcome=Outcome.CHOICE, choice="first")
    assert reducer("probability", 1)([unsaid]).outcome is Outcome.UNPARSED


def test_readings_of_other_numbers_of_draws_are_no_votes(tmp_path: Path, pairs: str) -> None:
    folder = write(tmp_path, "judged", [always_first(PAIRS[0]), always_first(PAIRS[1])])
    assert draws_by_outcome(folder, Judgment, 1) == {"choice": 4}
    # A second draw of one order: what an interrupted vote of another version leaves.
    more = write(tmp_path, "more", [right(PAIRS[0])])
    for votes in (1, 3):
        with pytest.raises(DataError, match=rf"not of the {votes} that --votes asks for: remove"):
            draws_by_outcome(more, Judgment, votes)


def test_a_measured_judge_is_plain_data(tmp_path: Path, pairs: str) -> None:
    first = [*always_first(PAIRS[2]), *right(PAIRS[0])]
    outcomes = read_outcomes(pairs, write(tmp_path, "j", [first, right(PAIRS[3])]))
    report = measure("heldout", outcomes, EvaluationConfig(bootstrap_samples=100), seed=0)
    # Five of six readings are right, two of three pairs in both orders; four of six say "first".
    assert report["n"] == 3
    assert report["accuracy"] == pytest.approx(5 / 6)
    assert report["position_consistent_accuracy"] == pytest.approx(2 / 3)
    assert report["first_position_rate"] == pytest.approx(4 / 6)
    assert report["subsets"]["rewrite"] == {"n": 1, "accuracy": 1.0}


def test_a_set_without_a_readable_pair_is_an_error(tmp_path: Path, pairs: str) -> None:
    outcomes = read_outcomes(pairs, write(tmp_path, "j", [[], []]))
    with pytest.raises(DataError, match="no pair of arena was judged in both orders"):
        measure("arena", outcomes, EvaluationConfig(), seed=0)


def test_two_judges_are_compared_on_the_pairs_both_have_read(tmp_path: Path, pairs: str) -> None:
    before = read_outcomes(
        pairs, write(tmp_path, "a", [[*right(PAIRS[0]), *always_first(PAIRS[2])], right(PAIRS[3])])
    )
    after = read_outcomes(pairs, write(tmp_path, "b", [[*right(PAIRS[2]), *right(PAIRS[0])], []]))
    one, other = common_outcomes(before, after[::-1])
    assert [o.pair_id for o in one] == [o.pair_id for o in other] == [PAIRS[0].id, PAIRS[2].id]
    assert accuracy_per_pair(one).tolist() == [1.0, 0.5]
    assert accuracy_per_pair(other).tolist() == [1.0, 1.0]


# --- whose model wrote a response, and two judges side by side ------------------------------------


def said(right: bool) -> Verdict:
    return Verdict(outcome=Outcome.CHOICE, choice="first" if right else "second")


def outcome(
    pair_id: str, chosen_first: Verdict | None, rejected_first: Verdict | None
) -> PairOutcome:
    return PairOutcome(
        pair_id=pair_id, subset="s", chosen_first=chosen_first, rejected_first=rejected_first
    )


def evaluated(outcomes: list[PairOutcome], **changes: Any) -> Evaluated:
    values: dict[str, Any] = {
        "judge": "j",
        "model": "m",
        "fingerprint": "f",
        "settings": {},
        "outcomes": {"d": outcomes},
        "meta": {"d": {}},
        "ratings": {},
        "dropped": {"d": {}},
        "work": "w",
    }
    return Evaluated(**(values | changes))


@pytest.mark.parametrize(
    ("model", "names"),
    [
        ("http://host:8000/v1/chat/completions#Org/Judge-7B", ()),
        ("Org/Judge-7B after iteration 2", ("Org/Judge-7B",)),
        ("judge-7b", ()),
        ("embedded:judge-7b", ()),
    ],
)
def test_a_judge_s_own_answers_are_found_by_any_of_its_names(
    model: str, names: tuple[str, ...]
) -> None:
    # Shown first and second, its own answer is named in 3 of 4 readings and better in 2 of 4.
    rows = [outcome("a", said(True), said(False)), outcome("b", said(True), said(True))]
    meta = {
        "a": {"chosen_model": "Org/Judge-7B", "rejected_model": "other"},
        "b": {"chosen_model": "other", "rejected_model": "judge-7B"},
    }
    found = evaluated(rows, model=model, names=names, meta={"d": meta})
    assert found.card_basis().own == {"a": "chosen", "b": "rejected"}
    assert found.report(EvaluationConfig(), 0)["card"]["self_preference"] == pytest.approx(0.25)
    assert found.unknown_writers() == []
    assert evaluated(rows, model="third", meta={"d": meta}).unknown_writers() == [
        *("Org/Judge-7B", "judge-7B", "other")
    ]
    assert evaluated(rows).unknown_writers() == []


def test_a_comparison_has_the_whole_card_of_both_judges() -> None:
    meta = {"a": {"chosen_model": "other", "rejected_model": "b"}}
    # A names the better response; B its own, which is the worse one.
    a = evaluated([outcome("a", said(True), said(False))], model="a", meta={"d": meta})
    b = evaluated([outcome("a", said(False), said(True))], model="b", meta={"d": meta})
    found = comparison_report(a, b, EvaluationConfig(), 0)
    assert (found["cards"]["a"]["self_preference"], found["cards"]["b"]["self_preference"]) == (
        None,
        1.0,
    )
    ratings = Ratings(
        human=(5.0, 1.0),
        judge=(5.0, 5.0),
        groups=("p", "p"),
        subsets=("", ""),
        human_scale=(1.0, 5.0),
        judge_scale=(0.0, 5.0),
        has_scale=True,
    )
    rated = evaluated([outcome("a", said(True), said(False))], ratings={"s": ratings})
    card = comparison_report(a, rated, EvaluationConfig(), 0)["cards"]["b"]
    assert (card["score_saturation"], card["score_entropy_bits"]) == (1.0, 0.0)


def test_judges_that_read_other_orders_cannot_be_compared() -> None:
    a, b = (
        evaluated([outcome("a", said(True), None)]),
        evaluated([outcome("a", None, said(True))]),
    )
    with pytest.raises(DataError, match=r"cannot be compared: .*the same orders"):
        comparison_report(a, b, EvaluationConfig(), 0)


@pytest.mark.parametrize(("orders", "overrides"), [("random", ("loop.seed=7",)), ("both", ())])
def test_one_order_of_a_pair_is_drawn_alike_for_both_judges(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    orders: Literal["both", "random"],
    overrides: tuple[str, ...],
) -> None:
    (tmp_path / "recipe.yaml").write_text("run_dir: runs/x\nloop: {seed: 7}\n")
    asked: list[EvaluateRequest] = []

    def answer(request: EvaluateRequest, display: Any) -> Evaluated:
        asked.append(request)
        return evaluated([outcome("a", said(True), said(False))])

    monkeypatch.setattr(compare, "evaluate_judge", answer)
    request = EvaluateRequest(
        judge="x", data=("pairs.jsonl",), orders=orders, config=str(tmp_path / "recipe.yaml")
    )
    compare.compare("judge-a", "judge-b", request)
    assert [r.judge for r in asked] == ["judge-a", "judge-b"]
    assert [r.overrides for r in asked] == [overrides] * 2
