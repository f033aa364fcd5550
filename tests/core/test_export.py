"""Graphs that are written: what they are called, and what is refused."""

import sys

import pytest
import torch
from torch import nn

from bestiary.core.export import onnx, program
from bestiary.core.export.graph import Graph
from bestiary.core.runtime import evaluated
from bestiary.errors import InputError, LayoutError
from tests.exports import session

FORMS = pytest.mark.parametrize("form", [onnx, program], ids=["onnx", "torch.export"])


class Layer(nn.Module):
    """Rows times a matrix, and their mean."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, rows):
        x = self.linear(rows)
        return x, x.mean(1)


class Moody(Layer):
    """It answers its first call otherwise than later ones, as code does that a trace does not see."""

    calls = 0

    def forward(self, rows):
        self.calls += 1
        x, mean = super().forward(rows)
        return x, mean + 0.01 * min(self.calls - 1, 1)


class Deciding(Layer):
    """What it computes hangs on numbers."""

    def forward(self, rows):
        return super().forward(rows if rows.sum() > 0 else -rows)


class Broken(Layer):
    def forward(self, rows):
        x, mean = super().forward(rows)
        return x, mean / 0.0 * 0.0


def graph_of(net):
    return Graph(
        name="rows",
        net=net.eval(),
        inputs={"rows": ("batch", "length", 4)},
        outputs={"products": ("batch", "length", 3), "means": ("batch", 3)},
        ranges={"batch": (1, None), "length": (1, None)},
        inputs_of=lambda sizes: [torch.ones(sizes["batch"], sizes["length"], 4)],
        sizes=[{"batch": 2, "length": 3}, {"batch": 1, "length": 5}, {"batch": 4, "length": 1}],
    )


@FORMS
def test_what_is_written_computes_the_same(tmp_path, form):
    written = form.write(graph_of(Layer()), tmp_path)
    assert written.difference < 1e-6
    assert [path.name for path in tmp_path.iterdir()] == [written.file]


def test_names_and_free_axes_are_in_the_file(tmp_path):
    onnx.write(graph_of(Layer()), tmp_path)
    runtime = session(tmp_path, "rows")
    assert [(given.name, given.shape) for given in runtime.get_inputs()] == [("rows", ["batch", "length", 4])]
    assert [(given.name, given.shape) for given in runtime.get_outputs()] == [
        ("products", ["batch", "length", 3]),
        ("means", ["batch", 3]),
    ]


@FORMS
@pytest.mark.parametrize("net", [Moody, Broken])
def test_what_differs_is_refused(tmp_path, form, net):
    with pytest.raises(LayoutError, match="gives means off by") as refused:
        form.write(graph_of(net()), tmp_path)
    assert len(str(refused.value).splitlines()) <= 3


@FORMS
def test_what_cannot_be_traced_is_refused(tmp_path, form):
    with pytest.raises(LayoutError, match="cannot be traced with free batch, length") as refused:
        form.write(graph_of(Deciding()), tmp_path)
    assert len(str(refused.value).splitlines()) <= 3


@FORMS
def test_other_precisions_are_refused(tmp_path, form):
    with pytest.raises(InputError, match="load the model in fp32"):
        form.write(graph_of(Layer().bfloat16()), tmp_path)


@pytest.mark.parametrize("name", ["onnxscript", "onnxruntime"])
def test_what_is_not_installed_is_named(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)  # as the import system marks what is not there
    with pytest.raises(InputError, match=rf"{name} is not installed.*\n.*bestiary\[onnx\]"):
        onnx.write(graph_of(Layer()), tmp_path)


def test_weights_beyond_what_a_file_holds_lie_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx, "LARGEST", 10)
    assert onnx.write(graph_of(Layer()), tmp_path).difference < 1e-6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.onnx", "rows.onnx.data"]


def test_a_net_in_training_is_left_so():
    net = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)).train()
    twin = evaluated(net)
    assert not any(part.training for part in twin.modules()) and all(part.training for part in net.modules())
    assert twin[0].weight is net[0].weight
