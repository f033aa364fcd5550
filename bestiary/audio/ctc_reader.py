"""Recognition of speech by nets that give letters at every frame; see `bestiary.audio.recognition.reader`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from torch import Tensor

from bestiary.audio import ctc
from bestiary.audio.letters import Spelled
from bestiary.audio.listening import MARGIN, PIECE, Listener, segment_of
from bestiary.audio.recognition.reader import TEMPERATURES, Options, Reading, Window
from bestiary.audio.recognition.transcript import Segment, Word
from bestiary.errors import InputError

PAUSE = 0.8  # seconds of silence between two words that end a segment
EDGE = 1.0  # seconds at the end of a full window, whose words may be cut and are left to the next one
UNKNOWN = {  # options that such a net has no use for, and the value that asks for nothing
    "language": None,
    "task": "transcribe",
    "prompt": None,
    "condition_on_previous": False,
    "temperatures": TEMPERATURES,
}


class CtcReader:
    """Reads windows by the most probable path of letters or, with `beams`, by the most probable letters of all paths."""

    seconds = PIECE + 2 * MARGIN
    multilingual = False

    def __init__(self, task: Any):
        self.listener = Listener(task)
        self.rate = self.listener.rate
        self.name = task.card.name

    def check(self, options: Options) -> None:
        """Raise InputError for what only a net with a decoder can do."""
        for name, value in UNKNOWN.items():
            if (given := getattr(options, name)) != value:
                raise InputError(f"{self.name} writes down letters and knows no {name}={given!r}\nleave it out or take Whisper")

    def read(self, windows: Sequence[Window], options: Options) -> list[Reading]:
        heard = self.listener.hear([window.samples for window in windows])
        return [self._reading(frames, len(window.samples), options) for frames, window in zip(heard, windows, strict=True)]

    def _reading(self, frames: Tensor, samples: int, options: Options) -> Reading:
        letters = self.listener.letters
        spelled = letters.words(self._tokens(frames, options.beams))
        spans = ctc.align(frames, letters.joined(spelled), letters.blank)
        words, seconds = list(self.listener.words(spelled, spans)), samples / self.rate
        if samples >= int(self.seconds * self.rate):
            words, seconds = _uncut(words, seconds)
        return Reading(tuple(self._segments(words, spelled, options)), None, seconds)

    def _segments(self, words: Sequence[Word], spelled: Sequence[Spelled], options: Options) -> Iterator[Segment]:
        """What was said between two pauses each."""
        pauses = [number for number, (word, after) in enumerate(pairwise(words), 1) if after.start - word.end >= PAUSE]
        for start, end in pairwise([0, *pauses, len(words)] if words else []):
            own = words[start:end]
            segment = segment_of(" ".join(word.text for word in own), own)
            tokens = tuple(self.listener.letters.joined(spelled[start:end]))
            yield replace(segment, words=segment.words if options.words else (), tokens=tokens)

    def _tokens(self, frames: Tensor, beams: int) -> list[int]:
        blank = self.listener.letters.blank
        return ctc.greedy(frames, blank) if beams == 1 else ctc.beam_search(frames, blank, beams=beams)[0].tokens


def _uncut(words: Sequence[Word], seconds: float) -> tuple[list[Word], float]:
    """The words of a window of so many seconds that surely end in it, and how far these go."""
    whole = [word for word in words if word.end <= seconds - EDGE]
    if not whole or len(whole) == len(words):
        return list(words), seconds
    return whole, min((whole[-1].end + words[len(whole)].start) / 2, seconds - EDGE)
