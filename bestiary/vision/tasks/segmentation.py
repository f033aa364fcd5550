"""Images to a class for every pixel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from bestiary.core.task import Report
from bestiary.errors import InputError
from bestiary.vision.drawing import draw_masks
from bestiary.vision.labels import labels_of
from bestiary.vision.tasks.dense import DenseTask
from bestiary.vision.tasks.images import Errors

AT_ONCE = 2**26  # logits that are enlarged at once: of a large photo, those of all classes would take gigabytes


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A class for every pixel of an image.

    >>> found = Segmentation(torch.tensor([[0, 0, 0], [1, 1, 0]]), ("sky", "sea", "sand"), Image.new("RGB", (3, 2)))
    >>> found.shares["sky"], found.mask_of("sea").sum().item(), found.plot().width
    (0.6666666865348816, 2, 258)
    """

    mask: Tensor  # (h, w) of int64, as large as the image: the number of the class, an index into `labels`
    labels: tuple[str, ...]  # the names of all classes that the model knows
    image: Any = field(repr=False)  # as it was given

    @property
    def shares(self) -> dict[str, float]:
        """The share of the image that each class takes up which is in it, the largest first."""
        counts = self.mask.flatten().bincount(minlength=len(self.labels)) / self.mask.numel()
        return {self.labels[index]: counts[index].item() for index in counts.argsort(descending=True) if counts[index]}

    def mask_of(self, name: str) -> Tensor:
        """(h, w) of bool, True where that class is. Raises InputError for a class that the model does not know."""
        if name not in self.labels:
            raise InputError(f"there is no class {name!r}\nthe classes in this image: {', '.join(self.shares)[:200]}")
        return self.mask == self.labels.index(name)

    def plot(self) -> Image.Image:
        """The image, tinted by its classes, and below it their names and shares."""
        return draw_masks(self.image, self.mask, self.labels)


class Segmenter(DenseTask):
    """Images to a class for every pixel.

    With the 150 classes of ADE20K: `bestiary.load("segformer-b0", trust="first-use")("kitchen.jpg").shares["floor"]`.
    """

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self.labels = labels_of(self.card, self.net.config)

    def __call__(self, images: Any, *, batch_size: int | None = None, errors: Errors = "raise") -> Any:
        """A Segmentation of one image, a list of them of a list of images; masks are as large as their image, on the CPU.

        What counts as an image, what an iterator is answered by, and what this raises: see `ImageClassifier`.
        """

        def answer(batch: list[Any], first: int) -> list[Tensor]:
            return [likeliest(logits, size).cpu() for logits, size in self.outputs(batch, first)]

        def result(mask: Tensor, image: Any) -> Segmentation:
            return Segmentation(mask, self.labels, image)

        return self.answered(images, answer, batch_size=batch_size, errors=errors, result=result)

    def returns(self) -> Mapping[str, Any]:
        return {"height": int, "width": int, "mask": list[int], "labels": list[str], "shares": list[float]}

    def record(self, result: Segmentation) -> Mapping[str, Any]:
        height, width = result.mask.shape
        shares = result.shares
        mask = result.mask.flatten().numpy()  # row by row
        return {"height": height, "width": width, "mask": mask, "labels": list(shares), "shares": list(shares.values())}

    def report(self, inputs: Sequence[str]) -> Report:
        results = self(list(inputs))
        records = [
            {"image": image, "label": name, "share": share}
            for image, found in zip(inputs, results, strict=True)
            for name, share in found.shares.items()
        ]
        rows = [[record["image"], record["label"], f"{record['share']:.1%}"] for record in records]
        return Report(columns=["image", "label", "share"], rows=rows, records=records, results=results)


def likeliest(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """The class of the largest logit at every pixel: (classes, h, w), enlarged (bilinear), → (*size) of int64.

    >>> likeliest(torch.tensor([[[2.0, 0.0]], [[1.0, 1.0]]]), (1, 4))
    tensor([[0, 0, 1, 1]])
    """
    largest = logits.new_full(size, -torch.inf)
    winner = torch.zeros(size, dtype=torch.long, device=logits.device)
    first = 0
    for part in logits.split(max(1, AT_ONCE // (size[0] * size[1]))):
        highest, place = F.interpolate(part[None], size, mode="bilinear", align_corners=False)[0].max(0)
        winner = torch.where(highest > largest, place + first, winner)
        largest = torch.maximum(highest, largest)
        first += len(part)
    return winner
