"""Token ids: prompts as the engine feeds them, targets ended as the chat template ends a turn."""

import pytest
import torch

from selfreward.errors import DataError
from selfreward.records import Message, Preference, TrainingExample
from selfreward.training.collate import collate
from selfreward.training.encoding import (
    digest,
    encode_examples,
    encode_preferences,
    end_of_turn,
    labelled_digest,
)
from tests.tiny_model import make_tiny_tokenizer
from tests.training_data import make_examples, make_preferences

IM_START, IM_END = 257, 258


@pytest.fixture(scope="module")
def tokenizer():  # type: ignore[no-untyped-def]
    return make_tiny_tokenizer()


def test_the_end_of_a_turn_comes_from_the_template(tokenizer) -> None:  # type: ignore[no-untyped-def]
    assert end_of_turn(tokenizer) == "<|im_end|>"
    other = make_tiny_tokenizer()
    other.chat_template = (
        "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}"
        "{% if m['role'] == 'assistant' %}</done>{% endif %}{% endfor %}"
    )
    assert end_of_turn(other) == "</done>"
    other.chat_template = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"
    assert end_of_turn(other) == "<|im_end|>"  # nothing ends the turn: the end-of-sequence token


def test_a_row_is_the_rendered_prompt_and_the_ended_target(tokenizer) -> None:  # type: ignore[no-untyped-def]
    example = TrainingExample(
        id="exa-1",
        messages=(Message(role="user", content="2+2?"),),
        target="[[A]]",
        pair_id="pair-1",
        judgment_id=None,
        gold="first",
        counter_target="[[B]]",
    )
    (row,), dropped = encode_examples(tokenizer, [example], 100)
    assert dropped == 0
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "2+2?"}], add_generation_prompt=True, return_dict=True
    )["input_ids"]
    assert row.prompt.tolist() == prompt
    assert row.prompt[0] == IM_START
    (target,) = row.completions
    assert tokenizer.decode(target.tolist()) == "[[A]]<|im_end|>"
    assert target[-1] == IM_END
    (labelled,), _ = encode_examples(tokenizer, [example], 100, with_counter_target=True)
    assert [tokenizer.decode(c.tolist()) for c in labelled.completions] == [
        "[[A]]<|im_end|>",
        "[[B]]<|im_end|>",
    ]


def test_behind_a_text_that_was_cut_no_end_is_learnt(tokenizer) -> None:  # type: ignore[no-untyped-def]
    example = TrainingExample(
        id="exa-1",
        messages=(Message(role="user", content="Count."),),
        target="1, 2,",
        pair_id="ins-1",
        judgment_id=None,
        ended=False,
    )
    (row,), _ = encode_examples(tokenizer, [example], 100)
    assert [tokenizer.decode(c.tolist()) for c in row.completions] == ["1, 2,"]
    preference = Preference(
        id="pre-1",
        messages=example.messages,
        chosen="1, 2.",
        rejected="1, 2,",
        pair_id="ins-1",
        chosen_id="a",
        rejected_id="b",
        rejected_ended=False,
    )
    (row,), _ = encode_preferences(tokenizer, [preference], 100)
    assert [tokenizer.decode(c.tolist()) for c in row.completions] == ["1, 2.<|im_end|>", "1, 2,"]


def test_too_long_rows_are_left_out_whole_and_counted(tokenizer) -> None:  # type: ignore[no-untyped-def]
    preferences = make_preferences(10)
    everything, none_dropped = encode_preferences(tokenizer, preferences, 10_000)
    assert none_dropped == 0
    limit = sorted(r.longest_sequence for r in everything)[4]
    kept, dropped = encode_preferences(tokenizer, preferences, limit)
    assert dropped == 10 - len(kept) > 0
    whole = {r.id: digest([r]) for r in everything}
    assert all(digest([r]) == whole[r.id] and r.longest_sequence <= limit for r in kept)


def test_label_confidences_stay_with_their_rows(tokenizer) -> None:  # type: ignore[no-untyped-def]
    sure = encode_preferences(tokenizer, make_preferences(10), 10_000)[0]
    confidences = [i / 10 for i in range(10)]
    preferences = make_preferences(10, confidences)
    everything, _ = encode_preferences(tokenizer, preferences, 10_000)
    assert [r.label_confidence for r in everything] == confidences
    # Rows left out take theirs along.
    limit = sorted(r.longest_sequence for r in everything)[4]
    kept, _ = encode_preferences(tokenizer, preferences, limit)
    wanted = {p.id: p.label_confidence for p in preferences}
    assert 0 < len(kept) < 10
    assert all(r.label_confidence == wanted[r.id] for r in kept)
    # The tokens are the same, what is learnt from them is not.
    assert digest(everything) == digest(sure)
    assert labelled_digest(everything) != labelled_digest(sure)
    assert all(r.label_confidence == 1.0 for r in sure)


@pytest.mark.parametrize("confidence", [-0.1, 1.2, float("nan")])
def test_a_confidence_beyond_its_range_is_told(tokenizer, confidence: float) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError, match=r"^preference pre-1 has label_confidence=.*from 0 to 1$"):
        encode_preferences(tokenizer, make_preferences(2, [0.7, confidence]), 10_000)


def test_a_shared_prompt_row_by_hand(tokenizer) -> None:  # type: ignore[no-untyped-def]
    (row,), _ = encode_preferences(
        tokenizer,
        [
            Preference(
                id="p",
                messages=(Message(role="user", content=""),),
                chosen="x",
                rejected="yz",
                pair_id="p",
                chosen_id="",
                rejected_id="",
                gold="first",
            )
        ],
        100,
    )
    start = len(row.prompt)
    batch = collate([row], 0, share_prompt=True)
    # prompt, x <end>, y z <end>
    assert batch.input_ids_BT.shape == (1, start + 5)
    assert batch.position_ids_BT is not None and batch.segments_BT is not None
    assert batch.position_ids_BT[0, start:].tolist() == [
        start,
        start + 1,
        start,
        start + 1,
        start + 2,
    ]
    assert batch.segments_BT[0, start:].tolist() == [1, 1, 2, 2, 2]
    # The last prompt position predicts the first token of both completions.
    last = start - 1
    assert batch.source_N.tolist() == [last, start, last, start + 2, start + 3]
    assert batch.target_N.tolist() == [*row.completions[0], *row.completions[1]]
    assert batch.sequence_N.tolist() == [0, 0, 1, 1, 1]
    assert batch.lengths_S.tolist() == [2.0, 3.0]


def test_sft_rows_need_no_mask(tokenizer) -> None:  # type: ignore[no-untyped-def]
    rows, _ = encode_examples(tokenizer, make_examples(3), 10_000)
    batch = collate(rows, 0, share_prompt=True)
    assert batch.segments_BT is None and batch.position_ids_BT is None
    assert batch.target_N.shape == batch.source_N.shape
    flat = batch.input_ids_BT.flatten()
    assert torch.equal(flat[batch.source_N + 1], batch.target_N)
