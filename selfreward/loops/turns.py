"""What a model's tokenizer says, how a turn ends and how many tokens a text is: tasks, since only a
node with the model's files can say."""

from typing import Any

from selfreward.engines.chat_prompts import label_ids
from selfreward.engines.models import folder_on_this_node
from selfreward.loops.pools import PlacedModel


def turn_end(model: PlacedModel, trust_remote_code: bool) -> str:
    """The text with which the model ends its turn, such as `<|im_end|>`.

    Raises:
        ModelNotFoundError: this node cannot reach the model.
    """
    from selfreward.training.encoding import end_of_turn

    return end_of_turn(_tokenizer(model, trust_remote_code))


def token_counts(
    model: PlacedModel, trust_remote_code: bool, texts: tuple[str, ...]
) -> dict[str, int]:
    """Text → how many tokens it is, as the engine counts those whose probabilities are asked for.

    Raises:
        ModelNotFoundError: this node cannot reach the model.
    """
    found = label_ids(_tokenizer(model, trust_remote_code), texts)
    return {text: len(ids) for text, ids in found.items()}


def _tokenizer(model: PlacedModel, trust_remote_code: bool) -> Any:
    from selfreward.training.model import ModelSource, load_tokenizer
    from selfreward.training.setup import quiet_libraries

    quiet_libraries()
    folder = folder_on_this_node(model.ref, model.location)
    return load_tokenizer(ModelSource(path=folder, trust_remote_code=trust_remote_code))
