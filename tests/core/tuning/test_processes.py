"""Two real processes tune what one tunes alone with batches twice as large."""

import copy
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bestiary.core.tuning.fit import BEST, LAST
from bestiary.core.tuning.history import read_history
from bestiary.core.tuning.processes import read_whole, step_of, without_weights
from bestiary.errors import InputError
from tests.core.tuning import runs

ROOT = Path(__file__).parents[3]
DEADLINE = 150  # seconds for one run


def start(folder: Path, strategy: str, *more: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "tests.core.tuning.runs", str(folder), strategy, *more]
    with (folder.parent / "log").open("a") as log:
        return subprocess.Popen(
            command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )


def finish(folder: Path, strategy: str, *more: str) -> None:
    process = start(folder, strategy, *more)
    try:
        assert process.wait(DEADLINE) == 0, (folder.parent / "log").read_text()[-3000:]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone") / "run"
    return folder, runs.run_plainly(folder)


def close(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.allclose(one[name], other[name], atol=1e-5) for name in one)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_the_curves_are_those_of_one_process(alone, tmp_path, strategy):
    folder = tmp_path / "run"
    finish(folder, strategy)
    expected, found = (read_history(each / "logs") for each in (alone[0], folder))
    for name in ("loss", "val_loss"):
        steps = [step for step, _ in expected[name]]
        assert [step for step, _ in found[name]] == steps and len(steps) >= 2
        assert [value for _, value in found[name]] == pytest.approx([value for _, value in expected[name]], abs=2e-5)
    nets = [torch.load(folder / f"net-{rank}.pt") for rank in (0, 1)]
    assert close(nets[0], alone[1].net.state_dict()) and close(nets[1], nets[0])


def test_what_two_processes_saved_is_resumed_by_one(alone, tmp_path):
    """Killed with both, and gone on with by a single one, on batches as large as theirs together."""
    folder = tmp_path / "run"
    process, begin = start(folder, "fsdp"), time.monotonic()
    try:
        while not ((folder / LAST).is_dir() and step_of(folder / LAST) >= 3):
            assert process.poll() is None, (folder.parent / "log").read_text()[-3000:]
            assert time.monotonic() - begin < DEADLINE
            time.sleep(0.02)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    weights = read_whole(folder / LAST)["state_dict"]
    assert {name.removeprefix("net.") for name in weights} == alone[1].net.state_dict().keys()
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1"]
    command += ["-m", "tests.core.tuning.runs", str(folder), "fsdp", "--resume", "--doubled"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=DEADLINE, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert (folder / BEST).is_dir() and close(torch.load(folder / "net-0.pt"), alone[1].net.state_dict())


def test_a_copy_without_weights_has_all_else():
    net = runs.tuning(runs.RECIPE, 1).net
    twin = without_weights(net)
    assert {tensor.device.type for tensor in [*twin.parameters(), *twin.buffers()]} == {"meta"}
    twin.load_state_dict(copy.deepcopy(net.state_dict()), assign=True)
    images = torch.randn(1, 3, 32, 32)
    assert torch.equal(twin.eval()(images), net.eval()(images))


def test_an_average_is_not_sharded(tmp_path):
    with pytest.raises(InputError, match="leave out --ema"):
        runs.run(tmp_path, recipe=replace(runs.RECIPE, strategy="fsdp"))
