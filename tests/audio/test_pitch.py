"""Pitch: decoding as torchcrepe decodes, known pitches, bad input, the command line."""

import json
import math

import librosa
import numpy as np
import pytest
import torch
import torchcrepe

import bestiary
from bestiary.audio.decoding_pitch import viterbi
from bestiary.cli import main
from bestiary.errors import InputError
from tests.audio.voices import SHORT, minute

RATE = 16_000
ALL = {"fmin": 50.0, "fmax": 2006.0}  # Hz, where torchcrepe looks if nothing is said
DECODERS = {
    "viterbi": torchcrepe.decode.viterbi,
    "weighted": torchcrepe.decode.weighted_argmax,
    "argmax": torchcrepe.decode.argmax,
}


@pytest.fixture(scope="module")
def track():
    return bestiary.load("crepe-tiny", device="cpu", precision="fp32")


@pytest.fixture
def exact(monkeypatch):
    """torchcrepe without the noise that it adds to pitches."""
    monkeypatch.setattr(torchcrepe.convert, "dither", lambda cents: cents)
    if hasattr(torchcrepe.decode.weighted_argmax, "weights"):
        del torchcrepe.decode.weighted_argmax.weights


def tone(hertz, seconds=1.0):
    return torch.sin(torch.arange(round(seconds * RATE)) * 2 * math.pi * hertz / RATE)


def check(pitch, samples, size, decoder, hop, **limits):
    hertz, confidence = torchcrepe.predict(
        samples[None], RATE, hop, model=size, decoder=DECODERS[decoder], return_periodicity=True, **limits
    )
    assert (pitch.hertz / hertz[0] - 1).abs().max() <= 1e-4
    assert (pitch.confidence - confidence[0]).abs().max() <= 1e-4


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("limits", [ALL, {"fmin": 80.0, "fmax": 400.0}], ids=["all", "of a voice"])
def test_pitch_of_speech_is_that_of_torchcrepe(track, exact, decoder, limits):
    samples = minute()[: 3 * RATE]
    pitch = track(samples, hop=0.02, decoder=decoder, **limits)
    assert len(pitch.times) == 151 and pitch.times[1] == pytest.approx(0.02)
    check(pitch, samples, "tiny", decoder, 320, **limits)


def test_the_full_net_gives_what_torchcrepe_gives(exact):
    samples = minute()[RATE : 2 * RATE]
    pitch = bestiary.load("crepe-full", device="cpu", precision="fp32")(samples, hop=0.05, **ALL)
    check(pitch, samples, "full", "viterbi", 800, **ALL)


def test_the_best_path_is_that_of_librosa():
    """Also where pitch leaps farther than a step reaches, and where nothing is likely."""
    generator = torch.Generator().manual_seed(0)
    for scale in (1.0, 30.0, 300.0):
        probabilities = torch.randn(60, 360, generator=generator) * scale
        probabilities[:, :20], probabilities[:, 300:] = -math.inf, -math.inf
        near = np.maximum(12 - abs(np.subtract.outer(np.arange(360), np.arange(360))), 0)
        expected = librosa.sequence.viterbi(probabilities.softmax(1).T.numpy(), near / near.sum(axis=1, keepdims=True))
        bins, _ = viterbi(probabilities)
        assert bins.tolist() == expected.tolist()
        assert scale == 1.0 or bins.diff().abs().max() > 12


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("hertz", [110.0, 440.0, 880.0])
def test_a_tone_has_its_pitch(track, decoder, hertz):
    pitch = track(tone(hertz), decoder=decoder)
    middle = pitch.hertz[20:-20]
    assert (1200 * (middle / hertz).log2()).abs().max() < 25 and pitch.confidence[20:-20].min() > 0.5


def test_silence_has_no_pitch_to_be_sure_of(track):
    assert track(torch.zeros(RATE)).confidence.max() < 0.5
    assert len(track(torch.zeros(1)).times) == 1


def test_one_and_many_are_answered_alike(track):
    alone = track(SHORT)
    listed = track([SHORT, tone(220)])
    assert len(listed) == 2 and all(map(torch.equal, listed[0], alone)) and track([]) == []


def test_a_plot_has_a_curve_where_the_pitch_is(track):
    picture = np.asarray(track(tone(440)).plot()).astype(int)
    orange = (picture[:, :, 0] - picture[:, :, 2]) > 100
    assert picture.shape == (320, 960, 3) and orange[:, 300:700].any(axis=0).all()


@pytest.mark.parametrize("options", [{"hop": 0}, {"fmin": 0}, {"fmin": 500, "fmax": 100}, {"fmax": 5000}, {"decoder": "best"}])
def test_options_that_make_no_sense_are_refused(track, options):
    with pytest.raises(InputError, match="make no sense"):
        track(SHORT, **options)


def test_the_command_line_lists_pitch(capsys):
    assert main(["run", "crepe-tiny", str(SHORT), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["results"]
    assert rows[0].keys() == {"sound", "time", "hertz", "confidence"}
    assert rows[1]["time"] == pytest.approx(0.01)
