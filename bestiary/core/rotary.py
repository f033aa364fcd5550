"""Rotary position embedding: a position turns pairs of a head's numbers by angles (Su et al. 2021, arXiv:2104.09864).

A number and the one half a head further on make a pair ("half-split"). Files that pair neighbours ("interleaved") are
permuted in their key map, so that one pairing exists here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn

# Cosine and sine of each row's angles, both (..., rows, 1, head_width); the first half of the sines with the other sign.
Rotation = tuple[Tensor, Tensor]


class Scaling(Protocol):
    """How angles change so that a net reads further than it was trained to."""

    def frequencies(self, plain: Tensor, theta: float) -> Tensor:
        """The angles per position of each pair, from the plain ones: (pairs,) → (pairs,), fp32."""
        ...

    @property
    def magnitude(self) -> float:
        """What cosine and sine are multiplied by."""
        ...


@dataclass(frozen=True, kw_only=True)
class Linear:
    """Positions are divided by `factor` (Chen et al. 2023, arXiv:2306.15595)."""

    kind: Literal["linear"] = "linear"
    factor: float
    magnitude: ClassVar[float] = 1.0

    def frequencies(self, plain: Tensor, theta: float) -> Tensor:
        return plain / self.factor


@dataclass(frozen=True, kw_only=True)
class Llama3:
    """Slow angles are divided by `factor`, fast ones kept, those between blended (Llama 3.1, arXiv:2407.21783)."""

    kind: Literal["llama3"] = "llama3"
    factor: float
    slow: float  # turns within `trained` positions below which an angle is slow
    fast: float  # turns above which it is fast
    trained: int  # positions of the training before the scaling
    magnitude: ClassVar[float] = 1.0

    def frequencies(self, plain: Tensor, theta: float) -> Tensor:
        turns = plain * self.trained / (2 * math.pi)
        share = ((turns - self.slow) / (self.fast - self.slow)).clamp(0, 1)  # of the angle that is kept
        return plain * share + plain / self.factor * (1 - share)


@dataclass(frozen=True, kw_only=True)
class Yarn:
    """As Llama 3's, blended along the pairs, with sharper attention (Peng et al. 2023, arXiv:2309.00071, section 3)."""

    kind: Literal["yarn"] = "yarn"
    factor: float
    slow: float = 1.0  # turns within `trained` positions, as above (beta_slow and beta_fast of the paper)
    fast: float = 32.0
    trained: int
    magnitude: float  # 0.1 ln(factor) + 1 in the paper, equation 15
    whole_pairs: bool = True  # whether the ends of the blend are rounded to whole pairs

    def frequencies(self, plain: Tensor, theta: float) -> Tensor:
        pairs = len(plain)
        first, last = self._pair(self.fast, pairs, theta), self._pair(self.slow, pairs, theta)
        if self.whole_pairs:
            first, last = math.floor(first), math.ceil(last)
        first, last = max(first, 0), min(last, 2 * pairs - 1)
        pair = torch.arange(pairs, dtype=torch.float32, device=plain.device)
        scaled = ((pair - first) / max(last - first, 0.001)).clamp(0, 1)
        return plain / self.factor * scaled + plain * (1 - scaled)

    def _pair(self, turns: float, pairs: int, theta: float) -> float:
        """Which pair turns so often within the trained positions; not a whole number."""
        return pairs * math.log(self.trained / (turns * 2 * math.pi)) / math.log(theta)


@dataclass(frozen=True, kw_only=True)
class RotarySpec:
    """Pair k of `width / 2` turns by theta^(-2k / width) a position, unless a `scaling` changes that."""

    width: int  # of a head; even
    theta: float
    scaling: Scaling | None = None

    def rotation(self, positions: Tensor, dtype: torch.dtype) -> Rotation:
        """Cosine and sine for rows at these positions, (..., rows) → (..., rows, 1, width) each.

        Angles are computed in fp32, as bf16 cannot tell position 257 from 258.
        """
        exponents = torch.arange(0, self.width, 2, dtype=torch.float32, device=positions.device) / self.width
        frequencies = 1 / self.theta**exponents
        magnitude = 1.0
        if self.scaling is not None:
            frequencies, magnitude = self.scaling.frequencies(frequencies, self.theta), self.scaling.magnitude
        angles = positions[..., None, None].float() * frequencies
        cosine, sine = (angles.cos() * magnitude).to(dtype), (angles.sin() * magnitude).to(dtype)
        return torch.cat([cosine, cosine], dim=-1), torch.cat([-sine, sine], dim=-1)

    def build(self) -> Rotary:
        return Rotary(self)


class Rotary(nn.Module):
    """Turns queries or keys, (..., rows, heads, width), by the positions of their rows."""

    def __init__(self, spec: RotarySpec):
        super().__init__()
        self.spec = spec

    def forward(self, x: Tensor, rotation: Rotation) -> Tensor:
        cosine, sine = rotation
        first, second = x.chunk(2, dim=-1)
        return torch.addcmul(x * cosine, torch.cat([second, first], dim=-1), sine)
