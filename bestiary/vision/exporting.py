"""Nets of images as graphs: what goes in and comes out, and how a program of one's own uses them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bestiary.core.export.example import filled
from bestiary.core.export.graph import Axes, Bundle, Graph, Sizes
from bestiary.core.runtime import evaluated
from bestiary.vision import examples
from bestiary.vision.backbone import Backbone
from bestiary.vision.fits import SQUARES
from bestiary.vision.resampling import Preparation

LEAST = 64  # pixels of a free side: where strides have made a single one of it, torch traces other operations
SMALL = 224  # pixels: nets that take any size are tried on images about as large
NEARNESS = (
    "Images are resized in the graph with the weights of Pillow and torch, in fp32 where these compute with integers: about one "
    "in a hundred of the values that the net sees, or fewer, rounds to a neighbour, 1/255 off, one in ten thousand to the next."
)


class Answering(nn.Module):
    """Images (n, 3, h, w), and for some nets the mask of what is no padding → what the net gives."""

    def __init__(self, task: Any):
        super().__init__()
        self.net = evaluated(task.net)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        found = self.net(*inputs)
        return tuple(found) if isinstance(found, tuple) else (found,)


class Embedding(Answering):
    """Images → vectors, what the net pools, scaled as the card says."""

    def __init__(self, task: Any):
        super().__init__(task)
        self.finish = task.finish

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        net: Any = self.net
        return (self.finish(net.pooled(*inputs)),)


class Prepared(nn.Module):
    """The net behind the preprocessing of its card: images of any size, uint8 (n, h, w, 3)."""

    def __init__(self, preparation: nn.Module, net: nn.Module):
        super().__init__()
        self.preparation, self.net = preparation, net

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return self.net(self.preparation(images))


class Kind(NamedTuple):
    """What a task on images asks of its graph."""

    net: Callable[[Any], nn.Module]
    outputs: Mapping[str, Axes]  # "rows" and "columns" are fewer than pixels
    example: str  # of what follows the call
    masked: bool = False  # whether the net is told what is padding


KINDS = {
    "depth-estimation": Kind(Answering, {"depth": ("batch", "height", "width")}, examples.DEPTH),
    "image-classification": Kind(Answering, {"logits": ("batch", "classes")}, examples.CLASSES),
    "image-embedding": Kind(Embedding, {"vectors": ("batch", "numbers")}, examples.VECTORS),
    "image-segmentation": Kind(Answering, {"logits": ("batch", "classes", "rows", "columns")}, examples.SEGMENTS),
    "object-detection": Kind(
        Answering, {"logits": ("batch", "queries", "classes + 1"), "boxes": ("batch", "queries", 4)}, examples.BOXES, masked=True
    ),
}


def image_bundle(task: Any, preprocessing: bool) -> Bundle:
    """The graph of a net of images, in batches of any size; with their preprocessing in it, or for images that had it.

    Raises InputError for preprocessing that no graph can do.
    """
    kind, preprocess = KINDS[task.card.task], task.preprocess
    if preprocessing:
        return Bundle([_prepared(task, kind)], examples.AS_IT_IS + filled(kind.example, mask=""), [NEARNESS])
    one_size = getattr(task.net, "one_size", None)
    remark = f"Height and width are free, {_least(task)} pixels or more."
    if one_size is not None:
        remark = f"Images are {preprocess.size} × {preprocess.size} pixels: {one_size}."
    fit = preprocess.fit if one_size is None or preprocess.fit in SQUARES else "squash"
    mask = ", mask=np.ones((1, *images.shape[2:]), bool)"
    example = examples.fitted(preprocess, fit) + filled(kind.example, mask=mask)
    return Bundle([_plain(task, kind, one_size is None)], example, [remark])


def _least(task: Any) -> int:
    """The shortest side that images may have where sides are free."""
    return max([LEAST, *(part.smallest for part in task.net.modules() if isinstance(part, Backbone))])


def _plain(task: Any, kind: Kind, any_size: bool) -> Graph:
    side = task.preprocess.size
    small = max(_least(task), min(side, SMALL))
    height, width = ("height", "width") if any_size else (side, side)
    free = ("batch", "height", "width") if any_size else ("batch",)

    def inputs_of(sizes: Sizes) -> list[Tensor]:
        shape = sizes["batch"], sizes.get("height", side), sizes.get("width", side)
        draw = torch.Generator().manual_seed(0)
        images = torch.randn(shape[0], 3, *shape[1:], generator=draw).to(task.device)
        mask = torch.ones(shape, dtype=torch.bool, device=task.device)
        mask[-1, :, shape[2] * 3 // 4 :] = False
        return [images, mask] if kind.masked else [images]

    inputs: dict[str, Axes] = {"images": ("batch", 3, height, width), "mask": ("batch", height, width)}
    return Graph(
        name="model",
        net=kind.net(task),
        inputs=inputs if kind.masked else {"images": inputs["images"]},
        outputs=kind.outputs,
        ranges={"batch": (1, None), **{axis: (_least(task), None) for axis in free[1:]}},
        inputs_of=inputs_of,
        sizes=[
            dict(zip(free, shape, strict=False))
            for shape in ((2, small, small), (1, small + 33, small + 2), (3, small, small + 17))
        ],
    )


def _prepared(task: Any, kind: Kind) -> Graph:
    def inputs_of(sizes: Sizes) -> list[Tensor]:
        shape = sizes["batch"], sizes["height"], sizes["width"], 3
        return [torch.randint(256, shape, generator=torch.Generator().manual_seed(0)).to(task.device, torch.uint8)]

    return Graph(
        name="model",
        net=Prepared(Preparation(task.preprocess).to(task.device), kind.net(task)),
        inputs={"images": ("batch", "height", "width", 3)},
        outputs=kind.outputs,
        ranges={"batch": (1, None), "height": (1, None), "width": (1, None)},
        inputs_of=inputs_of,
        sizes=[
            {"batch": batch, "height": height, "width": width}
            for batch, height, width in ((2, 150, 200), (1, 301, 97), (3, 20, 40))
        ],
    )

