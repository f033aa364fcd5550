"""What timm publishes beside its weights: one config.json, for the net, its preprocessing and its labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bestiary.core.architecture import Description
from bestiary.core.configmap import Fields
from bestiary.errors import LayoutError
from bestiary.vision.square import side

# Read by TimmFolder, what follows from the rest, and what matters to training alone.
HARMLESS = frozenset(["pretrained_cfg", "num_features", "label_names", "label_descriptions", "drop_rate", "drop_path_rate"])
FREE = ("num_classes", "in_channels", "image", "dropout", "drop_path")  # in which nets of one name may differ
CROP_MODES = {"center": "crop", "squash": "squash", "border": "pad"}  # timm's names of our fits
SHARED = ("interpolation", "mean", "std")  # keys of a preprocessing that have one name there and here


class TimmConfig:
    """The name of a variant, and how many classes and colours it has.

    `variants` are our configs under timm's names, `pool` says what timm calls the pooling of one.
    """

    def __init__(self, variants: Mapping[str, Any], pool: Callable[[Any], str] = lambda variant: "avg"):
        self.variants = variants
        self.pool = pool

    def recognises(self, published: Mapping[str, Any]) -> bool:
        return published.get("architecture") in self.variants

    def read(self, published: Mapping[str, Any]) -> Fields:
        name, arguments = published["architecture"], {**published, **published.get("model_args", {})}
        variant = self.variants[name]
        known = {"architecture": name, "model_args": {}, "num_classes": 1000, "in_chans": 3, "global_pool": self.pool(variant)}
        if hasattr(variant, "image"):  # a net whose positions were learned for one size
            known["img_size"] = variant.image
        for key, value in arguments.items():
            if key not in known.keys() | HARMLESS or (key == "global_pool" and value != known[key]):
                raise LayoutError(
                    f"config.json has {key}: {value!r}, which {name} is not computed with here\n"
                    "this variant is not in the zoo; remove the key only if you know that it changes nothing"
                )
        values = known | arguments
        sizes = {"num_classes": values["num_classes"], "in_channels": values["in_chans"]}
        if "img_size" in known:
            sizes["image"] = side(values["img_size"], "config.json has img_size")
        return vars(variant) | sizes

    def write(self, config: Any) -> Fields:
        free = {field: getattr(config, field) for field in FREE if hasattr(config, field)}
        alike = {name: variant for name, variant in self.variants.items() if {**vars(variant), **free} == vars(config)}
        if not alike:
            raise LayoutError("timm has no name for this config\nsave it in our own layout: .save(folder)")
        image = getattr(config, "image", None)
        name = next((name for name, variant in alike.items() if getattr(variant, "image", None) == image), next(iter(alike)))
        arguments = {"in_chans": config.in_channels} if config.in_channels != 3 else {}
        if image != getattr(alike[name], "image", None):
            arguments["img_size"] = image
        described = {"model_args": arguments} if arguments else {}
        return {"architecture": name, "num_classes": config.num_classes, **described}


class TimmFolder:
    """The preprocessing and the labels. `stem` and `head` are timm's names of the layers that hang on colours and classes.

    `fixed_input_size`: whether timm builds the net for images of one size, that of the preprocessing.
    """

    companions: tuple[str, ...] = ()

    def __init__(self, *, stem: str, head: str, fixed_input_size: bool = False):
        self.ends = {"first_conv": stem, "classifier": head}
        self.fixed_input_size = fixed_input_size

    def read(self, folder: Path, config: Mapping[str, Any]) -> Description:
        given = {"crop_mode": "center", **config.get("pretrained_cfg", {})}
        absent = [key for key in ("input_size", "crop_pct", *SHARED) if key not in given]
        if absent:
            raise LayoutError(
                f"{folder / 'config.json'}: pretrained_cfg lacks {absent[0]}\nwithout it the preprocessing is unknown"
            )
        _, height, width = given["input_size"]
        if height != width or given["crop_mode"] not in CROP_MODES:
            raise LayoutError(
                f"{folder / 'config.json'} asks for {height} × {width} pixels, crop_mode {given['crop_mode']}\n"
                f"the zoo makes squares, by {', '.join(CROP_MODES)}"
            )
        fit = CROP_MODES[given["crop_mode"]]
        preprocess = {"fit": fit, "size": height, "crop": given["crop_pct"], **{key: given[key] for key in SHARED}}
        task = "image-embedding" if config.get("num_classes") == 0 else "image-classification"
        return Description(task=task, preprocess=preprocess, labels=_labels(config), files={})

    def write(self, card: Any, config: Mapping[str, Any]) -> Mapping[str, Any]:
        given = {"fit": "crop", "crop": 1.0, **card.preprocess}
        size, colours = given["size"], config.get("model_args", {}).get("in_chans", 3)
        fit = "crop" if given["fit"] == "crop_floor" else given["fit"]  # a pixel apart where a margin is odd
        modes = [mode for mode, ours in CROP_MODES.items() if ours == fit]
        if not modes:
            raise LayoutError(f"timm cannot say fit: {fit}\nsave it in our own layout: .save(folder)")
        pretrained = {
            "input_size": [colours, size, size],
            "fixed_input_size": self.fixed_input_size,
            "crop_pct": given["crop"],
            "crop_mode": modes[0],
            **{key: given[key] for key in SHARED},
            **self.ends,
            "num_classes": config["num_classes"],
        }
        labels = {} if card.labels is None or isinstance(card.labels, str) else {"label_names": list(card.labels)}
        return {"config.json": {**config, **labels, "pretrained_cfg": pretrained}}


def _labels(config: Mapping[str, Any]) -> str | tuple[str, ...] | None:
    names = config.get("label_names")
    if names:
        descriptions = config.get("label_descriptions") or {}
        return tuple(descriptions.get(name, name) for name in names)
    return "imagenet-1k" if config.get("num_classes", 1000) == 1000 else None
