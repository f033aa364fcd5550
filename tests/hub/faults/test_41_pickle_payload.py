"""Fault 41: a pickle with a payload, in every layout that may hold one, is never executed and ends in a LayoutError."""

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bestiary.core.convert import convert_checkpoint
from bestiary.core.mapped import MappedTensors
from bestiary.errors import LayoutError

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")


class Payload:
    """Unpickled, it makes a folder: proof that code was run."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.proof),)


def zip_format(path: Path, content: Any) -> None:
    torch.save(content, path)


def legacy_format(path: Path, content: Any) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def bare_pickle(path: Path, content: Any) -> None:
    path.write_bytes(pickle.dumps(content))


def torchscript_archive(path: Path, content: Any) -> None:
    """A sound TorchScript archive in which both pickles are replaced."""
    sound = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), sound)
    with zipfile.ZipFile(sound) as source, zipfile.ZipFile(path, "w") as target:
        for member in source.namelist():
            target.writestr(member, pickle.dumps(content) if member.endswith(".pkl") else source.read(member))


LAYOUTS = [zip_format, legacy_format, bare_pickle, torchscript_archive]


@pytest.fixture
def proof(tmp_path: Path) -> Path:
    return tmp_path / "the payload was run"


@pytest.mark.parametrize("write", LAYOUTS)
def test_the_payload_is_real(tmp_path: Path, proof: Path, write: Callable[[Path, Any], None]) -> None:
    path = tmp_path / "model.pth"
    write(path, {"weight": torch.ones(2), "payload": Payload(proof)})
    if write is torchscript_archive:
        with zipfile.ZipFile(path) as archive:
            pickle.loads(archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl"))))
    elif write is bare_pickle:
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert proof.is_dir()


@pytest.mark.parametrize("write", LAYOUTS)
@pytest.mark.parametrize("forced", [False, True])
def test_a_payload_is_not_run(
    tmp_path: Path, proof: Path, write: Callable[[Path, Any], None], forced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if forced:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    path = tmp_path / "model.pth"
    write(path, {"weight": torch.ones(2), "payload": Payload(proof)})
    with pytest.raises(LayoutError) as caught:
        convert_checkpoint(path, tmp_path / "model.safetensors")
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 3
    assert list(tmp_path.iterdir()) == [path]


def test_a_pickle_under_the_name_of_safetensors_is_not_run(tmp_path: Path, proof: Path) -> None:
    path = tmp_path / "model.safetensors"
    bare_pickle(path, Payload(proof))
    with pytest.raises(LayoutError):
        MappedTensors(path)
    with pytest.raises(LayoutError):
        convert_checkpoint(path, tmp_path / "converted.safetensors")
    assert list(tmp_path.iterdir()) == [path]


def test_a_whole_pickled_module_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save(torch.nn.Linear(2, 2), path)
    with pytest.raises(LayoutError, match="nothing in it was run"):
        convert_checkpoint(path, tmp_path / "model.safetensors")
    assert list(tmp_path.iterdir()) == [path]
