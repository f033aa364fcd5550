"""The published Vision Transformers, under timm's names: for each the fields of its config that are not the defaults."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Fields = dict[str, Any]

# Layers, width, heads and width of the MLP of each published size.
SIZES = {
    "tiny": (12, 192, 3, 768),
    "small": (12, 384, 6, 1536),
    "base": (12, 768, 12, 3072),
    "large": (24, 1024, 16, 4096),
    "huge": (32, 1280, 16, 5120),
    "so400m": (27, 1152, 16, 4304),  # of the shape that suits 400 million weights best (arXiv:2305.13035)
    "giantopt": (40, 1536, 16, 6144),
}
PLAIN = {  # patch and image
    "tiny": ((16, 224), (16, 384)),
    "small": ((8, 224), (16, 224), (16, 384), (32, 224), (32, 384)),
    "base": ((8, 224), (16, 224), (16, 384), (32, 224), (32, 384)),
    "large": ((14, 224), (16, 224), (16, 384), (32, 224), (32, 384)),
    "huge": ((14, 224),),
}
DEIT = {"tiny": (224,), "small": (224,), "base": (224, 384)}  # images; the patch is 16
CLIP = {"base": ((16, 224), (32, 224)), "large": ((14, 224), (14, 336)), "huge": ((14, 224),)}
SIGLIP = {
    "base": ((16, 224), (16, 256), (16, 384), (16, 512), (32, 256)),
    "large": ((16, 256), (16, 384), (16, 512)),
    "so400m": ((14, 224), (14, 378), (14, 384), (16, 256), (16, 384), (16, 512)),
    "giantopt": ((16, 256), (16, 384)),
}
# Google trained all of them with the approximate GELU; timm computes those that came out first with the exact one.
EXACT_SIGLIP = {("base", 16, image) for image in (224, 256, 384, 512)}
EXACT_SIGLIP |= {("large", 16, 256), ("large", 16, 384), *(("so400m", 14, image) for image in (224, 378, 384))}


def variants() -> Iterator[tuple[str, Fields]]:
    """Name and fields of every variant."""
    for size, shapes in PLAIN.items():
        for patch, image in shapes:
            yield f"vit_{size}_patch{patch}_{image}", sized(size, patch=patch, image=image)
    yield from deit()
    yield from dino()
    yield from clip()
    yield from siglip()


def sized(size: str, **fields: Any) -> Fields:
    return dict(zip(("layers", "width", "heads", "hidden"), SIZES[size], strict=True)) | fields


def deit() -> Iterator[tuple[str, Fields]]:
    for size, images in DEIT.items():
        for image in images:
            yield f"deit_{size}_patch16_{image}", sized(size, image=image)
            distilled = sized(size, image=image, class_tokens=2, pooling="distilled")
            yield f"deit_{size}_distilled_patch16_{image}", distilled


def dino() -> Iterator[tuple[str, Fields]]:
    shared = {"patch": 14, "image": 518, "layer_scale": 1e-5, "num_classes": 0}
    giant = {"layers": 40, "width": 1536, "heads": 24, "hidden": 4096, "mlp": "gated", "activation": "silu"}
    for size, fields in [*((size, sized(size)) for size in ("small", "base", "large")), ("giant", giant)]:
        yield f"vit_{size}_patch14_dinov2", fields | shared
        yield f"vit_{size}_patch14_reg4_dinov2", fields | shared | {"registers": 4, "positions": "patches"}


def clip() -> Iterator[tuple[str, Fields]]:
    """The image towers, whose head leads to the space that images share with texts."""
    shared = {"patch_bias": False, "embedding_norm": "layer", "eps": 1e-5}
    spaces = {"base": 512, "large": 768, "huge": 1024}
    for size, shapes in CLIP.items():
        for patch, image in shapes:
            fields = sized(size, patch=patch, image=image, num_classes=spaces[size], **shared)
            yield f"vit_{size}_patch{patch}_clip_{image}", fields
            yield f"vit_{size}_patch{patch}_clip_quickgelu_{image}", fields | {"activation": "quick_gelu"}


def siglip() -> Iterator[tuple[str, Fields]]:
    """The image towers of both generations, whose pooled features lie in the space that images share with texts."""
    shared = {"class_tokens": 0, "pooling": "attention", "num_classes": 0}
    for size, shapes in SIGLIP.items():
        for patch, image in shapes:
            activation = "gelu" if (size, patch, image) in EXACT_SIGLIP else "gelu_tanh"
            fields = sized(size, patch=patch, image=image, activation=activation, **shared)
            yield f"vit_{size}_patch{patch}_siglip_{image}", fields
