"""What an architecture file offers to the rest of the house: its config, its net, its published layouts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from bestiary.core.configmap import ConfigMap
from bestiary.core.keymap import Rule, same
from bestiary.core.record import record
from bestiary.errors import LayoutError

NATIVE = "native"  # the layout of what `.save` writes: our own names


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """An entry of the table of architectures.

    `net` builds the module from a `config`. `layouts` gives for each published layout the key map that a config expands to;
    `configs`, where such a layout has a config.json, how to read and write it. `resized_by` names for a field of the config
    the modules whose shape hangs on it: after `build(name, pretrained=True, num_classes=10)` those alone are random.
    """

    name: str
    config: type[Any]
    net: Callable[[Any], nn.Module]
    layouts: Mapping[str, Callable[[Any], Sequence[Rule]]]
    configs: Mapping[str, ConfigMap] = field(default_factory=dict)
    resized_by: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def configure(self, values: Mapping[str, Any]) -> Any:
        """Our config from plain values, checked by name and type. Raises LayoutError that names the field."""
        return record(self.config, values, f"the config of {self.name}")

    def rules(self, layout: str, config: Any, names: Collection[str]) -> Sequence[Rule]:
        """The key map of a layout for this config; `names` are those of the net's state."""
        if layout == NATIVE:
            return [same(name, name) for name in names]
        if layout not in self.layouts:
            raise LayoutError(
                f"{self.name} has no layout {layout!r}\nits layouts: {', '.join([*self.layouts, NATIVE])}"
            )
        return self.layouts[layout](config)
