"""ls, search and show: the forms of their output, and what lies in the store."""

import subprocess
import sys

import pytest

from tests.cli.conftest import COMMAND, Zoo

BEASTS = ("griffin-small", "griffin-large", "sphinx")


@pytest.fixture
def beasts(zoo: Zoo) -> Zoo:
    for name in BEASTS:
        zoo.add(name, {f"{name}.safetensors": name.encode() * 1000}, text=f"# {name}\n\nAn embedder called `{name}`.")
    return zoo


def own(names: list[str]) -> list[str]:
    """Without the cards that come with Bestiary."""
    return [name for name in names if name in BEASTS]


def test_piped_a_listing_is_tab_separated_with_raw_numbers(beasts: Zoo) -> None:
    (line,) = beasts.lines("ls", "sphinx")
    assert line == ["sphinx", "text-embedding", "6000", "apache-2.0", "weights", "no"]


def test_json_holds_raw_values_and_the_schema(beasts: Zoo) -> None:
    (model,) = beasts.json("ls", "sphinx")["models"]
    assert model["name"] == "sphinx"
    assert model["size"] == 6000
    assert model["stored"] is False
    assert model["tags"] == ["tiny"]


def test_quiet_prints_names_alone(beasts: Zoo) -> None:
    assert own(beasts.run("ls", "-q").stdout.split()) == sorted(BEASTS)


def test_shared_options_stand_before_the_verb_or_after_it(beasts: Zoo) -> None:
    before, after = beasts.run("-q", "ls", "griffin"), beasts.run("ls", "griffin", "-q")
    assert before.stdout == after.stdout == "griffin-large\ngriffin-small\n"


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["griffin"], ["griffin-large", "griffin-small"]),
        (["*fin-small"], ["griffin-small"]),
        (["griffin", "--task", "text-embedding"], ["griffin-large", "griffin-small"]),
        (["griffin", "--task", "image-classification"], []),
        (["griffin*", "--task", "text-embedding"], ["griffin-large", "griffin-small"]),
        (["hydra"], []),
    ],
)
def test_ls_chooses_by_pattern_and_task(beasts: Zoo, arguments: list[str], found: list[str]) -> None:
    completed = beasts.run("ls", "-q", *arguments)
    assert completed.returncode == 0
    assert completed.stdout.split() == found
    assert ("no model matches" in completed.stderr) == (not found)


def test_search_finds_by_words_the_name_first(beasts: Zoo) -> None:
    beasts.add("riddle", {"riddle.safetensors": b"?"}, text="Answers the sphinx.")
    assert beasts.run("search", "-q", "sphinx", "tiny").stdout.split() == ["sphinx", "riddle"]


def test_show_piped_gives_facts_sources_and_files(beasts: Zoo) -> None:
    lines = beasts.lines("show", "sphinx")
    facts = {line[0]: line[1] for line in lines}
    assert facts["task"] == "text-embedding"
    assert facts["size"] == "6000"
    assert facts["config"].startswith("layers 1, width 8")
    assert ["source", "path ."] in lines
    (file,) = [line for line in lines if line[0] == "file"]
    assert file[1:4] == ["sphinx.safetensors", "weights", "6000"]
    assert len(file[4]) == 64


def test_show_as_json_is_the_whole_card(beasts: Zoo) -> None:
    model = beasts.json("show", "sphinx")["model"]
    assert model["preprocess"] == {"max_length": 16, "pooling": "mean", "normalize": True}
    assert model["files"][0]["stored"] is False
    assert model["text"].startswith("# sphinx")


def test_what_was_pulled_is_shown_as_stored(zoo: Zoo, served: str) -> None:
    zoo.add("sphinx", {"sphinx.safetensors": b"riddle"}, source=f"url: {served}")
    assert zoo.run("pull", "sphinx").returncode == 0
    (model,) = zoo.json("ls", "sphinx")["models"]
    assert model["stored"] is True
    (file,) = zoo.json("show", "sphinx")["model"]["files"]
    assert file["stored"] is True
    assert file["path"].startswith(str(zoo.home))
    assert served in file["origin"]


def test_home_points_to_another_store(zoo: Zoo, served: str) -> None:
    zoo.add("sphinx", {"sphinx.safetensors": b"riddle"}, source=f"url: {served}")
    elsewhere = str(zoo.folder / "elsewhere")
    assert zoo.run("--home", elsewhere, "pull", "sphinx").returncode == 0
    assert zoo.json("ls", "sphinx", "--home", elsewhere)["models"][0]["stored"] is True
    assert zoo.json("ls", "sphinx")["models"][0]["stored"] is False


def test_a_reader_that_leaves_early_is_no_error(beasts: Zoo) -> None:
    command = subprocess.Popen(
        [*COMMAND, "ls"], cwd=beasts.folder, env=beasts.variables(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert command.stdout and command.stderr
    command.stdout.close()
    complaint = command.stderr.read()
    command.stderr.close()
    command.wait(60)
    assert complaint == b""


@pytest.mark.parametrize(
    "arguments", [["pull", "sphinx"], ["verify", "sphinx"], ["cache", "ls"], ["cache", "prune", "--yes"]], ids=" ".join
)
def test_verbs_that_move_files_import_no_torch(beasts: Zoo, arguments: list[str]) -> None:
    program = f"import sys; from bestiary.cli import main; assert main({arguments!r}) == 0; assert 'torch' not in sys.modules"
    completed = subprocess.run(
        [sys.executable, "-c", program], cwd=beasts.folder, env=beasts.variables(), capture_output=True, encoding="utf-8",
        timeout=60,
    )  # fmt: skip
    assert completed.returncode == 0, completed.stderr


def test_what_no_card_pins_is_shown_without_size_and_digest(beasts: Zoo) -> None:
    code, shown = beasts.terminal("show", "detr-resnet-50")
    assert code == 0
    facts, file = shown.partition("hf facebook/detr-resnet-50 at main")[::2]
    assert "object-detection" in facts and "size   " not in facts
    (line,) = (line for line in file.splitlines() if "model.safetensors" in line)
    assert line.split() == ["model.safetensors", "weights", "no"]
    assert "90.9 MB" in (known := beasts.terminal("show", "minilm-l6-v2")[1]) and "53aa51172d14…" in known


def test_data_sets_are_listed_shown_and_pulled_too(beasts: Zoo) -> None:
    (line,) = beasts.lines("ls", "--datasets", "ag-*")
    assert line == ["ag-news", "text-classification", "train 120000, test 7600", "19820267", "unknown", "no"]
    assert "openmoji" in beasts.run("ls", "--datasets", "--task", "image-classification", "-q").stdout.split()
    assert "ag-news" not in beasts.run("ls", "-q").stdout.split()
    shown = beasts.json("show", "sst2")["dataset"]
    assert shown["splits"]["validation"]["rows"] == 872 and shown["columns"] == {"text": "sentence"}
    assert ["format", "parquet"] in beasts.lines("show", "sst2")
    assert "half and half in each split" in " ".join(beasts.terminal("show", "imdb")[1].split())
    assert beasts.run("ls", "--datasets", "nothing").stderr == "no data set matches\n"
    records = beasts.json("pull", "openmoji")["files"]
    assert {record["file"] for record in records} == {"emoji.json", "openmoji.whl"}
    assert beasts.json("ls", "--datasets", "openmoji")["datasets"][0]["stored"] is True
