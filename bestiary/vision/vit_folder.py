"""The folder of transformers for Vision Transformers: labels and preprocessor_config.json."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bestiary.core.architecture import Description
from bestiary.core.configmap import ConfigMap, read_json
from bestiary.errors import LayoutError
from bestiary.vision import labels
from bestiary.vision.processor import FILE, RESAMPLING, named_classes

HALF = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
CLIP = {
    **{"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]},
    **{"resample": RESAMPLING["bicubic"], "size": {"shortest_edge": 224}, "crop_size": 224, "do_center_crop": True},
}
# What a file of each kind of processor means where it leaves something unsaid. A size that is a number is both sides of the
# image in the first three, and the shorter one in the others.
PROCESSORS: Mapping[str, Mapping[str, Any]] = {
    "ViT": {**HALF, "resample": RESAMPLING["bilinear"], "size": 224, "do_center_crop": False},
    "DeiT": {**HALF, "resample": RESAMPLING["bicubic"], "size": 256, "crop_size": 224, "do_center_crop": True},
    "Siglip": {**HALF, "resample": RESAMPLING["bicubic"], "size": 224, "do_center_crop": False},
    "Bit": CLIP,
    "CLIP": CLIP,
}
# Of each model type, where the file does not name its processor.
USUAL = {"vit": "ViT", "vit_mae": "ViT", "deit": "DeiT", "siglip_vision_model": "Siglip"}
FIXED = {"do_resize": True, "do_rescale": True, "do_normalize": True, "rescale_factor": 1 / 255}
KNOWN = frozenset(["size", "crop_size", "do_center_crop", "resample", "image_mean", "image_std"])
# fmt: off
# Bookkeeping, and how a tensor is handed over.
HARMLESS = frozenset([
    "image_processor_type", "feature_extractor_type", "processor_class", "_valid_processor_keys", "do_convert_rgb",
    "data_format", "input_data_format", "default_to_square", "device", "return_tensors", "disable_grouping",
])
# fmt: on


class TransformersViT:
    """A Vision Transformer of transformers. One that was saved without classes embeds, as do the towers of CLIP and SigLIP."""

    companions: tuple[str, ...] = (FILE,)

    def __init__(self, config: ConfigMap):
        self.config = config

    def read(self, folder: Path, config: Mapping[str, Any]) -> Description:
        given = _processor(folder, config["model_type"])
        size = given["size"] if isinstance(given["size"], Mapping) else {"height": given["size"], "width": given["size"]}
        squashed = set(size) == {"height", "width"}
        if set(size) != {"shortest_edge"} and not squashed:
            raise LayoutError(f"{folder / FILE} has size: {size!r}\nthe zoo takes shortest_edge, or height and width")
        edge = _side(size, "size", folder)
        side = _side(given["crop_size"], "crop_size", folder) if given["do_center_crop"] else edge
        if side > edge or not (squashed or given["do_center_crop"]):
            raise LayoutError(f"{folder / FILE} makes no square of {size!r}\nthe zoo cuts one that is no larger")
        if squashed and (edge - side) % 2:  # of which the zoo would leave the other half
            raise LayoutError(f"{folder / FILE} cuts {side} of {edge} pixels, an odd margin\nthe zoo cuts as many on either side")
        names = config.get("id2label") if self._classifies(config) else None
        return Description(
            task="image-classification" if self._classifies(config) else "image-embedding",
            preprocess={
                "fit": "squash" if squashed else "crop_floor",
                "size": side,
                "crop": share(side, edge),
                "interpolation": _interpolation(given["resample"], folder),
                **{"mean": given["image_mean"], "std": given["image_std"]},
            },
            labels=tuple(names[index] for index in sorted(names, key=int)) if names else None,
            files={},
        )

    def write(self, card: Any, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """Of a margin of an odd number of pixels, transformers cuts the larger half at the other side than `fit: crop` does."""
        given = {"fit": "crop", "crop": 1.0, **card.preprocess}
        side, edge, squashed = given["size"], math.floor(given["size"] / given["crop"]), given["fit"] == "squash"
        if given["fit"] not in ("crop", "crop_floor", "squash"):
            raise LayoutError(f"transformers cannot say fit: {given['fit']} here\nsave it in our own layout: .save(folder)")
        kind = "CLIP" if not squashed else "ViT" if edge == side else "DeiT"
        crop = {"do_center_crop": True, "crop_size": {"height": side, "width": side}} if kind != "ViT" else {}
        processor = {
            "image_processor_type": f"{kind}ImageProcessor",
            **FIXED,
            "size": {"height": edge, "width": edge} if squashed else {"shortest_edge": edge},
            **crop,
            "resample": RESAMPLING[given["interpolation"]],
            **{"image_mean": list(given["mean"]), "image_std": list(given["std"])},
        }
        names = labels.names(card.labels) if isinstance(card.labels, str) else card.labels
        named = named_classes(names) if names and self._classifies(config) else {}
        return {"config.json": {**config, **named}, FILE: processor}

    def _classifies(self, config: Mapping[str, Any]) -> bool:
        return config["model_type"] != "clip_vision_model" and self.config.read(config)["num_classes"] > 0


def share(side: int, edge: int) -> float:
    """The share of an edge that a side is, rounded so that the side divided by it comes to the whole edge.

    >>> share(224, 256)
    0.875
    """
    crop = side / edge
    return crop if math.floor(side / crop) == edge else math.nextafter(crop, 0)


def _processor(folder: Path, model_type: str) -> dict[str, Any]:
    """What preprocessor_config.json says and means."""
    said = {key: value for key, value in read_json(folder / FILE).items() if value is not None}
    name = said.get("image_processor_type") or said.get("feature_extractor_type") or USUAL.get(model_type, "CLIP")
    for ending in ("Fast", "Pil", "ImageProcessor", "FeatureExtractor"):
        name = name.removesuffix(ending)
    if name not in PROCESSORS:
        raise LayoutError(f"{folder / FILE} is of a {name} image processor\nthe zoo knows those of {', '.join(PROCESSORS)}")
    for key, value in said.items():
        if key not in KNOWN | HARMLESS | FIXED.keys() or (key in FIXED and value != FIXED[key]):
            raise LayoutError(
                f"{folder / FILE} has {key}: {value!r}, which images are not prepared with here\n"
                "this variant is not in the zoo; remove the key only if you know that it changes nothing"
            )
    given = {**PROCESSORS[name], **said}
    if isinstance(given["size"], int) and name in ("Bit", "CLIP"):
        given["size"] = {"shortest_edge": given["size"]}
    return given


def _side(size: Any, key: str, folder: Path) -> int:
    """The side of a square, which older files give as a number."""
    sides = set(size.values()) if isinstance(size, Mapping) else {size}
    if len(sides) != 1 or not isinstance(side := sides.pop(), int) or side < 1:
        raise LayoutError(f"{folder / FILE} has {key}: {size!r}\nthe zoo takes squares of whole pixels")
    return side


def _interpolation(resample: int, folder: Path) -> str:
    for name, number in RESAMPLING.items():
        if number == resample:
            return name
    raise LayoutError(f"{folder / FILE} has resample: {resample!r}\nthe zoo has {RESAMPLING}")
