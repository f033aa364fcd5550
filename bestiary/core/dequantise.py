"""The quantised numbers of GGUF files, as numbers again.

Values lie in blocks, each a few bytes of scales followed by one small integer a value, packed into bits. What the integers
mean is as in ggml (https://github.com/ggml-org/ggml, ggml-quants.c), and every product and sum is rounded to fp32 in the same
order, so the results are the same to the bit. The decoders take (blocks, bytes) of uint8 and give (blocks, values) of fp32.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

CHUNK = 2**20  # values that are decoded at a time, which their intermediate forms take several times over


class Encoding(NamedTuple):
    """How the values of a tensor are stored."""

    name: str
    values: int  # in a block
    size: int  # of a block, in bytes
    decode: Callable[[Tensor], Tensor] | None = None  # None: as they are
    dtype: torch.dtype = torch.float32  # of the decoded values


def dequantise(data: Tensor, encoding: Encoding) -> Tensor:
    """The values (values,) of the bytes (size,) of a tensor."""
    if encoding.decode is None:
        return data.view(encoding.dtype)
    blocks = data.view(-1, encoding.size)
    values = torch.empty(len(blocks), encoding.values)
    count = CHUNK // encoding.values
    for part, into in zip(blocks.split(count), values.split(count), strict=True):
        into.copy_(encoding.decode(part).view_as(into))
    return values.view(-1)


def _q8_0(blocks: Tensor) -> Tensor:
    scale, integers = blocks.split((2, 32), dim=1)
    return _half(scale) * integers.view(torch.int8)


def _q4_0(blocks: Tensor) -> Tensor:
    scale, low = blocks.split((2, 16), dim=1)
    return _half(scale) * (_nibbles(low).flatten(1).float() - 8)


def _q4_1(blocks: Tensor) -> Tensor:
    scale, least, low = blocks.split((2, 2, 16), dim=1)
    return _half(scale) * _nibbles(low).flatten(1) + _half(least)


def _q5_0(blocks: Tensor) -> Tensor:
    scale, high, low = blocks.split((2, 4, 16), dim=1)
    return _half(scale) * (_five_bits(low, high).float() - 16)


def _q5_1(blocks: Tensor) -> Tensor:
    scale, least, high, low = blocks.split((2, 2, 4, 16), dim=1)
    return _half(scale) * _five_bits(low, high) + _half(least)


def _q4_k(blocks: Tensor) -> Tensor:
    scale, least, packed, low = blocks.split((2, 2, 12, 128), dim=1)
    integers = _nibbles(low.unflatten(1, (4, 32))).flatten(1, 2)  # (blocks, 8, 32)
    scales, leasts = _six_bits(packed)  # (blocks, 8, 1)
    return _half(scale)[:, None] * scales * integers - _half(least)[:, None] * leasts


def _q5_k(blocks: Tensor) -> Tensor:
    scale, least, packed, high, low = blocks.split((2, 2, 12, 32, 128), dim=1)
    fifth = _fields(high, 1)  # (blocks, 8, 32)
    integers = _nibbles(low.unflatten(1, (4, 32))).flatten(1, 2) | fifth << 4
    scales, leasts = _six_bits(packed)
    return _half(scale)[:, None] * scales * integers - _half(least)[:, None] * leasts


def _q6_k(blocks: Tensor) -> Tensor:
    low, high, scales, scale = blocks.split((128, 64, 16, 2), dim=1)
    upper = _fields(high.unflatten(1, (2, 32)), 2).flatten(1)  # (blocks, 256)
    integers = (_nibbles(low.unflatten(1, (2, 64))).flatten(1) | upper << 4).float() - 32
    return (_half(scale) * scales.view(torch.int8))[:, :, None] * integers.unflatten(1, (16, 16))


def _half(pair: Tensor) -> Tensor:
    """The fp16 number in each row of two bytes, as fp32: (blocks, 1)."""
    return pair.contiguous().view(torch.float16).float()


def _fields(packed: Tensor, bits: int) -> Tensor:
    """Fields of that many bits, those at the lowest place of all bytes first: (..., bytes) → (..., 8 / bits, bytes)."""
    places = torch.arange(0, 8, bits, dtype=torch.uint8)
    return (packed[..., None, :] >> places[:, None]) & (2**bits - 1)


def _nibbles(packed: Tensor) -> Tensor:
    return _fields(packed, 4)


def _five_bits(low: Tensor, high: Tensor) -> Tensor:
    """(blocks, 32) of four bits from `low` and one from `high`, whose bits are in the order of the values."""
    fifth = _fields(high, 1).transpose(1, 2).flatten(1)
    return _nibbles(low).flatten(1) | fifth << 4


def _six_bits(packed: Tensor) -> tuple[Tensor, Tensor]:
    """Scales and minima (blocks, 8, 1) of six bits each: four lie whole, of four the upper bits stand above those."""
    first, second, third = packed.split(4, dim=1)
    scales = torch.cat((first & 63, third & 15 | (first >> 6) << 4), dim=1)
    leasts = torch.cat((second & 63, third >> 4 | (second >> 6) << 4), dim=1)
    return scales[:, :, None], leasts[:, :, None]


# By their numbers in ggml.h.
ENCODINGS = {
    0: Encoding("F32", 1, 4),
    1: Encoding("F16", 1, 2, dtype=torch.float16),
    2: Encoding("Q4_0", 32, 18, _q4_0),
    3: Encoding("Q4_1", 32, 20, _q4_1),
    6: Encoding("Q5_0", 32, 22, _q5_0),
    7: Encoding("Q5_1", 32, 24, _q5_1),
    8: Encoding("Q8_0", 32, 34, _q8_0),
    12: Encoding("Q4_K", 256, 144, _q4_k),
    13: Encoding("Q5_K", 256, 176, _q5_k),
    14: Encoding("Q6_K", 256, 210, _q6_k),
    30: Encoding("BF16", 1, 2, dtype=torch.bfloat16),
}
# Names for messages.
UNREAD = {
    9: "Q8_1", 10: "Q2_K", 11: "Q3_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL",
    21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M", 34: "TQ1_0",
    35: "TQ2_0", 39: "MXFP4",
}  # fmt: skip
