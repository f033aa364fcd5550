import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bestiary.core.mapped import DTYPES, MappedTensors
from bestiary.core.streamed import Form, stream_safetensors, write_safetensors
from bestiary.errors import InputError, LayoutError


def write_raw(path: Path, header: bytes, data: bytes) -> Path:
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    return path


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_a_tensor_of_every_dtype_comes_back_bit_for_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    data = torch.randint(0, 2, (24 * dtype.itemsize,), dtype=torch.uint8)
    tensor = data.view(dtype).view(2, 3, 4)
    write_safetensors(tmp_path / "a.safetensors", {"a": tensor})
    tensors = MappedTensors(tmp_path / "a.safetensors")
    assert (tensors.dtype("a"), tensors.shape("a")) == (dtype, (2, 3, 4))
    assert torch.equal(tensors["a"].view(torch.uint8), tensor.view(torch.uint8))


def test_shared_strided_empty_and_scalar_tensors_are_written_each_in_full(tmp_path: Path) -> None:
    base = torch.arange(24.0).view(6, 4)
    given = {
        "base": base,
        "tied": base,
        "rows": base[2:4],
        "turned": base.t(),
        "empty": base[:0],
        "scalar": torch.tensor(3.0),
        "parameter": torch.nn.Parameter(base),
    }
    write_safetensors(tmp_path / "a.safetensors", given)
    tensors = MappedTensors(tmp_path / "a.safetensors")
    assert sorted(tensors) == sorted(given)
    for name, tensor in given.items():
        assert tensors[name].shape == tensor.shape
        assert torch.equal(tensors[name], tensor)


def test_equal_tensors_give_equal_files_in_whatever_order(tmp_path: Path) -> None:
    given = {"b": torch.ones(3), "a": torch.zeros(2, dtype=torch.int8), "c": torch.ones(1)}
    write_safetensors(tmp_path / "one", given, {"format": "pt"})
    write_safetensors(tmp_path / "two", dict(reversed(given.items())), {"format": "pt"})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert MappedTensors(tmp_path / "one").metadata == {"format": "pt"}


def test_a_written_file_has_the_mode_of_any_new_file_and_nothing_lies_beside_it(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    write_safetensors(tmp_path / "a.safetensors", {"a": torch.ones(1)})
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "other"]


@pytest.mark.parametrize(
    ("tensors", "fault"),
    [
        ({"a": torch.ones(2).to_sparse()}, "sparse"),
        ({"a": torch.ones(2, device="meta")}, "without data"),
        ({"a": torch.ones(2, dtype=torch.complex64)}, "complex64"),
        ({"../a": torch.ones(2)}, "looks like a path"),
        ({"a\x1b[2J": torch.ones(2)}, "control characters"),
    ],
)
def test_what_could_not_be_read_back_is_not_written(tmp_path: Path, tensors: dict[str, torch.Tensor], fault: str) -> None:
    with pytest.raises(LayoutError, match=fault):
        write_safetensors(tmp_path / "a.safetensors", tensors)
    assert list(tmp_path.iterdir()) == []


def test_the_library_reads_what_is_written(tmp_path: Path) -> None:
    given = {code: torch.randint(0, 2, (6 * dtype.itemsize,), dtype=torch.uint8).view(dtype) for code, dtype in DTYPES.items()}
    write_safetensors(tmp_path / "a.safetensors", given, {"format": "pt"})
    read = load_file(tmp_path / "a.safetensors")
    assert read.keys() == given.keys()
    assert all(torch.equal(read[name].view(torch.uint8), tensor.view(torch.uint8)) for name, tensor in given.items())


def test_a_stream_asks_for_its_tensors_one_at_a_time_and_leaves_nothing_when_one_fails(tmp_path: Path) -> None:
    forms = {name: Form(dtype, (2, 3)) for name, dtype in {"a": torch.int8, "b": torch.float32, "c": torch.float32}.items()}
    asked: list[str] = []

    def make(name: str) -> torch.Tensor:
        asked.append(name)
        if name == "a" and (tmp_path / "fail").exists():
            raise LayoutError("its numbers are gone")
        return torch.full((2, 3), ord(name), dtype=forms[name].dtype)

    stream_safetensors(tmp_path / "a.safetensors", forms, make)
    tensors = MappedTensors(tmp_path / "a.safetensors")
    assert asked == list(tensors) == ["b", "c", "a"]
    assert all(torch.equal(tensors[name], torch.full((2, 3), ord(name), dtype=forms[name].dtype)) for name in forms)

    (tmp_path / "fail").touch()
    with pytest.raises(LayoutError, match="its numbers are gone"):
        stream_safetensors(tmp_path / "b.safetensors", forms, make)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "fail"]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing/a\.safetensors cannot be written: No such file"):
        write_safetensors(tmp_path / "missing" / "a.safetensors", {"a": torch.ones(1)})


FULL_DISK = """
import resource, signal, sys, torch
from bestiary.core.streamed import write_safetensors
from bestiary.errors import DiskFullError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
try:
    write_safetensors(sys.argv[1], {"a": torch.ones(1 << 20)})
except DiskFullError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs setrlimit, which Windows does not have")
def test_a_disk_that_takes_no_more_leaves_the_old_file_and_no_partial(tmp_path: Path) -> None:
    target = tmp_path / "a.safetensors"
    target.write_bytes(b"as it was")
    command = [sys.executable, "-c", FULL_DISK, str(target)]
    run = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120)
    assert run.stdout.startswith(f"{target} cannot be written: ") and len(run.stdout.splitlines()) <= 3, run.stderr
    assert target.read_bytes() == b"as it was"
    assert list(tmp_path.iterdir()) == [target]


def test_tensors_are_views_that_may_be_trained_while_the_file_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_safetensors(path, {"a": torch.ones(4)})
    path.chmod(0o444)
    before = path.read_bytes()
    tensors = MappedTensors(path)
    tensors["a"].add_(1)
    assert torch.equal(tensors["a"], torch.full((4,), 2.0))
    assert path.read_bytes() == before
    assert torch.equal(MappedTensors(path)["a"], torch.ones(4))


def test_tensors_outlive_the_mapping_object_and_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_safetensors(path, {"a": torch.arange(4096.0)})
    tensor = MappedTensors(path)["a"]
    gc.collect()
    path.unlink()
    assert torch.equal(tensor, torch.arange(4096.0))


def test_tensors_come_in_the_order_in_which_they_lie(tmp_path: Path) -> None:
    header = {
        "late": {"dtype": "U8", "shape": [2], "data_offsets": [3, 5]},
        "early": {"dtype": "U8", "shape": [3], "data_offsets": [0, 3]},
    }
    tensors = MappedTensors(write_raw(tmp_path / "a", json.dumps(header).encode(), bytes(5)))
    assert list(tensors) == ["early", "late"]
    assert len(tensors) == 2 and "late" in tensors and "lost" not in tensors


def test_a_tensor_off_its_alignment_is_copied(tmp_path: Path) -> None:
    wanted = torch.tensor([1.5, -2.0])
    header = {
        "a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
        "b": {"dtype": "F32", "shape": [2], "data_offsets": [1, 9]},
    }
    data = bytes([7]) + bytes(wanted.view(torch.uint8).tolist())
    tensors = MappedTensors(write_raw(tmp_path / "a", json.dumps(header).encode(), data))
    assert torch.equal(tensors["b"], wanted)
    assert tensors["b"].data_ptr() % 4 == 0


def test_a_released_tensor_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_safetensors(path, {"a": torch.arange(100_000.0), "b": torch.ones(3), "e": torch.empty(0)})
    tensors = MappedTensors(path)
    tensor = tensors["a"]
    for name in tensors:
        tensors.release(name)
    assert torch.equal(tensor, torch.arange(100_000.0))
    assert torch.equal(tensors["b"], torch.ones(3))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=r"missing\.safetensors cannot be read"):
        MappedTensors(tmp_path / "missing.safetensors")
    with pytest.raises(LayoutError, match="cannot be read"):
        MappedTensors(tmp_path)


MEMORY = """
import os, sys, torch
from bestiary.core.mapped import MappedTensors

def resident(kind):
    for line in open("/proc/self/status"):
        if line.startswith(kind + ":"):
            return int(line.split()[1]) * 1024

torch.ones(1024).to(torch.bfloat16).sum()
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the high-water mark starts anew
before, anonymous = resident("VmRSS"), resident("RssAnon")
tensors = MappedTensors(sys.argv[1])
if sys.argv[2] == "load":
    net = {name: tensors[name] for name in tensors}
    assert sum(tensor.count_nonzero() for tensor in net.values()) == 0
    print(resident("RssAnon") - anonymous)
else:
    net = {}
    for name in tensors:
        net[name] = tensors[name].to(torch.bfloat16)
        tensors.release(name)
    print(resident("VmHWM") - before)
"""

MEGABYTE = 2**20


def peak_memory(path: Path, action: str) -> int:
    command = [sys.executable, "-c", MEMORY, str(path), action]
    run = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    return int(run.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc/self/status, which only Linux has")
@pytest.mark.parametrize("size", [256 * MEGABYTE, pytest.param(1024 * MEGABYTE, marks=pytest.mark.full)])
def test_memory_of_a_load_is_next_to_nothing_and_of_a_cast_the_model_plus_one_tensor(tmp_path: Path, size: int) -> None:
    one = 32 * MEGABYTE
    header = json.dumps(
        {
            f"layers.{i}.weight": {"dtype": "F32", "shape": [one // 4096, 1024], "data_offsets": [i * one, (i + 1) * one]}
            for i in range(size // one)
        }
    ).encode()
    header += b" " * (-len(header) % 8)
    path = write_raw(tmp_path / "a.safetensors", header, b"")
    os.truncate(path, path.stat().st_size + size)
    assert peak_memory(path, "load") < 50 * MEGABYTE
    assert peak_memory(path, "cast") < size // 2 + one + 20 * MEGABYTE
