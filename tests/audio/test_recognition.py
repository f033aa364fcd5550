"""Recognition with real weights and real speech, against faster-whisper with the same."""

import re
from types import SimpleNamespace

import pytest
import torch
from faster_whisper import WhisperModel

import bestiary
from bestiary.audio.recognition.transcript import Transcript
from bestiary.audio.sound import read_sound
from bestiary.errors import InputError
from tests.audio.voices import LONG, SHORT
from tests.ctranslate2_files import whisper_folder

RATE = 16_000
SAID = "please enter your password followed by the pound key"
CLOSE = 0.2  # seconds
PAUSES = (7.4, 14.2, 19.2)  # seconds of the long recording at which there is one
THEIRS = {"language": "en", "beam_size": 1, "best_of": 1, "condition_on_previous_text": False}


@pytest.fixture(scope="module")
def recognize():
    return bestiary.load("whisper-tiny.en", device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def peer(tmp_path_factory):
    """faster-whisper with the same file."""
    folder = whisper_folder(tmp_path_factory.mktemp("peer"))
    return WhisperModel(str(folder), device="cpu", compute_type="float32", cpu_threads=1)


@pytest.fixture(scope="module")
def congratulations():
    return read_sound(LONG, RATE)


def plain(text):
    return re.sub(r"[^a-z0-9 ]", "", text.lower()).split()


def theirs(peer, sound, **options):
    segments, _ = peer.transcribe(sound.numpy(), **THEIRS, **options)
    return list(segments)


@pytest.mark.parametrize("seconds", [11, pytest.param(29, marks=pytest.mark.full)])
def test_short_speech_is_what_it_is_in_faster_whisper(recognize, peer, congratulations, seconds):
    sound = congratulations[: seconds * RATE]
    found, expected = recognize(sound), theirs(peer, sound)
    assert plain(found.text) == plain(" ".join(segment.text for segment in expected))
    assert found.language == "en" and len(found.segments) == len(expected)
    for ours, segment in zip(found.segments, expected, strict=True):
        assert (ours.start, ours.end) == pytest.approx((segment.start, min(segment.end, seconds)), abs=CLOSE)
        assert ours.log_probability == pytest.approx(segment.avg_logprob, abs=0.02)
        assert ours.no_speech == pytest.approx(segment.no_speech_prob, abs=0.02)


def test_long_speech_read_to_the_end_is_what_it_is_in_faster_whisper(recognize, peer, congratulations):
    sound = torch.cat([congratulations, torch.zeros(RATE), congratulations])[: 55 * RATE]
    found, expected = recognize(sound, voice=None), theirs(peer, sound)
    assert plain(found.text) == plain(" ".join(segment.text for segment in expected))
    assert [segment.start for segment in found.segments] == pytest.approx([segment.start for segment in expected], abs=CLOSE)


def test_words_have_the_times_that_they_have_in_faster_whisper(recognize, peer, congratulations):
    sound = congratulations[: 20 * RATE]
    found = recognize(sound, words=True)
    expected = [word for segment in theirs(peer, sound, word_timestamps=True) for word in segment.words]
    assert [word.text for word in found.words] == [word.word.strip() for word in expected]
    far = [
        (ours, word)
        for ours, word in zip(found.words, expected, strict=True)
        if max(abs(ours.start - word.start), abs(ours.end - word.end)) > CLOSE
    ]
    assert len(far) <= 1 and len(found.words) > 40
    for segment in found.segments:
        assert (segment.start, segment.end) == (segment.words[0].start, segment.words[-1].end)
    assert all(word.start <= word.end and 0 < word.probability <= 1 for word in found.words)
    assert recognize(sound).text == found.text and recognize(sound).words == ()


def test_long_speech_is_cut_where_nobody_speaks(recognize, congratulations):
    pause = torch.zeros(12 * RATE)
    sound = torch.cat([pause, congratulations, pause, read_sound(SHORT, RATE), pause])
    found = recognize(sound, words=True)
    assert plain(found.text)[:3] == ["congratulations", "you", "have"] and found.text.endswith("pound key.")
    assert found.segments[0].start == pytest.approx(12.1, abs=CLOSE)
    last = 12 + len(congratulations) / RATE + 12
    assert last - 0.05 < found.segments[-1].start < last + 0.5
    assert all(12 <= word.start <= word.end <= len(sound) / RATE - 12 + CLOSE for word in found.words)
    times = [time for word in found.words for time in (word.start, word.end)]
    assert times == sorted(times)
    streamed = list(recognize.stream(sound, words=True, batch_size=1))
    assert [segment.text for segment in streamed] == [segment.text for segment in found.segments]


def test_one_and_many_are_answered_in_the_form_they_came_in(recognize, congratulations):
    one = recognize(SHORT)
    assert isinstance(one, Transcript) and " ".join(plain(one.text)) == SAID
    for other in recognize([str(SHORT), SHORT.read_bytes()]):
        assert other.text == one.text and [s.tokens for s in other.segments] == [s.tokens for s in one.segments]
    assert recognize([]) == []
    mixed = iter([congratulations[: 8 * RATE], SHORT, torch.zeros(RATE), congratulations])
    answers = recognize(mixed, batch_size=3)
    assert " ".join(plain(next(answers).text)).startswith("congratulations you have")
    assert [" ".join(plain(answer.text)) for answer in answers][:2] == [SAID, ""]
    assert next(mixed, None) is None


@pytest.mark.parametrize("precision", ["bf16", "fp16", "int8"])
def test_other_precisions_hear_the_same(recognize, congratulations, precision):
    other = bestiary.load("whisper-tiny.en", device="cpu", precision=precision)
    sound = congratulations[: int(PAUSES[1] * RATE)]
    assert plain(other(sound).text) == plain(recognize(sound).text)


def noises():
    torch.manual_seed(0)
    times = torch.arange(8 * RATE) / RATE
    brown = torch.randn(8 * RATE).cumsum(0)
    return {
        "a moment": torch.zeros(1),
        "silence": torch.zeros(29 * RATE),
        "long silence": torch.zeros(65 * RATE),
        "white noise": 0.1 * torch.randn(8 * RATE),
        "loud noise": 0.5 * torch.randn(40 * RATE),
        "brown noise": (brown - brown.mean()) / brown.abs().max() / 2,
        "hum": 0.1 * torch.sin(times * 50 * 2 * torch.pi),
        "tone": 0.3 * torch.sin(times * 440 * 2 * torch.pi),
    }


@pytest.mark.parametrize("name", noises())
def test_where_nobody_speaks_there_are_no_words(recognize, name):
    assert recognize(noises()[name]) == Transcript("", (), None)
    assert list(recognize.stream(noises()[name])) == []


def test_a_time_is_not_known_without_heads(recognize):
    card = SimpleNamespace(**{**vars(recognize.card), "preprocess": {**recognize.card.preprocess, "alignment_heads": []}})
    without = type(recognize)(recognize.net, card, recognize.provenance, recognize._saver)
    with pytest.raises(InputError, match="alignment_heads"):
        without(SHORT, words=True)


def test_what_the_command_line_and_tables_get(recognize):
    report = recognize.report([str(SHORT)])
    assert report.columns == ["sound", "start", "end", "text"] and report.rows[0][-1].lower().startswith("please enter")
    (record,) = report.records
    assert record["sound"] == str(SHORT) and record["segments"][0]["start"] == 0
    assert recognize.record(recognize(SHORT)) == {"text": record["text"], "language": "en"}
