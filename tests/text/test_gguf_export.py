"""Language models written as GGUF files: what is read of them again is what was written, by us and by transformers."""

from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM

import bestiary
from bestiary.core.rotary import Linear, Llama3, Yarn
from bestiary.errors import LayoutError
from tests.gguf_files import SMOLLM2
from tests.text.test_gguf import CONFIGS, SMALL, VOCABULARY, small_file
from tests.text.test_gguf_tokenizer import TEXTS, sentencepiece

TEMPLATE = {"tokenizer.chat_template": "{{ messages[0].content }}"}


def exported(folder, name, config=None, **changes):
    """A model read from a file, and the same exported and read again."""
    path, net = small_file(folder / "small.gguf", name, config, **{**TEMPLATE, **changes})
    model = bestiary.load(path)
    if config is not None:
        model.net = net
    model.export(folder / "back", layout="gguf")
    assert [file.name for file in (folder / "back").iterdir()] == ["small.gguf"]
    return model, bestiary.load(folder / "back")


def check_equal(first, second):
    assert second.net.config == first.net.config
    states = first.net.state_dict(), second.net.state_dict()
    assert states[0].keys() == states[1].keys()
    assert all(torch.allclose(states[0][key], states[1][key], atol=1e-6) for key in states[0])
    assert [first.rules.encode(text).ids for text in TEXTS] == [second.rules.encode(text).ids for text in TEXTS]
    assert second.find("chat_template").read_text("utf-8") == first.find("chat_template").read_text("utf-8")


@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_exported_comes_back(tmp_path, name):
    check_equal(*exported(tmp_path, name))


@pytest.mark.parametrize("pre", ["smollm", "llama-bpe", "qwen2", "tekken"])
def test_the_kind_of_words_is_found(tmp_path, pre):
    check_equal(*exported(tmp_path, "llama", **{"tokenizer.ggml.pre": pre, "tokenizer.ggml.bos_token_id": 0}))


@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_pieces_and_their_merges_come_back(tmp_path, name):
    pieces = sentencepiece()
    config = replace(CONFIGS[name], vocabulary=len(pieces["tokenizer.ggml.tokens"]))
    removed = {"tokenizer.ggml.merges": None, "tokenizer.ggml.pre": None}
    check_equal(*exported(tmp_path, name, config, **{**removed, **pieces}))


@pytest.mark.parametrize(
    "scaling",
    [
        Linear(factor=4.0),
        Yarn(factor=4.0, trained=16, magnitude=1.1386294361119891),
        Llama3(factor=8.0, slow=1.0, fast=4.0, trained=8192),
    ],
    ids=lambda scaling: scaling.kind,
)
def test_scaled_positions_come_back(tmp_path, scaling):
    model = bestiary.load(small_file(tmp_path / "small.gguf", "llama")[0])
    model.net.config = replace(SMALL, theta=500000.0, scaling=scaling)
    model.export(tmp_path / "back", layout="gguf")
    assert bestiary.load(tmp_path / "back").net.config == model.net.config


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_matrices_keep_their_dtype_and_norms_are_fp32(tmp_path, dtype):
    from bestiary.core.gguf import GgufFile

    model = bestiary.load(small_file(tmp_path / "small.gguf", "llama")[0])
    model.net.to(dtype)
    model.export(tmp_path / "back", layout="gguf")
    forms = GgufFile(tmp_path / "back" / "small.gguf").forms
    assert {form.dtype for form in forms.values() if len(form.shape) == 2} == {dtype}
    assert {form.dtype for form in forms.values() if len(form.shape) == 1} == {torch.float32}


@pytest.mark.filterwarnings("ignore")
def test_transformers_reads_the_same_logits(tmp_path):
    model, _ = exported(tmp_path, "llama")
    reference = AutoModelForCausalLM.from_pretrained(tmp_path / "back", gguf_file="small.gguf", dtype=torch.float32).eval()
    tokens = torch.randint(0, VOCABULARY, (2, 20))
    with torch.inference_mode():
        wanted, found = reference(tokens).logits, model.net(tokens)
    assert (found - wanted).abs().max() <= 1e-5 * max(1.0, wanted.abs().max().item())


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"query_scalar": 4.0}, "query_scalar is 4.0, and would be read as None"),
        ({"windows": (3,)}, "windows, which llama.cpp leaves out"),
        ({"scaling": Llama3(factor=8.0, slow=1.0, fast=2.0, trained=64)}, "rope_freqs.weight scales positions in another way"),
    ],
)
def test_what_the_format_cannot_say_is_named_and_nothing_is_left(tmp_path, change, fault):
    model = bestiary.load(small_file(tmp_path / "small.gguf", "llama")[0])
    model.net.config = replace(SMALL, **change)
    with pytest.raises(LayoutError) as caught:
        model.export(tmp_path / "back", layout="gguf")
    assert fault in str(caught.value) and len(str(caught.value).splitlines()) <= 3
    assert [path.name for path in tmp_path.iterdir()] == ["small.gguf"]


@pytest.mark.full
def test_smollm2_says_the_same_after_the_journey(tmp_path):
    model = bestiary.load(SMOLLM2)
    model.export(tmp_path / "back", layout="gguf")
    back = bestiary.load(tmp_path / "back")
    for prompt in ("Gravity is", "def fibonacci(n):\n"):
        assert back.generate(prompt, max_new_tokens=32) == model.generate(prompt, max_new_tokens=32)
    assert back.chat("What is the capital of France?") == "The capital of France is Paris."
