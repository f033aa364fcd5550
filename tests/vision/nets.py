"""What the tests of nets share that stand beside a reference."""

import json
from dataclasses import replace

import timm
import torch

import bestiary
from bestiary.core import keymap


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
    assert a.shape == b.shape
    return float((a - b).detach().abs().max() / max(1, float(b.detach().abs().max())))


def shapes(tensors):
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def shapes_written(architecture, config, layout):
    """Names and shapes of what a net of this config is written as, from the meta device, where nothing is computed."""
    with torch.device("meta"):
        ours = architecture.net(config).state_dict()
    return shapes(keymap.save(architecture.rules(layout, config, list(ours)), ours))


def scattered(net):
    """Every weight and statistic at random, as what begins as zeros or ones would hide a mistake; signals keep their size."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if not tensor.is_floating_point():
                continue
            noise = torch.randn_like(tensor)
            if name.endswith("running_var") or (tensor.dim() == 1 and "norm" in name and name.endswith("weight")):
                tensor.copy_(1 + 0.2 * noise.clamp(-2, 2))
            elif tensor.dim() > 1:
                tensor.copy_(noise / tensor[0].numel() ** 0.5)
            else:
                tensor.copy_(0.2 * noise)
    return net.eval()


def check_config_of_timm(architecture, name, unknown):
    """A config.json of a variant is read and written; that of `unknown` is of none that the zoo has."""
    timm_config = architecture.configs["timm"]
    published = {"architecture": name, "num_classes": 12, "num_features": 768, "model_args": {"in_chans": 1}}
    assert timm_config.recognises(published)
    config = architecture.configure(timm_config.read(published))
    assert config == replace(timm_config.variants[name], num_classes=12, in_channels=1)
    assert architecture.configure(timm_config.read(timm_config.write(config))) == config
    assert not timm_config.recognises({"architecture": unknown})


def check_folder_of_timm(reference, images, folder):
    """A folder that timm itself writes of a net with seven classes is read, and written anew for timm to read."""
    timm.models.save_for_hf(reference, folder / "theirs", model_config={"label_names": list("abcdefg")}, safe_serialization=True)
    classify = bestiary.load(folder / "theirs", device="cpu", precision="fp32")
    given = json.loads((folder / "theirs/config.json").read_text())["pretrained_cfg"]
    ours = classify.preprocess
    assert ([3, ours.size, ours.size], ours.crop) == (given["input_size"], given["crop_pct"])
    assert ([*ours.mean], [*ours.std], ours.interpolation) == (given["mean"], given["std"], given["interpolation"])
    assert classify.labels == tuple("abcdefg")
    classify.export(folder / "ours", layout="timm")
    again = timm.create_model(f"local-dir:{folder / 'ours'}", pretrained=True).eval()
    with torch.no_grad():
        expected = reference(images)
        assert difference(classify.inference(images), expected) <= 1e-5
        assert torch.equal(again(images), expected)
