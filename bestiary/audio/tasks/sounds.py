"""What the tasks of sound share: one sound or many, in batches, answered in the form they came in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from io import IOBase
from os import PathLike
from typing import Any

import numpy as np
from torch import Tensor

from bestiary.audio.sound import read_sound
from bestiary.core.rows import for_encoding
from bestiary.core.runtime import in_threads
from bestiary.core.task import Task, batched
from bestiary.errors import InputError

# What can be iterated, and yet is no list of sounds: a file, a row of a data set, a pair of samples and their rate.
ALONE = (str, PathLike, bytes, bytearray, memoryview, Mapping, IOBase, np.ndarray, Tensor, tuple)

Answer = Callable[[list[Tensor]], Iterable[Any]]  # sounds, each (samples,) → an answer for each


class SoundTask(Task):
    """A task whose inputs are sounds; see `bestiary.audio.sound.read_sound` for what counts as one."""

    derive = staticmethod(for_encoding)
    medium = "audio"
    forms: Sequence[Sequence[str]] = (("audio",),)
    rate: int  # Hz, of what the net hears
    at_once = 8

    def answered(self, sounds: Any, answer: Answer, *, batch_size: int | None = None) -> Any:
        """An answer for one sound, a list of them for a list of sounds; an iterator is answered by an iterator.

        Raises what `read_sound` does, naming the sound by its path or its number.
        """
        if is_one(sounds):
            return next(iter(answer([read_sound(sounds, self.rate)])))
        if not isinstance(sounds, Iterable):
            raise InputError(f"{type(sounds).__name__} is not a sound\ngive a path, bytes, an array, or any number of them")
        batches = batched(enumerate(sounds), self.at_once if batch_size is None else batch_size)
        answers = (found for batch in batches for found in answer(self._read(batch)))
        return list(answers) if isinstance(sounds, Sequence) else answers

    def _read(self, numbered: list[tuple[int, Any]]) -> list[Tensor]:
        return in_threads(lambda item: read_sound(item[1], self.rate, f"sound {item[0]}"), numbered)


def is_one(sounds: Any) -> bool:
    """Whether this is a sound, rather than many.

    An array is one, and so is a pair of an array and its rate.
    """
    return isinstance(sounds, ALONE)
