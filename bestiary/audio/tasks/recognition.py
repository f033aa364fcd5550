"""Speech to text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from itertools import chain
from typing import Any, cast

from torch import Tensor

from bestiary.audio.recognition.cuts import cuts_of_speech, whole
from bestiary.audio.recognition.long import Hearing, read_cuts, read_on, read_through
from bestiary.audio.recognition.reader import Options, Reader
from bestiary.audio.recognition.transcript import Segment, Transcript
from bestiary.audio.sound import sound_blocks, sound_seconds
from bestiary.audio.spans import Cutting
from bestiary.audio.tasks.alignment import Aligner
from bestiary.audio.tasks.sounds import SoundTask, is_one
from bestiary.audio.tasks.voice import VoiceDetector
from bestiary.core.rows import for_decoding
from bestiary.core.task import Report, Task, batched
from bestiary.errors import InputError, LayoutError
from bestiary.hub.progress import followed

READERS = {  # architecture → module:class of a Reader
    "hubert": "bestiary.audio.ctc_reader:CtcReader",
    "wav2vec2": "bestiary.audio.ctc_reader:CtcReader",
    "whisper": "bestiary.audio.recognition.whisper:WhisperReader",
}
VOICE = "silero-vad"
PAUSE = 0.15  # seconds of silence at which a long sound may be cut
QUIET = 0.2  # seconds of it that are left on both sides of a cut
FAINT = Cutting(threshold=0.2, shortest=0.06)  # what a detector has to find in a short sound for it to be read
GLIMPSE = 3.0  # seconds of it that are looked at together


class SpeechRecognizer(SoundTask):
    """Sounds to transcripts.

        model = bestiary.load("whisper-tiny.en")
        transcript = model("speech.flac", words=True)
        transcript.save("speech.srt")
    """

    derive = staticmethod(for_decoding)
    at_once = 12  # windows; more of them take more memory and hardly less time

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        if self.card.architecture not in READERS:
            known = ", ".join(READERS)
            raise LayoutError(f"{self.card.name} is a {self.card.architecture}, which reads no speech\nthose that do: {known}")
        module, _, name = READERS[self.card.architecture].partition(":")
        self.reader: Reader = getattr(import_module(module), name)(self)
        self.rate = self.reader.rate
        self._detectors: dict[str, Task] = {}

    def __call__(
        self, sounds: Any, *, voice: str | VoiceDetector | None = VOICE, batch_size: int | None = None, **options: Any
    ) -> Any:
        """The Transcript of a sound, or of each of a list of them; an iterator for an iterator, reading `batch_size` at a time.

        What counts as a sound: see `bestiary.audio.sound.read_sound`. `voice`, a VoiceDetector or the name of its card, finds
        where somebody speaks: nowhere, and the transcript is empty; of what is longer than the model hears at once only that is
        read, `batch_size` windows at once. With None all is read, a long sound from front to back, each window from where the
        one before was read to. Options:

            language: a code such as "en"; found out where it is not given and the model knows several
            task: "transcribe", or "translate" into English
            prompt: a text that the sound is taken to follow: names, terms, a way of writing
            words: whether to find the times of words as well
            condition_on_previous: whether windows are read one after the other, each as what follows the text before
            temperatures: tried in turn until a text is neither repetitive nor a guess; 0, 0.2, … 1
            beams, seed: see `bestiary.audio.recognition.reader.Options`

        Raises InputError for a sound that cannot be read, and for options that are unknown, out of range or not the model's;
        for an address also OfflineError or SourceError.
        """
        asked, size, detector = self._asked(options), self.at_once if batch_size is None else batch_size, self._detector(voice)
        if is_one(sounds):
            return self._transcripts([(0, sounds)], asked, detector, size)[0]
        if not isinstance(sounds, Iterable):
            raise InputError(f"{type(sounds).__name__} is not a sound\ngive a path, bytes, an array, or any number of them")
        batches = batched(enumerate(sounds), size)
        each = (transcript for batch in batches for transcript in self._transcripts(batch, asked, detector, size))
        return list(each) if isinstance(sounds, Sequence) else each

    def stream(
        self, sound: Any, *, voice: str | VoiceDetector | None = VOICE, batch_size: int | None = None, **options: Any
    ) -> Iterator[Segment]:
        """The segments of a sound as they are read; hours take no more memory than minutes. Options are those of a call."""
        hearing = Hearing(self._asked(options))
        return self._streamed(sound, hearing, self._detector(voice), self.at_once if batch_size is None else batch_size)

    def aligner(self) -> Aligner:
        """The same net, sharing its weights, as a task that finds when a known text is said. Raises LayoutError for one that
        does not give letters at every moment, as wav2vec 2.0 and HuBERT do."""
        return Aligner(self.net, replace(self.card, task="speech-alignment"), self.provenance, self._saver)

    def returns(self) -> Mapping[str, Any]:
        return {"text": str, "language": str}

    def record(self, result: Transcript) -> Mapping[str, Any]:
        return {"text": result.text, "language": result.language or ""}

    def report(self, inputs: Sequence[str]) -> Report:
        results = self(list(inputs))
        found = [(sound, segment) for sound, result in zip(inputs, results, strict=True) for segment in result.segments]
        return Report(
            columns=["sound", "start", "end", "text"],
            rows=[[sound, f"{segment.start:.2f}", f"{segment.end:.2f}", segment.text] for sound, segment in found],
            records=[{"sound": sound, **result.record()} for sound, result in zip(inputs, results, strict=True)],
        )

    def _asked(self, options: Mapping[str, Any]) -> Options:
        if unknown := [name for name in options if name not in Options.__dataclass_fields__]:
            raise InputError(f"recognition has no option {unknown[0]}\nits options: {', '.join(Options.__dataclass_fields__)}")
        asked = Options(**options)
        self.reader.check(asked)
        return asked

    def _transcripts(
        self, numbered: Sequence[tuple[int, Any]], asked: Options, voice: VoiceDetector | None, size: int
    ) -> list[Transcript]:
        """Sounds that are no longer than a window are read together, the others each by itself."""
        hearings = [Hearing(asked) for _ in numbered]
        found: list[Sequence[Segment]] = [() for _ in numbered]
        short = {}
        for row, (number, sound) in enumerate(numbered):
            first, blocks = self._begun(sound, f"sound {number}" if len(numbered) > 1 else "the sound")
            if blocks is not None:
                told = self._long(blocks, hearings[row], voice, size)
                found[row] = list(self._watched(told, sound) if len(numbered) == 1 else told)
            elif _speaks(first, voice):
                short[row] = whole(first, self.rate)
        read = read_through(self.reader, list(short.values()), [hearings[row] for row in short], asked)
        for row, segments in zip(short, read, strict=True):
            found[row] = segments
        return [Transcript.of(segments, hearing.language) for segments, hearing in zip(found, hearings, strict=True)]

    def _watched(self, segments: Iterator[Segment], sound: Any) -> Iterator[Segment]:
        """The segments of a long sound with a bar that shows how far they reach."""
        seconds = sound_seconds(sound, self.rate)
        whole = None if seconds is None else round(seconds)
        return followed(segments, "seconds of sound", whole, lambda segment: round(segment.end))

    def _begun(self, sound: Any, name: str) -> tuple[Tensor, Iterator[Tensor] | None]:
        """The samples of a sound as far as a window reaches, and all its blocks if it goes on."""
        blocks = sound_blocks(sound, self.rate, self.reader.seconds, name)
        first, second = next(blocks), next(blocks, None)
        return first, None if second is None else chain([first, second], blocks)

    def _streamed(self, sound: Any, hearing: Hearing, voice: VoiceDetector | None, size: int) -> Iterator[Segment]:
        first, blocks = self._begun(sound, "the sound")
        if blocks is not None:
            yield from self._long(blocks, hearing, voice, size)
        elif _speaks(first, voice):
            (segments,) = read_through(self.reader, [whole(first, self.rate)], [hearing], hearing.options)
            yield from segments

    def _long(self, blocks: Iterator[Tensor], hearing: Hearing, voice: VoiceDetector | None, size: int) -> Iterator[Segment]:
        if voice is None:
            return read_on(self.reader, blocks, hearing)
        longest = self.reader.seconds
        spans = partial(voice.follow, asked=Cutting(pause=PAUSE, padding=QUIET, longest=longest))
        cuts = cuts_of_speech(blocks, spans, rate=self.rate, longest=longest, quiet=QUIET)
        return read_cuts(self.reader, cuts, hearing, size)

    def _detector(self, voice: str | VoiceDetector | None) -> VoiceDetector | None:
        """Who says where somebody speaks. Raises InputError for what is none, and what loading it does."""
        if isinstance(voice, str):
            if voice not in self._detectors:
                self._detectors[voice] = self._saver.load(voice)
            voice = cast(VoiceDetector, self._detectors[voice])
        if voice is not None and (not isinstance(voice, VoiceDetector) or voice.rate != self.rate):
            raise InputError(f"voice is no VoiceDetector of sound at {self.rate} Hz\ngive one, the name of its card, or None")
        return voice


def _speaks(samples: Tensor, voice: VoiceDetector | None) -> bool:
    """Whether somebody speaks in a short sound, for all that is known; most often its beginning says so."""
    if voice is None:
        return True
    pieces = samples.split(round(GLIMPSE * voice.rate))
    return any(next(voice.follow([piece], FAINT), None) is not None for piece in pieces)
