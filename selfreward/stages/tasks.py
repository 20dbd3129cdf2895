"""Exercises of task fine-tuning and instruction tuning: read, split, trained on, answered.

`build_tasks` runs as one task on the cluster. What is held out is chosen by what is asked, not by
the prompt: an exercise in two prompt forms, or with two targets, is never on both sides.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from selfreward.config import SamplingConfig
from selfreward.config_custom_llm import TasksConfig
from selfreward.engines.protocol import Generate, GenerationRequest
from selfreward.errors import DataError
from selfreward.records import (
    DroppedRow,
    DropReason,
    TrainingExample,
    content_id,
    derived_seed,
)
from selfreward.records_custom_llm import TaskAnswer, TaskItem
from selfreward.stages.labelled import write_rows
from selfreward.stages.sample_exercises import EXERCISES
from selfreward.stages.sample_instructions import INSTRUCTION_TASKS
from selfreward.stages.sample_tasks import INSTRUCTIONS, TASKS, instruction_rows, task_rows
from selfreward.stages.sampling import failed, response_of, sampling_of
from selfreward.stages.task_rows import (
    STAGE,
    PosedTask,
    check_first_row,
    posed_tasks,
    raw_rows,
    reading_of,
)
from selfreward.storage.shards import RowResult, ShardSummary, read_records
from selfreward.text.task_templates import form_name, num_unseen_forms

SAMPLE_ROWS = 4000
"""Rows made of each sample where `max_items` does not say how many."""

_SAMPLES = {
    TASKS: (task_rows, tuple(EXERCISES)),
    INSTRUCTIONS: (instruction_rows, INSTRUCTION_TASKS),
}


def build_tasks(
    config: TasksConfig,
    max_chars: int,
    shard_size: int,
    seed: int,
    folders: Mapping[str, str],
    setting: str = "custom_llm.finetuning",
    kept_out: Collection[str] = (),
) -> dict[str, list[ShardSummary]]:
    """Writes TaskItem shards of the splits `train` and `heldout` into `folders[split]`.

    Held out are `config.heldout` items, each of another exercise: half of them, where their task
    has such, in prompt forms that no training item is in (`is_unseen_form` tells them).
    `config.max_items` counts both splits. `setting` is the section that messages name.
    Exercises of `kept_out` (`PosedTask.key`), which another stage of the run is measured on, are
    never trained on; they may be held out here too.

    Raises:
        ConfigError: a prompt form names a column that a file lacks.
        DataError: a file is unreadable, a task or check is unknown, or too few items are usable.
    """
    found, dropped = _exercises(config, max_chars, seed, setting)
    heldout, train = _split(config, found, seed, dropped, kept_out)
    if len(heldout) < config.heldout or not train:
        counts = Counter(drop.reason.value for drop in dropped)
        raise DataError(
            f"{', '.join(config.data)}: {len(heldout) + len(train)} usable items of {len(found)}"
            f" exercises are too few for {setting}.heldout={config.heldout} and at least one to"
            f" train on (dropped: {dict(counts) or 'none'})"
        )
    items = {
        "train": [_training_item(posed, config, seed) for posed in train],
        "heldout": _heldout_items(heldout, config, seed),
    }
    drops = {"train": dropped, "heldout": []}
    return {
        split: list(write_rows(folders[split], rows, drops[split], shard_size, TaskItem))
        for split, rows in items.items()
    }


def heldout_keys(config: TasksConfig, max_chars: int, seed: int, setting: str) -> list[str]:
    """The exercises (`PosedTask.key`) that `build_tasks` holds out of a section; errors as there,
    but for too few items."""
    found, dropped = _exercises(config, max_chars, seed, setting)
    heldout, _ = _split(config, found, seed, dropped)
    return [posed.key for posed in heldout]


def _exercises(
    config: TasksConfig, max_chars: int, seed: int, setting: str
) -> tuple[dict[str, dict[str, PosedTask]], list[DroppedRow]]:
    """The usable items of each exercise, by its key, and the rows that are none."""
    dropped: list[DroppedRow] = []
    found: dict[str, dict[str, PosedTask]] = {}
    tasks: set[str] = set()
    for path in config.data:
        if path in _SAMPLES:
            tasks.update(_SAMPLES[path][1])
        for made in _posed(path, config, max_chars, seed, setting):
            if isinstance(made, DroppedRow):
                dropped.append(made)
                continue
            tasks.add(made.task)
            if config.tasks and made.task not in config.tasks:
                continue
            targets = found.setdefault(made.key, {})
            ident = _ident(made)
            if ident in targets:
                dropped.append(_drop(made.key, "the same exercise stands above"))
            targets.setdefault(ident, made)
    unknown = [task for task in config.tasks if task not in tasks]
    if unknown:
        raise DataError(
            f"{setting}.tasks: no row has the task {unknown[0]!r}; there are {sorted(tasks)}"
        )
    return found, dropped


def _posed(
    path: str, config: TasksConfig, max_chars: int, seed: int, setting: str
) -> Iterator[PosedTask | DroppedRow]:
    reading = reading_of(path, config, max_chars, setting)
    if path in _SAMPLES:
        # Their rows bring their forms, and `target`.
        reading = replace(reading, templates=(), target_column="target")
        rows = _SAMPLES[path][0](config.max_items or SAMPLE_ROWS, seed, config.tasks)
    else:
        rows = raw_rows(path, f"{setting}.data")
    for number, row in enumerate(rows):
        if number == 0:
            check_first_row(row, reading)
        yield from posed_tasks(row, reading)


def _ident(posed: PosedTask) -> str:
    """What makes two items of one exercise one: equal prompts and targets."""
    turns = [[[m.role, m.content] for m in prompt] for prompt in posed.prompts]
    return content_id("posed", turns, posed.target)


def _split(
    config: TasksConfig,
    found: Mapping[str, Mapping[str, PosedTask]],
    seed: int,
    dropped: list[DroppedRow],
    kept_out: Collection[str] = (),
) -> tuple[list[PosedTask], list[PosedTask]]:
    """The held-out items, one of each exercise, and those to train on."""
    # By a hash of the content: the same rows in another order give the same split.
    keys = sorted(found, key=lambda key: (derived_seed(seed, STAGE, key), key))
    heldout: list[PosedTask] = []
    train: list[PosedTask] = []
    elsewhere = frozenset(kept_out)
    room = sum(map(len, found.values())) if config.max_items is None else config.max_items
    for key in keys:
        if room <= 0:
            break
        # Of a conversation the longest prompt, which has the others in it, comes last.
        items = sorted(found[key].values(), key=lambda p: (len(p.prompts[0]), _ident(p)))
        if len(heldout) < config.heldout:
            heldout.append(items[-1])
            dropped += [_drop(key, "its exercise is held out") for _ in items[:-1]]
            room -= 1
        elif key in elsewhere:
            dropped += [_drop(key, "another stage holds its exercise out") for _ in items]
        else:
            train += items[-room:]
            room -= len(items)
    return heldout, train


def _training_item(posed: PosedTask, config: TasksConfig, seed: int) -> TaskItem:
    num_seen = len(posed.prompts) - num_unseen_forms(len(posed.prompts), config.heldout_templates)
    form = derived_seed(seed, "form", _ident(posed)) % num_seen
    return _item(posed, form, unseen=False)


def _heldout_items(rows: Sequence[PosedTask], config: TasksConfig, seed: int) -> list[TaskItem]:
    items = []
    placed: Counter[str] = Counter()
    for posed in rows:
        unseen = num_unseen_forms(len(posed.prompts), config.heldout_templates)
        placed[posed.task] += 1
        if unseen and placed[posed.task] % 2:
            form = len(posed.prompts) - 1 - derived_seed(seed, "form", _ident(posed)) % unseen
            items.append(_item(posed, form, unseen=True))
        else:
            items.append(_training_item(posed, config, seed))
    return items


def _item(posed: PosedTask, form: int, unseen: bool) -> TaskItem:
    return TaskItem.new(
        task=posed.task,
        template=form_name(posed.task, form, unseen),
        messages=posed.prompts[form],
        target=posed.target,
        checks=posed.checks,
    )


def _drop(row_id: str, detail: str) -> DroppedRow:
    return DroppedRow(row_id=row_id, stage=STAGE, reason=DropReason.EXACT_DUPLICATE, detail=detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskExamples:
    """Exercises as training examples: the loss falls on the target alone."""

    name: str = "task_examples"
    out_type: type[TrainingExample] = TrainingExample

    def read(self, inputs: Sequence[str]) -> list[TaskItem]:
        return read_records(inputs[0], TaskItem)

    async def process(
        self, rows: Sequence[TaskItem], generate: Generate
    ) -> list[RowResult[TrainingExample]]:
        return [RowResult(row.id, [_example(row)]) for row in rows]


def _example(item: TaskItem) -> TrainingExample:
    return TrainingExample(
        id=content_id("exa", "task", item.id),
        messages=item.messages,
        target=item.target,
        pair_id=item.id,
        judgment_id=None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerTasks:
    """A model's answers to exercises, to be measured: empty and cut ones stay, as wrong as they
    are; only what the engine refuses for good is dropped."""

    sampling: SamplingConfig
    seed: int
    max_rows: int | None = None
    """Items of a shard that are answered, the first ones; None: all."""
    name: str = "answer_tasks"
    out_type: type[TaskAnswer] = TaskAnswer

    def read(self, inputs: Sequence[str]) -> list[TaskItem]:
        return read_records(inputs[0], TaskItem)[: self.max_rows]

    async def process(
        self, rows: Sequence[TaskItem], generate: Generate
    ) -> list[RowResult[TaskAnswer]]:
        completions = await generate([self._request(row) for row in rows])
        results = []
        for row, completion in zip(rows, completions, strict=True):
            result: RowResult[TaskAnswer] = RowResult(row.id)
            drop = failed(completion, row.id, self.name)
            if drop is None:
                response = response_of(completion, completion.draws[0], row.id)
                ident = content_id("tan", row.id, response.id)
                result.records.append(TaskAnswer(id=ident, item=row, response=response))
            else:
                result.dropped.append(drop)
            results.append(result)
        return results

    def _request(self, row: TaskItem) -> GenerationRequest:
        return GenerationRequest(
            id=f"{row.id}/{self.name}",
            purpose="respond",
            messages=row.messages,
            sampling=sampling_of(self.sampling, seed=derived_seed(self.seed, self.name, row.id)),
        )
