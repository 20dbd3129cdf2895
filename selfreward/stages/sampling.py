"""From the config's sampling section to the engine's, and from its draws to responses and drops."""

from selfreward.config import SamplingConfig
from selfreward.engines.protocol import Completion, Draw, Sampling
from selfreward.records import DroppedRow, DropReason, Response

_ERROR_REASONS = {"prompt_too_long": DropReason.PROMPT_TOO_LONG}


def sampling_of(
    config: SamplingConfig,
    *,
    seed: int,
    n: int = 1,
    max_tokens: int | None = None,
    choices: tuple[str, ...] = (),
    regex: str | None = None,
    json_schema: str | None = None,
    logps_of: tuple[str, ...] = (),
    needs_logps: bool = False,
) -> Sampling:
    return Sampling(
        temperature=config.temperature,
        top_p=config.top_p,
        top_k=config.top_k,
        min_p=config.min_p,
        max_tokens=max_tokens or config.max_tokens,
        n=n,
        seed=seed,
        choices=choices,
        regex=regex,
        json_schema=json_schema,
        logps_of=logps_of,
        needs_logps=needs_logps,
    )


def response_of(
    completion: Completion,
    draw: Draw,
    instruction_id: str,
    number: int = 0,
    text: str | None = None,
) -> Response:
    """The response that a draw of `completion` is, without the space around it.

    `number` tells it from other responses to the instruction; `text` is given where only a part
    of the draw is the response.
    """
    return Response.new(
        instruction_id=instruction_id,
        text=(draw.text if text is None else text).strip(),
        model=completion.model,
        draw=number,
        finish_reason=draw.finish_reason,
        num_tokens=draw.num_tokens,
    )


def failed(completion: Completion, row_id: str, stage: str) -> DroppedRow | None:
    """The drop of a row whose request the engine refused for good, None where it answered."""
    if completion.error is None:
        return None
    reason = _ERROR_REASONS.get(completion.error, DropReason.ENGINE_FAILURE)
    return DroppedRow(row_id=row_id, stage=stage, reason=reason, detail=completion.detail)


def unusable(draw: Draw, row_id: str, stage: str, keep_truncated: bool) -> DroppedRow | None:
    """The drop of a row whose answer is empty, or was cut where that is not wanted."""
    if not draw.text.strip():
        reason, detail = DropReason.EMPTY_RESPONSE, "no text"
    elif draw.finish_reason == "length" and not keep_truncated:
        reason, detail = DropReason.TRUNCATED_RESPONSE, f"cut after {draw.num_tokens} tokens"
    else:
        return None
    return DroppedRow(row_id=row_id, stage=stage, reason=reason, detail=detail)
