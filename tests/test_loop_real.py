"""The whole loop on the embedded model and real vLLM: the quick start, made smaller."""

import json
import re
from pathlib import Path

import pytest

from selfreward.layout import Layout
from selfreward.records import Judgment, Outcome, TrainingExample
from selfreward.reports.summary import read_summary
from selfreward.storage.shards import read_records, sealed_shards
from tests.loop_tools import finish, start_run

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

SMALLER = (
    "pool.max_instructions=20",
    "evaluation.heldout_pairs=4",
    "evaluation.validation_pairs=3",
    "respond.sampling.max_tokens=16",
    "corrupt.response_sampling.max_tokens=16",
    "training.max_steps=2",
    "training.batch_size=4",
)


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    run = tmp_path_factory.mktemp("real") / "run"
    recipe = Path(__file__).parents[1] / "ray_jobs" / "configs" / "quickstart.yaml"
    return run, finish(start_run(recipe, f"run_dir={run}", *SMALLER))


def test_every_guided_judgment_is_a_choice_with_a_probability(
    quickstart: tuple[Path, str],
) -> None:
    layout = Layout(str(quickstart[0]))
    judgments = [
        j for url in sealed_shards(layout.judgments(1)) for j in read_records(url, Judgment)
    ]
    assert judgments
    for judgment in judgments:
        assert judgment.verdict.outcome is Outcome.CHOICE
        assert judgment.text in ("A", "B")
        assert 0 <= (judgment.verdict.probability_first or 0) <= 1
    # One letter costs less than reading the prompt for a second round: all 15 in one.
    for pair, position in {(j.pair_id, j.position) for j in judgments}:
        draws = [j.draw for j in judgments if (j.pair_id, j.position) == (pair, position)]
        assert sorted(draws) == list(range(15))


def test_training_rows_are_balanced_and_right(quickstart: tuple[Path, str]) -> None:
    layout = Layout(str(quickstart[0]))
    rows = [
        r for url in sealed_shards(layout.examples(1)) for r in read_records(url, TrainingExample)
    ]
    assert {r.gold: r.target for r in rows} == {"first": "A", "second": "B"}
    assert sum(r.gold == "first" for r in rows) * 2 == len(rows)


def test_one_start_one_swap_and_the_table(quickstart: tuple[Path, str]) -> None:
    run, out = quickstart
    summary = read_summary(Layout(str(run)))
    assert summary.is_complete
    (attempt,) = summary.record["attempts"]
    assert attempt["engine_starts"] == 1
    assert len(attempt["swap_seconds"]) == 1
    assert set(summary.evaluations) == {0, 1}
    assert re.search(r"train 1\s*│", out)
    assert "run folder:" in out
    assert json.loads((run / "current.json").read_text())["current"]["iteration"] in (0, 1)


def test_the_checkpoint_is_a_plain_hugging_face_folder(quickstart: tuple[Path, str]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = quickstart[0] / "iter_01" / "checkpoint"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    messages = [{"role": "user", "content": "Say A."}]
    ids = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    assert model(**ids).logits.shape[-1] == model.config.vocab_size
