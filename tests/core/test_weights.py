"""From a file into a net: everything filled, nothing copied, or an error that says why not."""

import subprocess
import sys
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from bestiary.core import weights
from bestiary.core.architecture import Architecture
from bestiary.core.keymap import linear, norm
from bestiary.core.runtime import InferenceNet
from bestiary.core.streamed import write_safetensors
from bestiary.errors import LayoutError


@dataclass(frozen=True, kw_only=True)
class Config:
    width: int = 4
    num_classes: int = 3


class Net(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.body = nn.Linear(config.width, config.width)
        self.norm = nn.BatchNorm1d(config.width)
        self.norm.num_batches_tracked = None
        self.head = nn.Linear(config.width, config.num_classes)

    def forward(self, x):
        return self.head(self.norm(self.body(x)))


def layout(config):
    statistics = (weights.keymap.same(f"bn.running_{name}", f"norm.running_{name}") for name in ("mean", "var"))
    return [*linear("fc", "body"), *norm("bn", "norm"), *statistics, *linear("classifier", "head")]


ARCHITECTURE = Architecture(
    name="tiny", config=Config, net=Net, layouts={"theirs": layout}, resized_by={"num_classes": ("head",)}
)


@pytest.fixture
def net():
    torch.manual_seed(0)
    net = Net(Config()).eval()
    net.norm.running_mean.normal_()
    return net


@pytest.fixture
def path(net, tmp_path):
    path = tmp_path / "model.safetensors"
    weights.save(net, path, layout(net.config))
    return path


def test_what_was_saved_is_loaded(net, path):
    loaded = weights.load(ARCHITECTURE, Config(), path, "theirs")
    x = torch.randn(5, 4)
    assert torch.equal(loaded(x), net(x))
    assert not loaded.training and loaded.body.weight.requires_grad and not loaded.norm.running_mean.requires_grad


def test_the_native_layout_has_our_names(net, tmp_path):
    path = tmp_path / "native.safetensors"
    weights.save(net, path, ARCHITECTURE.rules("native", net.config, list(net.state_dict())))
    x = torch.randn(5, 4)
    assert torch.equal(weights.load(ARCHITECTURE, Config(), path, "native")(x), net(x))


def test_training_does_not_write_into_the_file(net, path):
    before = path.read_bytes()
    loaded = weights.load(ARCHITECTURE, Config(), path, "theirs").train()
    loaded(torch.randn(5, 4)).sum().backward()
    torch.optim.SGD(loaded.parameters(), lr=1.0).step()
    assert not torch.equal(loaded.body.weight, net.body.weight)
    assert path.read_bytes() == before


def test_weights_are_cast(path):
    loaded = weights.load(ARCHITECTURE, Config(), path, "theirs", dtype=torch.bfloat16)
    assert {tensor.dtype for tensor in loaded.state_dict().values()} == {torch.bfloat16}


def test_a_head_of_another_size_is_the_only_thing_that_may_be_random(net, path):
    loaded = weights.load(ARCHITECTURE, Config(num_classes=7), path, "theirs", fresh=["head"])
    assert loaded.head.weight.shape == (7, 4) and not loaded.head.weight.is_meta
    assert loaded.head.weight.abs().sum() > 0
    assert torch.equal(loaded.body.weight, net.body.weight)
    with pytest.raises(LayoutError, match=r"classifier\.weight has the shape \(3, 4\)\n.*\(7, 4\) in head\.weight"):
        weights.load(ARCHITECTURE, Config(num_classes=7), path, "theirs")


@pytest.mark.parametrize("lost", ["fc.weight", "bn.running_var"])
def test_a_missing_tensor_is_named(net, path, lost, tmp_path):
    tensors = weights.keymap.save(layout(net.config), net.state_dict())
    del tensors[lost]
    write_safetensors(tmp_path / "less.safetensors", tensors)
    with pytest.raises(LayoutError, match=f"less.safetensors, read as tiny in layout theirs: the file lacks {lost}"):
        weights.load(ARCHITECTURE, Config(), tmp_path / "less.safetensors", "theirs")


def test_an_unknown_layout_is_named(path):
    with pytest.raises(LayoutError, match="tiny has no layout 'ours'\nits layouts: theirs, native"):
        weights.load(ARCHITECTURE, Config(), path, "ours")


def test_a_net_that_keeps_a_buffer_to_itself_is_refused(path):
    class Secretive(Net):
        def __init__(self, config):
            super().__init__(config)
            self.register_buffer("table", torch.arange(4), persistent=False)

    secretive = Architecture(name="secretive", config=Config, net=Secretive, layouts={"theirs": layout})
    with pytest.raises(LayoutError, match="secretive leaves table without a value"):
        weights.load(secretive, Config(), path, "theirs")


def test_inference_follows_training(net):
    infer, x = InferenceNet(net), torch.randn(5, 4)
    assert torch.allclose(infer(x), net(x))
    with torch.no_grad():
        net.head.weight.add_(1.0)
    assert torch.allclose(infer(x), net(x))
    net.load_state_dict(Net(Config()).state_dict())
    assert torch.allclose(infer(x), net(x))
    net.head = nn.Linear(4, 2)
    assert torch.allclose(infer(x), net(x))
    net.head = nn.Sequential(net.head, nn.Tanh())  # the same weights, another part
    assert torch.allclose(infer(x), net(x))
    for _ in range(5):  # new weights, likely where the freed ones lay
        net.body.weight.data = torch.randn(4, 4)
        assert torch.allclose(infer(x), net(x))


MEASURE = """
import pathlib, re, sys, torch
from bestiary.core import weights
from bestiary.text import bert

def anonymous():
    return int(re.search(r"RssAnon:\\s+(\\d+)", open("/proc/self/status").read())[1]) // 1024

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) // 1024

config = bert.BertConfig(layers=12, width=768, heads=12, hidden=3072, vocabulary=30000, positions=512)
dtype = getattr(torch, sys.argv[1])
paths = [*map(pathlib.Path, sys.argv[2:])]
torch.zeros(1000, 1000).to(dtype)
before = anonymous()
open("/proc/self/clear_refs", "w").write("5")
start = peak()
net = weights.load(bert.ARCHITECTURE, config, paths, "transformers", dtype=dtype)
print(anonymous() - before, peak() - start)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("dtype", "most_kept", "most_peak"), [("float32", 50, 50), ("bfloat16", 270, 380)])
def test_memory(tmp_path, dtype, most_kept, most_peak):
    """436 MB in five shards: mapped, nothing; cast to half, the model (218 MB) and one tensor (the embedding, 92 MB as read)."""
    from bestiary.text import bert

    config = bert.BertConfig(layers=12, width=768, heads=12, hidden=3072, vocabulary=30000, positions=512)
    net, path = bert.Bert(config), tmp_path / "model.safetensors"
    paths = weights.save(net, path, bert.transformers_layout(config), shard_size=10**8)
    assert len(paths) == 5
    del net
    done = subprocess.run([sys.executable, "-c", MEASURE, dtype, *paths], capture_output=True, text=True, check=True)
    kept, peak = map(int, done.stdout.split())
    assert kept < most_kept
    assert peak < most_peak


def test_what_is_loaded_in_inference_mode_is_trained_and_followed(path):
    with torch.inference_mode():
        net = weights.load(ARCHITECTURE, Config(), path, "theirs")
    assert not any(tensor.is_inference() for tensor in net.state_dict().values())
    infer, x = InferenceNet(net), torch.ones(1, 4)
    before = infer(x)
    net.head(torch.ones(1, 4)).sum().backward()
    with torch.no_grad():
        net.head.bias += 1
    assert torch.allclose(infer(x), before + 1)
