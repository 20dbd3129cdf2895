"""Rollouts as token ids: the prompt as the engine renders it, then what was written."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from selfreward.training.encoding import (
    EncodedRow,
    encode_completions,
    end_of_turn,
    render,
    token_ids,
)
from selfreward.training.online.rollouts import Rollout, RolloutPrompt


def encode_rollouts(
    tokenizer: Any, prompts: Mapping[str, RolloutPrompt], rollouts: Sequence[Rollout]
) -> list[EncodedRow]:
    """Encodes each rollout with its prompt, in order.

    A finished text is followed by the end of the turn, which the policy drew too; a truncated one
    ends where it was cut. Token ids that come with a rollout are taken as they are.
    """
    end = end_of_turn(tokenizer)
    asked = list(dict.fromkeys(r.prompt_id for r in rollouts))
    texts = {
        i: render(
            tokenizer, [{"role": m.role, "content": m.content} for m in prompts[i].messages], True
        )
        for i in asked
    }
    prompt_ids = dict(zip(asked, token_ids(tokenizer, list(texts.values())), strict=True))
    written = [r for r in rollouts if r.token_ids is None]
    encoded = iter(
        encode_completions(
            tokenizer,
            [texts[r.prompt_id] for r in written],
            [prompt_ids[r.prompt_id] for r in written],
            [r.text if r.is_truncated else r.text + end for r in written],
        )
    )
    return [
        EncodedRow(
            id=f"{r.prompt_id}/{r.draw}",
            pair_id=r.prompt_id,
            prompt=np.asarray(prompt_ids[r.prompt_id], dtype=np.int32),
            completions=(
                next(encoded) if r.token_ids is None else np.asarray(r.token_ids, dtype=np.int32),
            ),
        )
        for r in rollouts
    ]
