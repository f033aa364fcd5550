"""One attention in all its contexts: padded batches, packed rows, and step by step with a cache, against plain loops."""

import itertools
import math

import pytest
import torch

from bestiary.core.attention import AttentionSpec
from bestiary.core.block import BlockSpec
from bestiary.core.cache import Cache
from bestiary.core.context import Memory, look
from bestiary.core.layers import MlpSpec, NormSpec
from bestiary.core.packing import Ragged
from bestiary.core.rotary import RotarySpec
from bestiary.core.runtime import for_inference
from bestiary.errors import LayoutError

CPU = torch.device("cpu")
LENGTHS = (5, 3, 3, 1)
NORM = NormSpec(kind="rms", eps=1e-6)
VARIANTS = {
    "plain": {},
    "no key bias": {"key_bias": False},
    "no bias": {"query_bias": False, "key_bias": False, "value_bias": False, "output_bias": False},
    "grouped": {"key_value_heads": 2},
    "own head width": {"head_width": 6, "key_value_heads": 1},
    "window": {"window": 2},
    "softcap": {"softcap": 0.5, "key_value_heads": 2},
    "softcap and window": {"softcap": 0.5, "window": 1},
    "scale": {"scale": 1.0},
    "rotary": {"rotary": RotarySpec(width=4, theta=100.0)},
    "norms": {"query_norm": NORM, "key_norm": NORM, "rotary": RotarySpec(width=4, theta=100.0)},
}


@pytest.fixture(params=VARIANTS)
def spec(request):
    return AttentionSpec(width=16, heads=4, **VARIANTS[request.param])


@pytest.fixture
def attention(spec):
    torch.manual_seed(0)
    return spec.build().eval()


@pytest.fixture
def bias():
    table = torch.linspace(-2, 2, 4 * 32).reshape(4, 32)
    return lambda queries, keys: table[:, (queries[:, None] - keys[None, :]) % 32]


def plain(attention, x, causal, bias=None):
    """Attention over one sequence (length, width), written as the formulas are."""
    spec = attention.spec
    query = attention.query(x).unflatten(-1, (spec.heads, -1))
    key, value = (p(x).unflatten(-1, (spec.kv_heads, -1)) for p in (attention.key, attention.value))
    query, key = attention.query_norm(query), attention.key_norm(key)
    if spec.rotary:
        query, key = turned(query, spec.rotary), turned(key, spec.rotary)
    result = torch.zeros(len(x), spec.heads, spec.per_head)
    added = None if bias is None else bias(torch.arange(len(x)), torch.arange(len(x)))
    for head, i in itertools.product(range(spec.heads), range(len(x))):
        shared = head // (spec.heads // spec.kv_heads)
        seen = [j for j in range(len(x)) if (j <= i or not causal) and (spec.window is None or abs(i - j) <= spec.window)]
        scale = spec.per_head**-0.5 if spec.scale is None else spec.scale
        scores = torch.stack([query[i, head] @ key[j, shared] for j in seen]) * scale
        if spec.softcap:
            scores = spec.softcap * torch.tanh(scores / spec.softcap)
        if added is not None:
            scores = scores + added[head, i, seen]
        result[i, head] = scores.softmax(0) @ value[seen, shared]
    return attention.output(result.flatten(1))


def turned(x, rotary):
    result, half = x.clone(), rotary.width // 2
    for position, pair in itertools.product(range(len(x)), range(half)):
        angle = position * rotary.theta ** (-2 * pair / rotary.width)
        a, b = x[position, :, pair], x[position, :, pair + half]
        result[position, :, pair] = a * math.cos(angle) - b * math.sin(angle)
        result[position, :, pair + half] = b * math.cos(angle) + a * math.sin(angle)
    return result


def sequences():
    torch.manual_seed(1)
    return [torch.randn(length, 16) for length in LENGTHS]


def close(a, b):
    return torch.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("with_bias", [False, True], ids=["", "bias"])
@pytest.mark.parametrize("causal", [False, True], ids=["all", "causal"])
def test_padded_and_packed_equal_the_formulas(attention, causal, with_bias, bias):
    bias = bias if with_bias else None
    expected = torch.cat([plain(attention, x, causal, bias) for x in sequences()])
    padded = torch.nn.utils.rnn.pad_sequence(sequences(), batch_first=True)
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    rows = torch.cat(sequences())
    for module in (attention, for_inference(attention)):
        assert close(module(padded, look(mask, padded[..., 0], causal=causal, bias=bias))[mask], expected)
        assert close(module(rows, look(Ragged(LENGTHS), rows[:, 0], causal=causal, bias=bias)), expected)
        for x in sequences():
            batch = x[None]
            assert close(module(batch, look(None, batch[..., 0], causal=causal, bias=bias))[0], plain(attention, x, causal, bias))




@pytest.mark.parametrize("with_bias", [False, True], ids=["", "bias"])
@pytest.mark.parametrize("steps", [(1, 1, 1), (3,), (2, 1)], ids=str)
def test_step_by_step_equals_all_at_once(attention, steps, with_bias, bias):
    bias = bias if with_bias else None
    more = torch.randn(len(LENGTHS), 3, 16)
    cache = Cache(sequences=len(LENGTHS), capacity=8)
    rows = torch.cat(sequences())
    attention(rows, layer(look(cache.filling(Ragged(LENGTHS), CPU), rows[:, 0], causal=True, bias=bias)))
    answers = []
    for step in more.split(steps, dim=1):
        context = look(cache.continuing(step.shape[1], CPU), step[..., 0], causal=True, bias=bias)
        answers.append(attention(step, layer(context)))
    for index, x in enumerate(sequences()):
        expected = plain(attention, torch.cat([x, more[index]]), True, bias)[-3:]
        assert close(torch.cat(answers, dim=1)[index], expected)
    assert cache.lengths == [length + 3 for length in LENGTHS]


def layer(context):
    return next(iter(context.layers(1)))


def test_sequences_of_equal_length_need_no_filling(attention):
    x = torch.randn(2, 6, 16)
    cache = Cache(sequences=2, capacity=6)
    steps = [attention(step, layer(cache.continuing(step.shape[1], CPU))) for step in x.split((1, 3, 1, 1), dim=1)]
    assert close(torch.cat(steps, dim=1), torch.stack([plain(attention, sequence, True) for sequence in x]))


def test_padding_changes_nothing(attention):
    x = torch.randn(1, 4, 16)
    garbage = torch.cat([x, torch.full((1, 3, 16), 1e4)], dim=1)
    mask = torch.tensor([[True] * 4 + [False] * 3])
    for causal in (False, True):
        alone = attention(x, look(None, x[..., 0], causal=causal))
        assert close(attention(garbage, look(mask, mask, causal=causal))[:, :4], alone)
        left = attention(garbage.flip(1), look(mask.flip(1), mask, causal=causal))  # padding before the sequence
        assert left.isfinite().all()


def test_a_cache_is_rewound_selected_and_enlarged(attention):
    x = torch.randn(2, 5, 16)
    cache = Cache(sequences=2, capacity=5)
    attention(x, layer(cache.continuing(5, CPU)))
    cache.rewind([3, 2])
    cache.select([1, 0, 0])
    cache.reserve(9)
    assert cache.lengths == [2, 3, 3] and cache.capacity == 9
    new = torch.randn(3, 1, 16)
    answer = attention(new, layer(cache.continuing(1, CPU)))
    for index, past in enumerate((x[1, :2], x[0, :3], x[0, :3])):
        assert close(answer[index], plain(attention, torch.cat([past, new[index]]), True)[-1:])


def decoder():
    spec = AttentionSpec(width=16, heads=4)
    mlp = MlpSpec(width=16, hidden=24, activation="gelu_tanh", kind="gated")
    torch.manual_seed(0)
    return BlockSpec(attention=spec, mlp=mlp, norm=NORM, order="pre_cross", cross_attention=spec).stack(3).eval()


def test_a_memory_is_read_alike_with_and_without_a_cache():
    blocks, x = decoder(), torch.randn(2, 4, 16)
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    memory = Memory(torch.randn(2, 6, 16), mask)
    expected = blocks(x, look(None, x[..., 0], causal=True, memory=memory))
    cache = Cache(sequences=2, capacity=4, memory=memory)
    steps = [blocks(step, cache.continuing(1, CPU)) for step in x.split(1, dim=1)]
    assert close(torch.cat(steps, dim=1), expected)
    other = Memory(torch.where(mask[..., None], memory.hidden_states, 1e4), mask)
    assert close(blocks(x, look(None, x[..., 0], causal=True, memory=other)), expected)
    assert not close(blocks(x, look(None, x[..., 0], causal=True, memory=Memory(other.hidden_states))), expected)


def test_a_selected_cache_takes_its_memory_along():
    blocks, x = decoder(), torch.randn(2, 2, 16)
    memory = Memory(torch.randn(2, 6, 16), torch.ones(2, 6, dtype=torch.bool))
    cache = Cache(sequences=2, capacity=4, memory=memory)
    blocks(x[:, :1], cache.continuing(1, CPU))
    cache.select([1])
    swapped = Memory(memory.hidden_states[1:])
    expected = blocks(x[1:], look(None, x[1:, :, 0], causal=True, memory=swapped))
    assert close(blocks(x[1:, 1:], cache.continuing(1, CPU)), expected[:, 1:])


@pytest.mark.parametrize(("fields", "message"), [({"heads": 3}, "3 heads"), ({"heads": 4, "key_value_heads": 3}, "share 3")])
def test_heads_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(LayoutError, match=message):
        AttentionSpec(width=16, **fields)


def test_a_cache_gives_sequences_up_without_touching_what_others_hold():
    memory = Memory(torch.randn(4, 6, 2), torch.randn(4, 6))
    keys, values = torch.randn(4, 6, 1, 2), torch.randn(4, 6, 1, 2)
    held = [part.clone() for part in (*memory, keys, values)]
    cache = Cache(sequences=4, capacity=8, memory=memory)
    cache.recalled = {0: (keys, values)}
    cache.select([0, 2, 3])
    taken = cache.recalled[0][0].data_ptr()
    cache.select([1, 2])
    assert cache.recalled[0][0].data_ptr() == taken  # moved up in place: no more memory
    now = (*cache.memory, *cache.recalled[0])
    assert all(torch.equal(part, whole[[2, 3]]) for part, whole in zip(now, held, strict=True))
    cache.select([1, 0])
    assert torch.equal(cache.recalled[0][0], held[2][[3, 2]])
    assert all(torch.equal(part, whole) for part, whole in zip((*memory, keys, values), held, strict=True))
