"""Transcripts and the files that hold them."""

import json

import pytest

from bestiary.audio.recognition.transcript import Segment, Transcript, Word
from bestiary.errors import InputError

WORDS = (Word(0.0, 0.4, "A", 0.9), Word(0.5, 1.25, "<b>", 0.5))
TRANSCRIPT = Transcript.of([Segment(0.0, 1.25, "A <b>", WORDS), Segment(3661.0, 3662.0005, "C --> d & e")], language="en")


@pytest.mark.parametrize(
    "name, content",
    [
        ("a.srt", "1\n00:00:00,000 --> 00:00:01,250\nA <b>\n\n2\n01:01:01,000 --> 01:01:02,000\nC -> d & e\n"),
        ("a.VTT", "WEBVTT\n\n00:00:00.000 --> 00:00:01.250\nA &lt;b>\n\n01:01:01.000 --> 01:01:02.000\nC -> d &amp; e\n"),
        ("a.txt", "A <b>\nC --> d & e\n"),
    ],
)
def test_files_of_text(name, content, tmp_path):
    TRANSCRIPT.save(tmp_path / name)
    assert (tmp_path / name).read_text() == content


def test_json_has_all_there_is(tmp_path):
    TRANSCRIPT.save(str(tmp_path / "a.json"))
    read = json.loads((tmp_path / "a.json").read_text())
    assert read["text"] == TRANSCRIPT.text == "A <b> C --> d & e" and read["language"] == "en"
    first, second = read["segments"]
    assert first["words"][1] == {"start": 0.5, "end": 1.25, "text": "<b>", "probability": 0.5}
    assert "words" not in second and {"log_probability", "no_speech", "temperature"} <= second.keys()


def test_nothing_said_is_an_empty_file_of_each_kind(tmp_path):
    for kind, content in {"srt": "", "vtt": "WEBVTT\n", "txt": ""}.items():
        assert Transcript.of([], None).written(kind) == content
    assert json.loads(Transcript.of([], None).written("json")) == {"text": "", "language": None, "segments": []}


@pytest.mark.parametrize("name", ["a.doc", "a", "missing/a.txt"])
def test_what_cannot_be_written_is_refused_and_leaves_nothing(name, tmp_path):
    with pytest.raises(InputError):
        TRANSCRIPT.save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_languages_without_spaces_are_joined_without():
    segments = [Segment(0, 1, "你好。"), Segment(1, 2, "再见。")]
    assert Transcript.of(segments, "zh").text == "你好。再见。"
    assert TRANSCRIPT.words == WORDS
