"""How detectors of objects learn: DETR's loss, and the batches of scenes that it is computed on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torchvision.ops import box_convert, generalized_box_iou, generalized_box_iou_loss

from bestiary.core.tables import LABEL, column_names, quiet
from bestiary.core.tuning.module import FineTuning
from bestiary.core.tuning.order import Batch
from bestiary.errors import InputError
from bestiary.vision.datasets.formats import IMAGE
from bestiary.vision.datasets.scenes import REACH
from bestiary.vision.detr import Objects
from bestiary.vision.transforms import Preprocess

if TYPE_CHECKING:
    import datasets

# What the authors of DETR took (Carion et al. 2020, arXiv:2005.12872, section A.4 and their code).
NO_OBJECT = 0.1  # weight of the class of no object, beside 1 for each other
DISTANCE = 5.0  # weight of the distance between the numbers of two boxes, beside 1 for their classes
OVERLAP = 2.0  # weight of the generalised intersection over union (Rezatofighi et al. 2019, arXiv:1902.09630)
BACKBONE = 0.1  # learning rate of the backbone, as a share of that of what stands behind it

FEWEST = 1e-6  # objects that a mean may be over


class Scenes(NamedTuple):
    """Images and the objects in them."""

    images: Tensor  # fp32 (n, 3, h, w), normalised, with zeros to the right of smaller ones and below them
    mask: Tensor  # (n, h, w), True where an image is
    boxes: Tensor  # fp32 (objects, 4): middle x, middle y, width, height, as shares of an image without its padding
    labels: Tensor  # (objects,), the numbers of their classes
    counts: tuple[int, ...]  # how many of them are in each image
    objects: float  # what the loss is a mean over: their number, or of several batches of one step the mean of theirs


class PaddedScenes:
    """Rows to scenes as the card prepares them, of which a share is mirrored, each as its seed says.

    >>> preprocess = Preprocess(size=32, fit="shortest", interpolation="bilinear", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    >>> wide, high = torch.zeros(3, 40, 80, dtype=torch.uint8), torch.zeros(3, 80, 40, dtype=torch.uint8)
    >>> rows = [{"image": wide, "boxes": [[0, 0, 20, 40]], "label": [1]}, {"image": high, "boxes": [], "label": []}]
    >>> scenes = PaddedScenes(preprocess)(rows, seeds=[0, 1])
    >>> scenes.images.shape, scenes.boxes.tolist(), scenes.counts
    (torch.Size([2, 3, 64, 64]), [[0.125, 0.5, 0.25, 1.0]], (1, 0))
    """

    def __init__(self, preprocess: Preprocess, mirrored: float = 0.0):
        self.preprocess = preprocess
        self.mirrored = mirrored

    def __call__(self, rows: Sequence[Any], seeds: Sequence[int]) -> Scenes:
        pixels, boxes = zip(*map(self._scene, rows, seeds), strict=True)
        height, width = (max(image.shape[side] for image in pixels) for side in (1, 2))
        images = torch.zeros(len(rows), height, width, 3).permute(0, 3, 1, 2)  # channels-last
        mask = torch.zeros(len(rows), height, width, dtype=torch.bool)
        for image, covered, seen in zip(images, mask, pixels, strict=True):
            _, h, w = seen.shape
            self.preprocess.normalize(seen, out=image[:, :h, :w])
            covered[:h, :w] = True
        labels = torch.tensor([label for row in rows for label in row[LABEL]], dtype=torch.long)
        return Scenes(images, mask, torch.cat(boxes), labels, tuple(map(len, boxes)), float(len(labels)))

    def _scene(self, row: Any, seed: int) -> tuple[Tensor, Tensor]:
        """What the net sees of an image, uint8 (3, h, w), and its boxes (objects, 4)."""
        pixels, place = self.preprocess.seen(row[IMAGE])
        size = torch.tensor(place.original[::-1] * 2)  # width, height, width, height
        boxes = torch.tensor(row["boxes"], dtype=torch.float).reshape(-1, 4)
        if (boxes < -REACH).any() or (boxes > size + REACH).any():
            raise InputError(
                f"an image of {size[0]} × {size[1]} pixels has boxes that reach out of it: {row['boxes'][:3]}\n"
                "wanted: left, top, right, bottom, in pixels of the image the right way up"
            )
        boxes = box_convert((boxes / size).clamp(0, 1), "xyxy", "cxcywh")
        if torch.rand((), generator=torch.Generator().manual_seed(seed)) < self.mirrored:
            pixels, boxes[:, 0] = pixels.flip(-1), 1 - boxes[:, 0]
        return pixels, boxes


class Detection(FineTuning):
    """A detector that answers queries learns which of them is to find which object, and all others that there is none.

    The loss is that of DETR (Carion et al. 2020, arXiv:2005.12872, section 3.1), on what the last block of its decoder finds.
    An `Order` whose weights are `weight_of` its rows makes the batches of a step count as one. `objects` are those of an image
    on average, as validation takes it: so what it finds is the same whatever its batches are.
    """

    def __init__(self, net: nn.Module, objects: float = 1.0, **how: Any):
        super().__init__(net.to(memory_format=torch.channels_last), **how)
        self.objects = objects

    def groups(self) -> list[dict[str, Any]]:
        net: Any = self.net
        backbone = {id(parameter) for parameter in net.backbone.parameters()}
        groups = super().groups()
        for group in groups:  # none of which has parameters of both
            group["lr"] *= BACKBONE if id(group["params"][0]) in backbone else 1
        return groups

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Let means be over the objects of the whole step: a batch of it may have none."""
        scenes, draw = super().on_before_batch_transfer(batch, dataloader_idx)
        config: Any = self.net.config
        queries = len(scenes.counts) * config.queries
        together = weight_of(scenes.objects, queries) / draw.share
        objects = (together - NO_OBJECT * queries) / (1 - NO_OBJECT)
        return Batch(scenes._replace(objects=objects), draw._replace(share=1.0))

    def loss(self, inputs: Scenes) -> Tensor:
        return detection_loss(self.net(inputs.images, inputs.mask), inputs)

    def measures(self, inputs: Scenes) -> tuple[dict[str, Tensor], int]:
        images = len(inputs.counts)
        return {"val_loss": self.loss(inputs._replace(objects=images * self.objects))}, images


def weight_of(objects: float, queries: float) -> float:
    """What the classes of so many queries weigh together where so many of them are to find an object.

    >>> weight_of(objects=2, queries=12)
    3.0
    """
    return objects + NO_OBJECT * (queries - objects)


def detection_loss(found: Objects, scenes: Scenes) -> Tensor:
    """DETR's loss, a scalar: of the classes of all queries, and of the boxes of those that are to find an object."""
    images, queries, objects = match(found, scenes)
    logits, boxes, wanted = found.logits.float(), found.boxes.float()[images, queries], scenes.boxes[objects]
    none = logits.shape[-1] - 1
    classes = torch.full(logits.shape[:2], none, device=logits.device)  # (n, queries)
    classes[images, queries] = scenes.labels[objects]
    weights = torch.ones_like(logits[0, 0]).index_fill(0, classes.new_tensor(none), NO_OBJECT)  # (num_classes + 1,)
    of_classes = F.cross_entropy(logits.flatten(0, 1), classes.flatten(), weights, reduction="sum")
    distance = F.l1_loss(boxes, wanted, reduction="sum")
    overlap = generalized_box_iou_loss(corners(boxes), corners(wanted), reduction="sum", eps=0)  # boxes of data have an area
    of_boxes = DISTANCE * distance + OVERLAP * overlap
    return of_classes / weight_of(scenes.objects, classes.numel()) + of_boxes / max(scenes.objects, FEWEST)


@torch.no_grad()
def match(found: Objects, scenes: Scenes) -> tuple[Tensor, Tensor, Tensor]:
    """Which query to which image is to find which object: their numbers, each (matches,), an object's among all scenes.

    It is the assignment of the least cost, for each image (Kuhn 1955). Where an image has more objects than there are queries,
    some are found by none.
    """
    n, queries = found.logits.shape[:2]
    boxes = found.boxes.float().flatten(0, 1)  # (n · queries, 4)
    chance = found.logits.float().softmax(-1)[..., scenes.labels]  # (n, queries, objects)
    overlap = generalized_box_iou(corners(boxes), corners(scenes.boxes))  # (n · queries, objects)
    cost = (DISTANCE * torch.cdist(boxes, scenes.boxes, p=1) - OVERLAP * overlap).view(n, queries, -1) - chance
    cost, matches, first = cost.nan_to_num().cpu(), [], 0  # what is no number is noticed in the loss
    for image, count in enumerate(scenes.counts):
        query, wanted = map(torch.from_numpy, linear_sum_assignment(cost[image, :, first : first + count]))
        matches.append(torch.stack((torch.full_like(query, image), query, first + wanted)))
        first += count
    images, queried, objects = torch.cat(matches, dim=1).to(boxes.device)
    return images, queried, objects


def corners(boxes: Tensor) -> Tensor:
    """Boxes of middle, width and height as left, top, right, bottom: (…, 4)."""
    return box_convert(boxes, "cxcywh", "xyxy")


def with_objects(rows: datasets.Dataset, whose: str) -> datasets.Dataset:
    """What there is to learn from rows of scenes: `image`, `boxes`, and their classes as the `label` of the row.

    A crowd, one box around many, is nothing to learn from, nor is a box without area, of which COCO has a few. Raises InputError
    for rows without boxes or classes, or with more of the ones than of the others.
    """
    from datasets import List, Value

    there = {name: rows.features[name] for name in column_names(rows)}
    for column in (IMAGE, "boxes", "labels"):
        if column not in there:
            raise InputError(f"{whose} has no column {column!r}\nits columns: {', '.join(there)}")
    if not (isinstance(there["labels"], List) and isinstance(there["boxes"], List)):
        held = f"'boxes' holds {there['boxes']}, 'labels' {there['labels']}"
        raise InputError(f"{whose}: {held}\nwanted: lists, of an item for each object")
    boxes, labels = rows["boxes"][:], rows["labels"][:]
    crowds = rows["crowd"][:] if "crowd" in there else [[False] * len(one) for one in boxes]
    for row, (one, other) in enumerate(zip(boxes, labels, strict=True)):
        if len(one) != len(other):
            raise InputError(f"{whose}: row {row} has {len(one)} boxes and {len(other)} labels\ngive every box one")
    kept = [[_is_learned(*one) for one in zip(*row, strict=True)] for row in zip(boxes, crowds, strict=True)]
    with quiet():
        learned = rows.select_columns(IMAGE).add_column("boxes", _kept(boxes, kept), feature=List(List(Value("float32"))))
        return learned.add_column(LABEL, _kept(labels, kept), feature=there["labels"])


def _is_learned(box: Sequence[float], crowd: bool) -> bool:
    left, top, right, bottom = box
    return not crowd and left < right and top < bottom


def _kept(column: list[list[Any]], kept: list[list[bool]]) -> list[list[Any]]:
    return [[one for one, keep in zip(*row, strict=True) if keep] for row in zip(column, kept, strict=True)]
