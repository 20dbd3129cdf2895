"""What is said of a self-rewarding round that left no training row: why, and what to change."""

from selfreward.loops.steps import Run
from selfreward.metrics.collapse import nothing_left
from selfreward.records import DropReason
from selfreward.storage.manifest import read_manifest
from selfreward.storage.shards import LOST_DRAWS, add_ledgers

_MENDS: dict[str, str] = {
    DropReason.TIED_SCORES: "raise rating.num_draws, or set rating.expected=true, which ties less",
    DropReason.TOO_FEW_SCORES: "set rating.guided=true, or raise rating.sampling.max_tokens",
    DropReason.TRUNCATED_RESPONSE: "set candidates.keep_truncated=true, or raise"
    " candidates.sampling.max_tokens",
    DropReason.SAME_RESPONSE: "raise candidates.sampling.temperature",
    DropReason.LOW_MARGIN: "lower preferences.min_margin",
    DropReason.NO_POSITIVE: "lower preferences.min_positive_score",
}
"""What to change where so many instructions of a round left for this reason."""


def why_nothing_is_left(run: Run, iteration: int) -> str:
    """Returns why no instruction of the iteration became a training row, the commonest reason
    first, and the setting to change for that one."""
    pairs = run.config.preferences.kind == "pairs"
    asked = read_manifest(run.layout.responses(iteration))
    chosen = read_manifest(run.layout.stage(iteration, "preferences" if pairs else "examples"))
    # An instruction leaves at the answers or at the choice: each is counted once.
    drops: dict[str, int] = add_ledgers(m.drops for m in (asked, chosen) if m is not None)
    num = asked.num_inputs if asked else 0
    counted = nothing_left(num, "instructions gave a training row", drops)
    commonest = _commonest(drops)
    lost: dict[str, int] = {} if asked is None else asked.ledger.get(LOST_DRAWS, {})
    if lost:
        told = ", ".join(f"{reason} {n}" for reason, n in sorted(lost.items()))
        counted += f", draws lost: {told}"
        if commonest == DropReason.TOO_FEW_SCORES:
            # What was not kept had no score to get.
            commonest = _commonest(lost)
    mend = _MENDS.get(commonest, "raise candidates.num_candidates")
    return f"{counted}; {mend}"


def _commonest(drops: dict[str, int]) -> str:
    return max(sorted(drops), key=lambda reason: drops[reason], default="")
