"""Every example of the documents runs, in order, beside a photo `cat.jpg` and a sound `speech.wav`, and prints what is said.

    ```python         runs; all of a document in one process. A ```text block right below is what it prints.
    ```console        each `$ command` runs in a shell; the lines below a command, if any, are what it prints.
    ```markdown path  is a file and is written before anything runs; so is ```python with a path.

In what is printed `...` stands for anything.
"""

import doctest
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.documents import ROOT, Block, blocks, commands

DOCUMENTS = ["README.md", "CONTRIBUTING.md"]
RUNNER = """
import json, sys
names = {"__name__": "__main__"}
for line, body in json.loads(sys.argv[2]):
    print("\\0", end="")
    exec(compile("\\n" * (line - 1) + body, sys.argv[1], "exec"), names)
"""
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def programs(document: str) -> list[tuple[Block, str | None]]:
    """The Python blocks to run, each with what it is said to print."""
    found = blocks(document)
    following = [*found[1:], None]
    return [
        (block, below.body if below and below.language == "text" else None)
        for block, below in zip(found, following, strict=True)
        if block.language == "python" and block.path is None
    ]


def shell_commands(document: str) -> list[tuple[str, str]]:
    return [pair for block in blocks(document) if block.language == "console" for pair in commands(block)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """For each document a folder with the photo and the files that the document spells out."""
    made = {document: tmp_path_factory.mktemp(document.partition(".")[0]) for document in DOCUMENTS}
    for document, folder in made.items():
        shutil.copy(ROOT / "scripts" / "chelsea.jpg", folder / "cat.jpg")
        shutil.copy(ROOT / "scripts" / "password.wav", folder / "speech.wav")
        (folder / "path" / "to").mkdir(parents=True)
        (folder / "path" / "to" / "clone").symlink_to(ROOT, target_is_directory=True)
        for block in blocks(document):
            if block.path:
                path = folder / block.path
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.body, encoding="utf-8")
    return made


def run(command: list[str], folder: Path) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(folder)}
    completed = subprocess.run(command, cwd=folder, env=environment, capture_output=True, encoding="utf-8", timeout=600)
    assert completed.returncode == 0, f"{completed.stdout}\n{completed.stderr}"
    return completed.stdout


def assert_printed(expected: str, printed: str, where: str) -> None:
    assert doctest.OutputChecker().check_output(expected, printed, FLAGS), f"{where} printed:\n{printed}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_python(document: str, folders: dict[str, Path]) -> None:
    found = programs(document)
    assert found
    code = json.dumps([(block.line, block.body) for block, _ in found])
    outputs = run([sys.executable, "-c", RUNNER, document, code], folders[document]).split("\0")[1:]
    for (block, expected), printed in zip(found, outputs, strict=True):
        assert_printed(expected or "", printed, f"{document}, line {block.line},")


@pytest.mark.parametrize(
    ("document", "command", "expected"),
    [
        pytest.param(document, command, expected, id=f"{document}: {command}")
        for document in DOCUMENTS
        for command, expected in shell_commands(document)
    ],
)
def test_console(document: str, command: str, expected: str, folders: dict[str, Path]) -> None:
    printed = run(["bash", "-c", command], folders[document])
    if expected:
        assert_printed(expected, printed, f"$ {command}")
