"""SegFormer: a class for every place of an image, by a Mix Transformer and a decoder of linear layers (Xie et al. 2021,
arXiv:2105.15203)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bestiary.core.architecture import Architecture
from bestiary.core.channels_last import as_maps, as_rows
from bestiary.core.convolution import ConvNorm
from bestiary.vision import mit
from bestiary.vision.mit import EPS, MixTransformer, MixTransformerConfig
from bestiary.vision.segformer_layout import CONFIG, FOLDER, segformer_layout


@dataclass(frozen=True, kw_only=True)
class SegformerConfig(MixTransformerConfig):
    """The defaults are those of SegFormer-B0 on ADE20K."""

    decoder_width: int = 256  # channels that its maps are projected to
    num_classes: int = 150  # of a place
    dropout: float = 0.0  # share of the decoder's channels that training drops

    @property
    def encoder(self) -> MixTransformerConfig:
        values = {field.name: getattr(self, field.name) for field in fields(MixTransformerConfig)}
        return MixTransformerConfig(**{**values, "num_classes": 0})


class Segformer(nn.Module):
    """Images to the logits of a class for every square of 4 × 4 pixels.

    >>> net = Segformer(SegformerConfig(num_classes=5)).eval()
    >>> net(torch.randn(2, 3, 64, 96)).shape
    torch.Size([2, 5, 16, 24])
    """

    def __init__(self, config: SegformerConfig):
        super().__init__()
        self.config = config
        self.encoder = MixTransformer(config.encoder)
        self.decoder = LinearDecoder(config)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, num_classes, h / 4, w / 4) of images (n, in_channels, h, w), normalised as the card says."""
        return self.decoder(self.encoder.intermediates(images, range(len(self.config.depths))))


class LinearDecoder(nn.Module):
    """The maps of all stages at one width and the first one's resolution, fused into logits (section 3.2, equation 4)."""

    def __init__(self, config: SegformerConfig):
        super().__init__()
        width, count = config.decoder_width, len(config.widths)
        self.projections = nn.ModuleList(nn.Linear(inputs, width) for inputs in config.widths)
        self.fusion = ConvNorm(nn.Conv2d(count * width, width, 1, bias=False), nn.ReLU(), eps=EPS)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Conv2d(width, config.num_classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        projected = [as_maps(project(as_rows(x))) for project, x in zip(self.projections, maps, strict=True)]
        x = torch.cat([enlarged(x, maps[0]) for x in reversed(projected)], dim=1)  # (n, stages · width, h, w)
        return self.classifier(self.dropout(self.fusion(x)))

    def for_inference(self) -> nn.Module:
        return FoldedDecoder(self)


class FoldedDecoder(nn.Module):
    """A `LinearDecoder` at inference: each stage is projected and fused by one matrix, and at its own resolution.

    Enlarging is linear too, so it may come after the fusion, which else is most of the work: for B2, 39 of 62 billion products
    of an image of 512 × 512 pixels.
    """

    def __init__(self, decoder: LinearDecoder):
        super().__init__()
        fusion: Any = decoder.fusion.for_inference()
        projections: Any = decoder.projections
        convolution, self.activation = fusion
        self.classifier: nn.Module = decoder.classifier
        dtype = convolution.weight.dtype
        precise = torch.promote_types(dtype, torch.float32)
        weight, bias = (values.detach().to(precise) for values in (convolution.weight[:, :, 0, 0], convolution.bias))
        self.projections = nn.ModuleList()
        parts = weight.split(len(weight), dim=1)[::-1]  # (width, width) of each stage
        for part, projection in zip(parts, projections, strict=True):
            bias = bias + part @ projection.bias.detach().to(precise)
            self.projections.append(without_bias(part @ projection.weight.detach().to(precise), dtype))
        self.bias = nn.Parameter(bias.to(dtype)[:, None, None], requires_grad=False)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        first, *others = (as_maps(project(as_rows(x))) for project, x in zip(self.projections, maps, strict=True))
        x = first + self.bias  # (n, width, h, w)
        for other in others:
            x += enlarged(other, x)
        return self.classifier(self.activation(x))


def without_bias(weight: Tensor, dtype: torch.dtype) -> nn.Linear:
    """A linear layer of this weight."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    layer.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
    return layer


def enlarged(x: Tensor, like: Tensor) -> Tensor:
    """Maps at the resolution of others, bilinear."""
    return F.interpolate(x, like.shape[2:], mode="bilinear", align_corners=False)


VARIANTS = {
    f"segformer-{size}": SegformerConfig(depths=depths, widths=widths, decoder_width=256 if size in ("b0", "b1") else 768)
    for size, (depths, widths) in mit.SIZES.items()
}

ARCHITECTURE = Architecture(
    name="segformer",
    config=SegformerConfig,
    net=Segformer,
    layouts={"transformers": segformer_layout},
    configs={"transformers": CONFIG},
    folders={"transformers": FOLDER},
    resized_by={"num_classes": ("decoder.classifier",), "in_channels": ("encoder.stages.0.patch",)},
)
