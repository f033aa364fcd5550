"""When each token was spoken: where the decoder looked in the sound as it wrote it.

Some heads of the cross-attention follow what is spoken at the time. The path of least cost through their weights, by dynamic
time warping (Sakoe and Chiba 1978), gives every token a beginning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bestiary.core.attention_kernels import Score
from bestiary.core.context import Context, Dense, Memory, Projected

SMOOTHED = 7  # positions of the encoder over which weights are smoothed by their median
# Which of seven to compare in turn for the median to come to lie in the middle: as much of a sorting network as that takes.
COMPARED = ((0, 5), (0, 3), (1, 6), (2, 4), (0, 1), (3, 5), (2, 6), (2, 3), (3, 6), (4, 5), (1, 4), (1, 3), (3, 4))


class Observed(Dense):
    """A batch of tokens, (batch, m), whose cross-attention leaves behind what a few heads look at.

    `recalled` has keys and values of the memory by layer; `heads` the heads of each layer that are wanted. The attention itself
    goes the usual way.
    """

    layer = 0

    def __init__(
        self, length: int, memory: Memory, recalled: Mapping[int, Projected], heads: Mapping[int, Sequence[int]]
    ):
        positions = torch.arange(length, device=memory.hidden_states.device)
        super().__init__(positions, causal=True, padding=None, memory=memory)
        self.recalled, self.heads = recalled, heads
        self.seen: list[tuple[Tensor, Tensor, list[int]]] = []  # of layers: queries (batch, m, …), keys (batch, frames, …), heads
        self.scale = 1.0

    def layers(self, count: int) -> Iterator[Context]:
        for self.layer in range(count):
            yield self

    def recall(self, project: object) -> Projected:
        return self.recalled[self.layer]

    def attend_memory(self, query: Tensor, memory: Projected, score: Score) -> Tensor:
        if self.layer in self.heads:
            self.seen.append((query, memory[0], list(self.heads[self.layer])))
            self.scale = score.factor(query.shape[-1])
        return super().attend_memory(query, memory, score)

    def weights(self, row: int, tokens: int, frames: int) -> Tensor:
        """What the first tokens of a row look at in its first frames: (heads, tokens, frames)."""
        query = torch.cat([query[row, :tokens, heads] for query, _, heads in self.seen], dim=1).transpose(0, 1)
        key = torch.cat([key[row, :frames, heads] for _, key, heads in self.seen], dim=1).transpose(0, 1)
        return (query.float() @ key.float().transpose(1, 2) * self.scale).softmax(-1)


def beginnings(weights: Tensor, spoken: slice) -> np.ndarray:
    """The frame at which each token that is spoken begins, from what heads look at: (heads, tokens, frames) → (spoken,).

    Each weight counts by how far it stands out among the tokens; what all look at says nothing.
    """
    deviation, mean = torch.std_mean(weights, dim=1, keepdim=True, correction=0)
    standing_out = smoothed(((weights - mean) / deviation)[:, spoken]).mean(0)
    return first_frames(-standing_out.double().cpu().numpy())


def smoothed(weights: Tensor) -> Tensor:
    """The median of every seven neighbours, the ends mirrored: (..., frames) → (..., frames)"""
    reach = SMOOTHED // 2
    if weights.shape[-1] <= reach:
        return weights
    frames = weights.shape[-1]
    mirrored = F.pad(weights, (reach, reach), mode="reflect")
    lanes = [mirrored[..., shift : shift + frames] for shift in range(SMOOTHED)]
    for low, high in COMPARED:
        lanes[low], lanes[high] = torch.minimum(lanes[low], lanes[high]), torch.maximum(lanes[low], lanes[high])
    return lanes[reach]


def first_frames(cost: np.ndarray) -> np.ndarray:
    """Where the cheapest path enters each row of costs (rows, frames), if it begins at the first of both, ends at the last, and
    goes on by a row, a frame or both.

    >>> first_frames(np.array([[0.0, 0.0, 9.0, 9.0], [9.0, 9.0, 0.0, 9.0], [9.0, 9.0, 9.0, 0.0]]))
    array([0, 2, 3])
    """
    rows, frames = cost.shape
    total = np.full((rows + 1, frames + 1), np.inf)
    total[0, 0] = 0
    for row in range(rows):
        # A path comes into the row once and then goes along it: what it pays there is a difference of two sums.
        entered = np.minimum(total[row, :-1], total[row, 1:])
        paid = cost[row].cumsum()
        total[row + 1, 1:] = np.minimum.accumulate(entered - (paid - cost[row])) + paid
    entries = np.zeros(rows, int)
    row, frame = rows, frames
    while row > 0:
        both, down, along = total[row - 1, frame - 1], total[row - 1, frame], total[row, frame - 1]
        entries[row - 1] = frame - 1
        if both < down and both < along:
            row, frame = row - 1, frame - 1
        elif down < both and down < along:
            row -= 1
        else:
            frame -= 1
    return entries
