"""The prompt behind a reading or a created instruction, rendered again from the records.

Prompts are not stored: they follow from the records and a rubric. One of the user's own stands in
the recipe of the stage that read by it, so its file may be gone; a shipped one whose words have
changed since gives the prompt as it would be today.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

import pyarrow as pa

from selfreward.errors import ConfigError
from selfreward.judging.meta_judging import get_meta_rubric, render_meta
from selfreward.judging.pointwise import (
    POINTWISE_RUBRICS,
    PointwiseRubric,
    get_pointwise_rubric,
    render_pointwise,
)
from selfreward.judging.rubric_files import rubric_of_recipe
from selfreward.judging.rubrics import get_pairwise_rubric
from selfreward.judging.selection import judged_prompt
from selfreward.judging.self_instruct import render_creation
from selfreward.records import Conversation, Message, Position, ResponsePair
from selfreward.records_self_rewarding import RatingPair
from selfreward.reports.lineage import Entry, Shown
from selfreward.schemas import from_table, schema_of, to_row

RecordT = TypeVar("RecordT")

READINGS = ("Judgment", "Rating")
WRITTEN = ("CreationPrompt", "CreatedInstruction")


Recipes = Mapping[str, Mapping[str, Any]]
"""Flat recipes of stages, by folder."""
Prompt = list[dict[str, str]]


def prompt_of(
    target: str, entries: tuple[Entry, ...], shown: Mapping[str, Shown], recipes: Recipes
) -> Prompt | None:
    """What a judge or a writer of instructions was shown; None for anything else."""
    made = next((e for e in entries if e.id == target and e.record in (*READINGS, *WRITTEN)), None)
    return None if made is None else _prompt(made, entries, shown, recipes)


def side_prompts(
    target: str, entries: tuple[Entry, ...], shown: Mapping[str, Shown], recipes: Recipes
) -> dict[str, Prompt]:
    """What the scores of a preference's two responses were asked by, by response id.

    All draws of a response were asked the same. Empty for anything but a preference of responses:
    one of judgments holds their prompt itself.
    """
    found: dict[str, Prompt] = {}
    for preference in (e for e in entries if e.id == target and e.record == "Preference"):
        for side in (preference.row["chosen_id"], preference.row["rejected_id"]):
            read = (e for e in entries if e.record == "Rating" and e.row["response_id"] == side)
            reading = next(read, None)
            prompt = None if reading is None else _prompt(reading, entries, shown, recipes)
            if prompt is not None:
                found[side] = prompt
    return found


def _prompt(
    made: Entry, entries: tuple[Entry, ...], shown: Mapping[str, Shown], recipes: Recipes
) -> Prompt | None:
    try:
        if made.record in WRITTEN:
            messages = _creation_prompt(made, shown)
        elif made.record == "Judgment":
            messages = _judgment_prompt(made, entries, recipes)
        else:
            messages = _rating_prompt(made, entries, recipes)
    except ConfigError as unknown:
        return [{"role": "system", "content": f"(cannot be rendered: {unknown})"}]
    return None if messages is None else [to_row(m) for m in messages]


def _pointwise(rubric_id: str, reading: Entry, recipes: Recipes) -> PointwiseRubric:
    """The rubric of that id, by which or about which a reading was made.

    Raises:
        ConfigError: it is not shipped, and no recipe of the reading's stages holds it.
    """
    if rubric_id not in POINTWISE_RUBRICS:
        for folder in reading.folders:
            recipe = recipes.get(folder, {})
            if recipe.get("rubric.id") == rubric_id:
                own = {
                    k.removeprefix("rubric."): v
                    for k, v in recipe.items()
                    if k.startswith("rubric.")
                }
                return rubric_of_recipe(own)
    return get_pointwise_rubric(rubric_id)


def _creation_prompt(made: Entry, shown: Mapping[str, Shown]) -> Conversation | None:
    examples = [shown.get(shot) for shot in made.row["shot_ids"]]
    texts = [e.messages[0]["content"] for e in examples if e is not None]
    return render_creation(texts) if len(texts) == len(examples) else None


def _record(row: dict[str, Any], record: type[RecordT]) -> RecordT:
    kind: type = record
    (made,) = from_table(pa.Table.from_pylist([row], schema=schema_of(kind)), record)
    return made


def _judgment_prompt(
    reading: Entry, entries: tuple[Entry, ...], recipes: Recipes
) -> Conversation | None:
    about, rubric = reading.row["pair_id"], reading.row["rubric_id"]
    position = Position(reading.row["position"])
    for entry in entries:
        if entry.id == about and entry.record == "ResponsePair":
            pair = _record(entry.row, ResponsePair)
            return judged_prompt(get_pairwise_rubric(rubric), pair, position)
        if entry.id == about and entry.record == "RatingPair":
            two = _record(entry.row, RatingPair)
            judged_by = _pointwise(two.first.rubric_id, reading, recipes)
            meta = get_meta_rubric(rubric)
            return render_meta(meta, two.response, two.first, two.second, position, judged_by)
    return None


def _rating_prompt(
    reading: Entry, entries: tuple[Entry, ...], recipes: Recipes
) -> Conversation | None:
    wanted = reading.row["response_id"]
    texts: dict[str, tuple[Any, str]] = {}
    for entry in entries:
        row = entry.row
        if entry.record == "ScoredResponse":
            texts[row["id"]] = (row["messages"], row["response"])
        elif entry.record in ("AnsweredInstruction", "SampledInstruction"):
            for response in row["responses"] if "responses" in row else [row["response"]]:
                texts[response["id"]] = (row["instruction"]["messages"], response["text"])
    if wanted not in texts:
        return None
    messages, text = texts[wanted]
    rubric = _pointwise(reading.row["rubric_id"], reading, recipes)
    return render_pointwise(rubric, tuple(Message(**m) for m in messages), text)
