"""What is said about a recognition, and what a net has to offer to take part in one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, get_args

from torch import Tensor

from bestiary.audio.recognition.transcript import Segment
from bestiary.errors import InputError

TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
SpeechTask = Literal["transcribe", "translate"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How speech is to be read. Raises InputError for a value out of its range; a reader refuses what it cannot do."""

    language: str | None = None  # a code such as "en"; None: the model finds out
    task: SpeechTask = "transcribe"  # in the language that is spoken, or in English
    prompt: str | None = None  # a text that the sound is taken to follow: names, terms, a way of writing
    words: bool = False  # whether to find the times of words
    condition_on_previous: bool = False  # whether each window is read as what follows the text of the one before
    temperatures: Sequence[float] = TEMPERATURES  # tried one after the other until a text passes the tests
    beams: int = 1  # readings that grow side by side
    seed: int = 0  # of what is drawn at a temperature above 0

    def __post_init__(self) -> None:
        if self.task not in get_args(SpeechTask):
            raise InputError(f"task={self.task!r} is not known\nit is one of {', '.join(get_args(SpeechTask))}")
        temperatures = self.temperatures
        if isinstance(temperatures, int | float) or not temperatures or not all(0 <= value < math.inf for value in temperatures):
            raise InputError(f"temperatures={temperatures!r} are not numbers to try\ngive a tuple, each 0 or more")
        if isinstance(self.beams, bool) or not isinstance(self.beams, int) or self.beams < 1:
            raise InputError(f"beams={self.beams!r} is not a number of readings\ngive 1 or more")
        if self.prompt is not None and not isinstance(self.prompt, str):
            raise InputError(f"prompt={self.prompt!r} is not a text\ngive a str")


class Window(NamedTuple):
    """A stretch of sound that is read at once."""

    samples: Tensor  # (samples,) at the reader's rate, on the CPU, at least one and at most as many as the reader takes
    language: str | None = None  # what is known to be spoken
    previous: tuple[int, ...] = ()  # tokens of what was said before, where windows are read one after the other


class Reading(NamedTuple):
    """What was read in a window."""

    segments: Sequence[Segment]  # in order, times in seconds from the window's beginning; none where nobody speaks
    language: str | None  # what is spoken, where the net knows
    seconds: float  # how far the window was read: the next one begins there
    no_speech: float = 0.0  # the probability that nobody speaks, where the net knows


class Reader(Protocol):
    """A net that reads windows of sound.

    `READERS` of `bestiary.audio.tasks.recognition` names a class for each architecture, and calls it with the task object: its
    `inference`, `device`, `card`, `file("tokenizer")`.
    """

    rate: int  # Hz
    seconds: float  # the longest window
    multilingual: bool  # whether it finds out what is spoken, where it is not told

    def __init__(self, task: Any): ...

    def check(self, options: Options) -> None:
        """Raises InputError for options that the net knows nothing of."""

    def read(self, windows: Sequence[Window], options: Options) -> list[Reading]:
        """What is said in each of the windows, read together."""
        ...
