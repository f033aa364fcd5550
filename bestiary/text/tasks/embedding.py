"""Texts to vectors, and search by them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from bestiary.core.labels import check_top
from bestiary.core.packing import first_rows, mean_rows, pack
from bestiary.core.record import record
from bestiary.core.similarity import nearest, similarity_report
from bestiary.core.task import Report, Vector, batched
from bestiary.errors import InputError
from bestiary.text.tasks.encoder import BATCH_SIZE, EncoderTask
from bestiary.text.transforms import check_texts

POOLINGS = {"mean": mean_rows, "cls": first_rows}


@dataclass(frozen=True, kw_only=True)
class EmbedderPreprocess:
    """The keys of a card's `preprocess` for text-embedding."""

    max_length: int  # tokens that are read of a text, special ones included
    pooling: Literal["mean", "cls"]  # of the hidden states: the mean over the tokens, or the class token's
    normalize: bool  # whether vectors are scaled to length 1
    prompts: Mapping[str, str] = field(default_factory=dict)  # what is put before texts, by what they are: "query", "passage"


@dataclass(frozen=True)
class Match:
    """A text that was found: its place in the corpus, and its dot product with the query."""

    index: int
    text: str
    score: float


class Embedder(EncoderTask):
    """Texts to vectors.

    >>> import bestiary
    >>> embed = bestiary.load("minilm-l6-v2")
    >>> embed(["a cat", "a dog"]).shape
    torch.Size([2, 384])
    >>> embed.search("an animal that barks", ["a cat", "a dog", "a car"], top=1)[0].text
    'a dog'
    """

    keys = ("pooling", "normalize", "prompts")

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        preprocess = record(EmbedderPreprocess, self.card.preprocess, f"preprocess of {self.card.name}")
        self.tokenizer = self._tokenizer(preprocess.max_length)
        self.pooling = POOLINGS[preprocess.pooling]
        self.finish = F.normalize if preprocess.normalize else torch.nn.Identity()
        self.prompts = preprocess.prompts

    def __call__(
        self, texts: str | Iterable[str], *, prompt: str | None = None, batch_size: int = BATCH_SIZE
    ) -> Any:
        """Vectors of texts, fp32, on the CPU: (width,) for one text, (n, width) for a list.

        Texts are packed end to end and computed longest first; each vector is the same alone or among others. An iterator
        is answered by an iterator of vectors, reading `batch_size` texts at a time. `prompt` names one of the card's prompts,
        to be put before each text. Texts over the card's max_length are cut, with a warning once. Raises InputError for what
        is not a text, and for a prompt that the card does not have.
        """
        before = self._prompt(prompt)
        if isinstance(texts, str):
            return self._embed([texts], before)[0]
        if not isinstance(texts, Iterable):
            raise InputError(f"{type(texts).__name__} is not a text\ngive a str, or any number of them")
        answers = (self._embed(batch, before) for batch in batched(texts, batch_size))
        if isinstance(texts, Sequence):
            return torch.cat(list(answers) or [self._embed([], before)])
        return (vector for vectors in answers for vector in vectors)

    def similarity(self, a: Sequence[str], b: Sequence[str]) -> Tensor:
        """Dot products of the vectors of `a` with those of `b`, cosines if they are normalised: (len(a), len(b))."""
        return self(a) @ self(b).T

    def search(
        self, queries: str | Sequence[str], corpus: Iterable[str], *, top: int = 5, batch_size: int = BATCH_SIZE
    ) -> Any:
        """The `top` texts of the corpus that are nearest to a query, best first; for a list of queries a list of such lists.

        The corpus is read once, `batch_size` texts at a time, and only the best are kept, so it may be longer than memory.
        Where the card has prompts for queries and passages, they are used. Raises InputError.
        """
        check_top(top)
        if isinstance(corpus, str) or not isinstance(corpus, Iterable):
            raise InputError(f"the corpus is one {type(corpus).__name__}\ngive any number of texts: a list, or an iterator")
        batches = batched(enumerate(corpus), batch_size)
        vectors = self([queries] if isinstance(queries, str) else list(queries), prompt=self._known("query"))
        passages = ((batch, self([text for _, text in batch], prompt=self._known("passage"))) for batch in batches)
        best = [[Match(*item, score) for item, score in found] for found in nearest(vectors, passages, top)]
        return best[0] if isinstance(queries, str) else best

    def returns(self) -> Mapping[str, Any]:
        return {"vector": Vector(self._embed([], "").shape[-1])}

    def record(self, result: Tensor) -> Mapping[str, Any]:
        return {"vector": result.numpy()}

    def report(self, inputs: Sequence[str]) -> Report:
        return similarity_report("text", inputs, self(list(inputs)))

    def _known(self, prompt: str) -> str | None:
        return prompt if prompt in self.prompts else None

    def _prompt(self, name: str | None) -> str:
        if name is None:
            return ""
        if name not in self.prompts:
            known = ", ".join(self.prompts) or "none"
            raise InputError(f"{self.card.name} has no prompt {name!r}\nits prompts: {known}")
        return self.prompts[name]

    def _embed(self, texts: Sequence[str], before: str) -> Tensor:
        if before:
            check_texts(texts)
            texts = [before + text for text in texts]
        tokens = self.tokenizer(texts)
        config: Any = self.net.config
        vectors = torch.empty(len(texts), config.width)
        lengths = [len(ids) for ids in tokens]
        for group, answer in self._computed(lengths, lambda group: self._embed_packed([tokens[index] for index in group])):
            vectors[group] = answer
        return vectors

    def _embed_packed(self, tokens: Sequence[Sequence[int]]) -> Tensor:
        packed = pack(tokens, self.device)
        hidden_states = self.inference(packed.tokens, packed.mask, packed.positions)  # (rows, width)
        return self.finish(self.pooling(hidden_states.float(), packed.mask)).cpu()
