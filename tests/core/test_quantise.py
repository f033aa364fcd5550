"""Weights of 8 and 4 bits: how far they are from the exact ones, what a quantised net does and what it cannot do."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses import FakeTensorMode

import bestiary
from bestiary.audio.whisper import Whisper, WhisperConfig
from bestiary.core.quantise import (
    GROUP,
    PACKED,
    ROWS_TOO,
    WEIGHTS_ALONE,
    Int4Linear,
    Int8Linear,
    Int8RowLinear,
    int4_linear,
    quantise_for_decoding,
    torchao_form,
)
from bestiary.core.rows import PackedLinear, for_decoding
from bestiary.errors import InputError
from bestiary.text.llama import Llama
from tests.core.test_rows import LLAMA
from tests.text.models import write_model

SHAPES = [(1, 1), (3, 1), (2, 5), (PACKED + 1,), (0,)]


def error(result: torch.Tensor, expected: torch.Tensor) -> float:
    return float((result - expected).norm() / expected.norm())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("form", "bound"), [(Int8Linear, 0.015), (Int8RowLinear, 0.015), (Int4Linear, 0.1)])
def test_errors_are_those_of_rounding(form, bound, bias, shape):
    torch.manual_seed(0)
    weight, added = torch.randn(48, 64), torch.randn(48) if bias else None
    x = torch.randn(*shape, 64)
    result = form(weight, added)(x)
    assert result.dtype == torch.float32 and result.shape == (*shape, 48)
    assert not result.numel() or error(result, F.linear(x, weight, added)) < bound


@pytest.mark.parametrize("rows", [1, 4, PACKED + 1])
@pytest.mark.parametrize("form", [Int8Linear, Int8RowLinear])
def test_int8_gives_whole_numbers_back(form, rows):
    """Weights and rows that are whole numbers from -127 to 127 are not rounded."""
    torch.manual_seed(0)
    weight = torch.randint(-127, 128, (16, 64)).float()
    weight[:, 0] = 127
    x = torch.randint(-127, 128, (rows, 64)).float()
    x[:, 0], x[:, 1] = -127, 127 if form is Int8Linear or rows > PACKED else 128  # few rows are of 256 steps, not of 255
    torch.testing.assert_close(form(weight, None)(x), F.linear(x, weight), rtol=1e-5, atol=0.5)


@pytest.mark.parametrize("rows", [1, 4, PACKED + 1])
def test_int4_gives_sixteenths_back(rows):
    weight = torch.arange(16.0).repeat(16, 4)[:, torch.randperm(64, generator=torch.Generator().manual_seed(0))]
    weight[:, 0::GROUP], weight[:, 1::GROUP] = 0, 15
    x = torch.randint(0, 8, (rows, 64)).float()
    torch.testing.assert_close(Int4Linear(weight, None)(x), F.linear(x, weight), rtol=1e-2, atol=0.1)


@pytest.mark.parametrize("form", [Int8Linear, Int8RowLinear, Int4Linear])
def test_zeros_are_zeros(form):
    layer = form(torch.zeros(16, 64), torch.ones(16))
    for rows in (1, 4, PACKED + 1):
        assert torch.equal(layer(torch.randn(rows, 64)), torch.ones(rows, 16))
        torch.testing.assert_close(form(torch.randn(16, 64), None)(torch.zeros(rows, 64)), torch.zeros(rows, 16))


@pytest.mark.parametrize("form", [Int8Linear, Int8RowLinear])
def test_a_row_does_not_see_the_others(form):
    layer = form(torch.randn(16, 64), None)
    row = torch.randn(1, 64)
    calm, wild = torch.cat([row, row]), torch.cat([row, 1000 * torch.randn(1, 64)])
    assert torch.equal(layer(calm)[0], layer(wild)[0])


@pytest.mark.parametrize(("shape", "form"), [((48, 64), Int4Linear), ((7, 64), Int8Linear), ((48, 40), Int8Linear)], ids=str)
def test_shapes_that_4_bits_do_not_fit_take_8(shape, form):
    assert isinstance(int4_linear(torch.randn(shape), None, otherwise=Int8Linear), form)


@pytest.mark.parametrize(("precision", "bound"), [("int8", 0.05), ("int4", 0.25)])
@torch.inference_mode()
def test_nets(precision, bound):
    torch.manual_seed(0)
    net = Llama(LLAMA).half().eval()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    quantised = quantise_for_decoding(net, precision)
    tokens = torch.randint(0, 128, (2, 7))
    expected = copy.deepcopy(net).float()(tokens)
    assert error(quantised(tokens), expected) < bound
    assert error(for_decoding(quantised)(tokens[:1, :1]), expected[:1, :1]) < bound
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())  # the net is as it was
    packed = [part for part in quantised.modules() if isinstance(part, PackedLinear)]
    assert len(packed) == 4 * LLAMA.layers + 1 and isinstance(quantised.head, Int8RowLinear)
    assert sum(value.numel() for value in quantised.parameters()) == 128 * 64 + 5 * 64  # the embedding and the norms


@pytest.mark.parametrize(("precision", "form"), [("int8", Int8Linear), ("int4", Int4Linear)])
@torch.inference_mode()
def test_what_a_decoder_reads_is_computed_in_the_form_for_many_rows(precision, form):
    torch.manual_seed(0)
    config = WhisperConfig(layers=1, decoder_layers=1, width=64, heads=4, hidden=96, vocabulary=128, mels=8, frames=40)
    net = Whisper(config).eval()
    twin = quantise_for_decoding(net, precision)
    reading = [twin.encoder, twin.decoder.blocks[0].cross_attention.memory]
    assert {type(part) for whole in reading for part in whole.modules() if isinstance(part, PackedLinear)} == {form}
    assert isinstance(twin.decoder.head, Int8RowLinear)
    features, tokens = torch.randn(2, 8, 80), torch.randint(128, (2, 6))
    expected = net(features, tokens)
    assert 0 < (twin(features, tokens) - expected).norm() < {"int8": 0.02, "int4": 0.1}[precision] * expected.norm()


def test_weights_take_a_quarter():
    weight = torch.randn(1024, 512)
    eight, four = (len(pickle.dumps(form(weight, None))) for form in (Int8RowLinear, Int4Linear))
    assert eight < 0.3 * weight.nbytes and four < 0.2 * weight.nbytes


@pytest.mark.parametrize("config", [WEIGHTS_ALONE, ROWS_TOO])
@pytest.mark.parametrize("bias", [True, False])
@torch.inference_mode()
def test_what_torchao_computes_for_other_devices(bias, config):
    torch.manual_seed(0)
    weight, added = torch.randn(48, 64), torch.randn(48) if bias else None
    x = torch.randn(2, 20, 64)
    layer = torchao_form("int8", torch.device("cpu"), config)(weight, added)
    assert error(layer(x), F.linear(x, weight, added)) < 0.015
    assert layer.weight.qdata.dtype == torch.int8


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_the_vectors_of_real_weights(precision):
    """How near to those of fp32 they are; what that does to answers is measured by `bestiary evaluate`."""
    texts = ["a cat", "the stock market fell", "two dogs in the snow", "a"]
    whole = bestiary.load("minilm-l6-v2", device="cpu")(texts)
    embed = bestiary.load("minilm-l6-v2", device="cpu", precision=precision)
    assert float(F.cosine_similarity(embed(texts), whole).min()) > {"int8": 0.99, "int4": 0.9}[precision]
    torch.testing.assert_close(embed("a cat"), embed(texts)[0])  # alone as among others


def test_nets_of_convolutions_are_refused():
    with pytest.raises(InputError, match="computes by convolutions"):
        bestiary.load("efficientnet-lite0", precision="int8", device="cpu")


def test_4_bits_on_other_devices_are_refused():
    with FakeTensorMode(), torch.device("cuda"):
        net = Llama(LLAMA)
        with pytest.raises(InputError, match="computes on a CPU, not on cuda"):
            quantise_for_decoding(net, "int4")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.mark.parametrize("precision", ["int8", "int4", "fp16", "bf16"])
def test_models(folder, precision):
    model = bestiary.load(folder, precision=precision, device="cpu")
    text = model.generate("Gravity is", max_new_tokens=8)
    assert model.generate("Gravity is", max_new_tokens=8) == text
    assert copy.deepcopy(model).generate("Gravity is", max_new_tokens=8) == text
    assert pickle.loads(pickle.dumps(model)).generate("Gravity is", max_new_tokens=8) == text
    assert len(model.generate(["Gravity is", "yes"], max_new_tokens=8)) == 2


@pytest.mark.parametrize("write", [lambda model, to: model.save(to), lambda model, to: model.export(to, "transformers")])
def test_quantised_models_are_not_written(folder, tmp_path, write):
    with pytest.raises(InputError, match="quantised weights are not written"):
        write(bestiary.load(folder, precision="int8", device="cpu"), tmp_path / "new")
    assert list(tmp_path.iterdir()) == []
