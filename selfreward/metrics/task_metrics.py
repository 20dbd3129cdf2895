"""How well exercises with a target are answered: exact match, ROUGE and chrF through libraries.

ROUGE is that of `rouge-score` (Lin 2004, F1, without stemming): it reads a-z and 0-9 alone, so in
other scripts only the other measures mean something, and ROUGE-2 of a one-word target is 0. chrF is
that of `sacrebleu` (Popović 2015; characters up to 6-grams, beta 2), 0 to 100; all other measures
are 0 to 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from selfreward.metrics.intervals import bootstrap_interval
from selfreward.records_custom_llm import TaskAnswer

MEASURES = ("exact", "exact_normalised", "rouge1", "rouge2", "rougeL", "chrf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A mean over items and its bootstrap interval.

    Example: `Measured(mean=0.62, ci=(0.55, 0.7))`
    """

    mean: float
    ci: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskScores:
    """Scores of some answers.

    Example: `TaskScores(num_items=2, measures={"exact": Measured(mean=0.5, ci=(0.0, 1.0))},
    corpus_chrf=71.3)`
    """

    num_items: int
    measures: Mapping[str, Measured]
    """By the names of `MEASURES`; `chrf` is the mean over sentences."""
    corpus_chrf: float
    """chrF of all answers as one text, which long targets weigh more in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskReport:
    """Scores over all answers and of each task.

    Example: `TaskReport(overall=TaskScores(…), by_task={"plural": TaskScores(…)})`
    """

    overall: TaskScores
    by_task: Mapping[str, TaskScores]


def normalised(text: str) -> str:
    """In one letter case, with single spaces and without the final full stop.

    Example: `normalised(" The  cats. ")` is `"the cats"`.
    """
    return " ".join(text.casefold().split()).removesuffix(".").rstrip()


def item_scores(targets: Sequence[str], answers: Sequence[str]) -> dict[str, list[float]]:
    """Scores of each answer against its target, by the names of `MEASURES`.

    Raises ValueError for unequal lengths.
    """
    from rouge_score.rouge_scorer import RougeScorer
    from rouge_score.tokenizers import DefaultTokenizer
    from sacrebleu.metrics import CHRF

    # Its own tokenizer, named here, since left out the library logs a line about it.
    rouge = RougeScorer(["rouge1", "rouge2", "rougeL"], tokenizer=DefaultTokenizer())
    chrf = CHRF()
    scores: dict[str, list[float]] = {name: [] for name in MEASURES}
    for target, answer in zip(targets, answers, strict=True):
        scores["exact"].append(float(answer.strip() == target.strip()))
        scores["exact_normalised"].append(float(normalised(answer) == normalised(target)))
        for name, found in rouge.score(target, answer).items():
            scores[name].append(float(found.fmeasure))
        scores["chrf"].append(float(chrf.sentence_score(answer, [target]).score))
    return scores


def task_scores(answers: Sequence[TaskAnswer], seed: int = 0) -> TaskScores:
    """Scores of some answers; `seed` is that of the bootstrap.

    Raises ValueError without answers.
    """
    from sacrebleu.metrics import CHRF

    targets = [answer.item.target for answer in answers]
    texts = [answer.response.text for answer in answers]
    if not answers:
        raise ValueError("task_scores needs at least one answer")
    values = item_scores(targets, texts)
    return TaskScores(
        num_items=len(answers),
        measures={
            name: Measured(mean=sum(v) / len(v), ci=bootstrap_interval(v, seed=seed))
            for name, v in values.items()
        },
        corpus_chrf=float(CHRF().corpus_score(texts, [targets]).score),
    )


def task_report(answers: Sequence[TaskAnswer], seed: int = 0) -> TaskReport:
    """Scores over all answers and of each task, tasks in order of name.

    Raises ValueError without answers.
    """
    tasks: dict[str, list[TaskAnswer]] = {}
    for answer in answers:
        tasks.setdefault(answer.item.task, []).append(answer)
    return TaskReport(
        overall=task_scores(answers, seed),
        by_task={task: task_scores(tasks[task], seed) for task in sorted(tasks)},
    )
