"""What a net of letters hears in sounds of any length, at every frame."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from bestiary.audio.ctc import Span
from bestiary.audio.letters import Letters, LettersPreprocess, Spelled
from bestiary.audio.recognition.transcript import Segment, Word
from bestiary.audio.transforms import Waveform
from bestiary.core.record import record
from bestiary.core.rows import for_encoding
from bestiary.core.runtime import InferenceNet, side_by_side
from bestiary.core.task import batched
from bestiary.errors import LayoutError

PIECE = 20.0  # seconds of a longer sound that are heard at once
MARGIN = 2.0  # seconds around a piece that the net hears with it, and that count for its neighbours
TOGETHER = 8  # pieces in a batch, where one is computed
LEAST = 1e-10  # of the probability of a word: one of 0 has no logarithm


class Piece(NamedTuple):
    """Samples, and which of the frames that they give are to be kept."""

    samples: Tensor
    first: int
    last: int


class Listener:
    """The net of a task with its letters. Raises LayoutError for one that has none."""

    def __init__(self, task: Any):
        self.task = task
        self.config = task.net.config
        self.inference = InferenceNet(task.net, for_encoding)  # of recognisers the task's own is for decoding token by token
        labels, count = task.card.labels or (), getattr(self.config, "num_classes", 0)
        if not count or len(labels) != count:
            raise LayoutError(
                f"{task.card.name} has {len(labels)} labels, and a net that gives {count or 'no'} letters\n"
                "take a model that recognises speech by letters, whose card names each under `labels`"
            )
        preprocess = record(LettersPreprocess, task.card.preprocess, f"preprocess of {task.card.name}")
        self.letters = Letters(labels, preprocess)
        self.rate = preprocess.rate
        self.waveform = Waveform(preprocess.normalize)

    def hear(self, sounds: Sequence[Tensor]) -> list[Tensor]:
        """The logarithms of the probabilities of each label at each frame, fp32 (frames, labels) on the CPU, for each sound.

        Sounds are (samples,) at the net's rate. Those that are shorter than what a frame hears have none.
        """
        pieces = [list(self._pieces(sound)) for sound in sounds]
        heard = iter(self._hear([piece for own in pieces for piece in own]))
        nothing = torch.empty(0, self.config.num_classes)
        return [torch.cat([nothing, *(next(heard) for _ in own)]) for own in pieces]

    def words(self, words: Sequence[Spelled], spans: Sequence[Span], first: int = 0) -> Iterator[Word]:
        """Words with their times, of the spans of `letters.joined(words)`, whose frames are counted from `first`."""
        spans_left, seconds = iter(spans), self.config.hop / self.rate
        for number, word in enumerate(words):
            if number and self.letters.delimiter is not None:
                next(spans_left)
            own = [next(spans_left) for _ in word.tokens]
            mean = sum(span.log_probability * (span.end - span.start) for span in own) / sum(s.end - s.start for s in own)
            start, end = ((first + frame) * seconds for frame in (own[0].start, own[-1].end))
            yield Word(start, end, word.text, min(1.0, math.exp(mean)))

    def _pieces(self, sound: Tensor) -> Iterator[Piece]:
        config = self.config
        frames, step, margin = config.frames(len(sound)), *(int(t * self.rate) // config.hop for t in (PIECE, MARGIN))
        if frames <= step + 2 * margin:
            step, margin = frames, 0
        for start in range(0, frames, max(step, 1)):
            end, before = min(start + step, frames), min(margin, start)
            behind = min(end + margin, frames)
            last = len(sound) if behind == frames else (behind - 1) * config.hop + config.reach
            yield Piece(sound[(start - before) * config.hop : last], before, before + end - start)

    def _hear(self, pieces: Sequence[Piece]) -> Iterator[Tensor]:
        """On a CPU each by itself, so that nothing is computed for padding and several threads need not wait for one another."""
        device = self.task.device
        if device.type == "cpu":
            heard: Any = side_by_side(lambda piece: self._logits([piece.samples])[0], pieces, device)
        else:
            heard = (row for batch in batched(pieces, TOGETHER) for row in self._logits([piece.samples for piece in batch]))
        for piece, logits in zip(pieces, heard, strict=True):
            yield logits[piece.first : piece.last].float().log_softmax(-1).cpu()

    def _logits(self, sounds: Sequence[Tensor]) -> Tensor:
        weight = next(self.task.net.parameters())
        samples = pad_sequence([self.waveform(sound) for sound in sounds], batch_first=True)  # (batch, n)
        lengths = torch.tensor([len(sound) for sound in sounds])
        mask = torch.arange(samples.shape[1]) < lengths[:, None]
        inputs = samples.to(weight.device, weight.dtype), None if mask.all() else mask.to(weight.device)
        logits: Tensor = self.inference(*inputs)
        return logits


def segment_of(text: str, words: Sequence[Word]) -> Segment:
    """The segment that consists of these words, at least one."""
    certainty = fmean(math.log(max(word.probability, LEAST)) for word in words)
    return Segment(words[0].start, words[-1].end, text, tuple(words), certainty)
