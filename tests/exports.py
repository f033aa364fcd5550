"""Exported folders, used as people use them: by what lies in them alone."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import torch


def session(folder: Path, name: str = "model") -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(folder / f"{name}.onnx", providers=["CPUExecutionProvider"])


def computed(folder: Path, *inputs, name: str = "model") -> list[np.ndarray]:
    """What onnxruntime makes of inputs in their order."""
    runtime = session(folder, name)
    arrays = [value.numpy() if isinstance(value, torch.Tensor) else value for value in inputs]
    return runtime.run(None, dict(zip([given.name for given in runtime.get_inputs()], arrays, strict=True)))


def example(folder: Path) -> str:
    """What the example in the README prints, run in the folder by a process of its own that does not know the zoo."""
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert "bestiary" not in code
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, encoding="utf-8", timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def close(ours, theirs) -> bool:
    ours, theirs = (torch.as_tensor(value).double() for value in (ours, theirs))
    return ours.shape == theirs.shape and bool((ours - theirs).abs().max() <= 1e-4 * max(1.0, float(theirs.abs().max())))
