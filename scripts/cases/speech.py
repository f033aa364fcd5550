"""whisper-tiny.en against faster-whisper and OpenAI's package: the same weights and recordings, greedy, one attempt each."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

import bestiary
from bestiary.audio import datasets
from bestiary.audio.sound import read_sound
from bestiary.audio.tasks.recognition import SpeechRecognizer
from bestiary.scripts.benchmark import Bench, Row
from bestiary.scripts.cases.processes import output

MODEL = "whisper-tiny.en"
PRECISION = "int8"  # that of the peer
RATE = 16_000
SHORT, LONG = 11, 600  # seconds
PAUSES = (0.3, 1.0, 2.5)  # seconds between recordings, in turn
GREEDY = {"language": "en", "beam_size": 1, "temperature": 0.0}

OURS = f"""
import sys, bestiary
print(bestiary.load("{MODEL}", device="cpu", precision="{PRECISION}")(sys.argv[1]).text)
"""
HOURS = f"""
import sys, resource, bestiary
for _ in bestiary.load("{MODEL}", device="cpu", precision="{PRECISION}").stream(sys.argv[1], temperatures=(0.0,)): pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def speech(bench: Bench) -> Iterator[Row]:
    """Eleven seconds, against both, and what the times of words cost."""
    model, sound = load(), prompts(SHORT)
    with apart() as process:
        times = bench.alternate(
            lambda: model(sound, temperatures=(0.0,)), lambda: process.submit(read_by_faster_whisper, SHORT).result()
        )
    yield times.share(f"{SHORT} s of speech, {PRECISION}", "faster-whisper, int8", at_most=0.5)
    times = bench.alternate(
        lambda: model(sound, temperatures=(0.0,), words=True), lambda: model(sound, temperatures=(0.0,))
    )
    yield times.share("with the times of words", "without", at_most=1.15)
    times = bench.alternate(lambda: model(sound, temperatures=(0.0,)), openai_whisper(model, sound))
    yield times.share(f"{SHORT} s of speech, {PRECISION}", "openai-whisper, fp32", at_most=0.2)


def speech_long(bench: Bench) -> Iterator[Row]:
    """Ten minutes of speech with pauses, against faster-whisper's batches."""
    model, sound = load(), prompts(LONG)
    with apart() as process:
        times = bench.alternate(
            lambda: model(sound, temperatures=(0.0,)), lambda: process.submit(read_by_faster_whisper, LONG).result()
        )
    yield times.share(f"{LONG // 60} minutes of speech with pauses, {PRECISION}", "faster-whisper in batches, int8", at_most=0.6)


def speech_memory(bench: Bench) -> Iterator[Row]:
    """What an hour takes at its peak, as a share of what ten minutes take."""
    import soundfile

    with tempfile.TemporaryDirectory() as folder:
        path, sound = Path(folder) / "sound.wav", prompts(LONG).numpy()
        peaks = []
        for times in (1, 6):
            bench.say(f"{times * LONG // 60} minutes")
            soundfile.write(path, np.tile(sound, times), RATE)
            peaks.append(float(output([sys.executable, "-c", HOURS, str(path)])))
    what = f"peak memory of {6 * LONG // 60} minutes over that of {LONG // 60}"
    yield Row(what=what, ours=peaks[1], peer=peaks[0], peer_name="ten minutes", unit="B", score=peaks[1] / peaks[0],
              score_unit="of it", at_most=1.2)  # fmt: skip


def speech_start(bench: Bench) -> Iterator[Row]:
    """A new process to a transcript, the files lying ready, against importing torch alone."""
    load()
    spoken = str(Path(__file__).parent.parent / "password.wav")
    times = bench.alternate(
        lambda: output([sys.executable, "-c", OURS, spoken]), lambda: output([sys.executable, "-c", "import torch"])
    )
    yield times.difference("a new process to a transcript", "import torch", at_most=0.5)


@cache
def load() -> SpeechRecognizer:
    """The model on the CPU."""
    return cast(SpeechRecognizer, bestiary.load(MODEL, device="cpu", precision=PRECISION))


@cache
def prompts(seconds: int) -> Tensor:
    """(samples,) so many seconds of recordings of a voice, one after the other with pauses between."""
    parts: list[Tensor] = []
    for number, row in enumerate(datasets.load("telephone-prompts", "en")):
        pause = torch.zeros(int(PAUSES[number % len(PAUSES)] * RATE))
        parts += [read_sound(row["audio"], RATE), pause]
        if sum(map(len, parts)) >= seconds * RATE:
            break
    return torch.cat(parts)[: seconds * RATE]


def apart() -> ProcessPoolExecutor:
    """A process for the peer, with as many threads as ours.

    In one process its OpenMP and torch's are the same, which then counts more threads than there are cores, and lets all of them
    sleep at every barrier.
    """
    threads = (torch.get_num_threads(),)
    return ProcessPoolExecutor(1, get_context("spawn"), initializer=torch.set_num_threads, initargs=threads)


def read_by_faster_whisper(seconds: int) -> None:
    """What the peer makes of so many seconds: what a window holds at once, what is longer in batches."""
    from faster_whisper import BatchedInferencePipeline

    peer, sound = faster_whisper(), prompts(seconds).numpy()
    if seconds > SHORT:
        segments, _ = BatchedInferencePipeline(peer).transcribe(sound, batch_size=8, **GREEDY)
    else:
        segments, _ = peer.transcribe(sound, condition_on_previous_text=False, **GREEDY)
    list(segments)


@cache
def faster_whisper() -> Any:
    """The peer with our file, and what it wants to lie beside it."""
    from faster_whisper import WhisperModel

    model = load()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, source in model.provenance.items():
            (folder / file).symlink_to(source.path)
        rules = json.loads((folder / "tokenizer.json").read_text())
        ids = {**rules["model"]["vocab"], **{token["content"]: token["id"] for token in rules["added_tokens"]}}
        config: Any = model.net.config
        times = [f"<|{place * 0.02:.2f}|>" for place in range(config.frames + 1)]
        words = sorted(ids, key=ids.__getitem__)[: config.vocabulary - len(times)]
        (folder / "vocabulary.json").write_text(json.dumps([*words, *times]))
        heads = model.card.preprocess["alignment_heads"]
        beside = {"alignment_heads": heads, "lang_ids": [], "suppress_ids": [], "suppress_ids_begin": []}
        (folder / "config.json").write_text(json.dumps(beside))
        return WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=torch.get_num_threads())


def openai_whisper(model: SpeechRecognizer, sound: Tensor) -> Any:
    """A call of the peer with our weights."""
    import whisper
    from safetensors.torch import load_file

    config: Any = model.net.config
    encoder = (config.mels, config.frames, config.width, config.heads, config.layers)
    decoder = (config.vocabulary, config.context, config.width, config.heads, config.decoder_layers)
    peer = whisper.model.Whisper(whisper.model.ModelDimensions(*encoder, *decoder))
    with tempfile.TemporaryDirectory() as folder:
        exact = bestiary.load(MODEL, device="cpu", precision="fp32")
        exact.export(Path(folder) / "model", layout="openai")
        peer.load_state_dict(load_file(next((Path(folder) / "model").glob("*.safetensors"))), strict=False)
    return lambda: whisper.transcribe(peer.eval(), sound.numpy(), language="en", temperature=0.0, fp16=False)
