"""Checkpoints that torch.save wrote (.pth, .pt, .bin), turned once into safetensors.

Such a file is a pickle, which is a program. Nothing of it is ever run: torch's restricted unpickler rebuilds tensors and
plain containers, and refuses the whole file for anything else.
"""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bestiary.core.streamed import tensor_fault, write_safetensors
from bestiary.errors import LayoutError

# Where training scripts put the state dict when they save more than it: PyTorch examples, Lightning and timm;
# openai-whisper; torchvision's and Meta's references.
STATE_KEYS = ("state_dict", "model_state_dict", "model")

# Tied tensors are written each in full, so the result may be larger than the source; by how much at most.
LARGEST_GROWTH = 16


def convert_checkpoint(source: Path, target: Path) -> None:
    """Write the tensors of a checkpoint as safetensors, under the same names.

    The checkpoint is a flat dict of tensors, or a dict that holds one under exactly one of `STATE_KEYS`; what else it
    holds beside (an optimizer, an epoch) stays behind. `target` appears whole or not at all.

    Raises:
        LayoutError: it is anything else, such as code, a TorchScript archive, a whole pickled module or a damaged file.
        DiskFullError: the disk cannot take the result.
    """
    tensors = _state(source, _unpickle(source))
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    # A tensor of a few bytes can claim any shape with strides of zero.
    if size > LARGEST_GROWTH * source.stat().st_size:
        raise LayoutError(
            f"{source} would grow to {size} bytes, more than {LARGEST_GROWTH} times its size.\n"
            "It repeats the same numbers; ask who made it for a sound file."
        )
    write_safetensors(target, tensors)


def _unpickle(source: Path) -> Any:
    archive = zipfile.is_zipfile(source)
    if archive and _is_torchscript(source):
        raise LayoutError(
            f"{source} is a TorchScript archive, which holds code.\nAsk for its state dict, best as a safetensors file."
        )
    try:
        return torch.load(str(source), map_location="cpu", weights_only=True, mmap=archive)
    except Exception as error:
        # A damaged or hostile pickle makes the unpickler fail in any way there is. torch's own message advises to run it.
        raise LayoutError(
            f"{source} is not a checkpoint of plain tensors ({type(error).__name__}); nothing in it was run.\n"
            "Fetch it again if it may be damaged; else ask for its weights as a safetensors file."
        ) from error


def _is_torchscript(source: Path) -> bool:
    try:
        with zipfile.ZipFile(source) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except zipfile.BadZipFile:
        return False


def _state(source: Path, content: Any) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        raise LayoutError(f"{source} holds a {type(content).__name__}, where a dict of tensors was expected.")
    nested = [key for key in STATE_KEYS if isinstance(content.get(key), Mapping)]
    if len(nested) > 1:
        raise LayoutError(
            f"{source} holds several state dicts: {', '.join(nested)}.\nSave the one that is meant to a file of its own."
        )
    state = content[nested[0]] if nested else content
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise LayoutError(
                f"{source}: key {ascii(name)[:80]} holds a {type(value).__name__}, where a tensor was expected.\n"
                f"A checkpoint is a dict of tensors, or holds one under {', '.join(STATE_KEYS)}."
            )
        if fault := tensor_fault(name, value):
            raise LayoutError(f"{source} cannot be converted: {fault}.")
    if not state:
        raise LayoutError(f"{source} holds no tensor.")
    return dict(state)
