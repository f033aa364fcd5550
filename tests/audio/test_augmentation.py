"""What training changes about sounds: how much, for each in its own way, and the same from the same seed."""

import pytest
import torch

from bestiary.audio.augmentation import Augmentation
from bestiary.errors import InputError

STILL = {"speeds": (1.0,), "gain": 0.0, "noise": None}


def dice(seed=0):
    return torch.Generator().manual_seed(seed)


def tones():
    return 0.3 * torch.sin(torch.linspace(0, 2000, 16_000)).expand(64, -1)


def test_nothing_asked_changes_nothing():
    change = Augmentation(**STILL, frequency_masks=0, time_masks=0)
    features = torch.randn(3, 80, 100)
    assert torch.equal(change.samples(tones()), tones()) and torch.equal(change.features(features), features)


def test_the_same_seed_changes_the_same():
    change, features = Augmentation(), torch.randn(4, 80, 300)
    assert torch.equal(change.samples(tones(), dice()), change.samples(tones(), dice()))
    assert torch.equal(change.features(features, dice()), change.features(features, dice()))
    assert not torch.equal(change.features(features, dice()), change.features(features, dice(1)))


def test_gain_lies_within_its_bounds():
    levels = 20 * (Augmentation(**{**STILL, "gain": 6.0}).samples(tones(), dice()) / tones())[:, 1:].mean(1).log10()
    assert levels.min() > -6.01 and levels.max() < 6.01 and levels.std() > 2  # of a uniform distribution: 3.46


def test_noise_is_as_far_below_the_sound_as_asked():
    noise = Augmentation(**{**STILL, "noise": (20.0, 30.0)}).samples(tones(), dice()) - tones()
    ratio = 10 * (tones().square().mean(1) / noise.square().mean(1)).log10()
    assert ratio.min() > 19.5 and ratio.max() < 30.5 and ratio.std() > 2


@pytest.mark.parametrize("speed", [0.9, 1.1])
def test_a_tone_gets_as_much_higher_as_it_gets_shorter(speed):
    change = Augmentation(**{**STILL, "speeds": (speed,)})
    tone = torch.sin(2 * torch.pi * 500 * torch.arange(16_000) / 16_000)
    faster = change.samples(tone)
    assert len(faster) == pytest.approx(16_000 / speed, abs=1)
    heard = int(torch.fft.rfft(faster).abs().argmax()) * 16_000 / len(faster)
    assert heard == pytest.approx(500 * speed, abs=1)


def test_masks_are_runs_of_the_widths_asked():
    change = Augmentation(frequency_masks=1, frequency_width=10, time_masks=1, time_width=40)
    features = torch.randn(200, 80, 300)
    hidden = change.features(features, dice()) != features
    bands, frames = hidden.all(-1), hidden.all(-2)
    for runs, widest in ((bands, 10), (frames, 40)):
        widths = runs.sum(-1)
        assert widths.max() <= widest and widths.float().std() > widest / 5 and widths.unique().numel() > widest / 2
        assert (runs.int().diff().abs().sum(-1) <= 2).all()  # one run each
    assert torch.equal(hidden, bands[..., None] | frames[..., None, :])
    masked = change.features(features, dice())[hidden]
    assert torch.allclose(masked, features.mean((-2, -1), keepdim=True).expand_as(features)[hidden])


def test_a_mask_takes_no_more_than_its_share():
    change = Augmentation(frequency_masks=0, time_masks=1, time_width=100, time_share=0.2)
    features = torch.randn(100, 8, 50)
    assert (change.features(features, dice()) != features).all(-2).sum(-1).max() == 10


@pytest.mark.parametrize(
    "wrong",
    [{"speeds": ()}, {"speeds": (3.0,)}, {"gain": -1.0}, {"noise": (30.0, 20.0)}, {"time_share": 2.0}, {"time_masks": -1}],
)
def test_what_is_out_of_range(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        Augmentation(**wrong)
