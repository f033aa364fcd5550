"""The scripts of fine-tuning, from the command line to a model that anyone loads; and data that cannot be used."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import bestiary
from bestiary.cli import main
from bestiary.hub.card import read_card

ROOT = Path(__file__).parents[2]
COLOURS = {"blue": (20, 30, 220), "green": (20, 200, 40), "red": (230, 20, 20)}
QUICK = ("--epochs", "2", "--batch-size", "4", "--workers", "0", "--device", "cpu")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def draw(place: Path, colour: tuple[int, int, int], seed: int) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 25, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(noise + np.uint8(colour)).save(place)


def photos(count: int = 6, classes=tuple(COLOURS), split: str = "") -> None:
    for number in range(count):
        for name in classes:
            draw(Path("photos", split, name, f"{number}.png"), COLOURS[name], number)


def refused(capsys, *arguments: str) -> str:
    assert main(["finetune", *arguments]) == 11
    message = capsys.readouterr().err
    error = message[message.index("error: ") :]
    assert len(error.splitlines()) <= 3
    return error


def test_an_image_classifier(capsys, folder):
    photos(8)
    assert main(["finetune", "efficientnet-lite0", "--data", "photos/", "-o", "colours", *QUICK, "--epochs", "6"]) == 0
    told = capsys.readouterr().err
    assert "22 rows to learn from, 2 to validate" in told and "  blue " in told and "epoch 6 of 6: " in told

    classify = bestiary.load("./colours")
    assert classify.labels == ("blue", "green", "red")
    draw(Path("new.png"), COLOURS["red"], 99)
    assert classify("new.png", top=1)[0].name == "red"
    card = read_card(folder / "colours" / "README.md")
    assert card.name == "colours" and card.metadata["base_model"] == "efficientnet-lite0" and card.license == "apache-2.0"
    assert (folder / "colours" / "training" / "curves.png").is_file()
    digest = bestiary.card("efficientnet-lite0").file("weights").sha256
    assert digest in card.text and "| epochs | 6 |" in card.text and "  blue " in card.text

    accuracy = card.metrics[0]
    assert accuracy.metric == "accuracy" and accuracy.command.startswith("bestiary evaluate ./colours --data photos/ ")
    assert main([*accuracy.command.split()[1:], "--json"]) == 0
    again = json.loads(capsys.readouterr().out)["evaluations"][0]
    assert again["metrics"]["accuracy"] == pytest.approx(accuracy.value, abs=1e-5)


def test_a_text_classifier_of_columns_of_any_name(folder):
    rows = [(f"{word} {number}", kind) for number in range(8) for word, kind in (("dog", "animal"), ("bread", "food"))]
    with open("words.csv", "w", newline="") as file:
        csv.writer(file).writerows([("line", "kind"), *rows])
    asked = ["finetune", "minilm-l6-v2", "--task", "text-classification", "--data", "words.csv", "-o", "kinds", *QUICK]
    assert main([*asked, "--text", "line", "--label", "kind", "--lr", "1e-3"]) == 0
    classify = bestiary.load("./kinds")
    assert classify.labels == ("animal", "food") and classify("dog 3", top=1)[0].name == "animal"
    assert main([*asked, "--text", "line", "--label", "kind"]) == 11  # it is there already


def test_an_embedder(folder):
    pairs = [{"question": f"how much is {n} and one", "answer": f"{n + 1} it is"} for n in range(20)]
    Path("pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    columns = ["--text", "question", "--positive", "answer"]
    assert main(["finetune", "minilm-l6-v2", "--data", "pairs.jsonl", "-o", "sums", *columns, *QUICK]) == 0
    before, after = bestiary.load("minilm-l6-v2"), bestiary.load("./sums")
    text = ["how much is 3 and one"]
    assert after(text).shape == (1, 384) and float(before(text) @ after(text).T) < 1 - 1e-6


def test_a_token_classifier(folder):
    met = ["Bea", "Cy", "Dot", "Eve", "Flo", "Gus"]
    rows = [{"words": ["Ada", "met", name], "label": ["B-PER", "O", "B-PER"]} for name in met]
    Path("names.jsonl").write_text("\n".join(map(json.dumps, rows)))
    asked = ["finetune", "minilm-l6-v2", "--task", "token-classification", "--data", "names.jsonl", "-o", "names"]
    assert main([*asked, *QUICK, "--epochs", "8", "--lr", "1e-3"]) == 0
    find = bestiary.load("./names")
    assert find.labels == ("B-PER", "O") and [span.text for span in find("Ada met Hal")] == ["Ada", "Hal"]


def test_data_of_one_class(capsys):
    photos(3, classes=("red",))
    assert "one class, 'red'" in refused(capsys, "efficientnet-lite0", "--data", "photos/", "-o", "out")


def test_an_empty_class(capsys):
    photos(3)
    Path("photos/violet").mkdir()
    assert "violet" in refused(capsys, "efficientnet-lite0", "--data", "photos/", "-o", "out")
    assert not Path("out").exists()


def test_labels_that_only_validation_has(capsys):
    photos(3, split="train", classes=("red", "blue"))
    photos(3, split="val")
    error = refused(capsys, "efficientnet-lite0", "--data", "photos/", "-o", "out")
    assert "'green' to learn from, and some in validation" in error


def test_a_corrupt_image(capsys):
    photos(3)
    Path("photos/red/1.png").write_bytes(b"\x89PNG no image")
    assert "red/1.png" in refused(capsys, "efficientnet-lite0", "--data", "photos/", "-o", "out", *QUICK)


def test_a_csv_without_the_column(capsys):
    Path("words.csv").write_text("line,kind\na dog,animal\nbread,food\n")
    asked = ("minilm-l6-v2", "--task", "text-classification", "--data", "words.csv", "-o", "out")
    assert "no column 'label'" in refused(capsys, *asked, "--text", "line")
    assert "no column 'letter'" in refused(capsys, *asked, "--text", "letter")


def test_what_is_resumed_is_the_run_that_was_begun(capsys):
    photos(3)
    asked = ("efficientnet-lite0", "--data", "photos/", "-o", "out", *QUICK)
    assert "no run to resume" in refused(capsys, *asked, "--resume")
    assert main(["finetune", *asked, "--epochs", "1"]) == 0
    assert "epochs 1, not 2" in refused(capsys, *asked, "--resume")
    assert "is there already" in refused(capsys, *asked)
    assert main(["finetune", *asked, "--epochs", "1", "--resume", "--workers", "1"]) == 0  # a run that is over


def test_the_network_is_left_alone_where_that_is_asked(folder, capsys):
    photos(3)
    asked = ["finetune", "resnet18", "--data", "photos/", "-o", "out", "--trust", "first-use", "--offline"]
    assert main([*asked, "--home", str(folder / "empty")]) == 6
    assert "offline" in capsys.readouterr().err and not Path("out").exists()


def test_what_no_script_tunes(capsys):
    assert "is for depth-estimation, which no script tunes" in refused(capsys, "depth-anything-small", "--data", "photos/")
    assert "--epochs" not in capsys.readouterr().out
    assert main(["finetune", "efficientnet-lite0", "--help"]) == 0
    assert "--epochs" in capsys.readouterr().out


def test_numbers_that_make_no_sense(capsys):
    photos(2)
    assert "lr=0.0 makes no sense" in refused(capsys, "efficientnet-lite0", "--data", "photos/", "--lr", "0")


def test_a_script_is_read_in_one_sitting():
    scripts = sorted((ROOT / "scripts").glob("finetune_*.py"))
    assert len(scripts) >= 6 and all(len(script.read_text().splitlines()) < 120 for script in scripts)
