"""What a lower precision costs: the claims of the cards, measured again against fp32."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

import bestiary
from bestiary.core.cache import Cache
from bestiary.core.generate import Decoder
from bestiary.scripts.benchmark import Bench, Row
from bestiary.scripts.cases.classify import logits
from bestiary.scripts.cases.embed import sample_texts

PHOTO = Path(__file__).parents[1] / "chelsea.jpg"
ESSAY = Path(__file__).parents[1] / "tides.txt"


def precision(bench: Bench) -> Iterator[Row]:
    """The lowest cosine between what a model gives in fp32 and in each precision that its card lists."""
    texts, images = sample_texts(100), crops(Image.open(PHOTO), 64)
    computations: dict[str, Callable[[Any], Tensor]] = {
        "minilm-l6-v2": lambda model: model(texts),
        **{f"efficientnet-lite{size}": lambda model: logits_of(model, images) for size in range(3)},
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


def language(bench: Bench) -> Iterator[Row]:
    """How much worse a language model foretells a text in each precision that its card lists, read token by token."""
    name, text = "smollm2-135m-instruct", ESSAY.read_text("utf-8")
    bench.say(f"{name} in fp32")
    reference = perplexity(bestiary.load(name, device="cpu", precision="fp32"), text)
    for lower, claims in bestiary.card(name).precision.items():
        bench.say(f"{name} in {lower}")
        ratio = perplexity(bestiary.load(name, device="cpu", precision=lower), text) / reference
        yield Row(
            what=f"{name} in {lower}: perplexity over that of fp32, {reference:.2f}",
            ours=ratio,
            unit="",
            score=ratio,
            score_unit="",
            at_most=claims["max_perplexity_ratio"],
        )


def perplexity(model: Any, text: str) -> float:
    """Exp of the mean negative log-probability of the tokens of a text, each read by itself, as in generation."""
    tokens = model.rules.encode(text).ids
    decoder = Decoder(model.inference.derived(), Cache(sequences=1, capacity=len(tokens)), model.device)
    total = 0.0
    for place in range(1, len(tokens)):
        logits = decoder.logits([tokens[:place]])[0, -1].float()
        total -= float(logits.log_softmax(-1)[tokens[place]])
    return math.exp(total / (len(tokens) - 1))


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
