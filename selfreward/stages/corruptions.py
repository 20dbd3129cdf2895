"""The ways to make a pair whose better side is known from an answered instruction.

A good answer to a *modified* instruction (arXiv 2408.02666, section 3.1, the paper's best), a
direct rewriting into a worse answer (its ablation), and two of the model's own samples
(`own_samples.py`). Each asks for its completions in batches over all rows.
"""

from dataclasses import dataclass

from selfreward.config import CorruptConfig, SamplingConfig
from selfreward.engines.protocol import Completion, Generate, GenerationRequest
from selfreward.judging.blocks import repeats_a_block
from selfreward.judging.filters import normalised_text
from selfreward.judging.prompts import (
    corrupt_single_call_messages,
    modify_instruction_messages,
    parse_modified_instruction,
    parse_single_call,
    rewrite_worse_messages,
)
from selfreward.records import (
    AnsweredInstruction,
    Conversation,
    Corruption,
    DroppedRow,
    DropReason,
    Message,
    ResponsePair,
)
from selfreward.stages.corrupt_rows import corrupt_drop, pair_of, request_of
from selfreward.stages.own_samples import OwnSamples
from selfreward.stages.sampling import failed, response_of, unusable


@dataclass(frozen=True, slots=True, kw_only=True)
class Corruptor:
    """Makes of each row a pair, or the reason why there is none; in the order of the rows.

    Example: `await Corruptor(config=…, respond_sampling=…, seed=0, name="corrupt").make(
    Corruption.REWRITE, rows, generate)`
    """

    config: CorruptConfig
    respond_sampling: SamplingConfig
    seed: int
    name: str

    async def make(
        self, method: Corruption, rows: list[AnsweredInstruction], generate: Generate
    ) -> list[ResponsePair | DroppedRow]:
        if method in (Corruption.REFERENCE, Corruption.LIKELIHOOD):
            samples = OwnSamples(
                config=self.config,
                respond_sampling=self.respond_sampling,
                seed=self.seed,
                name=self.name,
            )
            if method is Corruption.REFERENCE:
                return await samples.by_reference(rows, generate)
            return await samples.by_likelihood(rows, generate)
        if method is Corruption.REWRITE:
            return await self._rewritten(rows, generate)
        if self.config.single_call:
            return await self._modified_in_one_call(rows, generate)
        return await self._modified_in_two_calls(rows, generate)

    async def _modified_in_two_calls(
        self, rows: list[AnsweredInstruction], generate: Generate
    ) -> list[ResponsePair | DroppedRow]:
        prompts = [modify_instruction_messages(row.instruction.messages) for row in rows]
        asked = await generate(
            [
                self._request(row, "modify", prompt, self.config.instruction_sampling)
                for row, prompt in zip(rows, prompts, strict=True)
            ]
        )
        made: dict[str, ResponsePair | DroppedRow] = {}
        modified: dict[str, str] = {}
        for row, prompt, completion in zip(rows, prompts, asked, strict=True):
            drop = failed(completion, row.id, self.name)
            text = None if drop else parse_modified_instruction(completion.draws[0].text)
            if drop is not None:
                made[row.id] = drop
            elif text is not None and repeats_a_block(text, prompt):
                made[row.id] = corrupt_drop(row, DropReason.UNPARSED_CORRUPTION, _COPIED)
            elif text is None or _asks_the_same(row, text):
                made[row.id] = corrupt_drop(
                    row, DropReason.UNPARSED_CORRUPTION, "no modified instruction in the completion"
                )
            else:
                modified[row.id] = text
        going = [row for row in rows if row.id in modified]
        answered = await generate(
            [
                self._request(
                    row,
                    "respond_modified",
                    (
                        *row.instruction.messages[:-1],
                        Message(role="user", content=modified[row.id]),
                    ),
                    self.config.response_sampling,
                )
                for row in going
            ]
        )
        for row, completion in zip(going, answered, strict=True):
            made[row.id] = self._pair_with(
                row, completion, Corruption.MODIFIED_INSTRUCTION, modified[row.id]
            )
        return [made[row.id] for row in rows]

    async def _modified_in_one_call(
        self, rows: list[AnsweredInstruction], generate: Generate
    ) -> list[ResponsePair | DroppedRow]:
        prompts = [
            corrupt_single_call_messages(row.instruction.messages, row.response.text)
            for row in rows
        ]
        completions = await generate(
            [
                self._request(row, "modify_and_respond", prompt, self.config.response_sampling)
                for row, prompt in zip(rows, prompts, strict=True)
            ]
        )
        made: list[ResponsePair | DroppedRow] = []
        for row, prompt, completion in zip(rows, prompts, completions, strict=True):
            drop = failed(completion, row.id, self.name)
            if drop is not None:
                made.append(drop)
                continue
            draw = completion.draws[0]
            parsed = parse_single_call(draw.text)
            if parsed is None and draw.finish_reason == "length":
                detail = f"cut after {draw.num_tokens} tokens"
                made.append(corrupt_drop(row, DropReason.TRUNCATED_RESPONSE, detail))
                continue
            if parsed is None or _asks_the_same(row, parsed[0]):
                detail = "no modified instruction with its answer between the section markers"
                made.append(corrupt_drop(row, DropReason.UNPARSED_CORRUPTION, detail))
                continue
            if any(repeats_a_block(text, prompt) for text in parsed):
                made.append(corrupt_drop(row, DropReason.UNPARSED_CORRUPTION, _COPIED))
                continue
            response = response_of(completion, draw, row.instruction.id, text=parsed[1])
            made.append(pair_of(row, response, Corruption.MODIFIED_INSTRUCTION, parsed[0]))
        return made

    async def _rewritten(
        self, rows: list[AnsweredInstruction], generate: Generate
    ) -> list[ResponsePair | DroppedRow]:
        prompts = [
            rewrite_worse_messages(row.instruction.messages, row.response.text) for row in rows
        ]
        completions = await generate(
            [
                self._request(row, "rewrite", prompt, self.config.response_sampling)
                for row, prompt in zip(rows, prompts, strict=True)
            ]
        )
        made: list[ResponsePair | DroppedRow] = []
        for row, prompt, completion in zip(rows, prompts, completions, strict=True):
            pair = self._pair_with(row, completion, Corruption.REWRITE, None)
            if isinstance(pair, ResponsePair) and repeats_a_block(pair.rejected, prompt):
                pair = corrupt_drop(row, DropReason.UNPARSED_CORRUPTION, _COPIED)
            made.append(pair)
        return made

    def _pair_with(
        self,
        row: AnsweredInstruction,
        completion: Completion,
        corruption: Corruption,
        modified: str | None,
    ) -> ResponsePair | DroppedRow:
        drop = failed(completion, row.id, self.name)
        if drop is not None:
            return drop
        draw = completion.draws[0]
        drop = unusable(draw, row.id, self.name, self.config.keep_truncated)
        if drop is not None:
            return drop
        response = response_of(completion, draw, row.instruction.id)
        return pair_of(row, response, corruption, modified)

    def _request(
        self,
        row: AnsweredInstruction,
        purpose: str,
        messages: Conversation,
        sampling: SamplingConfig,
    ) -> GenerationRequest:
        return request_of(row, purpose, messages, sampling, seed=self.seed)


_COPIED = "the completion repeats the form of its prompt"


def _asks_the_same(row: AnsweredInstruction, modified: str) -> bool:
    """A good answer to the instruction itself would be labelled the worse one."""
    return normalised_text(modified) == normalised_text(row.instruction.messages[-1].content)
