"""What Whisper may say, against OpenAI's package with tiny nets of random weights, and step by step."""

from itertools import pairwise

import numpy as np
import pytest
import torch
import whisper

from bestiary.audio.recognition.alignment import first_frames, smoothed
from bestiary.audio.recognition.cuts import Cut, Piece, cuts_of_speech
from bestiary.audio.recognition.decoding import REPETITIVE, Text
from bestiary.audio.recognition.rules import TimestampRules
from bestiary.audio.recognition.segments import cut
from bestiary.audio.recognition.vocabulary import Vocabulary
from bestiary.audio.spans import Span
from bestiary.errors import InputError, LayoutError
from tests.audio.voices import minute
from tests.audio.whispers import tiny, tokenizer_of

RATE = 16_000


@pytest.fixture(scope="module", params=[False, True], ids=["english", "multilingual"])
def multilingual(request):
    return request.param


@pytest.fixture(scope="module")
def pair(multilingual, tmp_path_factory):
    return tiny(tmp_path_factory.mktemp("tiny"), multilingual=multilingual)


@pytest.fixture(scope="module")
def vocabulary(multilingual):
    return Vocabulary(tokenizer_of(multilingual), multilingual)


def test_tokens_mean_what_they_mean_in_openais_package(vocabulary, multilingual):
    theirs = whisper.tokenizer.get_tokenizer(multilingual, language="de", task="translate")
    assert (vocabulary.start, vocabulary.end, vocabulary.times) == (theirs.sot, theirs.eot, theirs.timestamp_begin)
    special = {theirs.sot, theirs.sot_prev, theirs.sot_lm, theirs.no_speech, theirs.no_timestamps}
    assert set(vocabulary.unspoken) == {*theirs.non_speech_tokens, *special, theirs.transcribe, theirs.translate}
    assert vocabulary.prompt("de", "translate", []) == list(theirs.sot_sequence)
    assert list(vocabulary.languages.values()) == (sorted(theirs.all_language_tokens) if multilingual else [])


def test_rules_are_those_of_openais_package(vocabulary, multilingual):
    theirs = whisper.tokenizer.get_tokenizer(multilingual)
    rule = whisper.decoding.ApplyTimestampRules(theirs, 0, 50)
    time, text, ours = vocabulary.times, 1000, TimestampRules(vocabulary, torch.device("cpu"))
    beginnings = [
        [], [time], [time + 9], [time, text], [time, text, text], [time, text, time + 30], [time, text, time + 30, time + 30],
        [time, text, time + 30, time + 44, text], [time, text, time + 1500],
    ]  # fmt: skip
    torch.manual_seed(0)
    for tokens in beginnings:
        for scale in (0.1, 4.0):  # times together are likelier than any text, or are not
            logits = scale * torch.randn(3, vocabulary.times + 1501)
            expected = logits.clone()
            expected[:, list(vocabulary.unspoken)] = -torch.inf
            rule.apply(expected, torch.tensor([tokens] * 3, dtype=torch.long).view(3, len(tokens)))
            before = logits.clone()
            assert torch.equal(ours(logits, [tokens] * 3), expected), tokens
            assert torch.equal(logits, before)


PROMPT = {"initial_prompt": "Ada, Grace.", "carry_initial_prompt": True}


@pytest.mark.parametrize(
    "options, theirs",
    [
        ({}, {}),
        ({"condition_on_previous": True}, {"condition_on_previous_text": True}),
        ({"prompt": "Ada, Grace."}, PROMPT),
    ],
    ids=["plain", "previous", "prompt"],
)
def test_a_random_net_says_what_it_says_in_openais_package(pair, options, theirs):
    check_same(*pair, options, theirs)


def test_a_random_net_translates_as_in_openais_package(tmp_path):
    check_same(*tiny(tmp_path, multilingual=True), *[{"language": "de", "task": "translate"}] * 2)


def check_same(recognize, reference, options, theirs):
    sound = minute()[: 45 * RATE]
    found = recognize(sound, voice=None, temperatures=(0.0,), **options)
    settings = {"temperature": 0, "condition_on_previous_text": False, "fp16": False, **theirs}
    expected = whisper.transcribe(reference, sound.numpy(), **settings)
    assert found.language == expected["language"]
    within = [segment for segment in expected["segments"] if segment["end"] < 45]
    assert len(within) > 1
    for ours, segment in zip(found.segments, within, strict=False):
        assert (ours.start, ours.end) == pytest.approx((segment["start"], segment["end"]), abs=0.011)
        assert list(ours.tokens) == segment["tokens"]
        assert ours.log_probability == pytest.approx(segment["avg_logprob"], abs=0.01)
        assert ours.no_speech == pytest.approx(segment["no_speech_prob"], rel=0.05)


def test_options_that_a_model_does_not_know_are_refused(pair, multilingual):
    recognize, _ = pair
    with pytest.raises(InputError, match="knows en"):
        recognize(minute(), language="xx")
    with pytest.raises(InputError, match="no option"):
        recognize(minute(), beam_size=5)
    with pytest.raises(InputError, match="beams"):
        recognize(minute(), beams=2)
    with pytest.raises(InputError, match="VoiceDetector"):
        recognize(minute(), voice=recognize)
    wrongs = {"task": "sing", "temperatures": (), "prompt": 5, "beams": 0}
    for wrong in ({"temperatures": (-1,)}, *({name: value} for name, value in wrongs.items())):
        with pytest.raises(InputError):
            recognize(minute(), **wrong)
    if not multilingual:
        with pytest.raises(InputError, match="English alone"):
            recognize(minute(), task="translate")


def test_a_tokenizer_of_another_model_is_refused(pair, multilingual, tmp_path):
    recognize, _ = pair
    tokenizer_of(not multilingual).save(str(tmp_path / "tokenizer.json"))
    file = recognize.provenance["tokenizer.json"]
    file.path, before = tmp_path / "tokenizer.json", file.path
    try:
        with pytest.raises(LayoutError, match="not of one model"):
            type(recognize)(recognize.net, recognize.card, recognize.provenance, recognize._saver)
    finally:
        file.path = before


def test_tokens_become_segments(vocabulary):
    time, (one, two, three) = vocabulary.times, (vocabulary.encode(f" {word}")[0] for word in ("one", "two", "three"))

    def parts(*tokens):
        found, read = cut(tokens, vocabulary, 0.02, 30.0)
        return [(part.start, part.end, vocabulary.decode(part.tokens)) for part in found], read

    assert parts() == ([], 30.0)
    assert parts(time, one, time + 100) == ([(0.0, 2.0, "one")], 30.0)
    assert parts(time, one) == ([(0.0, 30.0, "one")], 30.0)
    pair = (time, one, time + 50, time + 60, two, time + 100)
    assert parts(*pair) == ([(0.0, 1.0, "one"), (1.2, 2.0, "two")], 30.0)
    assert parts(*pair, time + 110, three) == ([(0.0, 1.0, "one"), (1.2, 2.0, "two")], 2.0)  # the rest is read again
    assert parts(time, vocabulary.encode(".")[0], time + 50) == ([], 30.0)  # nobody says that


@pytest.mark.parametrize(
    "text, language, words",
    [
        (' He said: "thirty-five, don\'t!" (Yes.)', "en", ["He", "said:", '"thirty-five,', "don't!\"", "(Yes.)"]),
        (" Naïve cafés… 3.5 €", "fr", ["Naïve", "cafés…", "3.5", "€"]),
        ("你好。「再见」", "zh", ["你好。", "「再见」"]),
    ],
)
def test_words_keep_their_punctuation(text, language, words):
    vocabulary = Vocabulary(tokenizer_of(True), True)
    tokens = vocabulary.encode(text)
    pieces = vocabulary.words(tokens, language)
    assert [piece.text for piece in pieces] == words
    for piece in pieces:  # whose tokens leave out what is said of none
        assert vocabulary.decode(tokens[piece.first : piece.end]).strip("…") in piece.text


def test_the_path_is_the_cheapest():
    draw = np.random.default_rng(0)
    for rows, frames in ((1, 5), (4, 9), (7, 7), (6, 40), (5, 3)):
        cost = draw.normal(size=(rows, frames))
        total = np.full((rows + 1, frames + 1), np.inf)
        total[0, 0] = 0
        for row in range(rows):
            for frame in range(frames):
                before = total[row, frame], total[row, frame + 1], total[row + 1, frame]
                total[row + 1, frame + 1] = cost[row, frame] + min(before)
        entries = first_frames(cost)
        paid = cost[-1, entries[-1] :].sum()
        for row, (enters, left) in enumerate(pairwise(entries)):  # a row ends where the next begins, or before
            paid += min(cost[row, enters:end].sum() for end in (left, left + 1) if end > enters)
        assert entries[0] == 0 and paid == pytest.approx(total[-1, -1])


def test_weights_are_smoothed_by_their_median():
    weights = torch.randn(2, 5, 30)
    assert torch.equal(smoothed(weights), whisper.timing.median_filter(weights, 7))
    assert torch.equal(smoothed(weights[..., :3]), weights[..., :3])


def test_texts_are_tested():
    def text(**changes):
        usual = {"log_probability": -0.5, "no_speech": 0.1, "temperature": 0.0, "repetition": 1.0}
        return Text((), (), **{**usual, **changes})

    assert text().good
    assert not text(repetition=REPETITIVE + 0.1).good
    assert not text(log_probability=-1.1).good
    assert text(log_probability=-1.1, no_speech=0.7).good and text(log_probability=-1.1, no_speech=0.7).silent
    assert not text(no_speech=0.7).silent  # it is certain of its words


def test_a_random_net_is_asked_again_at_other_temperatures(pair):
    recognize, _ = pair
    first = recognize(minute()[: 5 * RATE], voice=None, temperatures=(0.0, 0.5), seed=1)
    assert {segment.temperature for segment in first.segments} <= {0.0, 0.5}
    assert first == recognize(minute()[: 5 * RATE], voice=None, temperatures=(0.0, 0.5), seed=1)


def test_times_of_a_cut_are_those_of_the_sound():
    window = Cut(torch.zeros(5 * RATE), (Piece(0, 10 * RATE, 2 * RATE), Piece(2 * RATE, 20 * RATE, 3 * RATE)), RATE, quiet=0.2)
    assert window.place(0.5, 1.5) == (10.5, 11.5)
    assert window.place(2.5, 5.0) == (20.5, 23.0)
    assert window.place(1.0, 4.0) == (11.0, 22.0)
    assert window.place(1.9, 4.0) == (20.0, 22.0)  # begins in the silence before the second
    assert window.place(0.5, 2.1) == (10.5, 12.0)  # ends in the silence behind the first
    assert window.place(1.9, 2.1)[0] <= window.place(1.9, 2.1)[1]
    rest = window.after(2.5)
    assert rest.place(0.5, 1.0) == (21.0, 21.5) and rest.seconds == 2.5


def test_cuts_hold_all_that_is_spoken_and_no_more_is_kept_than_that():
    torch.manual_seed(0)
    sound, read = torch.randn(100 * RATE), []
    spans = [Span(1, 3), Span(5, 14), Span(14.4, 15), Span(20, 28), Span(40, 59), Span(70, 80), Span(95, 99)]

    def blocks():
        for block in sound.split(RATE):
            read.append(len(block))
            yield block

    def follow(pieces):
        place, todo = 0, list(spans)
        for piece in pieces:
            place += len(piece)
            while todo and todo[0].end * RATE <= place:
                yield todo.pop(0)

    ahead, found = [], []
    for window in cuts_of_speech(blocks(), follow, rate=RATE, longest=20, quiet=0.2):
        found.append(window)
        ahead.append(sum(read) - window.pieces[-1].start - window.pieces[-1].length)
    assert [[piece.start / RATE for piece in window.pieces] for window in found] == [[1, 5, 20], [40], [70, 95]]
    for window in found:
        assert window.seconds <= 20
        for piece in window.pieces:
            part = window.samples[piece.at : piece.at + piece.length]
            assert torch.equal(part, sound[piece.start : piece.start + piece.length])
    assert [piece.length / RATE for piece in found[0].pieces] == pytest.approx([2, 10, 8])  # little silence stays
    assert max(ahead) <= 45 * RATE  # from one span to the end of the next that does not fit
