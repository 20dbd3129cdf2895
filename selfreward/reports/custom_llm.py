"""What a run of one's own LLM holds, for its tables: stages, figures, the probe's next tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group

from selfreward.config_custom_llm import STAGE_NUMBERS, Stage
from selfreward.layout import Layout, join
from selfreward.reports.next_token_table import Tokens
from selfreward.reports.stages import StageFigures, stages_view
from selfreward.storage import files


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmReport:
    """The figures of the stages that were measured, in order.

    Example: `LlmReport(rows=[StageFigures(…)], probe="The cat sat on the",
    next_tokens={"1 pretrain": [("Ġcat", 0.02), …]}, is_complete=False)`
    """

    rows: list[StageFigures]
    probe: str
    next_tokens: dict[str, Tokens]
    is_complete: bool

    def view(self) -> Group:
        """The tables."""
        return stages_view(self.rows, self.probe, self.next_tokens)


def read_llm(layout: Layout, stages: Sequence[Stage], probe: str) -> LlmReport:
    """Reads what was measured; stages that were not come later."""
    rows: list[StageFigures] = []
    next_tokens: dict[str, Tokens] = {}
    numbers = [0, *(STAGE_NUMBERS[stage] for stage in stages)]
    for number in numbers:
        folder = layout.evaluation(number)
        if not files.exists(join(folder, "stage.json")):
            continue
        row = StageFigures.from_dict(files.read_json(join(folder, "stage.json"))["figures"])
        rows.append(row)
        if files.exists(join(folder, "text.json")):
            found = files.read_json(join(folder, "text.json"))["next_tokens"]
            next_tokens[row.stage] = [(token, share) for token, share in found]
    return LlmReport(
        rows=rows, probe=probe, next_tokens=next_tokens, is_complete=len(rows) == len(numbers)
    )


def llm_folders(layout: Layout, stages: Sequence[Stage]) -> list[tuple[str, str]]:
    """Titles and folders of the run's steps, in the order in which they are made."""
    found = [
        (f"{name} text, {split}", join(layout.root, "corpus", name, split))
        for name in ("general", "domain")
        for split in ("train", "validation")
    ]
    for title, *names in (
        ("exercises", "tasks", "finetuning"),
        ("instructions", "tasks", "instruction_tuning"),
        ("rankings", "rankings"),
    ):
        found += [(f"{title}, {s}", join(layout.root, *names, s)) for s in ("train", "heldout")]
    for stage in stages:
        number = STAGE_NUMBERS[stage]
        found += [
            (f"{number} {stage}: pack", layout.stage(number, "tokens")),
            (f"{number} {stage}: pack what is replayed", layout.stage(number, "replay_tokens")),
            (f"{number} {stage}: examples", layout.examples(number)),
            (f"{number} {stage}: preferences", layout.preferences(number)),
            (f"{number} {stage}: reward model", layout.stage(number, "reward_model_training")),
            (f"{number} {stage}: train", layout.training(number)),
            (f"{number} {stage}: tasks", join(layout.evaluation(number), "tasks")),
            (f"{number} {stage}: instructions", join(layout.evaluation(number), "instructions")),
            (f"{number} {stage}: own answers", join(layout.evaluation(number), "own_answers")),
            (f"{number} {stage}: rewards", join(layout.evaluation(number), "rewards")),
        ]
    return found
