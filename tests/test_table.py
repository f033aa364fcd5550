"""The fixed tables, and what installed packages add to them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import bestiary
from bestiary.table import ARCHITECTURES, TASKS, find_architecture, find_task

MODULE = """
from dataclasses import dataclass
from torch import nn
from bestiary.core.architecture import Architecture

@dataclass(frozen=True, kw_only=True)
class Config:
    width: int = 4

ARCHITECTURE = Architecture(name="chimera", config=Config, net=lambda config: nn.Linear(config.width, 2), layouts={})
"""
CARD = """---
license: mit
bestiary:
  name: chimera-tiny
  task: text-embedding
  architecture: chimera
  config: {width: 6}
  layout: native
  files:
    model.safetensors: {size: 1, sha256: 0000000000000000000000000000000000000000000000000000000000000000, role: weights}
  sources:
    - path: .
  checked: parity
---
"""


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_says_its_own_name(name):
    assert find_architecture(name).name == name


@pytest.mark.parametrize("name", TASKS)
def test_every_task_can_be_found(name):
    assert callable(find_task(name))


def test_what_is_not_in_a_table_is_refused_with_what_is():
    with pytest.raises(bestiary.CardError, match=r"no architecture .os\.system. in the zoo\nexpected one of: ast"):
        find_architecture("os.system")
    with pytest.raises(bestiary.CardError, match="no task 'fortune-telling'"):
        find_task("fortune-telling")


def test_an_installed_package_adds_an_architecture_and_its_cards(tmp_path: Path):
    """Its metadata are what pip would have written."""
    (tmp_path / "chimera" / "cards").mkdir(parents=True)
    (tmp_path / "chimera" / "__init__.py").write_text(MODULE)
    (tmp_path / "chimera" / "cards" / "chimera-tiny.md").write_text(CARD)
    metadata = tmp_path / "chimera-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: chimera\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[bestiary.architectures]\nchimera = chimera:ARCHITECTURE\nbert = chimera:ARCHITECTURE\n\n"
        "[bestiary.cards]\nchimera = chimera.cards\n"
    )
    program = (
        "import bestiary\n"
        "from bestiary.table import find_architecture\n"
        "print(bestiary.build('chimera-tiny').in_features, find_architecture('bert').name)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["6", "bert"], done.stderr
