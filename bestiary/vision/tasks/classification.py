"""Images to labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bestiary.core.labels import Label, check_top, class_names, ranked
from bestiary.core.task import Report
from bestiary.vision import labels
from bestiary.vision.tasks.images import KNOWN_LENGTH, Errors, ImageTask, is_one


class ImageClassifier(ImageTask):
    """Images to labels.

    >>> import bestiary
    >>> classify = bestiary.load("efficientnet-lite0")
    >>> classify("cat.jpg", top=1)[0].name
    'tiger cat'
    """

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        config: Any = self.net.config
        given = self.card.labels
        names = labels.names(given) if isinstance(given, str) else given
        self.labels = class_names(names, config.num_classes, self.card.name)

    def __call__(self, images: Any, *, top: int = 5, batch_size: int | None = None, errors: Errors = "raise") -> Any:
        """The `top` most likely labels, best first: a list of Label for one image, a list of lists for a list of images.

        An image is a path, an https address, bytes, a PIL image, an array (h, w, colours) or a tensor (colours, h, w); a
        fourth dimension in front makes a list of them. An iterator is answered by an iterator that reads `batch_size` images
        at a time. Raises InputError, and for an address OfflineError or SourceError; with errors="skip" the answer for an
        image that cannot be read is None, and a warning names it.
        """
        check_top(top)

        def answer(batch: list[Any], first: int) -> list[list[Label]]:
            logits = self.compute(self.preprocess(batch, first)).float()
            return ranked(logits.softmax(-1), self.labels, top)

        return self.answered(images, answer, batch_size=batch_size, errors=errors)

    def features(self, images: Any, *, batch_size: int | None = None) -> Any:
        """Feature maps, fp32, on the CPU: (channels, h, w) for one image, (n, channels, h, w) for a list."""

        def answer(batch: list[Any], first: int) -> Tensor:
            return self.compute(self.preprocess(batch, first), "features").float().cpu()

        maps = self.answered(images, answer, batch_size=batch_size)
        if is_one(images) or not isinstance(images, KNOWN_LENGTH):
            return maps
        return torch.stack(maps) if maps else answer([], 0)

    def report(self, inputs: Sequence[str]) -> Report:
        records = [
            {"image": image, "rank": rank, "label": label.name, "score": label.score}
            for image, found in zip(inputs, self(list(inputs)), strict=True)
            for rank, label in enumerate(found, start=1)
        ]
        rows = [[*list(record.values())[:3], f"{record['score']:.1%}"] for record in records]
        return Report(columns=["image", "rank", "label", "score"], rows=rows, records=records)
