"""What online training changed in the reward it learnt from, on prompts it did not learn on.

The rewards of greedy answers are measured by the training itself, before its first step and after
its last, and lie in its manifest.
"""

from collections.abc import Mapping
from typing import Any

from selfreward.config import EvaluationConfig
from selfreward.metrics.intervals import bootstrap_interval
from selfreward.reports.stages import Change
from selfreward.storage.manifest import read_manifest

_WHAT = {
    "reward_model": "mean reward of greedy answers to held-out prompts",
    "judge": "mean score of greedy answers to held-out prompts",
    "checks": "share of checks that greedy answers to held-out prompts pass",
    "verdict": "mean reward of greedy verdicts on held-out pairs",
}

Rewards = Mapping[str, float | None]


def online_figures(
    folder: str, config: EvaluationConfig, seed: int
) -> tuple[Change | None, dict[str, Any]]:
    """The change from the first evaluation to the last, item by item, and both in numbers.

    `folder` is that of the training. Items are prompts; of a judge they are pairs, since the two
    orders of a pair are not independent. What has no reward in one of the two is left out.
    """
    manifest = read_manifest(folder)
    found = [] if manifest is None else manifest.extra.get("evaluations", [])
    if manifest is None or len(found) < 2:
        return None, {}
    reward = str(manifest.recipe["online.reward"])
    first, last = found[0]["rewards"], found[-1]["rewards"]
    details: dict[str, Any] = {"reward": reward, "steps": [found[0]["step"], found[-1]["step"]]}
    if reward == "verdict":
        bonus = float(manifest.recipe["online.consistency_bonus"])
        details |= {
            name: [told[name] for told in (verdict_shares(r, bonus) for r in (first, last))]
            for name in ("accuracy", "right_in_both_orders")
        }
    both = [name for name in first if None not in (first[name], last.get(name))]
    items: dict[str, list[float]] = {}
    for name in both:
        item = _pair_of(name) if reward == "verdict" else name
        items.setdefault(item, []).append(last[name] - first[name])
    if not items:
        return None, details
    means = [sum(values) / len(values) for values in items.values()]
    details |= {
        "n": len(means),
        "mean_reward": [sum(r[name] for name in both) / len(both) for r in (first, last)],
    }
    interval = bootstrap_interval(means, config.confidence, config.bootstrap_samples, seed)
    change = Change(
        what=_WHAT[reward],
        difference=sum(means) / len(means),
        ci=interval,
        lower_is_better=False,
    )
    return change, details


def verdict_shares(rewards: Rewards, consistency_bonus: float) -> dict[str, float | None]:
    """Share of verdicts that are right, and of pairs judged right in both orders.

    A right verdict earns 1 - `consistency_bonus`, and 1 if the other order is right too
    (`judging.rewards.verdict_rewards`): with a bonus of 1 a right verdict alone earns nothing, and
    the accuracy is not known from it (None). What has no reward is left out.
    """
    known = {name: reward for name, reward in rewards.items() if reward is not None}
    pairs: dict[str, list[float]] = {}
    for name, reward in known.items():
        pairs.setdefault(_pair_of(name), []).append(reward)
    whole = [orders for orders in pairs.values() if len(orders) == 2]
    right = [reward > 0 for reward in known.values()]
    both = [min(orders) >= 1 for orders in whole]
    knows = bool(right) and consistency_bonus < 1
    return {
        "accuracy": sum(right) / len(right) if knows else None,
        "right_in_both_orders": sum(both) / len(both) if both else None,
    }


def _pair_of(prompt_id: str) -> str:
    """Of `PAIR/ORDER`, as `training.online.prompts` names the prompts of a judge."""
    return prompt_id.rpartition("/")[0]
