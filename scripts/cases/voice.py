"""silero-vad against its own package: one hour of sound, the same weights, one thread as the package sets it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import cast

import torch

import bestiary
from bestiary.audio.tasks.voice import VoiceDetector
from bestiary.scripts.benchmark import Bench, Row, limit

MODEL = "silero-vad"
RATE, SECONDS = 16_000, 3600


def voice(bench: Bench) -> Iterator[Row]:
    """Time from samples to spans against the package's model and against its fastest form, and that the frames agree."""
    threads = torch.get_num_threads()
    import silero_vad  # which sets torch to one thread

    detect = cast(VoiceDetector, bestiary.load(MODEL, device="cpu", precision="fp32"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of old functions that the package calls
        peer, fastest = silero_vad.load_silero_vad(), silero_vad.load_silero_vad(sequence=True)
    samples = sample_sound()
    try:
        times = bench.alternate(lambda: detect(samples), lambda: silero_vad.get_speech_timestamps(samples, peer))
        yield times.share("one hour, from samples to spans", "its package", at_most=0.7)
        times = bench.alternate(
            lambda: detect(samples), lambda: silero_vad.get_speech_timestamps_sequence(samples.numpy(), fastest)
        )
        yield times.share("one hour, from samples to spans", "its package by ONNX in blocks", at_most=0.7)
        bench.say("comparing every frame")
        difference = detect.probabilities(samples) - torch.from_numpy(fastest.audio_forward(samples.numpy()))
        yield limit("largest difference of a frame", float(difference.abs().max()), unit="", at_most=1e-4)
    finally:
        torch.set_num_threads(threads)


def sample_sound() -> torch.Tensor:
    """(samples,) an hour of noise that swells and fades like syllables; every frame takes the same work, whatever it holds."""
    noise = torch.randn(RATE * SECONDS, generator=torch.Generator().manual_seed(0))
    return noise.mul_(torch.sin(torch.arange(RATE * SECONDS) * (8 * torch.pi / RATE)).square_()).mul_(0.1)
