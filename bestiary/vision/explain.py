"""Where in an image a net finds what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from bestiary.core.labels import Label
from bestiary.core.recording import Recording
from bestiary.errors import InputError
from bestiary.vision.backbone import Backbone
from bestiary.vision.drawing import heat_map
from bestiary.vision.fits import Placement
from bestiary.vision.vit import ViT
from bestiary.vision.vit_head import POOLINGS


@dataclass(frozen=True, eq=False)
class Explanation:
    """How much each pixel of an image counted for a label."""

    values: Tensor  # (h, w), as large as the image, from 0 for the least to 1 for the most; 0 too where the net saw nothing
    label: Label  # what is explained, and the probability that the model gives to it
    image: Any = field(repr=False)  # as it was given

    def plot(self) -> Image.Image:
        """The image in grey, coloured where it counted. Raises InputError where it can no longer be read."""
        return heat_map(self.image, self.values)


def hangs_on_the_class(net: Backbone) -> bool:
    """Whether what explains the net is of one class; attention is what it is, whatever the answer."""
    return not isinstance(net, ViT)


def heat_of(net: Backbone, images: Tensor, index: int) -> Tensor:
    """How much each place of images counted, for the class `index` where that makes a difference: (n, rows, columns)."""
    return grad_cam(net, images, index) if hangs_on_the_class(net) else attention_rollout(cast(ViT, net), images)


def grad_cam(net: Backbone, images: Tensor, index: int) -> Tensor:
    """Grad-CAM (Selvaraju et al. 2016, arXiv:1610.02391, equations 1 and 2): how much each place speaks for a class.

    The places are those of the net's last maps, (n, rows, columns). The maps are added up, each with the mean of the gradient
    of the class's logit as its weight; what speaks against the class counts as 0. Raises InputError for a net whose features
    are no maps.

    >>> from bestiary.vision.resnet import VARIANTS, ResNet
    >>> grad_cam(ResNet(VARIANTS["resnet18"]).eval(), torch.randn(1, 3, 64, 96), 282).shape
    torch.Size([1, 2, 3])
    """
    with torch.no_grad():
        maps = net.features(images)  # (n, channels, rows, columns)
    if maps.dim() != 4:
        raise InputError(f"the features of {type(net).__name__} are no maps, which Grad-CAM needs\ntake another model")
    with torch.enable_grad():
        maps.requires_grad_()
        logits = net.head(net.pool(maps))  # (n, num_classes)
        (gradients,) = torch.autograd.grad(logits[:, index].sum(), maps)
    weights = gradients.mean((2, 3), keepdim=True)
    return (weights * maps.detach()).sum(1).relu().float()


@torch.no_grad()
def attention_rollout(net: ViT, images: Tensor) -> Tensor:
    """Attention rollout (Abnar & Zuidema 2020, arXiv:2005.00928, section 3): how much of each patch is in what is pooled.

    The patches lie as in the image: (n, rows, columns).

    A block hands on half of what it takes, beside what the mean of its heads attends to; the product over all blocks says
    how much of which token ended up in which. Raises InputError for a net that pools in another way than by taking tokens.

    >>> from bestiary.vision.vit import ViTConfig
    >>> net = ViT(ViTConfig(image=32, patch=8, layers=2, width=32, heads=4, hidden=64)).eval()
    >>> attention_rollout(net, torch.randn(1, 3, 32, 48)).shape
    torch.Size([1, 4, 6])
    """
    if net.config.pooling == "attention":
        raise InputError("attention rollout ends at the last block, where this net still attends to pool\ntake another model")
    x = net.embed(images)  # (n, tokens, width)
    tokens, prefix = x.shape[1], net.config.prefix
    itself = torch.eye(tokens, device=x.device)
    flow = itself
    for stage in net.stages:
        context = Recording(torch.arange(tokens, device=x.device), causal=False, padding=None)
        x = stage(x, context)
        flow = (itself + context.probabilities[0].float().mean(1)) / 2 @ flow  # (n, tokens, tokens): into which, of which
    pooled = POOLINGS[net.config.pooling](flow, prefix).unflatten(1, (-1, tokens)).mean(1)  # (n, tokens)
    return pooled[:, prefix:].unflatten(1, net.embedding.grid(images))


def on_image(heat: Tensor, place: Placement) -> Tensor:
    """Heat (rows, columns) over what a net saw, scaled to 0 to 1, as (h, w) over the image; 0 where the net saw nothing."""
    heat = (heat - heat.min()) / (heat.max() - heat.min()).clamp(min=1e-12)
    seen = _enlarged(heat, place.canvas)
    resized = torch.zeros(place.resized, device=heat.device)
    starts = [max(corner, 0) for corner in place.corner]
    ends = [min(corner + side, limit) for corner, side, limit in zip(place.corner, place.resized, place.canvas, strict=True)]
    rows, columns = (slice(start - corner, end - corner) for start, end, corner in zip(starts, ends, place.corner, strict=True))
    resized[rows, columns] = seen[starts[0] : ends[0], starts[1] : ends[1]]
    return _enlarged(resized, place.original).clamp(0, 1)


def _enlarged(values: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(values[None, None], size, mode="bilinear", antialias=True)[0, 0]
