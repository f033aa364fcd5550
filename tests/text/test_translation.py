"""Translators from the outside: texts in, texts out, against the reference and back to it."""

import copy
import json
import pickle
import threading

import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

import bestiary
from bestiary.errors import InputError, LayoutError
from bestiary.text.published_t5 import TransformersTranslator
from bestiary.text.t5_layout import TRANSFORMERS_CONFIG
from bestiary.text.tasks.translation import Translator
from tests.tables import table_of
from tests.text.test_t5 import VARIANTS, reference_of

TEXTS = ["The house is wonderful.", "A cat sleeps.", "Der Jagdschein liegt unter einem alten Baum im Wald, sagt man.", "🦒"]
PROMPTS = {"summarization": "summarize: ", "translation_en_to_de": "translate English to German: "}
CORPUS = [*TEXTS, *PROMPTS.values(), "One two three four five six seven eight nine ten eleven twelve."] * 3


def unigram(size):
    """A SentencePiece tokenizer as T5's: Unigram with byte fallback left out, `</s>` at the end of every text."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=size, special_tokens=special, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    return tokenizer


@pytest.fixture(scope="module")
def reference():
    reference = reference_of(VARIANTS["flan"])
    for name, parameter in reference.named_parameters():  # so that likely tokens stand out, and answers differ
        parameter.data.normal_(std=0.4 if parameter.dim() > 1 else 0.1, mean=float("norm" in name))
    return reference


@pytest.fixture(scope="module")
def folder(reference, tmp_path_factory):
    """A T5 as transformers publishes it."""
    folder = tmp_path_factory.mktemp("models") / "tiny-t5"
    reference.config.task_specific_params = {name: {"prefix": prompt, "num_beams": 4} for name, prompt in PROMPTS.items()}
    reference.config.n_positions = 64
    reference.generation_config = transformers.GenerationConfig(decoder_start_token_id=0, eos_token_id=[1, 7], pad_token_id=0)
    reference.save_pretrained(folder)
    unigram(VARIANTS["flan"].vocabulary).save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return bestiary.load(folder)


def asked(reference, model, text, **options):
    """The reference's answer to one text."""
    tokens = torch.tensor([model.rules.encode(text).ids])
    answer = reference.generate(tokens, do_sample=False, **{"max_new_tokens": 20} | options)[0, 1:]
    return model.rules.decode(answer.tolist())


def test_a_published_folder_says_how_the_model_is_used(model):
    assert isinstance(model, Translator)
    assert model.card.task == "text-to-text" and model.card.config["tied"] is False
    assert model.card.preprocess == {"context": 64, "start_token": 0, "end_tokens": [1, 7], "prompts": PROMPTS}


def test_answers_are_those_of_the_reference(model, reference):
    answers = model.generate(TEXTS, max_new_tokens=20)
    assert answers == [asked(reference, model, text) for text in TEXTS]
    assert len(set(answers)) > 2


def test_no_end_before_the_least_number_of_tokens(model):
    ending = {"logit_bias": {model.preprocess.end_tokens[0]: 1e4}, "max_new_tokens": 20}
    assert model.generate(TEXTS, **ending) == [""] * len(TEXTS)
    assert any(model.generate(TEXTS, min_new_tokens=5, **ending))


@pytest.mark.parametrize("options", [{}, {"length_penalty": 2.0}, {"early_stopping": True}, {"repetition_penalty": 2.0}], ids=str)
def test_answers_by_beams_are_those_of_the_reference(model, reference, options):
    expected = [asked(reference, model, text, num_beams=3, **options) for text in TEXTS]
    assert model.generate(TEXTS, beams=3, max_new_tokens=20, **options) == expected


def test_a_prompt_is_put_before_the_text(model):
    for name, prompt in PROMPTS.items():
        assert model.generate(TEXTS[0], prompt=name, max_new_tokens=9) == model.generate(prompt + TEXTS[0], max_new_tokens=9)


def test_one_gives_one_a_list_a_list_an_iterator_an_iterator(model):
    for beams in (1, 3):
        alone = [model.generate(text, beams=beams, max_new_tokens=12) for text in TEXTS]
        assert all(isinstance(text, str) for text in alone)
        assert model.generate(TEXTS, beams=beams, max_new_tokens=12) == alone
        assert model.generate(tuple(TEXTS), beams=beams, max_new_tokens=12, batch_size=3) == alone
        answers = model.generate(iter(TEXTS), beams=beams, max_new_tokens=12, batch_size=2)
        assert next(answers) == alone[0] and list(answers) == alone[1:]
    assert model.generate([]) == []


def test_a_stream_gives_the_answer_piece_by_piece(model):
    for text in TEXTS:
        pieces = list(model.stream(text, max_new_tokens=20))
        assert "".join(pieces) == model.generate(text, max_new_tokens=20)
    assert len(list(model.stream(TEXTS[0], prompt="summarization", max_new_tokens=20, min_new_tokens=20))) > 1


def test_answers_may_be_drawn_and_chosen(model):
    drawn = {model.generate(TEXTS[0], temperature=1.0, seed=seed, max_new_tokens=12) for seed in range(4)}
    assert len(drawn) > 1
    assert model.generate(TEXTS[0], temperature=1.0, seed=3, max_new_tokens=12) in drawn
    for beams in (1, 2):
        assert model.generate(TEXTS[0], choices=["house", "cat sleeps"], beams=beams) in ("house", "cat sleeps")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"texts": 3}, "int is not a text"),
        ({"texts": ["a", None]}, "input 1 is not a text but NoneType"),
        ({"texts": "word " * 99}, r"has \d+ tokens, and tiny-t5 reads 1 to 64 of them"),
        ({"texts": "a", "prompt": "chat"}, "no prompt 'chat'\nits prompts: summarization, translation_en_to_de"),
        ({"texts": "a", "beams": 0}, "beams=0"),
        ({"texts": "a", "beams": 2, "temperature": 0.5}, "temperature has no meaning with 2 beams"),
        ({"texts": "a", "beams": 2, "stop": "."}, "stop has no meaning with 2 beams"),
        ({"texts": "a", "max_new_tokens": 0}, "max_new_tokens=0"),
        ({"texts": "a", "num_beams": 2}, "no option num_beams"),
        ({"texts": ["a"], "batch_size": 0}, "batch_size=0"),
    ],
)
def test_bad_input_is_refused(model, arguments, message):
    with pytest.raises(InputError, match=message):
        model.generate(**arguments)


def test_a_stream_refuses_at_once(model):
    with pytest.raises(InputError, match="tiny-t5 reads 1 to 64"):
        model.stream("word " * 99)


def test_a_tokenizer_that_does_not_fit_the_net_is_refused(folder, tmp_path):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_tokens([f"extra {number}" for number in range(200)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(LayoutError, match=r"has tokens up to \d+, the net knows 100"):
        bestiary.load(tmp_path)


def test_saved_is_loaded(model, tmp_path):
    model.save(tmp_path / "saved")
    again = bestiary.load(tmp_path / "saved")
    assert again.generate(TEXTS, max_new_tokens=9) == model.generate(TEXTS, max_new_tokens=9)
    assert again.generate("a", prompt="summarization", max_new_tokens=3) == model.generate("summarize: a", max_new_tokens=3)


def test_the_reference_loads_our_export(model, tmp_path):
    model.export(tmp_path / "export", layout="transformers")
    reference = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path / "export").eval()
    answers = [asked(reference, model, text) for text in TEXTS]  # with the ends of its generation_config.json
    assert answers == model.generate(TEXTS, max_new_tokens=20)
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "export")(TEXTS[0]).input_ids == model.rules.encode(TEXTS[0]).ids
    again = bestiary.load(tmp_path / "export")
    assert again.card.preprocess == model.card.preprocess and again.card.config == vars(model.net.config)


def test_what_a_folder_leaves_unsaid_is_as_t5_has_it(tmp_path):
    config = TRANSFORMERS_CONFIG.write(VARIANTS["t5"])
    assert TransformersTranslator().read(tmp_path, config).preprocess == {
        "context": 512, "start_token": 0, "end_tokens": [1], "prompts": {},
    }  # fmt: skip
    (tmp_path / "generation_config.json").write_text(json.dumps({"decoder_start_token_id": 3, "eos_token_id": [1, 2]}))
    preprocess = TransformersTranslator().read(tmp_path, config).preprocess
    assert (preprocess["start_token"], preprocess["end_tokens"]) == (3, [1, 2])


def test_copies_pickles_and_threads(model):
    expected = model.generate(TEXTS, max_new_tokens=9)
    assert copy.deepcopy(model).generate(TEXTS, max_new_tokens=9) == expected
    assert pickle.loads(pickle.dumps(model)).generate(TEXTS, max_new_tokens=9) == expected
    found = {}
    threads = [
        threading.Thread(target=lambda key=key: found.update({key: model.generate(TEXTS, max_new_tokens=9)})) for key in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(found.values()) == [expected] * 4


def test_the_report_shows_text_and_answer(model):
    report = model.report(TEXTS[:2])
    assert report.columns == ["text", "answer"]
    assert [record["answer"] for record in report.records] == model.generate(TEXTS[:2])
    assert report.rows[0] == list(report.records[0].values())


def test_answers_are_rows_of_a_table(model):
    assert table_of(model, TEXTS) == [{"text": answer} for answer in model.generate(TEXTS)]
