"""The classes of transformers that Vision Transformers are compared with, and what ours are called beside them."""

from dataclasses import dataclass, field

import torch
import transformers

from tests.vision.vits import randomised

SHAPE = {"image_size": 32, "patch_size": 8, "num_hidden_layers": 3, "hidden_size": 32, "num_attention_heads": 4}
RESIZED = {"interpolate_pos_encoding": True}  # what a call has to ask for, but of DINOv2


@dataclass
class Case:
    """A class of transformers, what is told to its config, and how ours then differs from a tiny ViT."""

    kind: str
    described: dict
    changes: dict
    options: dict = field(default_factory=lambda: RESIZED)
    written: str = ""  # the class that it is written as, where that is another
    absent: tuple = ()  # what of theirs nobody computes with, so that we do not write it


MLP = {"intermediate_size": 64}
VIT = {"eps": 1e-12, "antialias": False}
DEIT = {**VIT, "class_tokens": 2}
DINO_MLP = {"mlp_ratio": 2, "layerscale_value": 0.1}
DINO = {"layer_scale": 0.1, "antialias": False}
CLIP = {"patch_bias": False, "embedding_norm": "layer", "eps": 1e-5, "antialias": False}
SIGLIP = {"class_tokens": 0, "pooling": "attention", "activation": "gelu_tanh", "num_classes": 0, "antialias": False}
CASES = {
    "vit": Case("ViTForImageClassification", MLP, VIT),
    "vit, grey": Case("ViTForImageClassification", {**MLP, "num_channels": 1}, {**VIT, "in_channels": 1}),
    "vit without a head": Case("ViTModel", MLP, {**VIT, "num_classes": 0}, absent=("pooler.",)),
    "mae": Case("ViTMAEModel", {**MLP, "mask_ratio": 0.0}, {**VIT, "num_classes": 0}, {}, "ViTModel", ("pooler.",)),
    "deit": Case("DeiTForImageClassification", MLP, DEIT),
    "deit with a teacher": Case("DeiTForImageClassificationWithTeacher", MLP, {**DEIT, "pooling": "distilled"}),
    "deit without a head": Case("DeiTModel", MLP, {**DEIT, "num_classes": 0}, absent=("pooler.",)),
    "dinov2": Case("Dinov2ForImageClassification", DINO_MLP, {**DINO, "pooling": "class_mean"}, {}),
    "dinov2 without a head": Case(
        "Dinov2Model", {**DINO_MLP, "hidden_act": "gelu_new"}, {**DINO, "activation": "gelu_tanh", "num_classes": 0}, {}
    ),
    "registers": Case(
        "Dinov2WithRegistersForImageClassification",
        {**DINO_MLP, "num_register_tokens": 2},
        {**DINO, "pooling": "class_mean", "registers": 2, "antialias": True},
        {},
        absent=("dinov2_with_registers.embeddings.mask_token",),
    ),
    "gated": Case(
        "Dinov2ForImageClassification",
        {**DINO_MLP, "mlp_ratio": 4, "use_swiglu_ffn": True},
        {**DINO, "pooling": "class_mean", "mlp": "gated", "activation": "silu", "hidden": 88},
        {},
    ),
    "clip": Case("CLIPVisionModel", MLP, {**CLIP, "activation": "quick_gelu", "num_classes": 0}),
    "clip with a projection": Case(
        "CLIPVisionModelWithProjection", {**MLP, "projection_dim": 7, "hidden_act": "gelu"}, {**CLIP, "head_bias": False}
    ),
    "siglip": Case("SiglipVisionModel", MLP, SIGLIP),
}


def built(case):
    """The reference, with random weights."""
    kind = getattr(transformers, case.kind)
    return randomised(kind(kind.config_class(**SHAPE, **case.described, num_labels=7)))


def answer(reference, images, **options):
    """What ours gives: logits, or the pooled features of a net without a head."""
    if isinstance(reference, transformers.ViTMAEModel):  # which shuffles the patches, unless it is told how
        options = {"noise": torch.arange(16.0).expand(len(images), -1)}
    output = reference(images, **options)
    for name in ("logits", "image_embeds", "pooler_output", "last_hidden_state"):
        if (value := getattr(output, name, None)) is not None and not hasattr(reference, "pooler"):
            return value if name != "last_hidden_state" else value[:, 0]
    return output.last_hidden_state[:, 0]  # a pooler comes after what ours gives
