"""What a replica reads from vLLM's outputs, without vLLM."""

from types import SimpleNamespace

import pytest

from selfreward.config import EngineConfig
from selfreward.engines.engine_loop import RequestRefusedError
from selfreward.engines.protocol import Sampling
from selfreward.engines.replica_env import replica_env
from selfreward.engines.vllm_outputs import read_draw
from selfreward.judging.token_logps import TokenLogps


def output(text: str, finish_reason: str) -> SimpleNamespace:
    return SimpleNamespace(text=text, finish_reason=finish_reason, token_ids=[5, 2], logprobs=None)


@pytest.mark.parametrize(("theirs", "ours"), [("stop", "stop"), ("length", "length")])
def test_a_finished_draw(theirs: str, ours: str) -> None:
    draw = read_draw(output("A", theirs), {}, Sampling(temperature=0.0, max_tokens=4))
    assert (draw.text, draw.finish_reason, draw.num_tokens) == ("A", ours, 2)


@pytest.mark.parametrize("reason", ["error", "abort"])
def test_a_request_given_up_is_no_empty_answer(reason: str) -> None:
    # vLLM hands one over as a finished output with no text.
    with pytest.raises(RequestRefusedError, match=f"gave the request up .*{reason}"):
        read_draw(output("", reason), {}, Sampling(temperature=0.0, max_tokens=4))


def drawn(token: str, **logps: float) -> dict[int, SimpleNamespace]:
    """One position: the token that was drawn, and the wanted letters' log-probabilities there."""
    at = {IDS.get(token, ord(token[0])): SimpleNamespace(logprob=-0.5, decoded_token=token)}
    return at | {
        IDS[t]: SimpleNamespace(logprob=logp, decoded_token=t) for t, logp in logps.items()
    }


IDS = {"A": 1, "B": 2}


def test_log_probabilities_are_known_at_every_place_of_a_letter() -> None:
    # "</s>" is drawn and not in the text.
    positions = [
        drawn("[["),
        drawn("A", A=-0.1, B=-2.5),
        drawn("]]"),
        drawn(" since"),
        drawn("B", A=-5.0, B=-0.01),
        drawn("."),
        drawn("</s>"),
    ]
    found = SimpleNamespace(
        text="[[A]] since B.",
        finish_reason="stop",
        token_ids=[next(iter(at)) for at in positions],
        logprobs=positions,
    )
    draw = read_draw(found, IDS, Sampling(temperature=0.0, max_tokens=9))
    assert draw.logps == (
        TokenLogps(produced="A", start=2, logps={"A": -0.1, "B": -2.5}),
        TokenLogps(produced="B", start=12, logps={"A": -5.0, "B": -0.01}),
    )


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_pattern_has_time_to_compile(device: str) -> None:
    # 5 s, which vLLM gives, is not enough for a reason with its verdict on a busy machine.
    settings = replica_env(EngineConfig(), device)
    assert int(settings["VLLM_REGEX_COMPILATION_TIMEOUT_S"]) >= 60
