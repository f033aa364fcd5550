"""minilm-l6-v2 against sentence-transformers: 400 texts, the same weights and precision."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

import bestiary
from bestiary.scripts.benchmark import Bench, Row, limit
from bestiary.scripts.cases import need_bf16
from bestiary.text.tasks.embedding import Embedder

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

MODEL = "minilm-l6-v2"
PEER = "sentence-transformers"
TEXTS = "400 texts of 3 to 200 words"
WORDS = """
    a about above across afternoon again against along already although always among ancient and animal answer around at
    author autumn balance beautiful because before began behind between beyond bird boundary bridge bright brought build by
    calculate captain carefully carry celebrate century certain children city clear climate cloud collection colour common
    consider continue corner country crystal danger decided describe different discover distance during early earth eastern
    electricity enough entire evening every evidence example experiment familiar farmer father feather fields finally forest
    forgotten fragment from garden gather gentle glacier government gravity green ground harbour harvest heavy history
    horizon however hundred immediately important in industry instrument into island journey just keeper kitchen knowledge
    lantern large later laughter learn length letter library light listen machine magnetic market material meadow measure
    memory message midnight mineral moment morning mountain movement museum narrow natural neighbour never notebook number
    observe ocean of often orchestra orchard ordinary origin outside paper parliament particular pattern people perhaps
    photograph physics picture planet pleasure possible prepare quarter question quickly quiet railway rather reason recently
    remember result return river rough sailor science season second sentence several shadow shelter should silence simple
    sister slowly society something southern special station still stone strange stream street strong student sudden summer
    surface surprise system telescope temperature that the their theory there thousand through thunder together tomorrow
    toward traveller triangle under until usually valley various village violin voice volcano wandering warehouse water
    weather welcome western when where whether which while whisper window winter within without wonder world yellow
"""


def sample_texts(count: int = 400, seed: int = 0) -> list[str]:
    """Texts of 3 to 200 words drawn from WORDS, their lengths uniform between the two."""
    draw, words = random.Random(seed), WORDS.split()
    return [" ".join(draw.choices(words, k=draw.randint(3, 200))) for _ in range(count)]


def load(precision: str | None) -> Embedder:
    """The model on the CPU."""
    model = bestiary.load(MODEL, device="cpu", precision=precision)
    assert isinstance(model, Embedder)
    return model


def embed_fp32(bench: Bench) -> Iterator[Row]:
    """Speed at fp32, and that the vectors are the peer's and do not depend on their neighbours."""
    texts = sample_texts()
    ours, peer = _both("fp32", torch.float32)
    times = bench.alternate(lambda: ours(texts), lambda: peer.encode(texts))
    yield times.speed(f"{TEXTS}, fp32", PEER, at_least=1.8)

    together, theirs = ours(texts), torch.as_tensor(peer.encode(texts))
    yield limit(f"largest difference to {PEER}", _difference(together, theirs), unit="", at_most=1e-5)
    bench.say("each text alone")
    alone = torch.cat([ours([text]) for text in texts])
    yield limit("largest difference, each text alone", _difference(together, alone), unit="", at_most=1e-6)


def embed_bf16(bench: Bench) -> Iterator[Row]:
    """Speed with both in bf16."""
    need_bf16()
    texts = sample_texts()
    ours, peer = _both("bf16", torch.bfloat16)
    times = bench.alternate(lambda: ours(texts), lambda: peer.encode(texts))
    yield times.speed(f"{TEXTS}, bf16", PEER, at_least=1.8)


def embed_fast(bench: Bench) -> Iterator[Row]:
    """Speed of precision="fast" over the default precision."""
    need_bf16()
    texts = sample_texts()
    fast, default = load("fast"), load(None)
    times = bench.alternate(lambda: fast(texts), lambda: default(texts))
    yield times.speed(f"{TEXTS}, precision fast", "the default precision", at_least=4)


def _both(precision: str, dtype: torch.dtype) -> tuple[Embedder, SentenceTransformer]:
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.set_verbosity_error()  # it reports the pooler, which it makes and never asks
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        load("fp32").export(folder, layout="transformers")
        peer = SentenceTransformer(folder, device="cpu", model_kwargs={"dtype": dtype})
    return load(precision), peer


def _difference(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max())
