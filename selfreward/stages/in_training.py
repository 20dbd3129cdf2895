"""What a run trains on, by the keys of its prompts: no model is measured on it."""

from collections.abc import Sequence
from dataclasses import dataclass

from selfreward.judging.filters import exact_key
from selfreward.records_self_rewarding import CreatedInstruction
from selfreward.stages.held_out import HeldOut
from selfreward.storage.shards import read_records


@dataclass(frozen=True, slots=True, kw_only=True)
class InTraining:
    """Shards of what a run trains on, by the record they hold.

    Example: `InTraining(pool=("…/pool/shard-00000.parquet",))`
    """

    pool: Sequence[str] = ()
    """Of Instruction."""
    answered: Sequence[str] = ()
    """Of AnsweredInstruction: the seeds that M1 learns to answer."""
    ranked: Sequence[str] = ()
    """Of ScoredResponse: the responses that M1 learns to judge."""
    created: Sequence[str] = ()
    """Of CreatedInstruction: what later iterations wrote and kept."""

    def keys(self) -> frozenset[str]:
        """The `exact_key` of every prompt, as what is held out is compared by."""
        read = HeldOut(instructions=self.pool, answered=self.answered, scored=self.ranked).keys()
        created = (row for url in self.created for row in read_records(url, CreatedInstruction))
        return read.union(exact_key(row.instruction.messages) for row in created)


NO_TRAINING = InTraining()
