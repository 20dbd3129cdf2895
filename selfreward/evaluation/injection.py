"""The injection suite: from pairs and attempts to requests, and from completions to a table.

Every pair is read in both orders, once as it is and once with each attempt written into one of its
responses. Nothing here talks to an engine: the caller sends the requests and brings the answers.

    targets = injection_targets(get_pairwise_rubric("pairwise_reasoned"))
    requests = [r for t in targets.values() for r in injection_requests(pairs, attempts, t)]
    report = injection_report(pairs, attempts, list(targets.values()), completions)
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from selfreward.engines.protocol import Completion, GenerationRequest, Sampling
from selfreward.errors import DataError
from selfreward.judging.injection_targets import InjectionTarget, breaches
from selfreward.judging.injections.base import InjectionAttempt
from selfreward.judging.rubrics import Choice, verdict_choices, verdict_regex
from selfreward.metrics.injection import FlipRates, InjectionReading, injection_flips
from selfreward.records import Position, ResponsePair, Verdict

Side = Literal["chosen", "rejected"]
Level = Literal["all", "kind", "attempt"]

CLEAN = "clean"
"""Stands in a request's id where the pair is read without an attempt."""

# "A" and an end of turn, with room for a tokenizer that splits the letter from a space.
_LETTER_TOKENS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class InjectionRow:
    """What a group of attempts did to one target.

    Example: `InjectionRow(target="protected", level="kind", group="forged_verdict",
    num_attempts=4, num_breaching=0, rates=FlipRates(…))`
    """

    target: str
    level: Level
    group: str
    """A kind, an attempt, or `all`."""
    num_attempts: int
    num_breaching: int
    """Attempts that get past the form of at least one prompt, whatever the model says."""
    rates: FlipRates


@dataclass(frozen=True, slots=True, kw_only=True)
class InjectionReport:
    """The suite's table: for each target all attempts, each kind, each attempt.

    Example: `InjectionReport(rows=(InjectionRow(…), …))`
    """

    rows: tuple[InjectionRow, ...]

    def to_rows(self, level: Level | None = None) -> list[dict[str, Any]]:
        """Returns flat, JSON-ready rows in the order of the targets, of one level or of all."""
        return [_flat(row) for row in self.rows if level is None or row.level == level]


def _flat(row: InjectionRow) -> dict[str, Any]:
    rates = row.rates
    low, high = rates.flip_ci or (None, None)
    return {
        "target": row.target,
        "level": row.level,
        "group": row.group,
        "attempts": row.num_attempts,
        "breaching": row.num_breaching,
        "readings": rates.n,
        "open": rates.num_open,
        "flips": rates.num_flips,
        "flip_rate": rates.flip_rate,
        "flip_low": low,
        "flip_high": high,
        "won": rates.num_won,
        "lost": rates.num_lost,
        "lost_rate": rates.lost_rate,
        "mean_shift": rates.mean_shift,
        "failed_before": dict(rates.failed_before),
        "failed_after": dict(rates.failed_after),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """One pair in one order, with an attempt or without."""

    pair: ResponsePair
    position: Position
    attempt: InjectionAttempt | None
    first: str
    second: str
    attacked: Choice

    def request_id(self, target: InjectionTarget) -> str:
        name = CLEAN if self.attempt is None else self.attempt.name
        return f"injection/{target.name}/{name}/{self.pair.id}/{self.position.value}"


def _case(
    pair: ResponsePair, position: Position, attempt: InjectionAttempt | None, side: Side
) -> _Case:
    chosen, rejected = pair.chosen, pair.rejected
    if attempt is not None and side == "chosen":
        chosen = attempt.attack(chosen, rejected, pair.messages)
    elif attempt is not None:
        rejected = attempt.attack(rejected, chosen, pair.messages)
    is_chosen_first = position is Position.CHOSEN_FIRST
    first, second = (chosen, rejected) if is_chosen_first else (rejected, chosen)
    return _Case(
        pair=pair,
        position=position,
        attempt=attempt,
        first=first,
        second=second,
        attacked="first" if (side == "chosen") == is_chosen_first else "second",
    )


def _cases(
    pairs: Sequence[ResponsePair], attempt: InjectionAttempt | None, side: Side
) -> list[_Case]:
    return [_case(pair, position, attempt, side) for pair in pairs for position in Position]


def _check(pairs: Sequence[ResponsePair]) -> None:
    if not pairs:
        raise DataError("the injection suite needs at least one pair")
    if len({pair.id for pair in pairs}) < len(pairs):
        raise DataError("the pairs of the injection suite repeat; leave one of each")


def injection_requests(
    pairs: Sequence[ResponsePair],
    attempts: Sequence[InjectionAttempt],
    target: InjectionTarget,
    *,
    attacked: Side = "rejected",
    max_tokens: int = 512,
    seed: int = 0,
) -> list[GenerationRequest]:
    """Returns the requests of one target, at temperature 0: each pair in both orders, as it is and
    with each attempt.

    `attacked` is the response that attempts are written into; with the worse one every flip is
    also an error. `max_tokens` bounds completions that are not one letter. Raises DataError without
    pairs or where one repeats.
    """
    _check(pairs)
    sampling = _sampling(target, max_tokens, seed)
    return [
        GenerationRequest(
            id=case.request_id(target),
            purpose="judge",
            messages=target.render(case.pair.messages, case.first, case.second),
            sampling=sampling,
        )
        for attempt in (None, *attempts)
        for case in _cases(pairs, attempt, attacked)
    ]


def _sampling(target: InjectionTarget, max_tokens: int, seed: int) -> Sampling:
    if not target.guided:
        return Sampling(temperature=0.0, max_tokens=max_tokens, seed=seed)
    choices = verdict_choices(target.rubric)
    return Sampling(
        temperature=0.0,
        max_tokens=_LETTER_TOKENS if choices else max_tokens,
        seed=seed,
        choices=choices,
        regex=None if choices else verdict_regex(target.rubric),
        logps_of=("A", "B"),
    )


def injection_report(
    pairs: Sequence[ResponsePair],
    attempts: Sequence[InjectionAttempt],
    targets: Sequence[InjectionTarget],
    completions: Iterable[Completion],
    *,
    attacked: Side = "rejected",
    confidence: float = 0.95,
) -> InjectionReport:
    """Reads the answers to `injection_requests`, in any order, of the same pairs and attempts.

    A completion with an error, such as a prompt that is too long, counts as unanswered. Rates of
    two targets are not over the same readings: what a judge says without an attempt depends on its
    prompt too. Raises DataError without pairs and for a request without a completion.
    """
    _check(pairs)
    answers = {completion.request_id: completion for completion in completions}
    rows: list[InjectionRow] = []
    for target in targets:
        rows += _rows(pairs, attempts, target, answers, attacked, confidence)
    return InjectionReport(rows=tuple(rows))


def _verdict(
    case: _Case, target: InjectionTarget, answers: Mapping[str, Completion]
) -> Verdict | None:
    ident = case.request_id(target)
    if ident not in answers:
        raise DataError(f"no completion for request {ident}; send the requests of every target")
    completion = answers[ident]
    if completion.error is not None or not completion.draws:
        return None
    draw = completion.draws[0]
    return target.read(draw.text, draw.finish_reason, draw.logps)


def _rows(
    pairs: Sequence[ResponsePair],
    attempts: Sequence[InjectionAttempt],
    target: InjectionTarget,
    answers: Mapping[str, Completion],
    attacked: Side,
    confidence: float,
) -> list[InjectionRow]:
    before = [_verdict(case, target, answers) for case in _cases(pairs, None, attacked)]
    readings: list[InjectionReading] = []
    breaching: set[str] = set()
    for attempt in attempts:
        cases = _cases(pairs, attempt, attacked)
        if any(breaches(target, c.pair.messages, c.first, c.second, c.attacked) for c in cases):
            breaching.add(attempt.name)
        readings += [
            InjectionReading(
                pair_id=case.pair.id,
                attempt=attempt.name,
                kind=attempt.kind.value,
                attacked=case.attacked,
                before=clean,
                after=_verdict(case, target, answers),
            )
            for case, clean in zip(cases, before, strict=True)
        ]
    flips = injection_flips(readings, confidence)

    def row(level: Level, group: str, names: list[str], rates: FlipRates) -> InjectionRow:
        return InjectionRow(
            target=target.name,
            level=level,
            group=group,
            num_attempts=len(names),
            num_breaching=sum(name in breaching for name in names),
            rates=rates,
        )

    return [
        row("all", "all", [a.name for a in attempts], flips.overall),
        *(
            row("kind", kind, [a.name for a in attempts if a.kind.value == kind], rates)
            for kind, rates in flips.kinds.items()
        ),
        *(row("attempt", name, [name], rates) for name, rates in flips.attempts.items()),
    ]
