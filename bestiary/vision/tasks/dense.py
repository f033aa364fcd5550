"""What the tasks that answer for every pixel of an image share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from bestiary.core.runtime import in_threads
from bestiary.errors import LayoutError
from bestiary.vision.tasks.images import ImageTask

WHOLE = ("squash", "shortest", "multiple")  # the fits that leave nothing of an image out, and add nothing


class DenseTask(ImageTask):
    """A task whose net sees the whole of an image, and answers for all of it."""

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        if self.preprocess.fit not in WHOLE or self.preprocess.crop != 1:
            raise LayoutError(
                f"preprocess of {self.card.name} has fit: {self.preprocess.fit}, crop: {self.preprocess.crop}\n"
                f"what answers for every pixel has to see all: fit is one of {', '.join(WHOLE)}, crop 1"
            )

    def outputs(self, images: list[Any], first: int) -> list[tuple[Any, tuple[int, int]]]:
        """For each image what the net gives for it, in fp32, and the height and width of the image.

        That is a tensor, or a tuple of those of a net that gives several. `first` is the number of the first image, for messages.
        """
        given: dict[int, tuple[Any, tuple[int, int]]] = {}
        for numbers, batch, sizes in self.by_size(images, first):
            output = self.compute(batch)
            rows = zip(*(part.float() for part in output), strict=True) if isinstance(output, tuple) else output.float()
            given |= zip(numbers, zip(rows, sizes, strict=True), strict=True)
        return [given[number] for number in range(len(images))]

    def by_size(self, images: list[Any], first: int) -> Iterator[tuple[list[int], Tensor, list[tuple[int, int]]]]:
        """Batches of those images that become of one size: their places in the list, what the net sees, how large they are.

        Padding would put them all in one batch, but change what a net sees at the edges of an image, and so its answer.
        """
        numbered = list(enumerate(images, first))
        seen = in_threads(lambda item: self.preprocess.seen(item[1], f"image {item[0]}"), numbered)
        for size in dict.fromkeys(pixels.shape for pixels, _ in seen):
            alike = [number for number, (pixels, _) in enumerate(seen) if pixels.shape == size]
            batch = torch.stack([seen[number][0].permute(1, 2, 0) for number in alike]).permute(0, 3, 1, 2)
            yield alike, self.preprocess.normalize(batch), [seen[number][1].original for number in alike]
