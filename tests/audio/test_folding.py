"""Whisper at 8 bits: what fills up a window is computed coarsely, what was said is not."""

import pytest
import torch

import bestiary
from bestiary.audio import folding
from bestiary.audio.sound import read_sound
from bestiary.audio.transforms import WINDOW
from bestiary.audio.whisper import Whisper, WhisperConfig
from bestiary.core.attention import Attention, CrossAttention
from bestiary.core.context import look
from bestiary.core.mixed import attending_in
from bestiary.core.quantise import quantise_for_decoding
from tests.audio.voices import LONG

RATE = 16_000
CONFIG = WhisperConfig(layers=2, decoder_layers=2, width=64, heads=4, hidden=96, vocabulary=128, mels=8, frames=200)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Whisper(CONFIG).eval()


@pytest.fixture(scope="module")
def recognize():
    return bestiary.load("whisper-tiny.en", device="cpu", precision="fp32")


def spectrum(recognize, seconds):
    samples = read_sound(LONG, RATE)[: seconds * RATE]
    return recognize.reader.features(torch.nn.functional.pad(samples, (0, WINDOW)))[:, : len(samples) // 160]


@pytest.mark.parametrize("frames", [400, 395, 2 * (200 - folding.MARGIN) - 6])
@torch.inference_mode()
def test_a_full_window_is_what_the_encoder_makes_of_it(net, frames):
    features = torch.randn(8, frames)
    memory = folding.FoldedEncoder(net.encoder).memory([features])
    assert memory.mask is None
    assert torch.equal(memory.hidden_states, net.encoder.memory([features]).hidden_states)


@torch.inference_mode()
def test_every_position_is_counted_once(net):
    memory = folding.FoldedEncoder(net.encoder).memory([torch.randn(8, frames) for frames in (1, 37, 300)])
    counts = memory.mask.exp()
    assert counts.sum(1).tolist() == pytest.approx([CONFIG.frames] * 3, abs=1e-3)
    assert memory.hidden_states.shape[:2] == counts.shape and len(counts[0]) < CONFIG.frames
    alone = 37 // 2 + folding.MARGIN
    assert counts[1, :alone].tolist() == pytest.approx([1] * alone)


@torch.inference_mode()
def test_a_window_is_what_it_is_alone(net):
    folded, windows = folding.FoldedEncoder(net.encoder), [torch.randn(8, frames) for frames in (60, 250)]
    together = folded.memory(windows)
    for row, window in enumerate(windows):
        alone = folded.memory([window]).hidden_states[0]
        assert torch.allclose(together.hidden_states[row, : len(alone)], alone, atol=1e-5)


@pytest.mark.parametrize("seconds", [3, 11])
@torch.inference_mode()
def test_folding_moves_what_is_written_no_further_than_rounding_does(recognize, seconds):
    """Mean change of the log-probability of what was said: 0.03 by the rounding, about as much by the folding."""
    net, features = recognize.net.eval(), spectrum(recognize, seconds)
    text = recognize.reader.vocabulary.encode(" " + recognize(read_sound(LONG, RATE)[: seconds * RATE]).text)
    tokens = torch.tensor([[50257, 50362, *text]])

    def said(twin):
        logits = twin.decoder(tokens, look(None, tokens, causal=True, memory=twin.encoder.memory([features])))
        return logits.log_softmax(-1)[0, 1:-1].gather(1, tokens[0, 2:, None])

    exact, folded, rounded = said(net), said(with_folding(net)), said(quantise_for_decoding(net, "int8"))
    assert 0 < (folded - exact).abs().mean() < 0.05
    assert 0 < (rounded - exact).abs().mean() < 0.1


def with_folding(net):
    twin = Whisper.__new__(Whisper)
    twin.__dict__ = {**net.__dict__, "_modules": {"encoder": folding.FoldedEncoder(net.encoder), "decoder": net.decoder}}
    return twin


@torch.inference_mode()
def test_attention_alone_is_in_bf16(net):
    features, tokens = torch.randn(1, 8, 400), torch.randint(128, (1, 5))
    seen = []
    for part in net.modules():
        if isinstance(part, Attention | CrossAttention):
            part.query.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].dtype))
    twin = attending_in(torch.bfloat16, net, Attention)
    expected, found = net(features, tokens), twin(features, tokens)
    assert set(seen) == {torch.float32} and found.dtype == torch.float32
    assert 0 < (found - expected).norm() < 0.02 * expected.norm()
    assert type(net.encoder.blocks[0].attention.query) is torch.nn.Linear  # the net itself is as it was
