"""What the tests of published adapters share: tiny models of transformers with adapters that peft wrote, and ours of them."""

import json

import torch
from peft import LoraConfig, get_peft_model

from bestiary.core import weights
from bestiary.table import find_architecture


def published(model, folder, **config):
    """The model with an adapter of random weights; both lie in the folder as their libraries write them."""
    torch.manual_seed(1)
    model.save_pretrained(folder / "base")
    adapted = get_peft_model(model, LoraConfig(**{"r": 4, "lora_alpha": 6, **config})).eval()
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if parameter.requires_grad:
                parameter.add_(torch.rand_like(parameter) * 0.5 if "magnitude" in name else torch.randn_like(parameter) * 0.3)
    adapted.save_pretrained(folder / "adapter")
    return adapted


def loaded(name, folder, **changes):
    """Our net of the base in the folder, with the key maps that may read its adapter."""
    architecture = find_architecture(name)
    published = json.loads((folder / "base" / "config.json").read_text())
    config = architecture.configure({**architecture.configs["transformers"].read(published), **changes})
    net = weights.load(architecture, config, folder / "base" / "model.safetensors", "transformers")
    return net, {"transformers": architecture.rules("transformers", config, list(net.state_dict()))}


def close(ours, theirs):
    return float((ours - theirs).detach().abs().max()) <= 1e-5 * max(1.0, float(theirs.detach().abs().max()))
