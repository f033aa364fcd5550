"""What a person sees of a run: a bar on a terminal, a line for each epoch elsewhere; all of it on stderr."""

from __future__ import annotations

import sys
import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Bar(Callback):
    """Steps done of all, time left, the loss, and after each epoch what validation measured."""

    def __init__(self, steps_of_epoch: int):
        self.steps_of_epoch = steps_of_epoch
        console = Console(file=sys.stderr)
        columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.fields[loss]}"))
        self.progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self.console = console

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            self.progress.disable = True
        self.began = time.monotonic()
        self.task = self.progress.add_task("tuning", total=trainer.max_steps, completed=trainer.global_step, loss="")
        self.progress.start()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.progress.disable:
            return
        loss = trainer.callback_metrics.get("loss")
        self.progress.update(self.task, completed=trainer.global_step, loss="" if loss is None else f"loss {float(loss):.3f}")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        epoch, epochs = (steps // self.steps_of_epoch for steps in (trainer.global_step, trainer.max_steps))
        values = ", ".join(f"{name} {float(value):.4f}" for name, value in sorted(trainer.callback_metrics.items()))
        seconds = time.monotonic() - self.began
        self.console.print(f"epoch {epoch} of {epochs}: {values} ({seconds:.0f} s)", highlight=False)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if isinstance(exception, KeyboardInterrupt) and trainer.is_global_zero:
            self.progress.stop()
            where = f"step {trainer.global_step} of {trainer.max_steps}"
            self.console.print(f"stopped at {where}; go on with --resume", highlight=False)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.progress.stop()
