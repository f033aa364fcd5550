"""Sounds of one's own, in each form in which people keep them, and what is wrong with them; and data sets by name."""

import gzip
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

import datasets as library
import numpy as np
import pytest
import soundfile
import torch
from torch.utils.data import DataLoader

import bestiary.text.datasets as texts
import bestiary.vision.datasets as images
from bestiary.audio import datasets
from bestiary.audio.datasets.prompts import read_texts, words_of
from bestiary.core.archives import members
from bestiary.errors import InputError, IntegrityError, LicenseError
from bestiary.hub.registry import Datasets
from bestiary.hub.settings import Settings
from bestiary.hub.splitting import split_of
from tests.debs import deb_of, tar_of


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)


def encoded(level: float, kind: str = "WAV", rate: int = 16_000) -> bytes:
    """A tenth of a second that is all at one level."""
    file = io.BytesIO()
    soundfile.write(file, np.full(rate // 10, level), rate, format=kind)
    return file.getvalue()


def write(path: str, content: bytes | str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(content.encode() if isinstance(content, str) else content)


def fill(folder: str, sounds: dict[str, float]) -> None:
    for name, level in sounds.items():
        write(f"{folder}/{name}", encoded(level, Path(name).suffix[1:].upper()))


def levels(rows) -> list[float]:
    return [round(float(np.median(row["audio"]["array"])), 2) for row in rows]


SOUNDS = {"dog/1.wav": 0.1, "cat/2.flac": 0.2, "cat/deeper/3.WAV": 0.3, "owl/4.ogg": 0.4}


@pytest.mark.parametrize("streaming", [False, True])
def test_a_folder_for_each_class(streaming: bool) -> None:
    fill("noises", SOUNDS)
    write("noises/readme.txt", "Beasts.")
    rows = datasets.load("./noises", streaming=streaming)
    assert rows.features["label"].names == ["cat", "dog", "owl"]
    assert [row["label"] for row in rows] == [0, 0, 1, 2] and levels(rows) == pytest.approx([0.2, 0.3, 0.1, 0.4], abs=0.02)
    first = next(iter(rows))["audio"]
    assert first["array"].shape == (1600,) and first["array"].dtype == np.float32 and first["sampling_rate"] == 16_000
    assert first["path"].endswith("noises/cat/2.flac")


def test_sounds_have_the_rate_that_is_asked_for() -> None:
    write("noises/cat/1.wav", encoded(0.1, rate=8_000))
    write("noises/cat/2.wav", encoded(0.1, rate=48_000))
    assert [len(row["audio"]["array"]) for row in datasets.load("./noises")] == [1600, 1600]
    rows = datasets.load("./noises", rate=8_000)
    assert [(len(row["audio"]["array"]), row["audio"]["sampling_rate"]) for row in rows] == [(800, 8_000)] * 2


TABLES = {
    "calls.csv": "file,sentence\ndog/1.wav,Wuff.\ncat/2.flac,\"Miaow, miaow.\"\n",
    "calls.tsv": "file\tsentence\ndog/1.wav\tWuff.\ncat/2.flac\tMiaow, miaow.\n",
    "calls.jsonl": '{"file": "dog/1.wav", "sentence": "Wuff."}\n{"file": "cat/2.flac", "sentence": "Miaow, miaow."}\n',
}


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("name", [*TABLES, "calls.parquet"])
def test_a_table_of_paths_and_texts(name: str, streaming: bool) -> None:
    fill("album", SOUNDS)
    if name in TABLES:
        write(f"album/{name}", TABLES[name])
    else:
        held = {"file": ["dog/1.wav", "cat/2.flac"], "sentence": ["Wuff.", "Miaow, miaow."]}
        library.Dataset.from_dict(held).to_parquet(f"album/{name}")
    rows = datasets.load(f"album/{name}", audio="file", text="sentence", streaming=streaming)
    assert [row["text"] for row in rows] == ["Wuff.", "Miaow, miaow."] and levels(rows) == [0.1, 0.2]


def test_tables_in_a_folder_are_its_splits() -> None:
    fill("album", SOUNDS)
    write("album/train.csv", "audio,text,label\ndog/1.wav,Wuff.,dog\nowl/4.ogg,Uhu.,owl\n")
    write("album/dev.csv", "audio,text,label\ncat/2.flac,Miaow.,cat\n")
    assert datasets.load("./album").features["label"].names == ["cat", "dog", "owl"]
    rows = datasets.load("./album", "validation", columns=["audio", "text"])
    assert rows["text"][:] == ["Miaow."] and levels(rows) == [0.2] and rows.column_names == ["audio", "text"]
    with pytest.raises(InputError, match="no split 'test'"):
        datasets.load("./album", "test")


def test_common_voice_as_it_is_unpacked() -> None:
    fill("cv-corpus/eu/clips", {"1.mp3": 0.1, "2.mp3": 0.2})
    write("cv-corpus/eu/validated.tsv", "client_id\tpath\tsentence\n")
    write("cv-corpus/eu/train.tsv", "client_id\tpath\tsentence\na\t1.mp3\tKaixo.\n")
    write("cv-corpus/eu/dev.tsv", "client_id\tpath\tsentence\nb\t2.mp3\tAgur.\n")
    rows = datasets.load("cv-corpus/eu", "validation", audio="path", text="sentence")
    assert rows["text"][:] == ["Agur."] and levels(rows) == pytest.approx([0.2], abs=0.02)


@pytest.mark.parametrize("streaming", [False, True])
def test_sounds_in_parquet_and_saved_by_datasets(streaming: bool) -> None:
    fill("noises", SOUNDS)
    rows = datasets.load("./noises").with_format("arrow").map(library.table.embed_table_storage, batched=True).with_format(None)
    rows.to_parquet("held.parquet")
    rows.save_to_disk("saved")
    for name in ("held.parquet", "./saved"):
        again = datasets.load(name, streaming=streaming)
        assert levels(again) == pytest.approx([0.2, 0.3, 0.1, 0.4], abs=0.02)
        assert again.features["label"].names == ["cat", "dog", "owl"]
    theirs = library.load_dataset("parquet", data_files="held.parquet", split="train")  # without any class of ours
    assert type(theirs.features["audio"]) is library.Audio


@pytest.mark.parametrize("path", ["../secret.wav", "cat/../../secret.wav", "/etc/passwd", ""])
def test_no_path_leaves_the_folder_of_its_table(path: str) -> None:
    fill(".", {"secret.wav": 0.9, "album/cat/1.wav": 0.1})
    write("album/calls.jsonl", '{"audio": "cat/1.wav"}\n' + json.dumps({"audio": path}) + "\n")
    with pytest.raises(InputError, match="does not lie below"):
        datasets.load("album/calls.jsonl")
    kind = library.Features({"audio": {"bytes": library.Value("binary"), "path": library.Value("string")}})
    held = {"audio": [{"bytes": None, "path": os.path.abspath("secret.wav")}, {"bytes": encoded(0.1), "path": "secret.wav"}]}
    library.Dataset.from_dict(held, features=kind).to_parquet("album/calls.parquet")
    rows = datasets.load("album/calls.parquet")
    with pytest.raises(InputError, match=r"secret\.wav' does not lie below"):
        rows[0]
    assert levels([rows[1]]) == [0.1]


def test_a_damaged_sound_is_named_or_left_out() -> None:
    fill("noises", SOUNDS)
    write("noises/cat/5.wav", b"no sound")
    write("noises/dog/6.wav", b"")
    rows = datasets.load("./noises")
    with pytest.raises(InputError, match=r"cat/5\.wav") as caught:
        levels(rows)
    assert len(str(caught.value).splitlines()) <= 3
    with pytest.warns(UserWarning, match=r"skipped 2 of 6 sounds that cannot be read: .*cat/5\.wav, .*dog/6\.wav$"):
        assert len(datasets.load("./noises", errors="skip")) == 4
    with pytest.warns(UserWarning, match=r"skipped: .*cat/5\.wav"):
        assert len(list(datasets.load("./noises", errors="skip", streaming=True))) == 4


def lengths(batch):
    return {"length": [torch.tensor(len(sound["array"])) for sound in batch["audio"]], "label": batch["label"]}


def test_loaders_of_torch_take_rows() -> None:
    fill("noises", SOUNDS)
    rows = datasets.load("./noises").with_transform(lengths)
    batch = next(iter(DataLoader(rows, batch_size=4)))
    assert batch["length"].tolist() == [1600] * 4 and batch["label"].tolist() == [0, 0, 1, 2]


@pytest.mark.parametrize(
    ("files", "name", "complaint"),
    [
        ({"noises/readme.txt": "Beasts."}, "./noises", "holds no sounds"),
        ({"calls.csv": "file,text\n1.wav,Wuff.\n"}, "calls.csv", "no column 'audio'\nits columns: file, text; audio= says"),
        ({"calls.csv": "audio,text\n1,Wuff.\n"}, "calls.csv", "wanted: paths of sounds, or their bytes"),
        ({}, "./nowhere", "there is no file or folder"),
    ],
)
def test_what_cannot_be_loaded(files: dict[str, str], name: str, complaint: str) -> None:
    for path, content in files.items():
        write(path, content)
    with pytest.raises(InputError, match=complaint) as caught:
        datasets.load(name)
    assert len(str(caught.value).splitlines()) <= 3


def test_data_of_other_kinds_say_who_reads_them() -> None:
    for load, name, reader in (
        (datasets.load, "mnist", "vision"), (datasets.load, "openmoji", "text"), (texts.load, "librispeech", "audio"),
        (images.load, "telephone-prompts", "audio"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=rf"load it with bestiary\.{reader}\.datasets"):
            load(name)


# Well-known sets, in the form in which they are published.


def add(cards: Path, form: str, files: dict[str, bytes], splits: dict[str, list[str]] | None = None, **more: object) -> None:
    """A card called `small`; each split has all files, and these members."""
    for name, content in files.items():
        (cards / name).write_bytes(content)
    told = {
        name: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest(), "role": "table"}
        for name, content in files.items()
    }
    each = {name: {"files": list(files), "members": listed, "rows": 1} for name, listed in (splits or {"train": []}).items()}
    part = {"name": "small", "format": form, "splits": each, "files": told, "sources": [{"path": "."}], **more}
    (cards / "small.md").write_text(f"---\n{json.dumps({'license': 'mit', 'bestiary': part})}\n---\n")


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("order", [1, -1])
def test_librispeech(dataset_cards: Path, streaming: bool, order: int) -> None:
    files = {
        "LibriSpeech/dev/84/121/84-121-0000.flac": encoded(0.1, "FLAC"),
        "LibriSpeech/dev/84/121/84-121-0001.flac": encoded(0.2, "FLAC"),
        "LibriSpeech/dev/84/121/84-121.trans.txt": b"84-121-0000 GO\n84-121-0001 DO YOU HEAR\n",
        "LibriSpeech/dev/84/122/84-122-0000.flac": encoded(0.3, "FLAC"),
        "LibriSpeech/dev/84/122/84-122.trans.txt": b"84-122-0000 BUT\n",
        "LibriSpeech/README.TXT": b"Books.",
    }
    add(dataset_cards, "librispeech", {"dev.tar.gz": tar_of(dict([*files.items()][::order]), "gz")})
    rows = list(datasets.load("small", streaming=streaming))
    assert {row["id"]: (level, row["text"]) for level, row in zip(levels(rows), rows, strict=True)} == {
        "84-121-0000": (0.1, "GO"), "84-121-0001": (0.2, "DO YOU HEAR"), "84-122-0000": (0.3, "BUT"),
    }  # fmt: skip
    assert {(row["speaker"], row["chapter"]) for row in rows} == {(84, 121), (84, 122)}


def test_librispeech_without_a_text(dataset_cards: Path) -> None:
    add(dataset_cards, "librispeech", {"dev.tar.gz": tar_of({"LibriSpeech/dev/84/121/84-121-0000.flac": b""}, "gz")})
    with pytest.raises(InputError, match=r"does not tell what .*84-121-0000\.flac says"):
        datasets.load("small")


def test_speech_commands(dataset_cards: Path) -> None:
    sounds = {"./yes/a_nohash_0.wav": 0.1, "./no/a_nohash_0.wav": 0.2, "./no/b_nohash_0.wav": 0.3}
    files = {"./testing_list.txt": b"no/b_nohash_0.wav\n", "./validation_list.txt": b"no/a_nohash_0.wav\n"}
    files |= {"./_background_noise_/pink.wav": encoded(0.9), "./README.md": b"Words.", "./LICENSE": b""}
    archive = tar_of({**{name: encoded(level) for name, level in sounds.items()}, **files}, "gz")
    splits = {"train": [], "validation": ["validation_list.txt"], "test": ["testing_list.txt"]}
    add(dataset_cards, "speech-commands", {"words.tar.gz": archive}, splits, labels=["no", "yes"])
    found = {split: datasets.load("small", split) for split in splits}
    assert {split: (levels(rows), rows["label"][:], rows["speaker"][:]) for split, rows in found.items()} == {
        "train": ([0.1], [1], ["a"]), "validation": ([0.2], [0], ["a"]), "test": ([0.3], [0], ["b"]),
    }  # fmt: skip


def test_common_voice(dataset_cards: Path) -> None:
    table = "client_id\tpath\tsentence\tage\na\tclip_1.mp3\tHe said \"no.\tteens\nb\tclip_2.mp3\tOne more.\t\n"
    tars = {f"en_train_{n}.tar": tar_of({f"en_train_{n}/clip_{n + 1}.mp3": encoded(0.1, "MP3")}, "") for n in (0, 1)}
    add(dataset_cards, "common-voice", {"train.tsv": table.encode(), **tars})
    rows = datasets.load("small")
    assert rows["text"][:] == ['He said "no.', "One more."] and rows["speaker"][:] == ["a", "b"]
    assert levels(rows) == pytest.approx([0.1, 0.1], abs=0.02)
    with pytest.raises(LicenseError):
        datasets.load("common-voice-17-en", "test")
    with pytest.raises(IntegrityError, match="first-use"):
        datasets.load("common-voice-17-en", "test", accept_license=True)


def test_esc_50(dataset_cards: Path) -> None:
    cells = {"bytes": library.Value("binary"), "path": library.Value("string")}
    held = {"target": [1, 0], "audio": [{"bytes": encoded(level), "path": f"{level}.wav"} for level in (0.1, 0.2)]}
    rows = library.Dataset.from_dict(held, library.Features({"target": library.Value("int64"), "audio": cells}))
    rows.cast_column("audio", library.Audio()).to_parquet("esc.parquet")
    tables = {"esc.parquet": Path("esc.parquet").read_bytes()}
    add(dataset_cards, "parquet", tables, labels=["dog", "rooster"], columns={"label": "target"})
    for streaming in (False, True):
        rows = datasets.load("small", streaming=streaming)
        assert levels(rows) == [0.1, 0.2] and [row["label"] for row in rows] == [1, 0]
    card = Datasets.standard(Settings.read({})).card("esc-50")
    assert len(set(card.labels or ())) == 50


# Asterisk's prompts.

PROMPTS = """\
; Core Asterisk Sounds in English

beep: [this is a simple beep tone]
digits/1: one
letters/at: at [@]
silence/1: (1 second of silence)
spy-iax2: IAX (note: does not say "2")
vm-intro:  Please leave  a message. (simple tone)
ne: appelant (ne m'appelez plus), 4.
digits/1: ten
"""


def packages() -> dict[str, bytes]:
    place = "./usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz"
    sounds = {"beep": 0.9, "digits/1": 0.1, "letters/at": 0.2, "vm-intro": 0.3, "untold": 0.9}
    folder = "./usr/share/asterisk/sounds/en_US_f_Allison"
    voice = {f"{folder}/{name}.wav": encoded(level, rate=8_000) for name, level in sounds.items()}
    link = tarfile.TarInfo(f"{folder}/spy-iax2.wav")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return {"en-texts.deb": deb_of({place: gzip.compress(PROMPTS.encode())}), "en.deb": deb_of({**voice, link: b""})}


def test_what_prompts_say() -> None:
    assert read_texts(PROMPTS) == {
        "digits/1": "one", "letters/at": "at", "spy-iax2": "IAX", "vm-intro": "Please leave a message.",
        "ne": "appelant (ne m'appelez plus), 4.",
    }  # fmt: skip
    assert words_of("« Entrez, s'il vous plaît ! »") == "entrez s il vous plaît"


@pytest.mark.parametrize("streaming", [False, True])
def test_prompts_of_packages_and_where_these_are_installed(dataset_cards: Path, streaming: bool) -> None:
    add(dataset_cards, "asterisk", packages(), {"en": [], "train": []}, labels=["en", "es", "fr"])
    for name, content in packages().items():
        write(name, content)
        for path, read in members(name):
            write(path, read())
    for name in ("small", "usr/share"):
        rows = list(datasets.load(name, "en", streaming=streaming))
        told = {row["text"]: (level, row["language"], row["label"]) for level, row in zip(levels(rows), rows, strict=True)}
        assert told == {"one": (0.1, "en", 0), "at": (0.2, "en", 0), "Please leave a message.": (0.3, "en", 0)}
        learned = [row["text"] for row in datasets.load(name, "train", streaming=streaming)]
        assert sorted(learned) == sorted(text for text in told if split_of(words_of(text)) == "train")


def test_prompts_without_their_texts(dataset_cards: Path) -> None:
    add(dataset_cards, "asterisk", {"en.deb": packages()["en.deb"]})
    with pytest.raises(InputError, match="nothing tells what the prompts in 'en' say"):
        datasets.load("small")


@pytest.mark.parametrize("kept", [4, 60, 100, 0.3, 0.9])
def test_a_package_that_breaks_off_is_named(kept: float) -> None:
    whole = packages()["en.deb"]
    write("half.deb", whole[: int(len(whole) * kept) if kept < 1 else int(kept)])
    with pytest.raises(InputError, match=r"half\.deb") as caught:
        [read() for _, read in members("half.deb")]
    assert len(str(caught.value).splitlines()) <= 3


def test_telephone_prompts() -> None:
    rows = datasets.load("telephone-prompts", "en")
    assert len(rows) == Datasets.standard(Settings.read({})).card("telephone-prompts").splits["en"].rows
    agent = next(row for row in rows if row["audio"]["path"] == "en/agent-pass.wav")
    assert agent["text"] == "Please enter your password followed by the pound key." and agent["language"] == "en"
    assert agent["audio"]["sampling_rate"] == 16_000 and 2 < len(agent["audio"]["array"]) / 16_000 < 5
    assert rows.features["label"].names == ["en", "es", "fr"] and set(rows["label"][:]) == {0}


@pytest.mark.full
def test_no_prompt_is_in_two_splits() -> None:
    card = Datasets.standard(Settings.read({})).card("telephone-prompts")
    splits = {split: datasets.load("telephone-prompts", split) for split in card.splits}
    assert {split: len(rows) for split, rows in splits.items()} == {name: told.rows for name, told in card.splits.items()}
    parts = {split: {words_of(text) for text in splits[split]["text"]} for split in ("train", "validation", "test")}
    assert len(set().union(*parts.values())) == sum(map(len, parts.values()))
    assert sum(len(splits[split]) for split in parts) == sum(len(splits[language]) for language in ("en", "es", "fr"))
    assert all(set(splits[split]["label"][:]) == {0, 1, 2} for split in parts)
