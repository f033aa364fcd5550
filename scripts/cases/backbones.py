"""Nets of images against timm's: the same random weights, the same normalised images, in the form that calls compute with."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import bestiary
from bestiary.core import weights
from bestiary.core.rows import for_encoding
from bestiary.core.runtime import InferenceNet
from bestiary.core.training import for_training
from bestiary.scripts.benchmark import Bench, Row, limit
from bestiary.scripts.cases import need_bf16
from bestiary.table import find_architecture

Net = Callable[[Tensor], Tensor]

IMAGES = {"vit-b16": 8, "resnet50": 16, "efficientnet-b0": 16, "convnext-tiny": 16, "swin-tiny": 16}
SHARES = {"vit-b16": 1.0, "resnet50": 0.65, "efficientnet-b0": 0.65, "convnext-tiny": 0.95, "swin-tiny": 0.95}  # of timm's time
FAST = {name: 3.0 for name in IMAGES} | {"vit-b16": 3.5}  # times as fast as timm's default


def backbones_fp32(bench: Bench) -> Iterator[Row]:
    """Each net at fp32, and that the logits agree."""
    for name, share in SHARES.items():
        net, peer, images = pair(name)
        times = bench.alternate(partial(logits, net, images), partial(logits, peer, images))
        yield times.share(f"{name}, {len(images)} images of 224², fp32", "timm", at_most=share)
        ours, theirs = logits(net, images), logits(peer, images)
        difference = (ours - theirs).abs().max() / theirs.abs().max().clamp(min=1)
        yield limit(f"{name}, largest difference of the logits", float(difference), unit="", at_most=1e-4)


def backbones_bf16(bench: Bench) -> Iterator[Row]:
    """The Vision Transformer at bf16, both of them."""
    need_bf16()
    net, peer, images = pair("vit-b16", torch.bfloat16)
    times = bench.alternate(partial(logits, net, images), partial(logits, peer, images))
    yield times.share(f"vit-b16, {len(images)} images of 224², bf16", "timm", at_most=0.8)


def backbones_fast(bench: Bench) -> Iterator[Row]:
    """Each net in what precision="fast" takes here, against timm's as create_model returns it."""
    need_bf16()
    for name, speed in FAST.items():
        net, _, low = pair(name, torch.bfloat16)
        _, peer, images = pair(name)
        times = bench.alternate(partial(logits, net, low), partial(logits, peer, images))
        yield times.speed(f"{name}, {len(images)} images of 224², precision fast", "timm", at_least=speed)


def backbones_step(bench: Bench) -> Iterator[Row]:
    """One step of fine-tuning at fp32: forward, backward, AdamW."""
    import timm

    ours = for_training(bestiary.build("vit-s16", num_classes=10))
    theirs = timm.create_model("vit_small_patch16_224", num_classes=10).train()
    times = bench.alternate(trainer(ours), trainer(theirs))
    yield times.share("vit-s16, one step of fine-tuning on 16 images", "timm", at_most=0.95)


def backbones_build(bench: Bench) -> Iterator[Row]:
    """A net with random weights, and one with those of a saved model."""
    seconds = bench.repeat(lambda: bestiary.build("vit-b16"))
    yield limit("vit-b16 built with random weights", seconds, unit="s", at_most=0.7)
    with tempfile.TemporaryDirectory() as folder:
        published, saved = Path(folder) / "published", Path(folder) / "saved"
        publish(timm_net("vit-b16"), published)
        bestiary.load(published).save(saved)
        seconds = bench.repeat(lambda: bestiary.build(saved, pretrained=True))
    yield limit("vit-b16 built with the weights of a file", seconds, unit="s", at_most=0.15)


def trainer(net: nn.Module) -> Callable[[], None]:
    """A step of fine-tuning."""
    images, labels = torch.randn(16, 3, 224, 224), torch.arange(16) % 10
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        cross_entropy(net(images), labels).backward()
        optimizer.step()

    return step


def publish(net: Any, folder: Path) -> None:
    """Write a net of timm as its hub does."""
    from timm.models import save_for_hf

    save_for_hf(net, folder, safe_serialization=True)


def pair(name: str, dtype: torch.dtype = torch.float32) -> tuple[Net, Net, Tensor]:
    """Our net of a card, timm's with the same weights, and images for them."""
    card = bestiary.card(name)
    architecture, peer = find_architecture(card.architecture), timm_net(name)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.safetensors"
        save_file(peer.state_dict(), file)
        net = weights.load(architecture, architecture.configure(card.config), file, "timm", dtype=dtype)
    images = torch.randn(IMAGES[name], 3, 224, 224, generator=torch.Generator().manual_seed(0))
    return InferenceNet(net, for_encoding), peer.to(dtype), images.to(dtype)


def timm_net(name: str) -> nn.Module:
    """timm's net of a card, with random weights."""
    import timm

    torch.manual_seed(0)
    source: Any = bestiary.card(name).sources[0]
    net: nn.Module = timm.create_model(source.address.removeprefix("timm/"), pretrained=False)
    return net.eval()


@torch.inference_mode()
def logits(net: Net, images: Tensor) -> Tensor:
    """(n, classes) of a batch of images."""
    return net(images)
