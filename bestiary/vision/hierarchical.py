"""The block of transformers whose maps get smaller from stage to stage: Swin's and the Mix Transformer's."""

from __future__ import annotations

from torch import Tensor, nn

from bestiary.core.residual import Residual


class Block(nn.Module):
    """Attention, then an MLP, each behind a norm and added to what it started from: rows (n, h, w, width) to such."""

    def __init__(self, width: int, attention: nn.Module, mlp: nn.Module, *, eps: float, drop_path: float):
        super().__init__()
        self.attention_norm = nn.LayerNorm(width, eps)
        self.attention = attention
        self.mlp_norm = nn.LayerNorm(width, eps)
        self.mlp = mlp
        self.join = Residual(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = self.join(self.attention(self.attention_norm(x)), x)
        return self.join(self.mlp(self.mlp_norm(x)), x)
