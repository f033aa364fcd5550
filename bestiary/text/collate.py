"""From rows of tokens to batches: padded or packed, masked or shifted; what a DataLoader calls as `collate_fn`.

    loader = DataLoader(rows, batch_sampler=LengthBuckets(rows["length"], by_count(32)), collate_fn=Pack())

A row has `tokens` and, if there is anything to learn from it, a `label`: one number for the row, or one for each token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from bestiary.core.packing import Ragged
from bestiary.errors import InputError

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Rules

TOKENS, LABEL = "tokens", "label"   # columns
IGNORED = -100                      # the label that torch's losses leave out

Row: TypeAlias = Mapping[str, Any]


class PaddedBatch(NamedTuple):
    """Sequences side by side: `net(batch.tokens, batch.mask)`."""

    tokens: Tensor         # (batch, length)
    mask: Tensor           # (batch, length), True where a token is
    labels: Tensor | None  # (batch,), or (batch, length) with -100 where padding is

    def to(self, device: torch.device | str, non_blocking: bool = False) -> PaddedBatch:
        return PaddedBatch(
            self.tokens.to(device, non_blocking=non_blocking),
            self.mask.to(device, non_blocking=non_blocking),
            None if self.labels is None else self.labels.to(device, non_blocking=non_blocking),
        )


class PackedBatch(NamedTuple):
    """Sequences end to end: `net(batch.tokens, batch.mask, batch.positions)`."""

    tokens: Tensor         # (rows,)
    positions: Tensor      # (rows,), of each token in its own sequence
    mask: Ragged
    labels: Tensor | None  # (batch,), or (rows,)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> PackedBatch:
        return PackedBatch(
            self.tokens.to(device, non_blocking=non_blocking),
            self.positions.to(device, non_blocking=non_blocking),
            self.mask,
            None if self.labels is None else self.labels.to(device, non_blocking=non_blocking),
        )


Collate: TypeAlias = Callable[[Sequence[Row]], Any]


@dataclass(frozen=True)
class Pad:
    """Rows to a padded batch.

    >>> Pad(padding=0)([{"tokens": [7, 8], "label": 1}, {"tokens": [9], "label": 0}]).tokens
    tensor([[7, 8],
            [9, 0]])
    """

    padding: int  # the token that fills up

    def __call__(self, rows: Sequence[Row]) -> PaddedBatch:
        """Raises InputError for a row without tokens, or with more labels than tokens."""
        sequences = _sequences(rows)
        tokens = pad_sequence(sequences, batch_first=True, padding_value=self.padding)  # (batch, length)
        lengths = torch.tensor([len(sequence) for sequence in sequences])
        mask = torch.arange(tokens.shape[1]) < lengths[:, None]  # (batch, length)
        labels = _labels(rows, lambda each: pad_sequence(each, batch_first=True, padding_value=IGNORED))
        return PaddedBatch(tokens, mask, labels)


@dataclass(frozen=True)
class Pack:
    """Rows to packed rows, on which no work is spent on padding; longest first, so that neighbours are equal.

    >>> Pack()([{"tokens": [9], "label": 0}, {"tokens": [7, 8], "label": 1}])
    PackedBatch(tokens=tensor([7, 8, 9]), positions=tensor([0, 1, 0]), mask=Ragged(lengths=(2, 1)), labels=tensor([1, 0]))
    """

    def __call__(self, rows: Sequence[Row]) -> PackedBatch:
        """Raises InputError for a row without tokens, or with more labels than tokens."""
        ordered = sorted(rows, key=lambda row: -len(row[TOKENS]))
        sequences = _sequences(ordered)
        mask = Ragged(tuple(len(sequence) for sequence in sequences))
        tokens = torch.cat(sequences)
        return PackedBatch(tokens, mask.positions(tokens.device), mask, _labels(ordered, torch.cat))


@dataclass(frozen=True)
class NextToken:
    """Makes the token that follows the label of each token; the last one of a row has -100. For language models.

    A row that has labels for its tokens already (as when only answers are learned) keeps them, moved by one.
    """

    then: Collate

    def __call__(self, rows: Sequence[Row]) -> Any:
        return self.then([{**row, LABEL: [*row.get(LABEL, row[TOKENS])[1:], IGNORED]} for row in rows])


@dataclass(frozen=True, eq=False)
class MaskTokens:
    """Hides tokens to be guessed, as BERT is trained (Devlin et al. 2018, arXiv:1810.04805, section 3.1).

    Of the ordinary tokens a `share` is chosen; of these 80 % become the mask token, 10 % a random ordinary one, 10 % stay.
    The chosen ones are the labels, all others have -100. It may be that none is chosen of very few.

    Draws torch's random numbers: those of `torch.manual_seed` in this process, in a worker those that the DataLoader (and its
    `generator`) seeds anew for each worker and epoch.
    """

    mask_token: int
    ordinary: Tensor   # (vocabulary,), True where a token may be hidden or stand in for another
    continues: Tensor  # (vocabulary,), True where a token is hidden together with the one before it
    then: Collate
    share: float = 0.15

    @classmethod
    def of(cls, rules: Rules, then: Collate, *, whole_words: bool = False, share: float = 0.15) -> MaskTokens:
        """As a tokenizer says. Raises InputError where it has no mask token, and for a share that is none."""
        if not 0 < share < 1:
            raise InputError(f"share={share} is no share\ngive a number between 0 and 1")
        found = [token for name in ("[MASK]", "<mask>") if (token := rules.token_to_id(name)) is not None]
        if not found:
            raise InputError("the tokenizer has no mask token, neither [MASK] nor <mask>\nuse one of a model that fills masks")
        pieces = [rules.id_to_token(token) or "" for token in range(max(rules.get_vocab().values()) + 1)]
        ordinary = torch.tensor([piece != "" for piece in pieces])
        special = [token for token, added in rules.get_added_tokens_decoder().items() if added.special]
        ordinary[[found[0], *special]] = False
        continues = ordinary & torch.tensor(_continuing(pieces)) if whole_words else torch.zeros_like(ordinary)
        return cls(found[0], ordinary, continues, then, share)

    def __call__(self, rows: Sequence[Row]) -> Any:
        sequences = _sequences(rows)
        lengths = [len(sequence) for sequence in sequences]
        tokens = torch.cat(sequences)  # (rows,)
        begins = ~self.continues[tokens]
        begins[torch.tensor([0, *lengths[:-1]]).cumsum(0)] = True
        words = begins.cumsum(0) - 1  # (rows,), which word of the batch a token belongs to
        chosen = (torch.rand(len(tokens)) < self.share)[words] & self.ordinary[tokens]
        fate = torch.rand(len(tokens))
        replacements = self.ordinary.nonzero().flatten()
        random = replacements[torch.randint(len(replacements), tokens.shape)]
        hidden = torch.where(chosen & (fate < 0.8), self.mask_token, torch.where(chosen & (fate >= 0.9), random, tokens))
        labels = torch.where(chosen, tokens, IGNORED)
        parts = zip(rows, hidden.split(lengths), labels.split(lengths), strict=True)
        return self.then([{**row, TOKENS: part, LABEL: label} for row, part, label in parts])


def _continuing(pieces: Sequence[str]) -> list[bool]:
    """Which pieces go on with a word, by the sign of the vocabulary: `##` where they do, `Ġ` or `▁` where they do not."""
    if any(piece.startswith("##") for piece in pieces):
        return [piece.startswith("##") for piece in pieces]
    return [not piece.startswith(("Ġ", "▁")) for piece in pieces]


def _sequences(rows: Sequence[Row]) -> list[Tensor]:
    sequences = [torch.as_tensor(row[TOKENS], dtype=torch.long) for row in rows]
    for index, sequence in enumerate(sequences):
        if not len(sequence):
            raise InputError(f"row {index} of a batch has no tokens\nleave empty texts out")
    return sequences


def _labels(rows: Sequence[Row], join: Callable[[list[Tensor]], Tensor]) -> Tensor | None:
    if LABEL not in rows[0]:
        return None
    labels = [torch.as_tensor(row[LABEL]) for row in rows]
    if labels[0].ndim == 0:
        return torch.stack(labels)
    for index, (row, label) in enumerate(zip(rows, labels, strict=True)):
        if len(label) != len(row[TOKENS]):
            raise InputError(f"row {index} of a batch has {len(row[TOKENS])} tokens and {len(label)} labels\ngive one for each")
    return join(labels)
