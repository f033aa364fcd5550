from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from bestiary.core.convert import convert_checkpoint
from bestiary.core.mapped import MappedTensors
from bestiary.errors import LayoutError

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")

STATE = {"weight": torch.arange(6.0).view(2, 3), "steps": torch.tensor(7)}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "model.pth"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    "content",
    [
        STATE,
        OrderedDict(STATE),
        {"state_dict": STATE, "epoch": 3, "optimizer": {"lr": 0.1}},
        {"model_state_dict": STATE, "dims": {"width": 2}},
        {"model": STATE},
        {"state_dict": STATE, "model": "the name of the architecture"},
    ],
    ids=["flat", "ordered", "state_dict", "model_state_dict", "model", "model is a name"],
)
def test_the_tensors_arrive_under_their_names(source: Path, target: Path, content: Any, zipped: bool) -> None:
    torch.save(content, source, _use_new_zipfile_serialization=zipped)
    convert_checkpoint(source, target)
    tensors = MappedTensors(target)
    assert tensors.metadata == {}
    assert sorted(tensors) == sorted(STATE)
    assert all(torch.equal(tensors[name], tensor) and tensors.dtype(name) == tensor.dtype for name, tensor in STATE.items())


def test_tied_and_turned_tensors_are_written_in_full(source: Path, target: Path) -> None:
    weight = torch.arange(6.0).view(2, 3)
    torch.save({"embedding": weight, "head": weight, "turned": weight.t(), "row": weight[1]}, source)
    convert_checkpoint(source, target)
    tensors = MappedTensors(target)
    assert torch.equal(tensors["embedding"], weight) and torch.equal(tensors["head"], weight)
    assert torch.equal(tensors["turned"], weight.t()) and torch.equal(tensors["row"], weight[1])


def test_equal_checkpoints_become_equal_files(source: Path, target: Path) -> None:
    torch.save(STATE, source)
    convert_checkpoint(source, target)
    torch.save(dict(reversed(STATE.items())), source, _use_new_zipfile_serialization=False)
    convert_checkpoint(source, target.with_name("other"))
    assert target.read_bytes() == target.with_name("other").read_bytes()


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ([torch.ones(1)], "holds a list"),
        (torch.ones(1), "holds a Tensor"),
        ({}, "holds no tensor"),
        ({"weight": torch.ones(1), "epoch": 3}, "key 'epoch' holds a int"),
        ({"state_dict": {"weight": torch.ones(1), "deeper": {}}}, "key 'deeper' holds a dict"),
        ({3: torch.ones(1)}, "key 3 holds"),
        ({"model": STATE, "state_dict": STATE}, "several state dicts: state_dict, model"),
        ({"weight": torch.ones(2, dtype=torch.complex64)}, "complex64"),
        ({"weight": torch.ones(2).to_sparse()}, "sparse"),
        ({"../weight": torch.ones(2)}, "looks like a path"),
        ({"weight": torch.ones(1).expand(10_000_000)}, "would grow to 40000000 bytes"),
    ],
)
def test_anything_else_is_refused_and_nothing_is_left(source: Path, target: Path, content: Any, fault: str) -> None:
    torch.save(content, source)
    with pytest.raises(LayoutError, match=fault) as caught:
        convert_checkpoint(source, target)
    assert str(source) in str(caught.value) and len(str(caught.value).splitlines()) <= 3
    assert not target.exists()


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("kept", [0, 1, 10, 300, 1000])
def test_a_checkpoint_cut_short_is_refused(source: Path, target: Path, zipped: bool, kept: int) -> None:
    torch.save({"weight": torch.ones(1000)}, source, _use_new_zipfile_serialization=zipped)
    source.write_bytes(source.read_bytes()[:kept])
    with pytest.raises(LayoutError):
        convert_checkpoint(source, target)
    assert not target.exists()


def test_a_torchscript_archive_is_named_as_one(source: Path, target: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), source)
    with pytest.raises(LayoutError, match="TorchScript"):
        convert_checkpoint(source, target)


def test_the_checkpoint_may_be_read_only_and_stays_as_it_is(source: Path, target: Path) -> None:
    torch.save(STATE, source)
    source.chmod(0o444)
    before = source.read_bytes()
    convert_checkpoint(source, target)
    assert source.read_bytes() == before
