"""What is done in a step of fine-tuning, and how it is judged: the base of what each domain's tasks are tuned by."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from bestiary.core.groups import parameter_groups
from bestiary.core.training import for_training
from bestiary.core.tuning.order import Batch
from bestiary.core.tuning.recipe import Recipe
from bestiary.errors import BestiaryError, InputError


class Judge(NamedTuple):
    """The value that tells a better state of the weights from a worse one."""

    name: str
    mode: str = "max"  # or "min"


class FineTuning(LightningModule):
    """A net and how it learns; a task says what its loss is, and what validation measures.

    Everything random in a step follows from the seed of its batch.
    """

    judge: ClassVar[Judge] = Judge("val_loss", "min")

    def __init__(self, net: nn.Module, recipe: Recipe, steps: int, name_of: Callable[[int], str] = "row {}".format):
        super().__init__()
        self.net = for_training(net)
        self.recipe = recipe
        self.steps = steps
        self.name_of = name_of  # what messages call a row of the training data

    @abstractmethod
    def loss(self, inputs: Any) -> Tensor:
        """The mean loss of a batch, a scalar."""

    @abstractmethod
    def measures(self, inputs: Any) -> tuple[dict[str, Tensor], int]:
        """What validation logs of a batch, means over it, and over how much: the loss as val_loss, and what the judge names."""

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        if isinstance(batch.inputs, BestiaryError):
            raise batch.inputs
        return batch

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        torch.manual_seed(batch.draw.seed)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = self.loss(batch.inputs)
        if not torch.isfinite(loss):
            raise InputError(
                f"the loss became {loss.item()} at step {self.global_step}, of {self._named(batch.draw.rows)}\n"
                "look at these, and lower --lr"
            )
        self.log("loss", loss, sync_dist=True)
        return loss * batch.draw.share

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        values, count = self.measures(batch.inputs)
        self.log_dict(values, batch_size=count, sync_dist=True)

    def groups(self) -> list[dict[str, Any]]:
        """The parameters for the optimiser, with the learning rate and the weight decay of each group."""
        recipe = self.recipe
        return parameter_groups(self.net, lr=recipe.lr, decay=recipe.decay, weight_decay=recipe.weight_decay)

    def configure_optimizers(self) -> Any:
        fused = self.trainer.precision == "32-true"  # at no other precision does Lightning clip the gradients of a fused one
        optimizer = torch.optim.AdamW(self.groups(), fused=fused)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, warmed_cosine(self.steps, self.recipe.warmup))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _named(self, rows: Sequence[int], most: int = 6) -> str:
        names = ", ".join(self.name_of(row) for row in rows[:most])
        return names if len(rows) <= most else f"{names} and {len(rows) - most} more"


def warmed_cosine(steps: int, warmup: float) -> Callable[[int], float]:
    """The learning rate of each step as a share of the highest: a straight rise, then half a cosine down to 0.

    >>> rate = warmed_cosine(steps=100, warmup=0.1)
    >>> rate(0), rate(9), round(rate(55), 2), rate(100)
    (0.1, 1.0, 0.5, 0.0)
    """
    rising = round(steps * warmup)

    def share(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))

    return share
