"""Learning rates by depth: every parameter once, where it belongs, for nets of every domain."""

import pytest
import torch
from torch import nn

from bestiary.core.groups import blocks_of, parameter_groups
from bestiary.errors import InputError
from bestiary.table import find_architecture
from bestiary.vision.backbone import Backbone
from tests.test_contract import CASES

# All but the nets without a depth to tell: one is an LSTM behind a few convolutions, the other six convolutions and no stem.
DEEP = [name for name in CASES if name not in ("silero-vad", "crepe")]


def net_of(name, **changes):
    architecture = find_architecture(name)
    torch.manual_seed(0)
    return architecture.net(architecture.configure({**CASES[name].config, **changes}))


def by_name(net, groups):
    """The group of each parameter, by its name."""
    group_of = {id(parameter): group for group in groups for parameter in group["params"]}
    return {name: group_of[id(parameter)] for name, parameter in net.named_parameters()}


@pytest.mark.parametrize("name", DEEP)
def test_every_parameter_is_in_one_group(name):
    net = net_of(name)
    groups = parameter_groups(net, lr=1.0, decay=0.5, weight_decay=0.1)
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(map(id, net.parameters())) and len({group["name"] for group in groups}) == len(groups)
    count = len(list(blocks_of(net)))
    assert {group["lr"] for group in groups} <= {0.5**power for power in range(count + 2)}
    torch.optim.AdamW(groups)


@pytest.mark.parametrize("name", DEEP)
def test_the_rate_falls_from_block_to_block(name):
    net = net_of(name)
    found = by_name(net, parameter_groups(net, lr=1.0, decay=0.5))
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    blocks = list(blocks_of(net))
    for depth, block in enumerate(reversed(blocks), start=1):
        assert {found[names[id(parameter)]]["lr"] for parameter in block.parameters()} == {0.5**depth}
    first = next(iter(found.values()))
    assert first["name"].startswith("beginning") and first["lr"] == 0.5 ** (len(blocks) + 1)


@pytest.mark.parametrize("name", [name for name in CASES if isinstance(net_of(name), Backbone)])
def test_the_head_learns_at_the_full_rate(name):
    net = net_of(name)
    found = by_name(net, parameter_groups(net, lr=0.01, decay=0.65, weight_decay=0.05))
    assert all(found[part]["lr"] == 0.01 for part in found if part.startswith("head."))
    assert found["head.weight"]["weight_decay"] == 0.05 and found["head.bias"]["weight_decay"] == 0


@pytest.mark.parametrize("name", DEEP)
def test_what_scales_shifts_or_says_where_is_not_decayed(name):
    net = net_of(name)
    found = by_name(net, parameter_groups(net, lr=1.0, weight_decay=0.1))
    norms = (nn.LayerNorm, nn.RMSNorm, nn.BatchNorm2d)
    of_norms = {
        f"{path}.{own}" for path, part in net.named_modules() if isinstance(part, norms) for own, _ in part.named_parameters()
    }
    layers = {f"{path}.weight" for path, part in net.named_modules() if isinstance(part, (nn.Linear, nn.Conv2d))}
    for path, group in found.items():
        if path in of_norms or path.endswith("bias") or "positions" in path or "token" in path.split(".")[-1]:
            assert group["weight_decay"] == 0
        if path in layers:
            assert group["weight_decay"] == 0.1
    if name == "vit":
        spared = ("class_token", "positions")
        assert all(found[f"embedding.{part}"]["weight_decay"] == 0 for part in spared)
    if name == "swin":
        assert any("table" in path and group["weight_decay"] == 0 for path, group in found.items())


def test_what_is_frozen_is_left_out():
    net = net_of("resnet")
    for parameter in net.stages.parameters():
        parameter.requires_grad_(False)
    names = [group["name"] for group in parameter_groups(net, lr=1.0)]
    assert names == ["beginning", "beginning, not decayed", "end", "end, not decayed"]


def test_what_lies_between_two_blocks_goes_with_the_second():
    net = net_of("convnext")
    found = by_name(net, parameter_groups(net, lr=1.0, decay=0.5))
    assert found["stages.1.downsample.1.weight"]["lr"] == found["stages.1.blocks.0.depthwise.weight"]["lr"] == 0.25


def test_training_by_groups_moves_deep_layers_least():
    net = net_of("vit").train()
    before = [parameter.detach().clone() for parameter in net.parameters()]
    optimiser = torch.optim.AdamW(parameter_groups(net, lr=1e-3, decay=0.1), weight_decay=0.0)
    net(CASES["vit"].inputs("cpu")[0]).square().sum().backward()
    optimiser.step()
    moved = {
        name: float((parameter.detach() - old).abs().max())
        for (name, parameter), old in zip(net.named_parameters(), before, strict=True)
    }
    assert moved["head.weight"] == pytest.approx(1e-3, rel=0.05)
    assert moved["stages.1.mlp.down.weight"] == pytest.approx(1e-4, rel=0.05)
    assert moved["stages.0.mlp.down.weight"] == pytest.approx(1e-5, rel=0.05)
    assert moved["embedding.patch.weight"] == pytest.approx(1e-6, rel=0.2)


@pytest.mark.parametrize("wrong", [{"lr": 0.0}, {"decay": 0.0}, {"decay": 1.5}, {"weight_decay": -1.0}])
def test_numbers_that_make_no_sense_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        parameter_groups(net_of("resnet"), **{"lr": 1.0, **wrong})


def test_a_net_without_blocks_is_refused():
    with pytest.raises(InputError, match="Linear has no stages or blocks"):
        parameter_groups(nn.Linear(2, 2), lr=1.0)
