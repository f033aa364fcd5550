"""The files of well-known sets of sounds, in the form in which they were published: a function for each that makes their rows."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from bestiary.audio.datasets import prompts
from bestiary.core.archives import check_all_there, members
from bestiary.core.generated import Source
from bestiary.core.tables import LABEL
from bestiary.errors import InputError

VERSION = 1  # grows when a function below makes other rows of the same files

Row = dict[str, Any]


class Format(NamedTuple):
    rows: Callable[[Source], Iterator[Row]]
    columns: Callable[[Any], Mapping[str, Any]]  # from the feature of a label to the features of all columns but the sound


def librispeech(source: Source) -> Iterator[Row]:
    """LibriSpeech: in each chapter's folder the utterances, and one file of lines `speaker-chapter-number TEXT`."""
    for path in source.paths:
        texts: dict[str, str] = {}
        waiting: list[Row] = []
        for name, read in members(path):
            if name.endswith(".trans.txt"):
                texts.update(line.partition(" ")[::2] for line in read().decode().splitlines())
            elif name.endswith(".flac"):
                waiting.append({"path": name, "bytes": read()})
            ready = [sound for sound in waiting if _stem(sound["path"]) in texts]
            waiting = [sound for sound in waiting if _stem(sound["path"]) not in texts]
            for sound in ready:
                key = _stem(sound["path"])
                speaker, chapter, _ = key.split("-")
                yield {"audio": sound, "text": texts.pop(key), "id": key, "speaker": int(speaker), "chapter": int(chapter)}
        if waiting:
            raise InputError(f"{path} does not tell what {waiting[0]['path']} says\nget it again from where it was published")


def speech_commands(source: Source) -> Iterator[Row]:
    """Speech Commands: a folder for each word, and two lists of what is held out; `members` names that of the split."""
    lists = dict.fromkeys(("validation_list.txt", "testing_list.txt"), frozenset[str]())
    for name, read in _members(source.paths[0]):
        if name in lists:
            lists[name] = frozenset(read().decode().split())
    check_all_there(source.paths[0], list(lists), [name for name, listed in lists.items() if listed])
    held_out = frozenset().union(*lists.values())
    for name, read in _members(source.paths[0]):
        word, _, file = name.partition("/")
        if not file.endswith(".wav") or word.startswith("_"):
            continue
        if name in lists[source.members[0]] if source.members else name not in held_out:
            yield {"audio": {"path": name, "bytes": read()}, LABEL: word, "speaker": file.partition("_")[0]}


def common_voice(source: Source) -> Iterator[Row]:
    """Common Voice: a table of what is said, then tars of the clips."""
    table, *tars = source.paths
    with open(table, encoding="utf-8", newline="") as file:
        told = {row["path"]: row for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)}
    for path in tars:
        for name, read in members(path):
            if row := told.pop(name.rpartition("/")[2], None):
                yield {"audio": {"path": name, "bytes": read()}, "text": row["sentence"], "speaker": row["client_id"]}


def _members(path: str) -> Iterator[tuple[str, Callable[[], bytes]]]:
    return ((name.removeprefix("./"), read) for name, read in members(path))


def _stem(path: str) -> str:
    return path.rpartition("/")[2].partition(".")[0]


def _librispeech_columns(label: Any) -> Mapping[str, Any]:
    from datasets import Value

    return {"text": Value("string"), "id": Value("string"), "speaker": Value("int64"), "chapter": Value("int64")}


def _speech_commands_columns(label: Any) -> Mapping[str, Any]:
    from datasets import Value

    return {LABEL: label, "speaker": Value("string")}


def _common_voice_columns(label: Any) -> Mapping[str, Any]:
    from datasets import Value

    return {"text": Value("string"), "speaker": Value("string")}


FORMATS = {
    "asterisk": Format(prompts.asterisk, prompts.columns),
    "librispeech": Format(librispeech, _librispeech_columns),
    "speech-commands": Format(speech_commands, _speech_commands_columns),
    "common-voice": Format(common_voice, _common_voice_columns),
}
