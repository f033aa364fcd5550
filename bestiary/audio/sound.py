"""What a person has as sound, to samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import soundfile
import torch
from torch import Tensor
from torchaudio.functional import resample

from bestiary.errors import InputError
from bestiary.hub.inputs import Kind, is_address, opened

KIND = Kind("sound", "an array or a tensor, or a pair of array and rate", 1_000_000_000)
RATES = (1_000, 1_000_000)  # Hz; what lies outside is no sound
CHANNELS = 64  # an array with more of them lies the other way
FINEST = 1_000  # rates are taken to be to one another as two numbers up to this: 44.1 to 16 kHz as 441 to 160
REACH = 8  # periods of the lower rate that the filter of the resampling sees to either side, and some to spare
BLOCK = 60.0  # seconds that are read at once


class Samples(NamedTuple):
    """Sound as numbers: an array or tensor (samples,) or (channels, samples), and its rate in Hz."""

    values: Any
    rate: int


def read_sound(sound: Any, rate: int, name: str = "the sound") -> Tensor:
    """The samples of whatever holds a sound: fp32 (samples,) from -1 to 1, one channel, at `rate` Hz.

    A path; an https address; the bytes of a file (WAV, FLAC, OGG, MP3, and what else libsndfile reads); an array or tensor
    (samples,) or (channels, samples) that has this rate; a pair of such and its rate; or {"array", "sampling_rate"}, as Hugging
    Face's data sets have it. Whole numbers are shares of their largest, floats stay as they are. Channels are averaged, and
    other rates converted by `torchaudio.functional.resample`. `name` is what errors call it.

    Raises InputError for what is no sound, has no samples or such as are no numbers; OfflineError or SourceError for an address
    that cannot be fetched.

    >>> read_sound((np.zeros((2, 8000), np.int16), 8000), rate=16000).shape
    torch.Size([16000])
    """
    return torch.cat(list(sound_blocks(sound, rate, name=name)))


def sound_blocks(sound: Any, rate: int, seconds: float = BLOCK, name: str = "the sound") -> Iterator[Tensor]:
    """The samples of `read_sound` in blocks of about so many seconds, read as they are asked for: hours take no more memory.

    Raises what `read_sound` does, at once or where it comes to it.

    >>> [len(block) for block in sound_blocks(np.zeros(40_000, np.float32), 16_000, seconds=1)]
    [16000, 16000, 8000]
    """
    with _unfolded(sound, rate, name) as (samples, its_name):
        ratio = _ratio(samples.rate, rate, its_name)
        step = max(1, round(seconds * samples.rate / ratio.denominator)) * ratio.denominator
        pieces = _checked(_one_channel(samples, step, its_name), its_name)
        yield from pieces if ratio == 1 else _resampled(pieces, ratio)


def sound_seconds(sound: Any, rate: int) -> float | None:
    """How long a sound is; None for an address. Raises what `read_sound` does.

    >>> sound_seconds(np.zeros(40_000, np.float32), 16_000)
    2.5
    """
    if is_address(sound):
        return None
    with _unfolded(sound, rate, "the sound") as (samples, _):
        length = samples.values.frames if isinstance(samples, _Opened) else max(np.shape(samples.values))
        return length / samples.rate


def check_sound(sound: Any, name: str = "the sound") -> None:
    """Raise what `read_sound` does for what is no sound, without reading all of it."""
    next(sound_blocks(sound, 16_000, name=name), None)


class _Opened(NamedTuple):
    """A file of sound that is being read."""

    values: soundfile.SoundFile
    rate: int


@contextmanager
def _unfolded(sound: Any, rate: int, name: str) -> Iterator[tuple[Samples | _Opened, str]]:
    """The samples that a sound consists of, or the file that holds them, and what errors call it."""
    if isinstance(sound, Mapping):
        sound = _of_row(sound, name)
    if isinstance(sound, (np.ndarray, Tensor)):
        sound = Samples(sound, rate)
    if isinstance(sound, tuple):
        if len(sound) != 2 or isinstance(sound[1], bool) or not isinstance(sound[1], (int, np.integer)):
            raise InputError(f"{name} is a tuple, but none of samples and a whole rate in Hz\ngive (array, rate)")
        yield Samples(*sound), name
        return
    file, name = opened(sound, name, KIND)
    with file:
        try:
            values = soundfile.SoundFile(file)
        except (soundfile.SoundFileError, TypeError) as error:  # TypeError: raw samples, which say nothing of themselves
            raise InputError(f"{name} is no sound that can be read\ngive a WAV, FLAC, OGG or MP3, not a video") from error
        with values:
            yield _Opened(values, values.samplerate), name


def _of_row(row: Mapping[str, Any], name: str) -> Any:
    """The sound in a row of Hugging Face's data sets, decoded or not."""
    if {"array", "sampling_rate"} <= row.keys():
        return Samples(row["array"], row["sampling_rate"])
    content = row.get("bytes") if row.get("bytes") is not None else row.get("path")
    if content is None:
        raise InputError(f"{name} is a mapping without a sound\nit has array and sampling_rate, or bytes, or path")
    return content


def _ratio(own: int, rate: int, name: str) -> Fraction:
    """How many samples become of one. Rates with hardly a common divisor would need filters of gigabytes: to within a sample
    in a million they are as two small numbers to one another."""
    if not RATES[0] <= own <= RATES[1]:
        raise InputError(f"{name} has a rate of {own} Hz\nwanted: {RATES[0]:,} to {RATES[1]:,} samples a second")
    return Fraction(rate, int(own)).limit_denominator(FINEST)


def _one_channel(samples: Samples | _Opened, step: int, name: str) -> Iterator[Tensor]:
    """Blocks of `step` samples, the channels averaged."""
    if isinstance(samples, _Opened):
        while True:
            try:
                block = samples.values.read(step, dtype="float32", always_2d=True)
            except soundfile.SoundFileError as error:
                raise InputError(f"{name} is a damaged sound: {str(error)[:100]}\nget it again from where it came") from error
            if not len(block):
                return
            yield torch.from_numpy(block).mean(1)
    else:
        values = _floats(samples.values, name)
        yield from (values if values.dim() == 1 else values.mean(0)).split(step)


def _floats(given: Any, name: str) -> Tensor:
    """(samples,) or (channels, samples), fp32, from -1 to 1."""
    try:
        values: Tensor = torch.as_tensor(given).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"{name} holds no samples\ngive an array or tensor of numbers") from None
    if values.dim() not in (1, 2) or (values.dim() == 2 and not 0 < values.shape[0] <= CHANNELS):
        raise InputError(f"{name} has the shape {tuple(values.shape)}\ngive (samples,) or (channels, samples)")
    if values.is_floating_point():
        return values.float()
    if values.dtype not in (torch.int16, torch.int32, torch.uint8):
        raise InputError(f"{name} holds {values.dtype}\ngive int16, int32, uint8, or floats from -1 to 1")
    middle, most = (128, 128) if values.dtype == torch.uint8 else (0, -torch.iinfo(values.dtype).min)
    return (values.float() - middle) / most


def _checked(blocks: Iterator[Tensor], name: str) -> Iterator[Tensor]:
    """The same blocks, once it is sure that there are some, and that they hold numbers."""
    there = False
    for block in blocks:
        if not block.isfinite().all():
            raise InputError(f"{name} has samples that are no numbers\ncorrect what made it")
        there = there or bool(len(block))
        yield block
    if not there:
        raise InputError(f"{name} is empty\ngive a sound of at least one sample")


def _resampled(blocks: Iterator[Tensor], ratio: Fraction) -> Iterator[Tensor]:
    """Blocks at another rate, each of which sees as much of its neighbours as it would in the whole."""
    own, rate = ratio.denominator, ratio.numerator
    margin = -(-REACH * max(own, rate) // rate) * own  # in samples of the old rate, a multiple of `own`
    before, block = torch.empty(0), next(blocks, None)
    while block is not None:
        after = next(blocks, None)
        ahead = torch.empty(0) if after is None else after[:margin]
        heard = resample(torch.cat([before, block, ahead]), own, rate)
        start = len(before) * rate // own
        yield heard[start:] if after is None else heard[start : start + len(block) * rate // own]
        before, block = torch.cat([before, block])[-margin:], after
