"""What is computed twice is the same to the last bit. The contract's test asks it of every net of images."""

from functools import partial

import torch
from torch import nn

from bestiary.core.attention import AttentionSpec
from bestiary.core.block import BlockSpec
from bestiary.core.checkpoint import recomputed, steps
from bestiary.core.context import Dense
from bestiary.core.layers import MlpSpec, NormSpec
from bestiary.table import find_architecture
from tests.test_contract import CASES, images


def net_of(name):
    architecture = find_architecture(name)
    torch.manual_seed(0)
    net = architecture.net(architecture.configure(CASES[name].config)).train()
    net.checkpoint = True
    return net


def test_a_block_with_a_mask_is_recomputed_as_it_was():
    block = BlockSpec(
        attention=AttentionSpec(width=16, heads=4), mlp=MlpSpec(width=16, hidden=32, activation="gelu"),
        norm=NormSpec(eps=1e-6), order="pre_scaled", drop_path=0.4,
    ).build().train()  # fmt: skip
    padding = torch.arange(6) < torch.tensor([[6], [3], [4]])
    found = []
    for compute in (lambda part, *inputs: part(*inputs), partial(recomputed, lambda part, *inputs: part(*inputs))):
        x = torch.linspace(-1, 1, 3 * 6 * 16).reshape(3, 6, 16).requires_grad_()
        torch.manual_seed(1)
        y = compute(block, x, Dense(torch.arange(6), causal=False, padding=padding))
        found.append([y, *torch.autograd.grad(y.square().sum(), [x, *block.parameters()])])
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


def test_gradients_of_what_is_recomputed_can_be_taken_twice():
    net = net_of("resnet")
    statistics = []
    loss = net(images("cpu")[0]).square().sum()
    for _ in range(2):
        grads = torch.autograd.grad(loss, net.stem.convolution.weight, retain_graph=True)
        statistics.append((grads[0], net.stages[0][0].branch[0].norm.running_mean.clone()))
    assert all(torch.equal(*pair) for pair in zip(*statistics, strict=True))
    assert net.stages[0][0].branch[0].norm.num_batches_tracked == 1
    assert net.stages[0][0].branch[0].norm.momentum == 0.1


def test_what_is_recomputed_compiles():
    net, (batch,) = net_of("vit"), images("cpu")
    # With sizes that are symbols, torch has no gradient for the resizing of positions.
    compiled = torch.compile(net, fullgraph=True, dynamic=False, backend="aot_eager")
    grads = [torch.autograd.grad(form(batch).square().sum(), list(net.parameters())) for form in (net, compiled)]
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_a_sequence_is_taken_step_by_step_and_what_computes_otherwise_as_a_whole():
    class Doubled(nn.Sequential):
        def forward(self, x):
            return 2 * super().forward(x)

    first, second, third = nn.Linear(2, 2), Doubled(nn.ReLU()), nn.Tanh()
    assert list(steps(nn.Sequential(first, nn.Sequential(second, third)))) == [first, second, third]
    assert list(steps(second)) == [second]
