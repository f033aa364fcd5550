"""Matrices in 8 or 4 bits, for inference: what each device computes fastest for a net that reads single tokens, or many rows.

Embeddings and convolutions stay as they are, and norms compute in fp32. On a CPU the kernels are torch's own, which are faster
than torchao's; elsewhere they are torchao's.
"""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from bestiary.core.attention import FusedCrossAttention
from bestiary.core.layers import GatedMlp, Mlp
from bestiary.core.rows import Form, PackedLinear, reformed, with_linears
from bestiary.core.runtime import for_inference
from bestiary.errors import InputError

GROUP = 32  # weights of an output that share a scale and a zero at 4 bits
PACKED = 256  # rows up to which weights are not worth taking out of the packing in which a few rows read them
AT_ONCE = 512  # rows that are multiplied together, so that what lies between two steps stays in the cache
TINY = 1e-30  # a range that cannot be divided by is taken for this
WEIGHTS_ALONE, ROWS_TOO = "Int8WeightOnlyConfig", "Int8DynamicActivationInt8WeightConfig"  # what torchao rounds


@runtime_checkable
class Coarsening(Protocol):
    """A net that, where its matrices have 8 bits, has another form that is as precise as these and faster on a CPU."""

    def coarse(self) -> nn.Module: ...


def quantise(net: nn.Module, precision: str) -> nn.Module:
    """The net for inference, with matrices of that precision, "int8" or "int4", in the form that computes fastest with many rows.

    It holds none of the net's own matrices. Raises InputError for a net whose work is not done by matrices, for one at 4 bits
    that is not on a CPU, and where torchao is missing.
    """
    device = _device_of(net, precision)
    if device.type != "cpu":
        return with_linears(for_inference(net), torchao_form(precision, device, ROWS_TOO))
    return reformed(for_inference(net), _form(precision, Int8Linear))


def quantise_for_decoding(net: nn.Module, precision: str) -> nn.Module:
    """The same for a net that decodes, token by token: in the form that is read fastest, but where it computes many rows.

    At 4 bits its heads have 8, as they choose the token.
    """
    device = _device_of(net, precision)
    twin: Any = for_inference(net)
    if device.type != "cpu":
        return with_linears(twin, torchao_form(precision, device, WEIGHTS_ALONE))
    if isinstance(twin, Coarsening):
        twin = twin.coarse()
    decoders: list[Any] = [part for part in twin.modules() if hasattr(part, "hidden_states") and hasattr(part, "head")]
    for decoder in decoders:
        decoder.head = reformed(decoder.head, Int8RowLinear)
    for part, name in _reading(twin):
        setattr(part, name, reformed(getattr(part, name), _form(precision, Int8Linear)))
    return reformed(twin, _form(precision, Int8RowLinear))


def _device_of(net: nn.Module, precision: str) -> torch.device:
    if not any(isinstance(part, Mlp | GatedMlp) for part in net.modules()):
        what = f'precision="{precision}" rounds matrices, and this net computes by convolutions'
        raise InputError(f"{what}\ntake fp32, bf16 or fp16")
    return next(net.parameters()).device


def _reading(net: nn.Module) -> list[tuple[nn.Module, str]]:
    """What computes many rows in a net that decodes: its encoder, if it has one, and what makes keys and values of the memory."""
    encoder = [(net, "encoder")] if hasattr(net, "encoder") else []
    return encoder + [(part, "memory") for part in net.modules() if isinstance(part, FusedCrossAttention)]


def _form(precision: str, eight: Form) -> Form:
    return eight if precision == "int8" else partial(int4_linear, otherwise=eight)


class Int8Linear(PackedLinear):
    """Weights of 8 bits, w ≈ scale · q with a scale for each output, q in -127 to 127; for many rows.

    Each row is rounded to 8 bits as well, by its own range, and the product is one of whole numbers, exact in 32 bits. That is
    what processors multiply fastest.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None):
        super().__init__(weight, bias)
        self._scale, rounded = _rounded(weight)
        self._weight = rounded.to(torch.int8)
        self._bias = None if bias is None else bias.float()

    def forward(self, x: Tensor) -> Tensor:
        return int8_linear(x, self._weight, self._scale, self._bias)


def int8_linear(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    """Rows of fp32 rounded to 8 bits, times a weight of int8 (out, in) with a scale (out,): (..., in) → (..., out)."""
    rows = x.flatten(0, -2)
    products = x.new_empty(len(rows), len(weight))
    for part, into in zip(rows.split(AT_ONCE), products.split(AT_ONCE), strict=True):
        most, least = part.amax(-1, keepdim=True), part.amin(-1, keepdim=True)  # aminmax takes ten times as long
        span = torch.maximum(most, -least).clamp_(min=TINY)
        rounded = (part * (127 / span)).round_().to(torch.int8)
        product = torch._int_mm(rounded, weight.t()).float().mul_(scale)
        if bias is None:
            torch.mul(product, span / 127, out=into)
        else:
            torch.addcmul(bias, product, span / 127, out=into)
    return products.view(*x.shape[:-1], len(weight))


def _rounded(weight: Tensor) -> tuple[Tensor, Tensor]:
    """The scale of each output (out,), and the weights in these as whole numbers (out, in), both fp32."""
    weight = weight.to(torch.float32, copy=True)
    most = torch.maximum(weight.amax(1), -weight.amin(1))
    scale = (most / 127).clamp(min=torch.finfo(torch.float32).tiny)
    return scale, weight.div_(scale[:, None]).round_()


class Int8RowLinear(PackedLinear):
    """The weights of `Int8Linear`, packed for a few rows.

    Rows are rounded to 8 bits as well on their way into the product, each by its own range.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None):
        super().__init__(weight, bias)
        self._scale, rounded = _rounded(weight)
        self._sums = rounded.sum(1) * self._scale  # (out,)
        zeros = torch.zeros_like(self._scale, dtype=torch.long)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*deprecated", category=UserWarning)
            whole = torch._make_per_channel_quantized_tensor(rounded.to(torch.int8), self._scale, zeros, 0)
        self._packed = torch.ops.quantized.linear_prepack(whole, None)
        self._bias = None if bias is None else bias.float()

    def forward(self, x: Tensor) -> Tensor:
        rows = x.numel() // x.shape[-1]
        if rows == 1:
            product = torch.ops.quantized.linear_dynamic.default(x, self._packed, False)
        elif rows <= PACKED:
            product = self._rows(x)
        else:
            whole = torch.ops.quantized.linear_unpack(self._packed)[0].int_repr()
            return int8_linear(x, whole, self._scale, self._bias)
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


def int4_linear(weight: Tensor, bias: Tensor | None, *, otherwise: Form) -> nn.Module:
    """4 bits where the kernel takes the shape, else the form of 8 that is given."""
    fits = weight.shape[0] % 16 == 0 and weight.shape[1] % GROUP == 0
    return (Int4Linear if fits else otherwise)(weight, bias)


def torchao_form(precision: str, device: torch.device, config: str) -> Form:
    """Linear layers of 8 bits by torchao, by a class of its configs: WEIGHTS_ALONE, or ROWS_TOO, each row as it comes.

    Raises InputError for other precisions, and where torchao is missing.
    """
    if precision != "int8":
        raise InputError(f'precision="{precision}" computes on a CPU, not on {device}\npass device="cpu", or take int8')
    try:
        from torchao import quantization
    except ImportError:
        raise InputError("8 bits elsewhere than on a CPU need torchao\npip install 'bestiary[quantize]'") from None
    asked = getattr(quantization, config)

    def form(weight: Tensor, bias: Tensor | None) -> nn.Module:
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
        layer.weight = nn.Parameter(weight, requires_grad=False)
        if bias is not None:
            layer.bias = nn.Parameter(bias, requires_grad=False)
        quantization.quantize_(layer, asked())
        return layer

    return form
