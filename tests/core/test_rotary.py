"""Rotary angles against the formulas of their papers."""

import math

import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from bestiary.core.rotary import Linear, Llama3, RotarySpec, Yarn


def test_pairs_lie_half_a_head_apart():
    rotary = RotarySpec(width=4, theta=10000.0)
    turned = rotary.build()(torch.tensor([[[1.0, 0.0, 0.0, 0.0]]]), rotary.rotation(torch.tensor([1]), torch.float32))
    assert torch.allclose(turned, torch.tensor([[[math.cos(1), 0, math.sin(1), 0]]]))


def test_scores_depend_on_the_distance_alone():
    torch.manual_seed(0)
    spec = RotarySpec(width=8, theta=100.0)
    query, key = torch.randn(2, 8)
    turn = lambda x, position: spec.build()(x[None, None], spec.rotation(torch.tensor([position]), torch.float32)).flatten()  # noqa: E731
    assert torch.allclose(turn(query, 7) @ turn(key, 4), turn(query, 103) @ turn(key, 100), atol=1e-4)


REFERENCE = {
    "linear": (Linear(factor=4.0), {"factor": 4.0}),
    "llama3": (
        Llama3(factor=8.0, slow=1.0, fast=4.0, trained=8192),
        {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192},
    ),
    "yarn": (
        Yarn(factor=4.0, trained=2048, magnitude=0.1 * math.log(4) + 1),
        {"factor": 4.0, "original_max_position_embeddings": 2048},
    ),
}


@pytest.mark.parametrize("kind", REFERENCE)
def test_scalings_equal_the_reference(kind):
    scaling, parameters = REFERENCE[kind]
    config = LlamaConfig(
        hidden_size=256, num_attention_heads=4, max_position_embeddings=131072,
        rope_parameters={"rope_type": kind, "rope_theta": 50000.0, **parameters},
    )  # fmt: skip
    frequencies, magnitude = ROPE_INIT_FUNCTIONS[kind](config, torch.device("cpu"))
    cosine, sine = RotarySpec(width=64, theta=50000.0, scaling=scaling).rotation(torch.tensor([1, 9]), torch.float32)
    assert cosine.shape == (2, 1, 64) and torch.equal(cosine[..., :32], cosine[..., 32:])
    expected = torch.tensor([[1.0], [9.0]]) * frequencies
    assert torch.allclose(cosine[:, 0, :32], expected.cos() * magnitude, atol=1e-6)
    assert torch.allclose(sine[:, 0, 32:], expected.sin() * magnitude, atol=1e-6) and torch.equal(sine[..., :32], -sine[..., 32:])


def test_far_positions_stay_apart_in_low_precision():
    cosine, _ = RotarySpec(width=2, theta=10.0).rotation(torch.tensor([257, 258]), torch.bfloat16)
    assert cosine.dtype == torch.bfloat16 and not torch.equal(cosine[0], cosine[1])
