"""GGUF files, in which llama.cpp keeps a model: metadata, then tensors, most of them quantised.

The format is that of https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3. A file comes from strangers,
so every statement of its header is checked here before one tensor is looked at. (The library `gguf` checks none: a file of 49
bytes that announces an array of 2^62 numbers keeps it busy for ever.)
"""

import math
import mmap
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy
import torch
from torch import Tensor

from bestiary.core.dequantise import ENCODINGS, UNREAD, Encoding, dequantise
from bestiary.core.mapped import LARGEST_HEADER, MOST_BYTES, map_file, name_fault, short
from bestiary.core.streamed import Form, stream_safetensors
from bestiary.errors import LayoutError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MOST_DIMENSIONS = 4
TEXT, ARRAY = 8, 9
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}  # as struct writes them


class Extent(NamedTuple):
    """Where a tensor lies and how it is stored."""

    encoding: Encoding
    form: Form
    start: int  # in bytes, from the start of the file
    stop: int


class GgufFile(Mapping[str, Any]):
    """A GGUF file: its metadata by key, its tensors by `tensor(name)`.

    A value is a number, a bool, a str, a numpy array of numbers or a list of str. `forms` gives dtype and shape of every
    tensor, in PyTorch's order; numbers are read when a tensor is asked for.

    Raises:
        LayoutError: the file is not well-formed, holds a tensor in an encoding that is not read, or cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._map = map_file(path)
        except ValueError as error:
            _refuse(path, "it is empty", error)
        try:
            header = _Header(self._map)
        except ValueError as error:
            _refuse(path, str(error), error)
        self._metadata = header.metadata
        self._extents = header.extents
        self.forms = {name: extent.form for name, extent in header.extents.items()}

    def __getitem__(self, key: str) -> Any:
        return self._metadata[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._metadata)

    def __len__(self) -> int:
        return len(self._metadata)

    def tensor(self, name: str) -> Tensor:
        """A tensor by name; F32, F16 and BF16 in their dtype, what is quantised as fp32."""
        encoding, form, start, stop = self._extents[name]
        data = torch.frombuffer(self._map, dtype=torch.uint8, count=stop - start, offset=start)
        return dequantise(data, encoding).view(form.shape)


def convert_gguf(source: Path, target: Path) -> None:
    """Write the tensors of a GGUF file as safetensors, under the same names.

    `target` appears whole or not at all. Besides the file no more than one tensor is in memory.

    Raises:
        LayoutError: the file is not well-formed, or holds a tensor in an encoding that is not read.
        DiskFullError: the disk cannot take the result.
    """
    file = GgufFile(source)
    stream_safetensors(target, file.forms, file.tensor)


class _Header:
    """What stands before the tensors, read from front to back. ValueError says what is wrong."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._at = 0
        self._end = min(len(data), LARGEST_HEADER)
        if data[: len(MAGIC)] != MAGIC:
            raise ValueError("it does not begin with GGUF")
        self._at = len(MAGIC)
        version = self._number("I")
        if version not in VERSIONS:
            # Big-endian machines write the same number from the other end.
            written = "for big-endian machines" if version >> 24 in VERSIONS else f"in version {version}"
            raise ValueError(f"it is written {written}, where version {' or '.join(map(str, VERSIONS))} was expected")
        tensors, keys = self._number("Q"), self._number("Q")
        self.metadata: dict[str, Any] = {}
        for _ in range(keys):
            key = self._text()
            if key in self.metadata:
                raise ValueError(f"it says twice what {short(key)} is")
            self.metadata[key] = self._value(self._number("I"))
        described = [self._tensor() for _ in range(tensors)]
        self.extents = self._laid_out(described)

    def _number(self, form: str) -> Any:
        """One number, as struct calls its form."""
        (value,) = struct.unpack_from(f"<{form}", self._data, self._forward(struct.calcsize(f"<{form}")))
        return value

    def _forward(self, size: int) -> int:
        """Go past so many bytes; returns where they begin."""
        if size > self._end - self._at:
            raise ValueError(f"its header does not end within {self._end} bytes")
        start, self._at = self._at, self._at + size
        return start

    def _text(self) -> str:
        size = self._number("Q")
        start = self._forward(size)
        return str(self._data[start : start + size], "utf-8")

    def _value(self, kind: int) -> Any:
        if kind in NUMBERS:
            return self._number(NUMBERS[kind])
        if kind == TEXT:
            return self._text()
        if kind != ARRAY:
            raise ValueError(f"its metadata has a value of type {kind}")
        kind, count = self._number("I"), self._number("Q")
        if kind == TEXT:
            return [self._text() for _ in range(count)]
        if kind not in NUMBERS:
            raise ValueError(f"its metadata has an array of type {kind}")
        dtype = numpy.dtype(f"<{NUMBERS[kind]}")
        start = self._forward(count * dtype.itemsize)
        return numpy.frombuffer(self._data, dtype, count, start)

    def _tensor(self) -> tuple[str, Encoding, Form, int]:
        """Name, encoding, form and offset of one tensor."""
        name = self._text()
        if fault := name_fault(name):
            raise ValueError(fault)
        dimensions = self._number("I")
        if dimensions > MOST_DIMENSIONS:
            raise ValueError(f"tensor {short(name)} has {dimensions} dimensions")
        shape = tuple(self._number("Q") for _ in range(dimensions))[::-1]
        kind, offset = self._number("I"), self._number("Q")
        if kind not in ENCODINGS:
            raise ValueError(
                f"tensor {short(name)} is stored as {UNREAD.get(kind, f'type {kind}')}; "
                f"what is read is {', '.join(encoding.name for encoding in ENCODINGS.values())}"
            )
        encoding = ENCODINGS[kind]
        if math.prod(shape) * encoding.dtype.itemsize > MOST_BYTES or 0 in shape:
            raise ValueError(f"tensor {short(name)} has shape {short(shape)}")
        row = shape[-1] if shape else 1
        if row % encoding.values:
            raise ValueError(f"tensor {short(name)} of {encoding.name} has rows of {row}, no multiple of {encoding.values}")
        return name, encoding, Form(encoding.dtype, shape), offset

    def _laid_out(self, described: list[tuple[str, Encoding, Form, int]]) -> dict[str, Extent]:
        """The tensors follow each other as they are described, each at a multiple of the alignment."""
        alignment = self.metadata.get("general.alignment", 32)
        if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
            raise ValueError(f"its alignment is {short(alignment)}, which is not a power of two")
        first = _rounded(self._at, alignment)
        extents: dict[str, Extent] = {}
        due = 0
        for name, encoding, form, offset in described:
            if name in extents:
                raise ValueError(f"tensor {short(name)} occurs twice")
            if offset != due:
                raise ValueError(f"tensor {short(name)} starts at byte {offset}, where {due} was due (a gap or an overlap)")
            stop = offset + math.prod(form.shape) // encoding.values * encoding.size
            extents[name] = Extent(encoding, form, first + offset, first + stop)
            due = _rounded(stop, alignment)
            if first + stop > len(self._data):
                raise ValueError(f"it is cut short: it has {len(self._data)} bytes, and {short(name)} ends at {first + stop}")
        if first + due < len(self._data):
            raise ValueError(f"its tensors end at byte {first + due}, the file at byte {len(self._data)}")
        return extents


def _rounded(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment


def _refuse(path: Path, fault: str, cause: Exception) -> NoReturn:
    raise LayoutError(
        f"{path} is not a GGUF file that can be read: {fault}.\nFetch it again, or another file of the same model."
    ) from cause
