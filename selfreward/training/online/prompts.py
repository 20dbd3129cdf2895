"""Prompts of online training from the records of a run."""

from collections.abc import Iterable

from selfreward.judging.rubrics import PairwiseRubric
from selfreward.judging.selection import judged_prompt
from selfreward.records import Conversation, Position, ResponsePair
from selfreward.records_custom_llm import Ranking, TaskItem
from selfreward.training.online.rollouts import RolloutPrompt


def prompts_of_tasks(items: Iterable[TaskItem]) -> tuple[RolloutPrompt, ...]:
    """One prompt of each exercise, with its checks."""
    return tuple(
        RolloutPrompt(id=item.id, messages=item.messages, checks=item.checks) for item in items
    )


def prompts_of_rankings(rankings: Iterable[Ranking]) -> tuple[RolloutPrompt, ...]:
    """The conversations people ranked answers to; each once, however often it was ranked."""
    ids: dict[Conversation, str] = {}
    for ranking in rankings:
        ids.setdefault(ranking.messages, ranking.id)
    return tuple(RolloutPrompt(id=name, messages=messages) for messages, name in ids.items())


def prompts_of_pairs(
    pairs: Iterable[ResponsePair], rubric: PairwiseRubric
) -> tuple[RolloutPrompt, ...]:
    """Both orders of each pair as the judge is asked, in one group, with the right verdict."""
    return tuple(
        RolloutPrompt(
            id=f"{pair.id}/{position.value}",
            messages=judged_prompt(rubric, pair, position),
            group=pair.id,
            gold="first" if position is Position.CHOSEN_FIRST else "second",
        )
        for pair in pairs
        for position in Position
    )
