"""efficientnet-lite0 against timm's, the same weights, 16 images of 224² in fp32."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

import bestiary
from bestiary.scripts.benchmark import Bench, Row, limit
from bestiary.scripts.cases import need_bf16

MODEL = "efficientnet-lite0"
IMAGES = "16 images of 224²"


def classify_fp32(bench: Bench) -> Iterator[Row]:
    """Time of the net as load returns it against timm's as create_model returns it, and that the logits agree."""
    import timm

    classifier = bestiary.load(MODEL, device="cpu", precision="fp32")
    peer = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    with tempfile.TemporaryDirectory() as folder:
        classifier.export(folder, layout="timm")
        peer.load_state_dict(load_file(Path(folder) / "model.safetensors"), strict=True)

    images = sample_images()
    times = bench.alternate(lambda: logits(classifier.inference, images), lambda: logits(peer, images))
    yield times.share(f"{IMAGES}, fp32", "timm", at_most=0.6)
    difference = (logits(classifier.inference, images) - logits(peer, images)).abs().max()
    yield limit("largest difference of the logits", float(difference), unit="", at_most=1e-4)


def classify_fast(bench: Bench) -> Iterator[Row]:
    """Speed of precision="fast" over the default precision."""
    need_bf16()
    fast, default = bestiary.load(MODEL, device="cpu", precision="fast"), bestiary.load(MODEL, device="cpu")
    images = sample_images()
    low = images.to(next(fast.net.parameters()).dtype)
    times = bench.alternate(lambda: logits(fast.inference, low), lambda: logits(default.inference, images))
    yield times.speed(f"{IMAGES}, precision fast", "the default precision", at_least=3)


def sample_images() -> Tensor:
    """(16, 3, 224, 224) normal noise, what normalised images are like to a net."""
    return torch.randn(16, 3, 224, 224, generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def logits(net: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """(n, classes) of a batch of images."""
    return net(images)
