"""What a person sees of a long recognition: a real terminal, a real sound."""

import os
import pty
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from bestiary.audio.sound import sound_seconds
from tests.audio.voices import LONG

RATE = 16_000
READ = """
import sys, bestiary
print(len(bestiary.load("whisper-tiny.en", device="cpu", precision="int8")(sys.argv[1]).segments))
"""


@pytest.fixture
def long(tmp_path):
    samples, rate = soundfile.read(LONG)
    path = tmp_path / "long.wav"
    soundfile.write(path, np.tile(samples, 2), rate)
    return path


def test_a_long_sound_has_a_bar_where_a_person_watches(long):
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "NO_COLOR": "1"}
    command = [sys.executable, "-c", READ, str(long)]
    done = subprocess.run(command, stderr=theirs, stdout=subprocess.PIPE, env=environment, check=True)
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert int(done.stdout) > 2 and "seconds of sound" in shown and f"/{round(sound_seconds(long, RATE))}" in shown
    quiet = subprocess.run(command, capture_output=True, check=True)
    assert quiet.stdout == done.stdout and b"seconds of sound" not in quiet.stderr


def as_row(samples):
    return {"array": samples.tolist(), "sampling_rate": RATE}


@pytest.mark.parametrize("form", [lambda samples: samples, lambda samples: (samples, RATE), as_row])
def test_how_long_numbers_are(form):
    assert sound_seconds(form(np.zeros(8000, np.float32)), RATE) == 0.5


def test_what_would_have_to_be_fetched_is_left_alone():
    assert sound_seconds("https://nowhere.invalid/speech.wav", RATE) is None
