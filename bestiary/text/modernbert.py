"""ModernBERT, a bidirectional encoder of long texts (Warner et al. 2024, arXiv:2412.13663)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from bestiary.core.architecture import Architecture
from bestiary.core.attention import AttentionSpec
from bestiary.core.block import BlockSpec, Stack
from bestiary.core.configmap import Fields, TransformersConfig
from bestiary.core.configparts import GLOBAL, LOCAL
from bestiary.core.context import Mask, look
from bestiary.core.keymap import Rule, each, linear, prefixed, same, tied
from bestiary.core.layers import MlpSpec, NormSpec
from bestiary.core.operations import PROJECTIONS, split
from bestiary.core.rotary import RotarySpec
from bestiary.errors import LayoutError
from bestiary.text.heads import RESIZED_BY, HeadKind, HeadSpec, TransformSpec, head_rules
from bestiary.text.published import EncoderHead, TransformersEncoder


@dataclass(frozen=True, kw_only=True)
class ModernBertConfig:
    layers: int  # number of blocks
    width: int  # size of a hidden state; divisible by heads
    heads: int  # attention heads of a block
    hidden: int  # width of the gated MLP
    vocabulary: int  # number of token ids
    positions: int  # longest sequence
    window: int = 64  # the largest distance seen in local layers
    global_every: int = 3  # of so many layers the first sees everything, the others are local
    theta: float = 160000.0  # base of the rotary angles in global layers
    local_theta: float = 10000.0  # the same in local ones
    eps: float = 1e-5  # of every norm
    head: HeadKind = "none"  # what follows the encoder, a key of HEADS
    num_classes: int | None = None  # of the heads "classes" and "tokens"
    pooling: Literal["cls", "mean"] = "cls"  # what answers for a sequence in the head "classes"


class ModernBert(nn.Module):
    """The encoder and its head: token ids in, hidden states or logits out.

    >>> import torch
    >>> config = ModernBertConfig(layers=3, width=32, heads=4, hidden=48, vocabulary=100, positions=256)
    >>> ModernBert(config)(torch.tensor([[5, 6, 7]])).shape
    torch.Size([1, 3, 32])
    """

    def __init__(self, config: ModernBertConfig):
        super().__init__()
        self.config = config
        norm = NormSpec(kind="layer_without_bias", eps=config.eps)
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.embedding_norm = norm.build(config.width)
        self.blocks = Stack(block(config, norm, layer).build() for layer in range(config.layers))
        self.norm = norm.build(config.width)
        transform = TransformSpec(width=config.width, activation="gelu", bias=False, norm=norm)
        head = HeadSpec(
            width=config.width,
            num_classes=config.num_classes,
            mask=transform,
            classes=transform,
            tokens=transform,
            pooling=config.pooling,
        )
        self.head = head.build(config.head, self.embedding)

    def forward(self, tokens: Tensor, mask: Mask | None = None, positions: Tensor | None = None) -> Tensor:
        """What the head makes of token ids (...): without one, hidden states (..., width).

        Logits are (..., vocabulary) of a masked token, (sequences, num_classes), (..., num_classes) of tokens, and
        (..., 2) for the start and end of a span. The ids come as (batch, length) with a padding mask of that shape (True
        where a token is), or as packed rows (rows,) with a ragged mask.
        """
        context = look(mask, tokens, positions, causal=False)
        return self.head(self.hidden_states(tokens, context), context)

    def hidden_states(self, tokens: Tensor, mask: Mask | None = None, positions: Tensor | None = None) -> Tensor:
        """What the head is given: (..., width)."""
        context = look(mask, tokens, positions, causal=False)
        x = self.embedding_norm(self.embedding(tokens))  # (..., width)
        x = self.blocks(x, context)
        return self.norm(x)


def block(config: ModernBertConfig, norm: NormSpec, layer: int) -> BlockSpec:
    """A global or a local block; the first has no norm before its attention, as the embedding was just normalised."""
    everywhere = layer % config.global_every == 0
    attention = AttentionSpec(
        width=config.width,
        heads=config.heads,
        query_bias=False,
        key_bias=False,
        value_bias=False,
        output_bias=False,
        rotary=RotarySpec(width=config.width // config.heads, theta=config.theta if everywhere else config.local_theta),
        window=None if everywhere else config.window,
    )
    return BlockSpec(
        attention=attention,
        mlp=MlpSpec(width=config.width, hidden=config.hidden, activation="gelu", kind="gated", bias=False),
        norm=norm,
        order="pre",
        attention_norm=norm if layer else NormSpec(kind="none", eps=config.eps),
    )


def transformers_layout(config: ModernBertConfig) -> list[Rule]:
    prefixes = ("", "model.") if config.head == "none" else ("model.", "")
    projections = (f"blocks.{{i}}.attention.{name}.weight" for name in PROJECTIONS)
    encoder = [
        same("embeddings.norm.weight", "embedding_norm.weight"),
        *each(
            config.layers,
            split("layers.{i}.attn.Wqkv.weight", *projections),
            same("layers.{i}.attn.Wo.weight", "blocks.{i}.attention.output.weight"),
            same("layers.{i}.mlp_norm.weight", "blocks.{i}.mlp_norm.weight"),
            split("layers.{i}.mlp.Wi.weight", "blocks.{i}.mlp.gate.weight", "blocks.{i}.mlp.up.weight"),
            same("layers.{i}.mlp.Wo.weight", "blocks.{i}.mlp.down.weight"),
        ),
        *each(config.layers, same("layers.{i}.attn_norm.weight", "blocks.{i}.attention_norm.weight"))[1:],
        same("final_norm.weight", "norm.weight"),
    ]
    transform = (
        same("head.dense.weight", "head.transform.dense.weight"),
        same("head.norm.weight", "head.transform.norm.weight"),
    )
    classifier = (*transform, *linear("classifier", "head.output"))
    heads: dict[HeadKind, tuple[Rule, ...]] = {
        "mask": (*transform, same("decoder.bias", "head.output.bias")),
        "classes": classifier,
        "tokens": classifier,
        "spans": classifier,
    }
    embeddings = (f"{prefix}embeddings.tok_embeddings.weight" for prefix in prefixes)
    return [
        tied((*embeddings, "decoder.weight"), "embedding.weight"),
        *prefixed(prefixes, encoder),
        *head_rules(config.head, heads),
    ]


class Layers:
    """Which layers are local and their angles, as `layer_types` and `rope_parameters` or, in older files, in numbers."""

    keys = (
        *("layer_types", "global_attn_every_n_layers", "local_attention"),
        *("rope_parameters", "global_rope_theta", "local_rope_theta"),
    )

    def read(self, published: Mapping[str, Any]) -> Fields:
        count, types = published["num_hidden_layers"], published.get("layer_types")
        every = published.get("global_attn_every_n_layers", 3)
        if types is not None:
            every = next((layer for layer in range(1, len(types)) if types[layer] == GLOBAL), len(types))
            if list(types) != _types(count, every):
                raise LayoutError(
                    f"config.json has layer_types: {str(types)[:100]}\n"
                    f"the zoo computes one {GLOBAL}, then {LOCAL} up to the next, always as many; this variant is not in it"
                )
        said = published.get("rope_parameters") or {}
        return {
            "window": published.get("local_attention", 128) // 2,
            "global_every": every,
            "theta": _theta(said.get(GLOBAL), published.get("global_rope_theta", 160000.0)),
            "local_theta": _theta(said.get(LOCAL), published.get("local_rope_theta", 10000.0)),
        }

    def write(self, config: Any) -> Fields:
        thetas = {GLOBAL: config.theta, LOCAL: config.local_theta}
        return {
            "layer_types": _types(config.layers, config.global_every),
            "local_attention": 2 * config.window,
            "rope_parameters": {kind: {"rope_type": "default", "rope_theta": theta} for kind, theta in thetas.items()},
        }


def _types(layers: int, every: int) -> list[str]:
    return [LOCAL if layer % every else GLOBAL for layer in range(layers)]


def _theta(said: Mapping[str, Any] | None, otherwise: float) -> float:
    values = {"rope_type": "default", "rope_theta": otherwise, **(said or {})}
    theta = values.pop("rope_theta")
    if values != {"rope_type": "default"}:
        raise LayoutError(f"config.json has the rotary parameters {values}\nthe zoo computes modernbert without any scaling")
    return float(theta)


TRANSFORMERS_CONFIG = TransformersConfig(
    "modernbert",
    layers="num_hidden_layers",
    width="hidden_size",
    heads="num_attention_heads",
    hidden="intermediate_size",
    vocabulary="vocab_size",
    positions="max_position_embeddings",
    eps="norm_eps",
    pooling="classifier_pooling",
    parts=(EncoderHead("ModernBert"), Layers()),
    fixed={
        "hidden_activation": "gelu",
        "classifier_activation": "gelu",
        "classifier_bias": False,
        "decoder_bias": True,
        "attention_bias": False,
        "mlp_bias": False,
        "norm_bias": False,
        "is_decoder": False,
        "is_encoder_decoder": False,
        "add_cross_attention": False,
        "tie_word_embeddings": True,
    },
    # Dropout rates, how it was trained and is best run, and what the published file says twice.
    ignored=frozenset(
        {f"{part}_dropout" for part in ("attention", "embedding", "mlp", "classifier")}
        | {"initializer_cutoff_factor", "sparse_prediction", "sparse_pred_ignore_index", "repad_logits_with_grad"}
        | {"deterministic_flash_attn", "reference_compile", "position_embedding_type", "layer_norm_eps", "cls_token_id"}
    ),
    writes={"pad_token_id": None},  # unsaid, it would be a token that small vocabularies do not have
)

ARCHITECTURE = Architecture(
    name="modernbert",
    config=ModernBertConfig,
    net=ModernBert,
    layouts={"transformers": transformers_layout},
    configs={"transformers": TRANSFORMERS_CONFIG},
    folders={"transformers": TransformersEncoder(TRANSFORMERS_CONFIG)},
    resized_by=RESIZED_BY,
)
