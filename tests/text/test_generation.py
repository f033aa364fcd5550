"""Language models from the outside: texts in, texts out."""

import copy
import pickle
import threading

import pytest
import torch
from transformers import PreTrainedTokenizerFast

import bestiary
from bestiary.errors import InputError
from bestiary.text.options import OneOf
from bestiary.text.stream import TextStream
from bestiary.text.tasks.generation import LanguageModel
from bestiary.text.writing import Generated
from tests.tables import table_of
from tests.text.models import TEMPLATE, TEXTS, byte_tokenizer, write_model

QUESTION = [{"role": "user", "content": "Why?"}]
PROMPTS = ["Gravity is", "The cat sleeps in the sun because", "yes", "Жираф"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def model(folder):
    return bestiary.load(folder)


@pytest.fixture(scope="module")
def draft(tmp_path_factory):
    return bestiary.load(write_model(tmp_path_factory.mktemp("models") / "draft", seed=1, layers=1))


def greedy(model, prompt, count):
    """The same by the net alone, without cache or loop of ours."""
    tokens = model.rules.encode(prompt).ids
    start = len(tokens)
    while len(tokens) < start + count:
        with torch.no_grad():
            tokens.append(int(model.net(torch.tensor([tokens]))[0, -1].argmax()))
        if tokens[-1] in model.preprocess.end_tokens:
            break
    return tokens[start:]


def test_the_likeliest_text_by_default(model):
    assert isinstance(model, LanguageModel)
    for prompt in PROMPTS:
        answer = model.generate(prompt, max_new_tokens=20, details=True)
        assert [token.id for token in answer.tokens] == greedy(model, prompt, 20)


def test_one_gives_one_a_list_a_list_an_iterator_an_iterator(model):
    alone = [model.generate(prompt, max_new_tokens=12) for prompt in PROMPTS]
    assert all(isinstance(text, str) for text in alone)
    assert model.generate(PROMPTS, max_new_tokens=12) == alone
    assert model.generate(PROMPTS, max_new_tokens=12, batch_size=2) == alone
    answers = model.generate(iter(PROMPTS), max_new_tokens=12, batch_size=3)
    assert next(answers) == alone[0] and list(answers) == alone[1:]
    assert model.generate([]) == []


def test_pieces_are_the_text_and_break_no_character(model):
    bias = {token: 12.0 for token in model.rules.encode("🦒Ж").ids}  # characters of several bytes, often broken
    options = {"max_new_tokens": 40, "temperature": 1.0, "seed": 5, "logit_bias": bias}
    pieces = list(model.stream("Жираф", **options))
    answer = model.generate("Жираф", **options, details=True)
    whole = model.rules.decode([token.id for token in answer.tokens])
    assert "".join(pieces) == answer.text == whole.rstrip("�")  # bytes that never made a character are in neither
    assert len(pieces) > 20 and len("".join(pieces).encode()) > 60


def test_a_character_comes_once_it_is_whole():
    rules = byte_tokenizer()
    tokens = rules.encode("a🐙b").ids
    assert len(tokens) > 4
    stream = TextStream(rules, [], ())
    assert [piece for token in tokens if (piece := stream.feed(token))] == ["a", "🐙", "b"]


@pytest.mark.parametrize(
    ("stops", "pieces"),
    [((), "abcabd"), (("abd",), "abc"), (("zz",), "abcabd"), (("d",), "abcab"), (("abcabdx", "ca"), "ab"),
     (("bcx", "cab"), "ab")],
)
def test_a_text_ends_before_a_stop_string(stops, pieces):
    rules = byte_tokenizer([])
    stream = TextStream(rules, [], stops)
    said = []
    for letter in "abcabd":
        said.append(stream.feed(rules.token_to_id(letter)))
        if stream.stopped:
            break
    assert "".join(said) + stream.finish() == pieces
    assert stream.stopped == (pieces != "abcabd")


def test_stop_strings_end_the_text(model):
    whole = model.generate("Gravity is", max_new_tokens=30)
    for stop in (whole[7:10], [whole[12:14], "never there"]):
        answer = model.generate("Gravity is", max_new_tokens=30, stop=stop, details=True)
        found = min(place for text in ([stop] if isinstance(stop, str) else stop) if (place := whole.find(text)) >= 0)
        assert answer.text == whole[:found] and answer.finish == "stop"
    assert model.generate("Gravity is", max_new_tokens=30, stop="a text that never comes") == whole


def test_details(model):
    answer = model.generate("Gravity is", max_new_tokens=5, details=True)
    assert isinstance(answer, Generated) and answer.finish == "length" and len(answer.tokens) == 5
    with torch.no_grad():
        tokens = model.rules.encode("Gravity is").ids
        expected = model.net(torch.tensor([tokens]))[0, -1].log_softmax(-1).max()
    assert abs(answer.tokens[0].log_probability - float(expected)) < 1e-4
    end = greedy(model, "Gravity is", 3)[2]
    ended = model.generate("Gravity is", details=True, logit_bias={model.preprocess.end_tokens[0]: 1e4})
    assert ended.finish == "end" and ended.text == "" and len(ended.tokens) == 1 and end >= 0


def test_choices(model):
    for choices in (["yes", "no", "maybe"], ["yes", "yes no"], ["Ä"]):
        for prompt in PROMPTS:
            answer = model.generate(prompt, choices=choices, details=True)
            assert answer.text in choices and answer.finish == "end"
    drawn = {model.generate("yes", choices=["yes", "no"], temperature=50.0, seed=seed) for seed in range(20)}
    assert drawn == {"yes", "no"}


def test_one_of_several():
    allowed = OneOf([[1, 2], [1, 2, 3], [4]], end_tokens=[9])
    assert allowed([]) == [1, 4] and allowed([1]) == [2] and allowed([1, 2]) == [3, 9]
    assert allowed([4]) == [] and allowed([1, 2, 3]) == [] and allowed([1, 2, 9]) == []


def test_a_draft_changes_nothing(model, draft):
    for options in ({}, {"stop": "e"}, {"min_new_tokens": 8}):
        options = {"max_new_tokens": 20, **options}
        assert model.generate(PROMPTS, draft=draft, **options) == model.generate(PROMPTS, **options)
        assert "".join(model.stream("yes", draft=draft, **options)) == model.generate("yes", **options)


def test_a_draft_of_another_kind_is_refused(model, tmp_path):
    other = bestiary.load(write_model(tmp_path / "other", tokenizer=byte_tokenizer(["other words"], 300)))
    for wrong in (other, "draft"):
        with pytest.raises(bestiary.InputError, match="does not have the tokenizer of tiny"):
            model.generate("yes", draft=wrong)
    with pytest.raises(bestiary.InputError, match="choices"):
        model.generate("yes", draft=model, choices=["a"])


def test_chat_speaks_through_the_models_template(model, folder):
    conversation = [{"role": "system", "content": "Be {{ brief }}."}, {"role": "user", "content": "Why \"so\"?\n"}]
    reference = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), chat_template=TEMPLATE)
    expected = reference.apply_chat_template(conversation, add_generation_prompt=True, tokenize=False)
    assert model.template(conversation) == expected
    assert model.chat(conversation, max_new_tokens=9) == model.generate(expected, max_new_tokens=9)
    assert "".join(model.stream_chat("Why?", max_new_tokens=9)) == model.chat(QUESTION, max_new_tokens=9)


def test_a_template_runs_in_a_sandbox(tmp_path):
    templates = ["{{ messages.__class__.__mro__[1].__subclasses__() }}", "{{ ''.__class__.mro() }}",
                 "{{ raise_exception('no system role') }}", "{{ 1 / 0 }}", "{{ missing.thing }}"]  # fmt: skip
    for number, template in enumerate(templates):
        hostile = bestiary.load(write_model(tmp_path / f"hostile-{number}", template=template))
        with pytest.raises(bestiary.InputError, match="the chat template refuses"):
            hostile.chat("Hello")


def test_templates_that_are_none(tmp_path):
    with pytest.raises(bestiary.InputError, match="none has no chat template"):
        bestiary.load(write_model(tmp_path / "none", template=None)).chat("Hello")
    with pytest.raises(bestiary.LayoutError, match="not valid Jinja"):
        bestiary.load(write_model(tmp_path / "broken", template="{% if %}")).chat("Hello")


@pytest.mark.parametrize(
    "messages", [[], 3, [{"role": "user"}], [{"content": "a"}], [{"role": "user", "content": 3}], ["a"], None]
)
def test_what_are_no_messages(model, messages):
    with pytest.raises(bestiary.InputError, match=r"message"):
        model.chat(messages)


@pytest.mark.parametrize(
    ("prompt", "options", "message"),
    [
        (3, {}, "int is not a text"),
        ([3], {}, "input 0 is not a text but int"),
        (None, {}, "NoneType is not a text"),
        ("", {}, "a prompt has 0 tokens, and tiny takes 1 to 95"),
        ("yes no " * 96, {}, "a prompt has 1.. tokens, and tiny takes 1 to 95"),
        ("yes", {"temperature": -1}, "temperature=-1 is out of range"),
        ("yes", {"temprature": 1}, "no option temprature"),
        ("yes", {"max_new_tokens": 0}, "max_new_tokens=0"),
        ("yes", {"max_new_tokens": 2.5}, "max_new_tokens=2.5"),
        ("yes", {"min_new_tokens": -1}, "min_new_tokens=-1"),
        ("yes", {"stop": ""}, "stop="),
        ("yes", {"choices": []}, "choices="),
        ("yes", {"choices": "yes"}, "choices="),
        ("yes", {"logit_bias": {"yes no": 1.0}}, "not one token"),
        ("yes", {"logit_bias": {10**6: 1.0}}, "not one token"),
        ("yes", {"batch_size": 0}, "batch_size=0"),
    ],
)
def test_bad_input_is_refused(model, prompt, options, message):
    prompt = [prompt] if "batch_size" in options else prompt
    with pytest.raises(bestiary.InputError, match=message) as error:
        model.generate(prompt, **options)
    assert len(str(error.value).splitlines()) <= 3
    if isinstance(prompt, str) and prompt == "yes" and "temperature" in options:
        with pytest.raises(bestiary.InputError):
            model.stream(prompt, **options)  # at once, not at the first piece


def test_a_text_ends_where_the_context_does(model):
    prompt = "yes no " * 10
    length = len(model.rules.encode(prompt).ids)
    answer = model.generate(prompt, max_new_tokens=1000, min_new_tokens=1000, details=True)
    assert len(answer.tokens) == 96 - length and answer.finish == "length"


def test_a_tokenizer_of_another_model_is_refused(tmp_path):
    folder = write_model(tmp_path / "wrong", vocabulary=300)
    with pytest.raises(bestiary.LayoutError, match="has tokens up to 329, the net knows 300"):
        bestiary.load(folder)


def reads(model, call):
    """How many tokens the net reads during a call."""
    counts, net = [], model.inference.derived()
    hook = net.embedding.register_forward_hook(lambda module, inputs, output: counts.append(inputs[0].numel()))
    call()
    hook.remove()
    return sum(counts)


def test_a_conversation_is_read_once(model):
    model = copy.deepcopy(model)
    conversation = [{"role": "user", "content": "The cat sleeps. Gravity is a force."}]
    answer = model.chat(conversation, max_new_tokens=8)
    whole = model.template([*conversation, {"role": "assistant", "content": answer}, {"role": "user", "content": "why?"}])
    first = reads(copy.deepcopy(model), lambda: None) + len(model.rules.encode(whole).ids)
    assert reads(model, lambda: model.generate(whole, max_new_tokens=1)) < first - 20
    assert model.generate(whole, max_new_tokens=8) == copy.deepcopy(model).generate(whole, max_new_tokens=8)


def test_changed_weights_are_not_answered_from_the_past(model):
    model = copy.deepcopy(model)
    prompt = "Gravity is a force between masses."
    before = model.generate(prompt, max_new_tokens=8)
    with torch.no_grad():
        for parameter in model.net.parameters():
            parameter.mul_(1.3).add_(0.05)
    after = model.generate(prompt, max_new_tokens=8)
    assert after == copy.deepcopy(model).generate(prompt, max_new_tokens=8) and after != before


def test_an_abandoned_stream_does_no_harm(model):
    model = copy.deepcopy(model)
    expected = model.generate("Gravity is a force between", max_new_tokens=12)
    stream = model.stream("Gravity is a force between", max_new_tokens=12)
    next(stream)
    stream.close()
    assert model.generate("Gravity is a force between", max_new_tokens=12) == expected


def test_several_threads_at_once(model):
    prompts = [f"{text} {number}" for number, text in enumerate(TEXTS * 3)]
    expected = [model.generate(prompt, max_new_tokens=10) for prompt in prompts]
    answers = {}

    def work(start):
        for index in range(start, len(prompts), 4):
            answers[index] = model.generate(prompts[index], max_new_tokens=10)

    threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answers[index] for index in range(len(prompts))] == expected


def test_copies_answer_the_same(model, tmp_path):
    expected = model.generate(PROMPTS, max_new_tokens=6)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other.generate(PROMPTS, max_new_tokens=6) == expected
    model.save(tmp_path / "saved")
    saved = bestiary.load(tmp_path / "saved")
    assert saved.generate(PROMPTS, max_new_tokens=6) == expected
    assert saved.chat("why?", max_new_tokens=6) == model.chat("why?", max_new_tokens=6)


def test_report(model):
    report = model.report(["why?"])
    assert report.records == [{"prompt": "why?", "text": model.chat("why?")}]


def test_answers_are_rows_of_a_table_with_a_chat_template_and_without(model, tmp_path):
    assert table_of(model, ["why?", "who?", ""]) == [{"text": model.chat(text)} for text in ("why?", "who?", "")]
    plain = bestiary.load(write_model(tmp_path / "plain", template=None))
    assert table_of(plain, PROMPTS) == [{"text": text} for text in plain.generate(PROMPTS)]
    assert plain.answers(PROMPTS, max_new_tokens=2) == plain.generate(PROMPTS, max_new_tokens=2)


def test_options_of_answers_are_checked_without_an_input(model):
    with pytest.raises(InputError, match="max_tokens"):
        model.answers([], max_tokens=2)
