"""Images to the depth of every pixel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from bestiary.core.task import Report
from bestiary.vision.drawing import draw_depth
from bestiary.vision.tasks.dense import DenseTask
from bestiary.vision.tasks.images import Errors


@dataclass(frozen=True, eq=False)
class Depth:
    """Depth for every pixel of an image.

    What it means the card says. Relative depth has no unit, and is larger where something is nearer: one over the distance, but
    for a factor and a shift that are others for every image. Metric depth is the distance in metres.

    >>> import torch
    >>> Depth(torch.tensor([[1.0, 2.0, 5.0]]), Image.new("RGB", (3, 1))).plot().width
    516
    """

    depth: Tensor  # (h, w), fp32, as large as the image
    image: Any = field(repr=False)  # as it was given

    def plot(self) -> Image.Image:
        """The image, and beside it its depth, bright where it is large."""
        return draw_depth(self.image, self.depth)


class DepthEstimator(DenseTask):
    """Images to the depth of every pixel: `bestiary.load("depth-anything-small", trust="first-use")("street.jpg").depth`."""

    def __call__(self, images: Any, *, batch_size: int | None = None, errors: Errors = "raise") -> Any:
        """The Depth of one image, a list of them of a list of images; as large as their image, on the CPU.

        What counts as an image, what an iterator is answered by, and what this raises: see `ImageClassifier`.
        """

        def answer(batch: list[Any], first: int) -> list[Tensor]:
            return [enlarged(depth, size).cpu() for depth, size in self.outputs(batch, first)]

        return self.answered(images, answer, batch_size=batch_size, errors=errors, result=Depth)

    def returns(self) -> Mapping[str, Any]:
        return {"height": int, "width": int, "least": float, "most": float, "depth": list[float]}

    def record(self, result: Depth) -> Mapping[str, Any]:
        return {**_extent(result), "depth": result.depth.flatten().numpy()}  # row by row

    def report(self, inputs: Sequence[str]) -> Report:
        results = self(list(inputs))
        records = [{"image": image, **_extent(found)} for image, found in zip(inputs, results, strict=True)]
        rows = [[*list(record.values())[:3], f"{record['least']:.2f}", f"{record['most']:.2f}"] for record in records]
        columns = ["image", "height", "width", "least", "most"]
        return Report(columns=columns, rows=rows, records=records, results=results)


def _extent(found: Depth) -> dict[str, Any]:
    height, width = found.depth.shape
    return {"height": height, "width": width, "least": found.depth.min().item(), "most": found.depth.max().item()}


def enlarged(depth: Tensor, size: tuple[int, int]) -> Tensor:
    """(h, w) → (*size), bicubic, as transformers resizes depth."""
    return F.interpolate(depth[None, None], size, mode="bicubic", align_corners=False)[0, 0]
