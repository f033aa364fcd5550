"""Images to vectors, and search by them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from itertools import tee
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bestiary.core.labels import check_top
from bestiary.core.record import record
from bestiary.core.similarity import nearest, similarity_report
from bestiary.core.task import Report, Vector, batched
from bestiary.errors import InputError
from bestiary.hub.progress import counted
from bestiary.vision.folder import image_files
from bestiary.vision.tasks.images import KNOWN_LENGTH, Errors, ImageTask, is_one


@dataclass(frozen=True, kw_only=True)
class ImageEmbedderPreprocess:
    """The keys of a card's `preprocess` for image-embedding, beside those of images."""

    normalize: bool = True  # whether vectors are scaled to length 1


@dataclass(frozen=True)
class ImageMatch:
    """An image that was found: its place in the corpus, what it was given as, and its dot product with the query."""

    index: int
    image: Any  # of a folder, the path
    score: float


class ImageEmbedder(ImageTask):
    """Images to vectors: what the net sees in them, pooled, below its head. A classifier gives one by `.embedder()`.

    >>> import bestiary
    >>> embed = bestiary.load("efficientnet-lite0").embedder()
    >>> embed(["cat.jpg", "cat.jpg"]).shape
    torch.Size([2, 1280])
    >>> embed.search("cat.jpg", ".", top=1)[0].image
    PosixPath('cat.jpg')
    """

    keys = ("normalize",)

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        own = {key: self.card.preprocess[key] for key in self.keys if key in self.card.preprocess}
        preprocess = record(ImageEmbedderPreprocess, own, f"preprocess of {self.card.name}")
        self.finish = F.normalize if preprocess.normalize else torch.nn.Identity()

    def __call__(self, images: Any, *, batch_size: int | None = None, errors: Errors = "raise") -> Any:
        """Vectors of images, fp32, on the CPU: (width,) for one image, (n, width) for a list.

        What counts as an image, and what it raises: see `ImageClassifier`. An iterator is answered by an iterator of vectors,
        reading `batch_size` images at a time. With errors="skip" an image that cannot be read is named in a warning and has a
        vector of NaN in the tensor, None elsewhere.
        """
        vectors = self.answered(images, self._embed, batch_size=batch_size, errors=errors)
        if is_one(images) or not isinstance(images, KNOWN_LENGTH):
            return vectors
        known = next((vector[None] for vector in vectors if vector is not None), None)
        like = self._embed([], 0) if known is None else known  # (n, width)
        rows = [like.new_full(like.shape[1:], torch.nan) if vector is None else vector for vector in vectors]
        return torch.stack(rows) if rows else like

    def similarity(self, a: Any, b: Any) -> Tensor:
        """Dot products of the vectors of `a` with those of `b`, cosines if they are normalised: (len(a), len(b)).

        One image is taken for a list of one.
        """
        return self(_listed(a)) @ self(_listed(b)).T

    def search(self, queries: Any, corpus: Any, *, top: int = 5, batch_size: int | None = None, errors: Errors = "raise") -> Any:
        """The `top` images of the corpus that are nearest to a query, best first; for a list of queries a list of such lists.

        The corpus is a folder, in which images are looked for at any depth, or any number of images. It is read once,
        `batch_size` images at a time, and only the best are kept, so it may be longer than memory. With errors="skip" what
        cannot be read is named in a warning and left out. Raises InputError.
        """
        check_top(top)
        if isinstance(corpus, (str, os.PathLike)):
            corpus = image_files(corpus)
        elif is_one(corpus):
            raise InputError(f"the corpus is one {type(corpus).__name__}\ngive a folder, or any number of images")
        vectors = self(_listed(queries), batch_size=batch_size)  # (queries, width)
        found = nearest(vectors, self._readable(corpus, batch_size, errors), top)
        best = [[ImageMatch(*item, score) for item, score in matches] for matches in found]
        return best[0] if is_one(queries) else best

    def returns(self) -> Mapping[str, Any]:
        return {"vector": Vector(self._embed([], 0).shape[-1])}

    def record(self, result: Tensor) -> Mapping[str, Any]:
        return {"vector": result.numpy()}

    def report(self, inputs: Sequence[str]) -> Report:
        return similarity_report("image", inputs, self(list(inputs)))

    def _readable(
        self, corpus: Iterable[Any], size: int | None, errors: Errors
    ) -> Iterator[tuple[list[tuple[int, Any]], Tensor]]:
        """Batches of numbered images and their vectors, without the images that cannot be read."""
        size = self.at_once if size is None else size
        items, images = tee(enumerate(counted(corpus, "images", len(corpus)) if isinstance(corpus, Sized) else corpus))
        vectors = self((image for _, image in images), batch_size=size, errors=errors)
        read = ((item, vector) for item, vector in zip(items, vectors, strict=True) if vector is not None)
        for batch in batched(read, size):
            yield [item for item, _ in batch], torch.stack([vector for _, vector in batch])

    def _embed(self, images: list[Any], first: int) -> Tensor:
        return self.finish(self.compute(self.preprocess(images, first), "pooled").float()).cpu()


def _listed(images: Any) -> list[Any]:
    return [images] if is_one(images) else list(images)
