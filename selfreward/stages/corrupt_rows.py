"""What every way of making a pair shares: the request of a row, its pair, its drop."""

from selfreward.config import SamplingConfig
from selfreward.engines.protocol import GenerationRequest
from selfreward.records import (
    AnsweredInstruction,
    Conversation,
    Corruption,
    DroppedRow,
    DropReason,
    Response,
    ResponsePair,
    derived_seed,
)
from selfreward.stages.sampling import sampling_of


def request_of(
    row: AnsweredInstruction,
    purpose: str,
    messages: Conversation,
    sampling: SamplingConfig,
    *,
    seed: int,
    n: int = 1,
) -> GenerationRequest:
    """What the generator is asked for a row; the seed follows the row, not its neighbours."""
    return GenerationRequest(
        id=f"{row.id}/{purpose}",
        purpose=purpose,
        messages=messages,
        sampling=sampling_of(sampling, seed=derived_seed(seed, purpose, row.id), n=n),
    )


def pair_of(
    row: AnsweredInstruction,
    rejected: Response,
    corruption: Corruption,
    modified: str | None = None,
    chosen: Response | None = None,
) -> ResponsePair:
    """The pair of a row; its baseline answer is the better one unless `chosen` is given."""
    chosen = chosen or row.response
    return ResponsePair.new(
        instruction_id=row.instruction.id,
        messages=row.instruction.messages,
        chosen=chosen.text,
        rejected=rejected.text,
        corruption=corruption.value,
        modified_instruction=modified,
        chosen_id=chosen.id,
        rejected_id=rejected.id,
        source=row.instruction.source,
        category=row.instruction.category,
    )


def corrupt_drop(row: AnsweredInstruction, reason: DropReason, detail: str) -> DroppedRow:
    """What the stage says of a row that no pair could be made of."""
    return DroppedRow(row_id=row.id, stage="corrupt", reason=reason, detail=detail)
