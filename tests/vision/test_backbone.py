"""What every net of images offers beside its logits."""

import hashlib
import json
import re
from dataclasses import asdict
from functools import partial

import pytest
import torch

import bestiary
from bestiary.core import weights
from bestiary.core.checkpoint import steps
from bestiary.core.groups import blocks_of
from bestiary.core.residual import DropPath
from bestiary.core.runtime import for_inference
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
    for layer in (count, -count - 1, 0.5, "last"):
        with pytest.raises(InputError, match=f"layer {layer!r} is not in the net\nit has {count}: 0 to {count - 1}"):
            net.intermediates(batch, [layer])


@torch.no_grad()
@pytest.mark.parametrize("form", [lambda net: net, for_inference], ids=["plain", "for_inference"])
def test_images_that_the_net_cannot_take_are_refused(net, form):
    net = form(net)
    for shape in [(3, 64, 64), (64, 64), (1, 1, 64, 64), (1, 64, 64, 3), (1, 3, 0, 0), (1, 3, 64, net.smallest - 1)]:
        for call in (net, net.features, lambda images: net.intermediates(images, [0])):
            with pytest.raises(InputError, match=re.escape(f"the shape {shape}")) as caught:
                call(torch.zeros(shape))
            assert len(str(caught.value).splitlines()) <= 3


@torch.no_grad()
def test_the_smallest_images_that_a_net_says_it_takes_are_taken(net):
    side = net.smallest
    for size in ((side, side), (3 * side, side)):
        assert net(torch.zeros(2, 3, *size)).isfinite().all()


@torch.no_grad()
def test_a_head_is_replaced_and_nothing_else(net, batch):
    before, pooled = {name: tensor.clone() for name, tensor in net.state_dict().items()}, net.pooled(batch)
    net.replace_head(11)
    assert net(batch).shape == (3, 11) and net.config.num_classes == 11
    assert torch.equal(net.pooled(batch), pooled)
    after = net.state_dict()
    assert {name for name in before if not torch.equal(before[name], after[name])} == {"head.weight", "head.bias"}


def test_a_head_of_no_classes_is_refused(net):
    for num_classes in (0, -1, "ten", None):
        with pytest.raises(InputError, match=f"num_classes={num_classes!r}"):
            net.replace_head(num_classes)
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


def test_training_in_less_memory_goes_block_by_block(net):
    parts = {id(part) for stage in net.stages for part in steps(stage)}
    assert all(id(block) in parts for block in blocks_of(net))


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


def test_images_of_other_colours_leave_only_the_first_layer_random(net, name, save):
    changed = bestiary.build(save("native"), pretrained=True, in_channels=1).eval()
    assert changed(torch.zeros(2, 1, 64, 64)).shape == (2, 5)
    (first,) = find_architecture(name).resized_by["in_channels"]
    for key, tensor in net.state_dict().items():
        assert key.startswith(f"{first}.") or torch.equal(changed.state_dict()[key], tensor)
    assert changed.get_submodule(first).weight.abs().sum() > 0


@pytest.mark.parametrize("call", [bestiary.load, partial(bestiary.build, pretrained=True)], ids=["load", "build"])
def test_a_saved_head_of_another_size_is_refused(save, call):
    with pytest.raises(LayoutError, match=r"has the shape \(5.*\n.*asks for \(9") as caught:
        call(save("native", num_classes=9))
    assert len(str(caught.value).splitlines()) <= 3
    with pytest.raises(LayoutError, match=r"no place for: .*head") as caught:
        call(save("native", num_classes=0))
    assert len(str(caught.value).splitlines()) <= 3
