"""What stands beside the weights of detectors in published layouts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bestiary.core.configmap import Fields
from bestiary.errors import LayoutError
from bestiary.vision.processor import FILE, RESAMPLING, ProcessorFolder

USUAL = {"shortest_edge": 800, "longest_edge": 1333}


class TransformersDetector(ProcessorFolder):
    """A detector of transformers with a DetrImageProcessor: the shorter side gets a size, as long as the longer keeps a limit."""

    def __init__(self) -> None:
        super().__init__(
            task="object-detection",
            processor="DetrImageProcessor",
            fit="shortest",
            defaults={
                **{"size": USUAL, "max_size": USUAL["longest_edge"], "resample": RESAMPLING["bilinear"]},
                **{"do_convert_annotations": True, "pad_size": None},  # of training, and of batches
            },
            fixed={"do_pad": True, "format": "coco_detection"},
        )

    def sizes(self, given: Mapping[str, Any], folder: Path) -> Fields:
        size = given["size"]  # older files have two numbers
        edges = size if isinstance(size, Mapping) else {"shortest_edge": size, "longest_edge": given["max_size"]}
        if set(edges) != set(USUAL):
            raise LayoutError(f"{folder / FILE} has size: {size!r}\nthe zoo takes detectors with {' and '.join(USUAL)}")
        return {"size": edges["shortest_edge"], "longest": edges["longest_edge"]}

    def size(self, preprocess: Mapping[str, Any]) -> Fields:
        if preprocess.get("longest") is None:
            raise LayoutError(f"a {self.processor} has a limit for the longer side\nname `longest` in the card's preprocess")
        return dict(zip(USUAL, (preprocess["size"], preprocess["longest"]), strict=True))
