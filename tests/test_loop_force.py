"""`--force`: what is removed so that a stage is done again, in both loops."""

from pathlib import Path
from typing import Any

import pytest

from selfreward.errors import UserError
from selfreward.layout import Layout, join
from selfreward.loops.force import remove_from
from selfreward.storage import files

OF_BOTH = ("pool", "heldout/pool", "iter_01/training", "iter_01/checkpoint", "iter_02/evaluation")
SELF_REWARDING = (
    *("seeds/ift", "heldout/ift", "iter_01/eft_ratings", "iter_01/eft", "iter_01/examples"),
    *("iter_02/prompts/00", "iter_02/created/00", "iter_02/kept/00", "iter_02/responses"),
    *("iter_02/ratings", "iter_02/likelihoods/now", "iter_02/preferences", "iter_02/meta_pairs"),
    *("iter_02/training", "iter_00/evaluation"),
)
SELF_TAUGHT = ("iter_01/responses", "iter_01/pairs", "iter_01/judgments", "iter_01/examples")


def left_after(tmp_path: Path, kind: Any, stage: str, folders: tuple[str, ...]) -> set[str]:
    layout = Layout(str(tmp_path))
    for folder in (*OF_BOTH, *folders):
        files.write_bytes(join(layout.root, folder, "manifest.json"), b"{}")
    files.write_json(layout.current, {})
    remove_from(layout, stage, kind)
    assert not files.exists(layout.current)
    return {f for f in (*OF_BOTH, *folders) if files.exists(join(layout.root, f))}


def test_forcing_a_stage_removes_it_and_what_follows(tmp_path: Path) -> None:
    # Nothing of what M_1 was made of changes with the second iteration's scores.
    first = {
        *("pool", "heldout/pool", "seeds/ift", "heldout/ift", "iter_01/eft_ratings"),
        *("iter_01/eft", "iter_01/examples", "iter_01/training", "iter_01/checkpoint"),
        "iter_00/evaluation",
    }
    created = {"iter_02/prompts/00", "iter_02/created/00", "iter_02/kept/00"}
    left = left_after(tmp_path, "self_rewarding", "rate", SELF_REWARDING)
    assert left == first | created | {"iter_02/responses"}
    # A manifest calls a step by its own name: that of a round's filter is part of `create`.
    assert left_after(tmp_path, "self_rewarding", "filter", SELF_REWARDING) == first
    left = left_after(tmp_path, "self_rewarding", "seeds", SELF_REWARDING)
    assert left == {"pool", "heldout/pool"}
    assert left_after(tmp_path, "self_rewarding", "pool", SELF_REWARDING) == set()


def test_forcing_the_last_stage_keeps_the_models(tmp_path: Path) -> None:
    left = left_after(tmp_path, "self_rewarding", "evaluate", SELF_REWARDING)
    gone = {"iter_00/evaluation", "iter_02/evaluation"}
    assert left == {*OF_BOTH, *SELF_REWARDING} - gone


def test_forcing_in_the_self_taught_loop(tmp_path: Path) -> None:
    left = left_after(tmp_path, "self_taught", "judge", SELF_TAUGHT)
    assert left == {"pool", "heldout/pool", "iter_01/responses", "iter_01/pairs"}


@pytest.mark.parametrize(
    ("kind", "stage", "stages"),
    [
        ("self_rewarding", "judge", "pool, seeds, eft, create, sample, rate, prefer, train"),
        ("self_taught", "sample", "respond, corrupt, perturb, gather, judge, select, balance"),
    ],
)
def test_an_unknown_stage_lists_those_of_the_loop(
    tmp_path: Path, kind: Any, stage: str, stages: str
) -> None:
    files.write_bytes(f"{tmp_path}/pool/manifest.json", b"{}")
    with pytest.raises(UserError, match=rf"^--force {stage}: no such stage; .*{stages}"):
        remove_from(Layout(str(tmp_path)), stage, kind)
    assert files.exists(f"{tmp_path}/pool/manifest.json"), "nothing was removed"
