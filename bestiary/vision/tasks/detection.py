"""Images to the objects in them, each with a box."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from bestiary.core.labels import Label, check_top
from bestiary.core.task import Report
from bestiary.errors import InputError
from bestiary.vision.drawing import draw_boxes
from bestiary.vision.labels import labels_of
from bestiary.vision.tasks.dense import DenseTask
from bestiary.vision.tasks.images import Errors


class Box(NamedTuple):
    """A rectangle in pixels of an image, counted from its upper left corner; it may reach a little over the edges."""

    x1: float  # left
    y1: float  # top
    x2: float  # right
    y2: float  # bottom


class Detection(NamedTuple):
    """An object: its class, the probability that it is one of that class, and where it is."""

    label: str
    score: float
    box: Box


class Detections(list[Detection]):
    """The objects in an image, the surest first: a list of Detection that can draw itself.

    >>> found = Detections([Detection("cat", 0.9, Box(20, 10, 270, 190))], Image.new("RGB", (300, 200)))
    >>> found.plot().size
    (300, 200)
    """

    def __init__(self, found: Iterable[Detection], image: Any):
        super().__init__(found)
        self.image = image  # as it was given

    def plot(self) -> Image.Image:
        """The image with a box around each object. Raises InputError where the image can no longer be read."""
        return draw_boxes(self.image, [one.box for one in self], [Label(one.label, one.score) for one in self])


class ObjectDetector(DenseTask):
    """Images to the objects in them.

    With the classes of COCO: `bestiary.load("detr-resnet-50", trust="first-use")("street.jpg")[0].label`.
    """

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self.labels = labels_of(self.card, self.net.config)

    def __call__(
        self,
        images: Any,
        *,
        threshold: float = 0.5,
        top: int | None = None,
        batch_size: int | None = None,
        errors: Errors = "raise",
    ) -> Any:
        """Objects whose score is above `threshold`, the `top` surest of them: Detections of one image, a list of them of a list.

        Boxes are in pixels of the image, as large as it was given. What counts as an image, what an iterator is answered by,
        and what else this raises: see `ImageClassifier`. Raises InputError for a threshold that is no probability.
        """
        if not (isinstance(threshold, (int, float)) and 0 <= threshold <= 1):
            raise InputError(f"threshold={threshold!r} is no probability\ngive 0 to 1")
        if top is not None:
            check_top(top)

        def answer(batch: list[Any], first: int) -> list[list[Detection]]:
            return [
                surest(logits, in_pixels(boxes, size), self.labels, threshold)[:top]
                for (logits, boxes), size in self.outputs(batch, first)
            ]

        return self.answered(images, answer, batch_size=batch_size, errors=errors, result=Detections)

    def returns(self) -> Mapping[str, Any]:
        return {"objects": list[Detection]}

    def record(self, result: Detections) -> Mapping[str, Any]:
        return {"objects": list(result)}

    def report(self, inputs: Sequence[str]) -> Report:
        results = self(list(inputs))
        records = [
            {"image": image, "label": label, "score": score, "box": list(box)}
            for image, found in zip(inputs, results, strict=True)
            for label, score, box in found
        ]
        rows = [
            [record["image"], record["label"], f"{record['score']:.1%}", " ".join(f"{side:.0f}" for side in record["box"])]
            for record in records
        ]
        return Report(columns=["image", "label", "score", "box"], rows=rows, records=records, results=results)


def in_pixels(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes (queries, 4) of middle, width and height, as shares of an image, as corners in its pixels; its height and width.

    >>> in_pixels(torch.tensor([[0.5, 0.5, 1.0, 0.5]]), (200, 300))
    tensor([[  0.,  50., 300., 150.]])
    """
    middle, extent = boxes.split(2, dim=-1)  # each (queries, 2): x, y
    return torch.cat((middle - extent / 2, middle + extent / 2), dim=-1) * boxes.new_tensor(size[::-1] * 2)


def surest(logits: Tensor, boxes: Tensor, names: Sequence[str], threshold: float) -> list[Detection]:
    """What the queries to one image found, of a score above the threshold, best first; the last logit is of no object.

    Logits are (queries, classes + 1), boxes (queries, 4).
    """
    scores, classes = logits.softmax(-1)[:, :-1].max(-1)  # (queries,)
    found = zip(scores.tolist(), classes.tolist(), boxes.tolist(), strict=True)
    kept = [Detection(names[index], score, Box(*box)) for score, index, box in found if score > threshold]
    return sorted(kept, key=lambda one: -one.score)
