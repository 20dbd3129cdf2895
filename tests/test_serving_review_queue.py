import math
from pathlib import Path

import pytest

from selfreward.errors import DataError
from selfreward.layout import Layout, join
from selfreward.records import (
    Instruction,
    Judgment,
    Message,
    ModelRef,
    Position,
    Preference,
    ResponsePair,
)
from selfreward.records_scores import Rating
from selfreward.records_self_rewarding import SampledInstruction
from selfreward.serving.review.items import ReviewItem
from selfreward.serving.review.queue import draw_tasks
from selfreward.storage import files
from tests import run_folders
from tests.run_folders import M1, SEED_MODEL, answer, ask, judgment, new_run, rating, write_stage

FIRST, SECOND = Position.CHOSEN_FIRST, Position.REJECTED_FIRST
M2 = ModelRef(name="tiny after iteration 2", iteration=2, fingerprint="cccc3333")


def make_pair(number: int) -> ResponsePair:
    return ResponsePair.new(
        instruction_id=f"ins-{number}",
        messages=(Message(role="user", content=f"Question {number}?"),),
        chosen=f"Good {number}.",
        rejected=f"Bad {number}.",
        corruption="rewrite",
    )


def read_by(pair: ResponsePair, judge: ModelRef, straight: str, turned: str) -> list[Judgment]:
    """A letter a draw, of the order chosen first and of the other one."""
    orders = ((FIRST, straight), (SECOND, turned))
    return [judgment(pair.id, judge, p, i, t) for p, text in orders for i, t in enumerate(text)]


def by_prompt(tasks: list[ReviewItem]) -> dict[str, ReviewItem]:
    return {task.prompt[0].content: task for task in tasks}


def named_by(task: ReviewItem, judge: str) -> str | None:
    """The text a judge's label names, or the label itself where it is no response."""
    (label,) = (said.label for said in task.judged if said.judge == judge)
    return {"first": task.responses[0], "second": task.responses[1]}.get(label or "", label)


def test_pairs_are_ordered_by_how_much_draws_orders_and_judges_disagree(tmp_path: Path) -> None:
    layout = new_run(str(tmp_path), "self_taught", 2)
    pairs = [make_pair(i) for i in range(4)]
    write_stage(layout.pairs(1), "corrupt", pairs, shard_size=2)
    # A names the chosen response in the first order and the rejected one in the second.
    seen_by_seed = [("AAAA", "BBBB"), ("AAAA", "AAAA"), ("AABB", "BBAA"), ("AAAA", "BBBB")]
    seen_by_m1 = [("AA", "BB"), ("AA", "BB"), ("AA", "BB"), ("BB", "AA")]
    for iteration, judge, seen in ((1, SEED_MODEL, seen_by_seed), (2, M1, seen_by_m1)):
        rows = [read_by(p, judge, *s) for p, s in zip(pairs, seen, strict=True)]
        for index in (0, 1):
            folder = layout.judgments(iteration)
            shard = join(folder, f"shard-{index:05d}.parquet")
            run_folders.write_records(shard, [*rows[2 * index], *rows[2 * index + 1]], Judgment)

    tasks = draw_tasks(layout, 10, seed=0)
    found = by_prompt(tasks)

    assert all(task.kind == "pair" for task in tasks)
    agreed, turned, split, apart = (found[f"Question {i}?"] for i in range(4))
    assert (agreed.priority, agreed.why) == (0.0, "no disagreement")
    # The seed names A whatever stands there: its orders are 1 apart, M1's are 0 apart. The seed
    # says tie, and M1 the chosen one: of one pair of judges one is different.
    assert turned.priority == pytest.approx(0.5 + 1)
    assert turned.why == "orders disagree (50%), judges disagree (100%)"
    assert (named_by(turned, "M0"), named_by(turned, "M1")) == ("tie", "Good 1.")
    # Two halves are 1 bit in both orders of the seed, M1's orders have 0: the mean of four is 0.5.
    assert split.priority == pytest.approx(0.5 + 1)
    assert split.why == "draws are split (0.50 bits), judges disagree (100%)"
    assert apart.priority == 1.0
    assert (named_by(apart, "M0"), named_by(apart, "M1")) == ("Good 3.", "Bad 3.")
    assert [t.priority for t in tasks] == [1.5, 1.5, 1.0, 0.0]
    assert {t.id for t in tasks} == {p.id for p in pairs}
    assert {r for t in tasks for r in t.responses} == {
        r for p in pairs for r in (p.chosen, p.rejected)
    }


def test_heldout_pairs_are_asked_with_the_word_of_every_iteration(tmp_path: Path) -> None:
    layout = new_run(str(tmp_path), "self_taught", 2)
    pair = make_pair(0)
    write_stage(layout.split("heldout", "pairs"), "corrupt", [pair])
    for model, letters in ((SEED_MODEL, "AB"), (M1, "BA"), (M2, "A?")):
        rows = read_by(pair, model, *letters)
        write_stage(join(layout.evaluation(model.iteration), "heldout"), "evaluate", rows)
    (task,) = draw_tasks(layout, 10, seed=0)
    assert [named_by(task, f"M{i}") for i in range(3)] == ["Good 0.", "Bad 0.", None]
    # M2 failed in one order: only M0 and M1 have a word, and they differ.
    assert (task.priority, task.why) == (1.0, "judges disagree (100%)")


def test_only_the_first_are_kept_and_equal_ones_are_settled_by_the_seed(tmp_path: Path) -> None:
    layout = new_run(str(tmp_path), "self_taught", 1)
    pairs = [make_pair(i) for i in range(30)]
    write_stage(layout.pairs(1), "corrupt", pairs, shard_size=30)
    rows = [j for n, p in enumerate(pairs) for j in read_by(p, SEED_MODEL, "A", "AB"[n < 25])]
    write_stage(layout.judgments(1), "judge", rows, shard_size=1000)
    everything = draw_tasks(layout, 30, seed=7)
    assert len({t.id for t in everything}) == 30
    assert {t.prompt[0].content for t in everything[:5]} == {
        f"Question {i}?" for i in range(25, 30)
    }
    assert draw_tasks(layout, 8, seed=7) == everything[:8]
    other = draw_tasks(layout, 30, seed=8)
    assert other != everything and sorted(t.id for t in other) == sorted(t.id for t in everything)
    # The same task is the same whatever the seed: people have answered it by its places.
    assert {t.id: t for t in other} == {t.id: t for t in everything}
    # Which side is the better one must not be told by the place: 30 coins, neither all one way.
    first = sum(t.responses[0].startswith("Good") for t in everything)
    assert 5 < first < 25


def test_a_shard_that_is_not_judged_yet_waits(tmp_path: Path) -> None:
    layout = new_run(str(tmp_path), "self_taught", 1)
    pairs = [make_pair(i) for i in range(2)]
    write_stage(layout.pairs(1), "corrupt", pairs, shard_size=1)
    rows = read_by(pairs[0], SEED_MODEL, "A", "B")
    write_stage(layout.judgments(1), "judge", rows, is_complete=False)
    assert [t.id for t in draw_tasks(layout, 10, seed=0)] == [pairs[0].id]


def test_a_self_taught_run_of_the_loop_is_read(tmp_path: Path) -> None:
    run = run_folders.self_taught_run(str(tmp_path))
    first, second = draw_tasks(run.layout, 10, seed=0)
    assert (first.id, second.id) == (run.pair.id, run.other_pair.id)
    assert first.instruction_id == run.instruction.id
    assert set(first.response_ids) == {run.pair.chosen_id, run.pair.rejected_id}
    # Shown first the chosen one: B, A, A, so 2 of 3 for it; shown second A, A: none of 2. The
    # entropies are 0.918 and 0 bits, the orders 2/3 apart.
    entropy = -(2 / 3 * math.log2(2 / 3) + 1 / 3 * math.log2(1 / 3))
    assert first.priority == pytest.approx(entropy / 2 + 2 / 3, abs=1e-6)
    assert named_by(first, "M0") == "tie"
    # Read in one order only: no word on the pair.
    assert named_by(second, "M0") is None


def test_a_self_rewarding_run_gives_rankings_and_its_preferences(tmp_path: Path) -> None:
    run = run_folders.self_rewarding_run(str(tmp_path))
    tasks = draw_tasks(run.layout, 10, seed=0)
    ranked, pair = sorted(tasks, key=lambda t: t.kind, reverse=True)
    assert (ranked.kind, pair.kind, len(tasks)) == ("rank", "pair", 2)
    assert ranked.prompt == run.created.messages and ranked.instruction_id == run.created.id
    assert set(ranked.response_ids) == {r.id for r in run.responses}
    (said,) = ranked.judged
    assert said.judge == "M1" and said.label is None and said.scores is not None
    means = dict(zip(ranked.response_ids, said.scores, strict=True))
    assert [means[r.id] for r in run.responses] == [4.5, 3.0, 1.5]
    # Every draw of the best is above every other: nothing is split.
    assert ranked.priority == 0.0
    assert pair.id == run.preference.id
    assert named_by(pair, "M1") == run.preference.chosen


def scored_run(root: str, scores: list[list[float | None]], texts: list[str]) -> Layout:
    layout = new_run(root, "self_rewarding", 2)
    lake = ask("Name a lake.")
    responses = tuple(answer(lake, text, M1, draw) for draw, text in enumerate(texts))
    sampled = SampledInstruction(id=lake.id, instruction=lake, responses=responses)
    write_stage(layout.responses(2), "sample", [sampled], record_type=SampledInstruction)
    rows = [
        rating(r.id, M1, draw, score)
        for r, given in zip(responses, scores, strict=True)
        for draw, score in enumerate(given)
    ]
    write_stage(layout.stage(2, "ratings"), "rate", rows, record_type=Rating)
    return layout


def test_draws_of_scored_responses_are_compared_each_with_each(tmp_path: Path) -> None:
    scores: list[list[float | None]] = [[4, 2], [3, 3], [1, 1]]
    layout = scored_run(str(tmp_path), scores, ["Lake A.", "Lake B.", "Lake C."])
    (task,) = draw_tasks(layout, 10, seed=0)
    # First against second: 4 > 3 twice and 2 < 3 twice, 1 bit; both against the third: 0 bits.
    assert task.priority == pytest.approx(1 / 3, abs=1e-6)
    assert task.why == "draws are split (0.33 bits)"


def test_of_many_responses_the_best_the_worst_and_two_between_are_ranked(tmp_path: Path) -> None:
    # The sixth has no score, the last the first one's text: neither can be ranked.
    scores: list[list[float | None]] = [[1], [3], [5], [4], [2], [None], [1]]
    texts = ["1", "3", "5", "4", "2", "none", " 1 "]
    layout = scored_run(str(tmp_path), scores, texts)
    (task,) = draw_tasks(layout, 10, seed=0)
    # Of 5, 4, 3, 2, 1 the places 0, 4/3, 8/3 and 4, rounded: 0, 1, 3, 4.
    assert sorted(t.strip() for t in task.responses) == ["1", "2", "4", "5"]


def test_two_responses_are_a_pair(tmp_path: Path) -> None:
    (task,) = draw_tasks(scored_run(str(tmp_path), [[2], [4]], ["Bad.", "Good."]), 10, seed=0)
    assert task.kind == "pair" and named_by(task, "M1") == "Good."


def test_a_rejected_response_of_the_first_model_has_its_own_ratings(tmp_path: Path) -> None:
    layout = scored_run(str(tmp_path), [[5, 5]], ["Good."])
    lake = ask("Name a lake.")
    good, bad = answer(lake, "Good.", M1), answer(lake, "Bad.", SEED_MODEL)
    write_stage(layout.stage(2, "first_ratings"), "rate", [rating(bad.id, M1, 0, 2)])
    preference = Preference(
        id="pre-1",
        messages=lake.messages,
        chosen="Good.",
        rejected="Bad.",
        pair_id=lake.id,
        chosen_id=good.id,
        rejected_id=bad.id,
    )
    write_stage(layout.preferences(2), "prefer", [preference])
    (task,) = draw_tasks(layout, 10, seed=0)
    assert (task.id, named_by(task, "M1")) == ("pre-1", "Good.")


def test_a_folder_that_is_no_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^no run at .*: it has no run\.json$"):
        draw_tasks(Layout(str(tmp_path)), 10, seed=0)
    files.write_json(Layout(str(tmp_path)).run_json, ["strange"])
    with pytest.raises(DataError, match="does not say how many iterations"):
        draw_tasks(Layout(str(tmp_path)), 10, seed=0)


def test_a_run_without_judgments_yet_says_so(tmp_path: Path) -> None:
    layout = new_run(str(tmp_path), "self_taught", 1)
    write_stage(layout.pairs(1), "corrupt", [make_pair(0)])
    with pytest.raises(DataError, match=r"has nothing to review yet: .* set review\.enabled=false"):
        draw_tasks(layout, 10, seed=0)


def test_judgments_of_other_pairs_are_refused(tmp_path: Path) -> None:
    layout = new_run(str(tmp_path), "self_taught", 1)
    write_stage(layout.judgments(1), "judge", read_by(make_pair(1), SEED_MODEL, "A", "B"))
    with pytest.raises(DataError, match=r"iter_01/judgments: its pairs are gone"):
        draw_tasks(layout, 10, seed=0)
    write_stage(layout.pairs(1), "corrupt", [make_pair(0)])
    with pytest.raises(DataError, match=r"is not in .*pairs/shard-00000\.parquet"):
        draw_tasks(layout, 10, seed=0)


def test_a_shard_of_another_record_is_named(tmp_path: Path) -> None:
    layout = new_run(str(tmp_path), "self_taught", 1)
    write_stage(layout.pairs(1), "corrupt", [ask("Not a pair?")], record_type=Instruction)
    with pytest.raises(DataError, match=r"pairs/shard-00000\.parquet: columns \['instruction_id'"):
        draw_tasks(layout, 10, seed=0)
