"""Bestiary for torch.hub, from a clone or a repository; nothing needs to be installed but the dependencies.

    embed = torch.hub.load("path/to/clone", "minilm_l6_v2", source="local")

Every card is an entry point, its name with underscores for dashes and dots; `load` takes the name as it is, `build` gives
the bare module. All of them take the options of `bestiary.load` and `bestiary.build`.
"""

import re as _re
from typing import Any as _Any

import bestiary as _bestiary
from bestiary import build, load  # noqa: F401  entry points

dependencies = [
    "torch", "torchvision", "numpy", "safetensors", "tokenizers", "PIL", "yaml", "rich",
    "huggingface_hub", "urllib3", "platformdirs",
]


def _entry_point(name: str) -> _Any:
    def load_card(**options: _Any) -> _Any:
        return _bestiary.load(name, **options)

    load_card.__doc__ = f"The task object of the card {name}: `bestiary.load({name!r}, **options)`."
    return load_card


globals().update({_re.sub(r"\W", "_", _name): _entry_point(_name) for _name in _bestiary.list_models()})
