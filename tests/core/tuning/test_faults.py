"""What goes wrong in the middle of a run, and what is left of it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bestiary.core.tuning.checkpoints import WholeFiles, read
from bestiary.core.tuning.fit import BEST, LAST, fit
from bestiary.core.tuning.memory import is_out_of_memory
from bestiary.core.tuning.order import Batches, Order
from bestiary.core.tuning.recipe import Recipe
from bestiary.errors import DiskFullError, InputError
from bestiary.vision.augmentation import PRESETS
from bestiary.vision.finetuning import Augmented, ImageClassification, Prepared
from tests.core.tuning import runs

ROOT = Path(__file__).parents[3]
RECIPE = Recipe(epochs=1, batch_size=4, workers=0, device="cpu", precision="fp32")


def attempt(rows: list, folder: Path, recipe: Recipe = RECIPE) -> None:
    augmentation = PRESETS["light"]
    order = Order.of(recipe, len(rows))
    net = runs.tuning(recipe, order.steps).net
    tuning = ImageClassification(net, augmentation, recipe=recipe, steps=order.steps, name_of="photo-{}.jpg".format)
    train = Batches(rows, Augmented(augmentation, runs.PREPROCESS))
    fit(tuning, train, Batches(rows[:3], Prepared(runs.PREPROCESS)), order, folder)


def test_a_loss_that_is_no_number_stops_and_names_its_batch(tmp_path, monkeypatch):
    seen = []

    def loss(self, inputs):
        seen.append(inputs.images.mean())
        return self.net(inputs.images).sum() * (float("nan") if len(seen) == 3 else 0.0)

    monkeypatch.setattr(ImageClassification, "loss", loss)
    with pytest.raises(InputError, match=r"the loss became nan at step 2, of photo-\d+\.jpg, .*\n.*--lr") as caught:
        attempt(runs.rows(16, 0), tmp_path)
    assert len(str(caught.value).splitlines()) == 2
    drawn = Order.of(RECIPE, 16).draw(2).rows
    assert all(f"photo-{row}.jpg" in str(caught.value) for row in drawn)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_row_that_cannot_be_read_stops_and_is_named(tmp_path, workers):
    rows = runs.rows(8, 0)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 no photo")
    rows[5]["image"] = str(tmp_path / "broken.jpg")
    with pytest.raises(InputError, match=r"broken\.jpg") as caught:
        attempt(rows, tmp_path / "run", Recipe(epochs=1, batch_size=4, workers=workers, device="cpu"))
    assert len(str(caught.value).splitlines()) <= 3


HUNGRY = """
import resource, sys
from pathlib import Path
from bestiary.core.tuning.fit import fit
from bestiary.core.tuning.order import Batches, Order
from bestiary.core.tuning.recipe import Recipe
from bestiary.errors import InputError
from bestiary.table import find_architecture
from bestiary.text.finetuning import PackedRows, TextClassification

architecture = find_architecture("bert")
sizes = {"layers": 2, "width": 64, "heads": 2, "hidden": 128, "vocabulary": 50, "positions": 64}
sizes |= {"head": "classes", "num_classes": 2}

def attempt(count, folder):
    rows = [{"tokens": [7] * 64, "label": number % 2} for number in range(count)]
    recipe = Recipe(epochs=1, batch_size=count, workers=0, device="cpu")
    order = Order.of(recipe, count)
    tuning = TextClassification(architecture.build(architecture.configure(sizes)), recipe=recipe, steps=order.steps)
    fit(tuning, Batches(rows, PackedRows()), Batches(rows[:2], PackedRows()), order, Path(sys.argv[1]) / folder)

attempt(4, "first")  # whatever is loaded on the way has been loaded
used = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (used + 500_000_000,) * 2)
try:
    attempt(4096, "second")
except InputError as error:
    print(error)
"""


def test_a_batch_that_does_not_fit_in_memory(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", HUNGRY, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=150, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = done.stdout.splitlines()[-2:]
    assert first == "a batch of 4096 rows does not fit in the memory of cpu", done.stderr[-2000:]
    fitting, _, accumulate = second.partition(" do: --batch-size ")
    assert int(fitting) in (2048, 1024, 512, 256, 128) and f"--accumulate {4096 // int(fitting)} " in accumulate


def test_what_counts_as_out_of_memory():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value) and is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(RuntimeError("a shape does not fit"))


FULL = """
import resource, sys
from pathlib import Path
from bestiary.core.tuning.checkpoints import WholeFiles
from bestiary.errors import DiskFullError
import torch
files, path = WholeFiles(), Path(sys.argv[1]) / "last.ckpt"
files.save_checkpoint({"step": 1, "weights": torch.ones(1000)}, path)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    files.save_checkpoint({"step": 2, "weights": torch.ones(100_000)}, path)
except DiskFullError as error:
    print(error)
"""


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path):
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "last.ckpt cannot be written: File too large" in done.stdout and "go on with --resume" in done.stdout
    assert os.listdir(tmp_path) == [LAST] and read(tmp_path / LAST)["step"] == 1


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskFullError, match="nothing was saved before"):
        WholeFiles().save_checkpoint({}, tmp_path / "file" / BEST)


def test_a_checkpoint_runs_nothing(tmp_path):
    class Payload:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "payload"),))

    torch.save({"global_step": Payload()}, tmp_path / LAST)
    with pytest.raises(InputError, match="is no checkpoint"):
        read(tmp_path / LAST)
    assert not (tmp_path / "payload").exists()
