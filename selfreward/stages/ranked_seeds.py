"""Reading the ranked responses that the self-rewarding loop learns to judge from (EFT), and the
best of them that it learns to answer from (IFT)."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from selfreward.config import PoolConfig
from selfreward.errors import DataError
from selfreward.judging.filters import exact_key
from selfreward.records import DroppedRow, DropReason, content_id, derived_seed
from selfreward.records_scores import ScoredResponse
from selfreward.stages.held_out import NOTHING, HeldOut
from selfreward.stages.labelled import nothing_usable, write_shards
from selfreward.stages.labelled_rows import names_of
from selfreward.stages.ranked_rows import RankedAnswers, read_answers
from selfreward.stages.row_limit import RowLimit, limited
from selfreward.stages.sources import dropping, read_rows
from selfreward.storage.shards import ShardSummary

Group = list[ScoredResponse]
_STAGE = "seeds"


@dataclass(frozen=True, slots=True, kw_only=True)
class FromRanked:
    """How many prompts of ranked responses become answered seeds: a number, or a share below 1.

    Example: `FromRanked(paths=("ranked.jsonl",), part=0.5)`
    """

    paths: tuple[str, ...]
    part: float


def build_ranked(
    paths: Sequence[str],
    folder: str,
    shard_size: int,
    max_rows: int | None,
    max_chars: int,
    ift: Sequence[str],
    measured_on: HeldOut = NOTHING,
    seed: int = 0,
) -> list[ShardSummary]:
    """Writes ranked responses, those of one prompt always in one shard.

    `ift` are shards of the answered seeds to train on: judgments and answers are learnt from
    different prompts (arXiv 2401.10020, section 3.1.1). Dropped are also prompts in `measured_on`,
    and those with fewer than two different scores, which say nothing about a ranking. Of what is
    left, `max_rows` is a sample of whole prompts.

    Raises:
        DataError: a file is unreadable or lacks the columns, or no prompt is usable.
    """
    groups, dropped = _read_groups(paths, max_chars)
    known, measured = HeldOut(answered=ift).keys(), measured_on.keys()
    kept: list[Group] = []
    lost: dict[DropReason, set[str]] = {}
    for group in groups:
        reason = None
        key = exact_key(group[0].messages)
        if key in measured:
            reason = (DropReason.HELD_OUT, "models are measured on this prompt")
        elif key in known:
            reason = (DropReason.EXACT_DUPLICATE, "the prompt is an answered seed")
        elif not _is_ranked(group):
            reason = (DropReason.TOO_FEW_SCORES, "fewer than two different scores")
        if reason is None:
            kept.append(group)
        else:
            lost.setdefault(reason[0], set()).add(key)
            dropped += [_drop(row.id, *reason) for row in group]
    if not kept:
        raise _none_left(paths, lost, dropped)
    rows = [row for group in kept for row in group]
    limit = None
    if max_rows is not None:
        limit = RowLimit(max_rows, whole_prompts=True, setting="seeds.max_ranked", seed=seed)
    sampled = limited(rows, limit)
    wanted = {row.group for row in sampled}
    part = [group for group in kept if group[0].group in wanted]
    return list(_write_groups(folder, part, dropped, shard_size))


def best_responses(
    wanted: FromRanked, taken: Collection[str], max_chars: int, seed: int
) -> list[ScoredResponse]:
    """Returns the best response of each of so many prompts, drawn by `seed`; of equally good ones
    the first listed. Other prompts are left to learn judging from.

    `taken` are the keys of prompts that cannot be drawn.

    Raises:
        DataError: a file is unreadable or lacks the columns, or no prompt would be left.
    """
    best: dict[str, Group] = {}
    for group in _read_groups(wanted.paths, max_chars)[0]:
        key = exact_key(group[0].messages)
        if key not in taken and _is_ranked(group) and len(group) > len(best.get(key, ())):
            best[key] = group
    names = ", ".join(wanted.paths)
    if not best:
        raise DataError(
            f"{names}: seeds.ift_from_ranked={wanted.part:g} finds no prompt with two responses"
            " that people rank apart beside those of seeds.ift and those models are measured on"
        )
    num = int(wanted.part) if wanted.part >= 1 else max(1, round(wanted.part * len(best)))
    if num >= len(best):
        raise DataError(
            f"{names}: seeds.ift_from_ranked={wanted.part:g} leaves none of {len(best)} usable"
            " prompts to learn judging from; set it to less, or name more prompts under"
            " seeds.ranked"
        )
    drawn = sorted(best, key=lambda key: (derived_seed(seed, "ift from ranked", key), key))[:num]
    return [max(best[key], key=lambda row: row.score) for key in drawn]


def _read_groups(paths: Sequence[str], max_chars: int) -> tuple[list[Group], list[DroppedRow]]:
    """The responses of all files by what may be compared with each other, and unusable rows."""
    rows: dict[str, ScoredResponse] = {}
    dropped: list[DroppedRow] = []
    for path in paths:
        for row in _read(path, max_chars, dropped):
            if row.id in rows:
                # A response that is there twice cannot be ordered.
                detail = "the same row stands above"
                dropped.append(_drop(row.id, DropReason.EXACT_DUPLICATE, detail))
            rows.setdefault(row.id, row)
    groups: dict[str, Group] = {}
    first: dict[str, tuple[str, float, float]] = {}
    for row in rows.values():
        whose = (exact_key(row.messages), row.low, row.high)
        if first.setdefault(row.group, whose) != whose:
            # Files name groups without knowing of each other: responses to other prompts are
            # another group, and so are scores by another scale.
            row = replace(row, group=content_id("grp", row.group, *whose))
        groups.setdefault(row.group, []).append(row)
    return list(groups.values()), dropped


def _read(path: str, max_chars: int, dropped: list[DroppedRow]) -> Iterator[ScoredResponse]:
    """The scored responses of one file, in its order. Of those that name no scale it is what their
    scores span: a ranking needs no more."""
    found: list[RankedAnswers] = []
    rows = read_rows(PoolConfig(path=path), dropping(dropped, _STAGE), names_of("seeds.ranked"))
    for read in read_answers(rows, path, max_chars, _STAGE):
        if isinstance(read, DroppedRow):
            dropped.append(read)
        else:
            found.append(read)
    bare = [s for a in found if not a.is_whole and a.scale is None for s in a.scores.values()]
    span = (min(bare), max(bare)) if bare else (0.0, 1.0)
    for answers in found:
        scores = answers.scores
        group: str | None = answers.group or None
        low, high = answers.scale or span
        if answers.is_whole:
            # What one person ranked is not compared with what another did.
            turns = [[m.role, m.content] for m in answers.asked.messages]
            group = content_id("grp", turns, sorted(scores.items()))
            low, high = 0.0, max(scores.values())
        for text, score in scores.items():
            yield ScoredResponse.new(
                messages=answers.asked.messages,
                response=text,
                score=score,
                low=low,
                high=high,
                group=group,
                subset=answers.subset,
                source=answers.asked.source,
            )


def _is_ranked(group: Group) -> bool:
    return len({row.score for row in group}) > 1


def _none_left(
    paths: Sequence[str], lost: Mapping[DropReason, set[str]], dropped: Sequence[DroppedRow]
) -> DataError:
    """What to raise where no prompt is left; `lost` are the prompts by why they left."""
    names = ", ".join(paths)
    if not lost:
        return nothing_usable(names, "ranked response", dropped)
    order = (DropReason.EXACT_DUPLICATE, DropReason.HELD_OUT, DropReason.TOO_FEW_SCORES)
    seeds, measured, even = (len(lost.get(reason, ())) for reason in order)
    if not seeds and not measured:
        return DataError(f"{names}: no prompt with two responses that people rank apart")
    return DataError(
        f"{names}: none of {len(set().union(*lost.values()))} ranked prompts is left to learn"
        f" judging from: {seeds} are answered seeds (seeds.ift), {measured} are held out"
        f" (seeds.ift_heldout, or what models are measured on), {even} have no two responses that"
        " people rank apart; take answers and rankings from one file with seeds.ift=[] and"
        " seeds.ift_from_ranked=0.5, or name other prompts"
    )


def _write_groups(
    folder: str,
    groups: Sequence[Group],
    dropped: Sequence[DroppedRow],
    shard_size: int,
) -> Iterator[ShardSummary]:
    """Shards of whole groups: as many of them as fit the size of the largest group allows."""
    size = max(len(group) for group in groups)
    per_shard = max(1, shard_size // size)
    shards = [groups[i : i + per_shard] for i in range(0, len(groups), per_shard)]
    rows = [[row for group in shard for row in group] for shard in shards]
    return write_shards(folder, rows, dropped, ScoredResponse)


def _drop(row_id: str, reason: DropReason, detail: str) -> DroppedRow:
    return DroppedRow(row_id=row_id, stage=_STAGE, reason=reason, detail=detail)
