"""The perturb stage: more pairs of an answered instruction, made by rules and without an engine.

A judge that has seen one kind of damage learns that kind. This stage damages the baseline answer in
many ways, subtle and gross, and leaves it longer as often as shorter. Everything random follows
from the row's id and the seed.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from selfreward.config import PerturbConfig
from selfreward.engines.protocol import Generate
from selfreward.judging.categories import CATEGORIES
from selfreward.judging.perturbations.base import Severity
from selfreward.judging.perturbations.perturb import PERTURBATIONS, kinds_for, perturb
from selfreward.records import (
    AnsweredInstruction,
    DroppedRow,
    DropReason,
    ResponsePair,
    derived_seed,
)
from selfreward.storage.shards import RowResult, read_records

TEMPLATED = frozenset({"refuse", "vague", "overlong_filler", "mixed_language", "echo_instruction"})
"""Kinds that write from tables of phrases: too many of them, and a judge learns the phrases."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighboured:
    """An answered instruction with answers to others, for kinds that mix answers up."""

    answered: AnsweredInstruction
    others: tuple[str, ...]

    @property
    def id(self) -> str:
        return self.answered.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Perturb:
    config: PerturbConfig
    seed: int
    name: str = "perturb"
    out_type: type[ResponsePair] = ResponsePair

    def read(self, inputs: Sequence[str]) -> list[Neighboured]:
        """Reads a shard; the others of a row are all other rows of it, finished or not."""
        rows = read_records(inputs[0], AnsweredInstruction)
        return [
            Neighboured(
                answered=row,
                others=tuple(
                    o.response.text for o in rows if o.instruction.id != row.instruction.id
                ),
            )
            for row in rows
        ]

    async def process(
        self, rows: Sequence[Neighboured], generate: Generate
    ) -> list[RowResult[ResponsePair]]:
        return [self._perturbed(row) for row in rows]

    def _perturbed(self, row: Neighboured) -> RowResult[ResponsePair]:
        answered = row.answered
        result = RowResult[ResponsePair](row.id)
        for kind in self._kinds(answered):
            if len(result.records) == self.config.pairs_per_instruction:
                break
            made = self._damaged(row, kind)
            if made is not None:
                result.records.append(self._pair(answered, kind, made))
        if not result.records:
            detail = "no kind of damage applies to the answer"
            result.dropped.append(
                DroppedRow(
                    row_id=row.id,
                    stage=self.name,
                    reason=DropReason.NOT_PERTURBABLE,
                    detail=detail,
                )
            )
        return result

    def _kinds(self, answered: AnsweredInstruction) -> list[str]:
        """The kinds that suit the instruction, in a random order weighted by their shares."""
        instruction = answered.instruction
        shares = self.config.kinds
        # Who names kinds for a pool that nobody has sorted vouches for it.
        vouched = bool(shares) and instruction.category not in CATEGORIES
        known = kinds_for(instruction.category, instruction.reference_answer)
        # Of an answer that was cut off already, another end is no worse.
        cut = {"truncate"} if answered.response.finish_reason == "length" else set()
        suited = [
            kind
            for kind in (PERTURBATIONS if vouched else known)
            if (shares.get(kind, 0.0) > 0 if shares else True)
            and kind not in (*self.config.without, *cut)
        ]
        rng = self._rng("order", answered.id)

        def place(kind: str) -> float:
            share = shares.get(kind, 1.0) if shares else 1.0
            if not shares and kind in TEMPLATED:
                share = self.config.templated_share
            # Weighted sampling without replacement (Efraimidis and Spirakis 2006): u^(1/w).
            return -(rng.random() ** (1.0 / share)) if share > 0 else 1.0

        return sorted(suited, key=place)

    def _damaged(self, row: Neighboured, kind: str) -> str | None:
        answered = row.answered
        rng = self._rng(kind, answered.id)
        severity = self._severity(rng)
        return perturb(
            kind,
            answered.response.text,
            rng,
            row.others,
            severity=severity,
            instruction=answered.instruction.messages[-1].content,
            reference=answered.instruction.reference_answer,
            # A coin, so that longer is the worse one as often as the better one.
            longer=rng.random() < 0.5,
        )

    def _severity(self, rng: random.Random) -> Severity:
        levels: tuple[Severity, ...] = (1, 2, 3)
        return rng.choices(levels, weights=self.config.severities)[0]

    def _rng(self, *parts: str) -> random.Random:
        return random.Random(derived_seed(self.seed, "perturb", *parts))

    def _pair(self, answered: AnsweredInstruction, kind: str, made: str) -> ResponsePair:
        return ResponsePair.new(
            instruction_id=answered.instruction.id,
            messages=answered.instruction.messages,
            chosen=answered.response.text,
            rejected=made,
            corruption=kind,
            chosen_id=answered.response.id,
            source=answered.instruction.source,
            category=answered.instruction.category,
        )
