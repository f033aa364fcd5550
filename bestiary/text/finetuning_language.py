"""How language models learn: to give the answers of conversations that lie packed end to end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from bestiary.core.losses import next_token_loss
from bestiary.core.tuning.module import FineTuning, Judge
from bestiary.text.collate import NextToken, Pack, PackedBatch
from bestiary.text.conversations import Example
from bestiary.text.finetuning import SHOWN

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Rules


class PackedBlocks:
    """Blocks of examples to packed rows, each labelled with the token that follows it where that is learned."""

    def __init__(self) -> None:
        self.pack = NextToken(Pack())

    def __call__(self, blocks: Sequence[Sequence[Example]], seeds: Sequence[int]) -> PackedBatch:
        packed: PackedBatch = self.pack(
            [{"tokens": example.tokens, "label": example.labels} for block in blocks for example in block]
        )
        return packed


class Answering(FineTuning):
    """A decoder learns answers, by cross-entropy over their tokens alone; no logits are made of the others."""

    judge = Judge("val_loss", "min")

    def loss(self, inputs: PackedBatch) -> Tensor:
        assert inputs.labels is not None
        return next_token_loss(self.net, inputs.tokens, inputs.mask, inputs.positions, inputs.labels)

    def measures(self, inputs: PackedBatch) -> tuple[dict[str, Tensor], int]:
        assert inputs.labels is not None
        return {"val_loss": self.loss(inputs)}, int((inputs.labels >= 0).sum())


def blocks_named(blocks: Sequence[Sequence[Example]], rules: Rules) -> Callable[[int], str]:
    """What messages call a block: its number and how its first example begins."""
    return lambda block: f"block {block} ({rules.decode(blocks[block][0].tokens)[:SHOWN]!r})"
