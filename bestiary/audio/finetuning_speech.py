"""How nets learn to write down speech: Whisper token by token, nets of letters by connectionist temporal classification."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from bestiary.audio.augmentation import Augmentation
from bestiary.audio.ctc_reader import CtcReader
from bestiary.audio.hearing import Spoken
from bestiary.audio.recognition.whisper import WhisperReader
from bestiary.audio.sound import read_sound
from bestiary.audio.tasks.recognition import SpeechRecognizer
from bestiary.audio.transforms import LogMel
from bestiary.core.context import Memory, look
from bestiary.core.losses import vocabulary_loss
from bestiary.core.tables import quiet
from bestiary.core.tuning.module import FineTuning
from bestiary.errors import InputError

if TYPE_CHECKING:
    from datasets import Dataset

TOKENS = "tokens"  # the column of what is to be written, as the net writes it
NOTHING = -100  # the label of a token after which nothing is learned


class Teacher(ABC):
    """What a kind of net learns from: the tokens of texts, batches of sounds with these, and the loss on them."""

    rate: int  # Hz
    seconds: float  # the longest sound

    @abstractmethod
    def tokens(self, text: str, language: str | None) -> list[int]:
        """A text as the net writes it. Raises InputError where it cannot."""

    @abstractmethod
    def batch(self, sounds: Sequence[Tensor], tokens: Sequence[Sequence[int]]) -> Any:
        """Sounds (samples,) and what is said in them, as the loss takes them."""

    @abstractmethod
    def loss(self, net: Any, batch: Any, augmentation: Augmentation | None) -> Tensor:
        """The mean loss over a batch, whose features are changed at random by `augmentation`."""


class Written(NamedTuple):
    """A batch for Whisper."""

    features: Tensor  # (n, mels, frames)
    tokens: Tensor  # (n, m)
    labels: Tensor  # (n, m): the token that follows each, negative where nothing is learned


class WhisperTeacher(Teacher):
    """Whisper learns the text, when it ends, and that nothing follows; what it is asked to do is given."""

    def __init__(self, reader: WhisperReader):
        self.rate, self.seconds, self.step = reader.rate, reader.seconds, reader.step
        self.vocabulary, self.frames, self.context = reader.vocabulary, reader.config.frames, reader.config.context
        self.first, self.last = self.vocabulary.times, self.vocabulary.end  # of all tokens, what batches need
        self.opening = 4 if self.vocabulary.languages else 2  # tokens before the text
        self.log_mel = LogMel(reader.config.mels)

    def tokens(self, text: str, language: str | None) -> list[int]:
        if self.vocabulary.languages and language is None:
            raise InputError("nothing says which language is spoken\ngive rows a column language, or say it with --language")
        if language is not None:
            self.vocabulary.check_language(language)
        opening = [*self.vocabulary.prompt(language, "transcribe", []), self.first]
        tokens = [*opening, *self.vocabulary.encode(f" {text.strip()}"), self.first, self.last]
        if len(tokens) > self.context:
            raise InputError(f"a text of {len(tokens)} tokens is longer than the {self.context} that the net writes\ncut it")
        return tokens

    def batch(self, sounds: Sequence[Tensor], tokens: Sequence[Sequence[int]]) -> Written:
        length = round(self.seconds * self.rate)
        features = self.log_mel(torch.stack([F.pad(sound[:length], (0, max(0, length - len(sound)))) for sound in sounds]))
        rows = [torch.tensor(row) for row in tokens]
        for sound, row in zip(sounds, rows, strict=True):
            row[-2] = self.first + min(self.frames, round(len(sound) / self.rate / self.step))
        given = pad_sequence([row[:-1] for row in rows], batch_first=True, padding_value=self.last)
        labels = pad_sequence([row[1:] for row in rows], batch_first=True, padding_value=NOTHING)
        labels[:, : self.opening - 1] = NOTHING
        return Written(features, given, labels)

    def loss(self, net: Any, batch: Written, augmentation: Augmentation | None) -> Tensor:
        features = batch.features if augmentation is None else augmentation.features(batch.features)
        around = look(None, batch.tokens, causal=True, memory=Memory(net.encode(features)))
        return vocabulary_loss(net.decoder.hidden_states(batch.tokens, around), net.decoder.head, batch.labels)


class Spelt(NamedTuple):
    """A batch for nets of letters."""

    inputs: tuple[Tensor, ...]  # samples (n, m), and which of them are of the sound
    frames: Tensor  # (n,) that the net gives of each sound
    letters: Tensor  # of all texts, one after the other
    lengths: Tensor  # (n,) letters of each text


class LetterTeacher(Teacher):
    """A net of letters learns their order, not when they are spoken (Graves et al. 2006, ICML)."""

    def __init__(self, reader: CtcReader):
        listener = reader.listener
        self.rate, self.seconds, self.letters, self.config = reader.rate, reader.seconds, listener.letters, listener.config
        longest = round(self.seconds * self.rate)
        self.hearing = Spoken(shortest=self.config.reach, longest=longest, normalize=listener.waveform.normalize)

    def tokens(self, text: str, language: str | None) -> list[int]:
        return self.letters.joined(self.letters.spelled(text))

    def batch(self, sounds: Sequence[Tensor], tokens: Sequence[Sequence[int]]) -> Spelt:
        pieces = [self.hearing.pieces(sound)[0] for sound in sounds]
        frames = torch.tensor([self.config.frames(len(piece)) for piece in pieces])
        letters = torch.tensor([letter for row in tokens for letter in row])
        return Spelt(self.hearing.inputs(pieces), frames, letters, torch.tensor(list(map(len, tokens))))

    def loss(self, net: Any, batch: Spelt, augmentation: Augmentation | None) -> Tensor:
        found = net(*batch.inputs).float().log_softmax(-1).transpose(0, 1)  # (frames, n, letters)
        blank = self.letters.blank
        return F.ctc_loss(found, batch.letters, batch.frames, batch.lengths, blank=blank, zero_infinity=True)


class Transcription(FineTuning):
    """A net learns to write down what is said."""

    def __init__(self, net: Any, teacher: Teacher, augmentation: Augmentation, **how: Any):
        super().__init__(net, **how)
        self.teacher, self.augmentation = teacher, augmentation

    def loss(self, batch: Any) -> Tensor:
        return self.teacher.loss(self.net, batch, self.augmentation)

    def measures(self, batch: Any) -> tuple[dict[str, Tensor], int]:
        return {"val_loss": self.teacher.loss(self.net, batch, None)}, len(batch[1])


class Transcripts:
    """Rows to batches of sounds and what is said in them, changed at random as the seed of each says, or as they are."""

    def __init__(self, teacher: Teacher, augmentation: Augmentation | None = None):
        self.teacher, self.augmentation = teacher, augmentation

    def __call__(self, rows: Sequence[Any], seeds: Sequence[int]) -> Any:
        sounds = [read_sound(row["audio"], self.teacher.rate) for row in rows]
        if self.augmentation is not None:
            generators = (torch.Generator().manual_seed(seed) for seed in seeds)
            sounds = [self.augmentation.samples(*one) for one in zip(sounds, generators, strict=True)]
        return self.teacher.batch(sounds, [row[TOKENS] for row in rows])


def teacher_of(task: SpeechRecognizer) -> Teacher:
    """What the net of a recogniser learns by."""
    return WhisperTeacher(task.reader) if isinstance(task.reader, WhisperReader) else LetterTeacher(task.reader)  # type: ignore[arg-type]


def taught(rows: Dataset, teacher: Teacher, language: str | None) -> tuple[Dataset, list[str]]:
    """The rows that a net can learn, with the tokens of their texts, and why others are left out, one line each.

    Left out are sounds that are too long, and texts that the net cannot write. Raises InputError where none is left.
    """
    kept, tokens, reasons = [], [], []
    for number, row in enumerate(rows):
        try:
            seconds = len(read_sound(row["audio"], teacher.rate)) / teacher.rate
            if seconds > teacher.seconds:
                raise InputError(f"a sound of {seconds:.0f} seconds is longer than {teacher.seconds:.0f}, what is heard at once")
            if not (written := teacher.tokens(row["text"], language or row.get("language"))):
                raise InputError("nothing is said")
        except InputError as error:
            reasons.append(f"row {number}: {str(error).splitlines()[0]}")
        else:
            kept.append(number)
            tokens.append(written)
    if not kept:
        raise InputError(f"there is nothing to learn: {reasons[0] if reasons else 'no rows'}\ngive others")
    with quiet():
        return rows.select(kept).add_column(TOKENS, tokens), reasons
