"""A reward model in memory: from a conversation and a response to its score."""

from collections.abc import Sequence

from selfreward.engines.chat_prompts import ChatPrompts
from selfreward.errors import EngineError, ModelNotFoundError
from selfreward.records import Conversation, Message

ENDS_WITH = "reward_ends_with"
"""Field of the config of reward models trained here: the text behind the assistant's words at
which they read the score."""


class Classifier:
    """A sequence classifier of transformers with one output, and its tokenizer.

    Raises:
        ModelNotFoundError: the folder holds none.
        EngineError: it has several outputs, or its tokenizer no chat template.
    """

    def __init__(
        self, folder: str, *, dtype: str, device: str, trust_remote_code: bool = False
    ) -> None:
        """`dtype` is that of the engine's config: "auto", "bfloat16", "float16" or "float32"."""
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        options = {"trust_remote_code": trust_remote_code}
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        dtypes = {"auto": "auto", "bfloat16": torch.bfloat16, "float16": torch.float16}
        try:
            model = AutoModelForSequenceClassification.from_pretrained(
                folder, dtype=dtypes.get(dtype, torch.float32), **options
            )
        except (OSError, ValueError) as error:
            raise ModelNotFoundError(f"no sequence classifier at {folder!r}: {error}") from error
        config = model.config
        if config.num_labels != 1:
            raise EngineError(
                f"{folder!r} is a classifier with {config.num_labels} outputs; a reward model has"
                " one"
            )
        # Decoder models read the score at the last token that is not padding. What the model was
        # trained with comes first: a padding token that also ends a turn would move that place.
        known = (config.pad_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id)
        self._pad_id = next(i for i in known if i is not None)
        config.pad_token_id = self._pad_id
        self._ends_with: str | None = getattr(config, ENDS_WITH, None)
        self._model = model.eval().to(device)
        self._device = device
        head = getattr(model, "score", None)
        if isinstance(head, torch.nn.Linear):
            # A score of bf16 has three digits; responses to one prompt often differ by less.
            head.float().register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))
        self._prompts = ChatPrompts(tokenizer, folder)

    def token_ids(self, messages: Conversation, response: str) -> list[int]:
        """Token ids of a conversation with the response as its last turn, as the model learnt them.

        A model trained here gets what training made of them: the prompt as an engine is fed it,
        then the response up to the end of its turn. Any other gets the whole conversation as its
        chat template renders it, which is how reward models are commonly trained.

        Raises:
            RequestRefusedError: the chat template has no place for these turns.
        """
        if self._ends_with is None:
            turns = (*messages, Message(role="assistant", content=response))
            return self._prompts.whole_ids(turns)
        prompt, target = self._prompts.target_ids(messages, response + self._ends_with)
        return prompt + target

    def scores(self, rows: Sequence[list[int]]) -> list[float]:
        """Scores of rows of token ids, computed as one padded batch."""
        import torch

        width = max(len(r) for r in rows)
        ids_BT = torch.tensor([r + [self._pad_id] * (width - len(r)) for r in rows])
        mask_BT = torch.tensor([[1] * len(r) + [0] * (width - len(r)) for r in rows])
        with torch.inference_mode():
            out = self._model(
                input_ids=ids_BT.to(self._device), attention_mask=mask_BT.to(self._device)
            )
        scores: list[float] = out.logits[:, 0].float().tolist()
        return scores
