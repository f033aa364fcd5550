"""The forms of layers that are trained faster: the same numbers, the same gradients, the same names."""

import copy

import pytest
import torch
from torch import nn

from bestiary.core.training import TrainedLinear, for_training


def gradients(net, x):
    x = x.clone().requires_grad_()
    net(x).square().sum().backward()
    return [x.grad, *(parameter.grad for parameter in net.parameters())]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1,), (7,), (2, 3), (2, 3, 5)], ids=str)
def test_numbers_and_gradients_are_those_of_linear(shape, bias):
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(24, 40, bias), nn.GELU(), nn.Linear(40, 8, bias))
    trained = for_training(copy.deepcopy(plain))
    x = torch.randn(*shape, 24)
    torch.testing.assert_close(trained(x), plain(x), atol=1e-5, rtol=1e-5)
    for ours, theirs in zip(gradients(trained, x), gradients(plain, x), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_the_net_stays_what_it_was():
    net = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 2)))
    parameters, state = list(net.parameters()), net.state_dict()
    assert for_training(net) is net and isinstance(net[1][0], TrainedLinear)
    assert all(ours is theirs for ours, theirs in zip(net.parameters(), parameters, strict=True))
    assert net.state_dict().keys() == state.keys()
    assert copy.deepcopy(net)(torch.ones(1, 4)).equal(net(torch.ones(1, 4)))


def test_a_frozen_layer_gets_no_gradient():
    net = for_training(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)))
    net[0].requires_grad_(False)
    net(torch.randn(3, 4)).sum().backward()
    assert net[0].weight.grad is None and net[1].weight.grad is not None


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_are_computed_as_ever(dtype):
    plain = nn.Sequential(nn.Linear(24, 8)).to(dtype)
    x = torch.randn(3, 24, dtype=dtype)
    assert for_training(copy.deepcopy(plain))(x).equal(plain(x))


def test_under_autocast_it_gives_what_linear_gives():
    plain = nn.Sequential(nn.Linear(24, 8))
    trained = for_training(copy.deepcopy(plain))
    with torch.autocast("cpu", torch.bfloat16):
        x = torch.randn(3, 24)
        assert trained(x).dtype == torch.bfloat16 and trained(x).equal(plain(x))
