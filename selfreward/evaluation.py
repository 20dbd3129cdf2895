"""From judged pairs on storage to a measured judge: both orders, intervals, failures counted."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from selfreward.config import EvaluationConfig
from selfreward.errors import DataError
from selfreward.metrics.pairwise import PairOutcome, accuracy_per_pair, pairwise_report
from selfreward.records import Judgment, Position, ResponsePair
from selfreward.storage.shards import read_records, sealed_shards


def read_outcomes(pairs_folder: str, judgments_folder: str) -> list[PairOutcome]:
    """Joins pairs with their two readings, in the order of the pairs.

    A pair without a reading in either order (a prompt too long for the context) is left out: the
    stage that judged has it in its drop file.
    """
    outcomes = []
    shards = zip(sealed_shards(pairs_folder), sealed_shards(judgments_folder), strict=True)
    for pairs_url, judgments_url in shards:
        verdicts = {
            (j.pair_id, j.position): j.verdict
            for j in read_records(judgments_url, Judgment)
            if j.draw == 0
        }
        for pair in read_records(pairs_url, ResponsePair):
            first = verdicts.get((pair.id, Position.CHOSEN_FIRST))
            second = verdicts.get((pair.id, Position.REJECTED_FIRST))
            if first is not None and second is not None:
                outcomes.append(
                    PairOutcome(
                        pair_id=pair.id,
                        subset=pair.corruption,
                        chosen_first=first,
                        rejected_first=second,
                        chosen_length=len(pair.chosen),
                        rejected_length=len(pair.rejected),
                    )
                )
    return outcomes


def measure(
    name: str, outcomes: Sequence[PairOutcome], config: EvaluationConfig, seed: int
) -> dict[str, Any]:
    """Returns the report of one set of pairs as plain data.

    Raises:
        DataError: no pair of the set was read in both orders.
    """
    if not outcomes:
        raise DataError(
            f"no pair of {name} was judged in both orders; its prompts may be too long for"
            " engine.max_model_len, or too few responses survived"
        )
    report = pairwise_report(
        outcomes,
        confidence=config.confidence,
        num_samples=config.bootstrap_samples,
        seed=seed,
    )
    return asdict(report)


def paired_accuracies(
    before: Sequence[PairOutcome], after: Sequence[PairOutcome]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Accuracies per pair of two judges on the pairs that both have read, in the same order."""
    common = {o.pair_id for o in before} & {o.pair_id for o in after}
    kept = [
        sorted((o for o in side if o.pair_id in common), key=_pair_id) for side in (before, after)
    ]
    return accuracy_per_pair(kept[0]), accuracy_per_pair(kept[1])


def _pair_id(outcome: PairOutcome) -> str:
    return outcome.pair_id
