"""Sounds to the spans in which somebody speaks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor

from bestiary.audio.drawing import draw_probabilities
from bestiary.audio.silero_vad import SileroVad, State
from bestiary.audio.sound import sound_blocks
from bestiary.audio.spans import Cutting, Span, find_spans
from bestiary.audio.tasks.sounds import SoundTask
from bestiary.core.record import record
from bestiary.core.runtime import one_thread_each
from bestiary.core.task import Report

FRAMES = 512  # that are computed at once; their activations fit the cache, and 16 s are little to wait for in a stream


@dataclass(frozen=True, kw_only=True)
class VoicePreprocess:
    """The keys of a card's `preprocess` for voice-activity."""

    rate: int = 16_000  # Hz


class Spans(list[Span]):
    """The spans of a sound, in their order: a list of Span that can draw itself."""

    def __init__(self, spans: Iterable[Span], probabilities: Tensor, frame: float, threshold: float):
        super().__init__(spans)
        self.probabilities = probabilities  # (frames,) fp32
        self.frame = frame  # seconds
        self.threshold = threshold

    def plot(self) -> Image.Image:
        """The probability of speech over time, and behind it the spans."""
        return draw_probabilities(self.probabilities.tolist(), self, frame=self.frame, threshold=self.threshold)


class VoiceDetector(SoundTask):
    """Sounds to spans of speech.

    >>> import bestiary
    >>> detect = bestiary.load("silero-vad")
    >>> detect(torch.zeros(16000))
    []
    """

    keys = ("rate",)

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self.rate = record(VoicePreprocess, self.card.preprocess, f"preprocess of {self.card.name}").rate
        self.frame: int = cast(Any, self.net.config).frame  # samples of which each probability is

    def __call__(
        self,
        sounds: Any,
        *,
        threshold: float = Cutting.threshold,
        release: float | None = None,
        shortest: float = Cutting.shortest,
        pause: float = Cutting.pause,
        padding: float = Cutting.padding,
        longest: float = Cutting.longest,
        batch_size: int | None = None,
    ) -> Any:
        """`Spans`, a list of Span(start, end) in seconds, for one sound; a list of these for a list of sounds.

        What counts as a sound: see `bestiary.audio.sound.read_sound`. A span begins with a frame whose probability of speech is
        at least `threshold`, 0.5, and ends before a `pause`, 0.1 s, of frames that are not, the first and the last of them below
        `release`, threshold - 0.15. Spans no longer than `shortest`, 0.25 s, are left out, `padding`, 0.03 s, is added on both
        sides, and spans above `longest` seconds, infinite, are cut, best at a pause. Raises InputError, for an address also
        OfflineError or SourceError.
        """
        asked = Cutting(threshold=threshold, release=release, shortest=shortest, pause=pause, padding=padding, longest=longest)

        def spans_of(samples: Tensor) -> Spans:
            blocks = list(self._blocks([samples]))
            found = find_spans(blocks, asked, frame=self.frame, rate=self.rate)
            probabilities = torch.tensor([value for _, values in blocks for value in values])
            return Spans(found, probabilities, self.frame / self.rate, asked.threshold)

        return self.answered(sounds, lambda batch: one_thread_each(spans_of, batch, self.device), batch_size=batch_size)

    def probabilities(self, sounds: Any, *, batch_size: int | None = None) -> Any:
        """How probable speech is in each frame, fp32, on the CPU: (frames,) for one sound, a list of these for a list.

        A frame is 32 ms long; zeros fill the last one. Raises what a call does.
        """

        def follow(samples: Tensor) -> Tensor:
            return torch.tensor([value for _, values in self._blocks([samples]) for value in values])

        return self.answered(sounds, lambda batch: one_thread_each(follow, batch, self.device), batch_size=batch_size)

    def stream(
        self,
        sound: Any,
        *,
        threshold: float = Cutting.threshold,
        release: float | None = None,
        shortest: float = Cutting.shortest,
        pause: float = Cutting.pause,
        padding: float = Cutting.padding,
        longest: float = Cutting.longest,
    ) -> Iterator[Span]:
        """The spans of one sound, each soon after the next has begun; hours take no more memory than minutes.

        The sound is read as it is needed. Options, results and errors are those of a call.

        >>> import bestiary
        >>> list(bestiary.load("silero-vad").stream(torch.zeros(16000), threshold=0.6))
        []
        """
        asked = Cutting(threshold=threshold, release=release, shortest=shortest, pause=pause, padding=padding, longest=longest)
        return self.follow(sound_blocks(sound, self.rate), asked)

    def follow(self, blocks: Iterable[Tensor], asked: Cutting) -> Iterator[Span]:
        """The same of a sound that comes in blocks of samples (n,) of any length."""
        followed = self._blocks(blocks)
        by_one_thread = iter(lambda: one_thread_each(lambda _: next(followed, None), [None], self.device)[0], None)
        return find_spans(by_one_thread, asked, frame=self.frame, rate=self.rate)

    def returns(self) -> Mapping[str, Any]:
        return {"spans": list[Span]}

    def record(self, result: Spans) -> Mapping[str, Any]:
        return {"spans": list(result)}

    def report(self, inputs: Sequence[str]) -> Report:
        results = self(list(inputs))
        records = [
            {"sound": sound, "start": span.start, "end": span.end}
            for sound, spans in zip(inputs, results, strict=True)
            for span in spans
        ]
        rows = [[row["sound"], f"{row['start']:.2f}", f"{row['end']:.2f}"] for row in records]
        return Report(columns=["sound", "start", "end"], rows=rows, records=records, results=results)

    def _blocks(self, pieces: Iterable[Tensor]) -> Iterator[tuple[int, list[float]]]:
        """How many samples are in each block of a sound, and the probabilities of its frames."""
        net, weight = cast(SileroVad, self.inference.derived()), next(self.net.parameters())
        state: State | None = None
        for block in _evenly(pieces, FRAMES * self.frame):
            with torch.inference_mode():
                probabilities, state = net.advance(block[None].to(weight.device, weight.dtype), state)
            yield len(block), probabilities[0].float().tolist()


def _evenly(pieces: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """The samples of pieces in blocks of one size, the last one shorter."""
    rest = torch.empty(0)
    for piece in pieces:
        *whole, rest = [*torch.cat([rest, piece]).split(size)] or [rest]
        yield from whole
    if len(rest):
        yield rest
