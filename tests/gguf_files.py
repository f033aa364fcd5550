"""GGUF files for tests, written by the reference library."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy

from bestiary.hub.lock import LOCK, Lock
from bestiary.hub.progress import standard_progress
from bestiary.hub.registry import Registry
from bestiary.hub.settings import Settings
from bestiary.hub.trust import Trust

SMOLLM2 = "smollm2-135m-instruct"
TOKENIZER = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "gpt-2",
    "tokenizer.ggml.tokens": ["<end>", *map(chr, range(ord("!"), ord("~") + 1)), "Ġ", "he"],
    "tokenizer.ggml.token_type": [3, *[1] * 96],
    "tokenizer.ggml.merges": ["h e"],
    "tokenizer.ggml.eos_token_id": 0,
}
KINDS = {bool: "add_bool", int: "add_uint32", float: "add_float32", str: "add_string", list: "add_array"}


def write_gguf(path: Path, architecture: str, metadata: Mapping[str, Any], tensors: Mapping[str, Any]) -> Path:
    """A file with these metadata, by their type, and these tensors of fp32."""
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in metadata.items():
        getattr(writer, KINDS[type(value)])(key, value)
    for name, tensor in tensors.items():
        writer.add_tensor(name, numpy.asarray(tensor, dtype=numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def smollm2_folder(folder: Path) -> Path:
    """A folder with SmolLM2's real file, verified, as model.gguf."""
    settings = Settings.read()
    card = Registry.standard(settings).card(SMOLLM2)
    (fetched,) = Trust(lock=Lock(LOCK)).fetch(card, settings, standard_progress()).values()
    (folder / "model.gguf").symlink_to(fetched.path)
    return folder
