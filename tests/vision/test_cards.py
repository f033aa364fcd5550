"""Cards of image nets against what timm states of the same weights, and against their own nets."""

import re
from dataclasses import replace
from functools import cache

import pytest
import timm
import torch

import bestiary
from bestiary.hub.registry import Registry
from bestiary.hub.settings import Settings
from bestiary.table import TASKS, find_architecture

REGISTRY = Registry.standard(Settings.read())
OF_IMAGES = {
    name: card
    for name in REGISTRY.names()
    if TASKS.get((card := REGISTRY.card(name)).task, "").startswith("bestiary.vision.")
}
CARDS = {name: card for name, card in OF_IMAGES.items() if card.layout == "timm"}


def theirs_of(card):
    (source,) = card.sources
    return timm.get_pretrained_cfg(source.address.removeprefix("timm/"))


@cache
def nets_by_file():
    """The nets that timm loads from each of its repositories: several, where they differ in what no file says."""
    nets = {}
    for name in timm.list_pretrained():
        described = timm.get_pretrained_cfg(name)
        nets.setdefault(described.hf_hub_id, set()).add(described.architecture)
    return nets


@pytest.mark.parametrize("name", CARDS)
def test_preprocessing_and_licence_are_those_of_timm(name):
    card, theirs = CARDS[name], theirs_of(CARDS[name])
    assert card.license == theirs.license
    assert theirs.input_size == (3, card.preprocess["size"], card.preprocess["size"]) and theirs.crop_mode == "center"
    assert card.preprocess["crop"] == theirs.crop_pct
    assert card.preprocess["interpolation"] == theirs.interpolation
    assert (tuple(card.preprocess["mean"]), tuple(card.preprocess["std"])) == (theirs.mean, theirs.std)


@pytest.mark.parametrize("name", CARDS)
def test_the_config_is_that_of_timms_net(name):
    card = CARDS[name]
    architecture = find_architecture(card.architecture)
    config = architecture.configure(card.config)
    variants = architecture.configs["timm"].variants
    (source,), theirs = card.sources, theirs_of(card)
    nets = nets_by_file()[source.address] & variants.keys()
    assert config in [replace(variants[net], num_classes=theirs.num_classes) for net in nets]
    if any("QuickGELU" in note for note in theirs.notes or ()):  # which of the nets the file was trained as
        assert config.activation == "quick_gelu"
    with torch.device("meta"):
        assert architecture.net(config).config.num_classes == theirs.num_classes


@pytest.mark.parametrize("name", OF_IMAGES)
def test_the_text_tells_how_many_weights_there_are(name):
    """What was learned: running statistics are none, scales and shifts of norms are, also where they are frozen."""
    (said,) = re.findall(r"([\d.]+)\s+million\s+weights", OF_IMAGES[name].text)
    with torch.device("meta"):
        state = bestiary.build(name).state_dict()
    count = sum(tensor.numel() for key, tensor in state.items() if not re.search(r"\.(running_\w+|num_batches_tracked)$", key))
    assert said == f"{count / 1e6:.{len(said.partition('.')[2])}f}"
