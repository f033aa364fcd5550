"""Writing GGUF files: the inverse of `GgufFile`, for tensors that are not quantised."""

import math
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from bestiary.core.dequantise import ENCODINGS
from bestiary.core.gguf import ARRAY, MAGIC, NUMBERS, TEXT, VERSIONS
from bestiary.core.streamed import Form

ALIGNMENT = 32
KINDS = {bool: 7, int: 4, float: 6}  # of numbers, as NUMBERS says: bool, 32 bits without sign, fp32
LISTED = {**KINDS, int: 5}  # in lists, which llama.cpp reads only if their whole numbers have a sign
TYPES = {encoding.dtype: kind for kind, encoding in ENCODINGS.items() if encoding.decode is None}


def write_gguf(path: Path, metadata: Mapping[str, Any], forms: Mapping[str, Form], tensor: Callable[[str], Tensor]) -> None:
    """Write a GGUF file of tensors of fp32, fp16 or bf16, asked for one at a time.

    Values are bool, int (of 32 bits), float (kept as fp32), str, or lists of these, with one type each. The caller sees to it
    that no part of a file is left where an exception goes through.
    """
    header = bytearray(MAGIC + struct.pack("<IQQ", max(VERSIONS), len(forms), len(metadata)))
    for key, value in metadata.items():
        header += _text(key) + _value(value)
    offset = 0
    for name, (dtype, shape) in forms.items():
        header += _text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape[::-1], TYPES[dtype], offset)
        size = math.prod(shape) * dtype.itemsize
        offset += size + -size % ALIGNMENT
    with path.open("wb") as file:
        _aligned(file, header)
        for name, form in forms.items():
            values = tensor(name).detach().to("cpu", form.dtype).contiguous()
            _aligned(file, values.view(-1).view(torch.uint8).numpy().data)


def _aligned(file: BinaryIO, data: bytearray | memoryview) -> None:
    file.write(data)
    file.write(bytes(-len(data) % ALIGNMENT))


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: Any) -> bytes:
    if not isinstance(value, list):
        kind, data = _element(value, KINDS)
        return struct.pack("<I", kind) + data
    elements = [_element(element, LISTED) for element in value]
    kind = elements[0][0] if elements else TEXT
    return struct.pack("<IIQ", ARRAY, kind, len(value)) + b"".join(data for _, data in elements)


def _element(value: bool | int | float | str, kinds: Mapping[type, int]) -> tuple[int, bytes]:
    if isinstance(value, str):
        return TEXT, _text(value)
    kind = kinds[type(value)]
    return kind, struct.pack(f"<{NUMBERS[kind]}", value)
