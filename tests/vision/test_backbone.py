"""What every net of images offers beside its logits."""

import pytest
import torch

from bestiary.errors import InputError
from bestiary.table import find_architecture
from bestiary.vision.backbone import Backbone
from tests.test_contract import CASES, images

NETS = [name for name, case in CASES.items() if case.inputs is images]


@pytest.fixture(params=NETS)
def net(request):
    torch.manual_seed(0)
    architecture = find_architecture(request.param)
    return architecture.net(architecture.configure(CASES[request.param].config)).eval()


@pytest.fixture
def batch():
    return images("cpu")[0]


def test_every_net_of_images_is_one(net):
    assert isinstance(net, Backbone) and isinstance(net.head, torch.nn.Linear)


@torch.no_grad()
def test_logits_are_the_head_of_what_is_pooled_of_the_features(net, batch):
    features = net.features(batch)
    assert torch.equal(net.pool(features), net.pooled(batch))
    assert torch.equal(net.head(net.pooled(batch)), net(batch))
    assert net.pooled(batch).shape == (3, net.head.in_features)


@torch.no_grad()
def test_intermediates_come_in_the_order_asked_for_and_the_last_leads_to_the_features(net, batch):
    count = len(net.stages)
    last, first = net.intermediates(batch, [-1, 0])
    assert torch.equal(net.finish(last), net.features(batch))
    assert torch.equal(first, net.through(net.stages[0], net.embed(batch)))
    every = net.intermediates(batch, range(count), as_maps=True)
    assert len(every) == count and all(maps.dim() == 4 and len(maps) == 3 for maps in every)
    assert net.intermediates(batch, []) == []


def test_a_layer_that_is_not_there_is_refused(net, batch):
    count = len(net.stages)
    for layer in (count, -count - 1):
        with pytest.raises(InputError, match=f"layer {layer} is not in the net\nit has {count}: 0 to {count - 1}"):
            net.intermediates(batch, [layer])


@torch.no_grad()
def test_a_head_is_replaced_and_nothing_else(net, batch):
    before, pooled = {name: tensor.clone() for name, tensor in net.state_dict().items()}, net.pooled(batch)
    net.replace_head(11)
    assert net(batch).shape == (3, 11) and net.config.num_classes == 11
    assert torch.equal(net.pooled(batch), pooled)
    after = net.state_dict()
    assert {name for name in before if not torch.equal(before[name], after[name])} == {"head.weight", "head.bias"}


def test_a_head_of_no_classes_is_refused(net):
    with pytest.raises(InputError, match="num_classes=0"):
        net.replace_head(0)
    assert net.head.out_features == 5
