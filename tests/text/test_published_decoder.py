"""Folders of causal language models as transformers writes them, read and written."""

import json

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

import bestiary
from bestiary.core.configmap import read_json
from bestiary.text.llama import ARCHITECTURE
from bestiary.text.published_decoder import TransformersDecoder
from tests.text.models import TEMPLATE, byte_tokenizer, write_model

PROMPT = "The cat"
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
         "intermediate_size": 48, "max_position_embeddings": 64}  # fmt: skip
KINDS = {
    "llama": (transformers.LlamaConfig, SIZES),
    "mistral": (transformers.MistralConfig, SIZES | {"sliding_window": 5}),
    "qwen3": (transformers.Qwen3Config, SIZES | {"tie_word_embeddings": True}),
    "gemma2": (transformers.Gemma2Config, SIZES | {"sliding_window": 5}),
    "gemma3": (transformers.Gemma3TextConfig, SIZES | {"sliding_window": 5}),
    "gpt2": (transformers.GPT2Config, {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}),
}


@pytest.fixture(params=KINDS)
def folder(request, tmp_path):
    """What transformers saves of a model with random weights and its tokenizer."""
    kind, sizes = KINDS[request.param]
    rules = byte_tokenizer()
    end, start = rules.token_to_id("<end>"), rules.token_to_id("<start>")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(kind(**sizes, vocab_size=rules.get_vocab_size()))
    model.generation_config = transformers.GenerationConfig(eos_token_id=[end, start])
    for parameter in model.parameters():
        parameter.data.normal_(std=0.2)
    model.save_pretrained(tmp_path / "published")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=rules, eos_token="<end>", bos_token="<start>")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(tmp_path / "published")
    return tmp_path / "published"


def written_by_reference(folder):
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    inputs = tokenizer(PROMPT, return_tensors="pt", return_token_type_ids=False)
    tokens = model.generate(**inputs, max_new_tokens=20, do_sample=False)[0, inputs["input_ids"].shape[1] :].tolist()
    asked = tokenizer.apply_chat_template([{"role": "user", "content": "Why?"}], tokenize=False, add_generation_prompt=True)
    return tokens, asked, model.generation_config.eos_token_id


def written(model):
    return [token.id for token in model.generate(PROMPT, max_new_tokens=20, temperature=0, details=True).tokens]


def test_a_published_folder_is_loaded_and_exported(folder, tmp_path):
    tokens, asked, ends = written_by_reference(folder)
    model = bestiary.load(folder)
    assert model.preprocess.context == 64 and list(model.preprocess.end_tokens) == ends
    assert written(model) == tokens
    assert model.template([{"role": "user", "content": "Why?"}]) == asked
    model.export(tmp_path / "exported", layout="transformers")
    assert written_by_reference(tmp_path / "exported") == (tokens, asked, ends)


def test_a_saved_folder_is_loaded(folder, tmp_path):
    model = bestiary.load(folder)
    model.save(tmp_path / "saved")
    again = bestiary.load(tmp_path / "saved")
    assert again.net.config == model.net.config
    assert written(again) == written(model)


def described(tmp_path, config=None, **files):
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    published = {"num_attention_heads": 4, "hidden_size": 32, "max_position_embeddings": 2048, **(config or {})}
    return TransformersDecoder(ARCHITECTURE.configs["transformers"]).read(tmp_path, published)


@pytest.mark.parametrize(
    ("config", "files", "ends"),
    [
        ({"eos_token_id": 2}, {}, [2]),
        ({"eos_token_id": [1, 106]}, {"generation_config": {"do_sample": True}}, [1, 106]),
        ({"eos_token_id": 2}, {"generation_config": {"eos_token_id": [7, 8]}}, [7, 8]),
        ({}, {}, []),
    ],
)
def test_what_ends_a_text(tmp_path, config, files, ends):
    assert described(tmp_path, config, **files).preprocess == {"context": 2048, "end_tokens": ends}


def test_where_the_chat_template_is(tmp_path):
    assert described(tmp_path).files == {"tokenizer.json": "tokenizer"}
    named = described(tmp_path, tokenizer_config={"eos_token": "</s>"}).files
    assert named == {"tokenizer.json": "tokenizer", "tokenizer_config.json": "tokenizer_config"}
    within = described(tmp_path, tokenizer_config={"chat_template": TEMPLATE}).files
    assert within == {"tokenizer.json": "tokenizer", "tokenizer_config.json": "chat_template"}
    (tmp_path / "chat_template.jinja").write_text(TEMPLATE)
    assert described(tmp_path).files == {**named, "chat_template.jinja": "chat_template"}


def test_an_export_without_a_tokenizer_config_is_given_one(tmp_path):
    bestiary.load(write_model(tmp_path / "model")).export(tmp_path / "exported", layout="transformers")
    assert read_json(tmp_path / "exported" / "tokenizer_config.json")["model_max_length"] == 96
    tokens, *_ = written_by_reference(tmp_path / "exported")
    assert written(bestiary.load(tmp_path / "model")) == tokens
