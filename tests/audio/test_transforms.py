"""Features are those of the references, on noise, tones and what real sound has of silence."""

import numpy as np
import pytest
import torch
from transformers import ASTFeatureExtractor, Wav2Vec2FeatureExtractor, WhisperFeatureExtractor

from bestiary.audio.transforms import Filterbank, LogMel, Waveform
from bestiary.errors import InputError


def sounds():
    """Noise, a rising tone that begins late, and hardly anything."""
    dice = np.random.default_rng(0)
    rising = np.sin(np.cumsum(np.linspace(0.05, 2.5, 40_000)))
    rising[:9_000] = 0
    return {
        "noise": dice.normal(0, 0.1, 30_000).astype(np.float32),
        "rising": (0.7 * rising).astype(np.float32),
        "faint": dice.normal(0, 1e-6, 30_000).astype(np.float32),
        "silence": np.zeros(30_000, np.float32),
    }


@pytest.mark.parametrize("sound", sounds())
@pytest.mark.parametrize("mels", [80, 128])
def test_log_mel_is_whispers(mels, sound):
    samples = sounds()[sound]
    padded = np.pad(samples, (0, 480_000 - len(samples)))
    expected = WhisperFeatureExtractor(feature_size=mels)(samples, sampling_rate=16_000, return_tensors="pt").input_features[0]
    found = LogMel(mels)(torch.from_numpy(padded))
    assert found.shape == (mels, 3000)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_sounds_of_a_batch_do_not_see_each_other():
    noise, rising, faint, silence = map(torch.from_numpy, sounds().values())
    batch = torch.stack([noise, faint, silence, rising[:30_000]])
    for row, samples in zip(LogMel()(batch), batch, strict=True):
        torch.testing.assert_close(row, LogMel()(samples), atol=1e-6, rtol=0)


@pytest.mark.parametrize("sound", sounds())
@pytest.mark.parametrize(("mels", "frames"), [(128, 1024), (64, 100)])
def test_filterbank_is_that_of_ast(mels, frames, sound):
    samples = sounds()[sound]
    reference = ASTFeatureExtractor(num_mel_bins=mels, max_length=frames)
    expected = reference(samples, sampling_rate=16_000, return_tensors="pt").input_values[0]
    torch.testing.assert_close(Filterbank(mels=mels, frames=frames)(torch.from_numpy(samples)), expected, atol=1e-5, rtol=0)


def test_less_than_a_frame_has_no_filterbank():
    with pytest.raises(InputError, match="shorter than a frame"):
        Filterbank()(torch.zeros(399))


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("sound", ["noise", "rising", "silence"])
def test_waveform_is_that_of_wav2vec(sound, normalize):
    samples = sounds()[sound]
    reference = Wav2Vec2FeatureExtractor(do_normalize=normalize)
    expected = reference(samples, sampling_rate=16_000, return_tensors="pt").input_values[0]
    torch.testing.assert_close(Waveform(normalize)(torch.from_numpy(samples)), expected, atol=1e-5, rtol=1e-5)


def test_features_can_be_trained_through_after_inference():
    with torch.inference_mode():
        LogMel(40)(torch.zeros(16_000))
    samples = torch.randn(16_000, requires_grad=True)
    LogMel(40)(samples).sum().backward()
    assert samples.grad.isfinite().all()
