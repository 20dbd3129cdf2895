"""The trained reward model as a function from a micro-batch to one score for each completion."""

from torch import Tensor
from torch.nn import functional

from selfreward.training.collate import Batch
from selfreward.training.policy import Policy


class RewardPolicy(Policy):
    """Wraps a sequence classifier of transformers with one output, or a PEFT model around one.

    Masks, shared prompts and sharding are those of `Policy`; only what comes out differs.
    """

    def forward(self, batch: Batch) -> Tensor:
        """Returns the score of each sequence, read at its last token, fp32, shape (S,).

        The head is applied in fp32: a score of bf16 has three digits, and two responses to one
        prompt often differ by less.
        """
        if batch.last_S is None:
            raise ValueError("the batch does not say where its sequences end")
        hidden_SD = self.hidden_states(batch).flatten(0, 1).index_select(0, batch.last_S)
        head_1D = self.causal_lm.score.weight
        return functional.linear(hidden_SD.float(), head_1D.float()).squeeze(1)
