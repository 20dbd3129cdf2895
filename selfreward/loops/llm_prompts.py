"""What online training answers: prompts of rankings, of exercises with checks, of files, or pairs
to judge. The functions run on the cluster, where the shards are."""

from collections.abc import Sequence

from selfreward.config import ColumnsConfig
from selfreward.errors import DataError
from selfreward.judging.rubrics import get_pairwise_rubric
from selfreward.records import Instruction, ResponsePair, derived_seed
from selfreward.records_custom_llm import Ranking, TaskItem
from selfreward.stages.sources import to_instruction
from selfreward.stages.task_rows import raw_rows, row_checks
from selfreward.storage.shards import read_records
from selfreward.training.online.prompts import (
    prompts_of_pairs,
    prompts_of_rankings,
    prompts_of_tasks,
)
from selfreward.training.online.rollouts import RolloutPrompt

Prompts = tuple[RolloutPrompt, ...]

SETTING = "custom_llm.online.prompts"


def ranked_prompts(urls: Sequence[str]) -> Prompts:
    """The prompts whose answers people ranked, each once."""
    return prompts_of_rankings(row for url in urls for row in read_records(url, Ranking))


def checked_prompts(urls: Sequence[str]) -> Prompts:
    """The exercises whose answers a program can check."""
    rows = (row for url in urls for row in read_records(url, TaskItem))
    return prompts_of_tasks(row for row in rows if row.checks)


def file_prompts(paths: Sequence[str], max_chars: int) -> Prompts:
    """Prompts of the user's own files, with checks where the rows have them.

    Raises:
        DataError: a file is unreadable, holds no prompt, or has a check that is none of ours.
    """
    found: dict[str, RolloutPrompt] = {}
    for path in paths:
        is_empty = True
        for row in raw_rows(path, SETTING):
            asked = to_instruction(row, ColumnsConfig(), path, max_chars)
            if isinstance(asked, Instruction):
                is_empty = False
                checks = row_checks(row, path)
                found[asked.id] = RolloutPrompt(id=asked.id, messages=asked.messages, checks=checks)
        if is_empty:
            raise DataError(f"{path}: no usable prompt; {SETTING} needs messages or prompt")
    return tuple(found.values())


def pair_prompts(urls: Sequence[str], rubric_id: str) -> Prompts:
    """Each labelled pair as two prompts to a judge, one in each order, of one group."""
    pairs = (pair for url in urls for pair in read_records(url, ResponsePair))
    return prompts_of_pairs(pairs, get_pairwise_rubric(rubric_id))


def split_prompts(prompts: Prompts, num_eval: int, seed: int) -> tuple[Prompts, Prompts]:
    """Prompts to learn on and `num_eval` to measure with; a group stays whole.

    Raises:
        DataError: nothing is left to learn on.
    """
    groups: dict[str, list[RolloutPrompt]] = {}
    for prompt in prompts:
        groups.setdefault(prompt.key, []).append(prompt)
    aside: list[RolloutPrompt] = []
    train: list[RolloutPrompt] = []
    # By a hash of the content: the same rows in another order give the same split.
    for key in sorted(groups, key=lambda k: (derived_seed(seed, "online", k), k)):
        (aside if len(aside) < num_eval else train).extend(groups[key])
    if not train:
        raise DataError(
            f"{SETTING}: {len(prompts)} prompts are too few for custom_llm.online.eval_prompts="
            f"{num_eval} and at least one to learn on"
        )
    return tuple(train), tuple(aside)
