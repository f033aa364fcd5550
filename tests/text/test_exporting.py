"""Nets of text as graphs: onnxruntime and torch.export give what the task objects give, by what lies in the folder alone."""

import errno
import json
import os
import resource
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

import bestiary
from bestiary.core.gguf import GgufFile
from bestiary.errors import InputError, LayoutError
from bestiary.table import find_architecture
from tests.exports import close, computed, example, session
from tests.text.models import write_model
from tests.text.test_encoder_tasks import TEXTS, byte_level, folder_of, labelled, wordpiece  # noqa: F401
from tests.text.test_translation import folder as t5_folder  # noqa: F401
from tests.text.test_translation import reference  # noqa: F401

PROMPTS = ("Gravity is a", "The cat", "yes no maybe yes")
NAMES, TAGS = ("good", "bad", "odd"), ("O", "B-PER", "I-PER")


@pytest.fixture(scope="module")
def embedder(tmp_path_factory):
    """The real one, and its export."""
    embed, folder = bestiary.load("minilm-l6-v2", device="cpu", precision="fp32"), tmp_path_factory.mktemp("embedder") / "onnx"
    (written,) = embed.export(folder, "onnx")
    assert written.difference < 1e-5
    return embed, folder


def fed(folder, texts):
    """Tokens and mask of texts, padded, by the tokenizer in the folder."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding()
    encoded = tokenizer.encode_batch(texts)
    return (np.array([[*getattr(one, name)] for one in encoded]) for name in ("ids", "attention_mask", "type_ids"))


def test_vectors_are_those_of_the_task(embedder):
    embed, folder = embedder
    texts = ["a cat", "a dog that barks at night", "x"]
    tokens, mask, _ = fed(folder, texts)
    vectors, hidden_states = computed(folder, tokens, mask.astype(bool))
    assert close(vectors, embed(texts)) and hidden_states.shape == (*tokens.shape, 384)


def test_the_example_gives_the_similarities_of_the_task(embedder):
    embed, folder = embedder
    texts = ["a cat", "a kitten", "a train"]
    found = [[float(number) for number in row.strip("[ ]").split()] for row in example(folder).splitlines()]
    assert close(found, embed.similarity(texts, texts))


def test_what_people_need_lies_in_the_folder(embedder):
    embed, folder = embedder
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "model.json", "model.onnx", "tokenizer.json"]
    settings = json.loads((folder / "model.json").read_text())
    assert settings["name"] == "minilm-l6-v2" and settings["license"] == embed.card.license
    assert settings["preprocess"] == dict(embed.card.preprocess)
    assert settings["graphs"]["model"]["inputs"] == {"tokens": ["batch", "length"], "mask": ["batch", "length"]}
    assert [(given.name, given.shape) for given in session(folder).get_inputs()] == [
        ("tokens", ["batch", "length"]),
        ("mask", ["batch", "length"]),
    ]


def test_a_program_of_torch_export_gives_the_same(embedder, tmp_path):
    embed, _ = embedder
    embed.export(tmp_path / "program", "torch.export")
    found = [[float(number) for number in row.strip("[ ]").split()] for row in example(tmp_path / "program").splitlines()]
    assert close(found, embed.similarity(["a cat", "a kitten", "a train"], ["a cat", "a kitten", "a train"]))


KINDS = {  # architecture, fields, files beside, what tells the task
    "text-classification": ("bert", {"head": "classes", "num_classes": 3, "segments": 2}, labelled(NAMES)),
    "token-classification": ("distilbert", {"head": "tokens", "num_classes": 3, "segments": 0, "pooler": "relu"}, labelled(TAGS)),
    "question-answering": ("bert", {"head": "spans", "segments": 2}, {}),
    "fill-mask": ("roberta", {"head": "mask", "segments": 1}, {}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_heads_give_the_logits_of_the_net(kind, wordpiece, byte_level, tmp_path):  # noqa: F811
    architecture, fields, config = KINDS[kind]
    tokenizer = byte_level if architecture == "roberta" else wordpiece
    task = bestiary.load(folder_of(tmp_path / "model", architecture, fields, tokenizer, **config))
    assert task.card.task == kind
    task.export(tmp_path / "onnx", "onnx")
    tokens, mask, segments = fed(tmp_path / "onnx", [text or "x" for text in TEXTS])
    names = [given.name for given in session(tmp_path / "onnx").get_inputs()]
    assert names == ["tokens", "mask", "segments"][: 3 if fields["segments"] > 1 else 2]
    inputs = [torch.from_numpy(tokens), torch.from_numpy(mask).bool(), torch.from_numpy(segments)][: len(names)]
    with torch.no_grad():
        expected = task.net(*inputs[:2], None, *inputs[2:])
    assert close(computed(tmp_path / "onnx", *inputs)[0], expected)
    assert example(tmp_path / "onnx")


def of_gpt2(model):
    """A model with a random GPT-2 in place of its net."""
    torch.manual_seed(0)
    architecture, config = find_architecture("gpt2"), model.net.config
    fields = {"layers": 2, "width": 32, "heads": 4, "hidden": 64, "vocabulary": config.vocabulary, "positions": 96}
    net = architecture.net(architecture.configure(fields)).eval()
    for name, parameter in net.named_parameters():
        parameter.data.normal_(std=0.4, mean=float("norm.weight" in name))
    net.positions.weight.data.normal_(std=2.0)  # or each token is the likeliest to follow itself
    return type(model)(net, replace(model.card, architecture="gpt2"), model.provenance, model._saver)


def greedy(folder, prompts, count):
    """Continuations, all of a batch at once, the prompts padded in front and read in two pieces."""
    runtime, settings = session(folder), json.loads((folder / "model.json").read_text())
    first = {"batch": len(prompts), "past": 0}
    past = {
        name: np.zeros([first.get(axis, axis) for axis in axes], bool if "mask" in name else np.float32)
        for name, axes in settings["graphs"]["model"]["inputs"].items()
        if name.startswith("past")
    }
    longest = max(map(len, prompts))
    tokens = np.array([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = np.array([[False] * (longest - len(prompt)) + [True] * len(prompt) for prompt in prompts])
    pieces, made = [(tokens[:, :-1], mask[:, :-1]), (tokens[:, -1:], mask[:, -1:])], []
    while len(made) < count:
        for piece, kept in pieces:
            logits, *present = runtime.run(None, {"tokens": piece, "mask": kept, **past})
            past = dict(zip(past, present, strict=True))
        made.append(logits[:, -1].argmax(-1))
        pieces = [(made[-1][:, None], np.ones((len(prompts), 1), bool))]
    return np.stack(made, 1).tolist()


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_generation_with_the_past_is_that_of_the_task_token_for_token(kind, tmp_path):
    model = bestiary.load(write_model(tmp_path / "tiny"))
    model = of_gpt2(model) if kind == "gpt2" else model
    model.export(tmp_path / "onnx", "onnx")
    prompts = [model.rules.encode(prompt).ids for prompt in PROMPTS]
    assert len({len(prompt) for prompt in prompts}) > 1
    found = greedy(tmp_path / "onnx", prompts, 30)
    answers = model.generate(list(PROMPTS), max_new_tokens=30, details=True)
    expected = [[token.id for token in answer.tokens] for answer in answers]
    assert [tokens[: len(own)] for tokens, own in zip(found, expected, strict=True)] == expected
    assert max(map(len, expected)) == 30 and len({token for own in expected for token in own}) > 9


@pytest.mark.full
def test_the_real_model_goes_on_as_the_task_does(tmp_path):
    model = bestiary.load("smollm2-135m-instruct", device="cpu", precision="fp32")
    model.export(tmp_path / "onnx", "onnx")
    assert example(tmp_path / "onnx") == model.generate("Gravity is", max_new_tokens=20) + "\n"
    prompts = [model.rules.encode(prompt).ids for prompt in ("Gravity is", "The capital of France is", "1, 2, 3, 4,")]
    found = greedy(tmp_path / "onnx", prompts, 12)
    expected = model.generate(["Gravity is", "The capital of France is", "1, 2, 3, 4,"], max_new_tokens=12)
    assert [model.rules.decode(tokens) for tokens in found] == expected


def test_a_translator_is_two_graphs(t5_folder, tmp_path):  # noqa: F811
    translate = bestiary.load(t5_folder)
    written = translate.export(tmp_path / "onnx", "onnx")
    assert [one.file for one in written] == ["encoder.onnx", "decoder.onnx"]
    expected = translate.generate("translate English to German: The house is wonderful.", max_new_tokens=19)
    assert example(tmp_path / "onnx").removesuffix("\n") == expected


def test_weights_of_fp16_are_written_as_gguf(tmp_path):
    from tests.text.test_gguf import small_file

    model = bestiary.load(small_file(tmp_path / "small.gguf", "llama")[0])
    model.export(tmp_path / "half", "gguf-f16")
    forms = GgufFile(tmp_path / "half" / "small.gguf").forms
    assert {form.dtype for form in forms.values() if len(form.shape) > 1} == {torch.float16}
    assert {form.dtype for form in forms.values() if len(form.shape) == 1} == {torch.float32}
    assert {tensor.dtype for tensor in model.net.parameters()} == {torch.float32}
    back = bestiary.load(tmp_path / "half")
    weight = model.net.blocks[0].mlp.up.weight.detach()
    assert torch.equal(back.net.blocks[0].mlp.up.weight.detach(), weight.half().float())


def refused(task, folder, target, error, match, **options):
    with pytest.raises(error, match=match) as caught:
        task.export(folder, target, **options)
    assert len(str(caught.value).splitlines()) <= 3
    assert not folder.exists() and not [*folder.parent.glob(f".{folder.name}*")]


def test_what_cannot_be_is_refused_and_nothing_left(tmp_path):
    model = bestiary.load(write_model(tmp_path / "tiny"))
    out = tmp_path / "out"
    refused(model, out, "onyx", LayoutError, r"'onyx'\nit can to: transformers, gguf, gguf-f16, onnx, torch\.export$")
    refused(model, out, "onnx", InputError, "no preprocessing in a graph of texts", preprocessing=True)
    refused(model, out, "transformers", InputError, "hold no preprocessing", preprocessing=True)
    refused(bestiary.load(tmp_path / "tiny", precision="bf16"), out, "onnx", InputError, "load the model in fp32")
    refused(bestiary.load(tmp_path / "tiny", precision="int8"), out, "onnx", InputError, "quantised weights")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine").write_text("kept")
    with pytest.raises(InputError, match="there already"):
        model.export(tmp_path / "there", "onnx")
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["mine"]


def test_a_net_that_changes_its_mind_leaves_nothing(tmp_path):
    model = bestiary.load(write_model(tmp_path / "tiny"))
    plain = model.net.norm.forward
    model.net.norm.forward = lambda x: plain(x) * (1 if torch.compiler.is_compiling() else 1.01)
    refused(model, tmp_path / "out", "torch.export", LayoutError, "nothing was written")


def test_a_bridged_model_is_refused(wordpiece, tmp_path):  # noqa: F811
    fields = {"head": "none", "segments": 2}
    folder_of(tmp_path / "model", "bert", fields, wordpiece)
    bridged = bestiary.load(tmp_path / "model", bridge=True)
    if bridged.card.checked != "bridged":
        config = json.loads((tmp_path / "model" / "config.json").read_text())
        (tmp_path / "model" / "config.json").write_text(json.dumps({**config, "hidden_act": "silu"}))
        bridged = bestiary.load(tmp_path / "model", bridge=True)
    assert bridged.card.checked == "bridged"
    refused(bridged, tmp_path / "out", "onnx", LayoutError, "bridged model cannot be exported to 'onnx'")


FULL_DISK = """
import resource, signal, sys
import bestiary
model = bestiary.load(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 15, 1 << 15))
try:
    model.export(sys.argv[2], sys.argv[3])
except bestiary.BestiaryError as error:
    print(error)
"""


@pytest.mark.parametrize("target", [pytest.param("onnx", marks=pytest.mark.full), "torch.export", "gguf-f16"])
def test_a_disk_that_takes_no_more_is_told_and_nothing_left(tmp_path, target):
    write_model(tmp_path / "tiny")
    out = tmp_path / "out" / "model"
    out.parent.mkdir()
    command = [sys.executable, "-c", FULL_DISK, tmp_path / "tiny", out, target]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120)
    assert done.stdout.startswith(f"{out} cannot be written: {os.strerror(errno.EFBIG)}"), done.stderr
    assert len(done.stdout.splitlines()) <= 3 and [*out.parent.iterdir()] == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1 << 15
