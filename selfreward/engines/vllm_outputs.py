"""What vLLM's outputs say: the draws of a request, or how likely a text is."""

from typing import Any

from selfreward.engines.engine_loop import RequestRefusedError
from selfreward.engines.protocol import Draw, Sampling
from selfreward.judging.token_logps import TokenLogps, token_starts


def read_draw(output: Any, logps_ids: dict[str, int], sampling: Sampling) -> Draw:
    """Reads one of vLLM's outputs.

    Raises:
        RequestRefusedError: vLLM gave the request up; what it calls an output is then an empty
            text, which must not pass for one the model wrote.
    """
    if output.finish_reason in ("error", "abort"):
        raise RequestRefusedError(
            f"vLLM gave the request up (finish_reason {output.finish_reason!r}); where it is"
            " guided, its pattern may take too long to compile"
        )
    return Draw(
        text=output.text,
        finish_reason="length" if output.finish_reason == "length" else "stop",
        num_tokens=len(output.token_ids),
        logps=_logps(output, logps_ids) if logps_ids else (),
        token_ids=tuple(output.token_ids) if sampling.wants_token_ids else None,
    )


def _logps(output: Any, logps_ids: dict[str, int]) -> tuple[TokenLogps, ...]:
    """Log-probabilities wherever one of the wanted tokens was produced.

    They are those the token was drawn from before temperature, and after the mask of a guided
    decoding: over the choices alone they add up to 1.
    """
    texts = {token_id: text for text, token_id in logps_ids.items()}
    drawn = list(zip(output.token_ids, output.logprobs or [], strict=False))
    written = [at[i].decoded_token or "" if i in at else "" for i, at in drawn]
    return tuple(
        TokenLogps(
            produced=texts[token_id],
            start=start,
            logps={text: at[i].logprob for text, i in logps_ids.items() if i in at},
        )
        for (token_id, at), start in zip(drawn, token_starts(output.text, written), strict=True)
        if token_id in texts and start is not None
    )


def read_score(text: str, output: Any, num_before: int, target: list[int]) -> Draw:
    """Reads how likely the tokens of `target` are after the `num_before` tokens of the prompt."""
    at = output.prompt_logprobs[num_before:]
    score = sum(logprobs[token].logprob for token, logprobs in zip(target, at, strict=True))
    return Draw(text=text, finish_reason="stop", num_tokens=len(target), score=float(score))
