"""What every net of images offers, whatever it is made of: features at several depths, pooled features, a head to replace."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from bestiary.core.checkpoint import recomputed, steps
from bestiary.core.labels import check_classes
from bestiary.errors import InputError


class Backbone(nn.Module):
    """Images go through a beginning, `stages` one after the other, an end, and a pooling; a `head` makes logits of that.

    A net says what its beginning (`embed`), end (`finish`) and pooling (`pool`) are. What the stages hand on are maps
    (n, channels, h, w), or tokens (n, tokens, width), which `as_maps` lays out as such.

    With `net.checkpoint = True` training computes the blocks again on the way back instead of keeping all that they computed:
    the same numbers with less memory, for a third more time.
    """

    config: Any  # the net's own, with the fields num_classes and in_channels
    stages: nn.ModuleList
    head: nn.Module
    checkpoint = False
    one_size: str | None = None  # why a graph of the net takes images of one size; None where it takes any

    @property
    def smallest(self) -> int:
        """The shortest side that an image may have, in pixels."""
        return 1

    @abstractmethod
    def embed(self, images: Tensor) -> Tensor:
        """What the first stage is given."""

    @abstractmethod
    def finish(self, x: Tensor) -> Tensor:
        """Features, of what the last stage gives."""

    @abstractmethod
    def pool(self, features: Tensor) -> Tensor:
        """One row (n, width) for each image."""

    def through(self, stage: nn.Module, x: Tensor) -> Tensor:
        """What a stage makes of what the one before it gave."""
        return stage(x)

    def advance(self, stage: nn.Module, x: Tensor) -> Tensor:
        """The same, in less memory where that was asked for: a stage that is a sequence, step by step, any other as a whole."""
        if not (self.checkpoint and torch.is_grad_enabled()):
            return self.through(stage, x)
        for step in steps(stage):
            x = recomputed(self.through, step, x)
        return x

    def as_maps(self, x: Tensor, images: Tensor) -> Tensor:
        """What a stage gives, as maps (n, channels, h, w)."""
        return x

    def normalize(self, x: Tensor) -> Tensor:
        """What a stage gives, through the norm at the end of the net where that fits every stage."""
        return x

    def features(self, images: Tensor) -> Tensor:
        """What the net sees in images (n, in_channels, h, w), before it is pooled. Raises InputError for what are none."""
        x = self._begin(images)
        for stage in self.stages:
            x = self.advance(stage, x)
        return self.finish(x)

    def pooled(self, images: Tensor) -> Tensor:
        """One row (n, width) for each image, which the head makes logits of."""
        return self.pool(self.features(images))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, num_classes) of images (n, in_channels, h, w), normalised as the card's `preprocess` says."""
        return self.head(self.pooled(images))

    def intermediates(
        self, images: Tensor, layers: Sequence[int], *, normalized: bool = False, as_maps: bool = False
    ) -> list[Tensor]:
        """What comes out of these stages, in the order asked for; -1 is the last. Later stages are not computed.

        With `normalized` each goes through the norm that stands behind the last, in nets that have one; with `as_maps` tokens
        are laid out as (n, channels, h, w). Raises InputError for a stage that the net does not have, and as `features` does.
        """
        wanted = [self._place(layer) for layer in layers]
        x = self._begin(images)
        found: dict[int, Tensor] = {}
        for place, stage in enumerate(self.stages[: max(wanted, default=-1) + 1]):
            x = self.advance(stage, x)
            if place in wanted:
                given = self.normalize(x) if normalized else x
                found[place] = self.as_maps(given, images) if as_maps else given
        return [found[place] for place in wanted]

    def replace_head(self, num_classes: int) -> None:
        """A new linear head of that many classes, with random weights. Raises InputError for fewer than one."""
        check_classes(num_classes)
        if not isinstance(self.head, nn.Linear):
            raise InputError("the net has no linear head to replace\nbuild it with num_classes")
        weight = self.head.weight
        self.head = nn.Linear(weight.shape[1], num_classes, device=weight.device, dtype=weight.dtype)
        self.config = replace(self.config, num_classes=num_classes)

    def _begin(self, images: Tensor) -> Tensor:
        channels, smallest = self.config.in_channels, self.smallest
        if images.dim() != 4 or images.shape[1] != channels or min(images.shape[2:]) < smallest:
            raise InputError(
                f"images of the shape {tuple(images.shape)} are not what the net takes\n"
                f"give (n, {channels}, h, w), with h and w of {smallest} pixels or more"
            )
        return self.embed(images)

    def _place(self, layer: int) -> int:
        """The number of a stage, counted from the first."""
        count = len(self.stages)
        if not isinstance(layer, int) or not -count <= layer < count:
            raise InputError(f"layer {layer!r} is not in the net\nit has {count}: 0 to {count - 1}, or -{count} to -1")
        return layer % count
