"""The folder of transformers for Vision Transformers: labels and preprocessor_config.json."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bestiary.core.architecture import Description
from bestiary.core.configclasses import names_of_classes
from bestiary.core.configmap import ConfigMap
from bestiary.errors import LayoutError
from bestiary.vision.processor import (
    COLOURS,
    FILE,
    RESAMPLING,
    STEPS,
    check_known,
    config_with_names,
    edges,
    read_processor,
    resampling,
)
from bestiary.vision.square import side

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
KNOWN = frozenset(["size", "crop_size", "do_center_crop", "resample", *COLOURS.values()])


class TransformersViT:
    """A Vision Transformer of transformers. One that was saved without classes embeds, as do the towers of CLIP and SigLIP."""

    companions: tuple[str, ...] = (FILE,)

    def __init__(self, config: ConfigMap):
        self.config = config

    def read(self, folder: Path, config: Mapping[str, Any]) -> Description:
        given = _processor(folder, config["model_type"])
        size = edges(given["size"])
        squashed = set(size) == {"height", "width"}
        if set(size) != {"shortest_edge"} and not squashed:
            raise LayoutError(f"{folder / FILE} has size: {size!r}\nthe zoo takes shortest_edge, or height and width")
        edge = side(size, f"{folder / FILE} has size")
        cut = side(given["crop_size"], f"{folder / FILE} has crop_size") if given["do_center_crop"] else edge
        if cut > edge or not (squashed or given["do_center_crop"]):
            raise LayoutError(f"{folder / FILE} makes no square of {size!r}\nthe zoo cuts one that is no larger")
        if squashed and (edge - cut) % 2:  # of which the zoo would leave the other half
            raise LayoutError(f"{folder / FILE} cuts {cut} of {edge} pixels, an odd margin\nthe zoo cuts as many on either side")
        classifies = self._classifies(config)
        return Description(
            task="image-classification" if classifies else "image-embedding",
            preprocess={
                "fit": "squash" if squashed else "crop_floor",
                "size": cut,
                "crop": share(cut, edge),
                **resampling(given["resample"], folder),
                **{ours: given[theirs] for ours, theirs in COLOURS.items()},
            },
            labels=names_of_classes(config) if classifies else None,
            files={},
        )

    def write(self, card: Any, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """Of a margin of an odd number of pixels, transformers cuts the larger half at the other side than `fit: crop` does."""
        given = {"fit": "crop", "crop": 1.0, **card.preprocess}
        cut, edge, squashed = given["size"], math.floor(given["size"] / given["crop"]), given["fit"] == "squash"
        if given["fit"] not in ("crop", "crop_floor", "squash"):
            raise LayoutError(f"transformers cannot say fit: {given['fit']} here\nsave it in our own layout: .save(folder)")
        kind = "CLIP" if not squashed else "ViT" if edge == cut else "DeiT"
        crop = {"do_center_crop": True, "crop_size": {"height": cut, "width": cut}} if kind != "ViT" else {}
        processor = {
            "image_processor_type": f"{kind}ImageProcessor",
            **STEPS,
            "size": {"height": edge, "width": edge} if squashed else {"shortest_edge": edge},
            **crop,
            "resample": RESAMPLING[given["interpolation"]],
            **{theirs: list(given[ours]) for ours, theirs in COLOURS.items()},
        }
        return {"config.json": config_with_names(config, card) if self._classifies(config) else config, FILE: processor}

    def _classifies(self, config: Mapping[str, Any]) -> bool:
        return config["model_type"] != "clip_vision_model" and self.config.read(config)["num_classes"] > 0


def share(cut: int, edge: int) -> float:
    """The share of an edge that is cut out, rounded so that what is cut out divided by it comes to the whole edge.

    >>> share(224, 256)
    0.875
    """
    crop = cut / edge
    return crop if math.floor(cut / crop) == edge else math.nextafter(crop, 0)


def _processor(folder: Path, model_type: str) -> dict[str, Any]:
    """What preprocessor_config.json says and means."""
    said = read_processor(folder)
    name = said.get("image_processor_type") or said.get("feature_extractor_type") or USUAL.get(model_type, "CLIP")
    for ending in ("Fast", "Pil", "ImageProcessor", "FeatureExtractor"):
        name = name.removesuffix(ending)
    if name not in PROCESSORS:
        raise LayoutError(f"{folder / FILE} is of a {name} image processor\nthe zoo knows those of {', '.join(PROCESSORS)}")
    check_known(said, KNOWN, STEPS, folder)
    given = {**PROCESSORS[name], **said}
    if isinstance(given["size"], int) and name in ("Bit", "CLIP"):
        given["size"] = {"shortest_edge": given["size"]}
    return given
