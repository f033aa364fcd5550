"""Cards of data sets: what they may say, that the shipped ones are sound, and that wheels are given whole by their digest."""

import re
import zipfile
from pathlib import Path

import pytest

import tests.wheels as wheels
from bestiary.errors import CardError, InputError, IntegrityError, SourceError, UnknownDataset
from bestiary.hub.dataset import _KEYS, FORMATS, IMAGES, read_dataset_card
from bestiary.hub.emoji import concept_of, read_emoji
from bestiary.hub.fetch import fetch
from bestiary.hub.lock import Lock
from bestiary.hub.progress import Silent
from bestiary.hub.records import DatasetCard, File, SourceSpec, Split
from bestiary.hub.registry import Datasets, Registry
from bestiary.hub.settings import Settings
from bestiary.hub.splitting import split_of
from bestiary.hub.trust import Trust
from tests.house.documents import ROOT

DIGEST = "0123456789abcdef" * 4
CARD = f"""\
---
license: cc0-1.0
task_categories: [text-classification]
pretty_name: Beasts
bestiary:
  name: beasts
  format: csv
  columns: {{text: story}}
  labels: [tame, wild]
  splits:
    train: {{files: [a.csv, b.csv], rows: 7}}
    test: {{files: [c.csv], rows: 2}}
  files:
    a.csv: {{size: 1, sha256: {DIGEST}, role: table}}
    b.csv: {{size: 2, sha256: {DIGEST}, role: table}}
    c.csv: {{size: 3, sha256: {DIGEST}, role: table}}
  sources:
    - hf: datasets/zoo/beasts
      revision: main
---
Stories.
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "datasets" / "beasts.md"
    path.parent.mkdir()
    path.write_text(CARD, "utf-8")
    return path


def test_a_card_is_read(path: Path) -> None:
    card = read_dataset_card(path)
    assert (card.name, card.license, card.format, card.size) == ("beasts", "cc0-1.0", "csv", 6)
    assert card.tasks == ("text-classification",)
    assert card.splits == {"train": Split(files=("a.csv", "b.csv"), rows=7), "test": Split(files=("c.csv",), rows=2)}
    assert (card.columns, card.labels, card.metadata) == ({"text": "story"}, ("tame", "wild"), {"pretty_name": "Beasts"})
    assert card.sources == (SourceSpec(kind="hf", address="datasets/zoo/beasts", revision="main"),)
    assert card.text == "Stories."


@pytest.mark.parametrize(
    ("old", "new", "key", "expected"),
    [
        ("license: cc0-1.0\n", "", "license", "the licence of the files"),
        ("format: csv", "format: xlsx", "bestiary.format", "one of parquet, jsonl"),
        ("  format: csv\n", "", "bestiary.format", "one of parquet, jsonl"),
        ("format: csv", "format: csv\n  colour: red", "bestiary.colour", "one of schema, name"),
        ("files: [c.csv]", "files: [d.csv]", "bestiary.splits.test.files[0]", "one of a.csv, b.csv, c.csv"),
        ("files: [c.csv]", "files: []", "bestiary.splits.test.files", "at least one file"),
        ("rows: 2", "rows: few", "bestiary.splits.test.rows", "a whole number"),
        (", rows: 2", "", "bestiary.splits.test.rows", "how many"),
        ("rows: 2", "rows: 2, lines: 3", "bestiary.splits.test.lines", "one of files, members, rows"),
        ("{text: story}", "{text: 3}", "bestiary.columns.text", "the name of a column"),
        ("[tame, wild]", "tame", "bestiary.labels", "a list"),
        ("datasets/zoo/beasts", "models/zoo/beasts", "bestiary.sources[0].hf", "datasets/owner/name"),
        (f"size: 3, sha256: {DIGEST}, ", "", "bestiary.files.c.csv.size", "bytes"),
    ],
)  # fmt: skip
def test_an_error_names_file_key_and_expected_form(path: Path, old: str, new: str, key: str, expected: str) -> None:
    assert old in CARD
    path.write_text(CARD.replace(old, new), "utf-8")
    with pytest.raises(CardError) as caught:
        read_dataset_card(path)
    what, then = str(caught.value).splitlines()
    assert what.startswith(f"{path}: {key}: ") and expected in then


def test_no_split_is_an_error(path: Path) -> None:
    path.write_text(re.sub(r"  splits:\n.*?(?=  files)", "  splits: {}\n", CARD, flags=re.DOTALL), "utf-8")
    with pytest.raises(CardError, match="at least one split"):
        read_dataset_card(path)


def test_data_sets_are_found_beside_the_models_and_apart_from_them(path: Path) -> None:
    settings = Settings.read({"BESTIARY_CARDS": str(path.parent.parent)})
    datasets = Datasets.standard(settings)
    assert {"beasts", "openmoji"} <= set(datasets.names())
    assert datasets.card("beasts").format == "csv"
    assert "beasts" not in Registry.standard(settings).names()


@pytest.mark.parametrize("name", ["openmojo", "ag_news", "../openmoji", "minilm-l6-v2", "openmoji@7"])
def test_an_unknown_name_is_an_error_that_lists_the_nearest(name: str) -> None:
    with pytest.raises(UnknownDataset) as caught:
        Datasets.standard(Settings.read({})).card(name)
    assert len(str(caught.value).splitlines()) <= 3
    if name in ("openmojo", "ag_news"):
        assert name.replace("jo", "ji").replace("_", "-") in str(caught.value)


def test_the_shipped_cards_are_sound() -> None:
    cards = {card.name: card for card in Datasets.standard(Settings.read({})).cards()}
    assert {"ag-news", "imdb", "sst2", "conll2003", "wikitext-2", "wikitext-103", "multi30k", "openmoji"} <= set(cards)
    for card in cards.values():
        tables = {file.name for file in card.files if file.role == "table"}
        assert {name for split in card.splits.values() for name in split.files} >= tables
        assert card.language or card.format in IMAGES or card.tasks == ("audio-classification",)
        assert card.tasks and "train" in card.splits
        parts = ("What it is", "Columns", "Licence", "Where the numbers come from")
        assert all(f"**{part}.**" in card.text for part in parts)


def test_every_key_is_explained() -> None:
    text = (ROOT / "model_cards" / "datasets" / "README.md").read_text("utf-8")
    sections = dict(section.split("\n", maxsplit=1) for section in text.split("\n## ")[1:])
    assert set(re.findall(r"^\| `(\w+)` \|", sections["Under `bestiary`"], re.MULTILINE)) == set(_KEYS)
    assert set(re.findall(r"`([\w-]+)`", "".join(re.findall(r"^\|.*?\|", sections["Formats"], re.MULTILINE)))) == set(FORMATS)


def test_every_relative_link_leads_somewhere() -> None:
    folder = ROOT / "model_cards" / "datasets"
    links = [link for path in folder.glob("*.md") for link in re.findall(r"\]\((?!https?://|#)([^)#]+)", path.read_text("utf-8"))]
    assert links and [link for link in links if not (folder / link).exists()] == []


def whole(wheel: wheels.Wheel, sha256: str | None = None) -> DatasetCard:
    """A data set that is a wheel, and a file within it."""
    files = (
        File(name="beasts.whl", size=wheel.path.stat().st_size, sha256=sha256 or wheel.sha256, role="archive"),
        wheels.file_of("tokenizer.json", wheels.TOKENIZER),
    )
    spec = SourceSpec(kind="package", address=f"{wheels.NAME}=={wheels.VERSION}", sha256=wheel.sha256, folder=wheels.FOLDER)
    return DatasetCard(name="beasts", license="mit", format="emoji", splits={}, files=files, sources=(spec,))


def test_a_file_with_the_digest_of_the_wheel_is_the_wheel(index: Path, tmp_path: Path) -> None:
    wheel = wheels.build_wheel(index)
    fetched = fetch(whole(wheel), Settings(home=tmp_path / "store"))
    assert fetched["beasts.whl"].path.read_bytes() == wheel.path.read_bytes()
    assert fetched["tokenizer.json"].path.read_bytes() == wheels.TOKENIZER
    with zipfile.ZipFile(fetched["beasts.whl"].path) as archive:
        assert archive.read(f"{wheels.FOLDER}/model.bin") == wheels.WEIGHTS


def test_a_file_with_another_digest_is_looked_for_inside(index: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"holds no .*beasts.whl"):
        fetch(whole(wheels.build_wheel(index), DIGEST), Settings(home=tmp_path / "store"))


def test_only_the_files_asked_for_are_fetched_and_pinned(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text(f"text\n{name}\n")
    source = SourceSpec(kind="path", address=".", revision="1")
    files = (File(name="a.csv", role="table"), File(name="b.csv", role="table"))
    card = DatasetCard(
        name="beasts", license="mit", format="csv", splits={}, files=files, sources=(source,), pinned=False,
        path=tmp_path / "beasts.md",
    )  # fmt: skip
    settings, lock = Settings(home=tmp_path / "store"), Lock(tmp_path / "bestiary.lock")
    first = Trust(lock=lock, first_use=True)
    assert set(first.fetch(card, settings, Silent(), files[:1])) == {"a.csv"}
    assert set(lock.pins("beasts", "1")) == {"a.csv"}
    with pytest.raises(IntegrityError, match=r"b\.csv is not pinned"):
        Trust(lock=lock).fetch(card, settings, Silent(), files[1:])
    first.fetch(card, settings, Silent())
    written = lock.path.stat().st_mtime_ns
    assert set(Trust(lock=lock).fetch(card, settings, Silent(), files[1:])) == {"b.csv"}
    assert lock.path.stat().st_mtime_ns == written  # nothing new is written for a part of what is known
    (tmp_path / "b.csv").write_text("text\nother\n")
    with pytest.raises(IntegrityError):
        Trust(lock=lock).fetch(card, settings, Silent(), files[1:])


def test_trust_is_first_use_or_none() -> None:
    with pytest.raises(InputError, match="first-use"):
        Trust.given("always", "bestiary.lock", False)


def test_concepts_and_splits() -> None:
    waving = ["1F44B", "1F44B-1F3FB", "1F44B-1F3FF"]
    cooks = ["1F468-200D-1F373", "1F469-200D-1F373", "1F9D1-1F3FD-200D-1F373"]
    runners = ["1F3C3", "1F3C3-200D-2642-FE0F", "1F3C3-1F3FE-200D-2640-FE0F-200D-27A1-FE0F"]
    for variants in (waving, cooks, runners):
        assert len({concept_of(code) for code in variants}) == 1
    assert len({concept_of(codes[0]) for codes in (waving, cooks, runners)}) == 3
    assert concept_of("1F3FB") == "1F3FB"  # a skin tone by itself is what it is
    assert split_of("1F34E") == "train" and split_of("0032-20E3") == "test"


def test_openmoji_has_a_drawing_for_every_name() -> None:
    card = Datasets.standard(Settings.read({})).card("openmoji")
    fetched = fetch(card, Settings.read())
    emoji = read_emoji(fetched["emoji.json"].path)
    with zipfile.ZipFile(fetched["openmoji.whl"].path) as archive:
        members = set(archive.namelist())
        apple = archive.read(next(one for one in emoji if one.name == "red apple").drawing)
    assert apple.startswith(b"<svg")
    assert len([name for name in members if name.endswith(".svg")]) == 4495
    assert len(emoji) == 1903 and all(one.drawing in members for one in emoji)
    assert {one.group for one in emoji} == set(card.labels or ())
    for split, told in card.splits.items():
        assert sum(one.split == split for one in emoji) == told.rows
    concepts = {one.concept: one.split for one in emoji}
    assert all(concepts[one.concept] == one.split for one in emoji)
