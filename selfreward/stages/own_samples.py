"""Pairs of the model's own samples: told apart by a reference answer, or by their likelihood.

`by_likelihood` needs neither a reference nor damage. The untrained model's log-probabilities are a
judge of their own, which tells better from worse where the model, asked in words, cannot. Two of
them must agree: how likely a token of the response is (its fluency), and how much the instruction
raises the likelihood of the whole (pointwise mutual information, arXiv 2104.08315). On eight sets
of pairs labelled by people the embedded model's were right in 0.56 and 0.55, and in 0.59 where
they agreed. The pairs teach the judge that is asked in words what those numbers know.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from selfreward.config import CorruptConfig, SamplingConfig
from selfreward.engines.protocol import Completion, Generate, GenerationRequest
from selfreward.judging.answers import matches_reference
from selfreward.judging.likelihood import ResponseLogps, mean_logps, relative_sum
from selfreward.records import (
    AnsweredInstruction,
    Corruption,
    DroppedRow,
    DropReason,
    Response,
    ResponsePair,
)
from selfreward.stages.corrupt_rows import corrupt_drop, pair_of, request_of
from selfreward.stages.sampling import failed, response_of, unusable
from selfreward.stages.score_pairs import NOTHING_ASKED, SCORING, score_of

Made = ResponsePair | DroppedRow


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnSamples:
    """Makes of each row a pair of samples, or the reason why there is none; in the rows' order.

    Example: `await OwnSamples(config=…, respond_sampling=…, seed=0, name="corrupt").by_likelihood(
    rows, generate)`
    """

    config: CorruptConfig
    respond_sampling: SamplingConfig
    seed: int
    name: str

    async def by_reference(self, rows: list[AnsweredInstruction], generate: Generate) -> list[Made]:
        """The first sample that agrees with the reference answer, and the first that does not."""
        n = self.config.reference_samples
        completions = await self._sample(rows, generate, self.respond_sampling, n)
        return [
            failed(completion, row.id, self.name) or self._right_and_wrong(row, completion)
            for row, completion in zip(rows, completions, strict=True)
        ]

    async def by_likelihood(
        self, rows: list[AnsweredInstruction], generate: Generate
    ) -> list[Made]:
        """The sample with the likeliest tokens, and the one with the least likely ones, if the
        instruction also speaks for the first rather than for the second."""
        section = self.config
        completions = await self._sample(
            rows, generate, section.likelihood_sampling, section.likelihood_samples
        )
        made: dict[str, Made] = {}
        samples: dict[str, list[Response]] = {}
        for row, completion in zip(rows, completions, strict=True):
            drop = failed(completion, row.id, self.name)
            if drop is not None:
                made[row.id] = drop
                continue
            # Without the baseline answer: drawn at another temperature, it would be likelier for
            # that alone.
            drawn = self._drawn(row, completion)
            found = list({s.text.strip(): s for s in drawn}.values())
            if len(found) < 2:
                detail = f"{len(drawn)} usable samples are {len(found)} text"
                made[row.id] = corrupt_drop(row, DropReason.SAME_RESPONSE, detail)
            else:
                samples[row.id] = found
        going = [row for row in rows if row.id in samples]
        scored = await generate([r for row in going for r in _scoring(row, samples[row.id])])
        at = 0
        for row in going:
            found = samples[row.id]
            made[row.id] = self._likeliest_and_least(row, found, scored[at : at + 2 * len(found)])
            at += 2 * len(found)
        return [made[row.id] for row in rows]

    async def _sample(
        self,
        rows: list[AnsweredInstruction],
        generate: Generate,
        sampling: SamplingConfig,
        n: int,
    ) -> list[Completion]:
        return await generate(
            [
                request_of(row, "sample", row.instruction.messages, sampling, seed=self.seed, n=n)
                for row in rows
            ]
        )

    def _samples(self, row: AnsweredInstruction, completion: Completion) -> list[Response]:
        """The usable draws; the baseline answer counts as a sample."""
        return [row.response, *self._drawn(row, completion)]

    def _drawn(self, row: AnsweredInstruction, completion: Completion) -> list[Response]:
        return [
            response_of(completion, draw, row.instruction.id, number=i + 1)
            for i, draw in enumerate(completion.draws)
            if unusable(draw, row.id, self.name, self.config.keep_truncated) is None
        ]

    def _right_and_wrong(self, row: AnsweredInstruction, completion: Completion) -> Made:
        reference = row.instruction.reference_answer or ""
        samples = self._samples(row, completion)
        right = [s for s in samples if matches_reference(s.text, reference)]
        wrong = [s for s in samples if not matches_reference(s.text, reference)]
        if not right:
            return corrupt_drop(row, DropReason.NO_RIGHT_SAMPLE, f"0 of {len(samples)} samples")
        if not wrong:
            return corrupt_drop(row, DropReason.NO_WRONG_SAMPLE, f"0 of {len(samples)} samples")
        return pair_of(row, wrong[0], Corruption.REFERENCE, chosen=right[0])

    def _likeliest_and_least(
        self, row: AnsweredInstruction, samples: Sequence[Response], scored: Sequence[Completion]
    ) -> Made:
        for completion in scored:
            drop = failed(completion, row.id, self.name)
            if drop is not None:
                return drop
        draws = [completion.draws[0] for completion in scored]
        found = [
            ResponseLogps(
                given_prompt=score_of(given), num_tokens=given.num_tokens, alone=score_of(alone)
            )
            for given, alone in zip(draws[::2], draws[1::2], strict=True)
        ]
        means = [mean_logps(logps) for logps in found]
        order = sorted(range(len(samples)), key=means.__getitem__)
        least, most = order[0], order[-1]
        margin = means[most] - means[least]
        if margin <= 0 or margin < self.config.min_likelihood_margin:
            detail = f"{margin:.3f} nats per token between {len(samples)} samples"
            return corrupt_drop(row, DropReason.LOW_MARGIN, detail)
        gain = relative_sum(found[most]) - relative_sum(found[least])
        if gain <= 0:
            detail = f"the instruction speaks for the less likely sample by {-gain:.1f} nats"
            return corrupt_drop(row, DropReason.LOW_MARGIN, detail)
        return pair_of(row, samples[least], Corruption.LIKELIHOOD, chosen=samples[most])


def _scoring(row: AnsweredInstruction, samples: Sequence[Response]) -> list[GenerationRequest]:
    """Each sample behind the instruction, then behind nothing."""
    return [
        GenerationRequest(
            id=f"{row.id}/likelihood/{number}{suffix}",
            purpose="score",
            messages=messages,
            sampling=SCORING,
            target=sample.text,
        )
        for number, sample in enumerate(samples)
        for suffix, messages in (("", row.instruction.messages), ("/alone", NOTHING_ASKED))
    ]
