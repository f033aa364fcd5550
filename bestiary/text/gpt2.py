"""GPT-2, a causal decoder of text with learned positions.

Radford et al. 2019, "Language Models are Unsupervised Multitask Learners".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from bestiary.core.architecture import Architecture
from bestiary.core.attention import AttentionSpec
from bestiary.core.block import BlockSpec
from bestiary.core.configmap import Fields, TransformersConfig
from bestiary.core.context import Mask, look
from bestiary.core.keymap import Rule, each, ignored, norm, prefixed, same, tied
from bestiary.core.layers import MlpSpec, NormSpec, TiedHead
from bestiary.core.operations import PROJECTIONS, split, split_transposed, transposed
from bestiary.errors import LayoutError
from bestiary.text.published_decoder import TransformersDecoder


@dataclass(frozen=True, kw_only=True)
class Gpt2Config:
    layers: int  # number of blocks
    width: int  # size of a hidden state; divisible by heads
    heads: int  # attention heads of a block
    hidden: int  # width of the MLP
    vocabulary: int  # number of token ids
    positions: int  # longest sequence
    eps: float = 1e-5  # of every norm


class Gpt2(nn.Module):
    """The decoder: token ids in, logits of the next token out.

    >>> import torch
    >>> config = Gpt2Config(layers=2, width=32, heads=4, hidden=128, vocabulary=100, positions=16)
    >>> Gpt2(config)(torch.tensor([[5, 6, 7]])).shape
    torch.Size([1, 3, 100])
    """

    def __init__(self, config: Gpt2Config):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Embedding(config.positions, config.width)
        block = BlockSpec(
            attention=AttentionSpec(width=config.width, heads=config.heads),
            mlp=MlpSpec(width=config.width, hidden=config.hidden, activation="gelu_tanh"),
            norm=NormSpec(eps=config.eps),
            order="pre",
        )
        self.blocks = block.stack(config.layers)
        self.norm = NormSpec(eps=config.eps).build(config.width)
        self.head = TiedHead(self.embedding)

    def forward(self, tokens: Tensor, mask: Mask | None = None, positions: Tensor | None = None) -> Tensor:
        """Logits (..., vocabulary) of what follows each of the token ids (...).

        The ids come as (batch, length) with a padding mask of that shape (True where a token is), as packed rows (rows,)
        with a ragged mask, or with the context of a cache.
        """
        return self.head(self.hidden_states(tokens, mask, positions))

    def hidden_states(self, tokens: Tensor, mask: Mask | None = None, positions: Tensor | None = None) -> Tensor:
        """What the head makes logits of: (..., width)."""
        context = look(mask, tokens, positions, causal=True)
        x = self.embedding(tokens) + self.positions(context.positions)  # (..., width)
        x = self.blocks(x, context)
        return self.norm(x)


def transformers_layout(config: Gpt2Config) -> list[Rule]:
    projections = [f"blocks.{{i}}.attention.{name}" for name in PROJECTIONS]
    decoder = [
        same("wpe.weight", "positions.weight"),
        *each(
            config.layers,
            *norm("h.{i}.ln_1", "blocks.{i}.attention_norm"),
            split_transposed("h.{i}.attn.c_attn.weight", *(f"{name}.weight" for name in projections)),
            split("h.{i}.attn.c_attn.bias", *(f"{name}.bias" for name in projections)),
            *linear_transposed("h.{i}.attn.c_proj", "blocks.{i}.attention.output"),
            *norm("h.{i}.ln_2", "blocks.{i}.mlp_norm"),
            *linear_transposed("h.{i}.mlp.c_fc", "blocks.{i}.mlp.up"),
            *linear_transposed("h.{i}.mlp.c_proj", "blocks.{i}.mlp.down"),
            *ignored("h.{i}.attn.bias", "h.{i}.attn.masked_bias"),  # which rows see which, once kept as tensors
        ),
        *norm("ln_f", "norm"),
    ]
    # The first files of GPT-2 have no prefix; the embedding is the head too, of which some files hold a copy.
    embedding = tied(("transformer.wte.weight", "wte.weight", "lm_head.weight"), "embedding.weight")
    return [embedding, *prefixed(("transformer.", ""), decoder)]


def linear_transposed(theirs: str, ours: str) -> tuple[Rule, Rule]:
    """A linear layer that multiplies its weight from the left, so that it lies transposed."""
    return transposed(f"{theirs}.weight", f"{ours}.weight"), same(f"{theirs}.bias", f"{ours}.bias")


class MlpWidth:
    """`n_inner`, which is null for four times the width, and `n_ctx`, in old files a second word for the longest sequence."""

    keys = ("n_inner", "n_ctx")

    def read(self, published: Mapping[str, Any]) -> Fields:
        if published.get("n_ctx", published["n_positions"]) != published["n_positions"]:
            raise LayoutError(
                f"config.json says n_ctx: {published['n_ctx']!r}, n_positions: {published['n_positions']!r}\n"
                "they are two words for one number; this variant is not in the zoo"
            )
        return {"hidden": published.get("n_inner") or 4 * published["n_embd"]}

    def write(self, config: Any) -> Fields:
        return {"n_inner": config.hidden}


TRANSFORMERS_CONFIG = TransformersConfig(
    "gpt2",
    layers="n_layer",
    width="n_embd",
    heads="n_head",
    vocabulary="vocab_size",
    positions="n_positions",
    eps="layer_norm_epsilon",
    parts=(MlpWidth(),),
    fixed={
        "activation_function": "gelu_new",
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "reorder_and_upcast_attn": False,
        "add_cross_attention": False,
        "is_decoder": False,
        "is_encoder_decoder": False,
        "tie_word_embeddings": True,
    },
    ignored=frozenset(
        {"attn_pdrop", "embd_pdrop", "resid_pdrop"}
        | {f"summary_{name}" for name in ("type", "use_proj", "activation", "proj_to_labels", "first_dropout")}
    ),
    writes={"architectures": ["GPT2LMHeadModel"]},
)

ARCHITECTURE = Architecture(
    name="gpt2",
    config=Gpt2Config,
    net=Gpt2,
    layouts={"transformers": transformers_layout},
    configs={"transformers": TRANSFORMERS_CONFIG},
    folders={"transformers": TransformersDecoder(TRANSFORMERS_CONFIG)},
)
