"""Recognition by letters, with a net that hears what it is told."""

from functools import partial

import pytest
import torch

from bestiary.audio.ctc_reader import CtcReader
from bestiary.audio.recognition.reader import Options, Window
from bestiary.audio.tasks.alignment import Aligner
from bestiary.audio.tasks.recognition import SpeechRecognizer
from bestiary.errors import InputError
from tests.audio.spoken import BLANK, FRAME, GAP, LABELS, labels_of, said, sound_of, task_of


@pytest.fixture(scope="module")
def task():
    return task_of(SpeechRecognizer)


@pytest.fixture(scope="module")
def recognize(task):
    """Without what finds voices, as there is none in what the net is told."""
    return partial(task, voice=None)


def test_what_is_said_is_written_down(recognize):
    sound, times = said("HELLO", "LITTLE", "WORLD")
    found = recognize(sound)
    assert found.text == "HELLO LITTLE WORLD" and found.words == ()
    (segment,) = found.segments
    assert (segment.start, segment.end) == (pytest.approx(times[0][0]), pytest.approx(times[-1][1]))
    assert -0.1 < segment.log_probability < 0
    assert [LABELS[token] for token in segment.tokens] == list("HELLO|LITTLE|WORLD")


@pytest.mark.parametrize("beams", [1, 8])
def test_words_have_their_times(recognize, beams):
    sound, times = said("ONE", "TWO")
    words = recognize(sound, words=True, beams=beams).words
    assert [(word.text, word.start, word.end) for word in words] == [
        (text, pytest.approx(start), pytest.approx(end)) for text, (start, end) in zip(["ONE", "TWO"], times, strict=True)
    ]
    assert all(0.99 < word.probability <= 1 for word in words)


def test_pauses_cut_segments(recognize):
    one, _ = labels_of(["GOOD", "DAY"])
    sound = sound_of([*one, GAP, *[BLANK] * 40, *one])
    assert [segment.text for segment in recognize(sound).segments] == ["GOOD DAY", "GOOD DAY"]
    assert recognize(sound).text == "GOOD DAY GOOD DAY"


def test_a_beam_reads_what_the_best_path_misses():
    """Two halves of the probability of a letter go to two paths, and a blank outweighs each of them."""
    reader = CtcReader(task_of(SpeechRecognizer))
    certain = torch.tensor([[0.6, 0.4], [0.6, 0.4]]).log()
    frames = torch.full((2, len(LABELS)), -30.0)
    frames[:, [BLANK, 5]] = certain
    assert reader._tokens(frames, 1) == [] and reader._tokens(frames, 4) == [5]


@pytest.mark.parametrize("sound", [torch.zeros(16_000), torch.zeros(100), torch.zeros(1)], ids=["silence", "short", "a sample"])
def test_of_nothing_nothing_is_written(recognize, sound):
    assert recognize(sound) == recognize([sound, sound])[1]
    assert recognize(sound).text == "" and recognize(sound).segments == ()


def test_special_labels_are_not_written(recognize):
    frames, _ = labels_of(["YES"])
    odd = [LABELS.index(label) for label in ("<s>", "<unk>", "</s>")]
    assert recognize(sound_of([*odd, *frames, *odd])).text == "YES"


def test_windows_read_one_after_the_other_cut_no_word(task, recognize):
    """Where a window ends within a word, the next one begins before it."""
    words = [f"{first}{second}MORE" for first in "ABCDEFGHIJ" for second in "ABCDEFGHIJKLM"]
    frames, times = labels_of(words)
    seconds = len(frames) * FRAME
    assert seconds > 1.5 * task.reader.seconds
    found = recognize(sound_of(frames), words=True)
    assert [word.text for word in found.words] == words
    assert all(abs(word.start - start) < 2 * FRAME for word, (start, _) in zip(found.words, times, strict=True))


def test_a_word_that_fills_a_window_is_read_all_the_same():
    reader = CtcReader(task_of(SpeechRecognizer))
    samples = sound_of([frame for letter in "ABCDEFGHIJKLM" for frame in 100 * [LABELS.index(letter)]])
    window = Window(samples[: int(reader.seconds * reader.rate)])
    (reading,) = reader.read([window], Options())
    assert reading.seconds == reader.seconds and reading.segments[0].text == "ABCDEFGHIJKL"


@pytest.mark.parametrize(
    ("name", "value"),
    [("language", "en"), ("task", "translate"), ("prompt", "names"), ("condition_on_previous", True), ("temperatures", (0.0,))],
)
def test_what_only_a_decoder_can_do_is_refused(recognize, name, value):
    with pytest.raises(InputError, match=f"spoken writes down letters and knows no {name}="):
        recognize(torch.zeros(16_000), **{name: value})


def test_the_same_net_aligns(task):
    aligner = task.aligner()
    assert isinstance(aligner, Aligner) and aligner.net is task.net and aligner.card.task == "speech-alignment"
    sound, times = said("ONE", "TWO")
    assert [word.start for word in aligner(sound, "one, two").words] == [pytest.approx(start) for start, _ in times]
