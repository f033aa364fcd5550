"""Conversations as what a model is tuned on: which tokens are learned, and how they lie in blocks."""

from pathlib import Path

import pytest

import bestiary
from bestiary.errors import InputError
from bestiary.text.collate import IGNORED
from bestiary.text.conversations import Example, example_of, fill_blocks, form_of
from bestiary.text.finetuning_language import PackedBlocks

ANIMALS = Path(__file__).parent / "animals.jsonl"


@pytest.fixture(scope="module")
def model():
    return bestiary.load("smollm2-135m-instruct")


def learned(example: Example, model) -> str:
    return model.rules.decode([label for label in example.labels if label != IGNORED], skip_special_tokens=False)


def test_of_messages_those_of_the_assistant_are_learned(model):
    messages = [
        {"role": "user", "content": "Say one."},
        {"role": "assistant", "content": "One."},
        {"role": "user", "content": "And two."},
        {"role": "assistant", "content": "Two."},
    ]
    example = example_of({"messages": messages}, ("messages",), model)
    assert learned(example, model) == "One.<|im_end|>\nTwo.<|im_end|>\n"
    whole = model.rules.decode(example.tokens, skip_special_tokens=False)
    assert whole == model.template(messages[:3]) + model.template.answer(messages)
    asked = model.rules.encode(model.template(messages[:1]), add_special_tokens=False).ids
    assert example.tokens[: len(asked)] == asked and set(example.labels[: len(asked)]) == {IGNORED}  # as generation reads it


def test_of_a_prompt_and_its_answer_the_answer(model):
    example = example_of({"prompt": "Say one.", "answer": "One."}, ("prompt", "answer"), model)
    assert learned(example, model) == "One.<|im_end|>\n"


def test_of_a_text_all_of_it(model):
    example = example_of({"text": "Once upon"}, ("text",), model)
    assert example.tokens == example.labels and learned(example, model).startswith("Once upon")
    assert example.tokens[-1] == model.preprocess.end_tokens[0] and example.learned == len(example.tokens) - 1


@pytest.mark.parametrize(
    ("messages", "complaint"),
    [
        ([{"role": "user", "content": "Hello"}], "no message of the assistant"),
        ([{"role": "assistant"}], "lacks a role or a content"),
    ],
)
def test_messages_that_nobody_can_learn_from(model, messages, complaint):
    with pytest.raises(InputError, match=complaint):
        example_of({"messages": messages}, ("messages",), model)


def test_columns_that_say_what_is_to_be_learned():
    assert form_of(["id", "text"], "data") == ("text",)
    assert form_of(["prompt", "answer", "text"], "data") == ("prompt", "answer")
    with pytest.raises(InputError, match="has the columns question\nwanted: messages; or prompt, answer; or text"):
        form_of(["question"], "data")


def test_blocks_are_filled_and_no_token_is_learned_twice():
    examples = [Example(list(range(size)), [IGNORED, *range(1, size)]) for size in (3, 9, 4, 5, 2)]
    blocks = fill_blocks(examples, 9)
    assert [sorted(len(example.tokens) for example in block) for block in blocks] == [[9], [4, 5], [2, 3]]
    assert [len(example.tokens) for example in fill_blocks([Example([1] * 30, [1] * 30)], 9)[0]] == [9]
    assert fill_blocks([Example([1] * 12, [IGNORED] * 10 + [1] * 2)], 9) == []  # what is left teaches nothing
    packed = PackedBlocks()(blocks, ())
    assert packed.mask.lengths == (9, 5, 4, 3, 2)
    assert packed.labels[:9].tolist() == [*range(1, 9), IGNORED]
    assert int((packed.labels >= 0).sum()) == sum(example.learned for example in examples)
