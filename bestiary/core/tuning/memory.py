"""What to tell of a batch that does not fit in memory."""

from __future__ import annotations

import torch

from bestiary.core.tuning.module import FineTuning
from bestiary.core.tuning.order import Batches, Order
from bestiary.errors import InputError

ON_CPU = ("can't allocate memory", "could not create a primitive")  # as torch has it, and as oneDNN


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, or the allocator of a CPU, had no more to give."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(words in str(error) for words in ON_CPU)


def explained(tuning: FineTuning, train: Batches, order: Order) -> InputError:
    """The error that says how many rows do fit, found by computing with ever fewer."""
    size = order.batch_size
    tuning.zero_grad(set_to_none=True)
    fitting = size // 2
    while fitting and not _fits(tuning, train, order, fitting):
        fitting //= 2
    if not fitting:
        return InputError(f"not even one row fits in the memory of {tuning.device}\ntake a smaller model, or more memory")
    batches = -(-size // fitting) * order.accumulate
    return InputError(
        f"a batch of {size} rows does not fit in the memory of {tuning.device}\n"
        f"{fitting} do: --batch-size {fitting} --accumulate {batches} takes the same steps"
    )


def _fits(tuning: FineTuning, train: Batches, order: Order, size: int) -> bool:
    draw = order.draw(order.start)
    try:
        batch = train[draw._replace(rows=draw.rows[:size], seeds=draw.seeds[:size])]
        inputs = tuning.transfer_batch_to_device(batch.inputs, tuning.device, 0)
        tuning.loss(inputs).backward()
    except Exception as error:
        if is_out_of_memory(error):
            return False
        raise
    finally:
        tuning.zero_grad(set_to_none=True)
    return True
