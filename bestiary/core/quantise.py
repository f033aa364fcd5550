"""Weight-only quantisation: a net that decodes, with the weights of its matrices in 8 or 4 bits, by kernels of the CPU.

Embeddings stay as they are, norms compute in fp32. The kernels are torch's own, which read faster than torchao's.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bestiary.core.rows import FEW, PackedLinear, reformed
from bestiary.core.runtime import for_inference
from bestiary.errors import InputError

GROUP = 32  # weights of an output that share a scale and a zero at 4 bits


def quantise(net: nn.Module, precision: str) -> nn.Module:
    """The net for inference, with matrices of that precision: "int8" or "int4". It holds none of the net's own matrices.

    At 4 bits the heads have 8, as they choose the token. Raises InputError for a net that is not on the CPU.
    """
    if next(net.parameters()).device.type != "cpu":
        raise InputError(f'precision="{precision}" computes on a CPU\npass device="cpu", or leave the precision to the card')
    twin = for_inference(net)
    decoders: list[Any] = [part for part in twin.modules() if hasattr(part, "hidden_states") and hasattr(part, "head")]
    for decoder in decoders:
        decoder.head = reformed(decoder.head, Int8Linear)
    return reformed(twin, {"int8": Int8Linear, "int4": int4_linear}[precision])


class Int8Linear(PackedLinear):
    """Weights of 8 bits, w ≈ scale · q with a scale for each output, q in -127 to 127.

    The rows are rounded to 8 bits as well on their way into the product, each by its own range. That is what processors
    multiply fastest; rows in great number are computed with the weights alone rounded.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None):
        super().__init__(weight, bias)
        weight = weight.float()
        scale = (weight.abs().amax(1) / 127).clamp(min=torch.finfo(torch.float32).tiny)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*deprecated", category=UserWarning)
            rounded = torch.quantize_per_channel(weight, scale, torch.zeros_like(scale, dtype=torch.long), 0, torch.qint8)
        self._packed = torch.ops.quantized.linear_prepack(rounded, None)
        self._sums = rounded.dequantize().sum(1)  # (out,)
        self._bias = None if bias is None else bias.float()

    def forward(self, x: Tensor) -> Tensor:
        rows = x.numel() // x.shape[-1]
        if rows == 1:
            product = torch.ops.quantized.linear_dynamic.default(x, self._packed, False)
        elif rows <= FEW:
            product = self._rows(x)
        else:
            product = F.linear(x, torch.ops.quantized.linear_unpack(self._packed)[0].dequantize())
        return product if self._bias is None else product + self._bias

    def _rows(self, x: Tensor) -> Tensor:
        """Each row stretched to 0…1, so that the kernel's one range suits all and no row sees another's."""
        least, most = x.aminmax(dim=-1, keepdim=True)
        span = (most - least).clamp(min=torch.finfo(x.dtype).tiny)
        product = torch.ops.quantized.linear_dynamic.default((x - least) / span, self._packed, False)
        return product * span + least * self._sums


class Int4Linear(PackedLinear):
    """Weights of 4 bits, w ≈ scale · (q - 8) + zero with scale and zero for each GROUP, q in 0 to 15; rows in bf16."""

    def __init__(self, weight: Tensor, bias: Tensor | None):
        super().__init__(weight, bias)
        groups = weight.float().unflatten(1, (-1, GROUP))  # (out, groups, GROUP)
        least, most = groups.aminmax(dim=-1)
        scale = ((most - least) / 15).clamp(min=1e-7).bfloat16()
        zero = (least + 8 * scale.float()).bfloat16()
        rounded = ((groups - zero.float()[..., None]) / scale.float()[..., None] + 8).round().clamp(0, 15)
        self._packed = torch._convert_weight_to_int4pack_for_cpu(rounded.flatten(1).int(), 1)
        self._scales = torch.stack([scale, zero], dim=-1).transpose(0, 1).contiguous()  # (groups, out, 2)
        self._bias = None if bias is None else bias.float()

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, self.in_features).bfloat16()
        product = torch._weight_int4pack_mm_for_cpu(rows, self._packed, GROUP, self._scales).float()
        product = product.view(*x.shape[:-1], self.out_features)
        return product if self._bias is None else product + self._bias


def int4_linear(weight: Tensor, bias: Tensor | None) -> PackedLinear:
    """4 bits where the kernel takes the shape, else 8."""
    fits = weight.shape[0] % 16 == 0 and weight.shape[1] % GROUP == 0
    return (Int4Linear if fits else Int8Linear)(weight, bias)
