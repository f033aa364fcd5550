"""States of a run on disk: the last, to go on from, and the best. A file has its name only once it is whole."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import CheckpointIO

from bestiary.errors import DiskFullError, InputError

PARTIAL = ".partial"  # the ending of what is not whole yet


class WholeFiles(CheckpointIO):
    """Checkpoints that are written beside their name and then take it, so that what was there stays until then."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        place = Path(path)
        partial = place.with_name(place.name + PARTIAL)
        try:
            with partial.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(place)
        except (OSError, RuntimeError) as error:  # RuntimeError: what torch makes of a write that failed
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            kept = f"{place} is as it was" if place.exists() else "nothing was saved before"
            what = f"{place} cannot be written: {_reason(error)}"
            raise DiskFullError(f"{what}\n{kept}; make room, and go on with --resume") from error

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return read(Path(path), map_location)

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


def read(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """What a checkpoint holds: tensors and plain values, nothing that would be run. Raises InputError."""
    try:
        state: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # whatever pickle, zip and the disk raise
        what = f"{path} is no checkpoint: {str(error).splitlines()[0]:.100}"
        raise InputError(f"{what}\nstart the run again without --resume") from error
    return state


class KeepLast(Checkpoint):
    """Saves where the run stands, each `every` steps and after each validation, to the same file."""

    def __init__(self, path: Path, every: int):
        self.path = path
        self.every = every
        self.saved = 0

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        step, epoch = trainer.global_step, int(trainer.val_check_batch or 1)
        validated_next = (batch_idx + 1) % epoch == 0  # and then saved with what that found
        if step != self.saved and step % self.every == 0 and not validated_next:
            self._save(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit":
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self.path)
        self.saved = trainer.global_step


def _reason(error: BaseException) -> str:
    cause = error.__context__ if isinstance(error.__context__, OSError) else error
    return getattr(cause, "strerror", None) or str(error).splitlines()[0]
