"""A run that was killed goes on to the weights that it would have had, to the last bit."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from bestiary.core.tuning.checkpoints import read
from bestiary.core.tuning.fit import BEST, LAST
from bestiary.core.tuning.history import read_history
from bestiary.errors import InputError
from tests.core.tuning import runs

ROOT = Path(__file__).parents[3]
DEADLINE = 150  # seconds for one run


def start(folder: Path, *more: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "tests.core.tuning.runs", str(folder), *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (folder.parent / f"{folder.name}.log").open("a") as log:
        return subprocess.Popen(command, cwd=ROOT, stderr=log, stdout=log, start_new_session=True, env=environment)


def finish(folder: Path, *more: str) -> None:
    process = start(folder, *more)
    assert process.wait(DEADLINE) == 0, (folder.parent / f"{folder.name}.log").read_text()


def kill_after(folder: Path, step: int, *more: str) -> None:
    """Kill a run and the workers that it started, at a moment after it saved that step or a later one."""
    process, begin = start(folder, *more), time.monotonic()
    try:
        while not ((folder / LAST).exists() and read(folder / LAST)["global_step"] >= step):
            assert process.poll() is None, (folder.parent / f"{folder.name}.log").read_text()
            assert time.monotonic() - begin < DEADLINE
            time.sleep(0.02)
        time.sleep(random.random() * 0.3)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run that nobody killed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    finish(folder)
    return folder


def states(folder: Path) -> list[torch.Tensor]:
    last, best = read(folder / LAST), read(folder / BEST)
    tensors = [*last["state_dict"].values(), *last["current_model_state"].values(), *best["state_dict"].values()]
    for state in last["optimizer_states"][0]["state"].values():
        tensors += state.values()
    return tensors


def check_equal(one: Path, other: Path) -> None:
    assert read(one / LAST)["global_step"] == read(other / LAST)["global_step"] == 32
    assert all(torch.equal(*pair) for pair in zip(states(one), states(other), strict=True))


def test_killed_at_any_step_a_run_goes_on_as_if_nothing_had_been(whole, tmp_path):
    step = random.choice([3, 6, 8, 12, 18, 24])
    kill_after(tmp_path / "run", step)
    finish(tmp_path / "run", "--resume")
    check_equal(tmp_path / "run", whole)
    before, after = (read_history(folder / "logs") for folder in (whole, tmp_path / "run"))
    assert before["val_loss"] == after["val_loss"]  # of the attempt that was killed, too


@pytest.mark.parametrize("send", [os.kill, os.killpg], ids=["to the run", "to the workers too, as a terminal does"])
def test_stopped_by_a_person_it_says_how_to_go_on(send, tmp_path):
    process, begin = start(tmp_path / "run", "--endless"), time.monotonic()
    try:
        while not (tmp_path / "run" / LAST).exists():
            assert process.poll() is None and time.monotonic() - begin < DEADLINE
            time.sleep(0.02)
        send(process.pid, signal.SIGINT)
        assert process.wait(DEADLINE) != 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert re.search(r"stopped at step \d+ of 80000; go on with --resume", (tmp_path / "run.log").read_text())


@pytest.mark.full
@pytest.mark.parametrize("point", range(5))
def test_five_random_points(whole, tmp_path, point):
    steps = random.sample(range(1, 30), 2)
    kill_after(tmp_path / "run", min(steps))
    kill_after(tmp_path / "run", max(steps), "--resume")
    finish(tmp_path / "run", "--resume")
    check_equal(tmp_path / "run", whole)


def test_a_checkpoint_that_is_none(tmp_path):
    (tmp_path / LAST).write_bytes(b"half")
    with pytest.raises(InputError, match=r"last\.ckpt is no checkpoint.*\n.*without --resume"):
        runs.run(tmp_path, resume=True)
