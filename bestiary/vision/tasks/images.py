"""What the tasks of images share: one image or many, in batches, answered in the form they came in."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from io import IOBase
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bestiary.core.rows import for_encoding
from bestiary.core.runtime import images_at_once, in_threads
from bestiary.core.task import Task, batched
from bestiary.errors import InputError, OfflineError, SourceError
from bestiary.hub.inputs import name_of
from bestiary.vision.images import read_image
from bestiary.vision.transforms import Preprocess, check_sides

if TYPE_CHECKING:
    from bestiary.core.export.graph import Bundle

# What can be iterated, and yet is no list of images: an image, a row of a data set, an open file.
ALONE = (str, bytes, bytearray, memoryview, Image.Image, Mapping, IOBase)
KNOWN_LENGTH = (Sequence, np.ndarray, Tensor)  # answered by a list; what else can be iterated is answered as it comes

Errors = Literal["raise", "skip"]  # what to do about an image that cannot be read
Answer = Callable[[list[Any], int], Iterable[Any]]  # images and the number of the first → an answer for each
Result = Callable[[Any, Any], Any]  # an answer, and the image as it was given → what the caller gets


def answer_alone(answer: Any, image: Any) -> Any:
    """The result of a task whose answers say all."""
    return answer


class ImageTask(Task):
    """A task whose inputs are images."""

    derive = staticmethod(for_encoding)
    medium = "image"
    forms = (("image",),)

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self.preprocess = Preprocess.of(self.card, besides=self.keys)

    @property
    def at_once(self) -> int:
        return images_at_once(self.device)

    def bundle(self, preprocessing: bool) -> Bundle:
        from bestiary.vision.exporting import image_bundle  # which takes more to import than calls need

        return image_bundle(self, preprocessing)

    def answered(
        self, images: Any, answer: Answer, *, batch_size: int | None, errors: Errors = "raise", result: Result = answer_alone
    ) -> Any:
        """A result for one image, a list of them for a list of images; an iterator is answered by an iterator.

        `result` makes it of an answer and the image as it was given, for results that draw themselves on it. With
        errors="skip" the result of an image that cannot be read is None, and a warning names it.
        """
        if errors not in ("raise", "skip"):
            raise InputError(f'errors={errors!r} is not known\ngive "raise" or "skip"')
        size = self.at_once if batch_size is None else batch_size
        batches = batched([images] if is_one(images) else images, size)
        answers = _answers(batches, answer if errors == "raise" else _forgiving(answer), result)
        if is_one(images):
            return next(answers)
        return list(answers) if isinstance(images, KNOWN_LENGTH) else answers

    def compute(self, batch: Tensor, what: str = "forward", *arguments: Any) -> Any:
        """What a method of the net makes of a batch."""
        weight = next(self.net.parameters())
        with torch.inference_mode():
            return getattr(self.inference.derived(), what)(batch.to(weight.device, weight.dtype), *arguments)


def is_one(images: Any) -> bool:
    """Whether this is an image, or something that is neither one nor many, rather than many."""
    if isinstance(images, (np.ndarray, Tensor)):
        return images.ndim != 4
    return isinstance(images, ALONE) or not isinstance(images, Iterable)


def _answers(batches: Iterable[list[Any]], answer: Answer, result: Result) -> Iterator[Any]:
    first = 0
    for batch in batches:
        for found, image in zip(answer(batch, first), batch, strict=True):
            yield None if found is None else result(found, image)
        first += len(batch)


def _forgiving(answer: Answer) -> Answer:
    """The same for the images that can be read, and None for the others."""

    def answer_readable(images: list[Any], first: int) -> Iterator[Any]:
        readable = in_threads(lambda item: _read(item[1], f"image {item[0]}"), list(enumerate(images, first)))
        answers = iter(answer([image for image in readable if image is not None], first))
        return (None if image is None else next(answers) for image in readable)

    return answer_readable


def _read(image: Any, name: str) -> Image.Image | None:
    try:
        read = read_image(image, name)
        check_sides(*read.size, name_of(image, name))
        return read
    except (InputError, OfflineError, SourceError) as error:
        warnings.warn(f"skipped: {str(error).splitlines()[0]}", stacklevel=2)
        return None
