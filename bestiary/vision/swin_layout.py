"""The key maps of Swin Transformers in the layouts that they are published in, and what timm publishes beside the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bestiary.core.architecture import Description
from bestiary.core.configmap import Fields
from bestiary.core.keymap import Rule, Tensors, ignored, linear, norm, same
from bestiary.core.operations import PROJECTIONS, fused
from bestiary.errors import LayoutError
from bestiary.vision.published import TimmConfig, TimmFolder
from bestiary.vision.windows import distances

if TYPE_CHECKING:
    from bestiary.vision.swin import SwinConfig


def timm_layout(config: SwinConfig) -> list[Rule]:
    """The keys of timm, where a stage begins with the merging of patches; older files hold constants as well."""
    rules = [*linear("patch_embed.proj", "stem.0"), *norm("patch_embed.norm", "stem.1")]
    for i, depth in enumerate(config.depths):
        rules += merging(f"layers.{i}.downsample", i)
        for j in range(depth):
            theirs, ours = f"layers.{i}.blocks.{j}", f"stages.{i}.blocks.{j}"
            rules += [*block(theirs, ours), same(f"{theirs}.{TABLE}", f"{ours}.attention.bias.table")]
            rules += [*linear(f"{theirs}.mlp.fc1", f"{ours}.mlp.up"), *linear(f"{theirs}.mlp.fc2", f"{ours}.mlp.down")]
            rules += ignored(f"{theirs}.{INDEX}", f"{theirs}.attn_mask")
    return [*rules, *norm("norm", "norm"), *(linear("head.fc", "head") if config.num_classes else ())]


def torchvision_layout(config: SwinConfig) -> list[Rule]:
    """The keys of torchvision, which counts stem, stages and what lies between them in one row."""
    rules = [*linear("features.0.0", "stem.0"), *norm("features.0.2", "stem.1")]
    for i, depth in enumerate(config.depths):
        rules += merging(f"features.{2 * i}", i)
        for j in range(depth):
            theirs, ours = f"features.{2 * i + 1}.{j}", f"stages.{i}.blocks.{j}"
            names = (f"{theirs}.{TABLE}", f"{theirs}.{INDEX}")
            rules += [*block(theirs, ours), Rule((names,), (f"{ours}.attention.bias.table",), Indexed(config.window))]
            rules += [*linear(f"{theirs}.mlp.0", f"{ours}.mlp.up"), *linear(f"{theirs}.mlp.3", f"{ours}.mlp.down")]
    return [*rules, *norm("norm", "norm"), *(linear("head", "head") if config.num_classes else ())]


TABLE, INDEX = "attn.relative_position_bias_table", "attn.relative_position_index"


def block(theirs: str, ours: str) -> list[Rule]:
    """What has the same names in both."""
    return [
        *norm(f"{theirs}.norm1", f"{ours}.attention_norm"),
        *fused(f"{theirs}.attn.qkv.", f"{ours}.attention.within", PROJECTIONS),
        *linear(f"{theirs}.attn.proj", f"{ours}.attention.within.output"),
        *norm(f"{theirs}.norm2", f"{ours}.mlp_norm"),
    ]


def merging(theirs: str, stage: int) -> list[Rule]:
    """The merging of patches before a stage; the first has none."""
    ours = f"stages.{stage}.merge"
    return [*norm(f"{theirs}.norm", f"{ours}.norm"), same(f"{theirs}.reduction.weight", f"{ours}.reduce.weight")] if stage else []


@dataclass(frozen=True)
class Indexed:
    """A table of biases, beside which the file holds which row of it stands for which pair of places in a window."""

    side: int

    def load(self, theirs: Tensors) -> Tensors:
        table, index = theirs
        if not torch.equal(index.flatten(), distances(self.side, index.device).flatten()):
            raise LayoutError(f"not the index of windows of {self.side} × {self.side}\ndoes the config fit the file?")
        return (table,)

    def save(self, ours: Tensors) -> Tensors:
        (table,) = ours
        return table, distances(self.side, table.device).flatten()


class TimmSwinConfig(TimmConfig):
    """What stands there of other nets, and the size of the images that timm builds this one for."""

    def read(self, published: Mapping[str, Any]) -> Fields:
        arguments = dict(published.get("model_args", {}))
        size = arguments.pop("img_size", ())
        for side in size if isinstance(size, (list, tuple)) else (size,):
            check_side(self.variants[published["architecture"]], side)
        return super().read({**published, "model_args": arguments})


class TimmSwinFolder(TimmFolder):
    """What stands there of other nets; the size of the preprocessing is the one that timm builds this one for."""

    def __init__(self, variants: Mapping[str, SwinConfig]):
        super().__init__(stem="patch_embed.proj", head="head.fc", fixed_input_size=True)
        self.variants = variants

    def read(self, folder: Path, config: Mapping[str, Any]) -> Description:
        description = super().read(folder, config)
        check_side(self.variants[config["architecture"]], description.preprocess["size"])
        return description

    def write(self, card: Any, config: Mapping[str, Any]) -> Mapping[str, Any]:
        check_side(self.variants[config["architecture"]], card.preprocess["size"])
        return super().write(card, config)


def check_side(config: SwinConfig, side: int) -> None:
    """Raise LayoutError unless the maps of every stage are whole numbers of windows: timm fills up others in its own way."""
    whole = config.patch * config.window * 2 ** (len(config.depths) - 1)
    if side % whole:
        raise LayoutError(f"timm computes images of {side} pixels otherwise than the zoo\ntake a multiple of {whole}")
