"""Advantages, the clipped loss and the KL estimate: by hand and against TRL."""

import ast
import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from selfreward.training.online.advantages import group_advantages
from selfreward.training.online.losses import PolicyTerms, kl_estimate, policy_terms


def of_trl(file: str, *names: str) -> dict[str, Callable[..., Any]]:
    """Functions and methods of one of TRL's files, taken out of its source: importing its trainers
    loads vLLM."""
    spec = importlib.util.find_spec("trl")
    if spec is None or spec.origin is None:
        pytest.skip("TRL is not installed")
    tree = ast.parse((Path(spec.origin).parent / "trainer" / file).read_text())
    found = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name in names]
    assert {function.name for function in found} == set(names)
    functions: dict[str, Any] = {"torch": torch}
    exec(compile(ast.Module(body=list(found), type_ignores=[]), file, "exec"), functions)
    return {name: functions[name] for name in names}


def test_rloo_subtracts_the_mean_of_the_others() -> None:
    # 1 - (0 + 0.5) / 2, 0 - (1 + 0.5) / 2, 0.5 - (1 + 0) / 2; of the pair 3 - 1 and 1 - 3.
    found = group_advantages([1.0, 3.0, 0.0, 0.5, 1.0], ["a", "b", "a", "a", "b"], "rloo")
    assert found.values == pytest.approx([0.75, 2.0, -0.75, 0.0, -2.0])
    assert (found.num_groups, found.num_flat_groups) == (2, 0)


def test_grpo_divides_by_the_sample_standard_deviation_and_dr_grpo_does_not() -> None:
    # Mean 0.5, squared differences 0.25 each, variance 4 * 0.25 / 3.
    scale = math.sqrt(1 / 3) + 1e-4
    rewards, groups = [1.0, 1.0, 0.0, 0.0], ["a"] * 4
    assert group_advantages(rewards, groups, "grpo").values == pytest.approx(
        [0.5 / scale, 0.5 / scale, -0.5 / scale, -0.5 / scale]
    )
    assert group_advantages(rewards, groups, "dr_grpo").values == pytest.approx(
        [0.5, 0.5, -0.5, -0.5]
    )


def test_masked_rollouts_are_in_nobodys_baseline() -> None:
    found = group_advantages([1.0, None, 0.0, None], ["a"] * 4, "rloo")
    assert found.values == [1.0, 0.0, -1.0, 0.0]


@pytest.mark.parametrize("estimator", ["rloo", "grpo", "dr_grpo"])
def test_groups_without_a_difference_teach_nothing_and_are_counted(
    estimator: Literal["rloo", "grpo", "dr_grpo"],
) -> None:
    # 0.1 three times has a mean that is not 0.1 in floating point.
    rewards = [0.1, 0.1, 0.1, 7.0, None, None, 1.0, 0.0]
    groups = ["same"] * 3 + ["one", "one", "none", "two", "two"]
    found = group_advantages(rewards, groups, estimator)
    assert found.values[:6] == [0.0] * 6
    assert found.values[6] > 0 > found.values[7]
    assert (found.num_groups, found.num_flat_groups) == (4, 3)


def test_a_reward_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        group_advantages([1.0, math.nan], ["a", "a"], "rloo")


@pytest.mark.parametrize("estimator", ["rloo", "grpo", "dr_grpo"])
def test_advantages_are_those_of_trl(estimator: Literal["rloo", "grpo", "dr_grpo"]) -> None:
    nanstd = of_trl("utils.py", "nanstd")["nanstd"]
    rewards = torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rewards[1, 2] = rewards[4, 0] = math.nan  # TRL's mark of a completion nobody could score
    if estimator == "rloo":
        num_scored = (~rewards.isnan()).sum(1, keepdim=True)
        wanted = rewards - (rewards.nansum(1, keepdim=True) - rewards) / (num_scored - 1)
    else:
        wanted = rewards - rewards.nanmean(1, keepdim=True)
        if estimator == "grpo":
            wanted = wanted / (nanstd(rewards, dim=1, keepdim=True) + 1e-4)
    groups = [str(row) for row in range(6) for _ in range(5)]
    ours = [None if math.isnan(r) else r for r in rewards.flatten().tolist()]
    values = group_advantages(ours, groups, estimator).values
    assert values == pytest.approx(wanted.nan_to_num(0.0).flatten().tolist(), abs=1e-6)


def terms_of(
    logps: Tensor, old: Tensor, reference: Tensor, advantages: Tensor, mask: Tensor, **changes: Any
) -> PolicyTerms:
    """Our terms of padded tensors, shape (sequences, positions)."""
    settings: dict[str, Any] = {
        "clip_low": 0.2,
        "clip_high": 0.3,
        "kl_weight": 0.1,
        "loss_over": "tokens",
    }
    kept = mask.bool()
    return policy_terms(
        logps[kept],
        old_logps_N=old[kept],
        reference_logps_N=reference[kept],
        advantages_S=advantages,
        sequence_N=kept.nonzero()[:, 0],
        lengths_S=mask.sum(1).float(),
        **(settings | changes),
    )


def test_the_clipped_loss_by_hand() -> None:
    # Ratios 1.5 and 0.5. With A = 2 the first is cut to 1.3, the second stays: min picks
    # 2.6 and 1.0. With A = -1 min picks -1.5 and -0.8 (0.5 raised to 0.8).
    logps = torch.log(torch.tensor([[0.15, 0.05], [0.15, 0.05]])).requires_grad_()
    old = torch.log(torch.tensor([[0.1, 0.1], [0.1, 0.1]]))
    mask = torch.ones(2, 2)
    terms = terms_of(logps, old, logps.detach(), torch.tensor([2.0, -1.0]), mask)
    assert terms.loss.item() == pytest.approx(-2.6 - 1.0 + 1.5 + 0.8)
    assert terms.num_clipped.item() == 2
    terms.loss.backward()
    # Only unclipped tokens pull: d(-ratio A) = -ratio A; the KL's slope is 0 at the reference.
    assert logps.grad is not None
    torch.testing.assert_close(logps.grad, torch.tensor([[0.0, -1.0], [1.5, 0.0]]))


def test_the_kl_estimate_by_hand() -> None:
    # p 0.2 and q 0.1: 0.5 - ln 0.5 - 1; equal: 0; p 0.1 and q 0.2: 2 - ln 2 - 1.
    logps = torch.log(torch.tensor([0.2, 0.3, 0.1]))
    reference = torch.log(torch.tensor([0.1, 0.3, 0.2]))
    wanted = [0.5 + math.log(2) - 1, 0.0, 1 - math.log(2)]
    assert kl_estimate(logps, reference).tolist() == pytest.approx(wanted, abs=1e-6)
    # On average over the policy's own tokens it is KL(p || q), for any two distributions.
    p = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    q = torch.tensor([0.2, 0.2, 0.6], dtype=torch.float64)
    exact = (p * (p / q).log()).sum().item()
    assert (p * kl_estimate(p.log(), q.log())).sum().item() == pytest.approx(exact)


def test_a_sequence_weighs_one_whatever_its_length() -> None:
    # Ratio 1 throughout, so each token's loss is -A: 3 tokens of A = 1 and 1 token of A = 5.
    logps = torch.zeros(2, 3)
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    for loss_over, wanted in (("tokens", -3.0 - 5.0), ("sequences", -1.0 - 5.0)):
        terms = terms_of(logps, logps, logps, torch.tensor([1.0, 5.0]), mask, loss_over=loss_over)
        assert terms.loss.item() == pytest.approx(wanted)


def trl_loss(
    loss_type: str, logps: Tensor, old: Tensor, reference: Tensor, advantages: Tensor, mask: Tensor
) -> tuple[Tensor, dict[str, list[float]]]:
    """What TRL's GRPO trainer makes of the same numbers, with its metrics."""
    compute_loss: Any = of_trl("grpo_trainer.py", "_compute_loss")["_compute_loss"]
    compute_loss.__globals__.update(of_trl("utils.py", "nanmin", "nanmax"))
    metrics: dict[str, dict[str, list[float]]] = {"train": _Lists()}
    trainer = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *a, **k: (logps, torch.zeros_like(logps), None),
        accelerator=SimpleNamespace(gather=lambda x: x, reduce=lambda x, reduction: x),
        args=SimpleNamespace(use_bias_correction_kl=False, delta=None),
        model=SimpleNamespace(training=True),
        aux_loss_enabled=False,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        importance_sampling_level="token",
        beta=0.1,
        loss_type=loss_type,
        epsilon_low=0.2,
        epsilon_high=0.3,
        current_gradient_accumulation_steps=1,
        use_vllm=False,
        _entropy_bonus_enabled=False,
        _metrics=metrics,
    )
    inputs = {
        "prompt_ids": torch.zeros(len(mask), 1, dtype=torch.long),
        "prompt_mask": torch.ones(len(mask), 1, dtype=torch.long),
        "completion_ids": torch.zeros_like(mask),
        "completion_mask": mask,
        "advantages": advantages,
        "old_per_token_logps": old,
        "ref_per_token_logps": reference,
    }
    return compute_loss(trainer, None, inputs), metrics["train"]


class _Lists(dict[str, list[float]]):
    def __missing__(self, key: str) -> list[float]:
        return self.setdefault(key, [])


@pytest.mark.parametrize(("loss_over", "loss_type"), [("tokens", "bnpo"), ("sequences", "grpo")])
def test_loss_gradient_kl_and_clipping_are_those_of_trl(loss_over: str, loss_type: str) -> None:
    generator = torch.Generator().manual_seed(3)
    old = -3 * torch.rand(6, 9, generator=generator)
    logps = old + 0.3 * torch.randn(6, 9, generator=generator)
    reference = old + 0.3 * torch.randn(6, 9, generator=generator)
    advantages = torch.randn(6, generator=generator)
    mask = (torch.arange(9) < torch.tensor([9, 1, 4, 7, 2, 9])[:, None]).long()
    ours, theirs = logps.clone().requires_grad_(), logps.clone().requires_grad_()
    terms = terms_of(ours, old, reference, advantages, mask, loss_over=loss_over)
    num_tokens = mask.sum()
    count = num_tokens if loss_over == "tokens" else len(mask)
    (terms.loss / count).backward()
    wanted, metrics = trl_loss(loss_type, theirs, old, reference, advantages, mask)
    wanted.backward()
    torch.testing.assert_close(terms.loss / count, wanted)
    torch.testing.assert_close(ours.grad, theirs.grad)
    share = (terms.num_clipped / num_tokens).item()
    assert 0 < share == pytest.approx(metrics["clip_ratio/region_mean"][0])
    if loss_over == "tokens":
        assert (terms.kl / num_tokens).item() == pytest.approx(metrics["kl"][0])
