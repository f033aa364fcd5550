"""Reading sound: every form that a person has it in, other rates, hours without memory, and what is none."""

import io
import tracemalloc

import numpy as np
import pytest
import soundfile
import torch
from torchaudio.functional import resample

from bestiary.audio.sound import read_sound, sound_blocks
from bestiary.errors import InputError


def tone(rate, seconds=1.0, hertz=440.0):
    return np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate).astype(np.float32) * 0.5


def written(samples, rate, kind="WAV", **more):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, **more)
    return file.getvalue()


@pytest.mark.parametrize(("kind", "bound"), [("WAV", 1e-4), ("FLAC", 1e-4), ("OGG", 0.05), ("MP3", 0.05)])
def test_files(tmp_path, kind, bound):
    path = tmp_path / f"tone.{kind.lower()}"
    path.write_bytes(written(tone(16_000), 16_000, kind))
    content = path.read_bytes()
    for given in (path, str(path), content, {"bytes": content, "path": None}, {"bytes": None, "path": str(path)}):
        samples = read_sound(given, 16_000)
        assert samples.dtype == torch.float32 and abs(len(samples) - 16_000) < 2_000
        quiet = samples[1_000:15_000]
        assert float(quiet.square().mean().sqrt()) == pytest.approx(0.5 / 2**0.5, abs=bound)


def test_arrays_and_tensors():
    expected = torch.from_numpy(tone(8_000))
    forms = {
        "array": tone(8_000),
        "fp64": tone(8_000).astype(np.float64),
        "tensor": expected.clone().requires_grad_(),
        "two channels": np.stack([tone(8_000)] * 2),
        "pair": (tone(8_000), 8_000),
        "row": {"array": tone(8_000), "sampling_rate": 8_000, "path": None},
    }
    for name, form in forms.items():
        assert torch.equal(read_sound(form, 8_000), expected), name


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.uint8])
def test_whole_numbers_are_shares_of_their_largest(kind):
    edge = np.iinfo(kind)
    middle = 128 if kind is np.uint8 else 0
    samples = read_sound(np.array([edge.min, middle, edge.max], kind), 16_000)
    torch.testing.assert_close(samples, torch.tensor([-1.0, 0.0, 1.0]), atol=0.01, rtol=0)


def test_channels_are_averaged():
    three = np.stack([tone(16_000), -tone(16_000), np.full(16_000, 0.3, np.float32)])
    torch.testing.assert_close(read_sound(three, 16_000), torch.full((16_000,), 0.1))
    torch.testing.assert_close(read_sound(written(three.T, 16_000, subtype="FLOAT"), 16_000), torch.full((16_000,), 0.1))


@pytest.mark.parametrize("own", [4_000, 8_000, 11_025, 22_050, 44_100, 48_000, 384_000])
def test_other_rates_are_those_of_torchaudio(own):
    given = tone(own) + 0.1 * np.random.default_rng(0).standard_normal(own).astype(np.float32)
    expected = resample(torch.from_numpy(given), own, 16_000)
    torch.testing.assert_close(read_sound((given, own), 16_000), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("own", [8_000, 16_000, 22_050, 44_100])
@pytest.mark.parametrize("seconds", [0.05, 0.3, 7])
def test_blocks_are_the_whole(own, seconds):
    noise = np.random.default_rng(0).standard_normal(own * 2 + 17).astype(np.float32)
    blocks = list(sound_blocks((noise, own), 16_000, seconds))
    expected = resample(torch.from_numpy(noise), own, 16_000)
    torch.testing.assert_close(torch.cat(blocks), expected, atol=1e-4, rtol=0)
    assert len(blocks) == 1 if seconds == 7 else len(blocks) > 5


def test_a_rate_that_shares_nothing_with_the_other():
    samples = read_sound((tone(44_101), 44_101), 16_000)
    assert len(samples) == pytest.approx(16_000, abs=2)
    torch.testing.assert_close(samples[100:-100], torch.from_numpy(tone(16_000))[100 : len(samples) - 100], atol=0.01, rtol=0)


def test_hours_take_no_more_memory(tmp_path):
    path = tmp_path / "long.wav"
    with soundfile.SoundFile(path, "w", 8_000, 1) as file:
        for _ in range(10):
            file.write(tone(8_000, 60))
    tracemalloc.start()
    count = sum(len(block) for block in sound_blocks(path, 16_000, 2))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 10 * 60 * 16_000
    assert most < 5e6


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (b"", "no sound that can be read"),
        (b"\x00\x00\x00\x18ftypmp42 and so on", "not a video"),
        (written(np.zeros(0, np.float32), 16_000), "is empty"),
        (np.zeros(0, np.float32), "is empty"),
        (np.array([0, np.nan, 0], np.float32), "no numbers"),
        (np.array([0, np.inf], np.float32), "no numbers"),
        (np.zeros((16_000, 2), np.float32), r"has the shape \(16000, 2\)"),
        (np.zeros((1, 2, 3), np.float32), "has the shape"),
        (np.zeros(10, np.int64), "holds torch.int64"),
        ((tone(16_000), 100), "a rate of 100 Hz"),
        ((tone(16_000), 2_000_000), "a rate of 2000000 Hz"),
        ((tone(16_000), 16_000.5), "a whole rate"),
        ((tone(16_000),), "a whole rate"),
        ({"text": "hello"}, "a mapping without a sound"),
        ({"array": "hello", "sampling_rate": 16_000}, "holds no samples"),
        (17, "is of type int"),
        ("nothing-here.wav", "cannot be read"),
        ("a\0b.wav", "cannot be read"),
    ],
)
def test_what_is_no_sound(given, message):
    with pytest.raises(InputError, match=message):
        read_sound(given, 16_000)


def test_a_file_that_was_cut():
    """A WAV gives what it has; a FLAC, whose frames carry checksums, is refused."""
    whole = written(tone(16_000, 4), 16_000)
    samples = read_sound(whole[: len(whole) // 2], 16_000)
    torch.testing.assert_close(samples, torch.from_numpy(tone(16_000, 4))[: len(samples)], atol=1e-4, rtol=0)
    assert 31_000 < len(samples) < 33_000
    whole = written(tone(16_000, 4), 16_000, "FLAC")
    with pytest.raises(InputError, match=r"damaged|no sound"):
        read_sound(whole[: len(whole) // 2], 16_000)
