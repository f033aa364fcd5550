"""A net that hears what it is told, for tests of what is made of that: each frame of a sound says which label it is."""

import torch
from torch import nn

from bestiary.audio.wav2vec2 import Wav2Vec2Config
from bestiary.hub.card import Card
from bestiary.loading import SAVER

LABELS = ("<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ")  # of wav2vec2-base-960h
BLANK, GAP = LABELS.index("<pad>"), LABELS.index("|")
HOP, REST = 320, 80  # samples of a frame, and what a sound has to have besides
FRAME = HOP / 16_000  # seconds
CERTAIN = 9.0  # the logit of what a frame says, those of the others being 0


class Spoken(nn.Module):
    """(batch, n) → (batch, frames, labels): a sample at the beginning of a frame is the number of its label over 100."""

    def __init__(self):
        super().__init__()
        self.config = Wav2Vec2Config(num_classes=len(LABELS))
        self.certain = nn.Parameter(torch.tensor(CERTAIN))

    def forward(self, samples, mask=None):
        frames = self.config.frames(samples.shape[1])
        told = (samples[:, : frames * HOP : HOP] * 100).round().long()
        return self.certain * nn.functional.one_hot(told, len(LABELS))


def task_of(kind, name="speech-recognition", labels=LABELS):
    """A task on that net; without preprocessing, which would change what it is told."""
    preprocess = {"normalize": False, "blank": "<pad>", "delimiter": "|", "rate": 16_000}
    card = Card(
        name="spoken", license="mit", files=(), sources=(), task=name, architecture="wav2vec2", checked="parity",
        preprocess=preprocess, labels=labels,
    )  # fmt: skip
    return kind(Spoken().eval(), card, {}, SAVER)


def labels_of(words, *, silence=10, pause=5):
    """The label of every frame of words that are said, and the times of each, with silence before and behind.

    A letter takes two frames; a blank keeps apart what is written twice.
    """
    frames, times = [BLANK] * silence, []
    for number, word in enumerate(words):
        frames += [BLANK] * pause + [GAP] if number else []
        start = len(frames)
        for before, letter in zip(" " + word, word, strict=False):
            frames += [BLANK] * (before == letter) + 2 * [LABELS.index(letter)]
        times.append((start * FRAME, len(frames) * FRAME))
    return frames + [BLANK] * silence, times


def sound_of(frames):
    """The samples that say so."""
    return torch.cat([torch.tensor(frames).repeat_interleave(HOP) / 100, torch.zeros(REST)])


def said(*words, **pauses):
    """The sound of some words, and their times."""
    frames, times = labels_of(words, **pauses)
    return sound_of(frames), times
