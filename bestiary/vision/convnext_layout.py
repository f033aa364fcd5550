"""The key maps of ConvNeXt in the layouts of timm and torchvision."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bestiary.core.keymap import Rule, linear, norm, same
from bestiary.core.operations import unsqueezed
from bestiary.errors import LayoutError

if TYPE_CHECKING:
    from bestiary.vision.convnext import ConvNeXtConfig


def timm_layout(config: ConvNeXtConfig) -> list[Rule]:
    """The keys of timm, in whose smallest nets the MLPs are convolutions of 1 × 1."""
    sides = {"linear": 0, "convolution": 2}[config.timm_mlp]
    rules = [*linear("stem.0", "stem.0"), *norm("stem.1", "stem.1")]
    for i, depth in enumerate(config.depths):
        rules += downsampling(f"stages.{i}.downsample", i)
        for block in (f"stages.{i}.blocks.{j}" for j in range(depth)):
            rules += [*linear(f"{block}.conv_dw", f"{block}.depthwise"), *norm(f"{block}.norm", f"{block}.norm")]
            for theirs, ours in (("fc1", "up"), ("fc2", "down")):
                rules += [unsqueezed(f"{block}.mlp.{theirs}.weight", f"{block}.mlp.{ours}.weight", sides=sides)]
                rules += [same(f"{block}.mlp.{theirs}.bias", f"{block}.mlp.{ours}.bias")]
            rules += {
                "scaled": (same(f"{block}.gamma", f"{block}.mlp.scale.weight"),),
                "competing": norm(f"{block}.mlp.grn", f"{block}.mlp.response"),
            }[config.mlp]
    return [*rules, *norm("head.norm", "norm"), *(linear("head.fc", "head") if config.num_classes else ())]


def torchvision_layout(config: ConvNeXtConfig) -> list[Rule]:
    """The keys of torchvision, which counts stem, stages and what lies between them in one row."""
    if config.mlp != "scaled":
        raise LayoutError("torchvision has no ConvNeXt V2\ntake the layout timm")
    rules = [*linear("features.0.0", "stem.0"), *norm("features.0.1", "stem.1")]
    for i, depth in enumerate(config.depths):
        rules += downsampling(f"features.{2 * i}", i)
        for j in range(depth):
            theirs, ours = f"features.{2 * i + 1}.{j}", f"stages.{i}.blocks.{j}"
            rules += [*linear(f"{theirs}.block.0", f"{ours}.depthwise"), *norm(f"{theirs}.block.2", f"{ours}.norm")]
            rules += [*linear(f"{theirs}.block.3", f"{ours}.mlp.up"), *linear(f"{theirs}.block.5", f"{ours}.mlp.down")]
            rules += [unsqueezed(f"{theirs}.layer_scale", f"{ours}.mlp.scale.weight", sides=2)]
    return [*rules, *norm("classifier.0", "norm"), *(linear("classifier.2", "head") if config.num_classes else ())]


def downsampling(theirs: str, stage: int) -> tuple[Rule, ...]:
    """Norm and convolution between a stage and the one before; the first has none."""
    ours = f"stages.{stage}.downsample"
    return (*norm(f"{theirs}.0", f"{ours}.0"), *linear(f"{theirs}.1", f"{ours}.1")) if stage else ()
