"""A comparison of two responses: from the request to generation requests, and from completions to
a typed outcome.

Nothing here knows HTTP, replicas or versions. A response's text stays text: whatever it holds, it
closes no block and speaks for no judge.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from selfreward.config_serving import ServingConfig
from selfreward.engines.protocol import Completion, GenerationRequest, Sampling
from selfreward.judging.blocks import block_tag, conversation_text, neutralised
from selfreward.judging.prompts import render_pairwise
from selfreward.judging.rubrics import (
    LETTERS,
    PairwiseRubric,
    verdict_choices,
    verdict_regex,
)
from selfreward.judging.verdicts import parse_pairwise
from selfreward.judging.voting import combine_orders, majority
from selfreward.records import Conversation, Message, Outcome, Verdict, derived_seed
from selfreward.serving.judge_wire import (
    JudgedOutcome,
    Options,
    OrderReading,
    PairwiseJudgment,
    PairwiseRequest,
    Shown,
    VoteCounts,
)
from selfreward.serving.rationales import (
    Listener,
    PairListener,
    VerdictFirstListener,
    rationale_of_verdict,
)
from selfreward.serving.rubric_choice import choose_pairwise_rubric
from selfreward.serving.scores import (
    FAILED_READING,
    OUTCOMES,
    Failure,
    conversation_of,
    engine_failure,
    temperature_of,
    usage_of,
)
from selfreward.serving.wire import JudgeVersion

# "A" and an end of turn, with room for a tokenizer that splits the letter from a space.
_LETTER_TOKENS = 4

_REFERENCE_BLOCK = """\
A response to the task below that is known to be good, for comparison; another can be as good:
<reference-{tag}>
{reference}
</reference-{tag}>

"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairwisePlan:
    """One comparison, in one or both orders; `requests` stand in the order of `shown`.

    Example: `PairwisePlan(request_id="req-1", rubric=PairwiseRubric(…),
    shown=("first_second", "second_first"), requests=[GenerationRequest(…), …])`
    """

    request_id: str
    rubric: PairwiseRubric
    shown: tuple[Shown, ...]
    requests: list[GenerationRequest]

    def judgment(
        self, completions: Sequence[Completion], version: JudgeVersion
    ) -> PairwiseJudgment:
        """Reads one completion for each request, in their order.

        The draws of an order vote, then the orders are combined (see `judging.voting`). Where one
        order has no verdict, the pair has none either.
        """
        readings = [
            self._reading(shown, completion)
            for shown, completion in zip(self.shown, completions, strict=True)
        ]
        choices = [r.choice for r in readings]
        is_both = len(choices) == 2 and None not in choices
        consistent = choices[0] == choices[1] if is_both else None
        failure = next((f for c in completions if (f := engine_failure(c)) is not None), None)
        verdict: Verdict | None = None
        outcome: JudgedOutcome
        detail: str | None
        if failure is not None:
            outcome, detail = failure.outcome, failure.detail
        else:
            verdicts = [majority(self._verdicts(c)) for c in completions]
            # By position, as read: combine_orders turns the second order itself.
            verdict = combine_orders(*verdicts) if len(verdicts) == 2 else verdicts[0]
            outcome, detail = OUTCOMES[verdict.outcome], _why_no_choice(verdict, consistent)
        choice = verdict.choice if verdict else None
        return PairwiseJudgment(
            id=self.request_id,
            outcome=outcome,
            choice=choice,
            probability_first=verdict.probability_first if verdict else None,
            detail=detail,
            consistent=consistent,
            votes=_sum_votes([r.votes for r in readings]),
            orders=readings,
            rationale=self._rationale(choice, readings, completions),
            rubric=self.rubric.id,
            judge=version,
            usage=usage_of(completions),
        )

    def failure(self, failure: Failure, version: JudgeVersion) -> PairwiseJudgment:
        """The judgment where no completion came back."""
        return PairwiseJudgment(
            id=self.request_id,
            outcome=failure.outcome,
            detail=failure.detail,
            rubric=self.rubric.id,
            judge=version,
        )

    def listeners(self) -> list[Listener | None]:
        """What tells the rationale of each order while it is written."""
        if not self.rubric.wants_reason:
            return [None for _ in self.shown]
        listener = VerdictFirstListener if self.rubric.verdict_first else PairListener
        return [listener(shown) for shown in self.shown]

    def _verdicts(self, completion: Completion) -> list[Verdict]:
        return [
            parse_pairwise(self.rubric, d.text, d.finish_reason, d.logps) for d in completion.draws
        ]

    def _reading(self, shown: Shown, completion: Completion) -> OrderReading:
        failure = engine_failure(completion)
        if failure is not None:
            votes = VoteCounts(failed=self.requests[0].sampling.n)
            return OrderReading(shown=shown, outcome=failure.outcome, votes=votes)
        verdicts = self._verdicts(completion)
        combined = _turned(majority(verdicts), shown)
        return OrderReading(
            shown=shown,
            outcome=OUTCOMES[combined.outcome],
            choice=combined.choice,
            probability_first=combined.probability_first,
            votes=_sum_votes([_vote(_turned(v, shown)) for v in verdicts]),
            rationales=[
                rationale_of_verdict(self.rubric, draw)
                for draw in completion.draws
                if self.rubric.wants_reason
            ],
        )

    def _rationale(
        self,
        choice: Literal["first", "second"] | None,
        readings: Sequence[OrderReading],
        completions: Sequence[Completion],
    ) -> str | None:
        """Of the first draw for the winner, in the first order that names the winner."""
        for reading, completion in zip(readings, completions, strict=True):
            if choice is None or reading.choice != choice:
                continue
            verdicts = [_turned(v, reading.shown) for v in self._verdicts(completion)]
            # Empty without a rationale.
            for rationale, verdict in zip(reading.rationales, verdicts, strict=False):
                if verdict.choice == choice:
                    return rationale
        return None


def plan_pairwise(request: PairwiseRequest, config: ServingConfig, request_id: str) -> PairwisePlan:
    """Plans one comparison. Raises ConfigError as `choose_pairwise_rubric` does."""
    rubric = choose_pairwise_rubric(request, config)
    messages = conversation_of(request.prompt)
    return pair_plan(request, messages, request.first, request.second, rubric, config, request_id)


def pair_plan(
    options: Options,
    messages: Conversation,
    first: str,
    second: str,
    rubric: PairwiseRubric,
    config: ServingConfig,
    request_id: str,
) -> PairwisePlan:
    """The same for a pair whose rubric is chosen: of a request, or of a ranking.

    Draws depend on the request's seed and its texts alone, not on its id.
    """
    choices = verdict_choices(rubric)
    shown: tuple[Shown, ...] = ("first_second", "second_first")
    shown = shown if options.both_orders else shown[:1]
    turns = [[m.role, m.content] for m in messages]
    requests = [
        GenerationRequest(
            id=f"{request_id}/{order}",
            purpose="judge",
            messages=render_pair(
                rubric,
                messages,
                *((first, second) if order == "first_second" else (second, first)),
                reference=options.reference,
            ),
            sampling=Sampling(
                temperature=temperature_of(options),
                max_tokens=_LETTER_TOKENS if choices else config.max_rationale_tokens,
                n=options.votes,
                seed=derived_seed(options.seed, "pairwise", turns, first, second, order),
                choices=choices if config.guided else (),
                regex=verdict_regex(rubric) if config.guided and not choices else None,
                logps_of=tuple(LETTERS.values()),
            ),
        )
        for order in shown
    ]
    return PairwisePlan(request_id=request_id, rubric=rubric, shown=shown, requests=requests)


def render_pair(
    rubric: PairwiseRubric,
    messages: Conversation,
    first: str,
    second: str,
    reference: str | None = None,
) -> tuple[Message, ...]:
    """Returns the judge's prompt for one order; a reference stands in a block of its own.

    Without one it is `render_pairwise`, the prompt judges are trained on.
    """
    if reference is None:
        return render_pairwise(rubric, messages, first, second)
    tag = block_tag([*(m.content for m in messages), first, second, reference])
    block = _REFERENCE_BLOCK.format(tag=tag, reference=neutralised(reference))
    text = rubric.template.format(
        tag=tag,
        task=conversation_text(messages, tag),
        first=neutralised(first),
        second=neutralised(second),
    )
    return (
        Message(role="system", content=rubric.system),
        Message(role="user", content=block + text),
    )


def _turned(verdict: Verdict, shown: Shown) -> Verdict:
    """From positions to the request's responses."""
    if shown == "first_second" or verdict.choice is None:
        return verdict
    probability = verdict.probability_first
    return Verdict(
        outcome=verdict.outcome,
        choice="second" if verdict.choice == "first" else "first",
        probability_first=None if probability is None else 1.0 - probability,
    )


def _vote(verdict: Verdict) -> VoteCounts:
    is_tie = verdict.outcome is Outcome.TIE
    return VoteCounts(
        first=int(verdict.choice == "first"),
        second=int(verdict.choice == "second"),
        tie=int(is_tie),
        failed=int(verdict.choice is None and not is_tie),
    )


def _sum_votes(counts: Sequence[VoteCounts]) -> VoteCounts:
    return VoteCounts(
        first=sum(c.first for c in counts),
        second=sum(c.second for c in counts),
        tie=sum(c.tie for c in counts),
        failed=sum(c.failed for c in counts),
    )


def _why_no_choice(verdict: Verdict, consistent: bool | None) -> str | None:
    if verdict.outcome is Outcome.CHOICE:
        return None
    if verdict.outcome is not Outcome.TIE:
        return FAILED_READING[verdict.outcome]
    if consistent is False:
        return "the two orders name different responses, and neither outweighs the other"
    return "the judge's draws put neither response ahead"
