"""The config.json that timm publishes beside its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bestiary.core.configmap import Fields
from bestiary.errors import LayoutError

# The preprocessing, what follows from the rest, and what matters to training alone.
HARMLESS = frozenset(["pretrained_cfg", "num_features", "label_names", "label_descriptions", "drop_rate", "drop_path_rate"])


class TimmConfig:
    """The name of a variant, and how many classes and colours it has; `variants` are our configs under timm's names."""

    def __init__(self, variants: Mapping[str, Any]):
        self.variants = variants

    def recognises(self, published: Mapping[str, Any]) -> bool:
        return published.get("architecture") in self.variants

    def read(self, published: Mapping[str, Any]) -> Fields:
        name, arguments = published["architecture"], {**published, **published.get("model_args", {})}
        known = {"architecture": name, "model_args": {}, "num_classes": 1000, "in_chans": 3, "global_pool": "avg"}
        for key, value in arguments.items():
            if key not in known.keys() | HARMLESS or (key == "global_pool" and value != known[key]):
                raise LayoutError(
                    f"config.json has {key}: {value!r}, which {name} is not computed with here\n"
                    "this variant is not in the zoo; remove the key only if you know that it changes nothing"
                )
        values = known | arguments
        sizes = {"num_classes": values["num_classes"], "in_channels": values["in_chans"]}
        return vars(self.variants[name]) | sizes

    def write(self, config: Any) -> Fields:
        free = {field: getattr(config, field) for field in ("num_classes", "in_channels", "dropout", "drop_path")}
        names = [name for name, variant in self.variants.items() if replace(variant, **free) == config]
        if not names:
            raise LayoutError("timm has no name for this config\nsave it in our own layout: .save(folder)")
        colours = {"model_args": {"in_chans": config.in_channels}} if config.in_channels != 3 else {}
        return {"architecture": names[0], "num_classes": config.num_classes, **colours, "pretrained_cfg": {}}
