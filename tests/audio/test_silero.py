"""Silero VAD against its own package: the nets of its archive and of its safetensors."""

import pytest
import torch

import bestiary
from bestiary.audio.silero_vad import ARCHITECTURE, SileroVadConfig
from bestiary.core import weights
from bestiary.errors import LayoutError
from tests.audio.voices import minute


@pytest.fixture(scope="module")
def package():
    import silero_vad

    threads = torch.get_num_threads()  # which it sets to 1 as it is imported
    model = silero_vad.load_silero_vad()
    yield model
    torch.set_num_threads(threads)


@torch.no_grad()
@pytest.mark.parametrize(("name", "rate"), [("silero-vad", 16_000), ("silero-vad-8k", 8_000)])
def test_every_frame_of_a_minute_is_what_the_package_says(package, name, rate):
    samples = minute(rate)
    expected = package.audio_forward(samples[None], rate)[0]
    found = bestiary.load(name, device="cpu", precision="fp32").probabilities(samples)
    assert len(found) == 1875 and found.max() > 0.9 and found.min() < 0.1
    assert (found - expected).abs().max() <= 1e-4


@torch.no_grad()
def test_the_weights_in_safetensors_give_what_the_package_gives_with_them(package):
    """The package has no net of torch for this file, so its own takes them."""
    detect = bestiary.load("silero-vad-safetensors", device="cpu", precision="fp32")
    own = {name: tensor.clone() for name, tensor in package.state_dict().items()}
    rules = ARCHITECTURE.rules("silero-archive", detect.net.config, list(detect.net.state_dict()))
    names = {rule.ours[0]: rule for rule in rules if rule.ours}
    for ours, tensor in detect.net.state_dict().items():
        (theirs,) = names[ours].operation.save((tensor,))
        package.state_dict()[names[ours].theirs[0][0]].copy_(theirs)
    try:
        expected = package.audio_forward(minute()[None], 16_000)[0]
    finally:
        for name, tensor in own.items():
            package.state_dict()[name].copy_(tensor)
    found = detect.probabilities(minute())
    assert (found - expected).abs().max() <= 1e-4
    assert (found - bestiary.load("silero-vad", device="cpu").probabilities(minute())).abs().max() > 0.01  # other weights


def test_the_lstm_in_steps_is_that_of_torch():
    net = ARCHITECTURE.net(SileroVadConfig(frame=32, context=4, window=16, widths=(6, 4, 4, 8), hidden=8)).eval()
    x, hidden, cell = torch.randn(2, 7, 8), torch.randn(2, 8), torch.randn(2, 8)
    for ours, kernel in zip(net.lstm(x, hidden, cell), net.lstm.for_inference()(x, hidden, cell), strict=True):
        assert torch.allclose(ours, kernel, atol=1e-6)


@torch.no_grad()
def test_blocks_of_a_sound_give_what_the_whole_gives():
    net = bestiary.load("silero-vad", device="cpu", precision="fp32").net
    samples = minute()[None, : 512 * 40]
    first, state = net.advance(samples[:, : 512 * 13])
    second, _ = net.advance(samples[:, 512 * 13 :], state)
    assert torch.allclose(torch.cat([first, second], dim=1), net(samples), atol=1e-6)


def test_silence_has_gradients():
    net = ARCHITECTURE.net(SileroVadConfig())
    net(torch.zeros(1, 1024)).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters())


@pytest.mark.parametrize("changes", [{"strides": (1, 1, 2, 1)}, {"strides": (1, 2, 2)}, {"window": 0}, {"frame": 64}])
def test_a_config_that_leaves_other_than_one_column_is_refused(changes):
    with pytest.raises(LayoutError, match="one column is left"):
        ARCHITECTURE.configure(changes)


def test_an_export_is_read_again(tmp_path):
    detect = bestiary.load("silero-vad", device="cpu", precision="fp32")
    detect.save(tmp_path / "saved")
    detect.export(tmp_path / "exported", "silero")
    again = weights.load(ARCHITECTURE, detect.net.config, tmp_path / "exported" / "model.safetensors", "silero")
    assert all(torch.equal(tensor, detect.net.state_dict()[name]) for name, tensor in again.state_dict().items())
    assert torch.equal(bestiary.load(tmp_path / "saved").probabilities(minute()), detect.probabilities(minute()))
