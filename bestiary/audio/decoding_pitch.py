"""From how probable each pitch is at each moment to one pitch at each, as torchcrepe decodes it, but for its noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

STEP, LOWEST = 20, 1997.3794084376191  # cents over 10 Hz: from one bin to the next, and of the first
NEAR = 4  # bins to either side of the best that are averaged
REACH = 12  # bins: what is so far from the pitch before is out of reach
UNLIKELY = float(np.log(np.finfo(np.float32).tiny))  # what going there anyway adds to the logarithm of a path

Decoder = Callable[[Tensor], tuple[Tensor, Tensor]]  # probabilities (times, bins), -inf where excluded → bins and cents (times,)


def hertz_of(cents: Tensor) -> Tensor:
    return 10 * 2 ** (cents / 1200)


def cents_of(bins: Tensor) -> Tensor:
    """Cents over 10 Hz, fp32."""
    return STEP * bins + LOWEST


def bins_between(fmin: float, fmax: float, bins: int) -> slice:
    """The bins of pitches in a range of Hz."""
    low, high = (1200 * torch.log2(torch.tensor(hertz) / 10) for hertz in (fmin, fmax))
    first, last = ((cents - LOWEST) / STEP for cents in (low, high))
    return slice(max(int(first.floor()), 0), min(int(last.ceil()), bins))


def argmax(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """The most probable bin at each moment."""
    bins = probabilities.argmax(1)
    return bins, cents_of(bins)


def weighted(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """The same, and the mean of the pitches around it, weighted by the sigmoid of their probabilities."""
    best = probabilities.argmax(1)
    places = torch.arange(probabilities.shape[1], device=probabilities.device)
    near = (places - best[:, None]).abs() <= NEAR
    weights = probabilities.masked_fill(~near, float("-inf")).sigmoid()
    return best, (weights * cents_of(places)).sum(1) / weights.sum(1)


def viterbi(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """The path that is most probable as a whole, where pitch moves by few bins at a time (Viterbi 1967)."""
    chances = probabilities.float().softmax(1).cpu().numpy()
    path = _path(np.log(chances + np.finfo(np.float32).tiny))
    bins = torch.from_numpy(path).to(probabilities.device)
    return bins, cents_of(bins)


def _path(logs: np.ndarray) -> np.ndarray:
    """The bins of the best path through logarithms of probabilities (times, bins).

    Only the nearest bins are compared one by one; from all others a step is equally unlikely, so the best of all stands for them.
    """
    times, bins = logs.shape
    moves, span = _moves(bins), 2 * REACH - 1  # (bins, span)
    padded = np.full(bins + span - 1, -np.inf)
    values, windows = padded[REACH - 1 : REACH - 1 + bins], sliding_window_view(padded, span)  # of the bins before each bin
    values[:] = logs[0] - np.log(bins)
    places, origins = np.arange(bins), np.empty((times, bins), np.int16)
    for time in range(1, times):
        reached = windows + moves
        nearest = reached.argmax(1)
        best = reached[places, nearest]
        far = int(values.argmax())
        jumped = values[far] + UNLIKELY > best
        origins[time] = np.where(jumped, far, places + nearest - (REACH - 1))
        values[:] = np.where(jumped, values[far] + UNLIKELY, best) + logs[time]
    path = np.empty(times, np.int64)
    path[-1] = values.argmax()
    for time in range(times - 1, 0, -1):
        path[time - 1] = origins[time, path[time]]
    return path


def _moves(bins: int) -> np.ndarray:
    """The logarithm of how probable a step is to each bin from those around it: (bins, 2 · REACH - 1)."""
    places = np.arange(bins)
    likely = np.maximum(REACH - np.abs(places[:, None] - places), 0).astype(float)
    likely /= likely.sum(1, keepdims=True)  # of all steps from a bin
    with np.errstate(divide="ignore"):
        logs = np.log(np.pad(likely, ((REACH - 1, REACH - 1), (0, 0))))  # (bins + span - 1, bins): to the bin of the column
    return np.stack([logs[place : place + 2 * REACH - 1, place] for place in places])


DECODERS: Mapping[str, Decoder] = {"viterbi": viterbi, "weighted": weighted, "argmax": argmax}
