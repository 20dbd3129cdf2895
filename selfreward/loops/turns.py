"""How a model ends its turn: a task, since only a node with the model's files can say."""

from selfreward.engines.models import folder_on_this_node
from selfreward.loops.pools import PlacedModel


def turn_end(model: PlacedModel, trust_remote_code: bool) -> str:
    """The text with which the model ends its turn, such as `<|im_end|>`.

    Raises:
        ModelNotFoundError: this node cannot reach the model.
    """
    from selfreward.training.encoding import end_of_turn
    from selfreward.training.model import ModelSource, load_tokenizer
    from selfreward.training.setup import quiet_libraries

    quiet_libraries()
    folder = folder_on_this_node(model.ref, model.location)
    source = ModelSource(path=folder, trust_remote_code=trust_remote_code)
    return end_of_turn(load_tokenizer(source))
