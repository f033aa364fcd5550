"""Device, precision and what each device is best at, decided in one place; the nets do not know.

Parts of a net that have a faster equivalent at inference (a norm folded into its convolution, fused projections) offer it by a
method `for_inference()`. What it returns is derived, never trained and never saved.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import nn

from bestiary.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
QUANTISED = ("int8", "int4")  # by core/quantise.py, from weights of 16 bits
FASTEST_FIRST = ("bf16", "fp16")
CPU_BF16 = ("avx512_bf16", "amx_bf16", "bf16")  # as torch.cpu names the instruction sets of x86 and of ARM


def pick_device(name: str) -> torch.device:
    """The device of that name; "auto" is the best there is: CUDA, then MPS, then CPU. Raises InputError."""
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return accelerator if accelerator is not None else torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f'device={name!r} cannot be used here: {str(error).splitlines()[0]}\nleave it at "auto"') from None
    return device


def pick_precision(asked: str | None, measured: Collection[str], device: torch.device) -> str:
    """The precision asked for: "fp32", "bf16", "fp16", "int8", "int4", None for fp32, or "fast". Raises InputError.

    "fast" is the fastest of the `measured` precisions (those a card lists) that the device computes natively, else fp32.
    """
    if asked == "fast":
        fast = (name for name in FASTEST_FIRST if name in measured and computes_natively(PRECISIONS[name], device))
        return next(fast, "fp32")
    if asked is None or asked in (*PRECISIONS, *QUANTISED):
        return asked or "fp32"
    known = ", ".join(["fast", *PRECISIONS, *QUANTISED])
    raise InputError(f"precision={asked!r} is not known\nit is one of {known}")


def dtype_of(precision: str, device: torch.device) -> torch.dtype:
    """The dtype to load weights in for a precision; for 8 and 4 bits the 16 from which they are rounded."""
    if precision not in QUANTISED:
        return PRECISIONS[precision]
    if device.type == "cpu":
        return torch.float16  # which is nearer to fp32; the rest of the net computes in that
    return PRECISIONS[_half(device)]


def training_precision(asked: str, device: torch.device) -> str:
    """The precision of the products of training: what is asked for, or "auto", 16 bits on CUDA devices and fp32 elsewhere."""
    if asked != "auto":
        return asked
    if device.type != "cuda":
        return "fp32"
    return _half(device)


def _half(device: torch.device) -> str:
    return next(name for name in FASTEST_FIRST if computes_natively(PRECISIONS[name], device))


def computes_natively(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether the device multiplies matrices of this dtype in hardware, rather than by way of fp32."""
    if device.type == "cuda":
        return dtype != torch.bfloat16 or torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return dtype == torch.bfloat16 and any(torch.cpu.get_capabilities().get(name) for name in CPU_BF16)
    return dtype == torch.float16


def packed_rows(device: torch.device, rows: int) -> int:
    """How many of so many packed rows to compute at once.

    On a CPU, as few as leave the activations of a block in the cache and keep every thread of `side_by_side` busy.
    """
    if device.type != "cpu":
        return 65536
    return min(1024, max(256, rows // (2 * torch.get_num_threads())))


def side_by_side(compute: Callable[[Item], Result], items: Sequence[Item], device: torch.device) -> list[Result]:
    """What `compute` makes of each item.

    On a CPU the items are computed side by side, each by one thread. Threads that share every product wait for one another
    at the end of each, all for the one that the system held up; threads with products of their own never wait.
    """
    if device.type != "cpu" or torch.get_num_threads() > len(items):
        return [compute(item) for item in items]
    return in_threads(compute, items)


def one_thread_each(compute: Callable[[Item], Result], items: Sequence[Item], device: torch.device) -> list[Result]:
    """What `compute` makes of each item, on a CPU always by one thread, even where there is one item alone.

    So it is for nets that take thousands of small steps: threads that share one wait for one another longer than they compute.
    """
    if device.type != "cpu":
        return [compute(item) for item in items]
    return _pooled(compute, items)


def in_threads(compute: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """What `compute` makes of each item, each by one of as many threads as torch has, wherever the net computes."""
    if min(torch.get_num_threads(), len(items)) < 2:
        return [compute(item) for item in items]
    return _pooled(compute, items)


def _pooled(compute: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    threads = torch.get_num_threads()
    inference = torch.is_inference_mode_enabled()  # which each thread has for itself

    def compute_alike(item: Item) -> Result:
        with torch.inference_mode(inference):
            return compute(item)

    try:
        with ThreadPoolExecutor(min(threads, len(items)) or 1, initializer=_be_single) as pool:
            return list(pool.map(compute_alike, items))
    finally:
        torch.set_num_threads(threads)  # what a thread sets for itself, torch also gives to those that start later


def _be_single() -> None:
    torch.get_num_threads()  # a thread takes up the common setting at its first question, and would else do so later
    torch.set_num_threads(1)


def images_at_once(device: torch.device) -> int:
    """How many images to compute at once; on a CPU more cost time, as their activations leave the cache."""
    return 8 if device.type == "cpu" else 64


class InferenceNet:
    """A net as inference wants it: shares the weights of `net`, with derived parts in place of those that offer them.

    The derived parts are made at the first call and again when a weight or a part of `net` has changed since, so that a net
    can be trained and asked in turn. Safe to call from several threads.
    """

    def __init__(self, net: nn.Module, derive: Callable[[nn.Module], nn.Module] | None = None):
        self.net = net
        self.derive = derive or for_inference
        self._lock = threading.Lock()
        self._derived: nn.Module | None = None
        self._state: list[tuple[int, int]] = []
        self._held: list[object] = []

    def __call__(self, *inputs: Any) -> Any:
        with torch.inference_mode():
            return self.derived()(*inputs)

    def __getstate__(self) -> dict[str, Any]:
        return {"net": self.net, "derive": self.derive}  # the rest is derived

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def derived(self) -> nn.Module:
        """The net for inference, as of now."""
        tensors = [*self.net.parameters(), *self.net.buffers()]
        state = [(id(part), 0) for part in self.net.modules()] + [(tensor.data_ptr(), tensor._version) for tensor in tensors]
        with self._lock:
            if self._derived is None or state != self._state:
                self._derived, self._state = self.derive(self.net), state
                # Kept alive, so that nothing new can come to lie at the address of something old.
                self._held = [*self.net.modules(), *(tensor.detach() for tensor in tensors)]
            return self._derived


@runtime_checkable
class Derivable(Protocol):
    """A part that has a faster equivalent at inference."""

    def for_inference(self) -> nn.Module: ...


@runtime_checkable
class Mergeable(Protocol):
    """A layer that stands in place of another, and adds to what its weight gives."""

    def plain(self) -> nn.Module: ...


def for_inference(module: nn.Module) -> nn.Module:
    """A copy of the module in evaluation mode that shares its tensors, but for the parts that offer a derived form."""
    return replaced(merged(module), lambda part: part.for_inference() if isinstance(part, Derivable) else None).eval()


def evaluated(module: nn.Module) -> nn.Module:
    """A copy of the module in evaluation mode that shares its tensors, adapters merged, and with nothing else derived."""
    return replaced(merged(module), lambda part: None).eval()


def merged(module: nn.Module) -> nn.Module:
    """The module itself, or a copy that shares its tensors, but for the layers that can be merged into plain ones."""
    if not any(isinstance(part, Mergeable) for part in module.modules()):
        return module
    return replaced(module, lambda part: part.plain() if isinstance(part, Mergeable) else None)


def replaced(module: nn.Module, instead: Callable[[nn.Module], nn.Module | None]) -> nn.Module:
    """A copy with what `instead` gives for a part in its place, and where that is None with the same tensors."""
    if (given := instead(module)) is not None:
        return given
    twin = copy.copy(module)
    twin._modules = {name: child and replaced(child, instead) for name, child in module._modules.items()}
    return twin
