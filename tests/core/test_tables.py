"""Rows of files: every format read, every broken file named, and no more memory than a chunk takes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import datasets
import pytest

from bestiary.core.tables import Files, by_split, find_files, open_rows
from bestiary.errors import InputError

ROWS = [{"text": "good, really", "label": 1}, {"text": "NA", "label": 0}, {"text": "déjà vu", "label": 1}]
WRITTEN = {
    "rows.csv": 'text,label\n"good, really",1\nNA,0\ndéjà vu,1\n',
    "rows.tsv": "text\tlabel\ngood, really\t1\nNA\t0\ndéjà vu\t1\n",
    "rows.jsonl": "".join(json.dumps(row) + "\n" for row in ROWS),
    "rows.json": json.dumps(ROWS),
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def opened(path: Path, **options: object) -> list[dict[str, object]]:
    return list(open_rows(find_files(str(path))["train"], "train", **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("name", WRITTEN)
def test_each_format_gives_the_same_rows(tmp_path: Path, name: str, streaming: bool) -> None:
    (tmp_path / name).write_text(WRITTEN[name], "utf-8")
    assert opened(tmp_path / name, streaming=streaming) == ROWS


@pytest.mark.parametrize("streaming", [False, True])
def test_parquet_and_text(tmp_path: Path, streaming: bool) -> None:
    datasets.Dataset.from_list(ROWS).to_parquet(tmp_path / "rows.parquet")
    assert opened(tmp_path / "rows.parquet", streaming=streaming) == ROWS
    (tmp_path / "rows.txt").write_text("one\n\nthree", "utf-8")
    assert opened(tmp_path / "rows.txt", streaming=streaming) == [{"text": "one"}, {"text": ""}, {"text": "three"}]


def test_a_table_lies_in_a_file_and_a_changed_file_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "rows [1]*.csv"  # a name that could be taken for a pattern
    path.write_text("text\nold\n")
    rows = open_rows(Files("csv", (str(path),)), "train")
    assert rows.cache_files and rows["text"][:] == ["old"]
    path.write_text("text\nnew\n")
    os.utime(path, (0, 0))
    assert open_rows(Files("csv", (str(path),)), "train")["text"][:] == ["new"]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.csv", b"", "empty"),
        ("a.txt", b"", "empty|no rows"),
        ("a.jsonl", b"", "empty"),
        ("a.parquet", b"", "empty"),
        ("a.csv", b"text,label\n", "no rows"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "b"}\n{"text": oops}\n', "line 3 is not JSON"),
        ("a.jsonl", b'{"text": "a"}\n["b"]\n', "line 2 is not a JSON object"),
        ("a.csv", b"text,label\na,1\nb,2,3\n", "line 3 has 3 columns, the header 2"),
        ("a.csv", b"text\nfine\ncaf\xe9\n", "line 3 is not UTF-8"),
        ("a.txt", b"caf\xe9\n", "line 1 is not UTF-8"),
        ("a.parquet", b"no parquet at all", "cannot be read as parquet"),
    ],
)  # fmt: skip
def test_a_broken_file_is_named(tmp_path: Path, name: str, content: bytes, complaint: str, streaming: bool) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=complaint) as caught:
        opened(path, streaming=streaming)
    assert str(caught.value).startswith(str(path)) and len(str(caught.value).splitlines()) <= 3


def test_of_several_files_the_broken_one_is_named(tmp_path: Path) -> None:
    for name, content in {"train-1.jsonl": '{"a": 1}\n', "train-2.jsonl": '{"a": 1}\n{\n'}.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=r"train-2\.jsonl: line 2"):
        opened(tmp_path)


@pytest.mark.parametrize("streaming", [False, True])
def test_columns_are_picked_and_a_missing_one_is_named(tmp_path: Path, streaming: bool) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(WRITTEN["rows.csv"], "utf-8")
    assert opened(path, columns=["label"], streaming=streaming) == [{"label": row["label"]} for row in ROWS]
    with pytest.raises(InputError, match=r"no column 'review'\nits columns: text, label"):
        opened(path, columns=["review"], streaming=streaming)


def test_a_folder_says_its_splits_by_names() -> None:
    names = ["README.md", "train-00.csv", "train-01.csv", "dev.csv", "my_test.csv", "notes.txt", ".hidden/train.csv"]
    assert by_split(names, "it") == {
        "train": Files("csv", ("train-00.csv", "train-01.csv")),
        "validation": Files("csv", ("dev.csv",)),
        "test": Files("csv", ("my_test.csv",)),
    }
    assert by_split(["train/0000.parquet", "test/0000.parquet"], "it")["test"].names == ("test/0000.parquet",)
    assert by_split(["constrained.txt", "b.txt"], "it") == {"train": Files("txt", ("constrained.txt", "b.txt"))}


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (["README.md", "a.xlsx"], "holds no file of rows"),
        (["train.csv", "train.jsonl"], "mixes formats: train.csv, train.jsonl"),
        (["small/train.csv", "large/train.csv"], "several data sets: train lies in large, small"),
    ],
)
def test_what_is_not_one_data_set_is_an_error(names: list[str], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        by_split(names, "it")


def test_files_and_patterns(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", "c.xml"):
        (tmp_path / name).write_text("text\nx\n")
    assert find_files(f"{tmp_path}/*.csv")["train"].names == (f"{tmp_path}/a.csv", f"{tmp_path}/b.csv")
    assert find_files(f"{tmp_path}/b.csv")["train"].names == (f"{tmp_path}/b.csv",)
    for wrong, complaint in {"*.tsv": "no file matches", "d.csv": "there is no file", "c.xml": "no known format"}.items():
        with pytest.raises(InputError, match=complaint):
            find_files(f"{tmp_path}/{wrong}")


MEMORY = """
import resource, sys
import datasets
from bestiary.core.tables import find_files, open_rows
datasets.config.HF_DATASETS_CACHE = sys.argv[2]
(small,) = [open_rows(find_files(sys.argv[1] + "/small.EXT")["train"], "train", streaming=STREAMING) for _ in "1"]
sum(len(row["text"]) for row in small)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
big = open_rows(find_files(sys.argv[1] + "/big.EXT")["train"], "train", streaming=STREAMING)
if STREAMING:
    rows = sum(1 for _ in big)
else:
    rows = len(big)
    big[rows - 1], big[0]
print(rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("suffix", ["txt", "jsonl"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, suffix: str, streaming: bool) -> None:
    """The file has 200 MB and may take 120: chunks of 10 MB, as Python's objects and as Arrow's."""
    text = "all work and no play makes a dull file " * 50
    line = (json.dumps({"text": text}) if suffix == "jsonl" else text) + "\n"
    lines = 200_000_000 // len(line)
    (tmp_path / f"small.{suffix}").write_text(line * 8000)
    with (tmp_path / f"big.{suffix}").open("w") as file:
        for _ in range(lines):
            file.write(line)
    program = MEMORY.replace("EXT", suffix).replace("STREAMING", str(streaming))
    command = [sys.executable, "-c", program, str(tmp_path), str(tmp_path / "cache")]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True, timeout=300)
    rows, grown = map(int, done.stdout.split())
    assert rows == lines
    assert grown * 1024 < 120_000_000
