"""What the tests of nets share that stand beside a reference."""

import torch


def randomised(net, images):
    """Random norms as well: their first values would hide a mistake. Their statistics are those of the images, as after training.

    Statistics that do not fit would let the signal explode, and the rounding with it, or die away below the shifts.
    """
    torch.manual_seed(0)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.1)
            module.momentum = 1.0  # nothing stays of the first statistics
    with torch.no_grad():
        net.train()(images)
    return net.eval()


def images_for(config, size=64, count=2):
    return torch.randn(count, config.in_channels, size, size + 1, generator=torch.Generator().manual_seed(0))


def difference(a, b):
    """The largest difference over the largest value, or over 1."""
    return float((a - b).abs().max() / max(1, float(b.abs().max())))


def scattered(net):
    """Every weight and statistic at random, as what begins as zeros or ones would hide a mistake; signals keep their size."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            noise = torch.randn_like(tensor) if tensor.is_floating_point() else torch.zeros_like(tensor)
            if name.endswith("running_var") or (tensor.dim() == 1 and "norm" in name and name.endswith("weight")):
                tensor.copy_(1 + 0.2 * noise.clamp(-2, 2))
            elif tensor.dim() > 1:
                tensor.copy_(noise / tensor[0].numel() ** 0.5)
            else:
                tensor.copy_(0.2 * noise)
    return net.eval()
