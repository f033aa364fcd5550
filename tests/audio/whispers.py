"""Tiny Whispers of random weights, ours and OpenAI's, with the real tokens."""

import base64
import gzip
import os
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import torch
import whisper
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers.convert_slow_tokenizer import TikTokenConverter
from whisper.tokenizer import get_encoding

from bestiary.audio.tasks.recognition import SpeechRecognizer
from bestiary.audio.whisper import ARCHITECTURE, WhisperConfig
from bestiary.core import weights
from bestiary.hub.card import Card
from bestiary.loading import SAVER

HEADS = [[0, 1], [1, 0], [1, 1]]


@cache
def tokenizer_of(multilingual: bool) -> Tokenizer:
    """The tokens that OpenAI's package has, without the names of times, as published files have them."""
    name = "multilingual" if multilingual else "gpt2"
    encoding = get_encoding(name)
    unnamed = {f"<|{step * 0.02:.2f}|>" for step in range(1501)}
    special = sorted(encoding.special_tokens_set - unnamed, key=encoding.encode_single_token)
    path = os.path.join(os.path.dirname(whisper.__file__), "assets", f"{name}.tiktoken")
    return TikTokenConverter(path, pattern=encoding._pat_str, extra_special_tokens=special).converted()


def tiny(folder: Path, *, multilingual: bool) -> tuple[SpeechRecognizer, whisper.model.Whisper]:
    """A recognizer, and OpenAI's net with the same weights."""
    vocabulary = 51865 if multilingual else 51864
    dims = whisper.model.ModelDimensions(80, 1500, 32, 2, 2, vocabulary, 448, 32, 2, 2)
    torch.manual_seed(3)
    theirs = whisper.model.Whisper(dims).eval()
    for tensor in theirs.state_dict().values():
        tensor.normal_(std=0.4)
    theirs.set_alignment_heads(_dump(HEADS))
    save_file(theirs.state_dict(), folder / "model.safetensors")
    config = WhisperConfig(layers=2, decoder_layers=2, width=32, heads=2, hidden=128, vocabulary=vocabulary)
    net = weights.load(ARCHITECTURE, config, folder / "model.safetensors", "openai")
    tokenizer_of(multilingual).save(str(folder / "tokenizer.json"))
    preprocess = {"rate": 16_000, "seconds": 30, "multilingual": multilingual, "alignment_heads": HEADS}
    card = Card(
        name="tiny", license="mit", files=(), sources=(), task="speech-recognition", architecture="whisper", checked="parity",
        preprocess=preprocess,
    )  # fmt: skip
    files = {"tokenizer.json": SimpleNamespace(file=SimpleNamespace(role="tokenizer"), path=folder / "tokenizer.json")}
    return SpeechRecognizer(net, card, files, SAVER), theirs


def _dump(heads: list[list[int]]) -> bytes:
    """Heads as OpenAI's package packs them."""
    mask = torch.zeros(2, 2, dtype=torch.bool)
    for layer, head in heads:
        mask[layer, head] = True
    return base64.b85encode(gzip.compress(mask.numpy().tobytes()))
