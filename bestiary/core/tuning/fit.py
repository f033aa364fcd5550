"""A run of fine-tuning from its first step, or from where it was stopped, to its last, by Lightning's Trainer."""

from __future__ import annotations

import logging
import os
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping, EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import nn
from torch.utils.data import DataLoader, Sampler

from bestiary.core.runtime import pick_device, training_precision
from bestiary.core.tuning.bar import Bar
from bestiary.core.tuning.checkpoints import KeepLast, WholeFiles
from bestiary.core.tuning.interrupt import Interrupt
from bestiary.core.tuning.memory import explained, is_out_of_memory
from bestiary.core.tuning.module import FineTuning
from bestiary.core.tuning.order import Batches, Draw, Order, Through
from bestiary.core.tuning.processes import pick_strategy, read_whole, step_of, without_weights

LAST, BEST, LOGS = "last.ckpt", "best.ckpt", "logs"
LIGHTNING = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
# What Lightning says of data that it thinks is read once an epoch, and of workers on machines of few cores.
SILENCED = (
    "not resumable", "LeafSpec", "does not have many workers", "in eval mode", "Checkpoint directory",
    "is smaller than the logging",
)  # fmt: skip


class Fitted(NamedTuple):
    """What a run came to."""

    net: nn.Module  # with the weights that validation found best
    name: str  # what validation judged by
    value: float  # of the weights that were kept
    step: int  # at which they were reached


def fit(tuning: FineTuning, train: Batches, validation: Batches, order: Order, folder: Path, *, resume: bool = False) -> Fitted:
    """Tune the net of `tuning`.

    The folder gets `last.ckpt` and `best.ckpt`, and `logs` for TensorBoard and as CSV. With `resume` a run that was stopped
    goes on from its last checkpoint, and comes to the weights that it would have come to, to the last bit, on the same
    processor with as many threads.

    Raises InputError for a loss that is no number, for a batch that does not fit in memory, and for a last checkpoint that is
    none; DiskFullError.
    """
    recipe, last, best = tuning.recipe, folder / LAST, folder / BEST
    resume = resume and last.exists()  # a run that was stopped before it was first saved begins again
    order.start = step_of(last) * recipe.accumulate if resume else 0
    net = without_weights(tuning.net)
    folder.mkdir(parents=True, exist_ok=True)
    interrupt = Interrupt()
    try:
        with _quiet(), interrupt.heard():
            trainer = _trainer(tuning, order, folder, interrupt)
            trainer.fit(
                tuning,
                _loader(train, order, recipe.workers),
                _loader(validation, Through(len(validation.rows), recipe.batch_size, order.place), recipe.workers),
                ckpt_path=last if resume else None,
                weights_only=True,
            )
    except SystemExit:  # how Lightning ends a process at Ctrl-C, which `Bar` has told of
        raise KeyboardInterrupt from None
    except Exception as error:
        if interrupt.asked:  # a process that reads rows heard of it as well, and ended
            raise KeyboardInterrupt from None
        if not is_out_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)  # which hold all that was computed so far
        raise explained(tuning, train, order) from None
    state, kept = read_whole(best), trainer.checkpoint_callback
    net.load_state_dict({name.removeprefix("net."): value for name, value in state["state_dict"].items()}, assign=True)
    return Fitted(net.eval(), tuning.judge.name, float(kept.best_model_score), state["global_step"])  # type: ignore[union-attr]


def _trainer(tuning: FineTuning, order: Order, folder: Path, interrupt: Interrupt) -> Trainer:
    """The whole run is one round of Lightning's: an epoch is but the number of steps after which it validates."""
    recipe = tuning.recipe
    device = pick_device(recipe.device)
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # torchrun's, on this machine
    return Trainer(
        accelerator="gpu" if device.type == "cuda" else device.type,
        devices=processes if processes > 1 or device.index is None else [device.index],
        num_nodes=max(1, order.place.processes // processes),
        strategy=pick_strategy(tuning, order.place, device),
        precision=LIGHTNING[training_precision(recipe.precision, device)],  # type: ignore[arg-type]
        max_epochs=1,
        max_steps=order.steps,
        val_check_interval=order.steps_of_epoch * recipe.accumulate,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        accumulate_grad_batches=recipe.accumulate,
        gradient_clip_val=recipe.clip or None,
        use_distributed_sampler=False,
        callbacks=[*_callbacks(tuning, order, folder), interrupt],
        logger=[CSVLogger(folder, LOGS, flush_logs_every_n_steps=1), TensorBoardLogger(folder, LOGS)],
        log_every_n_steps=max(1, min(20, order.steps // 50)),
        plugins=[] if recipe.strategy == "fsdp" else [WholeFiles()],
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )


def _callbacks(tuning: FineTuning, order: Order, folder: Path) -> list[Callback]:
    recipe, judge = tuning.recipe, tuning.judge
    found: list[Callback] = [Bar(order.steps_of_epoch)]
    if recipe.ema:
        found.append(EMAWeightAveraging(decay=recipe.ema))
    if recipe.patience:
        found.append(EarlyStopping(judge.name, mode=judge.mode, patience=recipe.patience))
    how: dict[str, Any] = {"mode": judge.mode, "save_weights_only": True, "enable_version_counter": False}
    return [*found, ModelCheckpoint(folder, Path(BEST).stem, judge.name, **how), KeepLast(folder / LAST, recipe.save_every)]


def _loader(batches: Batches, draws: Sampler[Draw], workers: int) -> DataLoader[Any]:
    return DataLoader(
        batches,
        batch_size=None,
        sampler=draws,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what Lightning tells of itself."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for words in SILENCED:
            warnings.filterwarnings("ignore", message=f".*{words}")
        try:
            yield
        finally:
            logger.setLevel(level)
