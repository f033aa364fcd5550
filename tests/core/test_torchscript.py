"""TorchScript archives become safetensors, and nothing in them is run."""

import os
import pickle
import zipfile

import pytest
import torch

from bestiary.core.mapped import MappedTensors
from bestiary.core.torchscript import convert_torchscript
from bestiary.errors import LayoutError

pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),
]


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2).half())
        self.register_buffer("turned", torch.arange(6.0).view(2, 3).t())
        self.register_buffer("counts", torch.tensor([1, 2, 3]))
        self.register_buffer("empty", torch.empty(0))
        self.sizes = [1, 2, 3]
        self.names = {"a": 1}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.first(x) + self.sizes[0] + self.names["a"]


@pytest.fixture
def source(tmp_path):
    return tmp_path / "model.jit"


@pytest.fixture
def target(tmp_path):
    return tmp_path / "model.safetensors"


def archive(path, content, numbers=b"\0" * 16):
    """An archive with this pickle, and one file of numbers."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("net/data.pkl", content)
        file.writestr("net/data/0", numbers)


def test_the_tensors_arrive_under_their_names_in_the_module(source, target):
    net = Net()
    torch.jit.script(net).save(str(source))
    convert_torchscript(source, target)
    tensors, expected = MappedTensors(target), net.state_dict()
    assert sorted(tensors) == sorted(expected)
    for name, tensor in expected.items():
        assert tensors.dtype(name) == tensor.dtype and torch.equal(tensors[name], tensor)


class Payload:
    def __init__(self, proof):
        self.proof = proof

    def __reduce__(self):
        return os.mkdir, (str(self.proof),)


def test_nothing_is_run(source, target, tmp_path):
    archive(source, pickle.dumps({"weight": Payload(tmp_path / "proof")}))
    with pytest.raises(LayoutError, match="nothing in it was run"):
        convert_torchscript(source, target)
    assert not (tmp_path / "proof").exists() and not target.exists()


STORAGE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ"


def of_tensor(shape, strides):
    """A pickle of an object whose attribute `weight` is a tensor over the numbers of the archive."""
    beginning, end = b"ctorch._utils\n_rebuild_tensor_v2\n(", b"\x89ccollections\nOrderedDict\n)RtR"
    tensor = beginning + STORAGE + b"K\x00" + shape + strides + end
    return b"\x80\x02c__torch__\nNet\n)\x81}X\x06\x00\x00\x00weight" + tensor + b"sb."


def test_a_tensor_is_read_by_shape_and_strides(source, target):
    numbers = torch.arange(4.0)
    archive(source, of_tensor(b"K\x02K\x02\x86", b"K\x01K\x02\x86"), numbers.numpy().tobytes())
    convert_torchscript(source, target)
    assert torch.equal(MappedTensors(target)["weight"], numbers.view(2, 2).t())


@pytest.mark.parametrize(
    "content",
    [
        of_tensor(b"J\x00\x00\x00\x40K\x02\x86", b"K\x00K\x00\x86"),  # 2 billion numbers of four
        of_tensor(b"K\x05K\x01\x86", b"K\x01K\x01\x86"),  # beyond the last one
        b"\x80\x02c__torch__\nNet\n)\x81.",
        b"\x80\x02cbuiltins\neval\n.",
        b"\x80",
        b"",
    ],
    ids=["grown", "beyond", "no tensor", "a function", "cut", "nothing"],
)
def test_what_is_no_archive_of_tensors_is_refused(source, target, content):
    archive(source, content)
    with pytest.raises(LayoutError):
        convert_torchscript(source, target)
    assert not target.exists()


def test_a_file_that_is_no_archive_is_refused(source, target):
    source.write_bytes(b"not a zip")
    with pytest.raises(LayoutError, match="not a TorchScript archive"):
        convert_torchscript(source, target)
