"""Generation against transformers' own, on small random nets."""

import itertools
import math
from collections import Counter

import pytest
import torch
import transformers

from bestiary.core.generate import Decoder, Generation, Limits, common_prefix
from bestiary.core.sampling import Sampling, draw
from bestiary.core.speculative import SpeculativeGeneration
from bestiary.errors import InputError
from bestiary.text.llama import Llama, LlamaConfig

CPU = torch.device("cpu")
PROMPTS = [[5, 6, 7, 8, 9], [11, 12], [21, 22, 23, 24, 25, 26, 27], [3, 4]]
ENDS = frozenset({7, 9, 14, 33})


def net_of(seed=0, layers=2, vocabulary=40):
    torch.manual_seed(seed)
    config = LlamaConfig(layers=layers, width=32, heads=4, key_value_heads=2, head_width=8, hidden=64, vocabulary=vocabulary,
                         positions=64, theta=10000.0, eps=1e-5)  # fmt: skip
    net = Llama(config).eval()
    for parameter in net.parameters():
        parameter.data.normal_(std=0.5) if parameter.dim() > 1 else parameter.data.uniform_(0.5, 1.5)
    return net


@pytest.fixture
def net():
    return net_of()


def grow(net, prompts=PROMPTS, sampling=None, past=None, kind=Generation, more=None, **limits):
    limits = Limits(**{"max_new_tokens": 12, **limits})
    decoder = Decoder.resume(net, past, prompts, limits.max_new_tokens + 8, CPU)
    generation = kind(decoder, prompts, sampling or Sampling(), limits, **(more or {}))
    for _ in generation:
        pass
    return generation


def new_tokens(generation):
    return [tokens[len(prompt) :] for tokens, prompt in zip(generation.sequences, generation.prompts, strict=True)]


def by_hand(net, prompt, choose, count):
    """Without a cache: everything read anew for every token."""
    tokens = list(prompt)
    for _ in range(count):
        with torch.no_grad():
            tokens.append(choose(net(torch.tensor([tokens]))[0, -1], tokens))
    return tokens[len(prompt) :]


def test_greedy_takes_the_likeliest_in_every_sequence(net):
    expected = [by_hand(net, prompt, lambda logits, _: int(logits.argmax()), 12) for prompt in PROMPTS]
    assert new_tokens(grow(net)) == expected
    assert [new_tokens(grow(net, [prompt]))[0] for prompt in PROMPTS] == expected


def test_a_sequence_ends_with_its_end_token_and_leaves_the_others_alone(net):
    free = new_tokens(grow(net))
    end = free[0][3]
    ended = grow(net, end_tokens=frozenset({end}))
    for tokens, whole in zip(new_tokens(ended), free, strict=True):
        assert tokens == (whole[: whole.index(end) + 1] if end in whole else whole)
    assert 0 in ended.ended


def test_no_end_before_the_least_number_of_tokens(net):
    end = new_tokens(grow(net))[0][0]
    (tokens, *_) = new_tokens(grow(net, end_tokens=frozenset({end}), min_new_tokens=5))
    assert len(tokens) >= 6 or end not in tokens
    assert end not in tokens[:5]


def test_a_context_is_never_overrun(net):
    assert [len(tokens) for tokens in grow(net, context=9).sequences] == [9] * 4


def test_log_probabilities_are_the_nets_own(net):
    decoder = Decoder.resume(net, None, [PROMPTS[0]], 4, CPU)
    tokens = list(PROMPTS[0])
    for (choice,) in Generation(decoder, [PROMPTS[0]], Sampling(temperature=3.0, seed=1), Limits(max_new_tokens=4)):
        with torch.no_grad():
            expected = net(torch.tensor([tokens]))[0, -1].log_softmax(-1)[choice.token]
        assert math.isclose(choice.log_probability, float(expected), abs_tol=1e-4)
        tokens.append(choice.token)


def test_seeded_draws_are_repeated_and_do_not_depend_on_neighbours(net):
    sampling = Sampling(temperature=1.5, top_k=20, seed=3)
    together = new_tokens(grow(net, sampling=sampling))
    assert together == new_tokens(grow(net, sampling=sampling))
    assert [new_tokens(grow(net, [prompt], sampling))[0] for prompt in PROMPTS] == together
    assert together != new_tokens(grow(net, sampling=Sampling(temperature=1.5, top_k=20, seed=4)))


WARPERS = {
    "top_k": ({"top_k": 5}, [transformers.TopKLogitsWarper(5)]),
    "top_p": ({"top_p": 0.7}, [transformers.TopPLogitsWarper(0.7)]),
    "min_p": ({"min_p": 0.2}, [transformers.MinPLogitsWarper(0.2)]),
    "temperature": ({"temperature": 0.3}, [transformers.TemperatureLogitsWarper(0.3)]),
    "all": (
        {"temperature": 2.0, "top_k": 7, "top_p": 0.9, "min_p": 0.05},
        [transformers.TemperatureLogitsWarper(2.0), transformers.TopKLogitsWarper(7), transformers.TopPLogitsWarper(0.9),
         transformers.MinPLogitsWarper(0.05)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", WARPERS)
def test_distributions_equal_the_reference(kind):
    fields, warpers = WARPERS[kind]
    logits = torch.randn(6, 50, generator=torch.Generator().manual_seed(0)) * 3
    expected = transformers.LogitsProcessorList(warpers)(None, logits).softmax(-1)
    assert torch.allclose(Sampling(**{"temperature": 1.0, **fields}).probabilities(logits), expected, atol=1e-6)


def test_the_repetition_penalty_equals_the_reference():
    logits = torch.randn(2, 50, generator=torch.Generator().manual_seed(0))
    histories = [[1, 5, 5, 7], [2, 3, 4, 9]]
    expected = transformers.RepetitionPenaltyLogitsProcessor(1.7)(torch.tensor(histories), logits.clone())
    assert torch.equal(Sampling(repetition_penalty=1.7).adjusted(logits, histories), expected)


def test_a_bias_is_added():
    logits = torch.zeros(2, 5)
    adjusted = Sampling(logit_bias={1: 2.0, 4: -math.inf}).adjusted(logits, [[], []])
    assert adjusted.tolist() == [[0, 2, 0, 0, -math.inf]] * 2 and not logits.any()


def test_draws_follow_the_distribution():
    probabilities = torch.tensor([[0.0, 0.5, 0.0, 0.3, 0.2, 0.0]]).expand(20000, -1)
    counts = Counter(draw(probabilities, [die for die in Sampling(seed=None).dice(20000)]))
    assert set(counts) == {1, 3, 4}
    assert all(abs(counts[token] / 20000 - share) < 0.02 for token, share in ((1, 0.5), (3, 0.3), (4, 0.2)))


@pytest.mark.parametrize(
    "fields",
    [{"temperature": -1}, {"temperature": math.nan}, {"temperature": math.inf}, {"top_k": 0}, {"top_p": 0}, {"top_p": 1.1},
     {"min_p": -0.1}, {"min_p": 2}, {"repetition_penalty": 0}],
    ids=str,
)  # fmt: skip
def test_values_out_of_range_are_refused(fields):
    with pytest.raises(InputError, match=f"{next(iter(fields))}=.* is out of range"):
        Sampling(**fields)


def test_only_what_is_allowed_comes(net):
    allowed = lambda new: [[30, 31], [32], []][len(new)]  # noqa: E731
    generation = grow(net, allowed=allowed)
    assert all(tokens[0] in (30, 31) and tokens[1:] == [32] for tokens in new_tokens(generation))
    assert generation.ended == {0, 1, 2, 3}


def counted(net):
    """How many tokens the net reads."""
    read = []
    net.embedding.register_forward_hook(lambda module, inputs, output: read.append(inputs[0].numel()))
    return read


def test_what_two_calls_share_is_read_once(net):
    read = counted(net)
    first = list(range(3, 23))
    generation = grow(net, [first])
    spoken = generation.sequences[0]
    assert sum(read) == len(first) + 11
    read.clear()
    longer = [*spoken, 30, 31]
    expected = by_hand(net, longer, lambda logits, _: int(logits.argmax()), 12)
    read.clear()
    again = grow(net, [longer], past=generation.past())
    assert new_tokens(again)[0] == expected
    assert sum(read) == 3 + 11  # the last token of the first call was never read


@pytest.mark.parametrize("prompts", [[[*range(3, 20), 5]], [[*range(3, 20), 5], [*range(3, 16), 7, 8], list(range(3, 17))]])
def test_a_shared_beginning_is_taken_up_where_the_prompts_part(net, prompts):
    past = grow(net, [list(range(3, 23))]).past()
    expected = new_tokens(grow(net, prompts))
    read = counted(net)
    assert new_tokens(grow(net, prompts, past=past)) == expected
    assert sum(read[:1]) < sum(map(len, prompts))


def test_the_past_of_another_net_is_not_taken_up(net):
    past = grow(net_of(seed=7), [list(range(3, 23))]).past()
    assert new_tokens(grow(net, [list(range(3, 23))], past=past)) == new_tokens(grow(net, [list(range(3, 23))]))


def test_stopping_from_outside(net):
    decoder = Decoder.resume(net, None, PROMPTS, 12, CPU)
    generation = Generation(decoder, PROMPTS, Sampling(), Limits(max_new_tokens=12))
    for number, _ in enumerate(generation):
        if number == 2:
            generation.stop(1)
    expected = new_tokens(grow(net))
    assert new_tokens(generation) == [tokens[:3] if index == 1 else tokens for index, tokens in enumerate(expected)]


def test_common_prefix():
    assert common_prefix([[1, 2, 3]]) == 3
    assert common_prefix([[1, 2, 3], []]) == 0


def speculate(net, draft, prompts=PROMPTS, sampling=None, ahead=3, **limits):
    draft = Decoder.resume(draft, None, prompts, 24, CPU)
    return grow(net, prompts, sampling, kind=SpeculativeGeneration, more={"draft": draft, "ahead": ahead}, **limits)


@pytest.mark.parametrize("draft", ["itself", "another"])
@pytest.mark.parametrize("limits", [{}, {"end_tokens": ENDS}, {"end_tokens": ENDS, "min_new_tokens": 6}], ids=str)
def test_a_draft_changes_no_greedy_token(net, draft, limits):
    draft = net if draft == "itself" else net_of(seed=1, layers=1)
    assert new_tokens(speculate(net, draft, **limits)) == new_tokens(grow(net, **limits))


def test_a_good_draft_saves_steps(net):
    read = counted(net)
    draft = net_of()
    speculate(net, draft, [PROMPTS[0]], ahead=3, max_new_tokens=12)
    assert len(read) == 3  # each gives three guesses and one token more


def test_a_draft_changes_no_distribution():
    """Two tokens of a small vocabulary, drawn often: as frequent as the net alone makes them."""
    net, draft = net_of(vocabulary=8), net_of(seed=5, layers=1, vocabulary=8)
    sampling = Sampling(temperature=1.5, top_k=6, repetition_penalty=1.3)
    prompt, count = [3, 4], 4000
    drawn = speculate(net, draft, [prompt] * count, sampling, ahead=2, max_new_tokens=2)
    counts = Counter(map(tuple, new_tokens(drawn)))
    with torch.no_grad():
        first = sampling.probabilities(sampling.adjusted(net(torch.tensor([prompt]))[:, -1], [prompt]))[0]
        for a, b in itertools.product(range(8), repeat=2):
            logits = net(torch.tensor([[*prompt, a]]))[:, -1]
            expected = first[a] * sampling.probabilities(sampling.adjusted(logits, [[*prompt, a]]))[0, b]
            deviation = math.sqrt(expected * (1 - expected) / count)
            assert abs(counts[a, b] / count - expected) <= 5 * deviation + 1e-9


def test_a_net_writes_what_the_reference_writes():
    """The whole loop beside transformers' generate, on the same weights."""
    from bestiary.core import weights
    from bestiary.text.llama import ARCHITECTURE

    net = net_of()
    reference = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            num_hidden_layers=2, hidden_size=32, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64,
            vocab_size=40, max_position_embeddings=64, rms_norm_eps=1e-5, tie_word_embeddings=False,
        )
    ).eval()  # fmt: skip
    state = {name: tensor for name, tensor in net.state_dict().items()}
    rules = ARCHITECTURE.rules("transformers", net.config, list(state))
    reference.load_state_dict(weights.keymap.save(rules, state))
    expected = reference.generate(torch.tensor([PROMPTS[0]]), max_new_tokens=12, do_sample=False, pad_token_id=0, eos_token_id=39)
    end = {"end_tokens": frozenset({39})}
    assert grow(net, [PROMPTS[0]], **end).sequences[0] == expected[0].tolist()
