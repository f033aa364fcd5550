"""How well models of sound do on labelled rows, those of `bestiary.audio.datasets.load`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from bestiary.audio.datasets.recording import heard
from bestiary.audio.normalising import normaliser
from bestiary.audio.tasks.classification import AudioClassifier
from bestiary.audio.tasks.recognition import SpeechRecognizer
from bestiary.core.evaluation import Evaluation, Match, Progress, evaluated_classes, metrics_of, need_columns, read
from bestiary.core.tables import column_names
from bestiary.errors import InputError
from bestiary.hub.progress import counted

if TYPE_CHECKING:
    from bestiary.core.tables import Rows

LANGUAGE = "language"


class Said(NamedTuple):
    """What somebody said and what the model heard, both as they are compared, and in which language."""

    text: str
    heard: str
    language: str


def evaluate_speech_recognition(
    task: SpeechRecognizer,
    rows: Rows,
    *,
    batch_size: int | None = None,
    language: str | None = None,
    progress: Progress = counted,
) -> Evaluation:
    """`wer`, the word error rate, and `cer`, that of letters: what is wrong, missing or too much, over what was said.

    Rows have `audio` and `text`. Texts are compared as Whisper's are (Radford et al. 2022, arXiv:2212.04356, appendix C), by the
    language of the row where there is a column `language`, else by `language`, else by that of the model's card if it knows only
    one. `language` is told to the model, too; without it the model finds out. Where rows have several, each gets rates of its
    own. Raises InputError where nothing is said in any row.
    """
    there = column_names(rows)
    columns = ["audio", "text", *([LANGUAGE] if LANGUAGE in there else [])]
    need_columns(rows, columns)
    rows = heard(rows)
    only = language or (task.card.language[0] if len(task.card.language) == 1 else "")
    texts: list[tuple[str, str]] = []

    def sounds() -> Iterator[Any]:
        for audio, text, *of_row in read(rows, columns, progress):
            if not isinstance(text, str):
                raise InputError(f"row {len(texts)} has no text\ngive every row what is said in it, or leave it out")
            texts.append((text, of_row[0] if of_row else only))
            yield audio

    told = {} if language is None else {"language": language}
    transcripts = task(sounds(), batch_size=batch_size, **told)
    pairs = []
    for number, transcript in enumerate(transcripts):
        text, spoken = texts[number]
        compared = normaliser(spoken or None)
        pairs.append(Said(compared(text).strip(), compared(transcript.text).strip(), spoken))
    return _rates(pairs)


def evaluate_audio_classification(
    task: AudioClassifier,
    rows: Rows,
    *,
    batch_size: int | None = None,
    match: Match = "names",
    progress: Progress = counted,
) -> Evaluation:
    """`accuracy`, `top5_accuracy` where there are more than five classes, and `macro_f1`, over rows of `audio` and `label`.

    Classes are matched by `match`, see `bestiary.core.evaluation.Classes`. Raises InputError for labels that are not the
    model's, and for a sound that cannot be read.
    """
    return evaluated_classes(task, heard(rows), "audio", batch_size=batch_size, match=match, progress=progress)


def _rates(pairs: Sequence[Said]) -> Evaluation:
    words = sum(len(pair.text.split()) for pair in pairs)
    if not words:
        raise InputError("nothing is said in these rows\ngive a split in which there is")
    languages = sorted({pair.language for pair in pairs})
    parts = {language: [pair for pair in pairs if pair.language == language] for language in languages}
    each = {name: {**_measured(part), "rows": len(part)} for name, part in parts.items()} if len(languages) > 1 else {}
    return Evaluation(metrics=_measured(pairs), rows=len(pairs), counts={"words": words}, classes=each)


def _measured(pairs: Sequence[Said]) -> dict[str, float]:
    functional = metrics_of("functional.text")
    heard, said = [pair.heard for pair in pairs], [pair.text for pair in pairs]
    return {"wer": float(functional.word_error_rate(heard, said)), "cer": float(functional.char_error_rate(heard, said))}
