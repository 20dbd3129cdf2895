"""Task metrics: by hand, and against the libraries called directly."""

import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from selfreward.metrics.intervals import bootstrap_interval
from selfreward.metrics.task_metrics import item_scores, normalised, task_report, task_scores
from selfreward.records import Message, ModelRef, Response
from selfreward.records_custom_llm import TaskAnswer, TaskItem

MODEL = ModelRef(name="m", iteration=0, fingerprint="f")


def answer(task: str, target: str, text: str) -> TaskAnswer:
    item = TaskItem.new(
        task=task,
        template=f"{task}/0",
        messages=(Message(role="user", content=f"{task}: {target}"),),
        target=target,
    )
    response = Response.new(
        instruction_id=item.id,
        text=text,
        model=MODEL,
        draw=0,
        finish_reason="stop",
        num_tokens=1,
    )
    return TaskAnswer(id=f"tan-{item.id}", item=item, response=response)


def test_normalising_by_hand() -> None:
    assert normalised(" The  old\nCats. ") == "the old cats"
    assert normalised("3.5") == "3.5"
    assert normalised("Who?") == "who?"


def test_exact_match_and_rouge_by_hand() -> None:
    scores = item_scores(
        ["the old cats", "the old cats", "the old cats", "cats"],
        ["the old cats\n", "The old cats.", "the cats", ""],
    )
    assert scores["exact"] == [1, 0, 0, 0]
    assert scores["exact_normalised"] == [1, 1, 0, 0]
    # "the cats" in "the old cats": precision 2/2, recall 2/3, F1 4/5, whether words or the longest
    # common subsequence; of its one pair of words none is in the target.
    assert scores["rouge1"] == pytest.approx([1, 1, 0.8, 0])
    assert scores["rougeL"] == pytest.approx([1, 1, 0.8, 0])
    assert scores["rouge2"] == pytest.approx([1, 1, 0, 0])
    assert scores["chrf"][0] == 100
    assert scores["chrf"][3] == 0


def test_chrf_of_two_letters_by_hand() -> None:
    # "ab" for "abc": 1-grams 2 of 2 and 2 of 3, 2-grams 1 of 1 and 1 of 2; longer ones are not in
    # the answer and are left out. Precision 1, recall (2/3 + 1/2) / 2 = 7/12;
    # F of beta 2 is 5 P R / (4 P + R) = (35/12) / (55/12) = 7/11.
    assert item_scores(["abc"], ["ab"])["chrf"] == [pytest.approx(700 / 11)]


TEXTS = [
    ("The cat sat on the mat.", "A cat sat on a mat"),
    ("four hundred seven", "four hundred eleven"),
    ("parse url", "parse_url"),
    ("grün und gelb", "gruen und gelb"),
    ("Monday", "Monday"),
    ("x", ""),
]


def test_scores_are_those_of_the_libraries() -> None:
    targets, texts = map(list, zip(*TEXTS, strict=True))
    scores = item_scores(targets, texts)
    rouge = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)
    for index, (target, text) in enumerate(TEXTS):
        for name, wanted in rouge.score(target, text).items():
            assert scores[name][index] == wanted.fmeasure
        wanted_chrf = sacrebleu.sentence_chrf(text, [target]).score
        assert scores["chrf"][index] == pytest.approx(wanted_chrf)
    made = task_scores([answer("t", target, text) for target, text in TEXTS])
    assert made.corpus_chrf == pytest.approx(sacrebleu.corpus_chrf(texts, [targets]).score)
    assert made.num_items == 6


def test_means_come_with_a_bootstrap_interval_over_items() -> None:
    answers = [answer("t", str(n), str(n if n % 4 else -1)) for n in range(40)]
    exact = task_scores(answers, seed=3).measures["exact"]
    # Every fourth is wrong.
    assert exact.mean == 0.75
    assert exact.ci == bootstrap_interval([float(n % 4 > 0) for n in range(40)], seed=3)
    assert exact.ci[0] < 0.75 < exact.ci[1]


def test_a_report_has_every_task_and_all_together() -> None:
    answers = [answer("b", "1", "1"), answer("a", "2", "3"), answer("b", "4", "4")]
    report = task_report(answers)
    assert list(report.by_task) == ["a", "b"]
    assert report.by_task["a"].measures["exact"].mean == 0
    assert report.by_task["b"].measures["exact"].mean == 1
    assert report.by_task["b"].num_items == 2
    assert report.overall.measures["exact"].mean == pytest.approx(2 / 3)


def test_nothing_to_measure_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one answer"):
        task_report([])
