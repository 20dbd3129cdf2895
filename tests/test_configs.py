"""The shipped recipes: each parses, says what it is meant to say, and fits where it should."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from selfreward.config import RunConfig
from selfreward.config_loading import dump_config, load_config
from selfreward.judging.categories import CATEGORIES
from selfreward.judging.rubrics import get_pairwise_rubric
from selfreward.loops.kinds import check_loop
from selfreward.preflight import bundles_needed, shortfall

CONFIGS = Path(__file__).parent.parent / "ray_jobs" / "configs"
RECIPES = sorted(CONFIGS.glob("*.yaml"))
MARKER = "# CHANGE ME"


@cache  # reading one takes as long as all that is said of it
def recipe(name: str, *overrides: str) -> RunConfig:
    return load_config(CONFIGS / f"{name}.yaml", overrides)


def value(config: RunConfig, key: str) -> Any:
    found: Any = config
    for part in key.split("."):
        found = getattr(found, part)
    return found


def test_the_shipped_recipes_are_all_there() -> None:
    assert {"quickstart", "self_taught_cpu", "self_taught_70b"} <= {p.stem for p in RECIPES}


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_recipe_parses_and_survives_dump_and_load(path: Path, tmp_path: Path) -> None:
    config = recipe(path.stem)
    saved = tmp_path / "config.yaml"
    saved.write_text(dump_config(config), encoding="utf-8")

    assert load_config(saved) == config
    # Resolved: a default that the recipe does not name is written out.
    assert "bootstrap_samples: 2000" in saved.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_recipe_names_what_exists(path: Path) -> None:
    config = recipe(path.stem)

    get_pairwise_rubric(config.judge.rubric)  # raises for an unknown one
    assert set(config.select_instructions.categories) <= set(CATEGORIES)


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_recipe_passes_what_a_run_checks_first(path: Path) -> None:
    check_loop(recipe(path.stem))  # raises for what its loop does not read or cannot learn from


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_lines_to_change_are_marked_and_only_those(path: Path) -> None:
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.lstrip().startswith("#"):
            assert ("YOUR-" in line) == (MARKER in line), line


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_no_two_recipes_share_a_run_folder(path: Path) -> None:
    others = {recipe(other.stem).run_dir for other in RECIPES if other != path}

    assert recipe(path.stem).run_dir not in others


def test_quickstart_stays_small() -> None:
    config = recipe("quickstart")

    assert config.model.name == "embedded:smollm2-135m-instruct"
    assert config.loop.iterations == 1
    assert config.pool.path == "sample:instructions"
    assert (config.pool.max_instructions or 10**9) <= 200
    # At most 200 - 32 - 16 = 152 pairs of two orders, 16 a step: 19 optimizer steps.
    assert config.training.epochs == 1
    assert config.respond.sampling.max_tokens <= 128
    assert config.judge.sampling.max_tokens <= 8
    assert config.evaluation.heldout_pairs + config.evaluation.validation_pairs <= 64
    assert not config.training.use_gpu


CPU_RECIPE = {
    "model.name": "embedded:smollm2-135m-instruct",
    "engine.device": "cpu",
    "loop.iterations": 3,
    "pool.path": "sample:instructions",
    "pool.max_instructions": None,
    "select_instructions.enabled": False,
    "corrupt.methods": {"modified_instruction": 0.6, "rewrite": 0.2, "reference": 0.2},
    "judge.rubric": "pairwise_verdict_only",
    "training.learning_rate": 5e-5,
    "training.epochs": 2,
    "training.batch_size": 16,
    "evaluation.heldout_pairs": 64,
    "evaluation.validation_pairs": 24,
}


@pytest.mark.parametrize("key", CPU_RECIPE)
def test_cpu_recipe(key: str) -> None:
    assert value(recipe("self_taught_cpu"), key) == CPU_RECIPE[key]


# arXiv 2408.02666: section 3 and 4.1 for the data, appendix (table of training settings) for SFT.
PAPER = {
    "model.name": "meta-llama/Meta-Llama-3-70B-Instruct",
    "generator.model.name": "mistralai/Mixtral-8x22B-Instruct-v0.1",
    "pool.path": "allenai/WildChat-1M",
    "pool.columns.messages": "conversation",
    "select_instructions.enabled": True,
    "corrupt.methods": {"modified_instruction": 1.0},
    "corrupt.single_call": True,
    "respond.sampling.temperature": 0.7,
    "respond.sampling.top_p": 0.9,
    "respond.sampling.max_tokens": 4096,
    "corrupt.response_sampling.temperature": 0.7,
    "corrupt.response_sampling.top_p": 0.9,
    "corrupt.response_sampling.max_tokens": 4096,
    "judge.num_draws": 15,
    "judge.sampling.temperature": 0.7,
    "judge.sampling.top_p": 0.9,
    "judge.sampling.max_tokens": 4096,
    "judge.rubric": "pairwise_reasoned",
    "judge.guided": False,
    "select.balance": True,
    "select.drop_all_right": False,
    "loop.iterations": 5,
    "loop.start_from": "seed",
    "loop.new_pairs_each_iteration": False,
    "loop.judge_with": "latest",
    "loop.seed": 2,
    "training.objective": "sft",
    "training.learning_rate": 1e-6,
    "training.final_lr_ratio": 0.2,
    "training.betas": (0.9, 0.95),
    "training.weight_decay": 0.1,
    "training.epochs": 2,
    "training.max_length": 4096,
    "training.tokens_per_micro_batch": 8192,
    "training.checkpoint_every_steps": 100,
    "training.precision": "bf16",
    "training.activation_checkpointing": True,
    "training.lora": None,
    "evaluation.sampling.temperature": 0.0,
    "evaluation.sampling.top_p": 1.0,
    "evaluation.sampling.max_tokens": 2048,
    "engine.tensor_parallel_size": 8,
}


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("quickstart", 3),
        ("self_rewarding_quickstart", 3),
        ("self_taught_cpu", 16),
        ("learning_cpu", 10),
        ("self_rewarding_cpu", 10),
    ],
)
def test_a_kill_costs_a_cpu_recipe_some_steps_and_no_training(name: str, most: int) -> None:
    config = recipe(name)
    trainings = [config.training]
    if config.loop.kind == "self_rewarding":
        trainings.append(config.seed_training)
    for training in trainings:
        every = training.checkpoint_every_steps or training.eval_every_steps
        assert every is not None
        assert every <= most
    # Where checkpoints are chosen among, there is something to choose by.
    assert config.training.eval_every_steps is None or config.evaluation.validation_pairs >= 24


@pytest.mark.parametrize("key", PAPER)
def test_70b_recipe_has_the_papers_setting(key: str) -> None:
    assert value(recipe("self_taught_70b"), key) == PAPER[key]


def test_70b_choices_of_ours_follow_from_the_papers_numbers() -> None:
    config = recipe("self_taught_70b")
    training = config.training

    # 8,192 tokens a worker at sequences of 4,096 are 2 sequences; 16 workers x 2 = 32.
    assert training.batch_size == 16 * (8192 // 4096) == 32
    # Warm-up over 100 steps. 20,582 pairs x 2 orders / 32 = 1,286.4 steps, two epochs 2,573:
    # 0.04 of them are 102.9.
    steps = 20_582 * 2 * training.epochs / training.batch_size
    assert round(steps * training.warmup_ratio) == 103
    # A prompt as long as a judgment still fits the context of Llama 3.
    assert config.engine.max_model_len == 8192
    # "Reasoning" is two of our categories; nothing of them is cut away.
    assert set(config.select_instructions.categories) == {
        "mathematical_reasoning",
        "knowledge_and_reasoning",
    }
    assert not config.select_instructions.balance


def test_70b_recipe_is_made_for_a_cluster() -> None:
    config = recipe("self_taught_70b")
    assert config.generator is not None

    assert "://" in config.run_dir  # a local folder would not be seen by the other nodes
    assert config.ray.autoscaling
    # `auto` would say cpu while a cluster that scales from zero has no GPU yet.
    assert config.engine.device == config.generator.engine.device == "cuda"
    # One placement for both pools: the trainers need the GPUs of both.
    assert config.engine.placement == config.generator.engine.placement == "shared"
    training = config.training
    assert (training.strategy, training.num_workers, training.use_gpu) == ("fsdp2", 16, True)
    # A node that has to be bought, set up and filled with weights is waited for.
    waits = (config.engine.start_timeout_s, training.worker_start_timeout_s)
    assert min(waits) >= 3600


def test_bundles_of_the_cpu_recipes() -> None:
    # Dedicated: engine 1 CPU. While generating 2 shard tasks of 0.1 stand beside it (1.2 CPUs),
    # while training one trainer of 0.5 (1.5 CPUs): the larger moment is training.
    for name in ("quickstart", "self_taught_cpu"):
        bundles = bundles_needed(recipe(name, "engine.device=cpu"))

        assert bundles == [{"CPU": 1.0}, {"CPU": 0.5}]
        assert shortfall(bundles, [{"CPU": 2.0}]) is None
        assert shortfall(bundles, [{"CPU": 1.0}]) == "the run needs 1.5 CPUs, the cluster has 1"


HEAD = {"CPU": 8.0}
NODE = {"CPU": 192.0, "GPU": 8.0}


def test_bundles_of_the_70b_recipe_fill_two_nodes_of_eight_gpus() -> None:
    bundles = bundles_needed(recipe("self_taught_70b"))

    # Shared: the judge's 8 and the generator's 8 GPUs while generating, 16 trainers of 1 GPU while
    # training. 16 GPUs both times; generating has more CPUs (2 x 16 + 8 x 0.1 against 16 x 1).
    engine = {"CPU": 16.0, "GPU": 8.0}
    assert bundles == [engine, engine] + [{"CPU": 0.1}] * 8
    assert shortfall(bundles, [HEAD, NODE, NODE]) is None
    assert shortfall(bundles, [HEAD, NODE]) == "the run needs 16 GPUs, the cluster has 8"
    # 16 GPUs in nodes of 4 are no use to an engine that wants 8 on one node.
    half = {"CPU": 96.0, "GPU": 4.0}
    missing = shortfall(bundles, [HEAD, half, half, half, half])
    assert missing == "no node has 16 CPUs and 8 GPUs left for one process of the run"


def test_trainers_of_the_70b_recipe_fit_the_same_two_nodes() -> None:
    training = recipe("self_taught_70b").training
    trainer = {"CPU": training.num_cpus_per_worker, "GPU": training.gpus_per_worker}

    assert shortfall([trainer] * training.num_workers, [HEAD, NODE, NODE]) is None
    assert shortfall([trainer] * (training.num_workers + 1), [HEAD, NODE, NODE]) is not None


def test_dedicated_placement_doubles_the_70b_recipe() -> None:
    bundles = bundles_needed(
        recipe(
            "self_taught_70b",
            "engine.placement=dedicated",
            "generator.engine.placement=dedicated",
        )
    )

    # 8 + 8 GPUs of engines beside 16 trainers: 32, four nodes.
    assert sum(b.get("GPU", 0) for b in bundles) == 32
    assert shortfall(bundles, [HEAD, NODE, NODE, NODE, NODE]) is None
    assert shortfall(bundles, [HEAD, NODE, NODE, NODE]) == (
        "the run needs 32 GPUs, the cluster has 24"
    )


@pytest.mark.parametrize("name", ["custom_llm_cpu", "custom_llm_7b"])
def test_every_stage_of_ones_own_llm_goes_on_in_its_middle(name: str) -> None:
    section = recipe(name).custom_llm
    for stage in ("pretraining", "continued_pretraining", "finetuning", "instruction_tuning"):
        assert getattr(section, stage).training.checkpoint_every_steps, stage
    assert section.rankings.training.checkpoint_every_steps
    assert section.reward_model.training.checkpoint_every_steps
    # Online training checkpoints at every evaluation.
    assert section.online.eval_every < section.online.steps


def test_7b_corpora_are_too_large_for_an_index_of_near_duplicates() -> None:
    section = recipe("custom_llm_7b").custom_llm
    # At some thousand tokens a document; the index takes about a million.
    assert (section.continued_pretraining.token_budget or 0) / 1000 > 1_000_000
    assert section.general.near_duplicate_threshold is None
    assert section.domain.near_duplicate_threshold is None


# arXiv 2401.10020, sections 3.1.2 and 3.1.3.
SELF_REWARDING_PAPER = {
    "loop.iterations": 3,
    "seeds.sft_before_judging": True,
    "self_instruct.seed_shots": 6,
    "self_instruct.generated_shots": 2,
    "self_instruct.sampling.temperature": 0.6,
    "self_instruct.sampling.top_p": 0.9,
    "candidates.num_candidates": 4,
    "candidates.sampling.temperature": 0.7,
    "candidates.sampling.top_p": 0.9,
    "rating.rubric": "pointwise_additive",
    "rating.num_draws": 3,
    "preferences.length_rho": 0.0,
    "seed_training.learning_rate": 5.5e-6,
    "seed_training.final_lr_ratio": 0.2,
    "seed_training.batch_size": 16,
    "training.objective": "dpo",
    "training.learning_rate": 1e-6,
    "training.final_lr_ratio": 0.1,
    "training.dpo_beta": 0.1,
    "training.nll_weight": 0.0,
    "training.dpo_reference": "start",
    "training.batch_size": 16,
    "training.checkpoint_every_steps": 200,
    "evaluation.heldout_pairs": 256,
}


@pytest.mark.parametrize("key", SELF_REWARDING_PAPER)
def test_the_self_rewarding_70b_recipe_has_the_papers_setting(key: str) -> None:
    assert value(recipe("self_rewarding_70b"), key) == SELF_REWARDING_PAPER[key]


def test_every_model_of_the_self_rewarding_70b_recipe_can_be_read_and_measured() -> None:
    config = recipe("self_rewarding_70b")
    # The base model among them: it ends in no score or verdict by itself.
    assert config.rating.guided and config.judge.guided
    # 3,200 answers to learn from, beside those kept aside.
    assert (config.seeds.max_ift or 0) - config.seeds.ift_heldout == 3200
    # The EFT evaluation set is a file of its own.
    (scored,) = config.evaluation.scored_responses
    assert scored not in (*config.seeds.ift, *config.seeds.ranked)
    # Two answers of 1,800 tokens, the rubric and the verdict fit the context.
    assert 2 * 1800 + config.evaluation.sampling.max_tokens < config.engine.max_model_len


def test_the_self_rewarding_70b_recipe_says_which_numbers_are_ours() -> None:
    config = recipe("self_rewarding_70b")
    text = (CONFIGS / "self_rewarding_70b.yaml").read_text(encoding="utf-8")
    header = text.partition("run_dir:")[0]
    for training in (config.seed_training, config.training):
        assert training.epochs == 1 and "One epoch" in header
        assert f"warm-up over {training.warmup_ratio:g} of the steps" in header
        assert f"weight decay {training.weight_decay:g}" in header
        assert f"betas {training.betas[0]:g} and {training.betas[1]:g}" in header
    assert f"drawn at temperature {config.rating.sampling.temperature:g}" in header
    assert f"{config.self_instruct.completions:,} completions" in header
    assert "a system turn" in header
    assert "1,630" in header and "541 prompts" in text
