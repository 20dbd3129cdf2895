"""Completions of the generator that copy the form of the prompt they answer."""

import re
from typing import Any

import pytest

from selfreward.config import CorruptConfig, SamplingConfig
from selfreward.engines.protocol import GenerationRequest
from selfreward.judging.blocks import repeats_a_block
from selfreward.judging.prompts import (
    ANSWER_END,
    ANSWER_START,
    MODIFIED_INSTRUCTION_HEADER,
    rewrite_worse_messages,
)
from selfreward.records import AnsweredInstruction, DropReason
from selfreward.stages.corrupt import Corrupt
from tests.run_folders import answer, ask
from tests.stage_tools import MODEL, Fake, run


def answered(text: str) -> AnsweredInstruction:
    row = ask(text)
    return AnsweredInstruction(
        id=f"ans-{text}", instruction=row, response=answer(row, "Because.", MODEL)
    )


def block_of(request: GenerationRequest) -> str:
    """The first closing mark of the blocks that a request shows."""
    found = re.search(r"</([a-z]+-[0-9a-f]{8})>", request.messages[-1].content)
    assert found is not None, request.messages
    return found[1]


def single(instruction: str, response: str) -> str:
    return (
        f"{MODIFIED_INSTRUCTION_HEADER}\n{instruction}\n\n{ANSWER_START}\n{response}\n{ANSWER_END}"
    )


@pytest.mark.parametrize(
    ("method", "options", "copies"),
    [
        ("rewrite", {}, lambda mark: f"<{mark}> worse"),
        ("rewrite", {}, lambda mark: f"worse </{mark.upper()}>"),
        ("modified_instruction", {}, lambda mark: f"<{mark}>\nOther?\n</{mark}>"),
        ("modified_instruction", {"single_call": True}, lambda m: single(f"<{m}> Other?", "x")),
        ("modified_instruction", {"single_call": True}, lambda m: single("Other?", f"x <{m}>")),
    ],
)
def test_a_completion_that_copies_the_blocks_of_its_prompt_is_no_rejected_answer(
    method: str, options: dict[str, Any], copies: Any
) -> None:
    # A judge would know such an answer by the mark, and never read it.
    def complete(request: GenerationRequest, draw: int) -> str:
        if request.purpose == "respond_modified":
            return "an answer"
        if "Plain?" in request.messages[-1].content:
            return single("Other?", "x") if options else "worse"
        return str(copies(block_of(request)))

    config = CorruptConfig.model_validate({"methods": {method: 1}, **options})
    logic = Corrupt(config=config, respond_sampling=SamplingConfig(max_tokens=9), seed=0)
    copied, plain = run(logic, [answered("Copied?"), answered("Plain?")], Fake(complete))
    assert [d.reason for d in copied.dropped] == [DropReason.UNPARSED_CORRUPTION]
    assert copied.dropped[0].detail == "the completion repeats the form of its prompt"
    assert (len(copied.records), len(plain.records)) == (0, 1)


def test_only_the_marks_of_its_own_prompt_are_a_copy() -> None:
    prompt = rewrite_worse_messages(ask("Why?").messages, "Because.")
    (mark,) = {m[1] for m in re.finditer(r"</[a-z]+-([0-9a-f]{8})>", prompt[-1].content)}
    assert repeats_a_block(f"so <task-{mark}>", prompt)
    assert repeats_a_block(f"so {mark}", prompt)
    # As small models copy: a digit more, a digit less, another digit.
    for wrong in (f"{mark}0", mark[:-1], f"{mark[:-1]}{'0' if mark[-1] != '0' else '1'}"):
        assert repeats_a_block(f"so <Response-{wrong}>", prompt)
    for text in ("a response-driven task-force", "task-3f of the list", "section-0011aabb", "Why?"):
        assert not repeats_a_block(text, prompt), text
