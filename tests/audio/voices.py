"""Real speech for tests."""

from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from bestiary.audio.sound import read_sound

SPEECH = Path(__file__).parent / "speech"
LONG, SHORT = SPEECH / "demo-congrats.wav", SPEECH / "agent-pass.wav"  # 30 and 3 seconds


@cache
def minute(rate: int = 16_000) -> Tensor:
    """A minute of speech with pauses between its parts: (samples,)"""
    pause = torch.zeros(rate // 2)
    samples = torch.cat([read_sound(LONG, rate), pause, read_sound(SHORT, rate), pause, read_sound(LONG, rate).flip(0)])
    return samples[: 60 * rate]
