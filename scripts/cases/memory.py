"""What memory the load of a 1 GB file takes at its peak, beyond the file that is mapped."""

from __future__ import annotations

import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bestiary.scripts.benchmark import Bench, Row, Skipped, limit

# The first load pays for imports and code; what the second one adds is its own.
CHILD = """
import sys, bestiary
bestiary.load("minilm-l6-v2", device="cpu", precision="fp32")
print("ready", flush=True)
sys.stdin.readline()
model = bestiary.load(sys.argv[1], device="cpu", precision=sys.argv[2])
print(sum(parameter.numel() * parameter.element_size() for parameter in model.net.parameters()), flush=True)
sys.stdin.readline()
"""
SHAPE = {"num_hidden_layers": 18, "hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096}  # 1.03 GB at fp32
LARGEST_TENSOR = 30522 * 1024 * 4  # bytes of the token embedding
SAMPLE = 0.001  # seconds between two looks; filling the largest tensor takes some twenty times that


def memory(bench: Bench) -> Iterator[Row]:
    """Peak of the load with the file's own precision, and with a cast."""
    if not Path("/proc/self/status").exists():
        raise Skipped("it reads /proc, which only Linux has")
    with tempfile.TemporaryDirectory() as folder:
        bench.say("writing a 1 GB model")
        write_model(Path(folder))
        bench.say("loading it as it is")
        anonymous, _, _ = peak_of_load(folder, "fp32")
        yield limit("1 GB loaded in its own precision: peak over the mapped file", anonymous, unit="B", at_most=50e6)
        bench.say("loading it with a cast")
        _, resident, model = peak_of_load(folder, "bf16")
        what = "1 GB cast to bf16: peak over the model in bf16, pages of the file included"
        yield limit(what, resident - model, unit="B", at_most=LARGEST_TENSOR)


def write_model(folder: Path) -> None:
    """Write a random BERT of 1.03 GB as transformers publishes it, with the tokenizer of minilm-l6-v2."""
    from transformers import BertConfig, BertModel
    from transformers.utils import logging

    import bestiary

    logging.disable_progress_bar()
    BertModel(BertConfig(**SHAPE), add_pooling_layer=False).save_pretrained(folder)
    shutil.copy(bestiary.load("minilm-l6-v2", device="cpu").file("tokenizer"), folder / "tokenizer.json")


def peak_of_load(folder: str, precision: str) -> tuple[int, int, int]:
    """Bytes that a new process gains at most while it loads, first anonymous, then resident of any kind; and the model's."""
    command = [sys.executable, "-c", CHILD, folder, precision]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as child:
        assert child.stdin and child.stdout
        child.stdout.readline()
        before = peak = _memory(child.pid)
        child.stdin.write("load\n")
        while not select.select([child.stdout], [], [], SAMPLE)[0]:
            peak = tuple(map(max, peak, _memory(child.pid)))
        model = int(child.stdout.readline())
        child.stdin.write("leave\n")
    return peak[0] - before[0], peak[1] - before[1], model


def _memory(process: int) -> tuple[int, ...]:
    """Anonymous and resident bytes of a process."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
    return tuple(int(lines[name].split()[0]) * 1024 for name in ("RssAnon", "VmRSS"))
