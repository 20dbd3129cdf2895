"""What models are measured on, by the keys of its prompts: nothing of it may be trained on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

from selfreward.judging.filters import exact_key
from selfreward.records import AnsweredInstruction, Conversation, Instruction, ResponsePair
from selfreward.records_scores import ScoredResponse
from selfreward.storage.shards import read_records


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """Shards of what models are measured on, by the record they hold.

    Example: `HeldOut(pairs=("…/labelled/pairs/00000.parquet",))`
    """

    instructions: Sequence[str] = ()
    """Of Instruction: a pool's held-out part."""
    answered: Sequence[str] = ()
    """Of AnsweredInstruction: answered seeds kept aside."""
    pairs: Sequence[str] = ()
    """Of ResponsePair: the user's labelled pairs."""
    scored: Sequence[str] = ()
    """Of ScoredResponse: responses with people's scores."""
    fingerprints: tuple[str, ...] = ()
    """Of the stages of the run that wrote the shards, for the recipe of what leaves them out.

    The user's files have none here: one may be added to a run that has begun."""

    def __add__(self, other: "HeldOut") -> "HeldOut":
        return HeldOut(
            **{f.name: (*getattr(self, f.name), *getattr(other, f.name)) for f in fields(self)}
        )

    def keys(self) -> frozenset[str]:
        """The `exact_key` of every prompt: the same task in other letter case is the same."""
        return frozenset(exact_key(messages) for messages in self._prompts())

    def _prompts(self) -> Iterator[Conversation]:
        for url in self.instructions:
            yield from (row.messages for row in read_records(url, Instruction))
        for url in self.answered:
            yield from (row.instruction.messages for row in read_records(url, AnsweredInstruction))
        for url in self.pairs:
            yield from (row.messages for row in read_records(url, ResponsePair))
        for url in self.scored:
            yield from (row.messages for row in read_records(url, ScoredResponse))


NOTHING = HeldOut()
