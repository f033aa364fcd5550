"""Task objects of text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from bestiary.core.packing import batches, first_rows, mean_rows, pack
from bestiary.core.record import record
from bestiary.core.runtime import packed_rows, side_by_side
from bestiary.core.task import Report, Task, batched
from bestiary.errors import InputError, LayoutError
from bestiary.text.transforms import Tokenizer

FEWEST_TOKENS = 3  # one, between the two special ones
POOLINGS = {"mean": mean_rows, "cls": first_rows}


@dataclass(frozen=True, kw_only=True)
class EmbedderPreprocess:
    """The keys of a card's `preprocess` for text-embedding."""

    max_length: int  # tokens that are read of a text, special ones included
    pooling: Literal["mean", "cls"]  # of the hidden states: the mean over the tokens, or the class token's
    normalize: bool  # whether vectors are scaled to length 1


class Embedder(Task):
    """Texts to vectors.

    >>> import bestiary
    >>> embed = bestiary.load("minilm-l6-v2")
    >>> embed(["a cat", "a dog"]).shape
    torch.Size([2, 384])
    """

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        preprocess = record(EmbedderPreprocess, self.card.preprocess, f"preprocess of {self.card.name}")
        config: Any = self.net.config
        if not FEWEST_TOKENS <= preprocess.max_length <= config.positions:
            raise LayoutError(
                f"preprocess of {self.card.name} has max_length: {preprocess.max_length}\n"
                f"wanted: {FEWEST_TOKENS} to {config.positions}, the positions of the net"
            )
        self.pooling = POOLINGS[preprocess.pooling]
        self.finish = F.normalize if preprocess.normalize else torch.nn.Identity()
        self.tokenizer = Tokenizer(self.file("tokenizer"), preprocess.max_length)

    def __call__(self, texts: str | Iterable[str], *, batch_size: int = 1024) -> Any:
        """Vectors of texts, fp32, on the CPU: (width,) for one text, (n, width) for a list.

        Texts are packed end to end and computed longest first; each vector is the same alone or among others. An iterator
        is answered by an iterator of vectors, reading `batch_size` texts at a time. Texts over the card's max_length are
        cut, with a warning once. Raises InputError for what is not a text.
        """
        if isinstance(texts, str):
            return self._embed([texts])[0]
        if not isinstance(texts, Iterable):
            raise InputError(f"{type(texts).__name__} is not a text\ngive a str, or any number of them")
        answers = map(self._embed, batched(texts, batch_size))
        if isinstance(texts, Sequence):
            return torch.cat(list(answers) or [self._embed([])])
        return (vector for vectors in answers for vector in vectors)

    def similarity(self, a: Sequence[str], b: Sequence[str]) -> Tensor:
        """Dot products of the vectors of `a` with those of `b`, cosines if they are normalised: (len(a), len(b))."""
        return self(a) @ self(b).T

    def report(self, inputs: Sequence[str]) -> Report:
        vectors = self(list(inputs))
        similarity = (vectors @ vectors.T).tolist()
        return Report(
            columns=["text", *(f"to {i + 1}" for i in range(len(inputs)))],
            rows=[[text, *(round(value, 4) for value in row)] for text, row in zip(inputs, similarity, strict=True)],
            records=[{"text": text, "vector": vector.tolist()} for text, vector in zip(inputs, vectors, strict=True)],
        )

    def _embed(self, texts: Sequence[str]) -> Tensor:
        tokens = self.tokenizer(texts)
        config: Any = self.net.config
        vectors = torch.empty(len(texts), config.width)
        lengths = [len(ids) for ids in tokens]
        groups = list(batches(lengths, packed_rows(self.device, sum(lengths))))
        answers = side_by_side(lambda group: self._embed_packed([tokens[index] for index in group]), groups, self.device)
        for group, answer in zip(groups, answers, strict=True):
            vectors[group] = answer
        return vectors

    def _embed_packed(self, tokens: Sequence[Sequence[int]]) -> Tensor:
        packed = pack(tokens, self.device)
        hidden_states = self.inference(packed.tokens, packed.mask, packed.positions)  # (rows, width)
        return self.finish(self.pooling(hidden_states.float(), packed.mask)).cpu()
