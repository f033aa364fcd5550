"""Scaled dot-product attention of dense batches, by the kernel that suits the score, the device and the length."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

LONG = 512  # keys from which attention in bf16 goes block by block on a CPU
BLOCK = 2**18  # scores of a head that are computed at once then, so that they stay in the cache


class Score(NamedTuple):
    """How a query weighs the keys."""

    scale: float | None = None  # of the dot products; head_width ** -0.5 if None
    window: int | None = None  # the largest distance at which a query sees a key
    softcap: float | None = None  # scores s become softcap · tanh(s / softcap)

    def factor(self, head_width: int) -> float:
        """What dot products are multiplied by."""
        return head_width**-0.5 if self.scale is None else self.scale


def attention(
    query: Tensor, key: Tensor, value: Tensor, score: Score, mask: Tensor | None = None, *, causal: bool = False
) -> Tensor:
    """Attention of (batch, length, heads, head_width), with fewer heads of keys where grouped.

    `mask` is bool, or added to the scores; `causal` stands for the mask of its name.
    """
    query, key, value = (x.transpose(-3, -2) for x in (query, key, value))  # (batch, heads, length, head_width)
    if mask is not None and mask.dtype != torch.bool:
        mask = mask.to(query.dtype)
    grouped = bool(query.shape[-3] != key.shape[-3])  # a tensor where it is traced
    if score.softcap is not None:
        attended = _softcapped(query, key, value, score, mask, causal)
    elif _goes_by_blocks(query, key) and not causal and not grouped:
        attended = _by_blocks(query, key, value, score, mask)
    else:
        attended = F.scaled_dot_product_attention(
            query, key, value, mask, is_causal=causal, scale=score.scale, enable_gqa=grouped
        )
    return attended.transpose(-3, -2)


def _goes_by_blocks(query: Tensor, key: Tensor) -> bool:
    """Whether it is bf16 on a CPU, whose fused kernel takes half as long again as at fp32; but training wants no scores kept."""
    half = query.dtype == torch.bfloat16 and query.device.type == "cpu"
    return half and key.shape[-2] >= LONG and not torch.is_grad_enabled()


def _by_blocks(query: Tensor, key: Tensor, value: Tensor, score: Score, mask: Tensor | None) -> Tensor:
    """Some queries of all heads at a time, their scores in the precision of the queries."""
    query, key, value = query * score.factor(query.shape[-1]), key.contiguous().transpose(-2, -1), value.contiguous()
    at_once = max(1, BLOCK // int(key.shape[-1]))
    parts = query.split(at_once, dim=-2)
    masks = [mask] * len(parts) if mask is None or mask.shape[-2] == 1 else mask.split(at_once, dim=-2)
    attended = [_mask_(part @ key, mask).softmax(dim=-1) @ value for part, mask in zip(parts, masks, strict=True)]
    return torch.cat(attended, dim=-2)


def _softcapped(query: Tensor, key: Tensor, value: Tensor, score: Score, mask: Tensor | None, causal: bool) -> Tensor:
    """Step by step, as no fused kernel bends the scores between product and softmax."""
    assert score.softcap is not None
    group = query.shape[-3] // key.shape[-3]
    key, value = (x.repeat_interleave(group, dim=-3) for x in (key, value))
    scores = (query @ key.transpose(-2, -1)) * score.factor(query.shape[-1])  # (batch, heads, queries, keys)
    scores = score.softcap * torch.tanh(scores / score.softcap)
    if causal:
        places = torch.arange(query.shape[-2], device=query.device)
        mask = sees(places, places, True, None)
    return _mask_(scores, mask).softmax(dim=-1, dtype=torch.float32).to(query.dtype) @ value


def _mask_(scores: Tensor, mask: Tensor | None) -> Tensor:
    """The scores themselves, of which a mask of bool leaves some, or to which one of numbers is added."""
    if mask is None:
        return scores
    return scores.masked_fill_(~mask, float("-inf")) if mask.dtype == torch.bool else scores.add_(mask)


def sees(queries: Tensor, keys: Tensor, causal: bool, window: int | None) -> Tensor | None:
    """Which queries see which keys, by their positions: (..., queries), (..., keys) → (..., queries, keys); None for all."""
    if window is None:
        return queries[..., :, None] >= keys[..., None, :] if causal else None
    distance = queries[..., :, None] - keys[..., None, :]
    return (distance >= 0) & (distance <= window) if causal else distance.abs() <= window
