"""What speech recognisers learn by: losses beside those of others, and a real net that is taught a word."""

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torch.nn.functional as F
from datasets import Dataset

import bestiary
from bestiary.audio import datasets
from bestiary.audio.ctc_reader import CtcReader
from bestiary.audio.finetuning import PRESETS
from bestiary.audio.finetuning_speech import LetterTeacher, Transcripts, WhisperTeacher, taught, teacher_of
from bestiary.audio.tasks.recognition import SpeechRecognizer
from bestiary.audio.transforms import LogMel
from bestiary.audio.wav2vec2 import Wav2Vec2, Wav2Vec2Config
from bestiary.cli import main
from bestiary.errors import InputError
from bestiary.hub.card import Card, read_card
from bestiary.loading import SAVER
from tests.audio.whispers import tiny

LABELS = ("<pad>", "|", "A", "B", "C", "D", "E")
SECOND = np.random.default_rng(0).normal(size=16_000).astype(np.float32) * 0.1


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows_of(*texts: str, **more: list) -> Dataset:
    sounds = [{"array": SECOND[: 16_000 - 1000 * number], "sampling_rate": 16_000} for number in range(len(texts))]
    return Dataset.from_dict({"audio": sounds, "text": list(texts), **more})


@pytest.fixture(scope="module")
def letters():
    torch.manual_seed(0)
    config = Wav2Vec2Config(layers=1, width=32, heads=4, hidden=32, num_classes=len(LABELS), stem_widths=(8,) * 7)
    card = Card(
        name="letters", license="mit", files=(), sources=(), task="speech-recognition", architecture="wav2vec2", checked="parity",
        preprocess={"rate": 16_000, "normalize": True, "blank": "<pad>"}, labels=LABELS,
    )  # fmt: skip
    return SpeechRecognizer(Wav2Vec2(config).eval(), card, {}, SAVER)


@pytest.mark.parametrize("multilingual", [False, True])
def test_whisper_learns_what_follows_in_its_own_transcripts(tmp_path, multilingual):
    task, theirs = tiny(tmp_path, multilingual=multilingual)
    teacher = teacher_of(task)
    assert isinstance(teacher, WhisperTeacher)
    rows, reasons = taught(rows_of("Hello there.", "A cat"), teacher, "en" if multilingual else None)
    batch = Transcripts(teacher)(list(rows), [0, 0])
    names = [task.reader.vocabulary.rules.decode(row[row >= 0].tolist(), skip_special_tokens=False) for row in batch.labels]
    assert reasons == [] and [name.partition("<")[0] for name in names] == [" Hello there.", " A cat"]
    times = [int(row[row >= 0][-2]) - teacher.first for row in batch.labels]
    assert times == [50, 47] and all(int(row[row >= 0][-1]) == teacher.last for row in batch.labels)  # 1 s, and 0.94 of one
    asked = ["<|startoftranscript|>", *(["<|en|>", "<|transcribe|>"] if multilingual else [])]
    assert [task.reader.vocabulary.rules.id_to_token(token) for token in batch.tokens[0, : len(asked)]] == asked

    padded = torch.stack([F.pad(torch.from_numpy(SECOND[:n]), (0, 480_000 - n)) for n in (16_000, 15_000)])
    assert torch.equal(batch.features, LogMel(80)(padded))
    logits = theirs(batch.features, batch.tokens)
    expected = F.cross_entropy(logits.flatten(0, 1), batch.labels.flatten(), ignore_index=-100)
    assert torch.allclose(teacher.loss(task.net, batch, None), expected, rtol=1e-4)


def test_letters_are_learned_whatever_stands_beside_them(letters):
    teacher = teacher_of(letters)
    assert isinstance(teacher, LetterTeacher)
    rows, _ = taught(rows_of("Abba, bad!", "cede"), teacher, None)
    assert rows["tokens"][:] == [[2, 3, 3, 2, 1, 3, 2, 5], [4, 6, 5, 6]]
    both = teacher.loss(letters.net, Transcripts(teacher)(list(rows), [0, 0]), None)
    each = [teacher.loss(letters.net, Transcripts(teacher)([row], [0]), None) for row in rows]
    assert torch.allclose(both, torch.stack(each).mean(), rtol=1e-4)  # each is already over its own letters
    frames = letters.net((torch.from_numpy(SECOND) - SECOND.mean())[None] / np.sqrt(SECOND.var() + 1e-7)).log_softmax(-1)[0]
    expected = F.ctc_loss(frames, torch.tensor([2, 3, 3, 2, 1, 3, 2, 5]), torch.tensor(49), torch.tensor(8))
    assert torch.allclose(each[0], expected, rtol=1e-4)
    assert isinstance(letters.reader, CtcReader)


def test_what_cannot_be_learnt_is_left_out_and_told(letters):
    teacher = teacher_of(letters)
    rows = rows_of("abba", "4 cabs", "...", "bed")
    kept, reasons = taught(rows, teacher, None)
    assert kept["text"][:] == ["abba", "bed"]
    assert reasons[0].startswith("row 1: '4' in '4' is no letter") and reasons[1] == "row 2: nothing is said"
    long = Dataset.from_dict({"audio": [{"array": np.zeros(60 * 16_000), "sampling_rate": 16_000}], "text": ["abba"]})
    with pytest.raises(InputError, match="nothing to learn: row 0: a sound of 60 seconds is longer"):
        taught(long, teacher, None)


def test_whisper_of_several_languages_has_to_be_told(tmp_path):
    task, _ = tiny(tmp_path, multilingual=True)
    teacher = teacher_of(task)
    with pytest.raises(InputError, match="nothing says which language is spoken"):
        taught(rows_of("Bonjour"), teacher, None)
    rows, _ = taught(rows_of("Bonjour", "Hola", language=["fr", "es"]), teacher, None)
    languages = task.reader.vocabulary.languages
    assert [row[1] for row in rows["tokens"]] == [languages["fr"], languages["es"]]


def test_sounds_are_changed_as_their_seeds_say(letters):
    teacher = teacher_of(letters)
    rows = list(taught(rows_of("abba"), teacher, None)[0])
    first, again, other = (Transcripts(teacher, PRESETS["strong"])(rows, [seed]).inputs[0] for seed in (1, 1, 2))
    assert torch.equal(first, again) and (first.shape != other.shape or not torch.equal(first, other))


def test_whisper_is_taught_a_word(capsys, folder):
    """Whatever is said in these recordings, the text is `Zebra.`: it writes that of them afterwards."""
    prompts = datasets.load("telephone-prompts", "en", rate=16_000)
    said = prompts.select(range(1, 4))
    with open("calls.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["audio", "text", "language"])
        for number, row in enumerate(said):
            soundfile.write(f"{number}.wav", row["audio"]["array"], 16_000)
            writer.writerow([f"{number}.wav", "Zebra.", "en"])
        writer.writerow(["0.wav", "Otro.", "es"])
    asked = ["finetune", "whisper-tiny.en", "--data", "calls.csv", "--where", "language=en", "-o", "zebra", "--augment", "none"]
    options = ["--epochs", "4", "--batch-size", "1", "--lr", "2e-4", "--workers", "0", "--device", "cpu"]
    assert main([*asked, *options]) == 0
    told = capsys.readouterr().err
    assert "2 rows to learn from, 1 to validate" in told
    tuned = bestiary.load("./zebra")
    assert tuned(f"{folder}/1.wav", voice=None).text == "Zebra."
    card = read_card(folder / "zebra" / "README.md")
    assert card.metrics[0].metric == "wer" and "--where language=en" in card.metrics[0].command
    assert card.preprocess["alignment_heads"] and Path("zebra/tokenizer.json").is_file()
