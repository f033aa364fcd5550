"""What a run of fine-tuning asks for, whatever it tunes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from bestiary.errors import InputError

Precision = Literal["auto", "fp32", "bf16", "fp16"]
Strategy = Literal["auto", "ddp", "fsdp"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The hyper-parameters of a run; a card that it leads to lists them.

    A step takes `batch_size × accumulate` rows in each process, and changes the weights once.

    >>> Recipe(epochs=3).lr
    0.001
    >>> Recipe(epochs=0)
    Traceback (most recent call last):
    bestiary.errors.InputError: epochs=0 makes no sense
    give 1 or more
    """

    epochs: Annotated[int, "times that every row is seen"] = 3
    batch_size: Annotated[int, "rows that are computed at once, in each process"] = 32
    accumulate: Annotated[int, "batches whose gradients make one step"] = 1
    lr: Annotated[float, "the highest learning rate, that of the head"] = 0.001
    decay: Annotated[float, "the learning rate of a block, as a share of that of the block behind it"] = 1.0
    weight_decay: Annotated[float, "of the weights of layers (Loshchilov and Hutter 2017, arXiv:1711.05101)"] = 0.05
    warmup: Annotated[float, "share of the steps in which the learning rate rises, to fall as a cosine after"] = 0.05
    clip: Annotated[float, "the longest that a gradient may be, as a norm over all weights; 0: any"] = 1.0
    ema: Annotated[float, "decay of the average of the weights that is kept in their place; 0: none"] = 0.0
    patience: Annotated[int, "epochs without anything better, after which the run stops; 0: never"] = 0
    precision: Annotated[Precision, "of the products; auto: 16 bits on a CUDA device, fp32 elsewhere"] = "auto"
    strategy: Annotated[Strategy, "how processes share the work; auto: ddp where there are several"] = "auto"
    device: Annotated[str, "cuda, mps, cpu"] = "auto"
    workers: Annotated[int, "processes that read and prepare rows; 0: none but this one"] = 2
    seed: Annotated[int, "what everything random follows from"] = 0
    save_every: Annotated[int, "steps after which the run can be resumed; so it can after each epoch"] = 200

    def __post_init__(self) -> None:
        for wanted, (fits, names) in RANGES.items():
            for name in names:
                if not fits(getattr(self, name)):
                    raise InputError(f"{name}={getattr(self, name)} makes no sense\ngive {wanted}")


RANGES: Mapping[str, tuple[Callable[[float], bool], tuple[str, ...]]] = {
    "1 or more": (lambda value: value >= 1, ("epochs", "batch_size", "accumulate", "save_every")),
    "0 or more": (lambda value: value >= 0, ("weight_decay", "clip", "patience", "workers", "seed")),
    "more than 0": (lambda value: value > 0, ("lr",)),
    "0 to less than 1": (lambda value: 0 <= value < 1, ("ema", "warmup")),
    "more than 0, at most 1": (lambda value: 0 < value <= 1, ("decay",)),
}
