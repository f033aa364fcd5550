"""Data sets by name, from a hub and from files of one's own, as a person loads them."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import datasets as library
import pytest

from bestiary.errors import InputError, IntegrityError, OfflineError, UnknownDataset
from bestiary.text import datasets
from tests.huggingface import running_hub


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def add_beasts(cards: Path, content: bytes, promised: bytes | None = None) -> None:
    (cards / "beasts.jsonl").write_bytes(content)
    meant = content if promised is None else promised
    (cards / "beasts.md").write_text(f"""\
---
license: mit
bestiary:
  name: beasts
  format: jsonl
  columns: {{text: story, label: mood}}
  labels: [tame, wild]
  splits: {{train: {{files: [beasts.jsonl], rows: 2}}}}
  files: {{beasts.jsonl: {{size: {len(meant)}, sha256: {hashlib.sha256(meant).hexdigest()}, role: table}}}}
  sources: [{{path: .}}]
---
""")


BEASTS = b'{"story": "a griffin", "mood": 1}\n{"story": "a cat", "mood": 0}\n'


def test_openmoji_works_here() -> None:
    splits = {split: datasets.load("openmoji", split) for split in ("train", "validation", "test")}
    assert {split: len(rows) for split, rows in splits.items()} == {"train": 1552, "validation": 168, "test": 183}
    groups = splits["train"].features["label"].names
    by_text = {row["text"]: groups[row["label"]] for rows in splits.values() for row in rows}
    assert by_text["red apple"] == "Food & Drink" and by_text["grinning face"] == "Smileys & Emotion"
    assert by_text["hot dog"] == "Food & Drink" and by_text["dog face"] == "Animals & Nature"
    held_out = set(splits["test"]["concept"])
    assert held_out.isdisjoint(splits["train"]["concept"]) and held_out.isdisjoint(splits["validation"]["concept"])
    assert set(splits["train"]["label"]) == set(range(10))


def test_openmoji_needs_no_drawings_for_text(dataset_cards: Path, tmp_path: Path) -> None:
    stream = datasets.load("openmoji", "test", streaming=True, columns=["text", "label"])
    assert next(iter(stream)) == {"text": "keycap 2", "label": 7}
    assert sum(path.stat().st_size for path in (tmp_path / "store" / "blobs").iterdir()) < 2_000_000
    assert len(datasets.load("openmoji", "test", offline=True)) == 183


@pytest.mark.parametrize("streaming", [False, True])
def test_a_card_names_columns_and_labels(dataset_cards: Path, streaming: bool) -> None:
    add_beasts(dataset_cards, BEASTS)
    rows = datasets.load("beasts", streaming=streaming)
    assert list(rows) == [{"text": "a griffin", "label": 1}, {"text": "a cat", "label": 0}]
    assert rows.features["label"].names == ["tame", "wild"]


def test_words_are_labelled_by_a_card_too(dataset_cards: Path) -> None:
    add_beasts(dataset_cards, b'{"story": ["a", "griffin"], "mood": [0, 1]}\n')
    rows = datasets.load("beasts")
    assert rows[0] == {"text": ["a", "griffin"], "label": [0, 1]}
    assert rows.features["label"].feature.names == ["tame", "wild"]


def test_bytes_that_are_not_the_card_s_are_refused(dataset_cards: Path) -> None:
    add_beasts(dataset_cards, BEASTS.replace(b"cat", b"bat"), promised=BEASTS)
    with pytest.raises(IntegrityError, match="beasts"):
        datasets.load("beasts")


@pytest.mark.usefixtures("dataset_cards")
@pytest.mark.parametrize(
    ("arguments", "error", "complaint"),
    [
        ({"name": "openmojo"}, UnknownDataset, "nearest: openmoji"),
        ({"name": "openmoji", "split": "tset"}, InputError, "its splits: train, validation, test"),
        ({"name": "openmoji", "columns": ["txt"]}, InputError, "its columns: text, label"),
        ({"name": "openmoji", "trust": "always"}, InputError, "first-use"),
        ({"name": "reviews.csv"}, InputError, "there is no file or folder reviews.csv"),
        ({"name": "./reviews"}, InputError, "there is no file or folder ./reviews"),
        ({"name": "hf:reviews"}, InputError, "does not name a data set"),
        ({"name": "hf:zoo/reviews/../.."}, InputError, "does not name a data set"),
        ({"name": "hf:zoo/reviews@--force"}, InputError, "does not name a data set"),
        ({"name": "conll2003"}, IntegrityError, "nothing says which bytes"),
        ({"name": "hf:zoo/reviews"}, IntegrityError, "nothing says which bytes"),
        ({"name": "hf:zoo/reviews", "trust": "first-use", "offline": True}, OfflineError, "has not been here"),
    ],
)  # fmt: skip
def test_what_cannot_be_loaded(arguments, error, complaint, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=complaint) as caught:
        datasets.load(**arguments)
    assert len(str(caught.value).splitlines()) <= 3
    assert not (tmp_path / "bestiary.lock").exists()


def test_files_of_one_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reviews").mkdir()
    for split, text in {"train": "good", "test": "bad"}.items():
        (tmp_path / "reviews" / f"{split}.csv").write_text(f"text,label,page\n{text},1,7\n")
    assert list(datasets.load("./reviews", "test", columns=["text"])) == [{"text": "bad"}]
    assert list(datasets.load("./reviews", streaming=True)) == [{"text": "good", "label": 1, "page": 7}]
    assert len(datasets.load("reviews/*.csv")) == 2
    (tmp_path / "lines.txt").write_text("one\ntwo\n")
    assert datasets.load("lines.txt")["text"][:] == ["one", "two"] == datasets.load(tmp_path / "lines.txt")["text"][:]
    with pytest.raises(InputError, match="reviews has no split 'validation'\nits splits: test, train"):
        datasets.load("./reviews", "validation")


# huggingface_hub reads its settings when it is imported, so the loading runs in a process of its own.
LOAD = """
import json, sys
import bestiary
from bestiary.text import datasets
try:
    rows = datasets.load(sys.argv[1], lock=sys.argv[2], **json.loads(sys.argv[3]))
    print(json.dumps({"rows": list(rows)}))
except bestiary.BestiaryError as error:
    print(json.dumps({"error": type(error).__name__, "message": str(error)}))
"""
REPOSITORY = {
    "README.md": b"---\nlicense: mit\n---\n",
    "beasts.py": b"raise SystemExit('this code was run')",
    "small/train.jsonl": b'{"text": "griffin"}\n',
    "small/test.jsonl": b'{"text": "sphinx"}\n',
    "large/train.jsonl": b'{"text": "dragon"}\n',
}


@pytest.fixture
def hub():
    with running_hub(dict(REPOSITORY)) as hub:
        yield hub


@pytest.fixture
def ask(hub, tmp_path):
    def load(name, **options):
        environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "BESTIARY_HOME": str(tmp_path / "store")}
        command = [sys.executable, "-c", LOAD, name, tmp_path / "bestiary.lock", json.dumps(options)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return load


def test_a_repository_is_loaded_at_first_use_and_pinned(ask, hub, tmp_path) -> None:
    name = "hf:zoo/beasts/small"
    assert ask(name)["error"] == "IntegrityError" and hub.requests == []
    assert ask(name, trust="first-use") == {"rows": [{"text": "griffin"}]}
    assert not any("beasts.py" in request or "large" in request or "test.jsonl" in request for request in hub.requests)
    lock = (tmp_path / "bestiary.lock").read_text()
    assert 'name = "hf:datasets/zoo/beasts"' in lock and '"small/train.jsonl"' in lock
    assert ask(name) == {"rows": [{"text": "griffin"}]}
    assert ask(name, offline=True) == {"rows": [{"text": "griffin"}]}
    assert "is not pinned" in ask(name, split="test")["message"]
    hub.files["small/train.jsonl"] = b'{"text": "changed"}\n'
    assert ask(name) == {"rows": [{"text": "griffin"}]}  # what was pinned is still in the cache
    shutil.rmtree(tmp_path / "hf")
    assert ask(name)["error"] == "IntegrityError"


def test_a_repository_of_several_data_sets_asks_which(ask) -> None:
    answer = ask("hf:zoo/beasts@main", trust="first-use")
    assert answer["error"] == "InputError" and "train lies in large, small" in answer["message"]


def test_a_card_of_a_repository_is_read_from_the_hub(ask, hub) -> None:
    hub.files |= {"train.jsonl": b'{"en": "two dogs", "de": "zwei Hunde"}\n', "val.jsonl": b"", "test.jsonl": b""}
    assert ask("multi30k")["error"] == "IntegrityError" and hub.requests == []
    assert ask("multi30k", trust="first-use") == {"rows": [{"en": "two dogs", "de": "zwei Hunde"}]}
    assert any(request.startswith("GET /datasets/bentrevett/multi30k/resolve/") for request in hub.requests)


def test_wrong_bytes_of_a_pinned_card_are_refused(ask, hub) -> None:
    hub.files["data/validation-00000-of-00001.parquet"] = b"not what the card says"
    assert ask("sst2", split="validation")["error"] == "IntegrityError"
