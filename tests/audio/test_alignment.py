"""Known text to sound, with a net that hears what it is told, so that the times are known."""

import random
from itertools import pairwise

import pytest
import torch

from bestiary.audio.anchors import parts
from bestiary.audio.ctc import MOST
from bestiary.audio.letters import Letters, LettersPreprocess
from bestiary.audio.listening import MARGIN, PIECE, Listener
from bestiary.audio.recognition.transcript import Word
from bestiary.audio.tasks.alignment import LONGEST, AlignedWord, Aligner
from bestiary.errors import InputError, LayoutError
from tests.audio.spoken import BLANK, FRAME, LABELS, labels_of, said, sound_of, task_of

NAMES = [
    "ADA", "CHARLES", "ENGINE", "NUMBERS", "LONDON", "BRIDGE", "RIVER", "WINTER", "SUMMER", "WALKED", "STOOD", "HEARD",
    "WROTE", "OVER", "UNDER", "WITH", "AND", "THE", "A", "OF",
]  # fmt: skip


@pytest.fixture(scope="module")
def align():
    return task_of(Aligner, "speech-alignment")


def check(words, texts, times, within=1e-6):
    assert [word.text for word in words] == list(texts)
    for word, (start, end) in zip(words, times, strict=True):
        assert (word.start, word.end) == (pytest.approx(start, abs=within), pytest.approx(end, abs=within))


def test_words_have_their_times(align):
    sound, times = said("HELLO", "WORLD")
    found = align(sound, "HELLO WORLD")
    check(found.words, ["HELLO", "WORLD"], times)
    assert all(word.probability > 0.95 for word in found.words)
    assert found.text == "HELLO WORLD" and len(found.segments) == 1


def test_a_text_need_not_be_written_as_the_model_writes(align):
    """Capitals, typographic apostrophes, accents, a word of two, and signs that nobody speaks."""
    sound, times = said("IT'S", "WELL", "KNOWN", "AT", "THE", "CAFE", "DON'T")
    found = align(sound, "\u201cIt\u2019s well-known \u2014 at the\u00a0Cafe\u0301: DON'T!\u201d").words
    texts = ["\u201cIt\u2019s", "well-known", "at", "the", "Cafe\u0301:", "DON'T!\u201d"]
    check(found, texts, [times[0], (times[1][0], times[2][1]), *times[3:]])


def test_lines_are_segments(align, tmp_path):
    sound, times = said("ONE", "TWO", "THREE")
    found = align(sound, "One two,\n\n  -- \n  three.")
    assert [segment.text for segment in found.segments] == ["One two,", "three."]
    assert [(segment.start, segment.end) for segment in found.segments] == [
        (pytest.approx(times[0][0]), pytest.approx(times[1][1])), pytest.approx(times[2])
    ]  # fmt: skip
    found.save(tmp_path / "said.srt")
    assert (tmp_path / "said.srt").read_text().splitlines()[1] == "00:00:00,200 --> 00:00:00,560"


def test_what_is_not_said_has_a_low_probability(align):
    sound, _ = said("HELLO", "WORLD", silence=20)
    good, bad = align(sound, "hello world").words, align(sound, "hello girls").words
    assert good[0].probability > 0.95 and bad[0].probability > 0.95
    assert bad[1].probability < 0.5 < good[1].probability


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("call 12 men", "'1' in '12' is no letter that the model knows\nwrite what is said in its letters"),
        ("Ada & Charles", "'&' in '&' is no letter"),
        ("mañana пять", "'п' in 'пять' is no letter"),
        ("", "'' has no words to align"),
        ("…—!", "has no words to align"),
        ("hello world " * 20, "a text of 239 letters is longer than the sound allows, which has 47 frames"),
    ],
)
def test_texts_that_cannot_be_aligned_are_refused(align, text, message):
    sound, _ = said("HELLO", "WORLD")
    with pytest.raises(InputError) as error:
        align(sound, text)
    assert message in str(error.value)


def test_many_sounds(align):
    one, two = said("ONE"), said("TWO", "THREE")
    texts = ["one", "two three"]
    found = align([(one[0], texts[0]), (two[0], texts[1])])
    check(found[0].words, ["one"], one[1])
    check(found[1].words, ["two", "three"], two[1])
    assert align([]) == []
    assert next(align(iter([(one[0], "one")]))) == found[0]
    assert align((one[0], "one")) == found[0] == align.answers([(one[0], "one")])[0]
    assert align.record(found[0]) == {"words": [AlignedWord("one", *one[1][0], found[0].words[0].probability)]}
    assert align.returns() == {"words": list[AlignedWord]}
    with pytest.raises(InputError, match="sound 1 comes without its text"):
        align([(one[0], "one"), two[0]])


def test_a_report_of_a_file(align, tmp_path):
    import soundfile

    sound, times = said("GOOD", "BYE")
    soundfile.write(tmp_path / "said.wav", sound.numpy(), 16_000, subtype="FLOAT")
    (tmp_path / "said.txt").write_text("Good bye")
    for text in ("Good bye", str(tmp_path / "said.txt")):
        report = align.report([str(tmp_path / "said.wav"), text])
        assert report.columns == ["word", "start", "end", "score"]
        shown = [[word, f"{start:.2f}", f"{end:.2f}"] for word, (start, end) in zip(["Good", "bye"], times, strict=True)]
        assert [row[:3] for row in report.rows] == shown
        assert [record["text"] for record in report.records] == ["Good", "bye"]
    with pytest.raises(InputError, match="a sound and its text"):
        align.report([str(tmp_path / "said.wav")])
    with pytest.raises(InputError, match="cannot be read"):
        align.report([str(tmp_path / "said.wav"), str(tmp_path / "none.txt")])


def long_speech(count, wrong=0.0):
    """So many words, each frame's label, and the times; now and then a letter is heard as another."""
    choose = random.Random(0)
    words = [choose.choice(NAMES) for _ in range(count)]
    heard = [choose.choice("EIOU") + word[1:] if choose.random() < wrong else word for word in words]
    frames, times = labels_of(heard, pause=8)
    return words, frames, times


def test_half_an_hour_is_cut_and_aligned_all_the_same(align):
    words, frames, times = long_speech(5000, wrong=0.1)
    letters = sum(map(len, words))
    assert len(frames) * FRAME > 1800 and len(frames) * 2 * letters > MOST  # more than can be aligned in one
    found = align(sound_of(frames), " ".join(words)).words
    check(found, words, times, within=2.5 * FRAME)  # a letter that nobody said may be found anywhere in its place
    assert sum((word.start, word.end) == pytest.approx(own) for word, own in zip(found, times, strict=True)) > 0.9 * len(words)


def test_parts_are_no_longer_than_asked_and_leave_nothing_out():
    words, frames, times = long_speech(600, wrong=0.2)
    letters = Letters(LABELS, LettersPreprocess(normalize=False, blank="<pad>"))
    log_probabilities = (9.0 * torch.nn.functional.one_hot(torch.tensor(frames), len(LABELS))).log_softmax(-1)
    found = parts(log_probabilities, letters.spelled(" ".join(words)), letters, 1500)
    assert len(found) >= len(frames) / 1500
    assert all(part.last_frame - part.first_frame <= 1500 for part in found)
    assert (found[0].first_frame, found[0].first_word) == (0, 0)
    assert (found[-1].last_frame, found[-1].last_word) == (len(frames), len(words))
    for before, part in pairwise(found):
        assert (before.last_frame, before.last_word) == (part.first_frame, part.first_word)
        assert times[part.first_word - 1][1] <= part.first_frame * FRAME <= times[part.first_word][0]


def test_a_sound_that_does_not_hold_the_text_is_not_cut():
    letters = Letters(LABELS, LettersPreprocess(normalize=False, blank="<pad>"))
    frames = torch.zeros(4000, len(LABELS))
    frames[:, BLANK] = 9
    found = parts(frames.log_softmax(-1), letters.spelled("some words that nobody ever said"), letters, 1000)
    assert found == [(0, 4000, 0, 6)]


@pytest.mark.parametrize("seconds", [0.02, 1, PIECE, PIECE + 2 * MARGIN, PIECE + 2 * MARGIN + 0.02, 61.3])
def test_sounds_of_any_length_are_heard_at_every_frame_once(align, seconds):
    torch.manual_seed(0)
    frames = torch.randint(len(LABELS), (round(seconds / FRAME),)).tolist()
    (heard,) = align.listener.hear([sound_of(frames)])
    assert heard.argmax(-1).tolist() == frames
    assert torch.allclose(heard.exp().sum(-1), torch.ones(len(frames)))


def test_a_sound_shorter_than_a_frame_has_none(align):
    assert align.listener.hear([torch.zeros(399), sound_of([5])])[0].shape == (0, len(LABELS))
    with pytest.raises(InputError, match="longer than the sound allows, which has 0 frames"):
        align(torch.zeros(100), "a")


def test_labels_and_letters_have_to_agree():
    with pytest.raises(LayoutError, match="spoken has 3 labels, and a net that gives 32 letters"):
        task_of(Aligner, labels=("<pad>", "|", "A"))
    with pytest.raises(LayoutError, match="'<pad>' is none of the labels"):
        task_of(Aligner, labels=("<blank>", *LABELS[1:]))


def test_words_of_a_model_without_a_delimiter():
    letters = Letters(("-", "A", "B"), LettersPreprocess(normalize=False, blank="-"))
    spelled = letters.spelled("ab a")
    assert letters.joined(spelled) == [1, 2, 1] and letters.text([1, 2, 1]) == "ABA"


def test_special_labels_are_no_letters():
    letters = Letters(("[PAD]", "[UNK]", "|", "a", "b"), LettersPreprocess(normalize=False, blank="[PAD]", lowercase=True))
    assert letters.text([1, 3, 2, 2, 1, 4]) == "a b"
    with pytest.raises(InputError, match="'é' in 'é' is no letter"):
        letters.spelled("é")
    assert [word.tokens for word in letters.spelled("À B")] == [[3], [4]]


def test_the_longest_that_is_aligned_at_once_can_be_counted():
    frames = int(LONGEST / FRAME)
    assert frames * (2 * frames + 1) <= MOST
    assert isinstance(task_of(Aligner).listener, Listener) and Word("a", 0, 1, 1).text
