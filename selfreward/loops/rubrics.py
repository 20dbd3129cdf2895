"""The rubric that a recipe names: one that is shipped, or a YAML file of the user's own."""

from selfreward.errors import ConfigError
from selfreward.judging.pointwise import PointwiseRubric, get_pointwise_rubric
from selfreward.judging.rubric_files import rubric_from_text
from selfreward.layout import absolute_path
from selfreward.storage import files


def load_pointwise_rubric(name_or_path: str) -> PointwiseRubric:
    """Returns the rubric of a known id, or reads the one at a path or URL that ends in .yaml or
    .yml.

    Raises:
        ConfigError: an unknown id, no file, or a file that holds no rubric.
        StorageError: the file cannot be read.
    """
    if not name_or_path.endswith((".yaml", ".yml")):
        return get_pointwise_rubric(name_or_path)
    try:
        # utf-8-sig: some editors put a byte order mark in front.
        text = files.read_bytes(absolute_path(name_or_path)).decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(
            f"no rubric file at {name_or_path}; set rating.rubric to a file or a known id"
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{name_or_path}: not UTF-8; save the rubric as UTF-8 text") from None
    return rubric_from_text(text, name_or_path)
