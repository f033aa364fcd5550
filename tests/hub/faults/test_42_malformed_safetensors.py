"""Fault 42: a malformed safetensors file is refused with a LayoutError of at most three lines, and nothing crashes."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from bestiary.core.mapped import LARGEST_HEADER, MappedTensors
from bestiary.core.streamed import write_safetensors
from bestiary.errors import LayoutError


def tensor(**changes: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes


def file_of(header: bytes, data: bytes = bytes(8), length: int | None = None) -> bytes:
    return (len(header) if length is None else length).to_bytes(8, "little") + header + data


def file_with(entries: Any, data: bytes = bytes(8)) -> bytes:
    return file_of(json.dumps(entries).encode(), data)


def file_named(name: str) -> bytes:
    return file_with({name: tensor()})


MALFORMED = {
    "empty file": (b"", "0 bytes long"),
    "file shorter than the length": (b"\x02\x00\x00", "3 bytes long"),
    "header longer than the file": (file_of(b"{}", b"", length=3), "claims to end at byte 11"),
    "header of any length": (file_of(b"{}", b"", length=2**64 - 1), "claims to end"),
    "header without end": (file_of(b'{"a": '), "not valid JSON"),
    "header not UTF-8": (file_of(b'{"\xff": 1}'), "not valid JSON"),
    "header nested deep": (file_of(b"[" * 200_000), "not valid JSON"),
    "number of many digits": (file_of(b'{"a": ' + b"9" * 10_000 + b"}"), "not valid JSON"),
    "header a list": (file_with([]), "not a JSON object"),
    "metadata not an object": (file_with({"__metadata__": []}, b""), "__metadata__"),
    "metadata not strings": (file_with({"__metadata__": {"a": 1}}, b""), "__metadata__"),
    "duplicate name": (file_of(b'{"a": %b, "a": %b}' % ((json.dumps(tensor()).encode(),) * 2)), "occurs twice"),
    "duplicate key": (file_of(b'{"a": {"dtype": "F32", "dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}'), "occurs twice"),
    "entry not an object": (file_with({"a": 1}), "not described by"),
    "entry without shape": (file_with({"a": {"dtype": "F32", "data_offsets": [0, 8]}}), "not described by"),
    "entry with more": (file_with({"a": tensor(stride=[1])}), "not described by"),
    "unknown dtype": (file_with({"a": tensor(dtype="F31")}), "dtype 'F31'"),
    "dtype a list": (file_with({"a": tensor(dtype=["F32"])}), "has dtype"),
    "shape negative": (file_with({"a": tensor(shape=[-2])}), "has shape"),
    "shape fractional": (file_with({"a": tensor(shape=[2.0])}), "has shape"),
    "shape boolean": (file_with({"a": tensor(shape=[True])}), "has shape"),
    "shape a number": (file_with({"a": tensor(shape=2)}), "has shape"),
    "shape of many dimensions": (file_with({"a": tensor(shape=[1] * 65)}), "has shape"),
    "shape over any memory": (file_with({"a": tensor(shape=[0, 2**62, 4], data_offsets=[0, 0])}, b""), "larger than any memory"),
    "bytes not the shape": (file_with({"a": tensor(shape=[3])}), "8 bytes, which is not shape"),
    "offsets backwards": (file_with({"a": tensor(shape=[0], data_offsets=[8, 0])}), "data_offsets"),
    "offsets negative": (file_with({"a": tensor(data_offsets=[-8, 0])}), "data_offsets"),
    "three offsets": (file_with({"a": tensor(data_offsets=[0, 4, 8])}), "data_offsets"),
    "out of range": (file_with({"a": tensor(data_offsets=[0, 8])}, bytes(4)), "end at byte"),
    "far out of range": (file_with({"a": tensor(shape=[2**60], data_offsets=[0, 2**62])}), "end at byte"),
    "overlap": (file_with({"a": tensor(), "b": tensor(data_offsets=[4, 12])}, bytes(12)), "gap or an overlap"),
    "the same bytes twice": (file_with({"a": tensor(), "b": tensor()}), "gap or an overlap"),
    "gap": (file_with({"a": tensor(), "b": tensor(data_offsets=[12, 20])}, bytes(20)), "gap or an overlap"),
    "gap before": (file_with({"a": tensor(data_offsets=[4, 12])}, bytes(12)), "gap or an overlap"),
    "bytes that no name reaches": (file_with({"a": tensor()}, bytes(9)), "end at byte"),
    "name a path upwards": (file_named("../../etc/passwd"), "looks like a path"),
    "name with a step upwards": (file_named("layers/../weight"), "looks like a path"),
    "name a path from the root": (file_named("/etc/passwd"), "looks like a path"),
    "name a Windows path": (file_named("..\\weight"), "looks like a path"),
    "name a Windows drive": (file_named("C:\\weight"), "looks like a path"),
    "name empty": (file_named(""), "empty or has control"),
    "name a terminal escape": (file_named("a\x1b[2J"), "control characters"),
    "name a null": (file_named("a\x00b"), "control characters"),
    "name that turns the text around": (file_named("a\u202eb"), "control characters"),
    "name half a surrogate": (file_named("a\ud800"), "control characters"),
}


@pytest.mark.parametrize(("content", "fault"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_file_is_refused(tmp_path: Path, content: bytes, fault: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(LayoutError) as caught:
        MappedTensors(path)
    message = str(caught.value)
    assert fault in message and str(path) in message
    assert len(message.splitlines()) <= 3
    assert message.replace("\n", "").isprintable()


def test_a_huge_header_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes((LARGEST_HEADER + 1).to_bytes(8, "little"))
    with open(path, "r+b") as file:
        file.truncate(2 * LARGEST_HEADER)
    with pytest.raises(LayoutError, match="over the limit"):
        MappedTensors(path)


def test_long_values_do_not_flood_the_message(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(file_with({"n" * 100_000: tensor(dtype="d" * 100_000)}))
    with pytest.raises(LayoutError) as caught:
        MappedTensors(path)
    assert len(str(caught.value)) < 1000


def test_a_damaged_header_is_refused_or_harmless(tmp_path: Path) -> None:
    """A thousand files with random bytes changed: each is refused with a LayoutError or gives tensors that can be read."""
    path = tmp_path / "model.safetensors"
    write_safetensors(path, {"a": torch.ones(3), "b": torch.ones(2, 2, dtype=torch.int8)}, {"format": "pt"})
    sound = path.read_bytes()
    dice = random.Random(0)
    refused = 0
    for _ in range(1000):
        damaged = bytearray(sound)
        for _ in range(dice.randint(1, 4)):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        path.write_bytes(damaged)
        try:
            tensors = MappedTensors(path)
        except LayoutError:
            refused += 1
        else:
            assert sum(tensor.numel() for tensor in tensors.values()) <= 16
    assert refused > 500
