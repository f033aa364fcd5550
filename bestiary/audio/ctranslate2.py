"""CTranslate2's `model.bin`, in which faster-whisper keeps a model: variables one after the other, some of them quantised.

Version 6 of the format, in little-endian numbers: the version, name and revision of what the model is, then each variable with
its name, shape, dtype and bytes, at last the aliases, which are further names of variables. A file comes from strangers, so
every statement of it is checked here before one variable is looked at.
"""

import math
import mmap
import struct
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor

from bestiary.core.convert import LARGEST_GROWTH
from bestiary.core.mapped import map_file, name_fault, short
from bestiary.core.streamed import Form, stream_safetensors
from bestiary.errors import LayoutError

VERSION = 6
MOST_DIMENSIONS = 8
DTYPES = (torch.float32, torch.int8, torch.int16, torch.int32, torch.float16, torch.bfloat16)  # by their numbers in the file
QUANTISED = (torch.int8, torch.int16)
SCALE = "_scale"  # what the name of a scale has more than that of the variable which it is of


class Variable(NamedTuple):
    """Where the numbers of a variable lie, and what they are."""

    form: Form
    start: int  # in bytes, from the start of the file
    stop: int


class CTranslate2File:
    """A `model.bin`: what it says that it is, and its tensors by `tensor(name)`.

    `kind` is the name of the specification, such as WhisperSpec, and `revision` that of it. `forms` gives dtype and shape of
    every tensor, under each of its names; numbers are read when a tensor is asked for.

    Raises:
        LayoutError: the file is not well-formed, of another version, or cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._map = map_file(path)
        except ValueError as error:
            _refuse(path, "it is empty", error)
        try:
            content = _Content(self._map)
            self.kind, self.revision = content.kind, content.revision
            self._variables, self._scales = content.variables, content.scales()
        except ValueError as error:
            _refuse(path, str(error), error)
        names = {**{name: name for name in content.variables}, **content.aliases}
        self._names = {name: variable for name, variable in names.items() if variable not in self._scales.values()}
        self.forms = {name: self._form(variable) for name, variable in self._names.items()}

    def tensor(self, name: str) -> Tensor:
        """A tensor by any of its names: what is quantised as fp32, all else in its own dtype."""
        variable = self._names[name]
        values = self._values(variable)
        if variable not in self._scales:
            return values
        scale = self._values(self._scales[variable])  # one for all, or one for each row
        return values.float() / scale.float().view(-1, *[1] * (values.dim() - 1))

    def _values(self, variable: str) -> Tensor:
        (dtype, shape), start, stop = self._variables[variable]
        data = torch.frombuffer(self._map, dtype=torch.uint8, count=stop - start, offset=start)
        return data.clone().view(dtype).view(shape)  # a copy, as a variable lies where the one before ends, aligned or not

    def _form(self, variable: str) -> Form:
        form = self._variables[variable].form
        return Form(torch.float32, form.shape) if variable in self._scales else form


def convert_ctranslate2(source: Path, target: Path) -> None:
    """Write the variables of a `model.bin` as safetensors, under the same names, those with several under each.

    `target` appears whole or not at all. Besides the file no more than one tensor is in memory.

    Raises:
        LayoutError: the file is not well-formed, or of another version.
        DiskFullError: the disk cannot take the result.
    """
    file = CTranslate2File(source)
    size = sum(math.prod(form.shape) * form.dtype.itemsize for form in file.forms.values())
    if size > LARGEST_GROWTH * source.stat().st_size:
        _refuse(source, f"it would grow to {size} bytes, more than {LARGEST_GROWTH} times its size")
    stream_safetensors(target, file.forms, file.tensor)


class _Content:
    """What the file says, read from front to back. ValueError says what is wrong."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._at = 0
        version = self._number("I")
        if version != VERSION:
            raise ValueError(f"it begins with {version}, where the version {VERSION} was expected")
        self.kind, self.revision = self._text(), self._number("I")
        self.variables: dict[str, Variable] = {}
        self.aliases: dict[str, str] = {}
        for _ in range(self._number("I")):
            name = self._new_name()
            self.variables[name] = self._variable(name)
        for _ in range(self._number("I")):
            alias, variable = self._new_name(), self._text()
            if variable not in self.variables:
                raise ValueError(f"{short(alias)} is said to be {short(variable)}, which is not in it")
            self.aliases[alias] = variable
        if self._at < len(data):
            raise ValueError(f"its content ends at byte {self._at}, the file at byte {len(data)}")

    def scales(self) -> dict[str, str]:
        """The quantised variables, with the name of the scale of each."""
        found = {name: f"{name}{SCALE}" for name, variable in self.variables.items() if variable.form.dtype in QUANTISED}
        scales = {name: scale for name, scale in found.items() if scale in self.variables}  # settings are small numbers too
        for name, scale in scales.items():
            shape, (dtype, of) = self.variables[name].form.shape, self.variables[scale].form
            if not shape or of not in ((), (1,), shape[:1]) or not dtype.is_floating_point:
                raise ValueError(f"{short(scale)} is of {dtype} and shape {short(of)}, which is no scale of {short(shape)}")
        return scales

    def _number(self, form: str) -> Any:
        """One number, as struct calls its form."""
        (value,) = struct.unpack_from(f"<{form}", self._data, self._forward(struct.calcsize(f"<{form}")))
        return value

    def _forward(self, size: int) -> int:
        """Go past so many bytes; returns where they begin."""
        if size > len(self._data) - self._at:
            raise ValueError(f"it is cut short: it has {len(self._data)} bytes, and goes on to {self._at + size}")
        start, self._at = self._at, self._at + size
        return start

    def _text(self) -> str:
        size = self._number("H")
        start = self._forward(size)
        text = str(self._data[start : start + size], "utf-8")
        if not text.endswith("\0"):
            raise ValueError(f"the text {short(text)} does not end with a zero")
        return text[:-1]

    def _new_name(self) -> str:
        name = self._text()
        if fault := name_fault(name):
            raise ValueError(fault)
        if name in self.variables or name in self.aliases:
            raise ValueError(f"{short(name)} occurs twice")
        return name

    def _variable(self, name: str) -> Variable:
        dimensions = self._number("B")
        if dimensions > MOST_DIMENSIONS:
            raise ValueError(f"variable {short(name)} has {dimensions} dimensions")
        shape = tuple(self._number("I") for _ in range(dimensions))
        number, size = self._number("B"), self._number("I")
        if number >= len(DTYPES):
            raise ValueError(f"variable {short(name)} is of dtype {number}; known are 0 to {len(DTYPES) - 1}")
        dtype = DTYPES[number]
        if size == 0 or math.prod(shape) * dtype.itemsize != size:
            raise ValueError(f"variable {short(name)} has {size} bytes, which is not shape {short(shape)} of {dtype}")
        start = self._forward(size)
        return Variable(Form(dtype, shape), start, self._at)


def _refuse(path: Path, fault: str, cause: Exception | None = None) -> NoReturn:
    raise LayoutError(
        f"{path} is not a CTranslate2 file that can be read: {fault}.\nFetch it again, or another file of the same model."
    ) from cause
