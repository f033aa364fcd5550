"""Weights in several files: as transformers writes and reads them, and every index that lies."""

import json

import pytest
import torch

from bestiary.core.mapped import MappedTensors
from bestiary.core.sharded import ShardedTensors, check_shards, shards, write_shards
from bestiary.core.streamed import write_safetensors
from bestiary.errors import LayoutError

TENSORS = {name: torch.full((4,), float(number)) for number, name in enumerate("abcd")}  # of 16 bytes each
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


@pytest.fixture
def index(tmp_path):
    write_shards(tmp_path / "model.safetensors", TENSORS, shard_size=40)
    return tmp_path / "model.safetensors.index.json"


def test_what_is_written_in_shards_is_read_as_one(tmp_path, index):
    assert shards(index) == [FIRST, SECOND]
    check_shards(index)
    tensors = ShardedTensors([tmp_path / name for name in shards(index)])
    assert sorted(tensors) == sorted(TENSORS) and len(tensors) == 4 and "a" in tensors and "e" not in tensors
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in tensors)
    tensors.release("a")
    assert torch.equal(tensors["a"], TENSORS["a"])


def test_a_shard_holds_as_much_as_it_may_and_a_larger_tensor_is_alone(tmp_path):
    paths = write_shards(tmp_path / "x.safetensors", {**TENSORS, "e": torch.zeros(100), "f": torch.zeros(1)}, shard_size=48)
    assert [sorted(MappedTensors(path)) for path in paths] == [["a", "b", "c"], ["d"], ["e"], ["f"]]


def test_few_tensors_are_one_file_without_an_index(tmp_path):
    assert write_shards(tmp_path / "x.safetensors", TENSORS, shard_size=64) == [tmp_path / "x.safetensors"]
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


def test_a_tensor_in_two_shards_is_refused(tmp_path):
    for name in ("one", "two"):
        write_safetensors(tmp_path / name, TENSORS)
    with pytest.raises(LayoutError, match="one and two both hold 'a'"):
        ShardedTensors([tmp_path / "one", tmp_path / "two"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a": SECOND}, f"{FIRST} has 'a', which is elsewhere or nowhere by"),
        ({"e": SECOND}, f"{SECOND} has not 'e', which is there by"),
        ({"c": "other.safetensors"}, rf"{SECOND} has 'c', which is elsewhere"),
        ({"e": "third.safetensors"}, r"has no third\.safetensors"),
        ({"a": f"../{FIRST}"}, "which is no safetensors file beside it"),
        ({"a": f"/tmp/{FIRST}"}, "which is no safetensors file"),
        ({"a": f"..\\{FIRST}"}, "which is no safetensors file"),
        ({"a": f"C:{FIRST}"}, "which is no safetensors file"),
        ({"a": "evil\x1b[2J.safetensors"}, "which is no safetensors file"),
        ({"a": "pytorch_model.bin"}, "which is no safetensors file"),
        ({"a": ""}, "which is no safetensors file"),
        ({"a": None}, "which is no safetensors file"),
        ({"a": [FIRST]}, "which is no safetensors file"),
    ],
)
def test_an_index_that_lies_is_refused(index, change, message):
    content = json.loads(index.read_text())
    content["weight_map"] |= change
    index.write_text(json.dumps(content))
    with pytest.raises(LayoutError, match=message) as error:
        check_shards(index)
    assert len(str(error.value).splitlines()) <= 3


@pytest.mark.parametrize("content", ["{}", "[]", '{"weight_map": {}}', '{"weight_map": ["a"]}', "{", "[" * 100_000])
def test_what_is_no_index_is_refused(index, content):
    index.write_text(content)
    with pytest.raises(LayoutError):
        shards(index)


def test_a_tensor_of_the_index_that_two_shards_hold_is_refused(tmp_path, index):
    write_safetensors(tmp_path / SECOND, {name: TENSORS[name] for name in "acd"})
    with pytest.raises(LayoutError, match=f"{SECOND} has 'a'"):
        check_shards(index)
