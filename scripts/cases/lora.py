"""A step of tuning smollm2-135m-instruct by LoRA, against peft on transformers: the same weights, tokens and labels, fp32."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bestiary.core.adapt import add_adapter
from bestiary.core.losses import next_token_loss
from bestiary.core.packing import Ragged
from bestiary.core.training import for_training
from bestiary.scripts.benchmark import Bench, Row, limit
from bestiary.scripts.cases.generate import load, transformers_model

RANK = 16
EXAMPLES = (256, 160, 96)  # tokens of those in a block
BLOCKS = 4
TARGETS = {  # our names of what is adapted, theirs
    "attention": (("attention",), ["q_proj", "k_proj", "v_proj", "o_proj"]),
    "attention and MLPs": (("attention", "mlp"), ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]),
}

Step = Callable[[], float]


class Blocks(NamedTuple):
    """Examples packed into blocks; the second half of each is its answer, which alone is learned."""

    tokens: Tensor  # (blocks, length)
    labels: Tensor  # (blocks, length), of the token itself, -100 where it is not learned
    positions: Tensor  # (blocks, length), of each in its example

    @property
    def following(self) -> Tensor:
        """The label of what follows each token, as a language model is asked: (blocks, length)"""
        return torch.nn.functional.pad(self.labels[:, 1:], (0, 1), value=-100)


def lora_step(bench: Bench) -> Iterator[Row]:
    """Forward, loss on the answers, backward, AdamW over the adapter."""
    batch = blocks(load("fp32").net.config.vocabulary)
    shape = f"{BLOCKS} × {sum(EXAMPLES)} packed tokens"
    for what, (targets, their_targets) in TARGETS.items():
        ours, theirs = our_step(targets, batch), their_step(their_targets, batch)
        yield limit(f"difference of the first losses, adapters on {what}", abs(ours() - theirs()), unit="", at_most=1e-4)
        times = bench.alternate(ours, theirs)
        yield times.speed(f"a step of LoRA on {shape}, adapters on {what}", "peft on transformers", at_least=1.3)


def our_step(targets: Sequence[str], batch: Blocks) -> Step:
    net = for_training(add_adapter(load("fp32").net.train(), RANK, targets=targets))
    mask = Ragged(EXAMPLES * BLOCKS)
    optimizer = torch.optim.AdamW([weight for weight in net.parameters() if weight.requires_grad], lr=1e-4, fused=True)

    def step() -> float:
        optimizer.zero_grad()
        loss = next_token_loss(net, batch.tokens.flatten(), mask, batch.positions.flatten(), batch.following.flatten())
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def their_step(targets: list[str], batch: Blocks) -> Step:
    """What transformers' Trainer does in a step; where positions begin anew its models see another text."""
    from peft import LoraConfig, get_peft_model

    model: Any = get_peft_model(transformers_model(), LoraConfig(r=RANK, lora_alpha=RANK, target_modules=targets)).train()
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=1e-4, fused=True)

    def step() -> float:
        optimizer.zero_grad()
        output = model(input_ids=batch.tokens, position_ids=batch.positions, labels=batch.labels, use_cache=False)
        output.loss.backward()
        optimizer.step()
        return float(output.loss.detach())

    return step


def blocks(vocabulary: int) -> Blocks:
    """Random tokens: how long a step takes does not hang on them."""
    tokens = torch.randint(vocabulary, (BLOCKS, sum(EXAMPLES)), generator=torch.Generator().manual_seed(0))
    positions = torch.cat([torch.arange(length) for length in EXAMPLES])
    lengths = torch.cat([torch.full((length,), length) for length in EXAMPLES])
    labels = tokens.masked_fill(positions < lengths // 2, -100)
    return Blocks(tokens, labels, positions.expand_as(tokens))
