"""The inverted bottleneck (Sandler et al. 2018, arXiv:1801.04381), which EfficientNet and MobileNetV3 are made of: few channels
between blocks, many within.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Literal

from torch import Tensor, nn

from bestiary.core.convolution import CONVOLUTIONS, ConvNorm, SqueezeExcite, conv_norm
from bestiary.core.keymap import Rule, linear
from bestiary.core.layers import ACTIVATIONS
from bestiary.core.residual import NoResidual, Residual


@dataclass(frozen=True, kw_only=True)
class LayerSpec:
    """What the convolutions of a net have in common."""

    padding: Literal["symmetric", "same"]  # a key of CONVOLUTIONS
    activation: str  # a name in ACTIVATIONS
    eps: float  # of the norm

    def build(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> ConvNorm:
        convolution = CONVOLUTIONS[self.padding](inputs, outputs, kernel, stride, groups)
        return ConvNorm(convolution, ACTIVATIONS[self.activation](), eps=self.eps)


@dataclass(frozen=True, kw_only=True)
class BottleneckSpec:
    """One block, in numbers of channels but for what is said of it."""

    inputs: int
    hidden: int  # within; where they are as many as the inputs, nothing leads from the one to the other
    outputs: int
    kernel: int  # side of the depthwise kernel, in pixels
    stride: int
    layers: LayerSpec  # of its convolutions; the last has no activation
    squeezed: int = 0  # that the squeeze-and-excite looks through; 0: there is none
    squeeze_activation: str = "relu"  # a name in ACTIVATIONS
    gate: str = "sigmoid"  # likewise

    @property
    def expands(self) -> bool:
        return self.hidden != self.inputs

    def build(self, drop_path: float) -> InvertedBottleneck:
        return InvertedBottleneck(self, drop_path)

    def excite(self) -> nn.Module:
        if not self.squeezed:
            return nn.Identity()
        return SqueezeExcite(self.hidden, self.squeezed, ACTIVATIONS[self.squeeze_activation](), ACTIVATIONS[self.gate]())


class InvertedBottleneck(nn.Module):
    """(n, inputs, h, w) → (n, outputs, h / stride, w / stride)"""

    def __init__(self, spec: BottleneckSpec, drop_path: float):
        super().__init__()
        hidden = spec.hidden
        self.expand = spec.layers.build(spec.inputs, hidden) if spec.expands else nn.Identity()
        self.depthwise = spec.layers.build(hidden, hidden, spec.kernel, spec.stride, groups=hidden)
        self.excite = spec.excite()
        self.project = replace(spec.layers, activation="none").build(hidden, spec.outputs)
        self.join = Residual(drop_path) if spec.stride == 1 and spec.inputs == spec.outputs else NoResidual()

    def forward(self, inputs: Tensor) -> Tensor:
        x = self.expand(inputs)  # (n, hidden, h, w)
        x = self.depthwise(x)  # (n, hidden, h / stride, w / stride)
        x = self.excite(x)
        x = self.project(x)  # (n, outputs, h / stride, w / stride)
        return self.join(x, inputs)


def build_stages(stages: Sequence[Sequence[BottleneckSpec]], drop_path: float) -> Iterator[nn.Sequential]:
    """The blocks of each stage. The deeper a block lies, the more often training drops it."""
    number, total = count(), sum(map(len, stages))
    for specs in stages:
        yield nn.Sequential(*(spec.build(drop_path * next(number) / total) for spec in specs))


def rounded(channels: float) -> int:
    """The nearest multiple of 8, or the next where the nearest would take away more than a tenth.

    >>> rounded(18), rounded(17.5)
    (24, 16)
    """
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


def timm_block(spec: BottleneckSpec, theirs: str, ours: str) -> list[Rule]:
    """The keys of timm, which numbers the norms of a block in their order, so that the first is not always the same part's."""
    parts = [("conv_pw", "expand"), ("conv_dw", "depthwise"), ("conv_pwl", "project")]
    if not spec.expands:
        parts = [("conv_dw", "depthwise"), ("conv_pw", "project")]
    rules: list[Rule] = []
    for number, (convolution, part) in enumerate(parts, start=1):
        rules += conv_norm(f"{theirs}.{convolution}", f"{theirs}.bn{number}", f"{ours}.{part}")
    if spec.squeezed:
        rules += linear(f"{theirs}.se.conv_reduce", f"{ours}.excite.reduce")
        rules += linear(f"{theirs}.se.conv_expand", f"{ours}.excite.expand")
    return rules


def torchvision_block(spec: BottleneckSpec, theirs: str, ours: str) -> list[Rule]:
    """The keys of torchvision, which numbers the parts that a block has."""
    parts = [*["expand"] * spec.expands, "depthwise", *["excite"] * bool(spec.squeezed), "project"]
    rules: list[Rule] = []
    for number, part in enumerate(parts):
        place = f"{theirs}.block.{number}"
        if part == "excite":
            rules += [*linear(f"{place}.fc1", f"{ours}.excite.reduce"), *linear(f"{place}.fc2", f"{ours}.excite.expand")]
        else:
            rules += conv_norm(f"{place}.0", f"{place}.1", f"{ours}.{part}")
    return rules
