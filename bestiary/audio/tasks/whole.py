"""What the tasks share that answer for a sound as a whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from bestiary.audio.hearing import HearingPreprocess, hearing_of
from bestiary.audio.tasks.sounds import SoundTask
from bestiary.core.record import record
from bestiary.core.runtime import side_by_side

Ask = Callable[..., Tensor]  # the net for inference and a batch of its inputs → (batch, numbers)


class WholeSoundTask(SoundTask):
    """A task whose answer is about a sound as a whole: a longer one than the net hears is cut, and the answers averaged."""

    kind: type[HearingPreprocess] = HearingPreprocess

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self.preprocess = record(self.kind, self.card.preprocess, f"preprocess of {self.card.name}")
        self.hearing = hearing_of(self.preprocess, self.net.config)
        self.rate = self.preprocess.rate

    def averaged(self, sounds: Sequence[Tensor], ask: Ask) -> Tensor:
        """The mean over the pieces of each sound of what `ask` makes of them: fp32 (sounds, numbers), on the CPU."""
        pieces = [self.hearing.pieces(samples) for samples in sounds]
        rows = self._asked([piece for own in pieces for piece in own], ask)
        return torch.stack([own.mean(0) for own in rows.split(list(map(len, pieces)))])

    def _asked(self, pieces: Sequence[Tensor], ask: Ask) -> Tensor:
        """On a CPU each piece by itself, as products of one are large enough, and threads then need not wait for one another."""
        size = 1 if self.device.type == "cpu" else self.at_once
        batches = [pieces[start : start + size] for start in range(0, len(pieces), size)]
        weight, net = next(self.net.parameters()), self.inference.derived()

        def compute(batch: Sequence[Tensor]) -> Tensor:
            inputs = (part.to(weight.device) for part in self.hearing.inputs(batch))
            with torch.inference_mode():
                return ask(net, *(part.to(weight.dtype) if part.is_floating_point() else part for part in inputs)).float()

        return torch.cat(side_by_side(compute, batches, self.device)).cpu()
