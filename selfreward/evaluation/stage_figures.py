"""What was measured of the models of a custom-LLM run, as the figures of its table.

Reads what the stages wrote; runs where the shards are, never on the driver.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar

from selfreward.config import EvaluationConfig
from selfreward.evaluation.online_figures import online_figures
from selfreward.evaluation.rewarding import kl_figures
from selfreward.judging.checks import check_answer, follow_rates
from selfreward.metrics.intervals import bootstrap_interval
from selfreward.metrics.perplexity import DocumentNll, compare_documents, document_report
from selfreward.metrics.reward_accuracy import ranking_agreement, reward_accuracy
from selfreward.metrics.task_metrics import item_scores, task_report
from selfreward.records_custom_llm import AnswerReward, ScoredRanking, TaskAnswer
from selfreward.reports.stages import Change, Figure, StageFigures
from selfreward.storage import files
from selfreward.storage.shards import read_records, sealed_shards

Purpose = Literal["general", "domain", "tasks", "instructions", "rewards", "online"]
"""What a stage is for: the figure in which its model is compared with the one before."""

RecordT = TypeVar("RecordT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Where the measurements of one model lie; None where there are none.

    Example: `Measured(stage="2 continue", text="runs/llm/iter_02/evaluation/text.json")`
    """

    stage: str
    text: str | None = None
    """JSON of log-likelihoods of the validation documents, by corpus."""
    tasks: str | None = None
    """Folder of TaskAnswer shards, as the next."""
    instructions: str | None = None
    rewards: str | None = None
    """Folder of AnswerReward shards."""
    likelihoods: tuple[str, str] | None = None
    """Folders of ResponseLikelihood shards of the same answers: of this model, and of the one KL
    is measured to."""
    start_likelihoods: tuple[str, str] | None = None
    """The same to the model the stage started from, where that is another one."""
    online: str | None = None
    """Folder of the online training, whose manifest has its evaluations."""
    reward_model: str | None = None
    """Folder of ScoredRanking shards, where the stage trained a reward model."""


def stage_figures(
    now: Measured,
    before: Measured | None,
    purpose: Purpose | None,
    config: EvaluationConfig,
    seed: int,
) -> dict[str, Any]:
    """Returns `{"figures": …, "details": …, "notes": …}`: the row of the table, all that was
    measured, and lines on what the figures do not show.

    `before` is the model the stage began with, `purpose` what the stage is for.
    """
    details: dict[str, Any] = {}
    figures = StageFigures(
        stage=now.stage,
        **_text(now, config, seed, details),
        **_tasks(now, seed, details),
        instruction_following=_instructions(now, config, seed, details),
        mean_reward=_reward(now, config, seed),
        reward_model_accuracy=_reward_model(now, config, seed, details),
        kl=_kl(now.likelihoods, "kl", config, seed, details),
        change=None
        if before is None or purpose is None
        else _change(before, now, purpose, config, seed, details),
    )
    _kl(now.start_likelihoods, "kl_to_start", config, seed, details)
    return {"figures": figures.to_dict(), "details": details, "notes": _notes(now, details)}


def _notes(now: Measured, details: dict[str, Any]) -> list[str]:
    notes = []
    for what, folder in (("tasks", now.tasks), ("instructions", now.instructions)):
        answers = [] if folder is None else _all(folder, TaskAnswer)
        cut = sum(answer.response.finish_reason == "length" for answer in answers)
        if answers:
            details.setdefault("truncated", {})[what] = cut / len(answers)
        if cut:
            notes.append(
                f"{now.stage}: {cut} of {len(answers)} answers to {what} were cut at max_tokens"
            )
    online = details.get("online", {})
    for name in ("accuracy", "right_in_both_orders"):
        if None not in (told := online.get(name, [None])):
            notes.append(f"{now.stage}: {name.replace('_', ' ')} {told[0]:.3f} to {told[1]:.3f}")
    return notes


def read_likelihoods(url: str) -> dict[str, list[DocumentNll]]:
    """The log-likelihoods that were written of a model, by corpus."""
    return {
        name: [DocumentNll(**row) for row in rows]
        for name, rows in files.read_json(url)["documents"].items()
    }


def _all(folder: str, record_type: type[RecordT]) -> list[RecordT]:
    return [row for url in sealed_shards(folder) for row in read_records(url, record_type)]


def _text(
    now: Measured, config: EvaluationConfig, seed: int, details: dict[str, Any]
) -> dict[str, Figure]:
    figures: dict[str, Figure] = {}
    if now.text is None:
        return figures
    for name, documents in read_likelihoods(now.text).items():
        report = document_report(documents, config.confidence, config.bootstrap_samples, seed)
        details[f"{name}_text"] = report.to_dict()
        figures[f"{name}_perplexity"] = Figure(value=report.perplexity, ci=report.perplexity_ci)
    return figures


def _tasks(now: Measured, seed: int, details: dict[str, Any]) -> dict[str, Figure]:
    answers = [] if now.tasks is None else _all(now.tasks, TaskAnswer)
    if not answers:
        return {}
    report = task_report(answers, seed)
    details["tasks"] = asdict(report)
    names = {"exact_match": "exact", "rouge_l": "rougeL", "chrf": "chrf"}
    found = {ours: report.overall.measures[name] for ours, name in names.items()}
    return {name: Figure(value=m.mean, ci=m.ci) for name, m in found.items()}


def _followed(folder: str) -> dict[str, float]:
    """Of each item with constraints, 1 where its answer follows all of them."""
    return {
        answer.item.id: float(all(check_answer(answer.item.checks, answer.response.text).strict))
        for answer in _all(folder, TaskAnswer)
        if answer.item.checks
    }


def _instructions(
    now: Measured, config: EvaluationConfig, seed: int, details: dict[str, Any]
) -> Figure | None:
    if now.instructions is None:
        return None
    answers = [a for a in _all(now.instructions, TaskAnswer) if a.item.checks]
    if not answers:
        return None
    results = [check_answer(a.item.checks, a.response.text) for a in answers]
    details["instructions"] = asdict(follow_rates(results))
    return _mean([float(all(r.strict)) for r in results], config, seed)


def _rewards(folder: str) -> dict[str, float]:
    return {row.item_id: row.reward for row in _all(folder, AnswerReward)}


def _reward(now: Measured, config: EvaluationConfig, seed: int) -> Figure | None:
    found = {} if now.rewards is None else _rewards(now.rewards)
    return _mean(list(found.values()), config, seed) if found else None


def _mean(values: Sequence[float], config: EvaluationConfig, seed: int) -> Figure:
    interval = bootstrap_interval(values, config.confidence, config.bootstrap_samples, seed)
    return Figure(value=sum(values) / len(values), ci=interval)


def _kl(
    likelihoods: tuple[str, str] | None,
    name: str,
    config: EvaluationConfig,
    seed: int,
    details: dict[str, Any],
) -> Figure | None:
    report = None if likelihoods is None else kl_figures(*likelihoods, config, seed)
    if report is None:
        return None
    details[name] = report
    interval = report["kl_ci"]
    return Figure(value=report["kl"], ci=None if interval is None else tuple(interval))


def _reward_model(
    now: Measured, config: EvaluationConfig, seed: int, details: dict[str, Any]
) -> Figure | None:
    rows = [] if now.reward_model is None else _all(now.reward_model, ScoredRanking)
    if not rows:
        return None
    compared = [
        (row.scores[better], row.scores[worse], row.id, float(ranks[worse] - ranks[better]))
        for row in rows
        for ranks in (row.ranking.ranks,)
        for better in range(len(ranks))
        for worse in range(len(ranks))
        if ranks[better] < ranks[worse]
    ]
    chosen, rejected, groups, margins = (list(column) for column in zip(*compared, strict=True))
    report = reward_accuracy(
        chosen,
        rejected,
        groups=groups,
        margins=margins,
        edges=(1.5, 2.5),
        confidence=config.confidence,
    )
    agreement = ranking_agreement(
        [row.ranking.ranks for row in rows],
        [row.scores for row in rows],
        confidence=config.confidence,
        num_samples=config.bootstrap_samples,
        seed=seed,
    )
    details["reward_model"] = report.to_dict() | {"rankings": agreement.to_dict()}
    if report.accuracy is None:
        return None
    return Figure(value=report.accuracy, ci=report.accuracy_ci)


# What `online` is for depends on the reward: `online_figures` names it.
_WHAT: dict[Purpose, str] = {
    "general": "bits per byte of general text",
    "domain": "bits per byte of domain text",
    "tasks": "share of exact answers to the tasks",
    "instructions": "share of instructions followed",
    "rewards": "mean reward of its answers",
}


def _change(
    before: Measured,
    now: Measured,
    purpose: Purpose,
    config: EvaluationConfig,
    seed: int,
    details: dict[str, Any],
) -> Change | None:
    if purpose == "online":
        if now.online is None:
            return None
        change, details["online"] = online_figures(now.online, config, seed)
        return change
    if purpose in ("general", "domain"):
        if before.text is None or now.text is None:
            return None
        told = {}
        for name, documents in read_likelihoods(now.text).items():
            compared = compare_documents(
                read_likelihoods(before.text)[name],
                documents,
                config.confidence,
                config.bootstrap_samples,
                seed,
            )
            told[name] = compared
            details[f"{name}_change"] = compared.to_dict()
        # What was forgotten of the other text stands beside it, in the details.
        return Change(
            what=_WHAT[purpose],
            difference=told[purpose].difference,
            ci=told[purpose].ci,
            lower_is_better=True,
        )
    first, second = (_of_items(model, purpose) for model in (before, now))
    both = sorted(first.keys() & second.keys())
    if not both:
        return None
    differences = [second[item] - first[item] for item in both]
    figure = _mean(differences, config, seed)
    return Change(what=_WHAT[purpose], difference=figure.value, ci=figure.ci, lower_is_better=False)


def _of_items(model: Measured, purpose: Purpose) -> Mapping[str, float]:
    """The figure of each item, by which two models are compared item by item."""
    if purpose == "tasks":
        answers = [] if model.tasks is None else _all(model.tasks, TaskAnswer)
        exact = item_scores([a.item.target for a in answers], [a.response.text for a in answers])[
            "exact"
        ]
        return dict(zip((a.item.id for a in answers), exact, strict=True))
    if purpose == "instructions":
        return {} if model.instructions is None else _followed(model.instructions)
    return {} if model.rewards is None else _rewards(model.rewards)
