"""Safetensors files, written one tensor at a time.

The header, which says where every tensor will lie, needs their forms alone; the numbers follow as they are made. So a
conversion takes no more memory than its largest tensor.
"""

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bestiary.core.mapped import DTYPES, LENGTH_BYTES, name_fault, short
from bestiary.errors import DiskFullError, LayoutError, of_writing

CODES = {dtype: code for code, dtype in DTYPES.items()}


class Form(NamedTuple):
    """What a tensor is without its numbers."""

    dtype: torch.dtype
    shape: tuple[int, ...]


def write_safetensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors to a safetensors file, which appears whole or not at all.

    Tensors are written contiguous and in an order that depends on dtypes and names alone, so that equal tensors give equal
    files; those that share memory are written each in full.

    Raises:
        LayoutError: a tensor is not dense, has no data (meta), or has a name or dtype that cannot be read back.
        DiskFullError: the disk cannot take the file.
        InputError: the folder is not there or may not be written.
    """
    for name, tensor in tensors.items():
        if fault := tensor_fault(name, tensor):
            raise LayoutError(f"{path} cannot be written: {fault}.")
    forms = {name: Form(tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
    stream_safetensors(path, forms, tensors.__getitem__, metadata)


def stream_safetensors(
    path: str | os.PathLike[str],
    forms: Mapping[str, Form],
    tensor: Callable[[str], Tensor],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a safetensors file of tensors that are made one at a time: `tensor(name)` is asked for when its turn comes.

    No more than one of them need be in memory. Whatever `tensor` raises goes through, and no file appears. Raises
    DiskFullError and InputError as `write_safetensors` does.
    """
    path = Path(path)
    entries: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    names = sorted(forms, key=lambda name: (-forms[name].dtype.itemsize, name))  # the widest first, so that all lie aligned
    end = 0
    for name in names:
        dtype, shape = forms[name]
        start, end = end, end + math.prod(shape) * dtype.itemsize
        entries[name] = {"dtype": CODES[dtype], "shape": list(shape), "data_offsets": [start, end]}
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % LENGTH_BYTES)

    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(len(header).to_bytes(LENGTH_BYTES, "little") + header)
            for name in names:
                file.write(tensor(name).detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        partial.replace(path)
    except OSError as error:
        kind = of_writing(error)
        next_step = "Make room and try again." if kind is DiskFullError else "Check that the folder is there and may be written."
        raise kind(f"{path} cannot be written: {error.strerror}.\n{next_step}") from error
    finally:
        partial.unlink(missing_ok=True)


def tensor_fault(name: str, tensor: Tensor) -> str | None:
    """Why a named tensor has no place in a safetensors file, or None when it has."""
    if fault := name_fault(name):
        return fault
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta:
        return f"tensor {short(name)} is sparse, quantised or without data"
    if tensor.dtype not in CODES:
        return f"tensor {short(name)} is of {tensor.dtype}, which the format does not know"
    return None
