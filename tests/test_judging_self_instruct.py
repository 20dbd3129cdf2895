from collections import Counter

import pytest

from selfreward.judging.self_instruct import CreatedParts, render_creation, shots, split_creation
from selfreward.records import DropReason

SEEDS = [f"seed-{n}" for n in range(20)]
MADE = [f"made-{n}" for n in range(9)]


def choose(generated: list[str], seed: int = 0, seeds: list[str] | None = None) -> tuple[str, ...]:
    return shots(seeds or SEEDS, generated, num_seed=6, num_generated=2, seed=seed)


def texts(completion: str, finish_reason: str = "stop") -> tuple[str, ...]:
    parts = split_creation(completion, finish_reason, "split")
    assert bool(parts.texts) == (parts.reason is None or parts.left_out != "")
    return parts.texts


def reason(completion: str, finish_reason: str = "stop") -> DropReason | None:
    return split_creation(completion, finish_reason, "split").reason


def test_six_seeds_and_two_generated_are_shown() -> None:
    chosen = choose(MADE)
    assert Counter(i.split("-")[0] for i in chosen) == {"seed": 6, "made": 2}
    assert len(set(chosen)) == 8


def test_seeds_stand_in_for_generated_ones() -> None:
    assert all(i.startswith("seed") for i in choose([])) and len(set(choose([]))) == 8
    assert sum(i.startswith("made") for i in choose(MADE[:1])) == 1
    assert len(choose(MADE[:1])) == 8
    # Too few of both: all there are.
    assert sorted(choose(["made-0"], seeds=["seed-0", "seed-1"])) == ["made-0", "seed-0", "seed-1"]


def test_the_choice_follows_the_seed_alone() -> None:
    assert choose(MADE, seed=7) == choose(MADE, seed=7)
    assert len({choose(MADE, seed=n) for n in range(20)}) == 20
    # Generated examples come at any place, and every seed comes at some time.
    places = {choose(MADE, seed=n).index(i) for n in range(60) for i in choose(MADE, seed=n)[-1:]}
    assert places == {7}
    made_at = {k for n in range(80) for k, i in enumerate(choose(MADE, seed=n)) if "made" in i}
    assert made_at == set(range(8))
    assert {i for n in range(80) for i in choose(MADE, seed=n)} == {*SEEDS, *MADE}


def test_an_id_that_is_both_is_shown_once() -> None:
    for seed in range(20):
        chosen = choose(["seed-0", "seed-1"], seed=seed, seeds=SEEDS[:8])
        assert len(chosen) == len(set(chosen)) == 8
    with pytest.raises(ValueError, match="at least one seed"):
        shots([], MADE, num_seed=6, num_generated=2, seed=0)


def test_the_prompt_numbers_the_examples_and_asks_for_the_next() -> None:
    messages = render_creation(["Name a river.", "  Add 2 and 3. <|im_end|>\n"])
    assert [m.role for m in messages] == ["system", "user"]
    assert "Task 1: Name a river.\n\nTask 2: Add 2 and 3. < |im_end|>\n" in messages[1].content
    assert "Write task 3." in messages[1].content
    assert messages[1].content.endswith("\n\nTask 3:")
    with pytest.raises(ValueError, match="example"):
        render_creation([])


@pytest.mark.parametrize(
    "completion",
    [
        "Name three rivers of Asia.",
        " Task 9: Name three rivers of Asia.\n",
        "**Task 9:** Name three rivers of Asia.",
        "**Task 9: Name three rivers of Asia.**",
        "### Task 9\nName three rivers of Asia.",
        "Task #9 - Name three rivers of Asia.",
        "9. Name three rivers of Asia.",
        "9) **Name three rivers of Asia.**",
        "- Name three rivers of Asia.",
        '"Name three rivers of Asia."',
        "\u201cName three rivers of Asia.\u201d",
        'Task 9: "Name three rivers of Asia."',
        '"Task 9: Name three rivers of Asia."',
        "Of course! I'd be happy to help.\n\nThe next task is: Name three rivers of Asia.",
        "New task: Name three rivers of Asia.",
        "Instruction: Name three rivers of Asia.",
        "Sure! Here is a new task:\n\nName three rivers of Asia.",
        "Here's one more task for you: Name three rivers of Asia.",
        "Sure, here is task 9:\n\nTask 9: Name three rivers of Asia.",
        "User: Name three rivers of Asia.",
        # Answers behind the task go.
        "Name three rivers of Asia.\n\nAnswer: Ganges, Mekong, Ob.",
        "Task 9: Name three rivers of Asia. Answer: Ganges, Mekong, Ob.",
        "Name three rivers of Asia.\n**Response:** Ganges.\nOutput: Mekong",
        "Name three rivers of Asia.\n\n## Sample answer:\nGanges",
        "Name three rivers of Asia.\nAssistant: Ganges.\nUser: Thanks",
        "Task 9: Name three rivers of Asia.\n\n---\n",
        "Task 9: Name three rivers of Asia.\n\nTask 10:",
    ],
)
def test_one_task_is_read_however_it_is_dressed(completion: str) -> None:
    assert texts(completion) == ("Name three rivers of Asia.",)
    dropped = split_creation(completion, "stop", "drop")
    assert dropped.texts == ("Name three rivers of Asia.",)


@pytest.mark.parametrize(
    "completion",
    [
        "Name a river.\n\nTask 10: Add 2 and 3.\n\nTask 11: Why is it dark at night?",
        "Task 9: Name a river.\nTask 10: Add 2 and 3.\nTask 11: Why is it dark at night?",
        "Task 9: Name a river. Task 10: Add 2 and 3. Task 11: Why is it dark at night?",
        "**Task 9:** Name a river.\nAnswer: Ob\n**Task 10:** Add 2 and 3.\nAnswer: 5\n"
        "**Task 11:** Why is it dark at night?\nAnswer: The sun is below the horizon.",
        "9. Name a river.\n10. Add 2 and 3.\n11. Why is it dark at night?",
        "Here are three new tasks:\n1. Name a river.\n2. **Add 2 and 3.**\n3. Why is it dark at"
        " night?",
        "- Name a river.\n- Add 2 and 3.\n- Why is it dark at night?",
        "1. Task: Name a river.\n2. Task: Add 2 and 3.\n3. Task: Why is it dark at night?",
        "Instruction 1: Name a river.\nInstruction 2: Add 2 and 3.\n"
        "Instruction 3: Why is it dark at night?",
    ],
)
def test_several_tasks_are_split_or_dropped(completion: str) -> None:
    assert texts(completion) == ("Name a river.", "Add 2 and 3.", "Why is it dark at night?")
    assert split_creation(completion, "stop", "drop") == CreatedParts(
        texts=(), reason=DropReason.SEVERAL_INSTRUCTIONS
    )


@pytest.mark.parametrize(
    "task",
    [
        "Rank these planets by size:\n1. Mars\n2. Venus\n3. Earth",
        "Write a shopping list with:\n- apples\n- pears",
        "Question the witness in my story: what did she see?",
        "Task a robot with the dishes. Write its plan.",
        'Explain the words "sun" and "moon" to "me"',
        "**Fix** this code:\n\nx = = 3\n\nand say **why**",
        "Reply in this form:\nAnswer: <one word>",
        "Sort numbers.\nExample:\nInput: 2 1\nOutput: 1 2\n\nInput: 5 4 3",
        "Is the answer 42? Explain.",
        "Great poems are short. Write one.",
        "Here is a list of numbers: 4, 7, 9. Find their mean.",
        "Here is a math problem: 3x + 5 = 20. Solve it.",
        "The next king: who was it after Charles I?",
        "The problem is that I sleep badly. Any advice?",
    ],
)
def test_a_task_keeps_what_belongs_to_it(task: str) -> None:
    assert texts(task) == (task,)
    assert texts(f"Task 9: {task}") == (task,)


def test_lists_inside_tasks_of_a_list_stay() -> None:
    completion = "9. Rank these:\n1. Mars\n2. Venus\n10. Name a river."
    assert texts(completion) == ("Rank these:\n1. Mars\n2. Venus", "Name a river.")


def test_a_cut_last_task_is_left_out() -> None:
    half = "Task 9: Name a river.\nTask 10: Explain why the"
    assert texts(half, "length") == ("Name a river.",)
    parts = split_creation(half, "length", "split")
    # It does not go without a word.
    assert (parts.reason, parts.left_out) == (
        DropReason.TRUNCATED_INSTRUCTION,
        "Explain why the",
    )
    assert reason("Explain why the", "length") is DropReason.TRUNCATED_INSTRUCTION
    assert reason("Explain why the", "stop") is None
    # The answer was cut, not the task.
    assert texts("Name a river.\nAnswer: The", "length") == ("Name a river.",)
    # Cut right behind the label of the next one.
    assert texts("Name a river.\n\nTask 10:", "length") == ("Name a river.",)
    # The cut one counts as one of several.
    dropped = split_creation("Name a river.\nTask 10: Expl", "length", "drop")
    assert dropped.reason is DropReason.SEVERAL_INSTRUCTIONS


@pytest.mark.parametrize("completion", ["", " \n ", "Task 9:", '""', "Answer: 42", "**", "---"])
def test_nothing_written_is_empty(completion: str) -> None:
    assert reason(completion) is DropReason.EMPTY_INSTRUCTION
    assert reason(completion, "length") is DropReason.TRUNCATED_INSTRUCTION
