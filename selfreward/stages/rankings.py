"""Reading answers that people ranked, and keeping the rankings of some prompts out of training.

A ranking is one row with its responses, or is made of rows with one scored response each, or is a
preference: two responses, of which one is chosen. It runs as one task on the cluster.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from selfreward.config import PoolConfig
from selfreward.config_custom_llm import RankingsConfig
from selfreward.errors import DataError
from selfreward.judging.filters import exact_key
from selfreward.records import DroppedRow, DropReason, Instruction, derived_seed
from selfreward.records_custom_llm import Ranking
from selfreward.stages.labelled import write_rows
from selfreward.stages.ranked_rows import RankedAnswers, levels, read_answers
from selfreward.stages.row_files import (
    SettingNames,
    Unreadable,
    dataset_rows,
    expand,
    file_rows,
    guess_format,
)
from selfreward.stages.sources import dropping, is_sample, read_rows
from selfreward.storage.shards import ShardSummary

SAMPLE = "sample:rankings"
SAMPLE_ROWS = 1000
"""Rankings made where `max_rankings` does not say how many."""
_SETTING = "custom_llm.rankings.data"
_NAMES = SettingNames(path=_SETTING, format=_SETTING, split=_SETTING)
_STAGE = "rankings"


def build_rankings(
    config: RankingsConfig,
    max_chars: int,
    shard_size: int,
    seed: int,
    folders: tuple[str, str],
) -> tuple[list[ShardSummary], list[ShardSummary]]:
    """Writes the rankings to train on into the first folder and the held-out ones into the second.

    All rankings of one prompt are in one of the two. `config.max_rankings` counts both.

    Raises:
        DataError: a file is unreadable or lacks the columns, or too few rankings are usable.
    """
    if not config.data:
        raise DataError(f"{_SETTING} names no file: give one, or {SAMPLE}")
    dropped: list[DroppedRow] = []
    found: dict[str, Ranking] = {}
    for path in config.data:
        for made in _read(path, config.max_rankings or SAMPLE_ROWS, max_chars, seed):
            if isinstance(made, Ranking) and made.id in found:
                detail = "the same ranking stands above"
                made = _drop(made.id, DropReason.EXACT_DUPLICATE, detail)
            if isinstance(made, Ranking):
                found[made.id] = made
            else:
                dropped.append(made)
    # By a hash of the content: the same rows in another order give the same split.
    by_prompt: dict[str, list[Ranking]] = {}
    for ranking in sorted(found.values(), key=lambda r: r.id):
        by_prompt.setdefault(exact_key(ranking.messages), []).append(ranking)
    prompts = sorted(by_prompt, key=lambda key: (derived_seed(seed, "rankings", key), key))
    room = len(found) if config.max_rankings is None else config.max_rankings
    heldout: list[Ranking] = []
    train: list[Ranking] = []
    for key in prompts:
        part = by_prompt[key][:room]
        room -= len(part)
        (heldout if len(heldout) < config.heldout else train).extend(part)
    if len(heldout) < config.heldout or not train:
        counts = Counter(d.reason.value for d in dropped)
        raise DataError(
            f"{', '.join(config.data)}: {len(heldout) + len(train)} usable rankings of"
            f" {len(prompts)} prompts are too few for custom_llm.rankings.heldout="
            f"{config.heldout} and at least one to train on (dropped: {dict(counts) or 'none'})"
        )
    return (
        list(write_rows(folders[0], train, dropped, shard_size, Ranking)),
        list(write_rows(folders[1], heldout, [], shard_size, Ranking)),
    )


def _rows(path: str, num_made: int, seed: int, unreadable: Unreadable) -> Iterator[dict[str, Any]]:
    if path == SAMPLE:
        from selfreward.stages.sample_tasks import ranking_rows

        yield from ranking_rows(num_made, seed)
    elif is_sample(path):
        yield from read_rows(PoolConfig(path=path), unreadable)
    elif (kind := guess_format(path)) == "dataset":
        yield from dataset_rows(path, "train", None, _NAMES)
    else:
        for url in expand(path, _NAMES):
            yield from file_rows(url, kind, unreadable)


def _read(path: str, num_made: int, max_chars: int, seed: int) -> Iterator[Ranking | DroppedRow]:
    scored: dict[tuple[str, str], list[RankedAnswers]] = {}
    unreadable: list[DroppedRow] = []
    rows = _rows(path, num_made, seed, dropping(unreadable, _STAGE))
    for found in read_answers(rows, path, max_chars, _STAGE):
        if isinstance(found, DroppedRow):
            yield found
        elif found.is_whole:
            yield _ranking(found.asked, found.scores)
        else:
            scored.setdefault((found.asked.id, found.group), []).append(found)
    yield from unreadable
    for group in scored.values():
        asked = group[0].asked
        given = [pair for found in group for pair in found.scores.items()]
        scores = levels(asked, [text for text, _ in given], [score for _, score in given], _STAGE)
        yield scores if isinstance(scores, DroppedRow) else _ranking(asked, scores)


def _ranking(asked: Instruction, scores: Mapping[str, float]) -> Ranking:
    best_first = sorted(set(scores.values()), reverse=True)
    return Ranking.new(
        messages=asked.messages,
        responses=tuple(scores),
        ranks=tuple(best_first.index(score) + 1 for score in scores.values()),
        source=asked.source,
    )


def _drop(row_id: str, reason: DropReason, detail: str) -> DroppedRow:
    return DroppedRow(row_id=row_id, stage=_STAGE, reason=reason, detail=detail[:200])
