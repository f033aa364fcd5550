"""Whisper with matrices of 8 bits, and with what costs no more precision than these do.

A sound is filled up to a window of thirty seconds, all of which the net attends to. Behind the end of the sound that is the same
everywhere but for its positions; so a few neighbours there, with the mean of their positions, are computed as one and counted as
so many wherever they are attended to. Over recordings of telephone prompts that moves the log-probability of a token by 0.03 in
the mean, as the rounding of the matrices does; a window that is full of sound is not touched.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bestiary.core.attention import Attention, CrossAttention
from bestiary.core.context import Dense, Memory
from bestiary.core.mixed import attending_in
from bestiary.core.runtime import computes_natively

if TYPE_CHECKING:
    from bestiary.audio.whisper import Whisper, WhisperEncoder

TOGETHER = 4  # positions that are computed as one
MARGIN = 10  # positions behind the end of a sound that are still computed by themselves


def coarse(net: Whisper) -> Whisper:
    """The net with its windows folded and, where the device computes in bf16, with the long attention in that."""
    encoder: nn.Module = FoldedEncoder(net.encoder)
    decoder: nn.Module = net.decoder
    if computes_natively(torch.bfloat16, net.decoder.positions.weight.device):
        encoder = attending_in(torch.bfloat16, encoder, Attention)
        decoder = attending_in(torch.bfloat16, decoder, CrossAttention)
    twin = copy.copy(net)
    twin._modules = {"encoder": encoder, "decoder": decoder}
    return twin


class FoldedEncoder(nn.Module):
    """An encoder of Whisper that computes the most of what fills up a window four positions at a time."""

    def __init__(self, encoder: WhisperEncoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, features: Tensor) -> Tensor:
        """What the encoder itself makes of whole windows."""
        return self.encoder(features)

    def memory(self, spectra: Sequence[Tensor]) -> Memory:
        """What the decoder reads of spectra (mels, frames): hidden states, and as a mask how much each counts.

        Those of the sound come first, two frames each.
        """
        heard = [self._alone(features[None]) for features in spectra]
        longest = max(len(counts) for _, counts in heard)
        states = [F.pad(states, (0, 0, 0, longest - states.shape[1])) for states, _ in heard]
        counts = torch.stack([F.pad(counts, (0, longest - len(counts))) for _, counts in heard])  # 0: there to fill up
        return Memory(torch.cat(states), counts.log() if (counts != 1).any() else None)

    def _alone(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states (1, rows, width) of (1, mels, frames), and how many positions each of the rows counts for (rows,)."""
        encoder: Any = self.encoder
        positions = encoder.positions.weight.float()  # (positions, width)
        folded = max(0, len(positions) - features.shape[-1] // 2 - MARGIN) // TOGETHER
        if not folded:
            whole = F.pad(features, (0, 2 * len(positions) - features.shape[-1]))
            return encoder(whole), torch.ones(len(positions), device=features.device)
        alone = len(positions) - folded * TOGETHER
        # One position more, as the last one sees the end of the padding.
        frames = F.pad(features, (0, 2 * (alone + 1) - features.shape[-1]))
        x = encoder.stem(frames)[:, :alone]
        silent = x[:, -1:] + positions[alone:].unflatten(0, (folded, TOGETHER)).mean(1)
        x = torch.cat([x + positions[:alone], silent], dim=1)
        counts = torch.tensor([1.0] * alone + [float(TOGETHER)] * folded, device=x.device)
        places = torch.arange(len(counts), device=x.device)
        context = Dense(places, causal=False, padding=None, bias=lambda queries, keys: counts.log()[None, None])
        return encoder.norm(encoder.blocks(x, context)), counts
