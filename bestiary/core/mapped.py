"""Safetensors files, mapped into memory without a copy.

A file is eight bytes of header length, a JSON header, and the bytes of the tensors laid end to end
(https://github.com/huggingface/safetensors#format). The header comes from strangers, so every statement in it is
checked here before one byte is mapped.
"""

import json
import math
import mmap
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn

import torch
from torch import Tensor

from bestiary.errors import LayoutError

LENGTH_BYTES = 8
LARGEST_HEADER = 100_000_000
# What torch can index: a tensor has at most 64 dimensions and 2**63 - 1 bytes.
MOST_DIMENSIONS = 64
MOST_BYTES = 2**63 - 1

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def map_file(path: Path) -> mmap.mmap:
    """The bytes of a file, read as needed. Raises LayoutError where it cannot be read, ValueError where it is empty."""
    try:
        with path.open("rb") as file:
            # Copied on write, since torch's views can only be of what may be written to.
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except OSError as error:
        raise LayoutError(f"{path} cannot be read: {error.strerror}.\nCheck the path and its permissions.") from error


class Extent(NamedTuple):
    """Where one tensor lies and what it is."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int  # in bytes, from the start of the file
    stop: int


class Header(NamedTuple):
    """What a safetensors file says about itself; `extents` in the order in which the tensors lie."""

    extents: dict[str, Extent]
    metadata: dict[str, str]


class MappedTensors(Mapping[str, Tensor]):
    """The tensors of a safetensors file by name, as views of the file mapped into memory.

    The mapping is private and copied on write: a tensor may be trained in place and the file stays as it is. Nothing is
    read until a tensor's numbers are looked at. Tensors keep the mapping alive and stay valid after this object is gone.
    Iteration follows the order in which the tensors lie in the file, so that reading them all reads the disk once, forwards.

    Raises:
        LayoutError: the file is not well-formed safetensors, or cannot be read.

    Example:
        >>> from bestiary.core.streamed import write_safetensors
        >>> write_safetensors("model.safetensors", {"embedding.weight": torch.zeros(30522, 384)})
        >>> tensors = MappedTensors("model.safetensors")
        >>> tensors.shape("embedding.weight")
        (30522, 384)
        >>> weight = tensors["embedding.weight"].to(torch.bfloat16)
        >>> tensors.release("embedding.weight")
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            with open(self.path, "rb") as file:
                header = read_header(file, self.path)
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        except OSError as error:
            raise LayoutError(f"{self.path} cannot be read: {error.strerror}.\nCheck the path and its permissions.") from error
        self._extents = header.extents
        self.metadata: Mapping[str, str] = header.metadata

    def __getitem__(self, name: str) -> Tensor:
        dtype, shape, start, stop = self._extents[name]
        if start == stop:
            return torch.empty(shape, dtype=dtype)
        if start % dtype.itemsize == 0:
            return torch.frombuffer(self._map, dtype=dtype, count=(stop - start) // dtype.itemsize, offset=start).view(shape)
        # The format does not promise aligned tensors, the kernels that read them need it.
        return torch.frombuffer(self._map, dtype=torch.uint8, count=stop - start, offset=start).clone().view(dtype).view(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._extents)

    def __len__(self) -> int:
        return len(self._extents)

    def __contains__(self, name: object) -> bool:
        return name in self._extents

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, from the header alone."""
        return self._extents[name].shape

    def dtype(self, name: str) -> torch.dtype:
        """The dtype of a tensor, from the header alone."""
        return self._extents[name].dtype

    def release(self, name: str) -> None:
        """Give the memory pages of a tensor back to the system.

        For a reader that has copied or cast the tensor and needs its pages no longer: casting a whole file then takes the
        memory of the result plus one tensor. The tensor stays usable and is read from the file again; what was written
        into it in place is lost. Does nothing where the system has no such call.
        """
        extent = self._extents[name]
        # Pages at the edges are shared with the neighbours.
        first = -(-extent.start // mmap.PAGESIZE) * mmap.PAGESIZE
        last = extent.stop // mmap.PAGESIZE * mmap.PAGESIZE
        if first < last and sys.platform != "win32":
            self._map.madvise(mmap.MADV_DONTNEED, first, last - first)


def read_header(file: BinaryIO, path: Path) -> Header:
    """Read and check the header of an open safetensors file; `path` is for messages.

    The tensors must cover what follows the header exactly, without gap or overlap, so that the file holds nothing that no
    name reaches.

    Raises:
        LayoutError: any statement of the header is wrong, or contradicts the size of the file.
    """
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(LENGTH_BYTES), "little")
    first = LENGTH_BYTES + length
    if size < LENGTH_BYTES or first > size:
        _refuse(path, f"it is {size} bytes long and its header claims to end at byte {first}")
    if length > LARGEST_HEADER:
        _refuse(path, f"its header of {length} bytes is over the limit of {LARGEST_HEADER}")
    text = file.read(length)
    try:
        entries = json.loads(text.decode("utf-8"), object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        _refuse(path, f"its header is not valid JSON ({error})", error)
    if not isinstance(entries, dict):
        _refuse(path, "its header is not a JSON object")

    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        _refuse(path, "its __metadata__ does not map strings to strings")
    extents = {}
    for name, entry in entries.items():
        if fault := name_fault(name):
            _refuse(path, fault)
        try:
            extents[name] = _extent(entry, first)
        except ValueError as error:
            _refuse(path, f"tensor {short(name)} {error}", error)

    end = first
    ordered = dict(sorted(extents.items(), key=lambda item: (item[1].start, item[1].stop)))
    for name, extent in ordered.items():
        if extent.start != end:
            _refuse(path, f"tensor {short(name)} starts at byte {extent.start}, where {end} was due (a gap or an overlap)")
        end = extent.stop
    if end != size:
        _refuse(path, f"its tensors end at byte {end}, the file at byte {size}")
    return Header(ordered, metadata)


def name_fault(name: str) -> str | None:
    """Why a name that a stranger gave a tensor is refused, or None when it is not."""
    # Names reach terminals, messages and, in other tools, file systems.
    if not name or not name.isprintable():
        return f"tensor name {short(name)} is empty or has control characters"
    steps = name.replace("\\", "/").split("/")
    if ".." in steps or steps[0] == "" or steps[0].endswith(":"):
        return f"tensor name {short(name)} looks like a path"
    return None


def _extent(entry: Any, first: int) -> Extent:
    """The extent that a header's entry describes; `first` is where tensor bytes start. ValueError says what is wrong."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError("is not described by exactly dtype, shape and data_offsets")
    code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(code, str) or code not in DTYPES:
        raise ValueError(f"has dtype {short(code)}; known are {', '.join(DTYPES)}")
    if not _are_counts(shape) or len(shape) > MOST_DIMENSIONS:
        raise ValueError(f"has shape {short(shape)}")
    if not _are_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(f"has data_offsets {short(offsets)}")
    # Strides count the empty dimensions as one, and must fit an int64 too.
    if math.prod(max(1, count) for count in shape) * DTYPES[code].itemsize > MOST_BYTES:
        raise ValueError(f"has shape {short(shape)}, larger than any memory")
    start, stop = offsets
    if math.prod(shape) * DTYPES[code].itemsize != stop - start:
        raise ValueError(f"has {stop - start} bytes, which is not shape {short(shape)} of {code}")
    return Extent(DTYPES[code], tuple(shape), first + start, first + stop)


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise ValueError("a name occurs twice")
    return entries


def _refuse(path: Path, fault: str, cause: Exception | None = None) -> NoReturn:
    raise LayoutError(
        f"{path} is not well-formed safetensors: {fault}.\nFetch it again, or ask who made it for a sound file."
    ) from cause


def short(value: object) -> str:
    """A stranger's value for a message: escaped, and no longer than a line can bear."""
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
