"""Beam search against the reference implementation, token for token."""

import itertools
import math
from functools import cache

import pytest
import torch
import transformers

from bestiary.core import weights
from bestiary.core.beam import Beams, beam_search
from bestiary.core.cache import Cache
from bestiary.core.context import Memory
from bestiary.core.generate import Decoder, Limits
from bestiary.core.runtime import for_inference
from bestiary.core.sampling import Sampling
from bestiary.errors import InputError
from bestiary.text import gpt2, t5, t5_layout
from bestiary.text.options import OneOf

CPU = torch.device("cpu")
LENGTHS = (9, 4, 6)
ENDS = (3, 17, 29, 41)
PADDING = 59  # what the reference fills up with, not 0, which it takes for none
CASES = {
    "plain": {},
    "greedy": {"num_beams": 1},
    "wide": {"num_beams": 7, "num_return_sequences": 5},
    "short texts": {"length_penalty": 0.0, "num_return_sequences": 4},
    "shorter texts": {"length_penalty": -1.0},
    "long texts": {"length_penalty": 2.0, "num_return_sequences": 4},
    "early": {"early_stopping": True, "num_return_sequences": 2},
    "never": {"early_stopping": "never", "num_return_sequences": 4},
    "never, short": {"early_stopping": "never", "length_penalty": -0.5},
    "at least": {"min_new_tokens": 7, "length_penalty": 0.0, "num_return_sequences": 2},
    "penalty": {"repetition_penalty": 1.3},
    "one end": {"eos_token_id": 17},
    "no end": {"eos_token_id": None},
}


def reference_of(kind):
    """A random net whose likeliest tokens stand out, and ours with its weights."""
    torch.manual_seed(0)
    if kind == "gpt2":
        module, config = gpt2, gpt2.Gpt2Config(layers=2, width=32, heads=4, hidden=48, vocabulary=60, positions=64)
        published = gpt2.TRANSFORMERS_CONFIG.write(config)
        reference = transformers.GPT2LMHeadModel(transformers.GPT2Config(**published)).eval()
    else:
        config = t5.T5Config(layers=2, decoder_layers=2, width=32, heads=4, head_width=8, hidden=48, vocabulary=60, tied=False)
        module, published = t5, t5_layout.TRANSFORMERS_CONFIG.write(config)
        reference = transformers.T5ForConditionalGeneration(transformers.T5Config(**published)).eval()
        reference.lm_head.weight = torch.nn.Parameter(torch.empty(60, 32))
    for name, parameter in reference.named_parameters():
        parameter.data.normal_(std=0.4 if parameter.dim() > 1 else 0.1, mean=float("norm" in name or "ln_" in name))
    return reference, module.ARCHITECTURE, config


@cache
def nets(kind, folder):
    reference, architecture, config = reference_of(kind)
    reference.save_pretrained(folder)
    return reference, for_inference(weights.load(architecture, config, folder / "model.safetensors", "transformers"))


@pytest.fixture(scope="module", params=["gpt2", "t5"])
def kind(request, tmp_path_factory):
    return request.param, *nets(request.param, tmp_path_factory.mktemp(request.param))


def texts():
    torch.manual_seed(1)
    return [torch.randint(60, (length,)).tolist() for length in LENGTHS]


def padded(sequences, left):
    width = max(map(len, sequences))
    rows = [[0] * (width - len(row)) + row if left else row + [0] * (width - len(row)) for row in sequences]
    kept = [[0] * (width - len(row)) + [1] * len(row) for row in sequences]
    return torch.tensor(rows), torch.tensor(kept if left else [row[::-1] for row in kept])


def asked(reference, left, options):
    """What the reference finds: for each text the new tokens and the score of each sequence."""
    tokens, mask = padded(texts(), left)
    options = {"num_beams": 4, "max_new_tokens": 14, "eos_token_id": list(ENDS), "num_return_sequences": 1} | options
    found = reference.generate(
        tokens, attention_mask=mask, do_sample=False, pad_token_id=PADDING, decoder_start_token_id=0,
        return_dict_in_generate=True, output_scores=True, **options,
    )  # fmt: skip
    beginning = tokens.shape[1] if left else 1
    scores = itertools.repeat(None) if options["num_beams"] == 1 else found.sequences_scores.tolist()
    answers = list(zip(found.sequences[:, beginning:].tolist(), scores, strict=False))
    count = options["num_return_sequences"]
    return [answers[start : start + count] for start in range(0, len(answers), count)]


def decoder_for(kind, net, rows=None):
    """Ours before the first step, and its prompts."""
    prompts = [texts()[row] for row in rows or range(len(LENGTHS))]
    if kind == "gpt2":
        return Decoder(net, Cache(sequences=len(prompts), capacity=32), CPU), prompts
    tokens, mask = padded(prompts, left=False)
    with torch.inference_mode():
        memory = Memory(net.encode(tokens, mask.bool()), mask.bool())
    return Decoder(net.decoder, Cache(sequences=len(prompts), capacity=32, memory=memory), CPU), [[0]] * len(prompts)


def searched(kind, net, options, rows=None):
    ends = options.get("eos_token_id", ENDS)
    limits = Limits(
        end_tokens=frozenset([ends] if isinstance(ends, int) else ends or ()),
        max_new_tokens=options.get("max_new_tokens", 14),
        min_new_tokens=options.get("min_new_tokens", 0),
    )
    named = {name: options[name] for name in ("length_penalty", "early_stopping") if name in options}
    beams = Beams(beams=options.get("num_beams", 4), **named)
    sampling = Sampling(repetition_penalty=options.get("repetition_penalty", 1.0))
    return beam_search(*decoder_for(kind, net, rows), beams, sampling, limits)


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_finds_what_the_reference_finds(kind, options):
    kind, reference, net = kind
    expected = asked(reference, kind == "gpt2", options)
    found = searched(kind, net, options)
    for answers, hypotheses in zip(expected, found, strict=True):
        for (tokens, score), hypothesis in zip(answers, hypotheses, strict=False):
            length = len(hypothesis.tokens)
            assert list(hypothesis.tokens) == tokens[:length] and set(tokens[length:]) <= {PADDING}
            if score is not None:
                assert hypothesis.score == pytest.approx(score, abs=1e-4)
                assert hypothesis.log_probability == pytest.approx(score * length ** options.get("length_penalty", 1), abs=1e-3)


def test_the_cases_tell_beam_search_from_less(kind):
    """The nets are such that width, penalty and ends all matter; else equality would say little."""
    kind, _, net = kind
    lengths = [len(answers[0].tokens) for options in CASES.values() for answers in searched(kind, net, options)]
    assert len(set(lengths)) > 3
    best = {name: tuple(answers[0].tokens for answers in searched(kind, net, CASES[name])) for name in CASES}
    assert best["greedy"] != best["plain"] and best["short texts"] not in (best["long texts"], best["at least"])


def test_a_text_is_continued_alone_as_it_is_among_others(kind):
    kind, _, net = kind
    together = searched(kind, net, {})
    for row in range(len(LENGTHS)):
        (alone,) = searched(kind, net, {}, rows=[row])
        assert [hypothesis.tokens for hypothesis in alone] == [hypothesis.tokens for hypothesis in together[row]]


def test_as_many_beams_as_there_are_texts_find_the_likeliest(kind):
    """With every continuation among the beams the search is exhaustive."""
    kind, _, net = kind
    ((best, *_),) = searched(kind, net, {"num_beams": 3600, "max_new_tokens": 2, "eos_token_id": None}, rows=[1])
    decoder, prompts = decoder_for(kind, net, rows=[1])
    first = decoder.logits(prompts)[0, -1].log_softmax(-1)
    decoder.cache.select([0] * 60)
    second = decoder.logits([[*prompts[0], token] for token in range(60)])[:, -1].log_softmax(-1)
    totals = first[:, None] + second
    assert best.tokens == divmod(int(totals.argmax()), 60)
    assert best.log_probability == pytest.approx(float(totals.max()), abs=1e-4)


def test_only_what_is_allowed_is_found(kind):
    kind, _, net = kind
    sentences = [[5, 6, 7], [5, 8], [9]]
    limits = Limits(allowed=OneOf(sentences, end_tokens=[2]))
    for hypotheses in beam_search(*decoder_for(kind, net), Beams(beams=8), Sampling(), limits):
        assert sorted(hypothesis.tokens for hypothesis in hypotheses) == [(5, 6, 7), (5, 8), (9,)]
        assert all(math.isfinite(hypothesis.score) for hypothesis in hypotheses)


def test_a_search_ends_where_the_context_does(kind):
    kind, _, net = kind
    decoder, prompts = decoder_for(kind, net)
    found = beam_search(decoder, prompts, Beams(beams=2), Sampling(), Limits(context=12))
    assert [len(hypotheses[0].tokens) for hypotheses in found] == [12 - len(prompt) for prompt in prompts]


def test_nothing_to_continue_is_nothing_found(kind):
    kind, _, net = kind
    assert beam_search(decoder_for(kind, net)[0], [], Beams(beams=2), Sampling(), Limits()) == []


@pytest.mark.parametrize(("options", "message"), [({"beams": 0}, "beams=0"), ({"beams": 2.5}, "beams=2.5"),
                                                  ({"beams": 2, "early_stopping": "soon"}, "early_stopping='soon'")])  # fmt: skip
def test_what_cannot_be_searched_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        Beams(**options)
