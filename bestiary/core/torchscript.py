"""TorchScript archives, whose tensors are turned once into safetensors.

Such an archive holds code and a pickle, which is a program too. Nothing of either is ever run: the pickle is read by an unpickler
that knows tensors and plain containers. It makes of every other object a holder of attributes, so that a tensor is called by
its path, as in the state dict of the module.
"""

from __future__ import annotations

import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bestiary.core.streamed import write_safetensors
from bestiary.errors import LayoutError

STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
LARGEST_PICKLE = 100_000_000  # bytes; what it says of a net is a thousandth of that
LARGEST_GROWTH = 16  # times its numbers that a tensor may be: with strides of zero it can claim any shape


def convert_torchscript(source: Path, target: Path) -> None:
    """Write the tensors of a TorchScript archive as safetensors, under their names in the module; `target` appears whole or not.

    Raises LayoutError for what is no such archive, or holds what no module needs; DiskFullError.
    """
    try:
        with zipfile.ZipFile(source) as archive:
            module = _Unpickler(archive).load()
            tensors = {name: stored.read(archive) for name, stored in _named(module)}
    except Exception as error:  # a damaged or hostile archive makes zip and unpickler fail in any way there is
        raise LayoutError(
            f"{source} is not a TorchScript archive of plain tensors ({type(error).__name__}); nothing in it was run.\n"
            "Fetch it again if it may be damaged; else ask for its weights as a safetensors file."
        ) from error
    if not tensors:
        raise LayoutError(f"{source} holds no tensor.")
    write_safetensors(target, tensors)


class _Object:
    """Whatever the archive calls an object: its attributes, and nothing that it does."""

    attributes: Any = ()

    def __setstate__(self, state: Any) -> None:
        self.attributes = state


class _Storage(NamedTuple):
    """Numbers in a row, in a file of the archive."""

    file: str
    dtype: torch.dtype


class _Stored(NamedTuple):
    """A tensor, before its numbers are read."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def read(self, archive: zipfile.ZipFile) -> Tensor:
        content = archive.read(self.storage.file)
        if math.prod(self.shape) * self.storage.dtype.itemsize > LARGEST_GROWTH * len(content):
            raise ValueError("repeats the same numbers")
        if not content:
            return torch.empty(self.shape, dtype=self.storage.dtype)
        numbers = torch.frombuffer(bytearray(content), dtype=self.storage.dtype)
        return numbers.as_strided(self.shape, self.strides, self.offset).clone(memory_format=torch.contiguous_format)


def _tensor(storage: _Storage, offset: int, shape: Any, strides: Any, *_: Any) -> _Stored:
    return _Stored(storage, offset, tuple(shape), tuple(strides))


def _as_it_is(value: Any, *_: Any) -> Any:
    return value


class _Unpickler(pickle.Unpickler):
    """Reads the pickle of an archive; the names that it may use are those below, whatever it asks for."""

    def __init__(self, archive: zipfile.ZipFile):
        (path,) = [name for name in archive.namelist() if PurePosixPath(name).name == "data.pkl"]
        if archive.getinfo(path).file_size > LARGEST_PICKLE:
            raise pickle.UnpicklingError("too large")
        super().__init__(BytesIO(archive.read(path)))
        self.folder = PurePosixPath(path).parent / "data"

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__"):
            return type("Object", (_Object,), {})
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        known = {("torch._utils", "_rebuild_tensor_v2"): _tensor, ("collections", "OrderedDict"): OrderedDict}
        if module == "torch.jit._pickle":  # lists of one type, which say so
            return _as_it_is
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return known[module, name]

    def persistent_load(self, identity: Any) -> _Storage:
        _, dtype, name, *_ = identity
        return _Storage(str(self.folder / str(name)), dtype)


def _named(value: Any, name: str = "") -> Iterator[tuple[str, _Stored]]:
    """The tensors below a value, by the attributes that lead to them."""
    if isinstance(value, _Stored):
        yield name, value
    elif isinstance(value, _Object):
        for attribute, part in dict(value.attributes).items():
            yield from _named(part, f"{name}.{attribute}" if name else attribute)
