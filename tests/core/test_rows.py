"""How few rows meet a matrix: the forms of linear layers for nets that decode."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses import FakeTensorMode

from bestiary.core.layers import NormSpec, TiedHead
from bestiary.core.rows import FEW, BlockedLinear, HalfLinear, PackedLinear, RowRmsNorm, Upcast, for_decoding, for_encoding
from bestiary.core.runtime import computes_natively
from bestiary.errors import InputError
from bestiary.text.bert import Bert, BertConfig
from bestiary.text.gpt2 import Gpt2, Gpt2Config
from bestiary.text.llama import Llama, LlamaConfig

LLAMA = LlamaConfig(
    layers=2, width=64, heads=4, key_value_heads=2, head_width=16, hidden=96, vocabulary=128, positions=64, theta=1e4, eps=1e-5,
    tied=True,
)  # fmt: skip
GPT2 = Gpt2Config(layers=2, width=64, heads=4, hidden=96, vocabulary=128, positions=64)
SHAPES = [(1, 1), (3, 1), (2, 5), (FEW + 1,)]


def layer(out: int, bias: bool, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor | None]:
    torch.manual_seed(0)
    return torch.randn(out, 48).to(dtype), torch.randn(out).to(dtype) if bias else None


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("out", "bias"), [(64, True), (64, False), (7, True)])
def test_blocked_is_linear(shape, out, bias):
    weight, added = layer(out, bias)
    x = torch.randn(*shape, 48)
    torch.testing.assert_close(BlockedLinear(weight, added)(x), F.linear(x, weight, added), atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_half_rounds_the_weights_alone(shape, bias):
    weight, added = layer(64, bias, torch.float16)
    x = torch.randn(*shape, 48)
    expected = F.linear(x, weight.float(), None if added is None else added.float())
    assert HalfLinear(weight, added)(x).dtype == torch.float32
    torch.testing.assert_close(HalfLinear(weight, added)(x), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_norm_of_one_row_is_the_norm(shape):
    norm = nn.RMSNorm(48, eps=1e-3)
    norm.weight.data.uniform_(0.5, 2)
    x = torch.randn(*shape, 48) * 0.1
    torch.testing.assert_close(RowRmsNorm(norm)(x), norm(x), atol=1e-6, rtol=1e-6)


def test_half_of_bf16_is_bf16_where_rows_are_many():
    weight, bias = layer(64, True, torch.bfloat16)
    half = HalfLinear(weight, bias)
    few, many = torch.randn(FEW, 48), torch.randn(FEW + 1, 48)
    torch.testing.assert_close(half(few), F.linear(few, weight.float(), bias.float()), atol=1e-5, rtol=0)
    assert torch.equal(half(many), F.linear(many.bfloat16(), weight, bias).float())


def test_rows_are_alone_as_among_others():
    half = HalfLinear(*layer(64, True, torch.float16))
    rows = torch.randn(5, 48)
    torch.testing.assert_close(half(rows)[2:3], half(rows[2:3]), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float16, 1e-5), (torch.bfloat16, 1e-5)])
@pytest.mark.parametrize("net", [lambda: Llama(LLAMA), lambda: Gpt2(GPT2)], ids=["llama", "gpt2"])
@torch.inference_mode()
def test_a_decoder_computes_what_its_weights_say(net, dtype, tolerance):
    torch.manual_seed(0)
    rounded = net().to(dtype).eval()
    exact = copy.deepcopy(rounded).float()
    before = {name: tensor.clone() for name, tensor in rounded.state_dict().items()}
    derived = for_decoding(rounded)
    tokens = torch.randint(0, 128, (2, 7))
    result, expected = derived(tokens), exact(tokens)
    assert result.dtype == torch.float32
    assert (result - expected).abs().max() <= tolerance * max(1, expected.abs().max())
    assert all(torch.equal(tensor, before[name]) for name, tensor in rounded.state_dict().items())  # the net is as it was
    assert rounded.state_dict().keys() == before.keys() and next(rounded.parameters()).dtype == dtype


def test_elsewhere_nets_stay_as_they_are():
    with FakeTensorMode(), torch.device("cuda"):
        derived = for_decoding(Llama(LLAMA))
        assert derived(torch.zeros(1, 4, dtype=torch.long)).device.type == "cuda"
        assert not any(isinstance(part, PackedLinear | Upcast) for part in derived.modules())


def test_packed_weights_stay_where_they_are():
    half = nn.Sequential(HalfLinear(*layer(64, True, torch.float16)))
    for move in (lambda: half.to("meta"), half.half, half.double):
        with pytest.raises(InputError, match="packed weights stay"):
            move()


def test_packed_weights_are_copied_and_pickled():
    half = HalfLinear(*layer(64, True, torch.float16))
    x = torch.randn(1, 48)
    for twin in (copy.deepcopy(half), pickle.loads(pickle.dumps(half))):
        assert torch.equal(twin(x), half(x))


def test_tied_heads_and_norms():
    embedding = nn.Embedding(32, 48).half()
    net = nn.Sequential(embedding, NormSpec(kind="rms_offset", eps=1e-6).build(48).half(), TiedHead(embedding))
    tokens = torch.tensor([3, 5])
    exact = F.linear(F.rms_norm(embedding.weight[tokens].float(), (48,), None, 1e-6), embedding.weight.float())
    torch.testing.assert_close(for_decoding(net)(tokens), exact, atol=1e-5, rtol=1e-5)


def test_an_encoder_computes_the_same_with_matrices_laid_out_for_its_products():
    config = BertConfig(layers=2, width=48, heads=4, hidden=96, vocabulary=128, positions=64)
    net = Bert(config).eval()
    tokens = torch.randint(128, (2, 20))
    derived = for_encoding(net)
    assert isinstance(derived.blocks[0].mlp.up, BlockedLinear)
    with torch.inference_mode():
        torch.testing.assert_close(derived(tokens), net(tokens), atol=1e-5, rtol=0)


def test_an_encoder_of_bf16_stays_one_where_the_processor_computes_it():
    config = BertConfig(layers=1, width=48, heads=4, hidden=96, vocabulary=128, positions=64)
    net = Bert(config).bfloat16().eval()
    derived = for_encoding(net)
    assert isinstance(derived.blocks[0].mlp.up, BlockedLinear) == computes_natively(torch.bfloat16, torch.device("cpu"))
    tokens = torch.randint(128, (2, 20))
    with torch.inference_mode():
        assert derived(tokens).dtype == torch.bfloat16
        torch.testing.assert_close(derived(tokens), net(tokens), atol=0.05, rtol=0.02)


def test_an_encoder_of_16_bits_that_are_not_computed_keeps_its_matrices():
    config = BertConfig(layers=1, width=48, heads=4, hidden=96, vocabulary=128, positions=64)
    net = Bert(config).half().eval()
    assert for_encoding(net).blocks[0].mlp.up.weight is net.blocks[0].mlp.up.weight
