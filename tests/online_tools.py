"""Online training in this process: a sampler of the tiny model, and a reward it can learn."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from selfreward.config_custom_llm import OnlineConfig, OnlineTraining
from selfreward.engines.models import model_fingerprint
from selfreward.judging.rewards import Reward
from selfreward.records import Message, derived_seed
from selfreward.training.model import ModelSource, load_tokenizer
from selfreward.training.online.loop import run_online
from selfreward.training.online.rollouts import Rollout, RolloutPrompt, Weights
from selfreward.training.online.scorers import Answered, Scorer
from selfreward.training.online.task import OnlineProgress, OnlineTask

MAX_TOKENS = 12


class TinyRollouts:
    """Samples from whatever weights were published last; all prompts must be of one length."""

    def __init__(self, group_size: int, seed: int = 0, gives_token_ids: bool = True) -> None:
        self.group_size, self.seed, self.gives_token_ids = group_size, seed, gives_token_ids
        self.published: list[Weights] = []

    def publish(self, weights: Weights) -> None:
        from transformers import AutoModelForCausalLM

        self.published.append(weights)
        self.tokenizer = load_tokenizer(ModelSource(path=weights.folder))
        self.model: Any = AutoModelForCausalLM.from_pretrained(weights.folder).eval()

    def expect(self, weights: Weights) -> None:
        self.publish(weights)

    def sample(self, prompts: Sequence[RolloutPrompt], step: int) -> list[Rollout]:
        chances = [
            torch.rand(
                self.group_size,
                MAX_TOKENS,
                generator=torch.Generator().manual_seed(derived_seed(self.seed, step, p.id)),
            )
            for p in prompts
        ]
        return self._write(prompts, self.group_size, torch.cat(chances) if chances else None)

    def greedy(self, prompts: Sequence[RolloutPrompt]) -> list[Rollout]:
        return self._write(prompts, 1, None)

    @torch.no_grad()
    def _write(
        self, prompts: Sequence[RolloutPrompt], n: int, chances: torch.Tensor | None
    ) -> list[Rollout]:
        if not prompts:
            return []
        turns = [[{"role": m.role, "content": m.content} for m in p.messages] for p in prompts]
        texts = self.tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True
        )
        ids = torch.tensor(self.tokenizer(texts, add_special_tokens=False)["input_ids"])
        new, past, drawn = ids.repeat_interleave(n, 0), None, []
        for position in range(MAX_TOKENS):
            out = self.model(input_ids=new, past_key_values=past, use_cache=True)
            past = out.past_key_values
            if chances is None:
                new = out.logits[:, -1].argmax(-1, keepdim=True)
            else:
                cumulated = out.logits[:, -1].double().softmax(-1).cumsum(-1)
                new = (cumulated < chances[:, position, None]).sum(-1, keepdim=True)
                new = new.clamp(max=cumulated.shape[1] - 1)
            drawn.append(new)
        return [
            self._rollout(prompts[row // n], row % n, tokens)
            for row, tokens in enumerate(torch.cat(drawn, 1).tolist())
        ]

    def _rollout(self, prompt: RolloutPrompt, draw: int, tokens: list[int]) -> Rollout:
        end = self.tokenizer.eos_token_id
        is_finished = end in tokens
        kept = tokens[: tokens.index(end) + 1] if is_finished else tokens
        return Rollout(
            prompt_id=prompt.id,
            draw=draw,
            text=self.tokenizer.decode(kept, skip_special_tokens=True),
            finish_reason="stop" if is_finished else "length",
            num_tokens=len(kept),
            token_ids=tuple(kept) if self.gives_token_ids else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LowerCaseScorer:
    """The share of small letters."""

    def check(self, prompts: Sequence[RolloutPrompt]) -> None:
        """Any prompt will do."""

    async def __call__(self, answered: Sequence[Answered]) -> list[Reward]:
        return [
            Reward(value=sum("a" <= c <= "z" for c in rollout.text) / MAX_TOKENS)
            for _, rollout in answered
        ]


def make_prompts(count: int) -> tuple[RolloutPrompt, ...]:
    return tuple(
        RolloutPrompt(id=f"p{i}", messages=(Message(role="user", content=f"say {i:02d}"),))
        for i in range(count)
    )


def make_online_config(**changes: Any) -> OnlineConfig:
    training: dict[str, Any] = {
        "learning_rate": 1e-2,
        "lr_schedule": "constant",
        "precision": "fp32",
        "tokens_per_micro_batch": 1024,
    }
    settings: dict[str, Any] = {
        "steps": 4,
        "prompts_per_step": 4,
        "group_size": 4,
        "truncated": "keep",
        "eval_every": 2,
        "training": OnlineTraining(**(training | changes.pop("training", {}))),
    }
    return OnlineConfig(**(settings | changes))


def make_online_task(model: Path, root: Path, config: OnlineConfig, **changes: Any) -> OnlineTask:
    settings: dict[str, Any] = {
        "source": ModelSource(path=str(model)),
        "start": Weights(step=0, folder=str(model), fingerprint=model_fingerprint(str(model))),
        "prompts": make_prompts(8),
        "eval_prompts": make_prompts(3),
        "config": config,
        "weights_root": str(root / "weights"),
        "seed": 1,
    }
    return OnlineTask(**(settings | changes))


def run_online_here(
    task: OnlineTask,
    root: Path,
    rollouts: TinyRollouts | None = None,
    scorer: Scorer | None = None,
    resume_from: Path | None = None,
) -> OnlineProgress:
    """Trains in this process; copies each reported checkpoint to `root/kept/step-N`."""

    def report(metrics: dict[str, float], folder: Path | None) -> None:
        if folder is not None:
            shutil.copytree(
                folder, root / "kept" / f"step-{int(metrics['step'])}", dirs_exist_ok=True
            )
        if dist.is_initialized():
            dist.barrier()

    return run_online(
        task,
        rollouts=rollouts or TinyRollouts(task.config.group_size),
        scorer=scorer or LowerCaseScorer(),
        device=torch.device("cpu"),
        scratch=root / "scratch",
        report=report,
        resume_from=resume_from,
    )


def rewards_of(progress: OnlineProgress) -> list[float]:
    return [row["rollout/reward"] for row in progress.history]
