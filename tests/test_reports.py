"""What people see: plain lines while a run goes on, and tables read from the run folder alone."""

import io
import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from selfreward.errors import DataError
from selfreward.layout import Layout, join
from selfreward.reports import progress
from selfreward.reports.progress import Display
from selfreward.reports.summary import print_summary, read_summary
from selfreward.storage import files
from selfreward.storage.manifest import complete, open_stage
from selfreward.storage.shards import ShardSummary


def display(is_terminal: bool = False) -> tuple[Display, Callable[[], list[str]]]:
    out = io.StringIO()
    console = Console(file=out, width=40, force_terminal=is_terminal, highlight=False)
    return Display(console), lambda: out.getvalue().splitlines()


def test_lines_are_stamped_whole_and_taken_as_they_are() -> None:
    shown, lines = display()
    shown.line("a [bold] word that is " + "much " * 20 + "longer than the console")
    (line,) = lines()
    assert re.match(r"\[\d\d:\d\d\] a \[bold\] word", line)
    assert line.endswith("longer than the console")


def test_a_stage_without_a_terminal_is_a_few_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, lines = display()
    with shown.stage("judge 1", 128, lambda: (128, 5000)):
        pass
    begin, end = lines()
    assert begin.endswith("] judge 1: 128 rows")
    assert re.search(r"\] judge 1: done in \d+\.\d s, \d+ tok/s$", end)


def test_a_long_stage_tells_rows_speed_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, lines = display()
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    begin, now[0] = 100.0, 110.0
    # 32 of 128 rows and 500 tokens in 10 s: 50 a second, and 96 rows at 3.2 rows/s take 30 s.
    shown._plain("judge 1", 128, lambda: (32, 500), begin)
    assert lines()[0].endswith("judge 1: 32/128 rows, 50 tok/s, 30 s left")
    shown._plain("judge 1", 128, lambda: (0, 0), begin)
    shown._plain("judge 1", 128, lambda: None, begin)
    assert len(lines()) == 1, "nothing to tell yet, or the counter does not answer"


def test_progress_is_told_while_the_stage_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PLAIN_EVERY_S", 0.001)
    shown, lines = display()
    told = threading.Event()

    def read() -> tuple[int, int]:
        if len(lines()) > 1:
            told.set()
        return 5, 10

    with shown.stage("respond", 10, read):
        assert told.wait(30)
    assert any("respond: 5/10 rows" in line for line in lines()[1:-1])
    assert "done in" in lines()[-1]


def test_a_stage_without_tokens_or_counter_shows_no_speed() -> None:
    for read in (lambda: (10, 0), lambda: None):
        shown, lines = display()
        with shown.stage("select", 10, read):
            pass
        assert re.search(r"\] select: done in \d+\.\d s$", lines()[-1])


def test_a_stage_that_fails_is_not_called_done() -> None:
    for is_terminal in (False, True):
        shown, lines = display(is_terminal)
        with pytest.raises(KeyError), shown.stage("judge", 10, lambda: (1, 1)):
            raise KeyError("x")
        assert not any("done in" in line for line in lines())


def test_a_terminal_gets_a_bar_and_the_same_last_line() -> None:
    shown, lines = display(is_terminal=True)
    with shown.stage("judge", 10, lambda: (10, 50)):
        pass
    assert "judge: done in" in lines()[-1]


def test_waiting_tells_how_long_it_took() -> None:
    shown, lines = display()
    with shown.waiting("starting 2 engine(s)"):
        pass
    first, second = lines()
    assert first.endswith("starting 2 engine(s) ...")
    assert re.search(r"starting 2 engine\(s\): \d+\.\d s$", second)


# --- the summary ---------------------------------------------------------------------------------


def report(n: int, accuracy: float, **more: Any) -> dict[str, Any]:
    return {
        "n": n,
        "accuracy": accuracy,
        "accuracy_ci": [accuracy - 0.1, accuracy + 0.1],
        "position_consistent_accuracy": 0.25,
        "first_position_rate": 0.625,
        "unparsed_rate": 0.05,
        "truncated_rate": 0.02,
        "refused_rate": 0.0,
    } | more


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(str(tmp_path / "run"))
    files.write_json(made.run_json, {"id": "run-1", "iterations": 1, "seed_model": "m"})
    files.write_bytes(made.config, b"loop: {iterations: 2}\n")
    return made


def stage(folder: str, num_inputs: int, num_records: int, **options: Any) -> None:
    manifest = open_stage(folder, "s", {"x": 1})
    if options.pop("running", False):
        return
    summary = ShardSummary(
        index=0,
        num_inputs=num_inputs,
        num_records=num_records,
        drops=options.get("drops", {}),
        ledger=options.get("ledger", {}),
    )
    complete(folder, manifest, [summary], 12.34)


def shown(layout: Layout) -> list[str]:
    out = io.StringIO()
    print_summary(read_summary(layout), Console(file=out, width=80))
    return [" ".join(re.split(r"[\s│┃|]+", line)).strip() for line in out.getvalue().splitlines()]


def test_no_run_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"^no run at {tmp_path}/x: it has no run\.json$"):
        read_summary(Layout(f"{tmp_path}/x"))


def test_a_run_that_has_just_begun_can_be_shown(layout: Layout) -> None:
    assert f"run folder: {layout.root}" in " ".join(shown(layout))
    assert not read_summary(layout).is_complete


def test_the_funnel_holds_counts_drops_tokens_and_seconds(layout: Layout) -> None:
    stage(layout.pool, 170, 160, drops={"exact_duplicate": 4, "too_long": 6})
    tokens = {"prompt_tokens": 12345, "completion_tokens": 6789}
    stage(layout.responses(1), 112, 100, drops={"empty_response": 12}, ledger=tokens)
    stage(layout.judgments(1), 0, 0, running=True)
    stage(layout.training(1), 64, 64, ledger={"train_tokens": 4096})
    lines = shown(layout)
    assert "pool 170 160 exact_duplicate 4, too_long 6 12.3" in lines
    assert "respond 1 112 100 empty_response 12 12,345 6,789 12.3" in lines
    assert "judge 1 (running) 0 0 0.0" in lines
    assert "train 1 64 64 4,096 12.3" in lines


def test_judges_are_shown_with_their_sets_and_what_became_of_them(layout: Layout) -> None:
    sets = {"heldout": report(32, 0.5), "arena": report(7, 0.625, first_position_rate=None)}
    files.write_json(join(layout.evaluation(0), "evaluation.json"), sets)
    files.write_json(join(layout.evaluation(1), "evaluation.json"), {"heldout": report(32, 0.75)})
    promotion = {"promoted": True, "reason": "promoted: accuracy 0.750 against 0.500"}
    files.write_json(join(layout.iteration(1), "promotion.json"), promotion)
    files.write_json(
        layout.current,
        {"current": {"iteration": 1, "checkpoint": "r/iter_01/checkpoint"}, "history": []},
    )
    lines = shown(layout)
    # failed is 0.05 + 0.02 + 0.
    assert "M0 heldout 32 0.500 0.400-0.600 0.250 0.62 0.07" in lines
    assert "M0 arena 7 0.625 0.525-0.725 0.250 0.07" in lines
    assert "M1 (promoted) heldout 32 0.750 0.650-0.850 0.250 0.62 0.07" in lines
    assert "M1: promoted: accuracy 0.750 against 0.500" in lines
    assert "current judge: iteration 1, r/iter_01/checkpoint" in lines
    assert not read_summary(layout).is_complete, "the recipe asks for two iterations"
    promotion = {"promoted": False, "reason": "not promoted: accuracy 0.700"}
    files.write_json(join(layout.iteration(2), "promotion.json"), promotion)
    assert read_summary(layout).is_complete


def test_the_saved_config_says_how_many_iterations_there_are(layout: Layout) -> None:
    assert read_summary(layout).record["iterations"] == 2
    files.remove(layout.config)
    assert read_summary(layout).record["iterations"] == 1


def test_what_each_attempt_cost(layout: Layout) -> None:
    record = json.loads(files.read_bytes(layout.run_json))
    record["attempts"] = [
        {"engine_starts": 2, "swap_seconds": [0.61, 0.7]},
        {"engine_starts": 1, "swap_seconds": []},
    ]
    files.write_json(layout.run_json, record)
    lines = shown(layout)
    assert "attempt 1: 2 engine start(s), weight swaps: 0.6 s, 0.7 s" in lines
    assert "attempt 2: 1 engine start(s), weight swaps: none" in lines
