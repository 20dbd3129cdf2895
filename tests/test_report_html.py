"""The page of a run: its numbers are those of the files, its texts cannot become markup."""

import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from selfreward import cli
from selfreward.config import RunConfig
from selfreward.config_self_rewarding import CollapseConfig
from selfreward.errors import DataError, StorageError
from selfreward.layout import Layout, join
from selfreward.loops import kinds
from selfreward.metrics.collapse import limits
from selfreward.records import Position, ResponsePair
from selfreward.reports.page.axis import linear_axis, log_axis
from selfreward.reports.page.numbers import ABSENT, duration, number
from selfreward.reports.page.plot import Series, line_plot
from selfreward.reports.page.write import keep_page, page_of, write_page
from selfreward.reports.progress import Display
from selfreward.storage import files
from selfreward.storage.manifest import complete, open_stage
from selfreward.storage.shards import ShardSummary
from tests.run_folders import (
    M1,
    SEED_MODEL,
    ask,
    judgment,
    new_run,
    self_rewarding_run,
    self_taught_run,
    write_stage,
)

EVIL = "<script>alert('x')</script><img src=http://evil.example/a.png onerror=alert(1)>"


class Page(HTMLParser):
    """The tags of a page, and its tables by caption."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.text = ""
        self._rows: list[list[str]] | None = None
        self._inside: str | None = None
        self._caption = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "table":
            self._rows, self._caption = [], ""
        elif tag == "tr" and self._rows is not None:
            self._rows.append([])
        elif tag in ("td", "th") and self._rows is not None:
            self._rows[-1].append("")
        if tag in ("caption", "td", "th", "style", "title"):
            self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside:
            self._inside = None
        if tag == "table" and self._rows is not None:
            self.tables[self._caption] = [[" ".join(c.split()) for c in r] for r in self._rows]
            self._rows = None

    def handle_data(self, data: str) -> None:
        if self._inside == "caption":
            self._caption += data
        elif self._inside in ("td", "th") and self._rows is not None:
            self._rows[-1][-1] += data
        if self._inside != "style":
            self.text += data

    def names(self) -> set[str]:
        return {tag for tag, _ in self.tags}

    def row(self, caption: str, first: str) -> list[str]:
        return next(r for r in self.tables[caption] if r[0] == first)


def page(layout: Layout) -> Page:
    return Page(page_of(layout))


def assert_asks_nobody(found: Page) -> None:
    """No script, and nothing that a browser would fetch."""
    assert not found.names() & {"script", "img", "link", "iframe", "object", "embed", "form"}
    for tag, attributes in found.tags:
        assert not {a for a in attributes if a.startswith("on")}, tag
        assert not {"src", "srcset", "action", "xlink:href"} & attributes.keys(), tag
        assert (attributes.get("href") or "#").startswith("#"), tag
    (style,) = re.findall(r"<style>(.*?)</style>", found.html, re.S)
    assert "url(" not in style and "@import" not in style and "http" not in style
    policy = next(a for t, a in found.tags if t == "meta" and "http-equiv" in a)
    assert (policy["content"] or "").startswith("default-src 'none'")


def report(n: int, accuracy: float, **more: Any) -> dict[str, Any]:
    return {
        "n": n,
        "accuracy": accuracy,
        "accuracy_ci": [accuracy - 0.0625, accuracy + 0.0625],
        "position_consistent_accuracy": 0.257,
        "first_position_rate": 0.631,
        "swap_flip_rate": 0.311,
        "longer_chosen_rate": 0.562,
        "unparsed_rate": 0.05,
        "truncated_rate": 0.02,
        "tie_rate": 0.0,
        "refused_rate": 0.0,
    } | more


def card(**more: Any) -> dict[str, Any]:
    found = report(90, 0.5) | {"share_chosen_longer": 0.549, "self_preference": None}
    return {k: v for k, v in found.items() if not k.startswith("accuracy")} | more


def trained_stage(folder: str, steps: int) -> None:
    manifest = open_stage(folder, "train", {"made_in": folder})
    summary = ShardSummary(
        index=0, num_inputs=64, num_records=60, drops={"too_long": 4}, ledger={"train_tokens": 4096}
    )
    complete(folder, manifest, [summary], 75.0)
    lines = [
        {"step": i, "train/loss": 2.0 / i, "train/lr": 1e-4 * i}
        | ({"eval/loss": 3.0 / i} if i % 5 == 0 else {})
        for i in range(1, steps + 1)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    files.write_bytes(join(folder, "ray_train", "iteration-01", "metrics.jsonl"), text.encode())


@pytest.fixture
def taught(tmp_path: Path) -> Layout:
    """Judged pairs in the run folder of the helper, and two judges measured, one promoted."""
    layout = self_taught_run(str(tmp_path / "taught")).layout
    record = files.read_json(layout.run_json) | {
        "created_at": "2026-11-22T05:00:00Z",
        "seed_model": "tiny & <b>bold</b>",
        "versions": {"selfreward": "0.1.0"},
        "attempts": [
            {"finished_at": "2026-11-22T06:00:00Z", "engine_starts": 2, "swap_seconds": [0.61, 0.7]}
        ],
    }
    files.write_json(layout.run_json, record)
    sets = {"heldout": report(90, 0.5), "arena": report(16, 0.4375, first_position_rate=None)}
    files.write_json(join(layout.evaluation(0), "evaluation.json"), sets)
    later = {"heldout": report(90, 0.8125)}
    files.write_json(join(layout.evaluation(1), "evaluation.json"), later)
    promotion = {
        "promoted": True,
        "compared_with": 0,
        "on": ["heldout"],
        "reason": "promoted: accuracy 0.812 against 0.500",
        "card": card(first_position_rate=0.512),
        "card_of_compared": card(),
    }
    files.write_json(join(layout.iteration(1), "promotion.json"), promotion)
    files.write_json(
        layout.current,
        {
            "current": {
                "iteration": 1,
                "checkpoint": "r/iter_01/checkpoint",
                "reason": promotion["reason"],
                "promoted_at": "2026-11-22T05:30:00Z",
            },
            "history": [],
        },
    )
    return layout


def judged_heldout(layout: Layout) -> list[ResponsePair]:
    """A pair that both judges read in both orders, with markup in every text."""
    question = ask(f"Which? {EVIL}")
    pair = ResponsePair.new(
        instruction_id=question.id,
        messages=question.messages,
        chosen=f"Better. {EVIL}",
        rejected="</pre><script>alert(2)</script>",
        corruption="modified_instruction",
    )
    write_stage(layout.split("heldout", "pairs"), "pairs", [pair])
    first, second = Position.CHOSEN_FIRST, Position.REJECTED_FIRST
    for iteration, judge, verdicts in ((0, SEED_MODEL, "AA"), (1, M1, "AB")):
        rows = [
            judgment(pair.id, judge, position, 0, text)
            for position, text in zip((first, second), verdicts, strict=True)
        ]
        rows[0] = replace(rows[0], text=f"I say A {EVIL}")
        write_stage(join(layout.evaluation(iteration), "heldout"), "evaluate", rows)
    return [pair]


# --- the self-taught loop ------------------------------------------------------------------------


def test_the_head_says_what_ran_and_which_judge_is_current(taught: Layout) -> None:
    found = page(taught)
    for told in (
        "Self-taught judge",
        "complete",
        "tiny & <b>bold</b>",
        "r/iter_01/checkpoint",
        "2026-11-22 05:00 UTC",
        "selfreward\xa00.1.0",
    ):
        assert told in found.text
    assert found.row("Promotions", "M1") == [
        *("M1", "promoted", "M0"),
        "promoted: accuracy 0.812 against 0.500",
    ]
    assert found.row("Attempts", "1") == ["1", "2026-11-22 06:00 UTC", "2", "2", "1.3 s"]
    assert_asks_nobody(found)


def test_learning_curves_and_their_tables_are_the_evaluations(taught: Layout) -> None:
    found = page(taught)
    heldout = found.tables["Held-out pairs"]
    assert heldout[1] == ["M0", "90", "0.500", "0.438 to 0.562", "0.257", "0.631", "0.070"]
    assert heldout[2][:4] == ["M1", "90", "0.812", "0.750 to 0.875"]
    assert found.row("arena", "M0")[5] == "–"  # noqa: RUF001
    assert "M1, accuracy: 0.8125 (0.75 to 0.875)" in found.text, "a point tells its number"
    # Each chart is a picture with a name, and its numbers stand below it.
    pictures = [a for t, a in found.tags if t == "svg" and a.get("role") == "img"]
    assert pictures and all("table below" in (a["aria-label"] or "") for a in pictures)


def test_the_bias_card_has_a_column_for_each_judge(taught: Layout) -> None:
    found = page(taught).tables["Bias card of each judge"]
    assert found[0] == ["figure", "unbiased", "M0", "M1"]
    assert ["first position chosen", "0.5", "0.631", "0.512"] in found
    assert ["better response is the longer", "", "0.549", "0.549"] in found
    assert not any(r[0] == "self-preference" for r in found), "never measured"


def test_judges_without_a_promotion_have_what_the_evaluation_knows(taught: Layout) -> None:
    files.remove(join(taught.iteration(1), "promotion.json"))
    found = page(taught).tables["Bias card of each judge"]
    assert ["verdict changes with the order", "0", "0.311", "0.311"] in found


def test_funnel_and_cost_are_the_manifests(taught: Layout) -> None:
    files.remove(taught.training(1))
    trained_stage(taught.training(1), 12)
    folder = taught.responses(1)
    files.remove(folder)
    drops = {"empty_response": 12, "too_long": 1}
    ledger = {"prompt_tokens": 12345, "completion_tokens": 6789}
    summary = ShardSummary(index=0, num_inputs=112, num_records=99, drops=drops, ledger=ledger)
    complete(folder, open_stage(folder, "respond", {"x": 1}), [summary], 12.34)
    found = page(taught)
    reasons = "empty_response 12, too_long 1"
    assert found.row("Rows of each stage", "respond 1") == [
        *("respond 1", "112", "99", "13"),
        reasons,
    ]
    costs = found.tables["Time and tokens"]
    assert found.row("Time and tokens", "respond 1")[1:4] == ["12.3", "12,345", "6,789"]
    assert found.row("Time and tokens", "train 1")[-1] == "4,096"
    seconds = [float(r[1].replace(",", "")) for r in costs[1:]]
    assert sum(seconds[:-1]) == pytest.approx(seconds[-1], abs=0.05 * len(seconds))
    assert costs[-1][2:] == ["12,345", "6,789", "4,096"]


def test_training_curves_are_the_metrics_of_the_steps(taught: Layout) -> None:
    files.remove(taught.training(1))
    trained_stage(taught.training(1), 1000)
    found = page(taught)
    losses = found.tables["train 1: loss"]
    assert losses[0] == ["step", "validation", "training"]
    assert losses[1] == ["1", "–", "2.000"]  # noqa: RUF001
    assert losses[-1] == ["1,000", "0.003000", "0.002000"]
    assert found.row("train 1: learning rate", "1,000")[1] == "0.1000"
    assert len(found.html) < 200_000, "a long training does not make a long page"


def test_samples_show_both_orders_of_every_judge_and_stay_text(taught: Layout) -> None:
    (pair,) = judged_heldout(taught)
    found = page(taught)
    assert pair.id in found.text and EVIL in found.text and pair.rejected in found.text
    (_, before, after) = found.tables["What was chosen in each order"]
    assert before[2] == "the worse response" and after[2] == "the better response"
    assert before[1].startswith("the better response: “I say A <script>")
    assert_asks_nobody(found)


def test_a_response_with_half_a_surrogate_or_of_great_length_can_be_shown(taught: Layout) -> None:
    record = files.read_json(taught.run_json) | {"seed_model": "\ud800" + "x" * 5000}
    files.write_bytes(taught.run_json, json.dumps(record).encode())
    text = files.read_bytes(write_page(taught)).decode()
    assert "?" + "x" * 5000 in text


# --- the other loops -----------------------------------------------------------------------------


def rewarding_figures(**more: Any) -> dict[str, Any]:
    own = {
        "num_candidates": 24,
        "histogram": {"0": 0, "5": 24},
        "mean_score": 3.1254,
        "saturation": 0.0,
        "top_level_share": 0.251,
        "mean_length": 120.6,
        "length_quartiles": [90.0, 118.0, 150.0],
    }
    return {
        "own_scores": own,
        "perplexity": {"n": 8, "perplexity": 12.251, "perplexity_ci": [11.0, 13.5]},
        "scored": {},
        "card": {"n": 0, "score_entropy_bits": 1.5, "score_saturation": 0.0},
        "collapse": {"figures": {"length_ratio": 1.0}, "limits": {}, "reasons": []},
    } | more


def test_the_page_of_a_self_rewarding_run(tmp_path: Path) -> None:
    layout = self_rewarding_run(str(tmp_path / "run")).layout
    versus = {
        "n": 24,
        "num_failed": 3,
        "win_rate": 0.5,
        "tie_rate": 0.375,
        "loss_rate": 0.125,
        "adjusted_win_rate": 0.6875,
        "adjusted_win_rate_ci": [0.5, 0.85],
        "mean_model_length": 120.64,
        "mean_baseline_length": 88.0,
    }
    later = rewarding_figures(
        head_to_head={"M0": versus, "M1": None},
        head_to_head_judge="outsider",
        kl={"n": 24, "kl": 1.234, "kl_per_token": 0.0247, "kl_per_token_ci": [0.02, 0.03]},
        seed_agreement={"kendall_tau": 0.688, "kendall_tau_ci": None},
        creation={"created": 57, "kept": 35},
        candidates={
            "tie_rate": 0.125,
            "pairs": {"n": 31},
            "lost_draws": {"truncated_response": 12},
        },
        collapse={
            "figures": {"length_ratio": 5.0, "distinct_2": 0.75, "modal_share": 0.625},
            "limits": limits(CollapseConfig(max_modal_share=None)),
            "reasons": ["answers are 3 times as long"],
        },
        scored={
            "ranks": {
                "reward_modelling": {
                    "pairwise_accuracy": 0.75,
                    "pairwise_accuracy_ci": None,
                    "spearman": 0.61,
                    "kendall_tau": None,
                    "num_failed": 1,
                    "num_responses": 24,
                }
            }
        },
    )
    for iteration, figures in ((0, rewarding_figures()), (2, later)):
        files.write_json(join(layout.evaluation(iteration), "figures.json"), figures)
    decided = {
        "promoted": False,
        "compared_with": 0,
        "accuracy": None,
        "reason": "not promoted: answers are 3 times as long",
        "stopped": True,
        "card": later["card"],
    }
    # Of M3 there is no model: a round left nothing to train on.
    untrained = decided | {"compared_with": None, "reason": "not trained: none of 9", "card": {}}
    files.write_json(join(layout.iteration(2), "promotion.json"), decided)
    files.write_json(join(layout.iteration(3), "promotion.json"), untrained)
    record = files.read_json(layout.run_json) | {"iterations": 3}
    files.write_json(layout.run_json, record)
    found = page(layout)
    assert found.row("Bias card of each judge", "entropy of scores, bits")[2:] == ["1.500", "1.500"]
    decisions = found.tables["Promotions"]
    assert decisions[1][:3] == ["M2", "stopped", "M0"]
    assert decisions[2][1] == "stopped" and decisions[2][-1] == "not trained: none of 9"
    scores = found.tables["Scores of its own answers"]
    assert scores[2] == ["M2", "24", "3.125", "0.251", "0.125"]
    assert found.tables["Length of its answers"][1][1:] == ["120.6", "90.00", "118.0", "150.0"]
    compared = found.tables["Answers against earlier models"]
    rates = ["24", "3", "0.500", "0.375", "0.125", "0.688", "0.500 to 0.850"]
    assert compared[1] == ["M2 against M0", *rates, "120.6", "88.00"]
    assert compared[2][:2] == ["M2 against M1", "0"]
    assert found.row("Instructions and pairs", "M2") == ["M2", "57", "35", "12", "31"]
    kl = found.row("KL to the seed model on its own answers", "M2")
    assert kl[1:] == ["0.02470", "0.020 to 0.030"]
    assert found.tables["KL to the seed model on its own answers"][0][1] == "nats per token"
    assert found.row("Perplexity of people's answers", "M2")[1:] == ["12.25", "11.000 to 13.500"]
    assert found.row("Scores against people's: ranks", "M2")[-1] == "1 of 24"
    assert found.row("Signs of collapse", "M2")[1] == "answers are 3 times as long"
    # Figures beside their limits; what M0 has not is a dash.
    watch = found.tables["Watch"]
    assert watch[0] == ["figure", "limit", "M0", "M2"]
    assert found.row("Watch", "length over M0's")[1:] == ["at most 4", "1", "5"]
    distinct = found.row("Watch", "distinct word pairs (distinct-2)")
    assert distinct[1:] == ["at least 0.1", ABSENT, "0.75"]
    assert found.row("Watch", "answers with the commonest score")[1:] == [ABSENT, ABSENT, "0.625"]
    assert '<span class="tag bad">5</span>' in page_of(layout), "beyond its limit"
    assert found.row("Its own answers by the nearest whole score", "M2") == ["M2", "0", "24"]
    assert "Lake Geneva, in the Alps." in found.text, "a pair that was trained on"
    assert_asks_nobody(found)


def test_answers_of_two_models_are_shown_with_the_outsiders_verdicts(tmp_path: Path) -> None:
    run = self_rewarding_run(str(tmp_path / "run"))
    layout = run.layout
    rival = {"M0": {"n": 0, "num_failed": 24}}
    figures = rewarding_figures(head_to_head=rival, head_to_head_judge="outsider")
    files.write_json(join(layout.evaluation(1), "figures.json"), figures)
    pair = ResponsePair.new(
        instruction_id=run.seed.id,
        messages=run.seed.messages,
        chosen="The Rhine.",
        rejected="The Po.",
        corruption="head_to_head",
    )
    base = join(layout.evaluation(1), "versus_00")
    write_stage(join(base, "pairs"), "versus", [pair])
    rows = [judgment(pair.id, SEED_MODEL, p, 0, t) for p, t in zip(Position, "AA", strict=True)]
    write_stage(join(base, "judgments"), "judge", rows)
    verdicts = page(layout).tables["What was chosen in each order"]
    assert verdicts == [
        ["judge", "M1 shown first", "M0 shown first"],
        ["outsider", "M1's answer", "M0's answer"],
    ]


def test_the_page_of_ones_own_llm(tmp_path: Path) -> None:
    layout = new_run(str(tmp_path / "llm"), "custom_llm", 1)
    record = files.read_json(layout.run_json) | {"stages": ["pretrain", "finetune"]}
    files.write_json(layout.run_json, record)
    files.write_bytes(layout.config, b"loop: {iterations: 1}\ncustom_llm: {probe: The cat}\n")
    before = {"stage": "0 random", "general_perplexity": {"value": 417.25, "ci": [400.0, 430.0]}}
    change = {"what": "bits per byte", "difference": -2.31, "ci": [-2.4, -2.2]}
    after = {
        "stage": "1 pretrain",
        "general_perplexity": {"value": 41.52, "ci": [38.9, 44.2]},
        "exact_match": {"value": 0.25, "ci": [0.1, 0.4]},
        "instruction_following": {"value": 0.5},
        "change": change | {"lower_is_better": True},
    }
    for number_, figures in ((0, before), (1, after)):
        files.write_json(join(layout.evaluation(number_), "stage.json"), {"figures": figures})
    text = {"next_tokens": [["Ġ<b>", 0.25], ["x", 0.125]]}
    files.write_json(join(layout.evaluation(1), "text.json"), text)
    found = page(layout)
    assert "One's own LLM" in found.text and "not complete" in found.text
    ppl = found.tables["Perplexity of text kept aside"]
    assert ppl[1:] == [
        ["0 random", "417.2", "400.0 to 430.0"],
        ["1 pretrain", "41.52", "38.90 to 44.20"],
    ]
    assert found.row("Task metric", "1 pretrain")[1:] == ["0.250", "0.100 to 0.400"]
    assert found.row("Instruction following", "1 pretrain")[1] == "0.500"
    assert found.row("What each stage changed", "1 pretrain")[2:4] == ["improved", "-2.31"]
    assert found.row("Likeliest next tokens", "1 pretrain")[1:] == ["Ġ<b>", "0.250"]
    assert_asks_nobody(found)


# --- unfinished runs, mistakes, and the end of an attempt -----------------------------------------


@pytest.mark.parametrize("loop", ["self_taught", "self_rewarding", "custom_llm"])
def test_a_run_that_has_only_begun_has_a_page(tmp_path: Path, loop: str) -> None:
    layout = new_run(str(tmp_path / "run"), loop, 2)
    files.write_json(layout.run_json, files.read_json(layout.run_json) | {"stages": ["pretrain"]})
    found = page(layout)
    assert "not complete" in found.text and "Nothing is finished yet." in found.text
    assert_asks_nobody(found)


def test_a_stage_that_runs_is_called_so(tmp_path: Path) -> None:
    layout = new_run(str(tmp_path / "run"), "self_taught", 1)
    open_stage(layout.judgments(1), "judge", {"x": 1})
    open_stage(layout.training(1), "train", {"x": 1})
    assert page(layout).row("Rows of each stage", "judge 1 (running)")[1:4] == ["0", "0", "0"]


def test_a_run_at_a_url_gets_its_page_there() -> None:
    layout = new_run("memory://report-html/run", "self_taught", 1)
    trained_stage(layout.training(1), 3)
    url = write_page(layout)
    assert url == "memory://report-html/run/report.html"
    found = Page(files.read_bytes(url).decode())
    assert found.row("train 1: loss", "3")[-1] == "0.6667"


def run_cli(*arguments: str) -> int:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.setattr("sys.argv", ["selfreward", *arguments])
        cli.main()
    return int(stop.value.code or 0)


def test_the_command_writes_where_it_is_told(
    taught: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli("report", taught.root) == 0
    assert capsys.readouterr().out == f"report: {taught.report}\n"
    out = tmp_path / "elsewhere" / "page.html"
    assert run_cli("report", taught.root, "--out", str(out)) == 0
    assert out.read_text().startswith("<!doctype html>")


def test_mistakes_are_one_line_and_code_2(
    taught: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli("report", str(tmp_path / "none")) == 2
    assert "no run at" in capsys.readouterr().err
    files.write_bytes(join(taught.evaluation(0), "evaluation.json"), b'{"heldout": {"n": 3}}')
    assert run_cli("report", taught.root) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot read (KeyError: 'accuracy')" in line
    files.write_bytes(taught.config, b"loop: [")
    assert run_cli("report", taught.root) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot read (ParserError" in line
    files.write_bytes(taught.run_json, b"{")
    assert run_cli("report", taught.root) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "run.json is not readable as JSON" in line


def told() -> tuple[Display, io.StringIO]:
    out = io.StringIO()
    return Display(Console(file=out, width=200, highlight=False)), out


@pytest.mark.parametrize("error", [StorageError("cannot write x"), DataError("y"), OSError("z")])
def test_a_page_that_cannot_be_written_is_a_line(
    taught: Layout, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(files, "write_bytes", fail)
    display, out = told()
    keep_page(taught, display)
    (line,) = out.getvalue().splitlines()
    assert "no report: " in line and str(error) in line


@pytest.mark.parametrize("loop", ["self_taught", "self_rewarding", "custom_llm"])
@pytest.mark.parametrize("fails", [False, True])
def test_every_attempt_of_every_loop_ends_with_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loop: str, fails: bool
) -> None:
    layout = Layout(str(tmp_path / "run"))

    def loop_of(config: RunConfig, force: str | None, display: Display) -> Layout:
        new_run(layout.root, loop, 1)
        files.write_json(layout.run_json, files.read_json(layout.run_json) | {"stages": []})
        if fails:
            raise DataError("no rows")
        return layout

    monkeypatch.setitem(kinds._LOOPS, loop, loop_of)
    recipe: dict[str, Any] = {"run_dir": layout.root, "loop": {"kind": loop}}
    if loop == "custom_llm":
        # As long as the engine's, or the recipe is refused.
        recipe["custom_llm"] = {"architecture": {"context_length": 2048}}
    config = RunConfig.model_validate(recipe)
    display, out = told()
    if fails:
        with pytest.raises(DataError, match="no rows"):
            kinds.run_loop(config, None, display)
    else:
        kinds.run_loop(config, None, display)
    assert files.exists(layout.report)
    assert f"report: {layout.report}" in out.getvalue()


def test_an_attempt_that_ended_before_there_was_a_run_leaves_nothing(tmp_path: Path) -> None:
    display, out = told()
    keep_page(Layout(str(tmp_path / "none")), display)
    assert out.getvalue() == "" and not (tmp_path / "none").exists()


# --- charts --------------------------------------------------------------------------------------


def test_axes_hold_their_values_at_round_marks() -> None:
    assert linear_axis([0.31, 0.62], 0.0, 1.0).ticks == (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    same = linear_axis([5.0, 5.0])
    assert same.low < 5.0 < same.high
    logged = log_axis([3.0, 900.0])
    assert logged.ticks[0] == 2.0 and logged.ticks[-1] == 1000.0
    assert logged.at(2.0) == 0.0 and logged.at(1000.0) == 1.0
    flat = log_axis([10.0, 10.0])
    assert flat.low <= 10.0 < flat.high


def test_a_gap_breaks_a_line_and_its_band() -> None:
    ci = (0.4, 0.6)
    series = Series(name="a", values=(0.5, 0.5, None, 0.5), intervals=(ci, ci, None, ci))
    plot = line_plot(["M0", "M1", "M2", "M3"], [series], x_title="x", y_title="y")
    assert plot is not None
    (line,) = plot.lines
    assert [len(s.split()) for s in line.strokes] == [2, 1]
    assert [len(b.split()) for b in line.bands] == [4, 4], "a point alone has a narrow bar"
    assert len(line.marks) == 3
    assert not plot.has_names and plot.band == "interval"
    none = Series(name="a", values=(None,))
    assert line_plot(["M0"], [none], x_title="x", y_title="y") is None


def test_only_numbers_far_apart_are_drawn_logarithmically() -> None:
    for values, ticks in (((100.0, 300.0), 5), ((100.0, 90_000.0), 5)):
        series = Series(name="a", values=values)
        plot = line_plot(["0 start", "1 end"], [series], x_title="x", y_title="y", is_log=True)
        assert plot is not None and plot.has_names
        labels = [t.label for t in plot.y_ticks]
        assert ("10,000" in labels) == (max(values) > 1000) and len(labels) >= ticks - 1


@pytest.mark.parametrize(
    ("value", "told"),
    [(0.5, "0.5"), (12345.6, "12,346"), (3e-4, "3e-4"), (41.5249, "41.52"), (16.0, "16"), (0, "0")],
)
def test_numbers_are_short(value: float, told: str) -> None:
    assert number(value) == told


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(1.25, "1.2 s"), (59.99, "1 min 0 s"), (245, "4 min 5 s"), (7800, "2 h 10 min")],
)
def test_durations_are_told_in_two_units(seconds: float, told: str) -> None:
    assert duration(seconds) == told
