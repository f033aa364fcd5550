"""What an architecture file offers to the rest of the house: its config, its net, its published layouts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from bestiary.core.configmap import ConfigMap
from bestiary.core.keymap import Rule, same
from bestiary.core.record import record
from bestiary.errors import LayoutError

NATIVE = "native"  # the layout of what `.save` writes: our own names


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a folder in a published layout says of a model beyond its config: the rest of a card."""

    task: str
    preprocess: Mapping[str, Any]
    labels: str | tuple[str, ...] | None = None
    files: Mapping[str, str]  # name of a file in the folder → its role
    config: Mapping[str, Any] = field(default_factory=dict)  # fields of our config that the folder decides, not config.json


class PublishedFolder(Protocol):
    """What stands in a folder of a published layout beside config.json and the weights, read and written."""

    companions: tuple[str, ...]  # names of the files that `read` looks at or describes

    def read(self, folder: Path, config: Mapping[str, Any]) -> Description:
        """The description of a model from its folder and its config.json. Raises LayoutError for what is not in the zoo."""
        ...

    def write(self, card: Any, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """The JSON files to write for a card, by name; `config` is what the config map makes of the net's config."""
        ...


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """An entry of the table of architectures.

    `net` builds the module from a `config`. `layouts` gives for each published layout the key map that a config expands to;
    `configs`, where such a layout has a config.json, how to read and write it, and `folders` the same for the files beside
    it. `resized_by` names for a field of the config
    the modules whose shape hangs on it: after `build(name, pretrained=True, num_classes=10)` those alone are random.
    """

    name: str
    config: type[Any]
    net: Callable[[Any], nn.Module]
    layouts: Mapping[str, Callable[[Any], Sequence[Rule]]]
    configs: Mapping[str, ConfigMap] = field(default_factory=dict)
    folders: Mapping[str, PublishedFolder] = field(default_factory=dict)
    resized_by: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def configure(self, values: Mapping[str, Any]) -> Any:
        """Our config from plain values, checked by name and type. Raises LayoutError that names the field."""
        config, whose = record(self.config, values, f"the config of {self.name}"), f"the config of {self.name}"
        for name, number in _numbers(asdict(config)):
            if number < 0:
                raise LayoutError(f"{whose} has {name}: {number}\nwanted: 0 or more")
        return config

    def build(self, config: Any) -> nn.Module:
        """The net of a config, with random weights. Raises LayoutError for one that makes no net, or a part of it empty."""
        try:
            net = self.net(config)
        except (ArithmeticError, LookupError, ValueError) as error:  # of torch, or of sizes that do not fit one another
            raise LayoutError(f"the config of {self.name} makes no net: {error}\ncorrect what it was given") from error
        empty = next((name for name, parameter in net.named_parameters() if not parameter.numel()), None)
        if empty is not None:
            raise LayoutError(f"the config of {self.name} leaves {empty} empty\ngive 1 or more for its sizes")
        return net

    def rules(self, layout: str, config: Any, names: Collection[str]) -> Sequence[Rule]:
        """The key map of a layout for this config; `names` are those of the net's state."""
        if layout == NATIVE:
            return [same(name, name) for name in names]
        if layout not in self.layouts:
            raise LayoutError(f"{self.name} has no layout {layout!r}\nits layouts: {', '.join([*self.layouts, NATIVE])}")
        return self.layouts[layout](config)


def _numbers(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """The numbers in plain values, each with the name of the field that it stands in."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _numbers(part, f"{name}.{key}" if name else str(key))
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _numbers(part, name)
    elif isinstance(value, (int, float)):
        yield name, value
