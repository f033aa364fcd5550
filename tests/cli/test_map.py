"""map: a model over many inputs, as a process; a tiny random one of the card's own shape."""

import json

import pyarrow.parquet as pq
import pytest

from tests.cli.conftest import Zoo
from tests.cli.test_run import CONFIG, files  # noqa: F401


@pytest.fixture
def tiny(zoo: Zoo, files: dict[str, bytes]) -> Zoo:  # noqa: F811
    """A model of texts, and rows to map, the third without a text."""
    zoo.add("tiny", files)
    rows = [{"text": "a cat"}, {"text": "a dog"}, {"id": 3}, {"text": "dog"}]
    (zoo.folder / "rows.jsonl").write_text("".join(json.dumps({"id": 0, **row}) + "\n" for row in rows))
    return zoo


def test_a_summary_says_what_there_is_and_a_warning_what_failed(tiny: Zoo) -> None:
    completed = tiny.run("map", "tiny", "rows.jsonl", "out", "--part-size", "3")
    assert completed.returncode == 0
    folder = tiny.folder / "out"
    assert completed.stdout.split("\t")[:5] == [str(folder), "3", "1", "2", "0"]
    assert completed.stderr == f"warning: 1 of 4 inputs failed, see {folder}/_failures.jsonl\n"
    assert json.loads((folder / "_failures.jsonl").read_text()) == {"row": 2, "reason": "there is no text in this row"}
    rows = pq.read_table(folder).to_pylist()
    assert [row["text"] for row in rows] == ["a cat", "a dog", "dog"] and len(rows[0]["vector"]) == CONFIG["width"]


def test_json_holds_the_raw_numbers_and_a_second_run_has_nothing_to_do(tiny: Zoo) -> None:
    for kept in (0, 2):
        summary = tiny.json("map", "tiny", "rows.jsonl", "out", "--part-size", "2")["summary"]
        assert summary.pop("seconds") > 0
        assert summary == {"folder": str(tiny.folder / "out"), "rows": 3, "failed": 1, "parts": 2, "kept": kept}
    assert tiny.run("map", "tiny", "rows.jsonl", "out", "--part-size", "2", "-q").stdout == f"{tiny.folder}/out\n"


def test_where_nothing_succeeds_it_is_an_error(tiny: Zoo) -> None:
    (tiny.folder / "rows.jsonl").write_text('{"text": null, "id": 1}\n')
    completed = tiny.run("map", "tiny", "rows.jsonl", "out")
    assert (completed.returncode, completed.stdout) == (11, "")
    assert "none of the 1 inputs" in completed.stderr


def test_options_reach_the_run(tiny: Zoo) -> None:
    refused = tiny.run("map", "tiny", "rows.jsonl", "out", "--set", "prompt=query")
    assert refused.returncode == 11 and "no prompt 'query'" in refused.stderr
    absent = tiny.run("map", "tiny", "rows.jsonl", "out", "--column", "title")
    assert absent.returncode == 11 and "no column 'title'" in absent.stderr and "--column: id, text" in absent.stderr
    done = tiny.json("map", "tiny", "rows.jsonl", "out", "--column", "text", "--set", "prompt=null", "--precision", "bf16")
    assert done["summary"]["rows"] == 3
    manifest = json.loads((tiny.folder / "out" / "_map.json").read_text())
    assert (manifest["options"], manifest["model"]["precision"]) == ({"prompt": None}, "bf16")


@pytest.mark.parametrize(
    ("given", "message"),
    [(["--gpus-per-worker", "1"], "--gpus-per-worker is for --engine ray"), (["--set", "top"], "write NAME=VALUE")],
)
def test_options_that_make_no_sense_are_wrong_usage(tiny: Zoo, given: list[str], message: str) -> None:
    completed = tiny.run("map", "tiny", "rows.jsonl", "out", *given)
    assert completed.returncode == 2 and message in completed.stderr
    assert not (tiny.folder / "out").exists()


def test_on_a_terminal_a_bar_shows_how_fast_it_goes(tiny: Zoo) -> None:
    code, shown = tiny.terminal("map", "tiny", "rows.jsonl", "out")
    assert code == 0
    assert "4/4" in shown and "a second" in shown and "out" in shown


def test_ray_starts_by_itself(tiny: Zoo) -> None:
    tiny.environment["RAY_ADDRESS"] = ""
    options = ("--engine", "ray", "--concurrency", "1", "--part-size", "2")
    summary = tiny.json("map", "tiny", "rows.jsonl", "out", *options)["summary"]
    assert (summary["rows"], summary["failed"], summary["parts"]) == (3, 1, 2)
    assert [row["text"] for row in pq.read_table(tiny.folder / "out").to_pylist()] == ["a cat", "a dog", "dog"]
