"""Task objects of images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bestiary.core.labels import Label, check_top, class_names, ranked
from bestiary.core.rows import for_encoding
from bestiary.core.runtime import images_at_once
from bestiary.core.task import Report, Task, batched
from bestiary.vision import labels
from bestiary.vision.transforms import Preprocess

KNOWN_LENGTH = (Sequence, np.ndarray, Tensor)  # answered by a list; what else can be iterated is answered as it comes


class ImageClassifier(Task):
    """Images to labels.

    >>> import bestiary
    >>> classify = bestiary.load("efficientnet-lite0")
    >>> classify("cat.jpg", top=1)[0].name
    'tiger cat'
    """

    derive = staticmethod(for_encoding)

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self.preprocess = Preprocess.of(self.card)
        config: Any = self.net.config
        given = self.card.labels
        names = labels.names(given) if isinstance(given, str) else given
        self.labels = class_names(names, config.num_classes, self.card.name)

    def __call__(self, images: Any, *, top: int = 5, batch_size: int | None = None) -> Any:
        """The `top` most likely labels, best first: a list of Label for one image, a list of lists for a list of images.

        An image is a path, an https address, bytes, a PIL image, an array (h, w, colours) or a tensor (colours, h, w); a
        fourth dimension in front makes a list of them. An iterator is answered by an iterator that reads `batch_size` images
        at a time. Raises InputError, and for an address OfflineError or SourceError.
        """
        check_top(top)
        answers = self._answers(images, top, batch_size)
        if _is_one(images):
            return next(answers)
        return list(answers) if isinstance(images, KNOWN_LENGTH) else answers

    def features(self, images: Any, *, batch_size: int | None = None) -> Any:
        """Feature maps, fp32, on the CPU: (channels, h, w) for one image, (n, channels, h, w) for a list."""
        batches = (self._compute(batch, "features").cpu() for batch in self._batches(images, batch_size))
        if _is_one(images):
            return next(batches)[0]
        if isinstance(images, KNOWN_LENGTH):
            return torch.cat(list(batches) or [self._compute(self.preprocess([]), "features").cpu()])
        return (maps for batch in batches for maps in batch)

    def report(self, inputs: Sequence[str]) -> Report:
        records = [
            {"image": image, "rank": rank, "label": label.name, "score": label.score}
            for image, found in zip(inputs, self(list(inputs)), strict=True)
            for rank, label in enumerate(found, start=1)
        ]
        rows = [[*list(record.values())[:3], f"{record['score']:.1%}"] for record in records]
        return Report(columns=["image", "rank", "label", "score"], rows=rows, records=records)

    def _answers(self, images: Any, top: int, size: int | None) -> Iterator[list[Label]]:
        for batch in self._batches(images, size):
            yield from ranked(self._compute(batch, "forward").softmax(-1), self.labels, top)

    def _batches(self, images: Any, size: int | None) -> Iterator[Tensor]:
        """The batches of one image or many, preprocessed as they are asked for."""
        size = images_at_once(self.device) if size is None else size
        batches = batched([images] if _is_one(images) else images, size)
        return (self.preprocess(batch, number * size) for number, batch in enumerate(batches))

    def _compute(self, batch: Tensor, what: str) -> Tensor:
        """What a method of the net makes of a batch, in fp32."""
        weight = next(self.net.parameters())
        with torch.inference_mode():
            return getattr(self.inference.derived(), what)(batch.to(weight.device, weight.dtype)).float()


def _is_one(images: Any) -> bool:
    """Whether this is an image, or something that cannot be one, rather than many."""
    if isinstance(images, (np.ndarray, Tensor)):
        return images.ndim != 4
    return isinstance(images, (str, bytes, bytearray, memoryview, Image.Image)) or not isinstance(images, Iterable)
