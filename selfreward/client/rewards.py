"""The judge as a reward: callables for TRL's GRPO trainer and for verl.

A judgment that failed has no reward. TRL takes None for that; verl has no such value, so that the
default there is an error. A service that cannot be reached, or refuses the request, always raises:
a run that trains on made-up numbers is worse than one that stops. To sit out a longer break, give
the client a larger `total_timeout_s` and `max_tries`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Unpack

from selfreward.client.calls import JudgeOptions
from selfreward.client.errors import JudgmentFailedError
from selfreward.client.reward_rules import (
    Judged,
    RewardRoute,
    RewardRule,
    prompt_messages,
    response_text,
)
from selfreward.client.sync_client import JudgeClient
from selfreward.errors import ConfigError, DataError


class TrlReward:
    """See `trl_reward`. Picklable; `__name__` is what TRL logs it under."""

    def __init__(
        self,
        client: JudgeClient,
        *,
        rule: RewardRule,
        reference_column: str | None,
        blank_reward: float | None,
        name: str,
    ) -> None:
        if rule.route == "pairwise" and reference_column is None:
            raise ConfigError(
                "route='pairwise' compares with a reference: name its column, reference_column=..."
            )
        self.client = client
        self.rule = rule
        self.reference_column = reference_column
        self.blank_reward = blank_reward
        self.__name__ = name

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any
    ) -> list[float | None]:
        references = self._references(columns, len(prompts))
        rewards: list[float | None] = [None] * len(prompts)
        asked: dict[int, Judged] = {}
        for place, (prompt, completion, reference) in enumerate(
            zip(prompts, completions, references, strict=True)
        ):
            response = response_text(completion)
            if self.rule.route == "pairwise" and not (reference or "").strip():
                continue
            if not response.strip():
                rewards[place] = self.blank_reward
                continue
            asked[place] = Judged(
                prompt=prompt_messages(prompt), response=response, reference=reference
            )
        judgments = self.rule.judge(self.client, list(asked.values()))
        for place, judgment in zip(asked, judgments, strict=True):
            rewards[place] = self.rule.reward(judgment)
        self._log(columns.get("log_metric"), [rewards[place] for place in asked])
        return rewards

    def _references(self, columns: dict[str, Any], num: int) -> list[str | None]:
        if self.reference_column is None:
            return [None] * num
        if self.reference_column not in columns:
            raise DataError(
                f"the dataset has no column {self.reference_column!r} for the reward's references;"
                f" it has: {', '.join(sorted(columns))}"
            )
        values = columns[self.reference_column]
        return [None if value is None else response_text(value) for value in values]

    def _log(
        self, log_metric: Callable[[str, float], None] | None, rewards: list[float | None]
    ) -> None:
        if log_metric is not None and rewards:
            log_metric(f"{self.__name__}/failed_share", rewards.count(None) / len(rewards))


def trl_reward(
    client: JudgeClient,
    *,
    route: RewardRoute = "score",
    normalised: bool = True,
    reference_column: str | None = None,
    blank_reward: float | None = None,
    name: str = "judge_reward",
    **options: Unpack[JudgeOptions],
) -> TrlReward:
    """A reward function for `GRPOTrainer(reward_funcs=...)` of TRL 1.16.

    TRL calls it with `prompts`, `completions`, `completion_ids`, `trainer_state`, `log_extra`,
    `log_metric` and the dataset's further columns, and wants a list of `float | None`. It turns
    None into NaN and leaves it out of its sums: a completion for which no function has a reward
    is kept out of the group's mean and deviation and gets the advantage 0, so that it teaches
    nothing (TRL also logs a warning that shows it). Beside other reward functions, only this one's
    term is missing from the completion's sum, which then counts as 0. In a group where few
    judgments succeed the baseline is that of the few; the metric `<name>/failed_share` tells the
    share of judgments that failed.

    Args:
        client: sends each call's completions as one batch, in chunks.
        route: `score` rates each completion; `pairwise` compares it with the reference and gives
            the probability that the completion is better.
        normalised: scores from 0 to 1 instead of the rubric's scale.
        reference_column: the dataset's column with responses known to be good. The judge is shown
            it when scoring; for `pairwise`, where it is needed, a row without one gets None.
        blank_reward: of a completion without any text, about which no judge is asked.
        name: under which TRL logs the reward.
        options: as for `JudgeClient.score` and `JudgeClient.pairwise`.

    Raises:
        ConfigError: arguments that do not go together.
        InvalidRequestError: options that no service takes.
        DataError: from the callable, for a missing column or messages that are not text.
        JudgeError: from the callable, if the service gives no judgments at all.
    """
    rule = RewardRule(route=route, normalised=normalised, options=options)
    return TrlReward(
        client,
        rule=rule,
        reference_column=reference_column,
        blank_reward=blank_reward,
        name=name,
    )


class VerlReward:
    """See `verl_compute_score`. Picklable, and may be called by many threads at once."""

    def __init__(
        self,
        client: JudgeClient,
        *,
        rule: RewardRule,
        prompt_key: str,
        ground_truth_as_reference: bool,
        failed_reward: float | None,
    ) -> None:
        if failed_reward is not None and not math.isfinite(failed_reward):
            raise ConfigError(f"failed_reward={failed_reward} must be a finite number or None")
        self.client = client
        self.rule = rule
        self.prompt_key = prompt_key
        self.ground_truth_as_reference = ground_truth_as_reference or rule.route == "pairwise"
        self.failed_reward = failed_reward
        self.__name__ = "compute_score"

    def __call__(
        self,
        data_source: str,
        solution_str: str,
        ground_truth: Any,
        extra_info: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> dict[str, float]:
        prompt = (extra_info or {}).get(self.prompt_key)
        if prompt is None:
            raise DataError(
                f"extra_info[{self.prompt_key!r}] of data source {data_source!r} is missing: verl"
                " hands no prompt to a reward function, so put it there when preparing the data,"
                " or name its key with prompt_key=..."
            )
        reference = None
        if self.ground_truth_as_reference:
            if not isinstance(ground_truth, str) or not ground_truth.strip():
                raise DataError(
                    f"ground_truth of data source {data_source!r} must be a text to serve as the"
                    " reference"
                )
            reference = ground_truth
        if not solution_str.strip():
            return self._failed("blank", "the response has no text")
        item = Judged(prompt=prompt_messages(prompt), response=solution_str, reference=reference)
        (judgment,) = self.rule.judge(self.client, [item])
        reward = self.rule.reward(judgment)
        if reward is None:
            return self._failed(judgment.outcome, judgment.detail)
        return {"score": reward, "judged": 1.0}

    def _failed(self, outcome: str, detail: str | None) -> dict[str, float]:
        if self.failed_reward is None:
            raise JudgmentFailedError(
                f"no reward, as the judgment failed: {detail or outcome}; a number to use"
                " instead can be named with failed_reward=...",
                code=outcome,
            )
        return {"score": self.failed_reward, "judged": 0.0}


def verl_compute_score(
    client: JudgeClient,
    *,
    route: RewardRoute = "score",
    normalised: bool = True,
    prompt_key: str = "question",
    ground_truth_as_reference: bool = False,
    failed_reward: float | None = None,
    **options: Unpack[JudgeOptions],
) -> VerlReward:
    """A function for verl's `custom_reward_function`, which names a file and a function in it.

    In that file:

        compute_score = verl_compute_score(JudgeClient("http://judge:8000"), votes=3)

    verl calls `compute_score(data_source, solution_str, ground_truth, extra_info, **kwargs)` once
    a sample, from a pool of threads, and takes a number or a dict with the number under `score`,
    whose other entries become metrics. This one answers `{"score": ..., "judged": 1.0}`.
    Further keyword arguments of verl (such as its own reward model's address) are not used.

    Args:
        route: `score` rates the response; `pairwise` compares it with the ground truth and gives
            the probability that the response is better.
        normalised: scores from 0 to 1 instead of the rubric's scale.
        prompt_key: where `extra_info` holds the prompt, a text or messages.
        ground_truth_as_reference: shows the judge the ground truth when scoring.
        failed_reward: the number for a failed judgment or a response without text. verl has no
            value for "no reward": None raises and so ends the run, while a number trains on it
            like on any other, and only the metric `judged` (1 or 0) tells them apart.
        options: as for `JudgeClient.score` and `JudgeClient.pairwise`.

    Raises:
        ConfigError: arguments that do not go together.
        InvalidRequestError: options that no service takes.
        JudgmentFailedError: from the callable, without `failed_reward`; `code` is the outcome.
        DataError: from the callable, for a missing prompt or a ground truth that is no text.
        JudgeError: from the callable, if the service gives no judgment at all.
    """
    return VerlReward(
        client,
        rule=RewardRule(route=route, normalised=normalised, options=options),
        prompt_key=prompt_key,
        ground_truth_as_reference=ground_truth_as_reference,
        failed_reward=failed_reward,
    )
