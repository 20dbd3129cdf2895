"""Online training in this process: it learns, the KL holds it back, a resumed run repeats."""

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from selfreward.config_custom_llm import OnlineConfig
from selfreward.engines.models import model_fingerprint
from selfreward.errors import DataError, EngineTimeoutError, RecipeChangedError, TrainingError
from selfreward.judging.rewards import Reward, RewardFailure
from selfreward.training.online.rollouts import RolloutPrompt
from selfreward.training.online.scorers import Answered
from selfreward.training.online.task import OnlineProgress
from tests.online_tools import (
    MAX_TOKENS,
    LowerCaseScorer,
    TinyRollouts,
    make_online_config,
    make_online_task,
    make_prompts,
    rewards_of,
    run_online_here,
)
from tests.test_training_parallel import _free_port, _join_group
from tests.tiny_model import make_tiny_model


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


def rewards_by_kl_weight(tiny: Path, root: Path, kl_weight: float) -> OnlineProgress:
    config = make_online_config(
        steps=15, group_size=8, kl_weight=kl_weight, eval_every=15, advantage="rloo"
    )
    return run_online_here(make_online_task(tiny, root, config), root)


def test_the_reward_rises_and_the_kl_weight_holds_it_back(tiny: Path, tmp_path: Path) -> None:
    free = rewards_by_kl_weight(tiny, tmp_path / "free", 0.0)
    held = rewards_by_kl_weight(tiny, tmp_path / "held", 1.0)
    # The untrained model writes any byte: 26 letters of 320 tokens are 0.08.
    assert rewards_of(free)[0] == rewards_of(held)[0] < 0.15
    assert min(rewards_of(free)[-3:]) > 0.5
    assert max(rewards_of(held)[-3:]) < 0.25
    # Before the first update the policy is the reference.
    assert free.history[0]["train/kl"] == pytest.approx(0.0, abs=1e-6)
    assert free.history[-1]["train/kl"] > 10 * held.history[-1]["train/kl"]
    before, after = free.evaluations
    assert (before.step, after.step) == (0, 15)
    assert list(before.rewards) == ["p0", "p1", "p2"]
    assert after.metrics()["eval/reward"] > 0.5 > before.metrics()["eval/reward"]
    assert free.history[-1]["eval/reward"] == after.metrics()["eval/reward"]
    row = free.history[-1]
    assert row["rollout/count"] == 4 * 8
    assert 0 < row["rollout/length"] <= MAX_TOKENS
    assert row["train/tokens_per_s"] > 0
    assert free.num_rollouts == 15 * 4 * 8


def test_only_the_last_two_weights_stay_and_engines_get_each(tiny: Path, tmp_path: Path) -> None:
    rollouts = TinyRollouts(4)
    task = make_online_task(tiny, tmp_path, make_online_config(steps=3))
    progress = run_online_here(task, tmp_path, rollouts)
    assert [w.step for w in rollouts.published] == [0, 1, 2, 3]
    assert len({w.fingerprint for w in rollouts.published}) == 4
    assert rollouts.published[0] == task.start
    kept = sorted(p.name for p in (tmp_path / "weights").iterdir())
    assert kept == ["step-000002", "step-000003"]
    last = rollouts.published[-1]
    assert model_fingerprint(last.folder) == last.fingerprint == progress.fingerprint
    assert not list((tmp_path / "scratch").iterdir())


def learning_curve(progress: OnlineProgress) -> dict[str, float]:
    """What a run was like, without what depends on the machine."""
    timed = ("time/", "train/tokens_per_s", "rollout/tokens_per_s")
    return {
        f"{row['step']:.0f}/{name}": value
        for row in progress.history
        for name, value in row.items()
        if not name.startswith(timed)
    }


@pytest.mark.parametrize(
    ("changes", "training"),
    [
        ({"updates_per_step": 2, "loss_over": "sequences"}, {"precision": "bf16"}),
        ({"advantage": "grpo"}, {"lora": {"rank": 4, "alpha": 8, "dropout": 0.1}}),
    ],
)
def test_a_resumed_run_repeats_the_unbroken_one(
    changes: dict[str, Any], training: dict[str, Any], tiny: Path, tmp_path: Path
) -> None:
    task = make_online_task(tiny, tmp_path, make_online_config(**changes, training=training))
    whole = run_online_here(task, tmp_path)
    assert [row["step"] for row in whole.history] == [1, 2, 3, 4]
    assert whole.history[-1]["train/kl"] > 0
    # The run was cut off after step 3 and the engines hold what it left behind.
    shutil.rmtree(tmp_path / "weights" / "step-000004")
    rollouts = TinyRollouts(4)
    again = run_online_here(task, tmp_path, rollouts, resume_from=tmp_path / "kept" / "step-2")
    assert [w.step for w in rollouts.published] == [2, 3, 4]
    assert learning_curve(again) == pytest.approx(learning_curve(whole), abs=1e-5)
    assert again.evaluations == whole.evaluations
    assert again.num_rollouts == whole.num_rollouts
    finished = run_online_here(task, tmp_path, rollouts, resume_from=tmp_path / "kept" / "step-4")
    assert finished.history == again.history
    assert len(rollouts.published) == 3


def test_several_updates_leave_the_weights_that_wrote_and_are_clipped(
    tiny: Path, tmp_path: Path
) -> None:
    curves = {}
    for updates in (1, 4):
        config = make_online_config(updates_per_step=updates, steps=2, eval_every=2)
        root = tmp_path / str(updates)
        curves[updates] = run_online_here(make_online_task(tiny, root, config), root).history
    assert curves[1][0]["train/clip_share"] == 0.0
    assert curves[4][0]["train/clip_share"] > 0.0
    # Every rollout is in one of the updates, before which the policy has moved.
    assert curves[4][0]["train/rollouts"] == curves[1][0]["train/rollouts"] == 16
    assert curves[4][0]["train/kl"] > curves[1][0]["train/kl"]


def test_micro_batches_and_tokenised_texts_do_not_change_the_numbers(
    tiny: Path, tmp_path: Path
) -> None:
    class Ascii(TinyRollouts):
        """Its tokens are bytes that are whole characters, so its texts have the same tokens."""

        def publish(self, weights: Any) -> None:
            super().publish(weights)
            self.model.lm_head.register_forward_hook(_only_ascii)

    found = []
    for name, tokens, gives_ids in (("a", 4096, True), ("b", 64, True), ("c", 4096, False)):
        config = make_online_config(steps=2, training={"tokens_per_micro_batch": tokens})
        task = make_online_task(tiny, tmp_path / name, config)
        rollouts = Ascii(4, gives_token_ids=gives_ids)
        found.append(learning_curve(run_online_here(task, tmp_path / name, rollouts)))
    assert found[1] == pytest.approx(found[0], abs=1e-4)
    assert found[2] == pytest.approx(found[0], abs=1e-4)


def _only_ascii(module: Any, inputs: Any, logits: torch.Tensor) -> torch.Tensor:
    """Letters, digits and the end of the turn; token i of the first bytes is character i + 33."""
    allowed = [*range(15, 25), *range(64, 90), 258]
    masked = torch.full_like(logits, -torch.inf)
    masked[..., allowed] = logits[..., allowed]
    return masked


def test_truncated_rollouts_are_masked_and_a_step_without_others_teaches_nothing(
    tiny: Path, tmp_path: Path
) -> None:
    class OneEnds(TinyRollouts):
        """Draws 0 and 1 of each prompt come to an end."""

        def sample(self, prompts: Sequence[RolloutPrompt], step: int) -> list[Any]:
            drawn = super().sample(prompts, step)
            return [
                replace(r, finish_reason="stop" if r.draw < 2 and step < 2 else "length")
                for r in drawn
            ]

    task = make_online_task(tiny, tmp_path, make_online_config(truncated="mask", steps=2))
    first, second = run_online_here(task, tmp_path, OneEnds(4)).history
    assert first["train/rollouts"] == 8
    assert first["rollout/truncated"] == 0.5
    assert second["rollout/truncated"] == 1.0
    assert second["rollout/flat_groups"] == 1.0
    assert "train/loss" not in second


class _Failing(LowerCaseScorer):
    async def __call__(self, answered: Sequence[Answered]) -> list[Reward]:
        failed = Reward(failure=RewardFailure.UNPARSED)
        return [failed if r.draw == 0 else Reward(value=float(r.draw)) for _, r in answered]


def test_what_has_no_reward_leaves_its_group_and_is_counted(tiny: Path, tmp_path: Path) -> None:
    task = make_online_task(tiny, tmp_path, make_online_config(steps=1))
    progress = run_online_here(task, tmp_path, scorer=_Failing())
    (row,) = progress.history
    assert row["rollout/failed"] == row["rollout/failed_unparsed"] == 0.25
    assert row["rollout/reward"] == pytest.approx(2.0)  # of 1, 2 and 3
    assert row["train/rollouts"] == 12
    assert progress.evaluations[0].rewards == {"p0": None, "p1": None, "p2": None}
    assert "eval/reward" not in row
    assert row["eval/failed"] == 1.0


def test_mistakes_are_told_in_one_line(tiny: Path, tmp_path: Path) -> None:
    config = make_online_config(truncated="mask", training={"max_length": 16})
    with pytest.raises(TrainingError, match=r"no rollout of the first step.* 100% failed"):
        run_online_here(make_online_task(tiny, tmp_path, config), tmp_path)
    late = make_online_task(tiny, tmp_path, make_online_config(), deadline=0.0)
    with pytest.raises(TrainingError, match="ran out of time at step 1 of 4"):
        run_online_here(late, tmp_path)
    wild = make_online_config(training={"learning_rate": 1e30, "max_grad_norm": 1e30})
    with pytest.raises(TrainingError, match=r"lower online\.training\.learning_rate"):
        run_online_here(make_online_task(tiny, tmp_path, wild), tmp_path)
    with pytest.raises(DataError, match="no prompts"):
        run_online_here(
            make_online_task(tiny, tmp_path, make_online_config(), prompts=()), tmp_path
        )


def test_another_recipe_does_not_go_on_from_old_state(tiny: Path, tmp_path: Path) -> None:
    task = make_online_task(tiny, tmp_path, make_online_config(steps=2, eval_every=1))
    run_online_here(task, tmp_path)
    last = tmp_path / "kept" / "step-1"
    for changed in (
        replace(task, config=make_online_config(steps=2, eval_every=1, kl_weight=0.5)),
        replace(task, prompts=make_prompts(9)),
        replace(task, start=replace(task.start, fingerprint="another")),
    ):
        with pytest.raises(RecipeChangedError, match="another recipe"):
            run_online_here(changed, tmp_path, resume_from=last)
    faster = make_online_config(
        steps=2, eval_every=1, rollout_timeout_s=5.0, training={"tokens_per_micro_batch": 512}
    )
    run_online_here(replace(task, config=faster), tmp_path, resume_from=last)


class _Slow(LowerCaseScorer):
    async def __call__(self, answered: Sequence[Answered]) -> list[Reward]:
        import asyncio

        await asyncio.sleep(60)
        raise AssertionError("nobody waits for this")


def test_a_scorer_that_does_not_answer_is_not_waited_for(tiny: Path, tmp_path: Path) -> None:
    task = make_online_task(tiny, tmp_path, make_online_config(rollout_timeout_s=0.1))
    started = time.monotonic()
    with pytest.raises(EngineTimeoutError, match=r"rewards of 3 rollouts .*rollout_timeout_s=0\.1"):
        run_online_here(task, tmp_path, scorer=_Slow())
    assert time.monotonic() - started < 50


JOBS: dict[str, dict[str, Any]] = {
    "ddp": {"strategy": "ddp"},
    "fsdp2": {"strategy": "fsdp2"},
}


def _job_config(name: str, num_workers: int) -> OnlineConfig:
    strategy = JOBS[name] if num_workers > 1 else JOBS[name] | {"strategy": "ddp"}
    return make_online_config(
        steps=2,
        prompts_per_step=3,  # two for worker 0, one for worker 1
        updates_per_step=2,
        training=strategy | {"num_workers": num_workers, "learning_rate": 1e-3},
    )


def _online_worker(rank: int, port: int, root: str, model: str) -> None:
    _join_group(rank, port)
    for name in JOBS:
        folder = Path(root) / name
        task = make_online_task(Path(model), folder, _job_config(name, 2))
        progress = run_online_here(task, folder)
        if rank == 0:
            rewards = [e.rewards for e in progress.evaluations]
            found = {"history": learning_curve(progress), "rewards": rewards}
            (folder / "curve.json").write_text(json.dumps(found))
    dist.destroy_process_group()


def test_two_workers_repeat_the_numbers_of_one(tiny: Path, tmp_path: Path) -> None:
    mp.spawn(_online_worker, args=(_free_port(), str(tmp_path), str(tiny)), nprocs=2)
    for name in JOBS:
        root = tmp_path / f"{name}-alone"
        alone = run_online_here(make_online_task(tiny, root, _job_config(name, 1)), root)
        two = json.loads((tmp_path / name / "curve.json").read_text())
        assert two["history"]["2/train/rollouts"] == 12
        assert two["history"] == pytest.approx(learning_curve(alone), abs=1e-4), name
        assert two["rewards"] == [e.rewards for e in alone.evaluations]
