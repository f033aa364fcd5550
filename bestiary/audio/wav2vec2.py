"""wav2vec 2.0 (Baevski et al. 2020, arXiv:2006.11477) and HuBERT (Hsu et al. 2021, arXiv:2106.07447): sound to letters.

Both are the same net, trained in different ways: convolutions over the samples, then a transformer. What has been tuned to
recognise speech gives at every frame the logits of letters and of a blank, for connectionist temporal classification.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from bestiary.audio.published_wav2vec2 import TransformersSpeech
from bestiary.audio.stem import PositionalConvolution, Stem, StemSpec
from bestiary.audio.wav2vec2_layout import TRANSFORMERS_HUBERT, TRANSFORMERS_WAV2VEC2, transformers_layout
from bestiary.core.architecture import Architecture
from bestiary.core.attention import AttentionSpec
from bestiary.core.block import BlockSpec
from bestiary.core.context import look
from bestiary.core.layers import MlpSpec, NormSpec
from bestiary.errors import InputError, LayoutError

Count = TypeVar("Count", int, Tensor)


@dataclass(frozen=True, kw_only=True)
class Wav2Vec2Config:
    """The defaults are those of the base nets."""

    layers: int = 12  # number of blocks
    width: int = 768  # size of a hidden state; divisible by heads
    heads: int = 12  # attention heads of a block
    hidden: int = 3072  # width of the MLP
    num_classes: int = 0  # letters, the blank among them; 0: there is no head, and the net gives hidden states
    order: Literal["post", "pre"] = "post"  # where the norms of a block stand; the last one stands before or behind the blocks
    activation: str = "gelu"  # of the MLP
    eps: float = 1e-5  # of the norms behind the convolutions
    stem_norm: Literal["group", "layer"] = "group"  # over time behind the first convolution, or over channels behind each
    stem_widths: tuple[int, ...] = (512, 512, 512, 512, 512, 512, 512)  # channels of each convolution
    stem_kernels: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    stem_strides: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    stem_bias: bool = False  # whether its convolutions have biases
    stem_activation: str = "gelu"  # of its convolutions, and of the one that tells positions
    projection_norm: Literal["layer", "none"] = "layer"  # between the convolutions and the blocks
    position_kernel: int = 128  # frames that tell the position of one
    position_groups: int = 16  # into which the channels of that convolution are split

    def __post_init__(self) -> None:
        if not len(self.stem_widths) == len(self.stem_kernels) == len(self.stem_strides) > 0:
            raise LayoutError(
                f"stem_widths {self.stem_widths}, stem_kernels {self.stem_kernels} and stem_strides {self.stem_strides} "
                "make no convolutions\ncorrect the config"
            )

    @property
    def hop(self) -> int:
        """Samples from one frame to the next."""
        hop = 1
        for stride in self.stem_strides:
            hop *= stride
        return hop

    @property
    def reach(self) -> int:
        """Samples that a frame hears: no sound may be shorter."""
        reach = 1
        for kernel, stride in zip(reversed(self.stem_kernels), reversed(self.stem_strides), strict=True):
            reach = (reach - 1) * stride + kernel
        return reach

    def frames(self, samples: Count) -> Count:
        """How many frames so many samples give: a number, or a tensor of numbers.

        >>> Wav2Vec2Config().frames(16_000)
        49
        """
        for kernel, stride in zip(self.stem_kernels, self.stem_strides, strict=True):
            samples = (samples - kernel) // stride + 1
        return samples


class Projection(nn.Module):
    """What the convolutions heard, as hidden states: (batch, frames, channels) → (batch, frames, width)"""

    def __init__(self, config: Wav2Vec2Config):
        super().__init__()
        channels = config.stem_widths[-1]
        self.norm = NormSpec(kind=config.projection_norm, eps=config.eps).build(channels)
        self.dense = nn.Linear(channels, config.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(self.norm(x))


class Wav2Vec2(nn.Module):
    """Sound to logits of letters or, without a head, to hidden states.

    A sound gives the same alone and beside longer ones: nothing, the norm over time included, hears the padding.

    >>> config = Wav2Vec2Config(layers=2, width=32, heads=4, hidden=64, num_classes=10, stem_widths=(8,) * 7)
    >>> Wav2Vec2(config)(torch.randn(2, 16_000)).shape
    torch.Size([2, 49, 10])
    """

    def __init__(self, config: Wav2Vec2Config):
        super().__init__()
        self.config = config
        self.stem = Stem(stem_spec(config))
        self.projection = Projection(config)
        self.positions = PositionalConvolution(
            config.width, config.position_kernel, config.position_groups, config.stem_activation
        )
        norm = NormSpec(eps=config.eps)
        ends = {"post": (norm.build(config.width), nn.Identity()), "pre": (nn.Identity(), norm.build(config.width))}
        self.position_norm, last = ends[config.order]
        block = BlockSpec(
            attention=AttentionSpec(width=config.width, heads=config.heads),
            mlp=MlpSpec(width=config.width, hidden=config.hidden, activation=config.activation),
            norm=norm,
            order=config.order,
        )
        self.blocks = block.stack(config.layers)
        self.norm = last
        self.head = nn.Linear(config.width, config.num_classes) if config.num_classes else nn.Identity()

    def forward(self, samples: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits (batch, frames, num_classes) of samples (batch, n), as the card's `preprocess` says; mask (batch, n) is True
        where the sound is, and False in the padding behind it. Without a head, hidden states (batch, frames, width).

        `config.frames` says how many frames are of a sound; what the net gives behind them means nothing. Raises InputError for
        sounds that are too short for a frame.
        """
        return self.head(self.hidden_states(samples, mask))

    def hidden_states(self, samples: Tensor, mask: Tensor | None = None) -> Tensor:
        """What the head is given: (batch, frames, width)."""
        x, kept = self._begin(samples, mask)
        return self.norm(self.blocks(x, look(kept, x[..., 0], causal=False)))

    def intermediates(self, samples: Tensor, layers: Sequence[int], mask: Tensor | None = None) -> list[Tensor]:
        """What comes out of these blocks, each (batch, frames, width), in the order asked for; -1 is the last.

        Later blocks are not computed. Raises InputError for a block that the net does not have, and as `forward` does.
        """
        wanted = [self._place(layer) for layer in layers]
        x, kept = self._begin(samples, mask)
        context = look(kept, x[..., 0], causal=False)
        found: dict[int, Tensor] = {}
        for place, block in enumerate(self.blocks[: max(wanted, default=-1) + 1]):
            x = block(x, context)
            found[place] = x
        return [found[place] for place in wanted]

    def _begin(self, samples: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """What the first block is given, and which of its frames are of a sound."""
        reach = self.config.reach
        if samples.dim() != 2 or samples.shape[1] < reach:
            raise InputError(
                f"samples of the shape {tuple(samples.shape)} are not what the net takes\n"
                f"give (batch, n), with {reach} samples or more"
            )
        lengths = None if mask is None else mask.sum(-1)  # (batch,)
        x = self.projection(self.stem(samples, lengths))  # (batch, frames, width)
        kept = None
        if lengths is not None:
            kept = torch.arange(x.shape[1], device=x.device) < self.config.frames(lengths)[:, None]
            x = x.where(kept[:, :, None], 0)  # as there is nothing around a sound that is alone
        return self.position_norm(x + self.positions(x)), kept

    def _place(self, layer: int) -> int:
        """The number of a block, counted from the first."""
        count = len(self.blocks)
        if not isinstance(layer, int) or not -count <= layer < count:
            raise InputError(f"layer {layer!r} is not in the net\nit has {count}: 0 to {count - 1}, or -{count} to -1")
        return layer % count


def stem_spec(config: Wav2Vec2Config) -> StemSpec:
    return StemSpec(
        widths=config.stem_widths,
        kernels=config.stem_kernels,
        strides=config.stem_strides,
        bias=config.stem_bias,
        norm=config.stem_norm,
        activation=config.stem_activation,
    )


LARGE = Wav2Vec2Config(
    layers=24, width=1024, heads=16, hidden=4096, order="pre", stem_norm="layer", stem_bias=True
)


ARCHITECTURE = Architecture(
    name="wav2vec2",
    config=Wav2Vec2Config,
    net=Wav2Vec2,
    layouts={"transformers": lambda config: transformers_layout(config, "wav2vec2")},
    configs={"transformers": TRANSFORMERS_WAV2VEC2},
    folders={"transformers": TransformersSpeech(TRANSFORMERS_WAV2VEC2)},
    resized_by={"num_classes": ("head",)},
)
HUBERT = Architecture(
    name="hubert",
    config=Wav2Vec2Config,
    net=Wav2Vec2,
    layouts={"transformers": lambda config: transformers_layout(config, "hubert")},
    configs={"transformers": TRANSFORMERS_HUBERT},
    folders={"transformers": TransformersSpeech(TRANSFORMERS_HUBERT)},
    resized_by={"num_classes": ("head",)},
)
