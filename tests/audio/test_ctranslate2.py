"""CTranslate2 files: what the reference library writes, and nothing but an error from files that are damaged or hostile."""

import random
import re
import struct
import tracemalloc
from pathlib import Path

import numpy
import pytest
import torch
import transformers

from bestiary.audio.ctranslate2 import DTYPES, CTranslate2File, convert_ctranslate2
from bestiary.core.mapped import MappedTensors
from bestiary.errors import LayoutError
from tests.ctranslate2_files import spec_of, write_ctranslate2

TINY = transformers.WhisperConfig(
    vocab_size=40, num_mel_bins=8, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
    encoder_ffn_dim=24, decoder_ffn_dim=24, d_model=16, max_source_positions=6, max_target_positions=9, pad_token_id=0,
    bos_token_id=0, eos_token_id=0, decoder_start_token_id=1, begin_suppress_tokens=None,
)  # fmt: skip
FLOATS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@pytest.fixture(scope="module")
def reference():
    torch.manual_seed(0)
    return transformers.WhisperForConditionalGeneration(TINY).eval()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "model.bin"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def values_of(spec) -> dict[str, numpy.ndarray]:
    """What the reference wrote, each variable under its name; names that are aliases come as text."""
    variables = spec.variables(ordered=True)
    return {name: value if isinstance(value, str) else value.to("float32").numpy() for name, value in variables}


@pytest.mark.parametrize("quantization", [None, *FLOATS])
def test_plain_variables_come_as_they_are(reference, tmp_path, target, quantization):
    write_ctranslate2(tmp_path, reference, quantization)
    convert_ctranslate2(tmp_path / "model.bin", target)
    tensors, written = MappedTensors(target), values_of(spec_of(reference, quantization))
    assert set(tensors) == set(written)
    for name, value in written.items():
        value = written[value] if isinstance(value, str) else value
        assert numpy.array_equal(tensors[name].float().numpy(), value) and tensors[name].shape == value.shape
    assert tensors.dtype("encoder/conv1/weight") == FLOATS.get(quantization, torch.float32)
    assert tensors.dtype("encoder/num_heads") == torch.int16 and tensors["encoder/num_heads"] == 2
    assert torch.equal(tensors["decoder/projection/weight"], tensors["decoder/embeddings/weight"])


@pytest.mark.parametrize("quantization", ["int8", "int8_float16", "int8_bfloat16", "int16"])
def test_what_is_quantised_comes_as_the_numbers_that_it_stands_for(reference, tmp_path, target, quantization):
    write_ctranslate2(tmp_path, reference, quantization)
    convert_ctranslate2(tmp_path / "model.bin", target)
    tensors, exact = MappedTensors(target), values_of(spec_of(reference))
    written = values_of(spec_of(reference, quantization))
    scales = [name for name in written if name.endswith("_scale")]
    assert set(tensors) == set(written) - set(scales) == set(exact)
    for scale in scales:
        name = scale.removesuffix("_scale")
        if isinstance(written[name], str):
            continue
        rows = written[scale].reshape(-1, *[1] * (written[name].ndim - 1))
        assert tensors.dtype(name) == torch.float32
        assert numpy.array_equal(tensors[name].numpy(), written[name] / rows)
        assert abs(tensors[name].numpy() - exact[name]).max() <= 0.51 / rows.min()  # rounded to the nearest step
    assert len(scales) > 10 and tensors.dtype("encoder/conv1/bias") == FLOATS.get(quantization.partition("_")[2], torch.float32)


def test_a_file_says_what_it_is(reference, tmp_path):
    file = CTranslate2File(write_ctranslate2(tmp_path, reference) / "model.bin")
    assert (file.kind, file.revision) == ("WhisperSpec", 3)
    assert file.forms["encoder/conv1/weight"] == (torch.float32, (16, 8, 3))


def text(value: str) -> bytes:
    return struct.pack("<H", len(value.encode()) + 1) + value.encode() + b"\0"


def variable(name: str, shape: tuple[int, ...], kind: int = 0, content: bytes | None = None, size: int | None = None) -> bytes:
    content = bytes(int(numpy.prod(shape, dtype=numpy.int64)) * DTYPES[kind].itemsize) if content is None else content
    head = struct.pack(f"<B{len(shape)}IBI", len(shape), *shape, kind, len(content) if size is None else size)
    return text(name) + head + content


def raw(*parts: bytes, variables: int | None = None, aliases: bytes = struct.pack("<I", 0), version: int = 6) -> bytes:
    count = struct.pack("<I", len(parts) if variables is None else variables)
    return struct.pack("<I", version) + text("WhisperSpec") + struct.pack("<I", 3) + count + b"".join(parts) + aliases


def alias(*pairs: tuple[str, str]) -> bytes:
    return struct.pack("<I", len(pairs)) + b"".join(text(name) + text(of) for name, of in pairs)


A, SCALED = variable("a", (4,)), variable("a", (4, 2), 1)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "empty"),
        (b"PK\3", "cut short"),
        (b"PK\3\4" + bytes(99), "begins with 67324752, where the version 6 was expected"),
        (raw(A, version=5), "begins with 5, where the version 6"),
        (raw(A, variables=2**32 - 1), "does not end with a zero"),
        (raw(A, aliases=b"", variables=2**32 - 1), "cut short"),
        (raw(A)[:-20], "cut short"),
        (raw(A) + b"\0", "content ends at byte"),
        (raw(A, aliases=struct.pack("<I", 2**32 - 1)), "cut short"),
        (raw(A, aliases=alias(("b", "c"))), "'b' is said to be 'c', which is not in it"),
        (raw(A, aliases=alias(("b", "a"), ("c", "b"))), "'c' is said to be 'b', which is not in it"),
        (raw(A, aliases=alias(("a", "a"))), "'a' occurs twice"),
        (raw(A, aliases=alias(("b", "a"), ("b", "a"))), "'b' occurs twice"),
        (raw(variable("a", (1000,)), aliases=alias(*((f"b{i}", "a") for i in range(2000)))), "would grow"),
        (raw(A, A), "'a' occurs twice"),
        (raw(variable("../a", (1,))), "looks like a path"),
        (raw(variable("/etc/passwd", (1,))), "looks like a path"),
        (raw(variable("a\x1b[2J", (1,))), "control characters"),
        (raw(struct.pack("<H", 2) + b"ab"), "does not end with a zero"),
        (raw(struct.pack("<H", 0)), "does not end with a zero"),
        (raw(struct.pack("<H", 2) + b"\xff\0"), "utf-8"),
        (raw(variable("a", (1,) * 9)), "9 dimensions"),
        (raw(text("a") + struct.pack("<B1IBI", 1, 4, 6, 16) + bytes(16)), "'a' is of dtype 6"),
        (raw(variable("a", (4,), size=12)), "has 12 bytes, which is not shape (4,)"),
        (raw(variable("a", (2**32 - 1,) * 8, content=b"", size=16)), "has 16 bytes"),
        (raw(variable("a", (4, 0))), "has 0 bytes"),
        (raw(variable("a", (2**29,), content=b"", size=2**31)), "cut short"),
        (raw(SCALED, variable("a_scale", (3,))), "'a_scale' is of torch.float32 and shape (3,)"),
        (raw(SCALED, variable("a_scale", (4,), 3)), "'a_scale' is of torch.int32"),
        (raw(variable("a", (), 1), variable("a_scale", ())), "no scale of ()"),
    ],
)
def test_a_file_that_is_not_sound_is_refused_and_nothing_is_left(source: Path, target: Path, content: bytes, fault: str) -> None:
    source.write_bytes(content)
    with pytest.raises(LayoutError, match=re.escape(fault)) as caught:
        convert_ctranslate2(source, target)
    assert str(source) in str(caught.value) and len(str(caught.value).splitlines()) <= 3
    assert list(target.parent.iterdir()) == [source]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=r"missing\.bin cannot be read"):
        CTranslate2File(tmp_path / "missing.bin")
    with pytest.raises(LayoutError, match="cannot be read"):
        CTranslate2File(tmp_path)


SOUND = raw(
    variable("a", (2, 3), 1, bytes(range(6))),
    variable("a_scale", (2,), content=struct.pack("<2f", 2.0, 4.0)),
    variable("b", (), 2, struct.pack("<h", 7)),
    variable("c", (3,), 4, numpy.arange(3, dtype=numpy.float16).tobytes()),
    aliases=alias(("d", "a"), ("d_scale", "a_scale"), ("e", "c")),
)


def test_variables_that_lie_unaligned_and_their_aliases(source: Path, target: Path) -> None:
    source.write_bytes(SOUND)
    convert_ctranslate2(source, target)
    tensors = MappedTensors(target)
    assert {name: tensors[name].tolist() for name in sorted(tensors)} == {
        "a": [[0.0, 0.5, 1.0], [0.75, 1.0, 1.25]],
        "b": 7,
        "c": [0.0, 1.0, 2.0],
        "d": [[0.0, 0.5, 1.0], [0.75, 1.0, 1.25]],
        "e": [0.0, 1.0, 2.0],
    }


def test_a_file_cut_short_anywhere_is_refused(source: Path, target: Path) -> None:
    for kept in range(len(SOUND)):
        source.write_bytes(SOUND[:kept])
        with pytest.raises(LayoutError):
            convert_ctranslate2(source, target)
    assert list(target.parent.iterdir()) == [source]


def test_flipped_bits_give_an_error_or_a_file_and_never_take_much_memory(source: Path, target: Path) -> None:
    generator, refused = random.Random(20), 0
    tracemalloc.start()
    try:
        for _ in range(1500):
            damaged = bytearray(SOUND)
            for _ in range(generator.choice((1, 1, 2, 8))):
                damaged[generator.randrange(len(damaged))] ^= 1 << generator.randrange(8)
            source.write_bytes(damaged)
            try:
                convert_ctranslate2(source, target)
            except LayoutError as error:
                refused += 1
                assert len(str(error).splitlines()) <= 3 and len(str(error)) < 600
                assert not target.exists()
            else:
                target.unlink()
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    assert 500 < refused < 1500
