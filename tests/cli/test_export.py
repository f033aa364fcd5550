"""export: a model for other programs, as a process; a tiny random one of the card's own shape."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Zoo
from tests.cli.test_run import files  # noqa: F401
from tests.exports import example


@pytest.fixture
def tiny(zoo: Zoo, files: dict[str, bytes]) -> Zoo:  # noqa: F811
    zoo.add("tiny", files)
    return zoo


def test_a_graph_is_written_where_its_name_says_and_checked(tiny: Zoo) -> None:
    completed = tiny.run("export", "tiny", "--to", "torch.export")
    assert completed.returncode == 0, completed.stderr
    rows = [line.split("\t") for line in completed.stdout.splitlines()]
    assert [Path(row[0]).name for row in rows] == ["README.md", "model.json", "model.pt2", "tokenizer.json"]
    assert {Path(row[0]).parent for row in rows} == {Path("tiny-torch.export")}
    assert "model.pt2: batch, length free; computed as by the net, within" in completed.stderr
    assert example(tiny.folder / "tiny-torch.export").count("\n") == 3


def test_json_tells_of_inputs_and_outputs(tiny: Zoo) -> None:
    found = {Path(record["path"]).name: record for record in tiny.json("export", "tiny", "--to", "onnx", "-o", "out")["files"]}
    assert found["model.onnx"]["inputs"] == {"tokens": ["batch", "length"], "mask": ["batch", "length"]}
    assert found["model.onnx"]["outputs"]["vectors"] == ["batch", 8]
    assert 0 <= found["model.onnx"]["difference"] < 1e-4
    assert found["model.onnx"]["size"] == (tiny.folder / "out" / "model.onnx").stat().st_size
    assert found["tokenizer.json"]["inputs"] is None


def test_published_layouts_are_written_in_the_precision_asked_for(tiny: Zoo) -> None:
    completed = tiny.run("export", "tiny", "--to", "transformers", "--output", "theirs", "--precision", "bf16", "-q")
    assert completed.returncode == 0 and completed.stderr == ""
    assert "theirs/model.safetensors" in completed.stdout.splitlines()
    header = (tiny.folder / "theirs" / "model.safetensors").read_bytes()[8:200]
    assert b'"BF16"' in header
    assert json.loads((tiny.folder / "theirs" / "config.json").read_text())["model_type"] == "bert"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--to", "onyx"], 10, "it can to: transformers, onnx, torch.export"),
        (["--to", "gguf-f16"], 10, "it can to: transformers, onnx, torch.export"),
        (["--to", "onnx", "-o", "cards"], 11, "cards is there already"),
        (["--to", "onnx", "--precision", "bf16"], 11, "load the model in fp32"),
        (["--to", "onnx", "--with-preprocessing"], 11, "no preprocessing in a graph of texts"),
        (["--to", "transformers", "--with-preprocessing"], 11, "hold no preprocessing"),
        ([], 2, "Missing option '--to'"),
    ],
)
def test_what_cannot_be_is_told_and_leaves_nothing(tiny: Zoo, arguments: list[str], code: int, message: str) -> None:
    before = sorted(path.name for path in tiny.folder.iterdir())
    completed = tiny.run("export", "tiny", *arguments)
    assert (completed.returncode, completed.stdout) == (code, "")
    assert message in completed.stderr and len(completed.stderr.splitlines()) <= 3
    assert sorted({path.name for path in tiny.folder.iterdir()} - {"home"}) == [name for name in before if name != "home"]
