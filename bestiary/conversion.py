"""Files in other formats, made once into those that the zoo reads and kept in the store.

The suffix tells the format, or the name where a library knows its file by that alone. Only safetensors reaches a net; what
else a file holds, such as a tokenizer, becomes a file of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from bestiary.errors import LayoutError
from bestiary.hub.card import File
from bestiary.hub.fetch import Fetched
from bestiary.hub.store import Store


class Converter(NamedTuple):
    """A function of source and target that writes the target whole or not at all."""

    name: str
    version: int  # a new one converts anew
    function: str  # module:name, imported when there is something to convert

    def __call__(self, source: Fetched, store: Store) -> Path:
        """The converted file. Raises what the function does, and then leaves nothing."""
        assert source.file.sha256 is not None  # fetched files have one
        return store.converted(source.path, source.file.sha256, self.name, self.version, self._convert)

    def _convert(self, source: Path, target: Path) -> None:
        module, _, name = self.function.partition(":")
        getattr(import_module(module), name)(source, target)


class Part(NamedTuple):
    """Something beside the weights that a file holds."""

    name: str  # of the file that is made of it
    role: str
    converter: Converter
    optional: bool = False  # whether the file may lack it


CHECKPOINT = Converter("torch", 1, "bestiary.core.convert:convert_checkpoint")
TORCHSCRIPT = Converter("torchscript", 1, "bestiary.core.torchscript:convert_torchscript")
GGUF = Converter("gguf", 1, "bestiary.core.gguf:convert_gguf")
CTRANSLATE2 = Converter("ctranslate2", 1, "bestiary.audio.ctranslate2:convert_ctranslate2")
WEIGHTS = {".pth": CHECKPOINT, ".pt": CHECKPOINT, ".bin": CHECKPOINT, ".jit": TORCHSCRIPT, ".gguf": GGUF}
NAMED = {"model.bin": CTRANSLATE2}  # which the suffix would mistake
PARTS = {
    ".gguf": (
        Part("tokenizer.json", "tokenizer", Converter("gguf-tokenizer", 1, "bestiary.text.gguf_tokenizer:write_tokenizer")),
        Part(
            "chat_template.jinja",
            "chat_template",
            Converter("gguf-chat-template", 1, "bestiary.text.gguf_tokenizer:write_chat_template"),
            optional=True,
        ),
    )
}


def safetensors(files: Mapping[str, Fetched], store: Store) -> list[Path]:
    """The weights among the files of a model, as safetensors. Raises LayoutError, DiskFullError."""
    if not (sources := _weights(files)):
        raise LayoutError(f"none of {', '.join(files)} has the role weights\ncorrect the card")
    paths = []
    for fetched in sources:
        name = PurePosixPath(fetched.file.name)
        if name.suffix == ".safetensors":
            paths.append(fetched.path)
            continue
        converter = NAMED.get(name.name) or WEIGHTS.get(name.suffix)
        if converter is None:
            known = ", ".join((".safetensors", *WEIGHTS))
            raise LayoutError(f"{fetched.file.name} is in no format of weights that is known\nknown are {known}")
        paths.append(converter(fetched, store))
    return paths


def parts(files: Mapping[str, Fetched], store: Store) -> dict[str, Fetched]:
    """What the weights hold besides, by name, but for roles that a file of its own has. Raises LayoutError, DiskFullError."""
    taken = {fetched.file.role for fetched in files.values()}
    found = {}
    for fetched in _weights(files):
        for part in PARTS.get(PurePosixPath(fetched.file.name).suffix, ()):
            if part.role not in taken:
                try:
                    path = part.converter(fetched, store)
                except LayoutError:
                    if part.optional:
                        continue
                    raise
                file = File(name=part.name, size=path.stat().st_size, sha256=path.name, role=part.role)
                found[part.name] = Fetched(file, path, f"converted from {fetched.file.name}")
    return found


def _weights(files: Mapping[str, Fetched]) -> list[Fetched]:
    return [fetched for fetched in files.values() if fetched.file.role == "weights"]
