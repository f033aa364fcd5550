"""What a recognition of speech gives: a text with the times of its parts, and the files that hold such."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bestiary.errors import InputError, of_writing

UNSPACED = frozenset({"zh", "ja", "th", "lo", "my", "yue"})  # languages that are written without spaces between words


@dataclass(frozen=True)
class Word:
    """A word with the punctuation at it."""

    start: float  # seconds from the beginning of the sound
    end: float
    text: str
    probability: float  # 0 to 1, of its tokens in the mean


@dataclass(frozen=True)
class Segment:
    """A sentence or so, as the model or the pauses cut them."""

    start: float  # seconds from the beginning of the sound
    end: float
    text: str
    words: tuple[Word, ...] = ()  # where they were asked for
    log_probability: float = 0.0  # of its tokens in the mean, 0 at most; of all that was read with it
    no_speech: float = 0.0  # the probability that there is no speech at all, 0 to 1
    temperature: float = 0.0  # at which its tokens were chosen
    tokens: tuple[int, ...] = ()  # ids, those of timestamps among them

    def of(self, words: tuple[Word, ...]) -> Segment:
        """The same with its words, from the first to the last of them, as their times are finer."""
        return replace(self, start=words[0].start, end=words[-1].end, words=words) if words else self

    def placed(self, place: Callable[[float, float], tuple[float, float]]) -> Segment:
        """The same with the times that `place` makes of beginnings and ends."""
        words = tuple(Word(*place(word.start, word.end), word.text, word.probability) for word in self.words)
        moved = replace(self, words=words)
        if words:
            return replace(moved, start=words[0].start, end=words[-1].end)
        start, end = place(self.start, self.end)
        return replace(moved, start=start, end=end)


@dataclass(frozen=True)
class Transcript:
    """The text of a sound; empty where nobody speaks.

    >>> transcript = Transcript.of([Segment(0.0, 1.5, "Hello."), Segment(2.0, 61.25, "Good bye.")], language="en")
    >>> transcript.text
    'Hello. Good bye.'
    >>> print(transcript.written("srt"), end="")
    1
    00:00:00,000 --> 00:00:01,500
    Hello.
    <BLANKLINE>
    2
    00:00:02,000 --> 00:01:01,250
    Good bye.
    """

    text: str
    segments: tuple[Segment, ...] = ()
    language: str | None = None  # a code such as "en", where the model knows it

    @classmethod
    def of(cls, segments: Iterable[Segment], language: str | None) -> Transcript:
        """The transcript that consists of these segments."""
        segments = tuple(segments)
        between = "" if language in UNSPACED else " "
        return cls(between.join(segment.text for segment in segments if segment.text), segments, language)

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of all segments, where they were asked for."""
        return tuple(word for segment in self.segments for word in segment.words)

    def save(self, path: str | Path) -> None:
        """Write a file of the kind that its suffix says: .srt or .vtt (subtitles), .json (all there is) or .txt (text alone).

        Raises InputError for another suffix, and for a place that cannot be written to, DiskFullError.
        """
        path = Path(path)
        content = self.written(path.suffix.removeprefix(".").lower())
        try:
            path.write_text(content, encoding="utf-8")
        except OSError as error:
            raise of_writing(error)(f"{path} cannot be written: {error.strerror}\ngive another path") from error

    def written(self, kind: str) -> str:
        """The content of a file of a kind, one of WRITERS. Raises InputError for others."""
        if kind not in WRITERS:
            raise InputError(f"a transcript cannot be written as {kind or 'what has no suffix'}\nuse .{', .'.join(WRITERS)}")
        return WRITERS[kind](self)

    def record(self) -> dict[str, Any]:
        """All there is, as plain values; words where they were asked for."""
        segments = [asdict(segment) for segment in self.segments]
        for segment in segments:
            segment.pop("tokens")
            if not segment["words"]:
                segment.pop("words")
        return {"text": self.text, "language": self.language, "segments": segments}


def _plain(transcript: Transcript) -> str:
    return "".join(f"{segment.text}\n" for segment in transcript.segments)


def _json(transcript: Transcript) -> str:
    return json.dumps(transcript.record(), ensure_ascii=False, indent=2) + "\n"


def _srt(transcript: Transcript) -> str:
    """SubRip: numbered, with a comma before the milliseconds."""
    cues = (
        f"{number}\n{_clock(segment.start, ',')} --> {_clock(segment.end, ',')}\n{_cue(segment.text)}\n"
        for number, segment in enumerate(transcript.segments, start=1)
    )
    return "\n".join(cues)


def _vtt(transcript: Transcript) -> str:
    """WebVTT (W3C), in which & and < have a meaning."""
    cues = (
        f"\n{_clock(segment.start, '.')} --> {_clock(segment.end, '.')}\n"
        f"{_cue(segment.text).replace('&', '&amp;').replace('<', '&lt;')}\n"
        for segment in transcript.segments
    )
    return "WEBVTT\n" + "".join(cues)


def _cue(text: str) -> str:
    return text.replace("-->", "->")  # which stands between times alone


def _clock(seconds: float, comma: str) -> str:
    """
    >>> _clock(3661.5, ",")
    '01:01:01,500'
    """
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    whole, rest = divmod(milliseconds, 1000)
    return f"{hours:02}:{minutes:02}:{whole:02}{comma}{rest:03}"


WRITERS: dict[str, Callable[[Transcript], str]] = {"srt": _srt, "vtt": _vtt, "json": _json, "txt": _plain}
