"""One further token, traced: the same numbers as the net gives, at every position, in every cache."""

import threading

import pytest
import torch

from bestiary.audio.whisper import Whisper, WhisperConfig
from bestiary.core.cache import Cache
from bestiary.core.context import Memory, look
from bestiary.core.generate import Decoder
from bestiary.core.rows import for_decoding
from bestiary.core.step import PLAIN, Step
from bestiary.text.gpt2 import Gpt2
from bestiary.text.llama import Llama, LlamaConfig
from bestiary.text.t5 import T5, T5Config
from tests.core.test_rows import GPT2, LLAMA

CPU = torch.device("cpu")
WINDOWED = LlamaConfig(
    layers=3, width=64, heads=4, key_value_heads=2, head_width=16, hidden=96, vocabulary=128, positions=64, theta=1e4, eps=1e-5,
    windows=(5, None), local_theta=1e3, norm="rms_offset", order="sandwich", activation="gelu_tanh", query_key_norm=True,
    embedding_scale=8.0, softcap=20.0, logits_softcap=10.0, qkv_bias=True,
)  # fmt: skip
NETS = {"llama": lambda: Llama(LLAMA), "everything": lambda: Llama(WINDOWED), "gpt2": lambda: Gpt2(GPT2)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
@torch.inference_mode()
def test_steps_are_the_forward(net, dtype):
    """Before, at and after the trace, from two caches of different room."""
    torch.manual_seed(0)
    derived = for_decoding(net().to(dtype).eval())
    step: Step = derived.step
    for length, capacity in ((3, 64), (20, 50)):
        tokens = torch.randint(0, 128, (1, length + PLAIN + 4))
        expected = derived(tokens)
        cache = Cache(sequences=1, capacity=capacity)
        derived(tokens[:, :length], cache.continuing(length, CPU))
        for position in range(length, tokens.shape[1]):
            logits = step([int(tokens[0, position])], cache)
            assert logits.shape == (1, 1, 128) and cache.lengths == [position + 1]
            torch.testing.assert_close(logits[0, 0], expected[0, position], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
@torch.inference_mode()
def test_sequences_step_together(net):
    """Of different length, as many as there are and fewer by the same trace, with room for more and for less."""
    torch.manual_seed(0)
    derived = for_decoding(net().eval())
    for lengths, capacity in (((3, 9, 5, 5), 64), ((12, 4), 50), ((7, 7, 7), 64)):
        tokens = torch.randint(0, 128, (len(lengths), max(lengths) + PLAIN + 4))
        expected = derived(tokens)
        cache = Cache(sequences=len(lengths), capacity=capacity)
        derived(tokens[:, : max(lengths)], cache.continuing(max(lengths), CPU))
        cache.rewind(lengths)
        for further in range(PLAIN + 4):
            places = [length + further for length in lengths]
            logits = derived.step(tokens[range(len(lengths)), places].tolist(), cache)
            assert logits.shape == (len(lengths), 1, 128)
            torch.testing.assert_close(logits[:, 0], expected[range(len(lengths)), places], atol=1e-4, rtol=1e-4)


READING = {  # nets whose decoder reads a memory
    "t5": lambda: T5(T5Config(
        layers=1, decoder_layers=2, width=64, heads=4, head_width=8, hidden=96, vocabulary=128, buckets=8, furthest=20
    )),
    "whisper": lambda: Whisper(WhisperConfig(
        layers=1, decoder_layers=2, width=64, heads=4, hidden=96, vocabulary=128, frames=12, context=64
    )),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("net", READING.values(), ids=READING)
@torch.inference_mode()
def test_steps_read_a_memory(net, masked, dtype):
    """Of one sequence and of several, each its own; before, at and after the trace, and in a memory of another length."""
    torch.manual_seed(0)
    decoder = for_decoding(net().to(dtype).eval()).decoder
    for lengths, memory_length in (((3,), 12), ((3, 9, 5), 12), ((20,), 7), ((4, 4), 7)):
        tokens = torch.randint(0, 128, (len(lengths), max(lengths) + PLAIN + 4))
        kept = torch.arange(memory_length) < torch.tensor([memory_length, 4, 5])[: len(lengths), None]
        memory = Memory(torch.randn(len(lengths), memory_length, 64), kept if masked else None)
        cache = Cache(sequences=len(lengths), capacity=64, memory=memory)
        expected = decoder(tokens, look(None, tokens, causal=True, memory=memory))
        decoder(tokens[:, : max(lengths)], cache.continuing(max(lengths), CPU))
        cache.rewind(lengths)
        for further in range(PLAIN + 4):
            places = [length + further for length in lengths]
            logits = decoder.step(tokens[range(len(lengths)), places].tolist(), cache)
            torch.testing.assert_close(logits[:, 0], expected[range(len(lengths)), places], atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_a_memory_goes_along_with_its_sequences():
    torch.manual_seed(0)
    decoder = for_decoding(READING["whisper"]().eval()).decoder
    memory = Memory(torch.randn(3, 12, 64))
    tokens = torch.randint(0, 128, (3, 4))
    expected = decoder(tokens, look(None, tokens, causal=True, memory=memory))
    cache = Cache(sequences=3, capacity=64, memory=memory)
    decoder(tokens[:, :2], cache.continuing(2, CPU))
    cache.select([2, 0])
    for place in (2, 3):
        logits = decoder.step(tokens[[2, 0], place].tolist(), cache)
        torch.testing.assert_close(logits[:, 0], expected[[2, 0], place], atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_a_decoder_takes_single_steps_by_it():
    derived = for_decoding(Llama(LLAMA).eval())
    taken = []
    step = derived.step
    derived.step = lambda tokens, cache: taken.append(tokens) or step(tokens, cache)
    decoder = Decoder(derived, Cache(sequences=1, capacity=64), CPU)
    first = decoder.logits([[5]])  # nothing is in the cache yet
    decoder.logits([[5, 6]])
    decoder.logits([[5, 6, 7, 8]])  # two at once, as drafts are checked
    decoder.cache.rewind([1])
    again = decoder.logits([[5, 6]])
    assert taken == [[6], [6]] and first.shape == again.shape
    pair = Decoder(derived, Cache(sequences=2, capacity=64), CPU)
    pair.logits([[5], [5]])
    both = pair.logits([[5, 6], [5, 6]])
    assert taken[2:] == [[6, 6]]
    torch.testing.assert_close(both[1], again[0], atol=1e-5, rtol=1e-5)


def test_several_threads_at_once():
    derived = for_decoding(Llama(LLAMA).eval())
    results = {}

    def work(number):
        with torch.inference_mode():
            cache = Cache(sequences=1, capacity=64)
            derived(torch.tensor([[number, 1]]), cache.continuing(2, CPU))
            results[number] = [derived.step([number], cache) for _ in range(PLAIN)]

    threads = [threading.Thread(target=work, args=(number,)) for number in (3, 4, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = derived(torch.tensor([[4, 1, *[4] * PLAIN]]))
    torch.testing.assert_close(torch.cat(results[4], 1)[0], expected[0, 2:], atol=1e-4, rtol=1e-4)
