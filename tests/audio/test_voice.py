"""Voice detection: spans as Silero's package cuts them, streams, bad input, the command line."""

import json
import math
import random

import numpy as np
import pytest
import soundfile
import torch

import bestiary
from bestiary.audio.spans import Cutting, Span, find_spans
from bestiary.audio.tasks import voice
from bestiary.cli import main
from bestiary.errors import InputError
from tests.audio.voices import LONG, SHORT, minute

RATE = 16_000
CUTTINGS = (
    {},
    {"longest": 5},
    {"threshold": 0.8, "release": 0.2, "shortest": 0.5},
    {"pause": 0.5, "padding": 0.1},
    {"pause": 0, "padding": 0, "shortest": 0},
)


@pytest.fixture(scope="module")
def detect():
    return bestiary.load("silero-vad", device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def package():
    threads = torch.get_num_threads()  # which it sets to 1 as it is imported
    import silero_vad

    yield silero_vad
    torch.set_num_threads(threads)


def theirs(cutting):
    """Our options under the names of the package."""
    names = {
        "threshold": ("threshold", 1),
        "release": ("neg_threshold", 1),
        "shortest": ("min_speech_duration_ms", 1000),
        "pause": ("min_silence_duration_ms", 1000),
        "padding": ("speech_pad_ms", 1000),
        "longest": ("max_speech_duration_s", 1),
    }
    return {names[name][0]: value * names[name][1] for name, value in cutting.items()}


def in_samples(spans):
    return [(round(span.start * RATE), round(span.end * RATE)) for span in spans]


@pytest.mark.parametrize("cutting", CUTTINGS)
def test_spans_of_speech_are_those_of_the_package(detect, package, cutting):
    expected = package.get_speech_timestamps(minute(), package.load_silero_vad(), **theirs(cutting))
    spans = detect(minute(), **cutting)
    assert len(spans) >= 3
    assert in_samples(spans) == [(span["start"], span["end"]) for span in expected]
    assert list(detect.stream(minute(), **cutting)) == spans


def test_spans_of_any_probabilities_are_those_of_the_package(package):
    """A thousand random sounds with random options: long and short pauses, doubtful frames, cuts."""
    draw, found = random.Random(0), 0
    for _ in range(1000):
        levels = [(draw.choice([0.02, 0.3, 0.45, 0.6, 0.95]), draw.choice([1, 3, 5, 40])) for _ in range(draw.randint(1, 30))]
        values = [min(1, max(0, level + draw.uniform(-0.1, 0.1))) for level, count in levels for _ in range(count)]
        samples = 512 * (len(values) - 1) + draw.randint(1, 512)
        cutting = {
            "threshold": draw.choice([0.3, 0.5, 0.7]),
            "release": draw.choice([None, 0.2]),
            "shortest": draw.choice([0, 0.1, 0.25]),
            "pause": draw.choice([0, 0.064, 0.1, 0.5]),
            "padding": draw.choice([0, 0.03, 0.0301, 0.2]),
            "longest": draw.choice([1, 2, 5, math.inf]),
        }
        known = {name: value for name, value in cutting.items() if value is not None}
        expected = package.utils_vad.get_speech_timestamps_from_probs(values, audio_length_samples=samples, **theirs(known))
        spans = find_spans([(samples, values)], Cutting(**cutting), frame=512, rate=RATE)
        assert in_samples(spans) == [(span["start"], span["end"]) for span in expected]
        found += len(expected)
    assert found > 1000


def test_a_stream_reads_no_further_than_it_must(detect, tmp_path, monkeypatch):
    soundfile.write(tmp_path / "long.wav", np.tile(minute().numpy(), 10), RATE)
    read = []
    blocks = voice.sound_blocks
    monkeypatch.setattr(voice, "sound_blocks", lambda *given: (read.append(len(block)) or block for block in blocks(*given)))
    first = next(detect.stream(tmp_path / "long.wav"))
    assert first == detect(minute())[0] and sum(read) <= 2 * 60 * RATE


def test_one_list_and_iterator_are_answered_alike(detect):
    alone = detect(SHORT)
    assert alone == [Span(*alone[0])] and 0 < alone[0].start < alone[0].end < 4
    assert detect([SHORT, LONG])[0] == alone and detect([]) == []
    assert next(iter(detect(iter([SHORT])))) == alone
    assert torch.equal(detect.probabilities([SHORT, LONG])[0], detect.probabilities(SHORT))


def test_what_is_no_speech_has_no_spans(detect):
    noise = torch.randn(5 * RATE, generator=torch.Generator().manual_seed(0)) / 10
    tone = torch.sin(torch.arange(5 * RATE) * 2 * math.pi * 440 / RATE)
    assert detect([torch.zeros(5 * RATE), noise, tone, torch.zeros(1)]) == [[], [], [], []]


def test_a_plot_shows_spans_and_probabilities(detect):
    spans = detect(SHORT)
    picture = np.asarray(spans.plot())
    width = len(spans.probabilities) * 0.032
    middle = round(56 + (960 - 56 - 16) * (spans[0].start + 0.5 * (spans[0].end - spans[0].start)) / width)
    assert picture.shape == (320, 960, 3)
    assert (picture[250, middle] != 255).any() and (picture[250, 58] == 255).all()


@pytest.mark.parametrize(
    ("cutting", "said"),
    [
        ({"threshold": 1.5}, "threshold=1.5"),
        ({"release": 0.9}, "release=0.9"),
        ({"pause": -1}, "0 or more"),
        ({"longest": 0}, "longest"),
    ],
)
def test_options_that_make_no_sense_are_refused(detect, cutting, said):
    with pytest.raises(InputError, match=said):
        detect(SHORT, **cutting)
    with pytest.raises(InputError, match=said):
        detect.stream(SHORT, **cutting)


@pytest.mark.parametrize("sound", [torch.empty(0), torch.full((RATE,), math.nan), b"no sound", 3.5])
def test_what_is_no_sound_is_refused(detect, sound):
    with pytest.raises(InputError):
        detect(sound)


def test_the_command_line_lists_spans(capsys, tmp_path):
    assert main(["run", "silero-vad", str(SHORT), "--json", "--save", str(tmp_path / "spans.png")]) == 0
    (row,) = json.loads(capsys.readouterr().out)["results"]
    assert row["sound"] == str(SHORT) and 0 < row["start"] < row["end"] < 4
    assert (tmp_path / "spans.png").stat().st_size > 1000
