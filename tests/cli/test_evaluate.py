"""evaluate: real models on data sets by name and on files, and what a person is told."""

import json
import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

import bestiary
from bestiary.cli import main
from bestiary.core.evaluation import Evaluation
from bestiary.evaluation import command_line, metric_entries
from bestiary.hub.card import Metric, parse_card
from tests.cli.conftest import Zoo
from tests.text.models import write_model

ROOT = Path(bestiary.__file__).parent.parent
PAIRS = ("evaluate", "minilm-l6-v2", "--data", "openmoji", "--column", "positive=subgroup")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str]:
    assert main(arguments) == 0
    return capsys.readouterr()


def complaint(capsys: pytest.CaptureFixture[str], code: int, *arguments: str) -> str:
    assert main(arguments) == code
    out, said = capsys.readouterr()
    assert out == ""
    lines = [line for line in said.splitlines() if not line.endswith(" rows")]  # what was understood of the data
    assert lines[0].startswith("error: ") and len(lines) <= 3
    return "\n".join(lines)


def write_rows(path: str, *rows: dict[str, object]) -> None:
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_row_for_each_precision_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    out, said = printed(capsys, *PAIRS, "--precision", "fp32", "--precision", "bf16")
    first, second = (line.split("\t") for line in out.splitlines())
    assert (first[0], second[0], first[-1]) == ("fp32", "bf16", "183")
    exact, rough = ([float(value) for value in row[1:4]] for row in (first, second))
    assert exact == pytest.approx([0.4590, 0.7596, 0.5890], abs=0.006)
    assert rough == pytest.approx(exact, abs=0.03) and rough != exact
    assert said == "minilm-l6-v2 on openmoji, test: 183 rows\n"


def test_json_says_all_that_is_needed_to_measure_again(capsys: pytest.CaptureFixture[str]) -> None:
    out, said = printed(capsys, *PAIRS, "--limit", "50", "--json")
    content = json.loads(out)
    (found,) = content["evaluations"]
    assert content["schema"] == 1 and list(found["metrics"]) == ["recall_at_1", "recall_at_5", "mrr"]
    assert (found["model"], found["dataset"], found["split"]) == ("minilm-l6-v2", "openmoji", "test")
    assert (found["rows"], found["of_rows"], found["precision"]) == (50, 183, "fp32")
    assert found["weights"] == {"model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"}
    assert "the first 50 of 183 rows" in said
    command = "bestiary evaluate minilm-l6-v2 --data openmoji --split test --limit 50 --column positive=subgroup"
    assert found["command"] == command
    again, _ = printed(capsys, *shlex.split(command)[1:], "--json")
    assert json.loads(again)["evaluations"][0]["metrics"] == found["metrics"]


def test_the_script_is_the_program() -> None:
    write_rows("pairs.jsonl", {"question": "a cat", "positive": "a kitten"}, {"question": "the sea", "positive": "an ocean"})
    arguments = ["minilm-l6-v2", "--data", "pairs.jsonl", "--split", "train", "--text", "question"]
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "evaluate.py", *arguments], capture_output=True, encoding="utf-8", timeout=120
    )
    assert (done.stdout, done.returncode) == ("fp32\t1.0\t1.0\t1.0\t2\n", 0), done.stderr


def test_a_folder_of_photos(capsys: pytest.CaptureFixture[str]) -> None:
    photo = Image.open(ROOT / "scripts" / "chelsea.jpg")
    for split, label in (("train", "goldfish"), ("val", "goldfish"), ("val", "tiger cat")):
        Path(split, label).mkdir(parents=True)
        photo.save(Path(split, label, "photo.png"))
    Path("val", "tiger cat", "broken.png").write_bytes(b"no image")
    ask = ("evaluate", "efficientnet-lite0", "--data", "./")
    assert "broken.png" in complaint(capsys, 11, *ask)
    with pytest.warns(UserWarning, match=r"skipped 1 of 3 .*broken\.png"):
        out, said = printed(capsys, *ask, "--errors", "skip")
    precision, *metrics = out.split("\t")
    assert precision == "fp32" and [float(value) for value in metrics] == pytest.approx([0.5, 0.5, 1 / 3, 2])
    assert "./, validation: 2 rows" in said
    with pytest.warns(UserWarning, match="skipped"):
        out, _ = printed(capsys, *ask, "--errors", "skip", "--classes")
    rows = [line.split("\t") for line in out.splitlines()]
    assert rows == [["goldfish", "fp32", "0.0", "0.0", "0.0", "1"], ["tiger cat", "fp32", "0.5", "1.0", rows[1][4], "1"]]


def test_on_a_terminal_mistakes_are_shown_below_the_table(zoo: Zoo) -> None:
    photo = Image.open(ROOT / "scripts" / "chelsea.jpg")
    (zoo.folder / "test" / "goldfish").mkdir(parents=True)
    photo.save(zoo.folder / "test" / "goldfish" / "photo.png")
    zoo.environment["BESTIARY_HOME"] = os.environ["BESTIARY_HOME"]
    code, shown = zoo.terminal("evaluate", "efficientnet-lite0", "--data", "./")
    assert code == 0, shown
    assert "top5_accuracy" in shown and "0.0000" in shown
    assert shown.index("the most frequent mistakes") < shown.index("goldfish") < shown.index("tiger cat")


def test_a_language_model_on_the_lines_of_a_text(capsys: pytest.CaptureFixture[str]) -> None:
    write_model(Path("writer"))
    Path("test.txt").write_text("Gravity is a force\nbetween masses.\n")
    ask = ("evaluate", "./writer", "--data", "test.txt", "--split", "train", "--json")
    found = [json.loads(printed(capsys, *ask, *more)[0])["evaluations"][0] for more in ((), ("--join", "--window", "16"))]
    assert [one["counts"]["window"] for one in found] == [96, 16]
    assert found[0]["counts"]["tokens"] < found[1]["counts"]["tokens"]  # the second line's first token, and the line breaks
    assert found[1]["command"].endswith("--split train --window 16 --join")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("minilm-l6-v2", "--data", "openmoji", "--split", "dev"), "openmoji has no split 'dev'\nits splits: train, validation"),
        (("minilm-l6-v2", "--data", "pairs.jsonl"), "no split 'validation'\nits splits: train\nsay with --split"),
        (("minilm-l6-v2", "--data", "openmoji"), "texts with a positive, or with an other and a score"),
        (("minilm-l6-v2", "--data", "openmoji", "--column", "positive"), "--column positive does not name a column"),
        (("minilm-l6-v2", "--data", "openmoji", "--column", "positive=hue"), "no column 'hue'"),
        (("minilm-l6-v2", "--data", "openmoji", "--size", "64"), "--size has no meaning for a model of texts"),
        (("minilm-l6-v2", "--data", "openmoji", "--window", "64"), "no option window"),
        (("minilm-l6-v2", "--data", "openmoji", "--precision", "fp3"), "precision='fp3' is not known"),
        (("efficientnet-lite0", "--data", "openmoji", "--size", "16"), "does not know 9 of the data's 9 classes"),
    ],
)
def test_what_cannot_be_evaluated(arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows("pairs.jsonl", {"text": "a cat", "positive": "a kitten"})
    assert message in complaint(capsys, 11, "evaluate", *arguments)


def test_names_that_nobody_has(capsys: pytest.CaptureFixture[str]) -> None:
    assert "nearest: openmoji" in complaint(capsys, 12, "evaluate", "minilm-l6-v2", "--data", "openmojo")
    assert "nearest" in complaint(capsys, 3, "evaluate", "minilm-l7-v2", "--data", "openmoji")


def test_a_card_takes_what_an_evaluation_measured() -> None:
    command = command_line("cat", "my pets/", {"split": "test", "limit": None, "column": ("words=tokens",), "join": False})
    assert command == "bestiary evaluate cat --data 'my pets/' --split test --column words=tokens"
    entries = metric_entries(Evaluation(metrics={"accuracy": 2 / 3, "macro_f1": 0.5}, rows=3), "pets, test", command)
    assert entries[0] == Metric(dataset="pets, test", metric="accuracy", value=0.66667, command=command)
    card = replace(bestiary.card("minilm-l6-v2"), metrics=tuple(entries))
    assert parse_card(card.to_markdown(), "card").metrics == tuple(entries)
