"""Evaluations of models of sound: a real net on real speech, rates by hand, and a classifier's answers counted."""

import json

import numpy as np
import pytest
from datasets import Audio, ClassLabel, load_dataset

import bestiary
from bestiary.audio import datasets
from bestiary.audio.evaluation import Said, _rates
from bestiary.audio.normalising import normalise_english
from bestiary.cli import main
from bestiary.core.evaluation import silent
from bestiary.errors import InputError
from bestiary.evaluation import evaluate
from bestiary.loading import load_for

TINY = {"frames": 64, "mels": 32, "mel_stride": 16, "frame_stride": 16, "layers": 1, "width": 32, "heads": 4, "hidden": 32}
LONG = ["agent-newlocation", "cannot-complete-as-dialed", "conf-getpin", "vm-goodbye"]


def distance(said: list[str], heard: list[str]) -> int:
    """How many words have to be changed, left out or put in."""
    row = list(range(len(heard) + 1))
    for number, word in enumerate(said, 1):
        above, row[0] = row[0], number
        for place, other in enumerate(heard, 1):
            above, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, above + (word != other))
    return row[-1]


@pytest.fixture(scope="module")
def recognise():
    return bestiary.load("whisper-tiny.en", device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def prompts():
    rows = datasets.load("telephone-prompts", "en")
    names = [f"en/{name}.wav" for name in LONG]
    paths = [cell["path"] for cell in rows.data["audio"].to_pylist()]
    return rows.select([number for number, path in enumerate(paths) if path in names])


def test_the_rate_is_that_of_the_transcripts(recognise, prompts):
    found = evaluate(recognise, prompts, progress=silent)
    texts = [normalise_english(transcript.text).split() for transcript in recognise([row["audio"] for row in prompts])]
    said = [normalise_english(text).split() for text in prompts["text"]]
    wrong, words = sum(map(distance, said, texts)), sum(map(len, said))
    assert found.metrics["wer"] == pytest.approx(wrong / words) and found.metrics["wer"] < 0.2
    assert list(found.metrics) == ["wer", "cer"] and (found.rows, found.counts) == (len(LONG), {"words": words})
    assert found.classes == {}
    heard = iter(texts)
    repeated = prompts.map(lambda row: {"text": " ".join(next(heard)).upper()}, load_from_cache_file=False)
    assert evaluate(recognise, repeated, progress=silent).metrics == {"wer": 0, "cer": 0}


def test_rates_by_hand():
    pairs = [Said("one two three", "one too three", "en"), Said("el gato", "el gato negro", "es"), Said("", "", "es")]
    found = _rates(pairs)
    assert found.metrics["wer"] == pytest.approx(2 / 5) and found.metrics["cer"] == pytest.approx((1 + 6) / 20)
    assert found.classes["en"]["wer"] == pytest.approx(1 / 3) and found.classes["es"]["wer"] == pytest.approx(1 / 2)
    assert found.classes["es"]["rows"] == 2 and found.counts == {"words": 5}
    with pytest.raises(InputError, match="nothing is said"):
        _rates([Said("", "boo", "en")])


def test_rows_that_cannot_be_evaluated_on(recognise, prompts):
    with pytest.raises(InputError, match="no column 'text'"):
        evaluate(recognise, prompts.remove_columns("text"))
    with pytest.raises(InputError, match="row 1 has no text"):
        evaluate(recognise, prompts.map(lambda row, number: {"text": None if number == 1 else row["text"]}, with_indices=True))


def test_rows_that_another_library_kept(classify, tmp_path):
    rows = datasets.load("telephone-prompts", "test").select(range(4))
    rows.to_parquet(tmp_path / "kept.parquet")
    theirs = load_dataset("parquet", data_files=str(tmp_path / "kept.parquet"), split="train", cache_dir=str(tmp_path))
    assert type(theirs.features["audio"]) is Audio
    assert evaluate(classify, theirs, progress=silent) == evaluate(classify, rows, progress=silent)


@pytest.fixture(scope="module")
def classify():
    return load_for("ast-audioset", "audio-classification", ["en", "es", "fr"], pretrained=False, config=TINY)


def test_a_classifier_is_right_as_often_as_its_answers_say(classify):
    rows = datasets.load("telephone-prompts", "test").select(range(0, 149, 12))
    answers = [classify(row["audio"], top=1)[0].name for row in rows]
    right = [name == language for name, language in zip(answers, rows["language"], strict=True)]
    found = evaluate(classify, rows, progress=silent)
    assert found.metrics["accuracy"] == pytest.approx(np.mean(right)) and found.rows == len(rows)
    other = rows.cast_column("label", ClassLabel(names=["English", "Spanish", "French"]))
    with pytest.raises(InputError, match="does not know 3 of the data's 3 classes"):
        evaluate(classify, other)
    assert evaluate(classify, other, match="numbers", progress=silent) == found


def test_the_command_line(capsys):
    asked = ["evaluate", "whisper-tiny.en", "--data", "telephone-prompts", "--split", "en", "--limit", "2", "--json", "-q"]
    assert main(asked) == 0
    found = json.loads(capsys.readouterr().out)["evaluations"][0]
    assert found["command"] == "bestiary evaluate whisper-tiny.en --data telephone-prompts --split en --limit 2"
    assert set(found["metrics"]) == {"wer", "cer"} and found["rows"] == 2
    assert main([*asked, "--size", "3"]) == 11
    assert "--size has no meaning for a model of audio" in capsys.readouterr().err
