"""Seeds of files of ranked responses, in every form they come in: which answer is learnt, which
prompts are judged, and what is said where nothing is left."""

import json
from pathlib import Path
from typing import Any

import pytest

from selfreward.config import RunConfig
from selfreward.config_loading import parse_config
from selfreward.errors import ConfigError, DataError
from selfreward.loops.self_rewarding import check_recipe
from selfreward.records import AnsweredInstruction
from selfreward.records_scores import ScoredResponse
from selfreward.stages.held_out import HeldOut
from selfreward.stages.ranked_seeds import FromRanked, build_ranked
from selfreward.stages.row_limit import RowLimit
from selfreward.stages.scored import build_scored
from selfreward.stages.seeds import build_ift
from selfreward.storage.shards import sealed_shards
from tests.stage_tools import drops_in, records_in

Row = dict[str, Any]


def write(tmp_path: Path, rows: list[Row], name: str = "people.jsonl") -> str:
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def ift(
    tmp_path: Path,
    paths: tuple[str, ...],
    heldout: int = 0,
    from_ranked: FromRanked | None = None,
    seed: int = 0,
) -> tuple[dict[str, str], dict[str, str]]:
    """Prompt → answer of the seeds to train on, and of those held out."""
    folders = (f"{tmp_path}/ift", f"{tmp_path}/aside")
    build_ift(paths, folders, 8, None, heldout, 200, seed, from_ranked=from_ranked)
    train, aside = (records_in(folder, AnsweredInstruction) for folder in folders)
    return _answers(train), _answers(aside)


def _answers(rows: list[AnsweredInstruction]) -> dict[str, str]:
    return {row.instruction.messages[-1].content: row.response.text for row in rows}


def eft(
    tmp_path: Path,
    *paths: str,
    max_rows: int | None = None,
    known: list[str] | None = None,
    measured: HeldOut | None = None,
    seed: int = 0,
) -> list[ScoredResponse]:
    folder = f"{tmp_path}/ranked"
    build_ranked(paths, folder, 8, max_rows, 200, known or [], measured or HeldOut(), seed)
    return records_in(folder, ScoredResponse)


def ranking(rows: list[ScoredResponse]) -> dict[str, float]:
    return {row.response: row.score for row in rows}


def scored(prompt: str, *scores: float, **more: Any) -> list[Row]:
    return [
        {"prompt": prompt, "response": f"{prompt} {n}", "score": score} | more
        for n, score in enumerate(scores)
    ]


FILE: list[Row] = [row for n in range(8) for row in scored(f"Task {n}", 1, 5, 3, scale=[1, 5])]


# --- answers to learn ----------------------------------------------------------------------------


def test_the_best_response_to_a_prompt_is_learnt_wherever_it_stands(tmp_path: Path) -> None:
    rows: list[Row] = [
        {"prompt": "Why?", "response": "I'm sorry, I can't.", "score": 1},
        {"prompt": "why?", "response": "Because of light.", "score": 5},
        {"prompt": "Why?", "response": "No idea.", "score": 2},
        # A rank of 0 is the best one.
        {"prompt": "How?", "response": "Badly.", "rank": 1},
        {"prompt": "How?", "response": "Well.", "rank": 0},
        # Of equally good ones, and without a word of people, the first.
        {"prompt": "When?", "response": "Now.", "score": 4},
        {"prompt": "When?", "response": "Later.", "score": 4},
        {"prompt": "Who?", "response": "I."},
        {"prompt": "Who?", "response": "You."},
    ]
    train, _ = ift(tmp_path, (write(tmp_path, rows),))
    assert train == {"why?": "Because of light.", "How?": "Well.", "When?": "Now.", "Who?": "I."}
    details = [d.detail for d in drops_in(f"{tmp_path}/ift")]
    assert (
        details
        == ["another response to the task is ranked above"] * 3 + ["the same task stands above"] * 2
    )


def test_the_shipped_ranking_teaches_no_refusal(tmp_path: Path) -> None:
    folders = (f"{tmp_path}/ift", f"{tmp_path}/aside")
    build_ift(("sample:ranked",), folders, 100, None, 0, 8000, 0)
    learnt = {row.response.text for row in records_in(folders[0], AnsweredInstruction)}
    build_scored("sample:ranked", f"{tmp_path}/scored", 100, None, 8000)
    best: dict[str, float] = {}
    rows = records_in(f"{tmp_path}/scored", ScoredResponse)
    for row in rows:
        best[row.group] = max(best.get(row.group, 0), row.score)
    assert len(learnt) == 24
    assert all(row.score == best[row.group] for row in rows if row.response in learnt)


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Why?", "chosen": "good", "rejected": "bad"},
        {"prompt": "Why?", "chosen": ["good"], "rejected": ["bad", "worse"]},
        {
            "prompt": [turn("user", "Why?")],
            "chosen": [turn("assistant", "good")],
            "rejected": [turn("assistant", "bad")],
        },
        {
            "chosen": [turn("user", "Why?"), turn("assistant", "good")],
            "rejected": [turn("user", "Why?"), turn("assistant", "bad")],
        },
        {"prompt": "Why?", "responses": ["bad", "good"], "ranks": [2, 1]},
        {"prompt": "Why?", "responses": ["good", "bad"]},
    ],
)
def test_every_form_of_ranking_gives_an_answer_and_judgments(tmp_path: Path, row: Row) -> None:
    path = write(tmp_path, [row])
    assert ift(tmp_path, (path,))[0] == {"Why?": "good"}
    rows = eft(tmp_path, path)
    scores = ranking(rows)
    assert [m.content for m in rows[0].messages] == ["Why?"]
    assert scores.pop("good") == 1.0
    assert set(scores.values()) == {0.0}
    assert {(r.low, r.high) for r in rows} == {(0.0, 1.0)}


# --- responses to judge --------------------------------------------------------------------------


def test_a_ranking_of_several_levels_keeps_its_order(tmp_path: Path) -> None:
    row = {"prompt": "Why?", "responses": ["worst", "best", "fine"], "ranks": [9, 1, 4]}
    rows = eft(tmp_path, write(tmp_path, [row]))
    assert ranking(rows) == {"worst": 0.0, "fine": 1.0, "best": 2.0}
    assert {(r.low, r.high) for r in rows} == {(0.0, 2.0)}


def test_scores_without_a_scale_span_what_the_file_has(tmp_path: Path) -> None:
    rows = scored("a", 0.25, 0.5) + scored("b", 2, -1)
    found = eft(tmp_path, write(tmp_path, rows))
    assert ranking(found) == {"a 0": 0.25, "a 1": 0.5, "b 0": 2.0, "b 1": -1.0}
    assert {(r.low, r.high) for r in found} == {(-1.0, 2.0)}
    by_rank = [{"prompt": "c", "response": text, "rank": n} for n, text in enumerate("xyz")]
    assert ranking(eft(tmp_path, write(tmp_path, by_rank))) == {"x": 0.0, "y": -1.0, "z": -2.0}


def test_what_two_people_ranked_is_not_compared(tmp_path: Path) -> None:
    rows: list[Row] = [
        {"prompt": "Why?", "chosen": "a", "rejected": "b"},
        {"prompt": "Why?", "chosen": "c", "rejected": "d"},
        # The same once more, and the first two scored by another scale.
        {"prompt": "Why?", "chosen": "c", "rejected": "d"},
        *({"prompt": "Why?", "response": r, "score": s, "scale": [1, 5]} for r, s in ("a1", "b5")),
        *({"prompt": "Why?", "response": r, "score": s, "scale": [1, 9]} for r, s in ("e2", "f9")),
    ]
    found = eft(tmp_path, write(tmp_path, rows))
    groups: dict[str, set[str]] = {}
    for row in found:
        groups.setdefault(row.group, set()).add(row.response)
    assert sorted(map(sorted, groups.values())) == [["a", "b"], ["a", "b"], ["c", "d"], ["e", "f"]]
    assert [d.reason.value for d in drops_in(f"{tmp_path}/ranked")] == ["exact_duplicate"] * 2


def test_unusable_rankings_are_dropped_with_a_reason(tmp_path: Path) -> None:
    rows: list[Row] = [
        {"prompt": "q", "response": "x", "score": 9, "scale": [1, 5]},
        {"prompt": "q", "response": "x", "score": "good"},
        {"prompt": "q", "responses": ["x", "y"], "ranks": [1]},
        {"prompt": "q", "chosen": "x", "rejected": ""},
        *scored("fine", 1, 2),
    ]
    assert len(eft(tmp_path, write(tmp_path, rows))) == 2
    drops = drops_in(f"{tmp_path}/ranked")
    assert {d.stage for d in drops} == {"seeds"}
    assert [d.reason.value for d in drops] == ["bad_score"] * 3 + ["empty_response"]


def test_a_file_without_a_ranking_is_one_line(tmp_path: Path) -> None:
    path = write(tmp_path, [{"prompt": "q", "answers": ["x", "y"]}])
    with pytest.raises(DataError, match=r"need the columns responses, .*'answers', 'prompt'\]$"):
        eft(tmp_path, path)
    path = write(tmp_path, [{"prompt": "q", "response": "x", "score": "good"}])
    with pytest.raises(DataError, match=r"no usable ranked response; dropped rows: bad_score 1$"):
        eft(tmp_path, path)


# --- one file for both ---------------------------------------------------------------------------


def test_the_same_file_for_both_says_where_its_prompts_went(tmp_path: Path) -> None:
    path = write(tmp_path, [*FILE, *scored("even", 2, 2)])
    train, aside = ift(tmp_path, (path,), heldout=3)
    assert (len(train), len(aside)) == (6, 3)
    known, held = (sealed_shards(f"{tmp_path}/{name}") for name in ("ift", "aside"))
    with pytest.raises(DataError) as caught:
        eft(tmp_path, path, known=known, measured=HeldOut(answered=held))
    text = str(caught.value)
    assert "none of 9 ranked prompts is left to learn judging from: 6 are answered seeds" in text
    assert "3 are held out" in text
    assert "seeds.ift=[] and seeds.ift_from_ranked=0.5" in text
    assert "\n" not in text


@pytest.mark.parametrize(("part", "num"), [(3, 3), (0.5, 4), (0.05, 1), (7, 7)])
def test_one_file_gives_answers_and_other_prompts_to_judge(
    tmp_path: Path, part: float, num: int
) -> None:
    path = write(tmp_path, FILE)
    wanted = FromRanked(paths=(path,), part=part)
    train, _ = ift(tmp_path, (), from_ranked=wanted)
    assert len(train) == num
    assert all(answer == f"{prompt} 1" for prompt, answer in train.items()), "that scored 5"
    rows = eft(tmp_path, path, known=sealed_shards(f"{tmp_path}/ift"))
    judged = {row.messages[0].content for row in rows}
    assert judged | set(train) == {f"Task {n}" for n in range(8)}
    assert not judged & set(train)
    other = write(tmp_path, FILE[::-1], "other.jsonl")
    again = ift(tmp_path, (), from_ranked=FromRanked(paths=(other,), part=part))[0]
    assert again == train, "the order of the rows does not matter"


def test_another_seed_draws_other_prompts_beside_those_of_other_files(tmp_path: Path) -> None:
    ranked = FromRanked(paths=(write(tmp_path, FILE),), part=3)
    mine = write(tmp_path, [{"prompt": "task 0", "response": "mine"}], "mine.jsonl")
    drawn = [ift(tmp_path, (mine,), from_ranked=ranked, seed=seed)[0] for seed in range(4)]
    assert all(len(found) == 4 and found["task 0"] == "mine" for found in drawn)
    assert not any("Task 0" in found for found in drawn)
    assert len({tuple(sorted(found)) for found in drawn}) > 1


def test_answers_that_leave_nothing_to_judge_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, FILE)
    with pytest.raises(DataError, match=r"ift_from_ranked=8 leaves none of 8 usable prompts"):
        ift(tmp_path, (), from_ranked=FromRanked(paths=(path,), part=8))
    even = write(tmp_path, scored("even", 2, 2), "even.jsonl")
    with pytest.raises(DataError, match=r"ift_from_ranked=0.5 finds no prompt with two responses"):
        ift(tmp_path, (), from_ranked=FromRanked(paths=(even,), part=0.5))


def test_the_setting_is_a_number_of_prompts_or_a_share() -> None:
    def config(value: Any, **seeds: Any) -> RunConfig:
        return parse_config({"seeds": {"ift_from_ranked": value} | seeds})

    assert config(12).seeds.ift_from_ranked == 12
    assert config(0.25).seeds.ift_from_ranked == 0.25
    for wrong in (0, 1.5, -0.1, "half"):
        with pytest.raises(ConfigError, match=r"seeds\.ift_from_ranked"):
            config(wrong)
    loop = {"loop": {"kind": "self_rewarding"}, "training": {"objective": "dpo"}}
    seeds = {"ift_from_ranked": 4, "ranked": []}
    with pytest.raises(ConfigError, match=r"takes from seeds\.ranked, which names no file"):
        check_recipe(parse_config(loop | {"seeds": seeds}))


# --- a part of a file ----------------------------------------------------------------------------


def prompts(rows: list[ScoredResponse]) -> list[str]:
    assert all(sum(other.group == row.group for other in rows) == 3 for row in rows), (
        "a prompt was cut"
    )
    return sorted({row.messages[0].content for row in rows})


def test_a_limit_takes_whole_prompts_of_the_whole_file(tmp_path: Path) -> None:
    # Eleven rows are three prompts of three; rows of a prompt do not stand together.
    path = write(tmp_path, sorted(FILE, key=lambda row: row["score"]))
    drawn = [prompts(eft(tmp_path, path, max_rows=11, seed=seed)) for seed in range(4)]
    assert {len(found) for found in drawn} == {3}
    assert len(set(map(tuple, drawn))) > 1
    assert prompts(eft(tmp_path, write(tmp_path, FILE[::-1]), max_rows=11)) == drawn[0]
    with pytest.raises(DataError, match=r"seeds.max_ranked=2 is less than .* set it to 3 or more"):
        eft(tmp_path, path, max_rows=2)


def test_a_limit_counts_what_is_left_of_held_out_prompts(tmp_path: Path) -> None:
    # Six of eight prompts are measured on, wherever they stand: the other two are left.
    build_scored(write(tmp_path, FILE[:18], "test.jsonl"), f"{tmp_path}/scored", 100, None, 200)
    measured = HeldOut(scored=sealed_shards(f"{tmp_path}/scored"))
    rows = eft(tmp_path, write(tmp_path, FILE), max_rows=6, measured=measured)
    assert prompts(rows) == ["Task 6", "Task 7"]


def test_what_is_measured_on_is_whole_prompts_too(tmp_path: Path) -> None:
    def build(rows: int) -> None:
        limit = RowLimit(rows, whole_prompts=True, setting="evaluation.max_scored_responses")
        build_scored(write(tmp_path, FILE), f"{tmp_path}/scored", 100, limit, 200)

    build(10)
    assert len(prompts(records_in(f"{tmp_path}/scored", ScoredResponse))) == 3
    with pytest.raises(DataError, match=r"evaluation.max_scored_responses=2 is less than"):
        build(2)
