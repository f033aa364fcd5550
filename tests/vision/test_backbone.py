"""What every net of images offers beside its logits."""

import hashlib
import json
from dataclasses import asdict
from functools import partial

import pytest
import torch

import bestiary
from bestiary.core import weights
from bestiary.core.attention import AttentionSpec
from bestiary.core.block import BlockSpec
from bestiary.core.checkpoint import recomputed
from bestiary.core.context import Dense
from bestiary.core.layers import DropPath, MlpSpec, NormSpec
from bestiary.errors import InputError, LayoutError
from bestiary.table import find_architecture
from bestiary.vision.backbone import Backbone
from tests.test_contract import CASES, images

NETS = [name for name, case in CASES.items() if case.inputs is images]

CARD = """---
license: mit
bestiary:
  name: saved
  task: image-classification
  architecture: {architecture}
  config: {config}
  layout: {layout}
  files:
    model.safetensors: {{size: {size}, sha256: {sha256}, role: weights}}
  sources:
    - path: .
  preprocess: {{size: 64, crop: 1.0, interpolation: bilinear, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}}
  checked: parity
---
A tiny net.
"""


def configured(name, **changes):
    return find_architecture(name).configure({**CASES[name].config, **changes})


def net_of(name, **changes):
    torch.manual_seed(0)
    return find_architecture(name).net(configured(name, **changes))


@pytest.fixture(params=NETS)
def net(request):
    return net_of(request.param).eval()


@pytest.fixture
def name(request):
    """The architecture of the net."""
    return request.node.callspec.params["net"]


@pytest.fixture
def save(name, net, tmp_path):
    """Writes the net in a layout, with a card that may say another number of classes; gives the folder."""

    def write(layout, num_classes=5):
        path, architecture = tmp_path / "model.safetensors", find_architecture(name)
        weights.save(net, path, architecture.rules(layout, net.config, list(net.state_dict())))
        content, config = path.read_bytes(), json.dumps({**asdict(net.config), "num_classes": num_classes})
        digest = hashlib.sha256(content).hexdigest()
        card = CARD.format(architecture=name, config=config, layout=layout, size=len(content), sha256=digest)
        (tmp_path / "README.md").write_text(card)
        return f"{tmp_path}/"

    return write


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


@pytest.mark.parametrize("name", [name for name in NETS if "drop_path" in configured(name).__dict__])
def test_drop_path_drops_whole_samples_in_training_and_nothing_else(name):
    torch.manual_seed(0)
    plain, dropping = net_of(name).eval(), net_of(name, drop_path=0.6)
    dropping.load_state_dict(plain.state_dict())
    batch, seen = torch.randn(8, 3, 64, 64), []
    with torch.no_grad():
        assert torch.equal(dropping.eval()(batch), plain(batch))
        for part in dropping.modules():
            if isinstance(part, DropPath):
                part.register_forward_hook(lambda part, inputs, output: seen.append((part.rate, inputs[0], output)))
        dropping.train()(batch)
    rates = [rate for rate, *_ in seen]
    assert rates == sorted(rates) and rates[0] == 0 and 0.3 <= rates[-1] <= 0.6 + 1e-6  # the deeper, the more often
    for rate, branch, output in seen:
        for before, after in zip(branch, output, strict=True):
            assert not after.any() or torch.allclose(after, before / (1 - rate))
    assert any(not after.any() for rate, _, output in seen for after in output)
    assert any(after.any() for rate, _, output in seen for after in output if rate == rates[-1])


@torch.no_grad()
def test_a_net_without_a_head_gives_what_is_pooled(net, name, batch):
    headless = net_of(name, num_classes=0).eval()
    missing, unexpected = headless.load_state_dict(net.state_dict(), strict=False)
    assert missing == [] and set(unexpected) == {"head.weight", "head.bias"}
    assert torch.equal(headless(batch), net.pooled(batch))
    with pytest.raises(InputError, match="num_classes"):
        headless.replace_head(5)


@pytest.mark.parametrize("layout", ["native", "published"])
def test_build_leaves_only_the_head_random_or_out(net, name, batch, save, layout):
    published = CASES[name].layouts or tuple(find_architecture(name).layouts)
    folder = save("native" if layout == "native" else published[0])
    changed = bestiary.build(folder, pretrained=True, num_classes=7)
    assert changed.training and changed.head.weight.shape == (7, net.head.in_features)
    assert changed.head.weight.abs().sum() > 0
    for key, tensor in net.state_dict().items():
        assert key.startswith("head.") or torch.equal(changed.state_dict()[key], tensor)
    headless = bestiary.build(folder, pretrained=True, num_classes=0).eval()
    with torch.no_grad():
        torch.testing.assert_close(headless(batch), net.pooled(batch), atol=1e-5, rtol=1e-5)
    assert torch.equal(bestiary.build(folder, pretrained=True).head.weight, net.head.weight)


@pytest.mark.parametrize("call", [bestiary.load, partial(bestiary.build, pretrained=True)], ids=["load", "build"])
def test_a_saved_head_of_another_size_is_refused(save, call):
    with pytest.raises(LayoutError, match=r"has the shape \(5.*\n.*asks for \(9") as caught:
        call(save("native", num_classes=9))
    assert len(str(caught.value).splitlines()) <= 3
    with pytest.raises(LayoutError, match=r"no place for: .*head") as caught:
        call(save("native", num_classes=0))
    assert len(str(caught.value).splitlines()) <= 3


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
    net = net_of("resnet").train()
    net.checkpoint = True
    statistics = []
    loss = net(images("cpu")[0]).square().sum()
    for _ in range(2):
        grads = torch.autograd.grad(loss, net.stem.convolution.weight, retain_graph=True)
        statistics.append((grads[0], net.stages[0][0].branch[0].norm.running_mean.clone()))
    assert all(torch.equal(*pair) for pair in zip(*statistics, strict=True))
    assert net.stages[0][0].branch[0].norm.num_batches_tracked == 1
    assert net.stages[0][0].branch[0].norm.momentum == 0.1


def test_what_is_recomputed_compiles():
    net = net_of("vit").train()
    net.checkpoint = True
    (batch,) = images("cpu")
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    grads = [torch.autograd.grad(form(batch).square().sum(), list(net.parameters())) for form in (net, compiled)]
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
