"""Whisper, an encoder of sound and a decoder of text (Radford et al. 2022, arXiv:2212.04356)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bestiary.audio.folding import coarse
from bestiary.audio.published_whisper import TransformersRecognizer
from bestiary.audio.whisper_layout import (
    TRANSFORMERS_CONFIG,
    ctranslate2_layout,
    openai_layout,
    sinusoids,
    transformers_layout,
)
from bestiary.core.architecture import Architecture
from bestiary.core.attention import AttentionSpec
from bestiary.core.block import BlockSpec
from bestiary.core.context import Dense, Mask, Memory, look
from bestiary.core.layers import MlpSpec, NormSpec, TiedHead


@dataclass(frozen=True, kw_only=True)
class WhisperConfig:
    layers: int  # blocks of the encoder
    decoder_layers: int  # blocks of the decoder, which are fewer in nets that were made fast
    width: int  # size of a hidden state; divisible by heads and by 2
    heads: int  # attention heads of a block
    hidden: int  # width of the MLP
    vocabulary: int  # number of token ids, those of languages, tasks and times among them
    mels: int = 80  # bands of the spectra
    frames: int = 1500  # positions of the encoder, each of which stands for two of the spectra
    context: int = 448  # positions of the decoder: tokens of a longest sequence
    eps: float = 1e-5  # of every norm


class Sinusoids(nn.Module):
    """Embeddings of where a row stands, by formula: (batch, length, width) → (length, width).

    A buffer and no function, since published files hold them as they were rounded in training.
    """

    weight: Tensor

    def __init__(self, positions: int, width: int):
        super().__init__()
        self.register_buffer("weight", torch.empty(positions, width))
        if not self.weight.is_meta:  # there the formula would take a second, for no values
            self.reset_parameters()

    def reset_parameters(self) -> None:
        self.weight.copy_(sinusoids(*self.weight.shape))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight[: x.shape[1]]


class WhisperEncoder(nn.Module):
    """Log-mel spectra to hidden states, all of which see each other (section 2.2)."""

    def __init__(self, config: WhisperConfig):
        super().__init__()
        self.conv1 = nn.Conv1d(config.mels, config.width, kernel_size=3, padding=1)
        self.conv2 = nn.Conv1d(config.width, config.width, kernel_size=3, stride=2, padding=1)
        self.positions = Sinusoids(config.frames, config.width)
        self.blocks = block(config, order="pre").stack(config.layers)
        self.norm = NormSpec(eps=config.eps).build(config.width)

    def forward(self, features: Tensor) -> Tensor:
        """Hidden states (batch, frames / 2, width) of spectra (batch, mels, frames), at most two for each position."""
        x = self.stem(features)
        x = x + self.positions(x)
        x = self.blocks(x, Dense(torch.arange(x.shape[1], device=x.device), causal=False, padding=None))
        return self.norm(x)

    def stem(self, features: Tensor) -> Tensor:
        """What the convolutions make of spectra (batch, mels, frames): (batch, frames / 2, width)."""
        x = F.gelu(self.conv1(features))  # (batch, width, frames)
        return F.gelu(self.conv2(x)).transpose(1, 2)

    def memory(self, spectra: Sequence[Tensor]) -> Memory:
        """What the decoder reads of spectra (mels, frames), filled up with zeros as in training, which are no silence."""
        most = 2 * len(self.positions.weight)
        return Memory(self(torch.stack([F.pad(features, (0, most - features.shape[1])) for features in spectra])))


class WhisperDecoder(nn.Module):
    """Token ids and the memory of what was heard to logits of the next token."""

    def __init__(self, config: WhisperConfig):
        super().__init__()
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Embedding(config.context, config.width)
        self.blocks = block(config, order="pre_cross").stack(config.decoder_layers)
        self.norm = NormSpec(eps=config.eps).build(config.width)
        self.head = TiedHead(self.embedding)

    def forward(self, tokens: Tensor, mask: Mask | None = None) -> Tensor:
        """Logits (..., vocabulary) of what follows each of the token ids (...)."""
        return self.head(self.hidden_states(tokens, mask))

    def hidden_states(self, tokens: Tensor, mask: Mask | None = None) -> Tensor:
        """What the head makes logits of: (..., width). `mask` is a context with a memory."""
        context = look(mask, tokens, causal=True)
        x = self.embedding(tokens) + self.positions(context.positions)  # (..., width)
        x = self.blocks(x, context)
        return self.norm(x)


class Whisper(nn.Module):
    """Encoder and decoder: log-mel spectra, and token ids of what was written of them so far, to logits of the next token.

    >>> config = WhisperConfig(layers=2, decoder_layers=2, width=32, heads=4, hidden=64, vocabulary=100, frames=50)
    >>> Whisper(config)(torch.randn(1, 80, 100), torch.tensor([[5, 6, 7]])).shape
    torch.Size([1, 3, 100])
    """

    def __init__(self, config: WhisperConfig):
        super().__init__()
        self.config = config
        self.encoder = WhisperEncoder(config)
        self.decoder = WhisperDecoder(config)

    def forward(self, features: Tensor, decoder_tokens: Tensor, decoder_mask: Tensor | None = None) -> Tensor:
        """Logits (batch, m, vocabulary) of spectra (batch, mels, frames) and token ids (batch, m) with their padding mask."""
        memory = Memory(self.encode(features))
        return self.decoder(decoder_tokens, look(decoder_mask, decoder_tokens, causal=True, memory=memory))

    def encode(self, features: Tensor) -> Tensor:
        """What the decoder reads: hidden states (batch, frames / 2, width) of spectra (batch, mels, frames)."""
        return self.encoder(features)

    def coarse(self) -> Whisper:
        """What stands for the net where its matrices have 8 bits."""
        return coarse(self)


def block(config: WhisperConfig, order: Literal["pre", "pre_cross"]) -> BlockSpec:
    attention = AttentionSpec(width=config.width, heads=config.heads, key_bias=False)  # it would change no weight of a softmax
    mlp = MlpSpec(width=config.width, hidden=config.hidden, activation="gelu")
    return BlockSpec(attention=attention, mlp=mlp, norm=NormSpec(eps=config.eps), order=order, cross_attention=attention)


ARCHITECTURE = Architecture(
    name="whisper",
    config=WhisperConfig,
    net=Whisper,
    layouts={"transformers": transformers_layout, "openai": openai_layout, "ctranslate2": ctranslate2_layout},
    configs={"transformers": TRANSFORMERS_CONFIG},
    folders={"transformers": TransformersRecognizer()},
)
