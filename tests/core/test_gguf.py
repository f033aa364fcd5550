"""GGUF files: every encoding to the bit, and nothing but an error from files that are damaged or hostile."""

import os
import random
import re
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import gguf
import numpy
import pytest
import torch
from gguf import GGMLQuantizationType as Type

from bestiary.core.dequantise import CHUNK, ENCODINGS, UNREAD
from bestiary.core.gguf import GgufFile, convert_gguf
from bestiary.core.mapped import MappedTensors
from bestiary.errors import LayoutError

HEAD = struct.Struct("<4sIQQ")  # magic, version, tensors, keys


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def tensor(name: str, shape: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def raw(*parts: bytes, tensors: int = 0, keys: int = 0, version: int = 3, magic: bytes = b"GGUF") -> bytes:
    return HEAD.pack(magic, version, tensors, keys) + b"".join(parts)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "model.gguf"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


@pytest.fixture
def sound(source: Path) -> bytes:
    """A small file with metadata of every kind, and tensors of three encodings."""
    writer = gguf.GGUFWriter(source, "llama")
    writer.add_uint32("llama.block_count", 2)
    writer.add_float32("llama.rope.freq_base", 10000.0)
    writer.add_bool("tokenizer.ggml.add_bos_token", True)
    writer.add_array("tokenizer.ggml.tokens", ["a", "Ġb", "猫"])
    writer.add_array("tokenizer.ggml.scores", [0.5, -1.0, -2.0])
    writer.add_tensor("token_embd.weight", numpy.arange(96, dtype=numpy.float32).reshape(3, 32))
    writer.add_tensor("blk.0.ffn_up.weight", numpy.arange(7, dtype=numpy.float16))
    writer.add_tensor("blk.0.ffn_down.weight", blocks(Type.Q4_1, rows=2, seed=0), raw_dtype=Type.Q4_1)
    close(writer)
    return source.read_bytes()


def close(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def blocks(kind: Type, rows: int, seed: int) -> Any:
    """Rows of two blocks of random bytes: also scales that are infinite or no number."""
    _, size = gguf.GGML_QUANT_SIZES[kind]
    return numpy.random.default_rng(seed).integers(0, 256, (rows, 2 * size), dtype=numpy.uint8)


QUANTISED = [Type[encoding.name] for encoding in ENCODINGS.values() if encoding.decode]


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning", "ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("kind", QUANTISED, ids=[kind.name for kind in QUANTISED])
def test_numbers_are_those_of_the_reference_to_the_bit(source: Path, target: Path, kind: Type) -> None:
    given = {"few.weight": blocks(kind, rows=3, seed=1), "many.weight": blocks(kind, rows=CHUNK // 64 + 5, seed=2)}
    writer = gguf.GGUFWriter(source, "llama")
    for name, data in given.items():
        writer.add_tensor(name, data, raw_dtype=kind)
    close(writer)
    convert_gguf(source, target)
    tensors = MappedTensors(target)
    for name, data in given.items():
        wanted = torch.from_numpy(gguf.dequantize(data, kind))
        assert tensors[name].dtype == torch.float32 and tensors.shape(name) == tuple(wanted.shape)
        assert torch.equal(tensors[name].isnan(), wanted.isnan()) and not wanted.isnan().all()
        numbers = ~wanted.isnan()
        assert torch.equal(tensors[name][numbers].view(torch.int32), wanted[numbers].view(torch.int32))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=["F32", "F16", "BF16"])
def test_plain_numbers_keep_their_dtype(source: Path, target: Path, dtype: torch.dtype) -> None:
    wanted = torch.randn(2, 3, 5).to(dtype)
    writer = gguf.GGUFWriter(source, "llama")
    name = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}[dtype]
    writer.add_tensor("weight", wanted.view(torch.uint8).numpy(), raw_shape=(2, 3, 5 * dtype.itemsize), raw_dtype=Type[name])
    close(writer)
    convert_gguf(source, target)
    assert torch.equal(MappedTensors(target)["weight"], wanted) and MappedTensors(target).dtype("weight") == dtype


def test_encodings_have_the_numbers_and_sizes_of_the_format() -> None:
    for number, encoding in ENCODINGS.items():
        assert Type(number).name == encoding.name
        assert gguf.GGML_QUANT_SIZES[Type(number)] == (encoding.values, encoding.size)
    assert {number: Type(number).name for number in UNREAD} == UNREAD


def test_metadata_come_as_plain_values(sound: bytes, source: Path) -> None:
    file = GgufFile(source)
    assert file["general.architecture"] == "llama"
    assert file["llama.block_count"] == 2 and file["llama.rope.freq_base"] == 10000.0
    assert file["tokenizer.ggml.add_bos_token"] is True
    assert file["tokenizer.ggml.tokens"] == ["a", "Ġb", "猫"]
    assert file["tokenizer.ggml.scores"].tolist() == [0.5, -1.0, -2.0]
    assert {name: form.shape for name, form in file.forms.items()} == {
        "token_embd.weight": (3, 32),
        "blk.0.ffn_up.weight": (7,),
        "blk.0.ffn_down.weight": (2, 64),
    }


TOKEN = text("a") + struct.pack("<I", 9)  # a key, and that its value is an array


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "empty"),
        (b"GGU", "does not begin with GGUF"),
        (raw(magic=b"PK\3\4"), "does not begin with GGUF"),
        (raw(version=1), "version 1"),
        (raw(version=3 << 24), "big-endian"),
        (raw(tensors=2**64 - 1), "header does not end"),
        (raw(keys=2**64 - 1), "header does not end"),
        (raw(TOKEN, struct.pack("<IQ", 0, 2**62), keys=1), "header does not end"),
        (raw(TOKEN, struct.pack("<IQ", 10, 2**62), keys=1), "header does not end"),
        (raw(TOKEN, struct.pack("<IQ", 8, 2**64 - 1), keys=1), "header does not end"),
        (raw(TOKEN, struct.pack("<IQ", 9, 2), keys=1), "array of type 9"),
        (raw(text("a"), struct.pack("<I", 13), keys=1), "value of type 13"),
        (raw(struct.pack("<Q", 2**63), keys=1), "header does not end"),
        (raw(struct.pack("<Q", 2) + b"\xff\xfe", keys=1), "utf-8"),
        (raw(text("a") + b"\0" * 5, text("a") + b"\0" * 5, keys=2), "says twice what 'a' is"),
        (raw(tensor("../a", (1,)), tensors=1), "looks like a path"),
        (raw(tensor("/etc/passwd", (1,)), tensors=1), "looks like a path"),
        (raw(tensor("a\x1b[2J", (1,)), tensors=1), "control characters"),
        (raw(tensor("a", (1, 1, 1, 1, 1)), tensors=1), "5 dimensions"),
        (raw(tensor("a", (2**40, 2**40)), tensors=1), "has shape"),
        (raw(tensor("a", (4, 0)), tensors=1), "has shape"),
        (raw(tensor("a", (256,), 16), tensors=1), "'a' is stored as IQ2_XXS; what is read is F32, F16, "),
        (raw(tensor("a", (256,), 77), tensors=1), "'a' is stored as type 77"),
        (raw(tensor("a", (33,), 2), tensors=1), "rows of 33, no multiple of 32"),
        (raw(tensor("a", (), 2), tensors=1), "no multiple of 32"),
        (raw(tensor("a", (4,)), tensors=1), "cut short"),
        (raw(tensor("a", (4,), offset=32), bytes(99), tensors=1), "starts at byte 32, where 0 was due"),
        (raw(tensor("a", (4,)), tensor("b", (4,)), bytes(99), tensors=2), "starts at byte 0, where 32 was due"),
        (raw(tensor("a", (4,)), tensor("a", (4,), offset=32), bytes(99), tensors=2), "'a' occurs twice"),
        (raw(tensor("a", (4,)), bytes(99), tensors=1), "its tensors end at byte 96, the file at byte 156"),
        (raw(text("general.alignment") + struct.pack("<II", 4, 0), keys=1), "alignment is 0"),
        (raw(text("general.alignment") + struct.pack("<II", 4, 24), keys=1), "alignment is 24"),
        (raw(text("general.alignment") + struct.pack("<If", 6, 8.0), keys=1), "alignment is 8.0"),
    ],
)
def test_a_file_that_is_not_sound_is_refused_and_nothing_is_left(source: Path, target: Path, content: bytes, fault: str) -> None:
    source.write_bytes(content)
    with pytest.raises(LayoutError, match=re.escape(fault)) as caught:
        convert_gguf(source, target)
    assert str(source) in str(caught.value) and len(str(caught.value).splitlines()) <= 3
    assert list(target.parent.iterdir()) == [source]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=r"missing\.gguf cannot be read"):
        GgufFile(tmp_path / "missing.gguf")
    with pytest.raises(LayoutError, match="cannot be read"):
        GgufFile(tmp_path)


def test_a_file_cut_short_anywhere_is_refused(sound: bytes, source: Path, target: Path) -> None:
    padding = gguf.GGUFReader(source).tensors[-1].n_bytes % 32  # behind the last tensor; nobody misses it
    for kept in range(len(sound) - padding):
        source.write_bytes(sound[:kept])
        with pytest.raises(LayoutError):
            convert_gguf(source, target)
    assert list(target.parent.iterdir()) == [source]


def test_flipped_bits_give_an_error_or_a_file_and_never_take_much_memory(sound: bytes, source: Path, target: Path) -> None:
    header = gguf.GGUFReader(source).data_offset
    generator = random.Random(20)
    refused = 0
    tracemalloc.start()
    try:
        for _ in range(1500):
            damaged = bytearray(sound)
            for _ in range(generator.choice((1, 1, 2, 8))):
                damaged[generator.randrange(header)] ^= 1 << generator.randrange(8)
            source.write_bytes(damaged)
            try:
                convert_gguf(source, target)
            except LayoutError as error:
                refused += 1
                assert len(str(error).splitlines()) <= 3 and len(str(error)) < 600
                assert not target.exists()
            else:
                assert len(MappedTensors(target)) == 3
                target.unlink()
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    assert 500 < refused < 1500


MEMORY = """
import sys
from pathlib import Path
from bestiary.core.gguf import convert_gguf

def resident(kind):
    for line in open("/proc/self/status"):
        if line.startswith(kind + ":"):
            return int(line.split()[1]) * 1024

with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the high-water mark starts anew
before = resident("VmRSS")
convert_gguf(Path(sys.argv[1]), Path(sys.argv[2]))
print(resident("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc/self/status, which only Linux has")
def test_a_conversion_takes_the_memory_of_the_file_and_one_tensor(source: Path, target: Path) -> None:
    rows, values, size = 4096, 2048, 34 * 2048 // 32
    writer = gguf.GGUFWriter(source, "llama")
    for index in range(8):
        writer.add_tensor(f"blk.{index}.weight", numpy.zeros((rows, size), dtype=numpy.uint8), raw_dtype=Type.Q8_0)
    close(writer)
    run = subprocess.run(
        [sys.executable, "-c", MEMORY, str(source), str(target)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    one = rows * values * 4
    assert target.stat().st_size > 8 * one
    assert int(run.stdout) < source.stat().st_size + one + 64 * 2**20
