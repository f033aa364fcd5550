"""What all tasks on encoders share: texts are packed end to end, and computed longest first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from tokenizers import Encoding
from torch import Tensor

from bestiary.core.packing import PackedTokens, Ragged, batches, pack
from bestiary.core.rows import for_encoding
from bestiary.core.runtime import packed_rows, side_by_side
from bestiary.core.task import Task, batched
from bestiary.errors import InputError, LayoutError
from bestiary.text.transforms import Tokenizer

if TYPE_CHECKING:
    from bestiary.core.export.graph import Bundle

FEWEST_TOKENS = 3  # one, between the two special ones
BATCH_SIZE = 1024  # texts that are read of an iterator at once

Result = TypeVar("Result")


class EncoderTask(Task):
    """The base of tasks on a net that reads a text as a whole."""

    derive = staticmethod(for_encoding)
    at_once = BATCH_SIZE

    def bundle(self, preprocessing: bool) -> Bundle:
        from bestiary.text.exporting import encoder_bundle  # which takes more to import than calls need

        return encoder_bundle(self, preprocessing)

    def _tokenizer(self, max_length: int, overlap: int = 0) -> Tokenizer:
        """The card's own, cutting at `max_length` tokens. Raises LayoutError where it does not fit the net."""
        config: Any = self.net.config
        if not FEWEST_TOKENS <= max_length <= config.positions:
            raise LayoutError(
                f"preprocess of {self.card.name} has max_length: {max_length}\n"
                f"wanted: {FEWEST_TOKENS} to {config.positions}, the positions of the net"
            )
        tokenizer = Tokenizer(self.file("tokenizer"), max_length, overlap)
        if (known := tokenizer.rules.get_vocab_size()) > config.vocabulary:
            raise LayoutError(
                f"the tokenizer of {self.card.name} knows {known} tokens, the net {config.vocabulary} of them\n"
                "the two are not of one model: correct the card"
            )
        return tokenizer

    def _computed(
        self, lengths: Sequence[int], compute: Callable[[Sequence[int]], Result]
    ) -> Iterator[tuple[list[int], Result]]:
        """What `compute` makes of groups of sequences, given by their indices, each with its group."""
        groups = list(batches(lengths, packed_rows(self.device, sum(lengths))))
        return zip(groups, side_by_side(compute, groups, self.device), strict=True)

    def _logits(
        self, encodings: Sequence[Encoding], parts: Callable[[Tensor, Ragged], Iterable[Tensor]]
    ) -> list[Tensor]:
        """The net's logits, fp32, on the CPU, in the `parts` that belong to each encoding."""

        def compute(group: Sequence[int]) -> Iterable[Tensor]:
            packed, segments = self._pack([encodings[index] for index in group])
            logits = self.inference(packed.tokens, packed.mask, packed.positions, *segments)
            return parts(logits.float().cpu(), packed.mask)

        found = [torch.empty(0)] * len(encodings)
        for group, logits in self._computed([len(encoding) for encoding in encodings], compute):
            for index, own in zip(group, logits, strict=True):
                found[index] = own
        return found

    def _pack(self, encodings: Sequence[Encoding]) -> tuple[PackedTokens, list[Tensor]]:
        """Packed rows, and, for a net that tells sentences apart, of which each row is."""
        packed = pack([encoding.ids for encoding in encodings], self.device)
        if getattr(self.net.config, "segments", 0) < 2:
            return packed, []
        segments = list(chain.from_iterable(encoding.type_ids for encoding in encodings))
        return packed, [torch.tensor(segments, device=self.device)]


def of_rows(logits: Tensor, mask: Ragged) -> Iterable[Tensor]:
    """The logits of each sequence where every row has some."""
    return logits.split(mask.lengths)


def of_sequences(logits: Tensor, mask: Ragged) -> Iterable[Tensor]:
    """The logits of each sequence where it has one row of them."""
    return logits.unbind()


def answered(inputs: Any, one: bool, compute: Callable[[list[Any]], list[Result]], batch_size: int) -> Any:
    """One answer to `one` input, a list to a list, and to any other iterable an iterator that reads as it is asked."""
    if one:
        return compute([inputs])[0]
    if not isinstance(inputs, Iterable):
        raise InputError(f"{type(inputs).__name__} is not a text\ngive a str, or any number of them")
    answers = chain.from_iterable(map(compute, batched(inputs, batch_size)))
    return list(answers) if isinstance(inputs, Sequence) else answers
