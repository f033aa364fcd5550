"""Sounds to labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from PIL import Image
from torch import Tensor

from bestiary.audio.drawing import draw_scores
from bestiary.audio.hearing import HearingPreprocess
from bestiary.audio.tasks.embedding import AudioEmbedder
from bestiary.audio.tasks.whole import WholeSoundTask
from bestiary.core.labels import LABELLED, Label, check_top, class_names, label_report, labelled, ranked
from bestiary.core.task import Report
from bestiary.errors import InputError


@dataclass(frozen=True, kw_only=True)
class AudioClassifierPreprocess(HearingPreprocess):
    """The keys of a card's `preprocess` for audio-classification, beside those of hearing."""

    scores: Literal["softmax", "sigmoid"] = "softmax"  # one label a sound, or any number of them


class Labels(list[Label]):
    """The labels of a sound, best first: a list of Label that can draw itself.

    >>> Labels([Label("speech", 0.9), Label("music", 0.2)]).plot().size
    (960, 64)
    """

    def plot(self) -> Image.Image:
        """The labels with their scores as bars."""
        return draw_scores(self)


class AudioClassifier(WholeSoundTask):
    """Sounds to labels, by a net such as AST that looks at them as a whole."""

    keys = ("scores",)
    kind = AudioClassifierPreprocess

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self.labels = class_names(self.card.labels, getattr(self.net.config, "num_classes", 0), self.card.name)

    def __call__(self, sounds: Any, *, top: int = 5, batch_size: int | None = None) -> Any:
        """The `top` most likely labels, best first: `Labels`, a list of Label, for one sound, a list of these for a list.

        What counts as a sound: see `bestiary.audio.sound.read_sound`. One that is longer than the net hears at once is cut into
        overlapping pieces of that length, whose scores are averaged; a shorter one has silence behind it. Raises InputError, for
        an address also OfflineError or SourceError.
        """
        check_top(top)
        return self.answered(
            sounds, lambda batch: map(Labels, ranked(self._scores(batch), self.labels, top)), batch_size=batch_size
        )

    def replace_head(self, labels: Sequence[str]) -> None:
        """A new head with random weights for classes of these names, to be trained; the card that `save` writes names them.

        Raises InputError for names that are none, or one twice.
        """
        if isinstance(labels, str) or not all(isinstance(label, str) for label in labels) or len({*labels}) < len(labels):
            raise InputError("labels are the names of classes, each another\ngive a list of different strings")
        cast(Any, self.net).replace_head(len(labels))
        self.labels = tuple(labels)
        self.card = replace(self.card, labels=self.labels, precision={}, metrics=())

    def embedder(self) -> AudioEmbedder:
        """The same net, sharing its weights, as a task that gives vectors and searches by them; saved, it is loaded as such."""
        preprocess = {key: value for key, value in self.card.preprocess.items() if key not in self.keys}
        card = replace(self.card, task="audio-embedding", preprocess=preprocess)
        return AudioEmbedder(self.net, card, self.provenance, self._saver)

    def returns(self) -> Mapping[str, Any]:
        return LABELLED

    def record(self, result: Labels) -> Mapping[str, Any]:
        return labelled(result)

    def report(self, inputs: Sequence[str]) -> Report:
        return label_report("sound", inputs, self(list(inputs)))

    def _scores(self, batch: Sequence[Tensor]) -> Tensor:
        """(sounds, classes)"""
        if cast(AudioClassifierPreprocess, self.preprocess).scores == "sigmoid":
            return self.averaged(batch, lambda net, *inputs: net(*inputs).float().sigmoid())
        return self.averaged(batch, lambda net, *inputs: net(*inputs).float().softmax(-1))
