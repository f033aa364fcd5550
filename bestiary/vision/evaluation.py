"""How well models of images do on labelled rows, those of `bestiary.vision.datasets.load`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bestiary.core.evaluation import Classes, Evaluation, Match, Progress, evaluated_classes, metrics_of, need_columns, read
from bestiary.core.tables import LABEL
from bestiary.errors import InputError
from bestiary.hub.progress import counted
from bestiary.vision.tasks.classification import ImageClassifier
from bestiary.vision.tasks.detection import Detections, ObjectDetector
from bestiary.vision.tasks.embedding import ImageEmbedder

if TYPE_CHECKING:
    from bestiary.core.tables import Rows

NEIGHBOURS = (1, 5, 20)
QUERIES = 256  # whose neighbours are looked for at once
OBJECTS = 100  # that COCO takes into account of an image
COCO = {  # the metric's name with us and with torchmetrics
    "map": "map",
    "map_50": "map_50",
    "map_75": "map_75",
    "map_small": "map_small",
    "map_medium": "map_medium",
    "map_large": "map_large",
    "recall_at_100": "mar_100",
}


def evaluate_image_classification(
    task: ImageClassifier,
    rows: Rows,
    *,
    batch_size: int | None = None,
    match: Match = "names",
    progress: Progress = counted,
) -> Evaluation:
    """`accuracy`, `top5_accuracy` where there are more than five classes, and `macro_f1`, over rows of `image` and `label`.

    Classes are matched by `match`, see `bestiary.core.evaluation.Classes`. Raises InputError for labels that are not the
    model's, and for an image that cannot be read.
    """
    return evaluated_classes(task, rows, "image", batch_size=batch_size, match=match, progress=progress)


def evaluate_image_embedding(
    task: ImageEmbedder, rows: Rows, *, batch_size: int | None = None, progress: Progress = counted
) -> Evaluation:
    """`knn_1_accuracy`, and with 5 and 20 neighbours where there are more rows: how often an image's neighbours tell its class.

    Every image is classified by the others, the nearest by dot product; of classes with equally many among them, by the one
    whose images are nearer. Rows have an `image` and a `label`. Raises InputError for fewer than two.
    """
    need_columns(rows, ["image", LABEL])
    given: list[Any] = []
    vectors = torch.stack(list(task(_images(rows, given, progress), batch_size=batch_size)) or [torch.empty(0)])
    if len(given) < 2:
        raise InputError(f"{len(given)} images have no neighbours\ngive more rows")
    numbers = {label: number for number, label in enumerate(dict.fromkeys(given))}
    labels = torch.tensor([numbers[label] for label in given])
    sizes = [size for size in NEIGHBOURS if size < len(given)]
    nearest = _nearest(vectors, max(sizes))  # (n, neighbours)
    metrics = {}
    for size in sizes:
        votes = _votes(labels[nearest[:, :size]], len(numbers))
        metrics[f"knn_{size}_accuracy"] = float((votes.argmax(-1) == labels).double().mean())
    return Evaluation(metrics=metrics, rows=len(given), counts={"classes": len(numbers)})


def evaluate_object_detection(
    task: ObjectDetector,
    rows: Rows,
    *,
    batch_size: int | None = None,
    match: Match = "names",
    progress: Progress = counted,
) -> Evaluation:
    """COCO's mean average precision: `map`, `map_50`, `map_75`, those of small, medium and large objects, and `recall_at_100`.

    `map` is the mean over ten thresholds of overlap, 0.5 to 0.95, and over the classes that occur (Lin et al. 2014,
    arXiv:1405.0312). Rows have an `image`, `boxes` (left, top, right, bottom, in pixels) and `labels`; where there is a column
    `crowd`, a box around many is neither right nor wrong to find. Sizes are those of the boxes. A size that the data has none of
    is left out.
    """
    metric = _coco()
    columns = ["image", "boxes", "labels", *(["crowd"] if "crowd" in (rows.features or {}) else [])]
    need_columns(rows, columns)
    classes = Classes(rows.select_columns("labels").rename_column("labels", LABEL), task.labels, match, task.card.name)
    number = {name: index for index, name in enumerate(task.labels)}
    expected: list[dict[str, Tensor]] = []
    count = 0

    def images() -> Iterator[Any]:
        for image, boxes, labels, *crowd in read(rows, columns, progress):
            expected.append(_objects(boxes, [classes(label) for label in labels], *crowd))
            yield image

    for found in task(images(), threshold=0.0, top=OBJECTS, batch_size=batch_size):
        metric.update([_found(found, number)], [expected[count]])
        count += 1
    if not count:
        raise InputError("there are no rows to evaluate on\ngive a split that has some")
    result = metric.compute()
    objects = sum(len(one["labels"]) for one in expected)
    each = zip(torch.atleast_1d(result["classes"]).tolist(), torch.atleast_1d(result["map_per_class"]).tolist(), strict=True)
    return Evaluation(
        metrics={ours: float(result[theirs]) for ours, theirs in COCO.items() if result[theirs] >= 0},
        rows=count,
        counts={"objects": objects},
        classes={task.labels[int(index)]: {"map": value} for index, value in each if value >= 0},
    )


def _images(rows: Rows, labels: list[Any], progress: Progress) -> Iterator[Any]:
    """The images of rows, as they are asked for; their labels are added to `labels`."""
    for image, label in read(rows, ["image", LABEL], progress):
        labels.append(label)
        yield image


def _nearest(vectors: Tensor, count: int) -> Tensor:
    """The other vectors that are nearest to each, (n, width) → (n, count), nearest first."""
    found = []
    for first, queries in zip(range(0, len(vectors), QUERIES), vectors.split(QUERIES), strict=True):
        scores = queries @ vectors.T
        scores[torch.arange(len(queries)), torch.arange(first, first + len(queries))] = -torch.inf
        found.append(scores.topk(count).indices)
    return torch.cat(found)


def _votes(labels: Tensor, classes: int) -> Tensor:
    """The votes of neighbours, nearest first, for their own classes: (n, k) → (n, classes).

    Each counts as one, and a nearer one a little more, all of these together less than one.
    """
    k = labels.shape[1]
    weights = 1 + torch.arange(k, 0, -1).double() / (k * (k + 1))
    return torch.zeros(len(labels), classes, dtype=torch.double).scatter_add_(1, labels, weights.expand_as(labels))


def _coco() -> Any:
    detection = metrics_of("detection")
    try:
        import pycocotools  # noqa: F401
    except ImportError:
        raise InputError("evaluation needs pycocotools, which is not installed\npip install 'bestiary[train]'") from None
    metric = detection.MeanAveragePrecision(class_metrics=True, backend="pycocotools")
    metric.warn_on_many_detections = False
    return metric


def _objects(boxes: Any, labels: list[int], crowd: Any = None) -> dict[str, Tensor]:
    objects = {"boxes": torch.tensor(boxes, dtype=torch.float).reshape(-1, 4), "labels": torch.tensor(labels, dtype=torch.long)}
    return objects if crowd is None else {**objects, "iscrowd": torch.tensor(crowd, dtype=torch.long)}


def _found(found: Detections, number: dict[str, int]) -> dict[str, Tensor]:
    boxes = torch.tensor([one.box for one in found], dtype=torch.float).reshape(-1, 4)
    labels = torch.tensor([number[one.label] for one in found], dtype=torch.long)
    return {"boxes": boxes, "scores": torch.tensor([one.score for one in found], dtype=torch.float), "labels": labels}
