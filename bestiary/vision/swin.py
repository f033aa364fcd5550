"""Swin Transformer, attention in windows that move from block to block (Liu et al. 2021, arXiv:2103.14030).

Within a stage maps are (n, h, w, width), so that all but attention works on rows; between stages they are (n, width, h, w).
A row of `width` numbers is called a place.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle

from torch import Tensor, nn

from bestiary.core.architecture import Architecture
from bestiary.core.attention import AttentionSpec
from bestiary.core.channels_last import AsMaps, AsRows, ChannelNorm
from bestiary.core.layers import MlpSpec
from bestiary.core.residual import drop_paths
from bestiary.errors import LayoutError
from bestiary.vision.backbone import Backbone
from bestiary.vision.hierarchical import Block
from bestiary.vision.swin_layout import TimmSwinConfig, TimmSwinFolder, timm_layout, torchvision_layout
from bestiary.vision.windows import WindowAttention, filled


@dataclass(frozen=True, kw_only=True)
class SwinConfig:
    """The defaults are those of the tiny net."""

    patch: int = 4  # side of a patch, in pixels
    window: int = 7  # side of a window, in places
    depths: tuple[int, ...] = (2, 2, 6, 2)  # blocks of each stage
    heads: tuple[int, ...] = (3, 6, 12, 24)  # attention heads of each stage
    width: int = 96  # channels of the first stage, twice as many in each further one
    eps: float = 1e-5  # of every norm
    num_classes: int = 1000  # 0: there is no head, and the net gives pooled features
    in_channels: int = 3  # colours of an image
    dropout: float = 0.0  # share of the pooled features that training drops
    drop_path: float = 0.0  # share of the batch for which training drops the last block; less for those before

    def __post_init__(self) -> None:
        if len(self.depths) != len(self.heads) or not self.depths:
            raise LayoutError(f"{len(self.depths)} depths and heads for {len(self.heads)} make no stages\ncorrect the config")
        if self.window < 1:
            raise LayoutError(f"a window of {self.window} places holds nothing to attend to\ngive 1 or more")

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each stage."""
        return tuple(self.width * 2**number for number in range(len(self.depths)))


class Swin(Backbone):
    """Images to the logits of classes.

    Images may have any size: what is left over behind the last whole patch is cut off, and maps that are no whole number of
    windows are filled up with zeros for attention. So does torchvision; timm shifts such maps before it fills them up.

    >>> import torch
    >>> net = Swin(SwinConfig(window=4, depths=(2, 2), heads=(2, 4), width=16, num_classes=10)).eval()
    >>> images = torch.randn(2, 3, 64, 90)
    >>> net(images).shape, net.features(images).shape
    (torch.Size([2, 10]), torch.Size([2, 32, 8, 11]))
    """

    one_size = "how maps are cut into windows hangs on it"

    def __init__(self, config: SwinConfig):
        super().__init__()
        self.config = config
        convolution = nn.Conv2d(config.in_channels, config.width, config.patch, config.patch)
        self.stem = nn.Sequential(convolution, ChannelNorm(config.width, config.eps))
        by_stage = drop_paths(config.drop_path, config.depths)
        self.stages = nn.ModuleList(Stage(config, number, rates) for number, rates in enumerate(by_stage))
        self.norm = ChannelNorm(config.widths[-1], config.eps)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.widths[-1], config.num_classes) if config.num_classes else nn.Identity()

    @property
    def smallest(self) -> int:
        return self.config.patch

    def embed(self, images: Tensor) -> Tensor:
        return self.stem(images)  # (n, width, h / patch, w / patch)

    def finish(self, x: Tensor) -> Tensor:
        return self.norm(x)  # (n, widths[-1], h', w')

    def pool(self, features: Tensor) -> Tensor:
        return self.dropout(features.mean((2, 3)))  # (n, widths[-1])


class Stage(nn.Sequential):
    """Blocks at one resolution, half that of the stage before, rounded up: (n, inputs, h, w) → (n, width, h', w').

    The windows of every second block are shifted, so that what was apart in one block sees each other in the next.
    """

    def __init__(self, config: SwinConfig, number: int, rates: list[float]):
        super().__init__()
        shifts = cycle((0, config.window // 2))
        self.rows = AsRows()  # (n, h, w, inputs)
        self.merge = PatchMerging(config.widths[number - 1], config.eps) if number else nn.Identity()
        self.blocks = nn.Sequential(*(block(config, number, next(shifts), rate) for rate in rates))
        self.maps = AsMaps()


class PatchMerging(nn.Module):
    """Four neighbours become one, twice as wide: (n, h, w, width) → (n, h / 2, w / 2, 2 · width), rounded up."""

    def __init__(self, width: int, eps: float):
        super().__init__()
        self.norm = nn.LayerNorm(4 * width, eps)
        self.reduce = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        x = filled(x, height + height % 2, width + width % 2)
        x = x.unflatten(2, (-1, 2)).unflatten(1, (-1, 2))  # (n, h / 2, 2, w / 2, 2, width)
        x = x.permute(0, 1, 3, 4, 2, 5).flatten(3)  # (n, h / 2, w / 2, 4 · width), neighbours by column, then by row
        return self.reduce(self.norm(x))


def block(config: SwinConfig, stage: int, shift: int, drop_path: float) -> Block:
    width = config.widths[stage]
    attention = WindowAttention(AttentionSpec(width=width, heads=config.heads[stage]), config.window, shift)
    mlp = MlpSpec(width=width, hidden=4 * width, activation="gelu").build()
    return Block(width, attention, mlp, eps=config.eps, drop_path=drop_path)


# Depths, heads and width of each published size.
SIZES = {
    "tiny": ((2, 2, 6, 2), (3, 6, 12, 24), 96),
    "small": ((2, 2, 18, 2), (3, 6, 12, 24), 96),
    "base": ((2, 2, 18, 2), (4, 8, 16, 32), 128),
    "large": ((2, 2, 18, 2), (6, 12, 24, 48), 192),
}
PUBLISHED = {"tiny": ((7, 224),), "small": ((7, 224),), "base": ((7, 224), (12, 384)), "large": ((7, 224), (12, 384))}

# Under timm's names.
VARIANTS = {
    f"swin_{size}_patch4_window{window}_{image}": SwinConfig(window=window, depths=depths, heads=heads, width=width)
    for size, (depths, heads, width) in SIZES.items()
    for window, image in PUBLISHED[size]
}

ARCHITECTURE = Architecture(
    name="swin",
    config=SwinConfig,
    net=Swin,
    layouts={"timm": timm_layout, "torchvision": torchvision_layout},
    configs={"timm": TimmSwinConfig(VARIANTS)},
    folders={"timm": TimmSwinFolder(VARIANTS)},
    resized_by={"num_classes": ("head",), "in_channels": ("stem.0",)},
)
