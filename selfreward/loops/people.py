"""What people said in the review of a run, as a condition of promotion."""

from pathlib import Path

from selfreward.layout import join
from selfreward.loops.steps import Run
from selfreward.metrics.human_gate import human_agreement_gate


def refused_by_people(run: Run, iteration: int) -> str | None:
    """Why people's answers keep an iteration's judge back; None where they do not, or none are
    asked for (`promotion.min_human_agreement`).

    Compared are the judge's verdicts on the run's pairs, which are known once it was evaluated,
    with the answers in the review store.

    Raises:
        ConfigError: the review store does not open.
        DataError: files of the run do not fit each other.
    """
    config = run.config.promotion
    if config.min_human_agreement is None:
        return None
    # Loaded here: a run that asks nobody needs no database.
    from selfreward.serving.review.agreement import agreement_report, item_verdicts
    from selfreward.serving.review.queue import answered_tasks
    from selfreward.serving.review.store import ReviewStore

    agreement, num = None, 0
    url = _database_url(run)
    if url is not None:
        store = ReviewStore(url)
        try:
            answers = store.all_answers()
        finally:
            store.close()
        answered = {answer.task_id for answer in answers}
        items = answered_tasks(run.layout, answered) if answered else []
        known = {item.id for item in items}
        kept = [answer for answer in answers if answer.task_id in known]
        report = agreement_report(items, kept, item_verdicts(items))
        found = [j for j in report.with_judges if j.judge == f"M{iteration}"]
        if found:
            agreement, num = found[0].agreement, found[0].num_common
    return human_agreement_gate(
        agreement, num, config.min_human_agreement, config.min_human_answers
    )


def _database_url(run: Run) -> str | None:
    """The store's URL; None where nobody has reviewed this run yet."""
    if run.config.promotion.review_database is not None:
        return run.config.promotion.review_database
    path = Path(join(run.layout.root, "serving", "review.sqlite"))
    return f"sqlite:///{path.absolute()}" if path.is_file() else None
