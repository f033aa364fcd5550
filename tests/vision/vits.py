"""What the tests of Vision Transformers share."""

import torch
from safetensors.torch import save_file

from bestiary.core import weights
from bestiary.vision.vit import ARCHITECTURE, ViTConfig

SHAPE = {"image": 32, "patch": 8, "layers": 3, "width": 32, "heads": 4, "hidden": 64, "num_classes": 7}


def tiny(**changes):
    return ViTConfig(**{**SHAPE, **changes})


def randomised(net):
    """Every weight at random: what begins as zeros or ones would hide a mistake."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            noise = torch.randn_like(parameter)
            parameter.copy_(1 + 0.2 * noise if "norm" in name and parameter.dim() == 1 else 0.3 * noise)
    return net.eval()


def images_for(config, height=None, width=None):
    sides = height or config.image, width or height or config.image
    return torch.randn(2, config.in_channels, *sides, generator=torch.Generator().manual_seed(0))


def close(a, b):
    return float((a - b).abs().max()) <= 1e-5 * max(1.0, float(b.abs().max()))


def ours_of(reference, config, tmp_path, layout):
    """Our net from the file of the reference."""
    save_file({name: tensor.contiguous() for name, tensor in reference.state_dict().items()}, tmp_path / "theirs.safetensors")
    return weights.load(ARCHITECTURE, config, tmp_path / "theirs.safetensors", layout)
