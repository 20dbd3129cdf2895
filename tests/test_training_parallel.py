"""One worker or two, full copies or shards: the same numbers."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from selfreward.config import TrainingConfig
from selfreward.errors import DataError
from selfreward.training.model import ModelSource
from selfreward.training.parallel import together
from selfreward.training.task import TrainingTask
from tests.tiny_model import make_tiny_model
from tests.training_data import (
    curve,
    make_config,
    make_task,
    run_here,
    write_data,
    write_text,
)

PRECISION_OF_BF16 = 2e-2


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _join_group(rank: int, port: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)


def _make_task(root: Path, config: TrainingConfig) -> TrainingTask:
    first = ModelSource(path=str(root / "first"))  # read where the config asks for it
    return make_task(root / "model", root / "data", config, reference_source=first)


def _train_worker(rank: int, port: int, root: str, jobs: list[tuple[str, dict[str, Any]]]) -> None:
    """Runs one training after another on one of two workers; worker 0 writes the curves."""
    _join_group(rank, port)
    folder = Path(root)
    for name, settings in jobs:
        task = _make_task(folder, TrainingConfig(**settings))
        scratch = folder / f"scratch-{name}"

        resume = folder / "kept" / f"{name.removesuffix('-resumed')}" / "step-2"
        result = run_here(
            task,
            scratch,
            resume_from=resume if name.endswith("-resumed") else None,
            keep=folder / "kept" / name,
        )
        if rank == 0:
            numbers = {"loss": curve(result), "norm": curve(result, "train/grad_norm")}
            numbers["eval"] = [result.history[-1]["eval/loss"]]
            (folder / f"{name}.json").write_text(json.dumps(numbers))

    def read() -> None:
        if rank == 1:
            raise DataError("no such file on this node")

    try:
        together(read)
    except DataError as error:
        (folder / f"{rank}.txt").write_text(str(error))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def curves(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, list[float]]]:
    """Curves of two workers, by run."""
    root = tmp_path_factory.mktemp("two")
    make_tiny_model(root / "model")
    make_tiny_model(root / "first", seed=1)
    # The last step has two rows, for one worker each.
    write_data(root / "data", count=14, confidences=(1.0, 0.7, 0.2))
    write_text(root / "data")  # the last step has one sequence, for one worker alone
    lora = {"rank": 4, "alpha": 8}
    jobs = []
    for objective in ("sft", "dpo"):
        for strategy in ("ddp", "fsdp2"):
            made = make_config(
                objective, num_workers=2, strategy=strategy, checkpoint_every_steps=2
            )
            jobs.append((f"{objective}-{strategy}", made.model_dump()))
    jobs.append(("sft-fsdp2-resumed", jobs[1][1]))
    for name, settings in jobs[2:4]:
        jobs.append((f"{name}-first", settings | {"dpo_reference": "first"}))
    jobs.append(
        (
            "dpo-fsdp2-lora",
            make_config("dpo", num_workers=2, strategy="fsdp2", lora=lora).model_dump(),
        )
    )
    jobs.append(
        (
            "sft-fsdp2-bf16",
            make_config(
                "sft",
                num_workers=2,
                strategy="fsdp2",
                precision="bf16",
                activation_checkpointing=True,
            ).model_dump(),
        )
    )
    for name in ("text-ddp", "text-fsdp2", "reward_model-fsdp2"):
        objective, strategy = name.split("-")
        made = make_config(objective, num_workers=2, strategy=strategy)
        jobs.append((name, made.model_dump()))
    made = make_config("reward_model", num_workers=2, strategy="fsdp2", lora=lora)
    jobs.append(("reward_model-fsdp2-lora", made.model_dump()))
    mp.spawn(_train_worker, args=(_free_port(), str(root), jobs), nprocs=2)
    found = {name: json.loads((root / f"{name}.json").read_text()) for name, _ in jobs}
    alike: dict[str, str] = {}
    for name, settings in jobs:
        alone = TrainingConfig(**(settings | {"num_workers": 1, "strategy": "ddp"}))
        # One worker trains the same whatever two of them share: such jobs have one run.
        first = alike.setdefault(alone.model_dump_json(), name)
        if first != name:
            (root / "one" / name).symlink_to(root / "one" / first)
            found[f"{name}-alone"] = found[f"{first}-alone"]
            continue
        result = run_here(
            _make_task(root, alone),
            root / "alone",
            keep=root / "one" / name,
        )
        found[f"{name}-alone"] = {
            "loss": curve(result),
            "norm": curve(result, "train/grad_norm"),
            "eval": [result.history[-1]["eval/loss"]],
        }
    found["folders"] = {"root": [str(root)]}  # type: ignore[list-item]
    return found


@pytest.mark.parametrize(
    "name",
    [
        "sft-ddp",
        "dpo-ddp",
        "sft-fsdp2",
        "dpo-fsdp2",
        "dpo-ddp-first",
        "dpo-fsdp2-first",
        "dpo-fsdp2-lora",
        "sft-fsdp2-resumed",
        "sft-fsdp2-bf16",
        "text-ddp",
        "text-fsdp2",
        "reward_model-fsdp2",
        "reward_model-fsdp2-lora",
    ],
)
def test_two_workers_repeat_the_numbers_of_one(
    name: str, curves: dict[str, dict[str, list[float]]]
) -> None:
    tolerance = PRECISION_OF_BF16 if name.endswith("bf16") else 1e-4
    ours, alone = curves[name], curves[f"{name}-alone"]
    assert len(ours["loss"]) == 4
    assert ours["loss"] == pytest.approx(alone["loss"], abs=tolerance)
    assert ours["norm"] == pytest.approx(alone["norm"], rel=10 * tolerance)
    assert ours["eval"] == pytest.approx(alone["eval"], abs=tolerance)


def test_a_sharded_checkpoint_is_a_plain_model(
    curves: dict[str, dict[str, list[float]]],
) -> None:
    from transformers import AutoModelForCausalLM

    (root,) = map(Path, map(str, curves["folders"]["root"]))
    for name in ("sft-fsdp2", "dpo-fsdp2-lora"):
        sharded = AutoModelForCausalLM.from_pretrained(root / "kept" / name / "step-4")
        alone = AutoModelForCausalLM.from_pretrained(root / "one" / name / "step-4")
        for (key, ours), wanted in zip(
            sharded.state_dict().items(), alone.state_dict().values(), strict=True
        ):
            torch.testing.assert_close(ours, wanted, rtol=0, atol=2e-4, msg=key)


def test_what_fails_on_one_worker_fails_on_all(
    curves: dict[str, dict[str, list[float]]],
) -> None:
    (root,) = map(Path, map(str, curves["folders"]["root"]))
    assert [(root / f"{r}.txt").read_text() for r in (0, 1)] == 2 * ["no such file on this node"]
