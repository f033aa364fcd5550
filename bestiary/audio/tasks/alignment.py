"""Known text to sound: when each word is said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from bestiary.audio import ctc
from bestiary.audio.anchors import parts
from bestiary.audio.letters import Spelled
from bestiary.audio.listening import Listener, segment_of
from bestiary.audio.recognition.transcript import Transcript, Word
from bestiary.audio.sound import read_sound
from bestiary.audio.tasks.sounds import SoundTask
from bestiary.core.task import Report, batched
from bestiary.errors import InputError

LONGEST = 120.0  # seconds that are aligned at once: the work grows with the square, and a longer sound is cut first


class AlignedWord(NamedTuple):
    """A word of the text and when it is said, in seconds, with the probability of its letters at that time."""

    text: str
    start: float
    end: float
    score: float


class Aligner(SoundTask):
    """Sounds and their texts to the times of the words, by a net of letters.

        align = bestiary.load("wav2vec2-base-960h").aligner()
        align("speech.flac", "Hello, world.").words     # (Word(start=0.42, end=0.71, text="Hello,", probability=0.97), …)
        align("speech.flac", "Hello, world.").save("speech.srt")
    """

    forms = (("audio", "text"),)

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self.listener = Listener(self)
        self.rate = self.listener.rate

    def __call__(self, sounds: Any, text: str | None = None, *, batch_size: int | None = None) -> Any:
        """The transcript of a sound and its text, with the times of all words; its segments are the lines of the text.

        For a list of tuples, each of a sound and its text, it is a list of them; an iterator is answered by an iterator.
        Capitals, accents and punctuation need not be as the model writes them, but what is spoken has to be there in letters:
        "twelve", not "12". The `probability` of a word tells what the net thinks of it: it is low where something else is said.
        A sound of hours is heard in pieces, and cut where the net hears the words of the text.

        Raises InputError for what is no sound, a letter that the model does not know, a text without words, and one that is
        longer than its sound allows.
        """
        if text is not None or isinstance(sounds, tuple):
            return self._align([_pair(sounds if text is None else (sounds, text), 0)])[0]
        batches = batched(enumerate(sounds), self.at_once if batch_size is None else batch_size)
        answers = (found for batch in batches for found in self._align([_pair(pair, number) for number, pair in batch]))
        return list(answers) if isinstance(sounds, Sequence) else answers

    def returns(self) -> Mapping[str, Any]:
        return {"words": list[AlignedWord]}

    def record(self, result: Transcript) -> Mapping[str, Any]:
        return {"words": [AlignedWord(word.text, word.start, word.end, word.probability) for word in result.words]}

    def report(self, inputs: Sequence[str]) -> Report:
        """A sound, then its text, or the path of a .txt that holds it."""
        if len(inputs) != 2:
            raise InputError("an alignment takes a sound and its text\ngive the sound, then the text in quotes or as a .txt")
        words = self.record(self(inputs[0], _typed(inputs[1])))["words"]
        rows = [[word.text, f"{word.start:.2f}", f"{word.end:.2f}", f"{word.score:.1%}"] for word in words]
        return Report(columns=["word", "start", "end", "score"], rows=rows, records=[word._asdict() for word in words])

    def _align(self, pairs: Sequence[tuple[Any, str]]) -> list[Transcript]:
        lines = [self._lines(text) for _, text in pairs]  # a text that cannot be aligned is refused before anything is heard
        sounds = [read_sound(sound, self.rate, f"sound {number}") for number, (sound, _) in enumerate(pairs)]
        return [self._transcript(*row) for row in zip(self.listener.hear(sounds), lines, strict=True)]

    def _lines(self, text: str) -> list[tuple[str, list[Spelled]]]:
        """The lines of a text that have words, with those."""
        lines = [(" ".join(line.split()), self.listener.letters.spelled(line)) for line in text.splitlines()]
        if not any(words for _, words in lines):
            raise InputError(f"{text[:40]!r} has no words to align\ngive what is said in the sound")
        return [(line, words) for line, words in lines if words]

    def _transcript(self, frames: Tensor, lines: Sequence[tuple[str, list[Spelled]]]) -> Transcript:
        timed = self._words(frames, [word for _, words in lines for word in words])
        return Transcript.of([segment_of(line, [next(timed) for _ in words]) for line, words in lines], None)

    def _words(self, frames: Tensor, words: Sequence[Spelled]) -> Iterator[Word]:
        listener, letters = self.listener, self.listener.letters
        for part in parts(frames, words, letters, int(LONGEST * self.rate) // listener.config.hop):
            own = words[part.first_word : part.last_word]
            spans = ctc.align(frames[part.first_frame : part.last_frame], letters.joined(own), letters.blank)
            yield from listener.words(own, spans, part.first_frame)


def _pair(given: Any, number: int) -> tuple[Any, str]:
    if not (isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], str)):
        raise InputError(f"sound {number} comes without its text\ngive a tuple of both, or align(sound, text)")
    return given


def _typed(text: str) -> str:
    """What was typed, or what the .txt of that name holds."""
    if not text.endswith(".txt"):
        return text
    try:
        return Path(text).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{text} cannot be read: {error}\ngive the path of a text in UTF-8") from None
