"""Which responses a judge's own model wrote, by the word of the files: for its self-preference."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from selfreward.records import ResponsePair
from selfreward.stages.labelled_meta import read_meta_text
from selfreward.storage.shards import read_records, sealed_shards

Side = Literal["chosen", "rejected"]

WRITERS: dict[str, Side] = {"chosen_model": "chosen", "rejected_model": "rejected"}
"""Keys of a pair's meta that name who wrote a response, to the response."""


def is_own(name: Any, names: Iterable[str]) -> bool:
    """Whether a file's `name` of a model is one of the judge's model."""
    return isinstance(name, str) and _plain(name) in {*map(_plain, names)}


def _plain(model: str) -> str:
    """A model's own name: `http://host/v1#Org/Judge-7B`, `Org/Judge-7B`, `Org/Judge-7B@main` and
    `judge-7b` are one."""
    name = re.split(r"[/#]", model.removeprefix("embedded:").rstrip("/"))[-1]
    return name.partition("@")[0].casefold()


def own_sides(metas: Mapping[str, Mapping[str, Any]], names: Iterable[str]) -> dict[str, Side]:
    """By pair id the response that the judge's model wrote, of pairs with exactly one of its own.

    `metas` is what the files say of their pairs, by pair id.
    """
    names = tuple(names)
    own: dict[str, Side] = {}
    for pair_id, meta in metas.items():
        sides = [side for key, side in WRITERS.items() if is_own(meta.get(key), names)]
        if len(sides) == 1:
            own[pair_id] = sides[0]
    return own


def own_sides_in(folders: Iterable[str], names: Iterable[str]) -> dict[str, Side]:
    """The same of the labelled pairs in stage folders."""
    urls = (url for folder in folders for url in sealed_shards(folder))
    return own_sides(metas_of(p for url in urls for p in read_records(url, ResponsePair)), names)


def metas_of(pairs: Iterable[ResponsePair]) -> dict[str, dict[str, Any]]:
    """What the file says of each pair besides, by pair id, where it says anything."""
    found = ((pair.id, read_meta_text(pair.meta)) for pair in pairs)
    return {pair_id: meta for pair_id, meta in found if meta is not None}
