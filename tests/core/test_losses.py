"""Losses over a vocabulary: what a plain cross-entropy gives, without its logits."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from bestiary.core.layers import Softcap, TiedHead
from bestiary.core.losses import AT_ONCE, next_token_loss, vocabulary_loss
from bestiary.core.packing import Ragged
from bestiary.table import find_architecture

ROWS = 2 * AT_ONCE + 5


class Reader(nn.Module):
    """An embedding, and a head that shares its weight."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(50, 8)
        self.head = nn.Sequential(TiedHead(self.embedding), Softcap(3.0))


@pytest.fixture
def labels():
    labels = torch.arange(ROWS) % 50
    labels[::3] = -100
    return labels


def gradients(loss, *tensors):
    return [loss.detach(), *torch.autograd.grad(loss, tensors)]


@pytest.mark.parametrize("kind", ["linear", "tied and capped"])
def test_loss_and_gradients_are_those_of_all_logits(labels, kind):
    torch.manual_seed(0)
    net = nn.Linear(8, 50) if kind == "linear" else Reader()
    head = net if kind == "linear" else net.head
    rows = torch.randn(ROWS, 8, requires_grad=True)
    expected = gradients(cross_entropy(head(rows), labels), rows, *net.parameters())
    found = gradients(vocabulary_loss(rows, head, labels) * 1.0, rows, *net.parameters())
    assert all(torch.allclose(*pair, atol=1e-6) for pair in zip(found, expected, strict=True))
    with torch.no_grad():
        assert torch.allclose(vocabulary_loss(rows, head, labels), expected[0])


def test_the_gradient_follows_what_is_made_of_the_loss(labels):
    rows, head = torch.randn(ROWS, 8, requires_grad=True), nn.Linear(8, 50)
    once = gradients(vocabulary_loss(rows, head, labels), rows)
    twice = gradients(vocabulary_loss(rows, head, labels) * 2, rows)
    assert torch.allclose(twice[1], 2 * once[1])


def test_a_frozen_head_gets_no_gradient(labels):
    rows, head = torch.randn(ROWS, 8, requires_grad=True), nn.Linear(8, 50).requires_grad_(False)
    vocabulary_loss(rows, head, labels).backward()
    assert rows.grad is not None and head.weight.grad is None


def test_no_logits_are_made_of_rows_without_a_label(labels):
    seen, head = [], nn.Linear(8, 50)
    head.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    vocabulary_loss(torch.randn(ROWS, 8, requires_grad=True), head, labels)
    assert sum(seen) == int((labels >= 0).sum()) and max(seen) <= AT_ONCE


@pytest.mark.parametrize("trained", [True, False])
def test_nothing_to_learn_costs_nothing(trained):
    rows, head = torch.randn(4, 8, requires_grad=trained), nn.Linear(8, 50)
    loss = vocabulary_loss(rows, head.requires_grad_(trained), torch.full((4,), -100))
    assert loss == 0
    if trained:
        loss.backward()
        assert not rows.grad.any() and not head.weight.grad.any()


def test_of_a_decoder_with_capped_logits_on_packed_rows():
    architecture = find_architecture("gemma2")
    config = {"layers": 2, "width": 32, "heads": 4, "key_value_heads": 2, "head_width": 8, "hidden": 48, "vocabulary": 50}
    more = {"positions": 16, "theta": 1e4, "eps": 1e-5, "tied": True, "order": "sandwich", "softcap": 5.0, "logits_softcap": 3.0}
    torch.manual_seed(0)
    net = architecture.build(architecture.configure({**config, **more}))
    tokens, mask = torch.arange(12) * 4, Ragged((5, 4, 3))
    labels = torch.tensor([1, -100, 3, 4, -100, 6, 7, 8, -100, 9, 9, -100])
    expected = gradients(cross_entropy(net(tokens, mask), labels), *net.parameters())
    found = gradients(next_token_loss(net, tokens, mask, None, labels), *net.parameters())
    assert all(torch.allclose(*pair, atol=1e-6) for pair in zip(found, expected, strict=True))
