"""Online training as a step of a loop: its prompts, what rewards it, the engines beside it."""

import time
from dataclasses import asdict
from typing import Any

from selfreward.config_loading import identity
from selfreward.errors import ConfigError
from selfreward.judging.checks import passes
from selfreward.judging.rubric_files import rubric_recipe
from selfreward.judging.rubrics import get_pairwise_rubric
from selfreward.layout import join
from selfreward.loops.file_content import files_content
from selfreward.loops.llm_data import Splits
from selfreward.loops.llm_prompts import (
    Prompts,
    checked_prompts,
    file_prompts,
    pair_prompts,
    ranked_prompts,
    split_prompts,
)
from selfreward.loops.pools import PlacedModel
from selfreward.loops.reward_judge import place_reward_judge
from selfreward.loops.rubrics import load_pointwise_rubric
from selfreward.loops.sources import build_folder, on_cluster
from selfreward.loops.steps import Run
from selfreward.stages.in_training import NO_TRAINING
from selfreward.stages.labelled import build_labelled
from selfreward.stages.labelled_rows import FileReading, names_of
from selfreward.storage.manifest import complete, open_stage
from selfreward.storage.shards import ShardSummary, sealed_shards
from selfreward.training.online.job import OnlineJob, train_online
from selfreward.training.online.scorers import (
    ChecksScorer,
    JudgeScorer,
    RewardModelScorer,
    Scorer,
    VerdictScorer,
)


def train_by_reward(
    run: Run,
    number: int,
    start: PlacedModel,
    *,
    rankings: Splits | None,
    instructions: Splits | None,
    reward_model: PlacedModel | None,
) -> None:
    """Trains stage `number` from `start` by policy gradient; a finished training is not repeated.

    Raises:
        UserError: prompts or settings do not fit.
        EngineError: the engines failed in a way that retries did not mend.
        TrainingError: it failed after its retries, or ran out of time.
    """
    layout, config = run.layout, run.config.custom_llm.online
    folder = layout.training(number)
    rewarded_by = reward_model if config.reward == "reward_model" else None
    recipe: dict[str, Any] = {
        "online": {k: v for k, v in identity(config).items() if k not in ("prompts", "judge")},
        "prompts": files_content(config.prompts),
        "start": start.ref.fingerprint,
        "reward_model": rewarded_by.ref.fingerprint if rewarded_by is not None else None,
        "input": [s.train.fingerprint for s in (rankings, instructions) if s is not None],
        "engine": identity(run.config.engine),
        "seed": run.config.loop.seed,
    }
    judge = place_reward_judge(run.config) if config.reward == "judge" else None
    if judge is not None:
        recipe["judge"] = {
            "model": judge.ref.fingerprint,
            "rating": identity(run.config.rating),
            "rubric": rubric_recipe(load_pointwise_rubric(run.config.rating.rubric)),
        }
    if config.reward == "verdict":
        recipe["rubric"] = run.config.judge.rubric
    manifest = open_stage(folder, "reinforce", recipe)
    if manifest.is_complete:
        return
    prompts, eval_prompts = _prompts(run, rankings, instructions)
    scorer = _scorer(run, reward_model, judge)
    run.pools.judge(start)  # the pool holds the weights that training starts from
    begin = time.monotonic()
    job = OnlineJob(
        name=f"iteration-{number:02d}",
        prompts=prompts,
        eval_prompts=eval_prompts,
        config=config,
        publisher=run.pools.publisher(),
        scorer=scorer,
        iteration=number,
        output=layout.checkpoint(number),
        storage_path=join(folder, "ray_train"),
        seed=run.config.loop.seed + number,
        trust_remote_code=run.config.model.trust_remote_code,
        say=run.board.open(f"reinforce {folder}").say,
    )
    title = f"reinforce: {config.steps} steps on {len(prompts)} prompts, by {config.reward}"
    with run.display.waiting(title, run.board.said):
        result = train_online(job)
    run.pools.adopt(result.model, result.checkpoint)
    summary = ShardSummary(
        index=0,
        num_inputs=len(prompts),
        num_records=result.num_rollouts,
        drops={},
        ledger={"train_tokens": result.num_tokens},
    )
    extra = {
        "steps": result.steps,
        "num_rollouts": result.num_rollouts,
        "evaluations": [asdict(evaluation) for evaluation in result.evaluations],
    }
    complete(folder, manifest, [summary], time.monotonic() - begin, extra)
    rewards = [e.metrics().get("eval/reward") for e in result.evaluations]
    told = ", ".join("-" if reward is None else f"{reward:.3f}" for reward in rewards)
    run.display.line(f"mean reward of greedy answers as it learnt: {told}")


def _prompts(
    run: Run, rankings: Splits | None, instructions: Splits | None
) -> tuple[Prompts, Prompts]:
    config, seed = run.config.custom_llm.online, run.config.loop.seed
    if config.reward == "verdict":
        urls = _labelled(run)
        found = on_cluster(run, pair_prompts, urls, run.config.judge.rubric)
        return split_prompts(found, config.eval_prompts, seed)
    if config.prompts:
        limit = run.config.pool.max_instruction_chars
        found = on_cluster(run, file_prompts, config.prompts, limit)
        return split_prompts(found, config.eval_prompts, seed)
    read, splits = ranked_prompts, rankings
    if config.reward == "checks":
        read, splits = checked_prompts, instructions
    if splits is None:
        raise ConfigError(
            f"custom_llm.online.reward={config.reward} has no prompts to learn on: name files in"
            " custom_llm.online.prompts, or let the stage run that reads them"
        )
    train = on_cluster(run, read, sealed_shards(splits.train.folder))
    heldout = on_cluster(run, read, sealed_shards(splits.heldout.folder))
    return train, heldout[: config.eval_prompts]


def _labelled(run: Run) -> list[str]:
    """Shards of the labelled pairs that a judge is trained on."""
    config = run.config
    urls: list[str] = []
    for number, path in enumerate(config.custom_llm.online.prompts):
        folder = join(run.layout.root, "online", f"{number:02d}")
        recipe = {
            "file": files_content((path,)),
            "max_chars": config.pool.max_instruction_chars,
        }
        build_folder(
            run,
            folder,
            "labelled",
            recipe,
            build_labelled,
            path,
            folder,
            config.pool.shard_size,
            None,
            config.pool.max_instruction_chars,
            None,
            NO_TRAINING,
            False,
            FileReading(names=names_of("custom_llm.online.prompts")),
        )
        urls += sealed_shards(folder)
    return urls


def _scorer(run: Run, reward_model: PlacedModel | None, judge: PlacedModel | None) -> Scorer:
    config = run.config.custom_llm.online
    if config.reward == "checks":
        return ChecksScorer(passes=passes)
    if config.reward == "verdict":
        return VerdictScorer(
            rubric=get_pairwise_rubric(run.config.judge.rubric),
            consistency_bonus=config.consistency_bonus,
        )
    if judge is not None:
        return JudgeScorer(
            ask=run.pools.outsider(judge),
            rubric=load_pointwise_rubric(run.config.rating.rubric),
            rating=run.config.rating,
            seed=run.config.loop.seed,
        )
    assert reward_model is not None  # `check_stages` has seen to it
    return RewardModelScorer(ask=run.pools.scorer(reward_model))
