"""What a lower precision costs: the claims of the cards, measured again against fp32."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

import bestiary
from bestiary.scripts.benchmark import Bench, Row
from bestiary.scripts.cases.classify import logits
from bestiary.scripts.cases.embed import sample_texts

PHOTO = Path(__file__).parents[1] / "chelsea.jpg"


def precision(bench: Bench) -> Iterator[Row]:
    """The lowest cosine between what a model gives in fp32 and in each precision that its card lists."""
    texts, images = sample_texts(100), crops(Image.open(PHOTO), 64)
    computations: dict[str, Callable[[Any], Tensor]] = {
        "minilm-l6-v2": lambda model: model(texts),
        "efficientnet-lite0": lambda model: logits_of(model, images),
    }
    for name, compute in computations.items():
        reference = compute(bestiary.load(name, device="cpu", precision="fp32"))
        for lower, claims in bestiary.card(name).precision.items():
            bench.say(f"{name} in {lower}")
            cosines = F.cosine_similarity(compute(bestiary.load(name, device="cpu", precision=lower)), reference)
            lowest = float(cosines.min())
            yield Row(
                what=f"{name} in {lower}: lowest cosine to fp32",
                ours=lowest,
                unit="",
                score=lowest,
                score_unit="",
                at_least=claims["min_cosine"],
            )


def crops(photo: Image.Image, count: int) -> list[Image.Image]:
    """Squares of different place and size, cut from a photo."""
    draw = torch.Generator().manual_seed(0)
    squares = []
    for _ in range(count):
        side = int(torch.randint(100, min(photo.size), (), generator=draw))
        left, top = (int(torch.randint(0, length - side + 1, (), generator=draw)) for length in photo.size)
        squares.append(photo.crop((left, top, left + side, top + side)))
    return squares


def logits_of(classifier: Any, images: list[Image.Image]) -> Tensor:
    """(n, classes), in fp32, preprocessed as the card says."""
    pixels = classifier.preprocess(images).to(next(classifier.net.parameters()).dtype)
    return torch.cat([logits(classifier.inference, batch) for batch in pixels.split(16)]).float()
