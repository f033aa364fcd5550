"""A folder of 2,000 photos to their vectors, from the files on, against a plain script of timm and a DataLoader."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import bestiary
from bestiary.scripts.benchmark import Bench, Row, limit
from bestiary.scripts.cases.precision import PHOTO

MODEL, PEER = "efficientnet-lite0", "tf_efficientnet_lite0"
COUNT, SIZE = 2000, (500, 375)
BATCH = 64  # of the peer


def photos(bench: Bench) -> Iterator[Row]:
    """Time of both, and that the vectors agree."""
    import timm

    classifier: Any = bestiary.load(MODEL, device="cpu", precision="fp32")
    embed = classifier.embedder()
    peer = timm.create_model(PEER, pretrained=False).eval()
    with tempfile.TemporaryDirectory() as folder:
        classifier.export(folder, layout="timm")
        peer.load_state_dict(load_file(Path(folder) / "model.safetensors"), strict=True)
    peer.reset_classifier(0)
    with tempfile.TemporaryDirectory() as folder:
        paths = written(Path(folder), bench)
        times = bench.alternate(lambda: embed(paths), lambda: theirs(peer, paths))
        yield times.speed(f"{COUNT} photos of {SIZE[0]} × {SIZE[1]} to vectors, {MODEL}", "timm", at_least=1.5)
        cosines = torch.cosine_similarity(embed(paths[:100]), theirs(peer, paths[:100]))
    yield limit("how far the cosine of two vectors is from 1, at most", 1 - float(cosines.min()), unit="", at_most=1e-3)


def written(folder: Path, bench: Bench) -> list[str]:
    """JPEGs of different parts of one photo, as large as a page shows them."""
    bench.say(f"writing {COUNT} photos")
    dice, paths = random.Random(0), []
    with Image.open(PHOTO) as photo:
        for number in range(COUNT):
            width = dice.randint(photo.width // 2, photo.width)
            height = width * SIZE[1] // SIZE[0]
            left, top = dice.randint(0, photo.width - width), dice.randint(0, max(0, photo.height - height))
            part = photo.resize(SIZE, Image.Resampling.BICUBIC, (left, top, left + width, min(top + height, photo.height)))
            paths.append(str(folder / f"{number}.jpg"))
            part.save(paths[-1], quality=90)
    return paths


class Files(Dataset[Tensor]):
    """Photos through timm's own preprocessing."""

    def __init__(self, paths: Sequence[str], transform: Any):
        self.paths, self.transform = paths, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        with Image.open(self.paths[index]) as image:
            pixels: Tensor = self.transform(image.convert("RGB"))
        return pixels


@torch.inference_mode()
def theirs(peer: Any, paths: Sequence[str]) -> Tensor:
    """(n, width), with a worker for every thread of ours."""
    from timm.data import create_transform, resolve_data_config

    transform = create_transform(**resolve_data_config(model=peer))
    loader = DataLoader(Files(paths, transform), batch_size=BATCH, num_workers=torch.get_num_threads())
    return torch.cat([peer(batch) for batch in loader])
