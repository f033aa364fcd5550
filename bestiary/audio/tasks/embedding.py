"""Sounds to vectors, and search by them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bestiary.audio.folder import sound_files
from bestiary.audio.tasks.sounds import is_one
from bestiary.audio.tasks.whole import WholeSoundTask
from bestiary.core.labels import check_top
from bestiary.core.similarity import nearest, similarity_report
from bestiary.core.task import Report, Vector, batched
from bestiary.errors import InputError
from bestiary.hub.progress import counted


@dataclass(frozen=True)
class SoundMatch:
    """A sound that was found: its place in the corpus, what it was given as, and its cosine to the query."""

    index: int
    sound: Any  # of a folder, the path
    score: float


class AudioEmbedder(WholeSoundTask):
    """Sounds to unit vectors: what the net hears in them, pooled, below its head. A classifier gives one by `.embedder()`."""

    def __call__(self, sounds: Any, *, batch_size: int | None = None) -> Any:
        """Vectors of sounds, of length 1, fp32, on the CPU: (width,) for one sound, (n, width) for a list.

        What counts as a sound, how long ones are heard, and what it raises: see `AudioClassifier`. An iterator is answered by an
        iterator of vectors, reading `batch_size` sounds at a time.
        """
        vectors = self.answered(sounds, self._embed, batch_size=batch_size)
        if is_one(sounds) or not isinstance(sounds, Sequence):
            return vectors
        return torch.stack(vectors) if vectors else torch.empty(0, self._width())

    def similarity(self, a: Any, b: Any) -> Tensor:
        """Cosines of the sounds of `a` to those of `b`: (len(a), len(b)). One sound is taken for a list of one."""
        return self(_listed(a)) @ self(_listed(b)).T

    def search(self, queries: Any, corpus: Any, *, top: int = 5, batch_size: int | None = None) -> Any:
        """The `top` sounds of the corpus that are nearest to a query, best first; for a list of queries a list of such lists.

        The corpus is a folder, in which sounds are looked for at any depth, or any number of sounds. It is read once,
        `batch_size` sounds at a time, and only the best are kept, so it may be longer than memory. Raises InputError.
        """
        check_top(top)
        if isinstance(corpus, (str, os.PathLike)):
            corpus = sound_files(corpus)
        elif is_one(corpus) or not isinstance(corpus, Iterable):
            raise InputError(f"the corpus is one {type(corpus).__name__}\ngive a folder, or any number of sounds")
        vectors = self(_listed(queries), batch_size=batch_size)  # (queries, width)
        found = nearest(vectors, self._embedded(corpus, self.at_once if batch_size is None else batch_size), top)
        best = [[SoundMatch(*item, score) for item, score in matches] for matches in found]
        return best[0] if is_one(queries) else best

    def returns(self) -> Mapping[str, Any]:
        return {"vector": Vector(self._width())}

    def record(self, result: Tensor) -> Mapping[str, Any]:
        return {"vector": result.numpy()}

    def report(self, inputs: Sequence[str]) -> Report:
        return similarity_report("sound", inputs, self(list(inputs)))

    def _embedded(self, corpus: Iterable[Any], size: int) -> Iterator[tuple[list[tuple[int, Any]], Tensor]]:
        """Batches of numbered sounds and their vectors."""
        shown = counted(corpus, "sounds", len(corpus)) if isinstance(corpus, Sized) else corpus
        for batch in batched(enumerate(shown), size):
            yield batch, self([sound for _, sound in batch], batch_size=size)

    def _embed(self, batch: Sequence[Tensor]) -> Tensor:
        return F.normalize(self.averaged(batch, self.hearing.pooled))

    def _width(self) -> int:
        width: int = self.net.config.width  # type: ignore[union-attr,assignment]
        return width


def _listed(sounds: Any) -> list[Any]:
    return [sounds] if is_one(sounds) else list(sounds)
