"""Weights in other formats: converted once, with what else their files hold."""

import json
from pathlib import Path

import gguf
import numpy
import pytest
import torch

import bestiary
from bestiary import conversion
from bestiary.core.mapped import MappedTensors
from bestiary.hub.card import File
from bestiary.hub.fetch import Fetched
from bestiary.hub.store import Store
from bestiary.hub.verify import hash_stream

TOKENS = ["<s>", "</s>", *"abc", "ab"]


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def fetched(path, role="weights"):
    with path.open("rb") as content:
        return Fetched(File(name=path.name, size=path.stat().st_size, sha256=hash_stream(content), role=role), path, "here")


def write_gguf(path, template=None, merges=("a b",)):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_string("tokenizer.ggml.model", "gpt2")
    writer.add_array("tokenizer.ggml.tokens", TOKENS)
    writer.add_array("tokenizer.ggml.merges", list(merges))
    if template is not None:
        writer.add_string("tokenizer.chat_template", template)
    writer.add_tensor("token_embd.weight", numpy.arange(12, dtype=numpy.float32).reshape(6, 2))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return {path.name: fetched(path)}


def test_safetensors_are_read_where_they_lie(tmp_path, store):
    names = ("b.safetensors", "a.safetensors")
    files = {name: Fetched(File(name=name, role="weights"), tmp_path / name, "here") for name in names}
    assert conversion.safetensors(files, store) == [tmp_path / "b.safetensors", tmp_path / "a.safetensors"]
    assert conversion.parts(files, store) == {} and not store.home.exists()


@pytest.mark.parametrize("name", ["model.pth", "model.pt", "pytorch_model.bin"])
def test_a_checkpoint_is_converted_once(tmp_path, store, name, monkeypatch):
    torch.save({"a": torch.ones(2)}, tmp_path / name)
    files = {name: fetched(tmp_path / name)}
    (path,) = conversion.safetensors(files, store)
    assert MappedTensors(path)["a"].tolist() == [1, 1]
    monkeypatch.setattr(conversion.Converter, "_convert", None)
    assert conversion.safetensors(files, store) == [path]


def test_a_gguf_gives_weights_tokenizer_and_chat_template(tmp_path, store):
    files = write_gguf(tmp_path / "model.gguf", "{{ messages }}")
    (path,) = conversion.safetensors(files, store)
    assert list(MappedTensors(path)) == ["token_embd.weight"]
    parts = conversion.parts(files, store)
    assert {name: (part.file.role, part.origin) for name, part in parts.items()} == {
        "tokenizer.json": ("tokenizer", "converted from model.gguf"),
        "chat_template.jinja": ("chat_template", "converted from model.gguf"),
    }
    assert parts["chat_template.jinja"].path.read_text() == "{{ messages }}"
    assert json.loads(parts["tokenizer.json"].path.read_text())["model"]["vocab"]["ab"] == 5
    for part in parts.values():
        assert store.find(part.file.sha256, part.file.size) == part.path


def test_a_role_that_has_a_file_is_not_converted(tmp_path, store):
    (tmp_path / "tokenizer.json").write_text("{}")
    files = write_gguf(tmp_path / "model.gguf") | {"tokenizer.json": fetched(tmp_path / "tokenizer.json", "tokenizer")}
    assert conversion.parts(files, store) == {}


def test_a_conversion_that_fails_leaves_nothing(tmp_path, store):
    files = write_gguf(tmp_path / "model.gguf", merges=["a z"])
    with pytest.raises(bestiary.LayoutError, match="tokenizer that cannot be rebuilt"):
        conversion.parts(files, store)
    assert [path for path in store.home.rglob("*") if path.is_file() and "locks" not in path.parts] == []


@pytest.mark.parametrize(("name", "message"), [("model.onnx", "in no format of weights that is known"), ("weights", "known are")])
def test_what_cannot_be_read_is_refused(tmp_path, store, name, message):
    with pytest.raises(bestiary.LayoutError, match=message):
        conversion.safetensors({name: Fetched(File(name=name, role="weights"), tmp_path / name, "here")}, store)


def test_a_card_without_weights_is_refused(store):
    with pytest.raises(bestiary.LayoutError, match=r"none of tokenizer\.json has the role weights"):
        conversion.safetensors({"tokenizer.json": Fetched(File(name="tokenizer.json", role="tokenizer"), Path(), "here")}, store)
